//! The registry under eight writers, with snapshots and readers of both modes
//! beside them; what happened is recorded and checked afterwards.
//!
//! Every check is also run over registries that are wrong in a known way and must
//! fail there: a check that cannot fail proves nothing.
//!
//! `PROCESSION_SEED=n` replays the same operations (the scheduling is the
//! machine's).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod checks;
mod naive;
mod real;
mod run;

use std::time::{SystemTime, UNIX_EPOCH};

use self::{
    checks::CHECKS,
    naive::{Fault, Naive},
    real::Real,
    run::{Load, run},
};

fn seed() -> u64 {
    let given = std::env::var("PROCESSION_SEED").ok();
    let seed = given.map_or_else(
        || {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            now.as_nanos() as u64
        },
        |text| text.parse().expect("PROCESSION_SEED is a number"),
    );
    println!("PROCESSION_SEED={seed}");
    seed
}

fn stress(ring_entries_max: usize, load: Load) {
    let history = run(Real::new(ring_entries_max), seed(), load);
    println!("{}", history.summary());
    for (name, check) in CHECKS {
        if let Err(fault) = check(&history) {
            panic!("{name}: {fault}");
        }
    }
}

#[test]
fn eight_writers_and_a_ring_that_holds_everything() {
    stress(
        1 << 20,
        Load {
            writes: 12_000,
            names: 16,
        },
    );
}

#[test]
fn eight_writers_and_a_ring_that_readers_fall_out_of() {
    stress(
        300,
        Load {
            writes: 12_000,
            names: 16,
        },
    );
}

#[test]
fn eight_writers_on_two_names() {
    stress(
        2000,
        Load {
            writes: 12_000,
            names: 2,
        },
    );
}

/// Which checks see which fault; together all of them.
const CAUGHT: [(Fault, &[&str]); 5] = [
    (
        Fault::NotifyAfterSwap,
        &[
            "versions are dense and in order",
            "nothing unpublished is read",
        ],
    ),
    (Fault::RevisionBeforeSwap, &["revisions are dense"]),
    (Fault::HeadTooLate, &["own writes are read"]),
    (
        Fault::HeadTooEarly,
        &[
            "no change is lost",
            "latest views are exact",
            "snapshots are exact",
        ],
    ),
    (Fault::OrderOfItsOwn, &["order in real time"]),
];

#[test]
fn every_check_fails_on_a_registry_that_is_wrong() {
    let seed = seed();
    for (name, _) in CHECKS {
        let used = CAUGHT.iter().any(|(_, checks)| checks.contains(&name));
        assert!(used, "no control for: {name}");
    }
    for (fault, expected) in CAUGHT {
        let load = Load {
            writes: 400,
            names: 4,
        };
        let history = run(Naive::new(fault, load.names), seed, load);
        for (name, check) in CHECKS {
            let caught = check(&history).is_err();
            assert!(
                caught || !expected.contains(&name),
                "{fault:?} passed: {name}"
            );
        }
    }
}
