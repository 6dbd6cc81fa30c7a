//! What the command line understands.

use std::time::Duration;

use clap::{CommandFactory as _, Parser as _};

use super::*;
use crate::grpc::proto::Signal;

fn parse(line: &str) -> Command {
    Cli::try_parse_from(line.split(' '))
        .unwrap_or_else(|error| panic!("{line}: {error}"))
        .command
}

fn refuse(line: &str) -> String {
    Cli::try_parse_from(line.split(' '))
        .expect_err(line)
        .to_string()
}

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_has_help_that_fits() {
    for verb in Cli::command().get_subcommands_mut() {
        let help = verb.render_long_help().to_string();
        assert!(
            help.lines().all(|line| line.chars().count() <= 100),
            "{help}"
        );
        assert!(verb.get_about().is_some(), "{verb}");
    }
}

#[test]
fn waits_have_a_default_and_can_be_left_out() {
    let wait = |line: &str| match parse(line) {
        Command::Start(args) => args.wait,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        wait("procession start web").timeout,
        Duration::from_secs(120)
    );
    assert_eq!(
        wait("procession start web --timeout 90").timeout,
        Duration::from_secs(90)
    );
    assert!(wait("procession start web --no-wait").no_wait);
    assert!(refuse("procession start web --no-wait --timeout 5s").contains("cannot be used with"));
}

#[test]
fn stop_can_be_overridden() {
    let Command::Stop(args) = parse("procession stop a b --signal SIGQUIT --grace 1m30s") else {
        panic!("not a stop");
    };
    assert_eq!(args.select.targets, ["a", "b"]);
    assert_eq!(args.stop.signal, Some(Signal::Quit));
    assert_eq!(args.stop.grace, Some(Duration::from_secs(90)));
    assert!(refuse("procession stop a --signal 9").contains("no such signal"));
}

#[test]
fn global_options_go_before_and_after_the_verb() {
    for line in [
        "procession -o json --socket /s ps web",
        "procession ps web --socket /s -o json",
    ] {
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        assert_eq!(cli.global.output, OutputFormat::Json);
        assert_eq!(cli.global.socket, Some("/s".into()));
    }
}

#[test]
fn apply_waits_only_with_an_equals_sign() {
    let apply = |line: &str| match parse(line) {
        Command::Apply(args) => args,
        other => panic!("{other:?}"),
    };
    let args = apply("procession apply --wait f.yaml");
    assert_eq!(
        (args.wait, args.file.to_str()),
        (Some(WaitFor::Running), Some("f.yaml"))
    );
    let args = apply("procession apply f.yaml --wait=ready --rollout restart-if-needed");
    assert_eq!(
        (args.wait, args.rollout),
        (Some(WaitFor::Ready), RolloutArg::RestartIfNeeded)
    );
    assert_eq!(apply("procession apply f.yaml").wait, None);
    assert!(refuse("procession apply f.yaml -l a=b").contains("--prune"));
    assert!(refuse("procession apply f.yaml --dry-run --wait").contains("cannot be used with"));
}

#[test]
fn names_users_know_work_too() {
    assert!(matches!(parse("procession status"), Command::Ps(_)));
    assert!(matches!(parse("procession ls"), Command::Ps(_)));
    assert!(matches!(parse("procession describe web"), Command::Get(_)));
    assert!(matches!(parse("procession rm web"), Command::Delete(_)));
    assert!(matches!(parse("procession shutdown"), Command::Down(_)));
}

#[test]
fn tcp_is_with_certificates_or_says_insecure() {
    let serve = |line: &str| match parse(line) {
        Command::Serve(args) => args.listen,
        other => panic!("{other:?}"),
    };
    let tls = "procession serve --listen 127.0.0.1:7 --tls-cert c --tls-key k --tls-client-ca a";
    assert_eq!(serve(tls).listen, Some(([127, 0, 0, 1], 7).into()));
    assert!(
        serve("procession serve --insecure-tcp 127.0.0.1:7")
            .insecure_tcp
            .is_some()
    );
    for line in [
        "procession serve --listen 127.0.0.1:7",
        "procession serve --listen 127.0.0.1:7 --tls-cert c --tls-key k",
        "procession serve --tls-cert c",
        "procession serve --api-threads 5",
        "procession serve --insecure-tcp localhost",
    ] {
        refuse(line);
    }
    refuse(&format!("{tls} --insecure-tcp 127.0.0.1:8"));
}

#[test]
fn numbers_have_bounds() {
    for line in [
        "procession scale web 0",
        "procession scale web 1001",
        "procession logs -n -1",
        "procession explain web -n 101",
    ] {
        refuse(line);
    }
    assert!(matches!(parse("procession scale web 3"), Command::Scale(args) if args.count == 3));
}
