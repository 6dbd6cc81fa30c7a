//! Nothing happens: what do a daemon and its shims do?

use std::{thread, time::Duration};

use super::{
    Scale,
    daemon::{Daemon, eventually},
    memory::shims,
    proc::{self, Activity},
    table::Row,
};

pub(crate) fn run(scale: &Scale) -> Vec<Row> {
    let count = scale.processes(500);
    let quiet = scale.time(Duration::from_secs(10));
    let daemon = Daemon::start();
    // The session is over before it counts.
    let shims = shims(&daemon.session(), count);
    let own = [daemon.pid()];
    // What the last calls led to is over when two looks in a row see the same.
    let mut last = Activity::default();
    eventually("they come to rest", || {
        thread::sleep(quiet / 20);
        let now = sum(&[&own[..], &shims].concat());
        std::mem::replace(&mut last, now) == now
    });
    let before = [sum(&own), sum(&shims)];
    thread::sleep(quiet);
    let after = [sum(&own), sum(&shims)];
    let seconds = quiet.as_secs_f64();
    let mut rows = Vec::new();
    for (at, who) in ["daemon", "shims"].iter().enumerate() {
        let cpu = (after[at].cpu - before[at].cpu) * 100.0 / seconds;
        let naps = (after[at].naps - before[at].naps) as f64 / seconds;
        let cpu = Row::new(format!("idle at {count}, CPU of the {who}"), cpu, "%");
        rows.push(cpu.at_most(0.1, 0.0));
        let naps = Row::new(format!("... wake-ups of the {who}"), naps, "/s");
        rows.push(naps.at_most(1.0, 0.0));
    }
    rows
}

/// All of them together.
fn sum(pids: &[i32]) -> Activity {
    let looks = pids.iter().map(|pid| proc::activity(*pid));
    looks.fold(Activity::default(), |sum, one| {
        let one = one.expect("none of them ends");
        Activity {
            naps: sum.naps + one.naps,
            cpu: sum.cpu + one.cpu,
        }
    })
}
