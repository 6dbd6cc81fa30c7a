//! `apply` and `diff`: what a file leads to.

use std::path::PathBuf;

use procession::{
    cli::ExitCode,
    grpc::proto::{
        self, ApplyOutcome, BatchApplyProcessesRequest, BatchItemResult, ChangeAction, ChangePlan,
        RolloutMode, WaitCondition, WaitOutcome,
    },
};

use super::fake::{Fake, Setup, header};

const FILE: &str = "\
processes:
  web:
    command: [/bin/web, \"${PORT}\"]
  job:
    command: [/bin/job]
    autostart: false
";

struct File {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("procession.yaml");
        std::fs::write(&path, text).unwrap();
        Self {
            _directory: directory,
            path,
        }
    }

    fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }
}

fn setup() -> Setup {
    Setup {
        env: vec![("PORT", "8080".to_owned())],
        ..Setup::default()
    }
}

fn result(name: &str, outcome: ApplyOutcome, plan: ChangePlan) -> BatchItemResult {
    BatchItemResult {
        name: name.into(),
        outcome: outcome.into(),
        plan: Some(plan),
        ..Default::default()
    }
}

fn plan(action: ChangeAction, changed: &[&str], forcing: &[&str]) -> ChangePlan {
    let list = |paths: &[&str]| paths.iter().map(|&path| path.to_owned()).collect();
    ChangePlan {
        action: action.into(),
        changed_paths: list(changed),
        forcing_paths: list(forcing),
        deferred: false,
    }
}

fn answer(fake: &Fake, results: Vec<BatchItemResult>) {
    let response = proto::BatchApplyProcessesResponse {
        header: header(3),
        results,
    };
    fake.answer("batch_apply_processes", &response);
}

fn asked(fake: &Fake) -> BatchApplyProcessesRequest {
    fake.asked("batch_apply_processes").pop().unwrap()
}

#[test]
fn apply_sends_the_file_and_tells_each_outcome() {
    let (fake, file) = (Fake::start(), File::new(FILE));
    let deferred = ChangePlan {
        deferred: true,
        ..plan(ChangeAction::Restart, &["spec.command"], &["spec.command"])
    };
    answer(
        &fake,
        vec![
            result(
                "job",
                ApplyOutcome::Created,
                plan(ChangeAction::Create, &[], &[]),
            ),
            result("web", ApplyOutcome::Updated, deferred),
            result(
                "old",
                ApplyOutcome::Pruned,
                plan(ChangeAction::Delete, &[], &[]),
            ),
        ],
    );
    let ran = fake.run_in(&setup(), &["apply", file.path(), "--prune", "-l", "a=b"]);
    let expected = "\
job: created
web: updated (restart at the next start, because of spec.command)
old: deleted
";
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (ExitCode::Ok, expected),
        "{}",
        ran.stderr
    );
    let asked = asked(&fake);
    let names: Vec<&str> = asked
        .processes
        .iter()
        .map(|process| process.name.as_str())
        .collect();
    assert_eq!(names, ["job", "web"]);
    let web = asked.processes[1].spec.clone().unwrap();
    assert_eq!(
        web.command,
        ["/bin/web", "8080"],
        "variables are those of the caller"
    );
    assert_eq!(asked.prune_selector.unwrap().label_selector, "a=b");
    assert_eq!(asked.rollout, i32::from(RolloutMode::NextStart));
    assert!(!asked.validate_only && asked.wait.is_none());
}

#[test]
fn without_prune_nothing_is_deleted() {
    let (fake, file) = (Fake::start(), File::new(FILE));
    answer(&fake, vec![]);
    fake.run_in(&setup(), &["apply", file.path()]);
    assert_eq!(
        asked(&fake).prune_selector,
        None,
        "present and empty means all others"
    );
}

