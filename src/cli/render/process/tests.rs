//! Cells of the table. Whole tables are tested in `tests/it/cli_offline`.

use std::time::Duration;

use super::*;

fn with(status: ProcessStatus) -> Process {
    Process {
        name: "web".into(),
        status: Some(status),
        ..Process::default()
    }
}

#[test]
fn ends_of_runs_in_words() {
    let exit_of = |outcome: Option<Outcome>| proto::ExitStatus {
        outcome,
        ..Default::default()
    };
    let cases = [
        (exit_of(Some(Outcome::ExitCode(0))), "exit 0"),
        (exit_of(Some(Outcome::SignalNumber(9))), "signal 9"),
        (
            exit_of(Some(Outcome::SpawnError("no such\nfile".into()))),
            "never ran: no such\\nfile",
        ),
        (
            exit_of(Some(Outcome::UnknownReason("REBOOT".into()))),
            "unknown: REBOOT",
        ),
        (exit_of(None), "unknown"),
        (
            proto::ExitStatus {
                oom_killed: true,
                ..exit_of(Some(Outcome::SignalNumber(9)))
            },
            "signal 9, out of memory",
        ),
        (
            proto::ExitStatus {
                core_dumped: true,
                ..exit_of(Some(Outcome::SignalNumber(11)))
            },
            "signal 11, core dumped",
        ),
    ];
    for (status, words) in cases {
        assert_eq!(exit(&status), words);
    }
}

#[test]
fn running_is_up_and_not_on_the_way_down() {
    let running = |phase: ProcessPhase, state: ProcessState| {
        is_running(&with(ProcessStatus {
            phase: phase.into(),
            state: state.into(),
            ..Default::default()
        }))
    };
    assert!(running(ProcessPhase::Running, ProcessState::Running));
    assert!(running(ProcessPhase::Running, ProcessState::Paused));
    assert!(!running(ProcessPhase::Running, ProcessState::Stopping));
    assert!(!running(ProcessPhase::Succeeded, ProcessState::Succeeded));
    assert!(!running(ProcessPhase::Pending, ProcessState::Backoff));
    assert!(!is_running(&Process::default()));
}

#[test]
fn a_state_of_the_future_does_not_break_the_table() {
    let process = with(ProcessStatus {
        state: 99,
        ..Default::default()
    });
    let text = table([&process], false, SystemTime::UNIX_EPOCH)
        .to_text(crate::cli::render::style::Palette::Plain, None);
    assert_eq!(
        text.lines().nth(1),
        Some("web   -      -      -    0         -")
    );
}

#[test]
fn age_is_of_the_run_while_it_is_up() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let status = |phase: ProcessPhase| ProcessStatus {
        phase: phase.into(),
        start_time: at(0),
        state_time: at(990),
        ..Default::default()
    };
    assert_eq!(age(&status(ProcessPhase::Running), now), "16m40s");
    assert_eq!(age(&status(ProcessPhase::Failed), now), "10s");
    assert_eq!(age(&ProcessStatus::default(), now), "-");
}
