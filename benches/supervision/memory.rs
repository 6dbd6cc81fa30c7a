//! Memory of the shims, beside that of other supervisors' helpers, and of the daemon.

use super::{
    Scale,
    client::Session,
    daemon::Daemon,
    peers::Peers,
    proc,
    table::{Row, median},
};

/// supervisord at 0 and at 500 processes, and a helper of runit, as measured when
/// the bounds were set; for machines that have none.
const SUPERVISORD_KIB: [f64; 2] = [24.7 * 1024.0, 34.7 * 1024.0];
const HELPER_KIB: f64 = 92.0;

pub(crate) fn run(scale: &Scale) -> Vec<Row> {
    let counts = [scale.processes(500), 2 * scale.processes(500)];
    let daemon = Daemon::start();
    let session = daemon.session();
    // The first call lets it build what every client needs.
    session.list();
    let mut resident = vec![(0, daemon_rss(&daemon))];
    let mut ours = Vec::new();
    for count in counts {
        let shims = shims(&session, count);
        resident.push((count, daemon_rss(&daemon)));
        ours.push(Shims::look(&shims));
    }
    drop(session);
    drop(daemon);
    let mut rows = Vec::new();
    for (program, paper) in [("runsv", Some(HELPER_KIB)), ("s6-supervise", None)] {
        let theirs = helpers(program, counts);
        let (name, theirs) = match (theirs, paper) {
            (Some(theirs), _) => (program.to_owned(), theirs),
            (None, Some(paper)) => (format!("{program}, not here: recorded"), vec![paper; 2]),
            (None, None) => continue,
        };
        for ((count, shims), theirs) in counts.iter().zip(&ours).zip(theirs) {
            let figure = format!("PSS per shim at {count}");
            let row = Row::new(figure, shims.pss, "KiB").against(name.clone(), theirs);
            rows.push(row.at_most(1.0, 0.8));
        }
    }
    rows.push(Row::new("RSS per shim", ours[1].rss, "KiB"));
    for ((count, rss), theirs) in resident.iter().zip(SUPERVISORD_KIB) {
        let row = Row::new(format!("RSS of the daemon at {count}"), *rss, "KiB");
        rows.push(
            row.against("supervisord, recorded", theirs)
                .at_most(0.6, 0.35),
        );
    }
    let (count, rss) = resident[2];
    rows.push(Row::new(
        format!("RSS of the daemon at {count}"),
        rss,
        "KiB",
    ));
    rows
}

struct Shims {
    /// Mean.
    pss: f64,
    /// Median.
    rss: f64,
}

// === impl Shims ===

impl Shims {
    fn look(pids: &[i32]) -> Self {
        let rss = |pid: &i32| proc::status_kib(*pid, "VmRSS:").map(|kib| kib as f64);
        Self {
            pss: mean_pss(pids),
            rss: median(pids.iter().filter_map(rss).collect()),
        }
    }
}

/// Grows to `count` processes; the shim of each.
pub(crate) fn shims(session: &Session, count: usize) -> Vec<i32> {
    let seen = session.sleepers(count);
    let shims = seen.values().map(|shown| proc::parent(shown.pid));
    let shims: Option<Vec<i32>> = shims.collect();
    shims.expect("each has a shim")
}

fn mean_pss(pids: &[i32]) -> f64 {
    let sum: u64 = pids.iter().filter_map(|pid| proc::pss_kib(*pid)).sum();
    sum as f64 / pids.len() as f64
}

fn daemon_rss(daemon: &Daemon) -> f64 {
    let rss = proc::status_kib(daemon.pid(), "VmRSS:");
    rss.expect("a daemon") as f64
}

/// The mean of one program's helpers at each count.
fn helpers(program: &'static str, counts: [usize; 2]) -> Option<Vec<f64>> {
    let mut peers = Peers::of(program)?;
    let mut look = |count| {
        peers.grow(count);
        mean_pss(&peers.pids())
    };
    Some(counts.map(&mut look).to_vec())
}