#[test]
fn a_dry_run_only_asks() {
    let (fake, file) = (Fake::start(), File::new(FILE));
    answer(
        &fake,
        vec![
            result("job", ApplyOutcome::Unchanged, ChangePlan::default()),
            result(
                "web",
                ApplyOutcome::Created,
                plan(ChangeAction::Create, &[], &[]),
            ),
        ],
    );
    let ran = fake.run_in(&setup(), &["apply", file.path(), "--dry-run"]);
    assert_eq!(ran.stdout, "job: unchanged\nweb: would be created\n");
    assert!(asked(&fake).validate_only);
}

#[test]
fn waiting_fails_for_what_is_meant_to_run_only() {
    let (fake, file) = (Fake::start(), File::new(FILE));
    let ended = |name| BatchItemResult {
        wait_outcome: WaitOutcome::Unsatisfiable.into(),
        ..result(name, ApplyOutcome::Created, ChangePlan::default())
    };
    answer(&fake, vec![ended("job"), ended("web")]);
    let ran = fake.run_in(
        &setup(),
        &["apply", file.path(), "--wait=ready", "--timeout", "9s"],
    );
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (ExitCode::Failed, "job: created\nweb: created\n")
    );
    assert!(
        ran.stderr.starts_with("error: web: what was waited for"),
        "{}",
        ran.stderr
    );
    let wait = asked(&fake).wait.unwrap();
    assert_eq!(
        (wait.condition(), wait.timeout.unwrap().seconds),
        (WaitCondition::Ready, 9)
    );
}

#[test]
fn diff_shows_what_forces_what_and_is_1_when_there_is_something() {
    let (fake, file) = (Fake::start(), File::new(FILE));
    let changed = ["spec.command", "spec.nice"];
    answer(
        &fake,
        vec![
            result(
                "job",
                ApplyOutcome::Created,
                plan(ChangeAction::Create, &[], &[]),
            ),
            result(
                "same",
                ApplyOutcome::Unchanged,
                plan(ChangeAction::None, &[], &[]),
            ),
            result(
                "web",
                ApplyOutcome::Updated,
                plan(ChangeAction::Restart, &changed, &changed[..1]),
            ),
            result(
                "live",
                ApplyOutcome::Updated,
                plan(ChangeAction::LiveUpdate, &["labels"], &[]),
            ),
            result(
                "old",
                ApplyOutcome::Pruned,
                plan(ChangeAction::Delete, &[], &[]),
            ),
        ],
    );
    let ran = fake.run_in(&setup(), &["diff", file.path(), "--prune"]);
    let expected = "\
+ job  create
~ web  restart  spec.command (forces it), spec.nice
~ live  update in place  labels
- old  delete
";
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (ExitCode::Failed, expected),
        "{}",
        ran.stderr
    );
    let asked = asked(&fake);
    assert!(asked.validate_only && asked.prune_selector.is_some());
    assert_eq!(asked.rollout, i32::from(RolloutMode::RestartIfNeeded));

    answer(
        &fake,
        vec![result(
            "same",
            ApplyOutcome::Unchanged,
            plan(ChangeAction::None, &[], &[]),
        )],
    );
    let ran = fake.run_in(&setup(), &["diff", file.path()]);
    assert_eq!((ran.code, ran.stdout.as_str()), (ExitCode::Ok, ""));
}

#[test]
fn every_problem_of_a_file_is_told_and_nothing_is_sent() {
    let fake = Fake::start();
    let file = File::new("processes:\n  web:\n    comand: [/bin/web]\n    nice: many\n");
    for verb in ["apply", "diff"] {
        let ran = fake.run_in(&setup(), &[verb, file.path()]);
        assert_eq!((ran.code, ran.stdout.as_str()), (ExitCode::Usage, ""));
        assert!(ran.stderr.lines().count() >= 2, "{}", ran.stderr);
        assert!(
            ran.stderr
                .lines()
                .all(|line| line.starts_with("error: ") && line.contains("procession.yaml:")),
            "{}",
            ran.stderr
        );
    }
    assert!(fake.methods().is_empty());
}
