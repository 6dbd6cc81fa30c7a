//! What supervision costs on the built programs: many processes, much output, a
//! daemon that is killed or replaced.
//!
//! `cargo bench --bench supervision [CASE]` prints a table; with `--test`, or under
//! `cargo test --benches`, every case runs a little, in seconds, and only shows that
//! it works. Whatever is compared with is measured in the same run, in turn where
//! that matters: figures of two runs on a shared machine cannot be compared.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    reason = "figures, and a bench that cannot go on says why"
)]

#[path = "supervision/adopt.rs"]
mod adopt;
#[path = "supervision/bulk.rs"]
mod bulk;
#[path = "supervision/capture.rs"]
mod capture;
#[path = "supervision/client.rs"]
mod client;
#[path = "supervision/daemon.rs"]
mod daemon;
#[path = "supervision/idle.rs"]
mod idle;
#[path = "supervision/memory.rs"]
mod memory;
#[path = "supervision/peers.rs"]
mod peers;
#[path = "supervision/proc.rs"]
mod proc;
#[path = "supervision/restart.rs"]
mod restart;
#[path = "supervision/roles.rs"]
mod roles;
#[path = "supervision/table.rs"]
mod table;
#[path = "supervision/upgrade.rs"]
mod upgrade;

use std::time::Duration;

use table::Row;

/// How much a case does.
pub(crate) struct Scale {
    smoke: bool,
}

type Case = fn(&Scale) -> Vec<Row>;

/// The cases by name, in the order of the table.
const CASES: [(&str, Case); 7] = [
    ("adopt", adopt::run),
    ("memory", memory::run),
    ("capture", capture::run),
    ("upgrade", upgrade::run),
    ("idle", idle::run),
    ("bulk", bulk::run),
    ("restart", restart::run),
];

// === impl Scale ===

impl Scale {
    pub(crate) const fn processes(&self, full: usize) -> usize {
        if self.smoke { 10 } else { full }
    }

    pub(crate) const fn rounds(&self, full: usize) -> usize {
        if self.smoke { 1 } else { full }
    }

    pub(crate) const fn bytes(&self, full: usize) -> usize {
        if self.smoke { 1_000_000 } else { full }
    }

    pub(crate) fn time(&self, full: Duration) -> Duration {
        if self.smoke { full / 20 } else { full }
    }
}

fn main() {
    if let Some(played) = roles::play() {
        played.expect("the role of a case");
        return;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let given = |wanted: &str| words.iter().any(|word| word == wanted);
    // Only `cargo bench` passes `--bench`.
    let scale = Scale {
        smoke: given("--test") || !given("--bench"),
    };
    let named: Vec<&String> = words.iter().filter(|w| !w.starts_with('-')).collect();
    let mut rows = Vec::new();
    for (name, case) in CASES {
        if named.is_empty() || named.iter().any(|word| *word == name) {
            eprintln!("{name} ...");
            let more = case(&scale);
            // A case that fails later takes nothing with it.
            if !scale.smoke {
                eprint!("{}", table::table(&more));
            }
            rows.extend(more);
        }
    }
    if rows.is_empty() {
        eprintln!("no such case; there are {:?}", CASES.map(|(name, _)| name));
    } else if !scale.smoke {
        println!("\n{}", table::table(&rows));
    }
}
