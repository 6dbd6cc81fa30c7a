//! Costs of the registry, each as a ratio to a baseline measured in the same run.
//!
//! `cargo bench --bench registry` prints a table; with `--test`, or under
//! `cargo test --benches`, every case runs a little, in seconds, and its figures
//! mean nothing.
//!
//! An own sampler, not criterion: what is promised are ratios, and on a machine
//! that drifts by 30 % a ratio is only good if both sides are measured in turn, a
//! few milliseconds apart, in CPU time of the measuring thread. Criterion measures
//! one after the other, in wall time. Per case: 41 rounds, medians of both sides,
//! median of the rounds' ratios.

// The allocator and the thread's CPU clock need it.
#![allow(unsafe_code)]
#![allow(clippy::print_stdout, clippy::expect_used)]

#[path = "registry/alloc.rs"]
mod alloc;
#[path = "registry/cases.rs"]
mod cases;
#[path = "registry/sampler.rs"]
mod sampler;
#[path = "registry/subscribers.rs"]
mod subscribers;

use sampler::Sampler;

#[global_allocator]
static ALLOCATOR: alloc::Counting = alloc::Counting;

fn main() {
    let given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    // Only `cargo bench` passes `--bench`.
    let smoke = given("--test") || !given("--bench");
    let sampler = Sampler::new(smoke);
    let mut rows = Vec::new();
    for case in cases::ALL {
        let row = case(&sampler);
        println!("{}", row.short());
        rows.push(row);
    }
    println!("\n{}", sampler::table(&rows));
}
