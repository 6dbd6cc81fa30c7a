//! How output is kept may change while a run goes on, and holds for whichever shim
//! it has.

use nix::sys::signal::Signal;
use procession::{
    domain::run::{Outcome, SignalScope},
    runner::LogPolicy,
};

use super::{
    adoption::{Place, adopted, block_on},
    support::*,
};

/// A few kilobytes in all; `seq` below writes some two hundred times as much.
const SMALL: LogPolicy = LogPolicy {
    max_bytes: 32 * 1024,
    segment_bytes: 8 * 1024,
    max_segments: 0,
    max_age: std::time::Duration::ZERO,
    drop_when_full: false,
};

const WRITER: &str = "echo ready; until [ -e $GO ]; do sleep 0.01; done; seq 1 1000000; exit 41";

fn writer(place: &Place) -> (String, std::path::PathBuf) {
    let go = place.root.path().join("go");
    (format!("GO={go:?}; {WRITER}"), go)
}

/// It ends with all said, of which little is kept.
async fn assert_small(running: &mut Running) {
    assert_eq!(running.finish().await, Outcome::Code(41));
    let output = running.output();
    assert!(output.len() <= 32 * 1024, "{}", output.len());
    assert!(output.ends_with("\n1000000\n"));
}

#[test]
fn a_policy_of_a_later_daemon_holds_with_the_shim_of_the_first() {
    let place = Place::new();
    let (script, go) = writer(&place);
    let left = place.leave(&script, async |_| {});
    block_on(async {
        let mut running = place.adopt_to_keep(left.uid, Some(SMALL));
        adopted(&mut running).await;
        assert_eq!(running.owner(), Some(left.shim));
        std::fs::write(&go, "").unwrap();
        assert_small(&mut running).await;
    });
}

#[test]
fn a_policy_outlives_the_shim_and_the_daemon_that_were_told() {
    let place = Place::new();
    let (script, go) = writer(&place);
    let left = place.leave(&script, async |running| {
        running.run.keep_output(SMALL);
        // Answered after what was said before.
        let sent = running.run.signal(libc::SIGCONT, SignalScope::Main);
        assert_eq!(sent.await, Ok(Ok(())));
    });
    kill(left.shim, Signal::SIGKILL);
    block_on(async {
        let mut running = place.adopt_to_keep(left.uid, None);
        adopted(&mut running).await;
        assert_ne!(running.owner(), Some(left.shim));
        std::fs::write(&go, "").unwrap();
        assert_small(&mut running).await;
    });
}
