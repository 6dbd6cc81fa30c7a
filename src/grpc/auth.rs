//! Who calls.

/// The authenticated caller: `uid:1000` or a SPIFFE ID.
#[derive(Clone, Debug)]
pub struct Principal(pub std::sync::Arc<str>);
