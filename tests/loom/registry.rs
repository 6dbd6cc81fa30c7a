//! The parts of `src/registry` that the models are about, as they are.

#[path = "../../src/registry/base.rs"]
mod base;
#[path = "../../src/registry/change.rs"]
mod change;
#[path = "../../src/registry/commit.rs"]
mod commit;
#[path = "../../src/registry/log.rs"]
mod log;
#[path = "../../src/registry/node.rs"]
mod node;
#[path = "../../src/registry/read.rs"]
mod read;
#[path = "../../src/registry/roster.rs"]
mod roster;
#[path = "../../src/registry/snapshot.rs"]
mod snapshot;
#[path = "../../src/registry/wake.rs"]
mod wake;

mod models;

pub(crate) use node::Body;
