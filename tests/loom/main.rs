//! Model checks: every interleaving of a few threads over the real sources of
//! commit, publish, log and wake.
//!
//! The sources are compiled a second time, in this crate, where `crate::sync` is
//! a double made of the model checker's primitives. So production code has no
//! `cfg` for it, and what is checked is what runs. The doubles are stricter where
//! the original is opaque (`ArcSwap` becomes a lock and a comparison of pointers)
//! and the map is left out: creating is not part of the models.
//!
//! `registry/models.rs` has the models, and the negative ones that must fail.

// Parts of the sources that no model reaches, and visibility that is right there.
#![allow(dead_code, unreachable_pub, unused_imports)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod domain {
    pub(crate) use procession::domain::id;
}
mod registry;
mod sync;
