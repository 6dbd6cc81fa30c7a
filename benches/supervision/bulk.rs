//! Many processes begin at once and end at once, beside a loop that spawns and kills
//! as many without looking after them.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::Instant,
};

use procession::grpc::proto::{ListProcessesRequest, ProcessSelector, ProcessState as State};

use super::{
    Scale,
    client::{Session, command},
    daemon::{Daemon, eventually, places},
    table::{Row, median},
};

/// Seconds.
#[derive(Clone, Copy)]
struct Round {
    start: f64,
    stop: f64,
}

pub(crate) fn run(scale: &Scale) -> Vec<Row> {
    let count = scale.processes(500);
    let places = places();
    let mut ours = vec![Vec::new(); places.len()];
    let mut floor = Vec::new();
    for _ in 0..scale.rounds(5) {
        for ((_, above), ours) in places.iter().zip(&mut ours) {
            ours.push(supervised(above, count));
        }
        floor.push(Spawned::round(count));
    }
    let start = |rounds: &[Round]| median(rounds.iter().map(|round| round.start).collect());
    let stop = |rounds: &[Round]| median(rounds.iter().map(|round| round.stop).collect());
    let mut rows = Vec::new();
    for ((place, _), ours) in places.iter().zip(&ours) {
        let figure = format!("start {count}, all RUNNING; state on {place}");
        let row = Row::new(figure, start(ours), "s").against("a loop: posix_spawn", start(&floor));
        rows.push(row.at_most(3.0, 2.0));
        let figure = format!("SIGTERM of the daemon, {count} gone; state on {place}");
        let row = Row::new(figure, stop(ours), "s").against("a loop: kill, wait", stop(&floor));
        rows.push(row.at_most(3.0, 1.5));
    }
    rows
}

fn supervised(above: &Path, count: usize) -> Round {
    let mut daemon = Daemon::start_in(above);
    let session = daemon.session();
    let sleeper = |n| command(&format!("p{n:04}"), &["sleep", "1000000"]);
    let processes = (0..count).map(sleeper).collect();
    let since = Instant::now();
    session.apply(processes);
    eventually("all run", || running(&session) == count);
    let start = since.elapsed().as_secs_f64();
    // With it goes its connection.
    drop(session);
    let stop = daemon.terminate().expect("it ends");
    assert!(daemon.left().is_empty(), "something is left");
    let stop = stop.as_secs_f64();
    Round { start, stop }
}

/// How many run: a page of one tells the number of all, at no cost that grows.
fn running(session: &Session) -> usize {
    let request = ListProcessesRequest {
        page_size: 1,
        selector: Some(ProcessSelector {
            states: vec![State::Running.into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut client = session.client.clone();
    let page = session.wait(client.list_processes(request));
    let total = page.expect("a page").into_inner().total_size;
    usize::try_from(total).unwrap_or(0)
}

/// Children of the bench itself, ended when it is dropped.
struct Spawned(Vec<Child>);

// === impl Spawned ===

impl Spawned {
    fn round(count: usize) -> Round {
        let mut own = Self(Vec::with_capacity(count));
        let since = Instant::now();
        for _ in 0..count {
            // Nothing here keeps std from posix_spawn.
            let mut command = Command::new("sleep");
            command.arg("1000000").stdin(Stdio::null());
            own.0.push(command.spawn().expect("a child"));
        }
        let start = since.elapsed().as_secs_f64();
        let since = Instant::now();
        own.end();
        let stop = since.elapsed().as_secs_f64();
        Round { start, stop }
    }

    fn end(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
        }
        for mut child in self.0.drain(..) {
            let _ = child.wait();
        }
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        self.end();
    }
}
