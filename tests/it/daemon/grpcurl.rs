//! What a user does with grpcurl: every method once, errors that can be read,
//! streams; in both forms that reach a Unix socket.

mod tool;

use std::{collections::BTreeSet, path::Path};

use procession::grpc::proto;
use prost::Message as _;
use serde_json::{Value, json};
use tool::{Form, Grpcurl};

use super::support::{Daemon, eventually};

/// Echoes at the start and at each SIGUSR1.
const SCRIPT: &str = "echo up; trap 'echo got' USR1; while :; do sleep 0.05; done";

/// The methods of the contract.
fn methods() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(proto::DESCRIPTOR_SET).unwrap();
    let services = set.file.into_iter().flat_map(|file| file.service);
    services
        .filter(|service| service.name() == "ProcessManager")
        .flat_map(|service| service.method)
        .map(|method| method.name().to_owned())
        .collect()
}

fn status(answer: &Value) -> &Value {
    &answer["process"]["status"]
}

fn pid(answer: &Value) -> u64 {
    status(answer)["pid"].as_u64().unwrap()
}

fn lives(pid: u64) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn waited() -> Value {
    json!({"condition": "WAIT_CONDITION_RUNNING", "timeout": "30s"})
}

#[test]
fn every_method_works_or_says_that_it_is_absent() {
    every_method(Form::Address);
}

#[test]
fn every_method_works_with_the_option_unix_too() {
    every_method(Form::Option);
}

fn every_method(form: Form) {
    let daemon = Daemon::start();
    let Some(grpcurl) = Grpcurl::of(&daemon, form) else {
        return;
    };
    descriptions(&grpcurl);
    configuration(&grpcurl);
    lifecycle(&grpcurl);
    reads(&grpcurl);
    streams(&grpcurl);
    batches(&grpcurl);
    input(&grpcurl);
    absent(&grpcurl);
    the_end(&grpcurl, &daemon);
    assert_eq!(grpcurl.called(), methods(), "methods without a call");
}

fn descriptions(grpcurl: &Grpcurl) {
    let listed = grpcurl.text(&["list"]);
    for service in [
        "procession.v1.ProcessManager",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ] {
        assert!(listed.lines().any(|line| line == service), "{listed}");
    }
    let described = grpcurl.text(&["describe", "procession.v1.ProcessManager"]);
    for method in methods() {
        let rpc = format!("rpc {method} (");
        assert!(described.contains(&rpc), "{method} in:\n{described}");
    }
    let message = grpcurl.text(&["describe", "procession.v1.ProcessSpec"]);
    assert!(message.contains("repeated string command = 1"), "{message}");
    let health: Value =
        serde_json::from_str(&grpcurl.text(&["grpc.health.v1.Health/Check"])).unwrap();
    assert_eq!(health["status"], "SERVING");
}

fn configuration(grpcurl: &Grpcurl) {
    let process = json!({"name": "web", "spec": {"command": ["sh", "-c", SCRIPT]}});
    let created = grpcurl.call("CreateProcess", &json!({"process": process}));
    assert_eq!(status(&created)["state"], "PROCESS_STATE_STOPPED");
    let got = grpcurl.call("GetProcess", &json!({"name": "web"}));
    assert_eq!(got["process"], created["process"]);
    let unchanged = grpcurl.call("ApplyProcess", &json!({"process": process}));
    assert_eq!(unchanged["outcome"], "APPLY_OUTCOME_UNCHANGED");
    let update = json!({
        "process": {"name": "web", "etag": created["process"]["etag"], "labels": {"tier": "front"}},
        "update_mask": {"paths": ["labels"]},
    });
    let updated = grpcurl.call("UpdateProcess", &update);
    assert_eq!(updated["process"]["labels"]["tier"], "front");
    assert_eq!(updated["plan"]["action"], "CHANGE_ACTION_LIVE_UPDATE");
    let stale = grpcurl.refused("UpdateProcess", &update);
    assert_eq!(stale["code"], 10, "{stale}");
    assert_eq!(stale["details"][0]["reason"], "PRECONDITION_MISMATCH");
}

