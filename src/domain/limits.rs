//! Every `*_MAX` of the daemon in one place, with its unit. What grows has a row
//! here, and each row is tested where it binds.

/// Characters of a process or group name.
pub const NAME_CHARS_MAX: usize = 63;
