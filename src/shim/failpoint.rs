//! Named points at which a debug build ends or stops as if from outside, for the
//! tests of what survives it.
//!
//! `PROCESSION_FAILPOINT=name` or `name:kill` is SIGKILL to itself, `name:stop`
//! SIGSTOP. With `PROCESSION_FAILPOINT_ONCE=path` only who can make that file does
//! so. A release build has none of it.

use std::{ffi::OsStr, fs::OpenOptions};

use super::sys;

const VARIABLE: &str = "PROCESSION_FAILPOINT";
const ONCE: &str = "PROCESSION_FAILPOINT_ONCE";

/// Dies or stops here, if told so.
pub(crate) fn hit(name: &str) {
    if !cfg!(debug_assertions) {
        return;
    }
    let Some(number) = std::env::var_os(VARIABLE).and_then(|value| signal(&value, name)) else {
        return;
    };
    let first = std::env::var_os(ONCE).is_none_or(|path| {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).open(path).is_ok()
    });
    if first {
        let _ = sys::kill(std::process::id().cast_signed(), number);
    }
}

fn signal(value: &OsStr, name: &str) -> Option<i32> {
    match value.to_str()?.strip_prefix(name)? {
        "" | ":kill" => Some(libc::SIGKILL),
        ":stop" => Some(libc::SIGSTOP),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_point_is_hit() {
        for (value, expected) in [
            ("after_gate", Some(libc::SIGKILL)),
            ("after_gate:kill", Some(libc::SIGKILL)),
            ("after_gate:stop", Some(libc::SIGSTOP)),
            ("after_gate:nap", None),
            ("after_gates", None),
            ("before_gate", None),
        ] {
            assert_eq!(signal(OsStr::new(value), "after_gate"), expected, "{value}");
        }
    }
}