fn lifecycle(grpcurl: &Grpcurl) {
    let started = grpcurl.call("StartProcess", &json!({"name": "web", "wait": waited()}));
    assert_eq!(started["waitOutcome"], "WAIT_OUTCOME_SATISFIED");
    let first = pid(&started);
    assert!(lives(first));
    let signal = json!({"name": "web", "signal": "SIGNAL_USR1", "precondition": {"run_id": 1}});
    assert_eq!(grpcurl.call("SignalProcess", &signal)["runId"], "1");
    eventually("the signal arrives", || {
        grpcurl
            .output("web")
            .contains(&"got".to_owned())
            .then_some(())
    });
    let paused = grpcurl.call("PauseProcess", &json!({"name": "web"}));
    assert_eq!(status(&paused)["state"], "PROCESS_STATE_PAUSED");
    let resumed = grpcurl.call("ResumeProcess", &json!({"name": "web"}));
    assert_eq!(status(&resumed)["state"], "PROCESS_STATE_RUNNING");
    let restarted = grpcurl.call("RestartProcess", &json!({"name": "web", "wait": waited()}));
    assert_eq!(status(&restarted)["runId"], "2");
    assert!(!lives(first) && lives(pid(&restarted)));
    let settled = json!({"condition": "WAIT_CONDITION_SETTLED"});
    let stopped = grpcurl.call("StopProcess", &json!({"name": "web", "wait": settled}));
    assert_eq!(status(&stopped)["state"], "PROCESS_STATE_STOPPED");
    assert_eq!(status(&stopped)["lastExit"]["signalNumber"], 15);
    assert!(!lives(pid(&restarted)));
    let waited = json!({"name": "web", "condition": "WAIT_CONDITION_SETTLED", "timeout": "5s"});
    let waited = grpcurl.call("WaitProcess", &waited);
    assert_eq!(waited["outcome"], "WAIT_OUTCOME_SATISFIED");
    grpcurl.call("ResetProcess", &json!({"name": "web"}));
}

fn reads(grpcurl: &Grpcurl) {
    let info = grpcurl.call("GetServerInfo", &json!({}));
    assert!(info["header"]["revision"].is_string(), "{info}");
    let masked = json!({"selector": {"label_selector": "tier=front"},
                        "read_mask": {"paths": ["status.state"]}});
    let listed = grpcurl.call("ListProcesses", &masked);
    assert_eq!(listed["totalSize"], 1);
    assert!(listed["processes"][0]["spec"].is_null(), "{listed}");
    let both = grpcurl.refused("BatchGetProcesses", &json!({"names": ["web", "nope"]}));
    assert_eq!(
        (&both["code"], &both["message"]),
        (&json!(5), &json!("no such process: nope"))
    );
    let one = grpcurl.call("BatchGetProcesses", &json!({"names": ["web"]}));
    assert_eq!(one["processes"][0]["name"], "web");
    let explained = grpcurl.call("ExplainProcess", &json!({"name": "web", "max_events": 3}));
    assert_eq!(
        explained["summary"],
        "web is STOPPED: a stop was asked for; nothing happens next by itself."
    );
    assert_eq!(explained["events"].as_array().unwrap().len(), 3);
}

