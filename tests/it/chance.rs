//! How often and in which way, where a test tries many courses.
//!
//! `PROCESSION_SEED=n` replays the choices; `PROCESSION_KILLS=n` (`make chaos`) makes
//! small numbers of rounds large.
#![allow(clippy::print_stdout, reason = "seeds")]

use std::hash::{BuildHasher, RandomState};

/// Numbers that follow from a seed.
pub(crate) struct Dice(pub(crate) u64);

// === impl Dice ===

impl Dice {
    /// From a [`seed`] of its own.
    pub(crate) fn new() -> Self {
        Self(seed())
    }

    /// Another one, whose numbers follow from this one's.
    pub(crate) fn split(&mut self) -> Self {
        Self(self.throw(u64::MAX))
    }

    /// Below `sides`.
    pub(crate) fn throw(&mut self, sides: u64) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// As asked for, else drawn; printed.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("PROCESSION_SEED").ok();
    let seed = given.map_or_else(
        || RandomState::new().hash_one(0_u8),
        |text| text.parse().expect("PROCESSION_SEED is a number"),
    );
    println!("PROCESSION_SEED={seed}");
    seed
}

/// Rounds: `quick`, or as `PROCESSION_KILLS` says, in this part of it.
pub(crate) fn rounds(quick: usize, part: usize) -> usize {
    let asked = std::env::var("PROCESSION_KILLS");
    asked.map_or(quick, |n| (n.parse::<usize>().unwrap() / part).max(1))
}
