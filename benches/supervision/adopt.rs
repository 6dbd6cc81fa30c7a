//! A daemon is killed; how soon does the next one have all processes?

use std::{collections::BTreeMap, time::Instant};

use procession::grpc::proto::ProcessState as State;

use super::{
    Scale,
    client::Shown,
    daemon::{Daemon, eventually},
    table::{Row, median, worst},
};

/// Seconds since the exec of the next daemon.
struct Round {
    listens: f64,
    listed: f64,
    adopted: f64,
}

pub(crate) fn run(scale: &Scale) -> Vec<Row> {
    let count = scale.processes(1000);
    let rounds: Vec<Round> = (0..scale.rounds(5)).map(|_| round(count)).collect();
    let of = |figure: fn(&Round) -> f64| rounds.iter().map(figure).collect::<Vec<f64>>();
    let adopted = of(|round| round.adopted);
    vec![
        Row::new(
            format!("adopt {count} after SIGKILL, median"),
            median(adopted.clone()),
            "s",
        )
        .at_most(2.0, 0.5),
        Row::new("... worst", worst(&adopted), "s").at_most(2.0, 0.5),
        Row::new("... it listens", median(of(|round| round.listens)), "s"),
        Row::new(
            "... all listed RUNNING, same pids",
            median(of(|round| round.listed)),
            "s",
        ),
    ]
}

/// A daemon of its own for each: the condition `Adopted` stays from one takeover
/// to the next, so only the first one shows when it came about.
fn round(count: usize) -> Round {
    let mut daemon = Daemon::start();
    let before = daemon.session().sleepers(count);
    assert!(before.values().all(|shown| !shown.adopted), "adopted early");
    daemon.kill();
    let since = daemon.restart();
    let listens = since.elapsed().as_secs_f64();
    let (listed, adopted) = take_over(&daemon, since, &before);
    Round {
        listens,
        listed,
        adopted,
    }
}

/// Until all are listed as they were, and until all shims have been spoken with.
fn take_over(daemon: &Daemon, since: Instant, before: &BTreeMap<String, Shown>) -> (f64, f64) {
    let session = daemon.session();
    let mut listed = None;
    let mut adopted = f64::NAN;
    eventually("all are adopted", || {
        let now = session.list();
        let time = since.elapsed().as_secs_f64();
        let same = now.len() == before.len()
            && now.iter().all(|(name, shown)| {
                let was = before.get(name).map(|shown| shown.pid);
                shown.state == State::Running && was == Some(shown.pid) && shown.restarts == 0
            });
        if same {
            listed.get_or_insert(time);
            adopted = time;
        }
        same && now.values().all(|shown| shown.adopted)
    });
    (listed.unwrap_or(f64::NAN), adopted)
}