fn streams(grpcurl: &Grpcurl) {
    for mode in ["WATCH_MODE_LATEST_STATE", "WATCH_MODE_EVERY_CHANGE"] {
        let mut watch = grpcurl.stream("WatchProcesses", &json!({"mode": mode}));
        let opened = watch.next();
        assert_eq!(opened["opened"]["mode"], mode, "{opened}");
        let snapshot = watch.next();
        assert_eq!(snapshot["snapshot"]["processes"][0]["name"], "web");
        assert_eq!(watch.next()["synced"]["processCount"], 1);
        grpcurl.call("StartProcess", &json!({"name": "web", "wait": waited()}));
        let mut states = Vec::new();
        while !states.contains(&json!("PROCESS_STATE_RUNNING")) {
            let message = watch.next();
            let events = message["events"]["events"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            states.extend(events.iter().map(|event| status(event)["state"].clone()));
        }
        let settled = json!({"condition": "WAIT_CONDITION_SETTLED"});
        grpcurl.call("StopProcess", &json!({"name": "web", "wait": settled}));
    }
    let output = grpcurl.output("web");
    assert!(output.contains(&"up".to_owned()), "{output:?}");
    let mut tail = grpcurl.stream("TailLogs", &json!({"follow": true, "backlog_entries": 1}));
    assert_eq!(tail.next()["entries"]["entries"][0]["name"], "web");
}

fn batches(grpcurl: &Grpcurl) {
    let process = |name: &str| json!({"name": name, "spec": {"command": ["sleep", "1000"]}});
    let apply = json!({"processes": [process("a"), process("b")], "prune_selector": {}});
    let checked = grpcurl.call("BatchApplyProcesses", &{
        let mut check = apply.clone();
        check["validate_only"] = json!(true);
        check
    });
    assert_eq!(checked["results"].as_array().unwrap().len(), 3, "{checked}");
    grpcurl.call("GetProcess", &json!({"name": "web"}));
    let applied = grpcurl.call("BatchApplyProcesses", &apply);
    let outcomes: Vec<_> = applied["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["outcome"])
        .collect();
    assert!(
        outcomes.contains(&&json!("APPLY_OUTCOME_PRUNED")),
        "{applied}"
    );
    let start = json!({"selector": {}, "action": "CONTROL_ACTION_START", "wait": waited()});
    let started = grpcurl.call("BatchControlProcesses", &start);
    for result in started["results"].as_array().unwrap() {
        assert_eq!(result["waitOutcome"], "WAIT_OUTCOME_SATISFIED", "{started}");
    }
    let got = grpcurl.call("GetProcess", &json!({"name": "a"}));
    let deleted = grpcurl.call("DeleteProcess", &json!({"name": "a"}));
    assert_eq!(deleted["process"]["name"], "a");
    assert!(!lives(pid(&got)), "answered when it is gone");
    assert_eq!(
        grpcurl.refused("GetProcess", &json!({"name": "a"}))["code"],
        5
    );
}

fn input(grpcurl: &Grpcurl) {
    let spec = json!({"command": ["cat"], "autostart": true, "stdio": {"open_stdin": true}});
    grpcurl.call(
        "CreateProcess",
        &json!({"process": {"name": "cat", "spec": spec}}),
    );
    grpcurl.call(
        "WaitProcess",
        &json!({"name": "cat", "condition": "WAIT_CONDITION_RUNNING", "timeout": "30s"}),
    );
    // "hi" and a newline, in base64.
    let written = grpcurl.call("WriteStdin", &json!({"name": "cat", "data": "aGkK"}));
    assert_eq!(written["offset"], "3", "{written}");
    eventually("it is echoed", || {
        grpcurl
            .output("cat")
            .contains(&"hi".to_owned())
            .then_some(())
    });
    let mut attached = grpcurl.stream("AttachProcess", &json!({"open": {"name": "cat"}}));
    let opened = attached.next();
    assert_eq!(opened["opened"]["runId"], "1", "{opened}");
    drop(attached);
    grpcurl.call("DeleteProcess", &json!({"name": "cat"}));
}

fn absent(grpcurl: &Grpcurl) {
    for (method, capability) in [
        ("ReloadProcess", "reload"),
        ("GetProcessStats", "stats"),
        ("ListGroups", "group_budgets"),
        ("WatchProcessStats", "stats"),
    ] {
        let refused = grpcurl.refused(method, &json!({}));
        assert_eq!(refused["code"], 12, "{method}: {refused}");
        let info = &refused["details"][0];
        assert_eq!(info["reason"], "CAPABILITY_MISSING", "{method}: {refused}");
        assert_eq!(info["metadata"]["capability"], capability, "{method}");
    }
}

fn the_end(grpcurl: &Grpcurl, daemon: &Daemon) {
    let b = pid(&grpcurl.call("GetProcess", &json!({"name": "b"})));
    assert!(lives(b));
    grpcurl.call("ShutdownServer", &json!({}));
    eventually("the socket is gone", || {
        (!daemon.socket().exists()).then_some(())
    });
    assert!(!lives(b));
}

#[test]
fn the_details_of_an_error_can_be_read() {
    for form in Form::ALL {
        let daemon = Daemon::start();
        if let Some(grpcurl) = Grpcurl::of(&daemon, form) {
            readable(&grpcurl);
        }
    }
}

fn readable(grpcurl: &Grpcurl) {
    let process = json!({"name": "-a", "spec": {"command": [], "nice": 99}});
    let refused = grpcurl.refused("CreateProcess", &json!({"process": process}));
    let details = refused["details"].as_array().unwrap();
    assert_eq!(details[0]["reason"], "FIELD_INVALID", "{refused}");
    assert_eq!(details[0]["domain"], "procession.v1");
    let fields: Vec<_> = details[1]["fieldViolations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|violation| violation["field"].as_str().unwrap())
        .collect();
    assert_eq!(fields, ["name", "spec.command", "spec.nice"]);
}
