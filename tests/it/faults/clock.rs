//! A wall clock that jumps: restarts go by the other one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use procession::grpc::proto::{
    GetServerInfoRequest, ProcessState as State, RestartBudget, RestartMode, RestartPolicy,
};

use super::{
    calls_that_fail::preload,
    support::{Rig, until},
};
use crate::daemon::{
    calls::{self, state, status},
    support::Client,
};

const DAY: i64 = 24 * 3600;
const SOON: Duration = Duration::from_millis(50);
const LATE: Duration = Duration::from_secs(3600);
/// Restarts that are waited for after each jump.
const RESTARTS: i64 = 5;

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    Some(duration.try_into().unwrap())
}

/// Restarts after `pause` for ever.
fn policy(pause: Duration) -> Option<RestartPolicy> {
    Some(RestartPolicy {
        mode: RestartMode::Always.into(),
        initial_backoff: duration(pause),
        max_backoff: duration(pause),
        jitter_ratio: Some(0.0),
        max_consecutive_failures: 0,
        budget: Some(RestartBudget {
            max_restarts: 10_000,
            window: duration(LATE),
        }),
        ..Default::default()
    })
}

async fn run_id(client: &mut Client, name: &str) -> i64 {
    status(&calls::get(client, name).await).run_id
}

/// What the daemon takes for the time.
async fn server_seconds(client: &mut Client) -> i64 {
    let asked = client.get_server_info(GetServerInfoRequest {}).await;
    asked.unwrap().into_inner().server_time.unwrap().seconds
}

fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_secs().cast_signed()
}

#[tokio::test]
async fn a_clock_that_jumps_hurries_no_restart_and_holds_none_up() {
    let mut rig = Rig::new();
    let Some(library) = preload(rig.root()) else {
        return;
    };
    let off = rig.root().join("off");
    let ended = rig.start_with(&[
        ("FAULTS_MODE", "clock"),
        ("FAULTS_CLOCK", off.to_str().unwrap()),
        ("LD_PRELOAD", library.to_str().unwrap()),
    ]);
    assert!(ended.is_none(), "{ended:?}: {}", rig.log());
    let mut client = rig.client().await;
    for (name, pause) in [("soon", SOON), ("late", LATE)] {
        let mut process = rig.process(name, "exit 1");
        process.spec.as_mut().unwrap().restart_policy = policy(pause);
        calls::create(&mut client, process).await;
    }
    until("it waits", async || {
        (state(&calls::get(&mut client, "late").await) == State::Backoff).then_some(())
    })
    .await;
    for seconds in [DAY, 0, -DAY, 0] {
        std::fs::write(&off, seconds.to_string()).unwrap();
        let told = server_seconds(&mut client).await - now_seconds();
        assert!((told - seconds).abs() < 60, "the clock is off by {told} s");
        let (begun, first) = (Instant::now(), run_id(&mut client, "soon").await);
        until("it restarts", async || {
            (run_id(&mut client, "soon").await >= first + RESTARTS).then_some(())
        })
        .await;
        // All pauses but the one under way at the jump.
        let least = SOON * u32::try_from(RESTARTS - 1).unwrap();
        let took = begun.elapsed();
        assert!(took >= least, "{seconds}: {took:?} for {RESTARTS} restarts");
        let late = calls::get(&mut client, "late").await;
        assert_eq!(state(&late), State::Backoff, "{seconds}: {late:?}");
        assert_eq!(status(&late).run_id, 1, "{seconds}: {late:?}");
    }
    rig.end(client).await;
}
