//! Processes as table rows, and one process as a list of fields.

use std::{collections::HashMap, time::SystemTime};

use super::{
    style,
    table::{Cell, Table},
    text, time,
};
use crate::grpc::proto::{
    self, ConditionStatus, DesiredState, Process, ProcessPhase, ProcessState, ProcessStatus,
    Readiness, exit_status::Outcome,
};

const COLUMNS: &[&str] = &["NAME", "STATE", "READY", "PID", "RESTARTS", "AGE"];
const WIDE_COLUMNS: &[&str] = &[
    "NAME",
    "STATE",
    "READY",
    "PID",
    "RESTARTS",
    "AGE",
    "RUN",
    "GROUP",
    "LABELS",
    "LAST-EXIT",
    "MESSAGE",
    "COMMAND",
];

/// A table of `processes` in the order given.
pub(crate) fn table<'p>(
    processes: impl IntoIterator<Item = &'p Process>,
    wide: bool,
    now: SystemTime,
) -> Table {
    let mut table = Table::new(if wide { WIDE_COLUMNS } else { COLUMNS });
    for process in processes {
        let mut row = narrow_row(process, now);
        if wide {
            row.extend(wide_cells(process));
        }
        table.row(row);
    }
    table
}

/// The state of `process`; [`ProcessState::Unspecified`] for one from the future.
pub(crate) fn state(process: &Process) -> ProcessState {
    process
        .status
        .as_ref()
        .map_or(ProcessState::Unspecified, ProcessStatus::state)
}

/// As the API names it, without the prefix: `RUNNING`.
pub(crate) fn state_name(state: ProcessState) -> &'static str {
    short(state.as_str_name(), "PROCESS_STATE_")
}

/// Whether the main process is up and not on its way down.
pub(crate) fn is_running(process: &Process) -> bool {
    process.status.as_ref().is_some_and(|status| {
        status.phase() == ProcessPhase::Running && status.state() != ProcessState::Stopping
    })
}

/// `exit 1`, `signal 9`, ...
pub(crate) fn exit(exit: &proto::ExitStatus) -> String {
    let mut words = match &exit.outcome {
        Some(Outcome::ExitCode(code)) => format!("exit {code}"),
        Some(Outcome::SignalNumber(number)) => format!("signal {number}"),
        Some(Outcome::SpawnError(error)) => format!("never ran: {}", text::line(error)),
        Some(Outcome::UnknownReason(reason)) => format!("unknown: {}", text::line(reason)),
        None => "unknown".to_owned(),
    };
    if exit.oom_killed {
        words.push_str(", out of memory");
    }
    if exit.core_dumped {
        words.push_str(", core dumped");
    }
    words
}

/// `RUNNING`, `STOPPED`, `DELETED`.
pub(crate) fn desired_name(desired: DesiredState) -> &'static str {
    short(desired.as_str_name(), "DESIRED_STATE_")
}

/// `reason: message`, whichever of them there is.
pub(crate) fn because(status: &ProcessStatus) -> String {
    match (status.reason.is_empty(), status.message.is_empty()) {
        (true, true) => String::new(),
        (false, true) => text::line(&status.reason),
        (true, false) => text::line(&status.message),
        (false, false) => text::line(&format!("{}: {}", status.reason, status.message)),
    }
}

/// `key=value` pairs in order.
pub(crate) fn labels(labels: &HashMap<String, String>) -> String {
    let mut pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.sort();
    text::line(&pairs.join(","))
}

/// One process, all that people ask for; the JSON form has the rest.
pub(crate) fn describe(process: &Process, now: SystemTime) -> Vec<(String, String)> {
    let mut fields = Fields::default();
    let status = process.status.clone().unwrap_or_default();
    fields.add("Name", text::line(&process.name));
    fields.add("Group", text::line(&process.group));
    fields.add("Labels", labels(&process.labels));
    describe_state(&status, now, &mut fields);
    if let Some(spec) = &process.spec {
        fields.add("Command", command(spec));
        fields.add("Directory", text::line(&spec.working_directory));
        let mut names: Vec<&str> = spec.env.keys().map(String::as_str).collect();
        names.sort_unstable();
        fields.add("Environment", text::line(&names.join(" ")));
        let needs: Vec<&str> = spec
            .dependencies
            .iter()
            .map(|needs| needs.name.as_str())
            .collect();
        fields.add("Depends on", text::line(&needs.join(" ")));
    }
    for condition in &status.conditions {
        fields.add(
            &format!("Condition {}", text::line(&condition.r#type)),
            describe_condition(condition),
        );
    }
    for ended in &status.exit_history {
        let when = ended
            .exit_time
            .as_ref()
            .map(time::instant)
            .unwrap_or_default();
        fields.add(
            &format!("Run {}", ended.run_id),
            format!("{} {when}", exit(ended)),
        );
    }
    fields.add(
        "Configuration",
        format!(
            "generation {}, version {}",
            process.generation, process.version
        ),
    );
    fields.add("Uid", text::line(&process.uid));
    fields.0
}

#[derive(Default)]
struct Fields(Vec<(String, String)>);

// === impl Fields ===

impl Fields {
    /// Adds a field unless it has no value.
    fn add(&mut self, label: &str, value: String) {
        if !value.trim().is_empty() {
            self.0.push((label.to_owned(), value));
        }
    }
}

fn describe_state(status: &ProcessStatus, now: SystemTime, fields: &mut Fields) {
    let stage = match status.stage.as_str() {
        "" => String::new(),
        stage => format!(" ({})", text::line(stage)),
    };
    fields.add("State", format!("{}{stage}", state_name(status.state())));
    fields.add("Wanted", desired_name(status.desired_state()).to_owned());
    fields.add("Because", because(status));
    fields.add("Ready", ready(status).to_owned());
    fields.add("Age", age(status, now));
    fields.add("Pid", number(i64::from(status.pid)));
    fields.add("Run", number(status.run_id));
    fields.add("Restarts", status.restart_count.to_string());
    fields.add(
        "Last exit",
        status.last_exit.as_ref().map(exit).unwrap_or_default(),
    );
    if let Some(next) = &status.next_start_time {
        let wait = time::age(time::until(next, now));
        fields.add("Next start", format!("{} (in {wait})", time::instant(next)));
    }
    fields.add("Waiting on", text::line(&status.waiting_on.join(" ")));
    fields.add("Says", text::line(&status.notify_status));
    let survivors: Vec<String> = status.surviving_pids.iter().map(i32::to_string).collect();
    fields.add("Survivors", survivors.join(" "));
}

pub(crate) fn describe_condition(condition: &proto::Condition) -> String {
    let value = match condition.status() {
        ConditionStatus::True => "true",
        ConditionStatus::False => "false",
        ConditionStatus::Unknown | ConditionStatus::Unspecified => "unknown",
    };
    let detail = [condition.reason.as_str(), condition.message.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(": ");
    match detail.is_empty() {
        true => value.to_owned(),
        false => format!("{value} ({})", text::line(&detail)),
    }
}

fn narrow_row(process: &Process, now: SystemTime) -> Vec<Cell> {
    let default = ProcessStatus::default();
    let status = process.status.as_ref().unwrap_or(&default);
    let state = status.state();
    vec![
        text::line(&process.name).into(),
        Cell::styled(state_name(state), style::state(state)),
        ready(status).into(),
        number(i64::from(status.pid)).into(),
        status.restart_count.to_string().into(),
        age(status, now).into(),
    ]
}

fn wide_cells(process: &Process) -> Vec<Cell> {
    let default = ProcessStatus::default();
    let status = process.status.as_ref().unwrap_or(&default);
    vec![
        number(status.run_id).into(),
        or_dash(text::line(&process.group)).into(),
        or_dash(labels(&process.labels)).into(),
        or_dash(status.last_exit.as_ref().map(exit).unwrap_or_default()).into(),
        or_dash(because(status)).into(),
        or_dash(process.spec.as_ref().map(command).unwrap_or_default()).into(),
    ]
}

fn ready(status: &ProcessStatus) -> &'static str {
    match status.readiness() {
        Readiness::Ready => "yes",
        Readiness::NotReady => "no",
        Readiness::Unspecified => "-",
    }
}

/// Since the start of the run that is up, else since the state was entered.
fn age(status: &ProcessStatus, now: SystemTime) -> String {
    let since = match status.phase() {
        ProcessPhase::Running => status.start_time.as_ref().or(status.state_time.as_ref()),
        _ => status.state_time.as_ref(),
    };
    since.map_or_else(|| "-".to_owned(), |then| time::age(time::since(then, now)))
}

/// argv as a shell would take it.
fn command(spec: &proto::ProcessSpec) -> String {
    let words: Vec<&str> = spec.command.iter().map(String::as_str).collect();
    text::line(&shlex::try_join(words.iter().copied()).unwrap_or_else(|_| words.join(" ")))
}

fn number(value: i64) -> String {
    match value {
        0 => "-".to_owned(),
        value => value.to_string(),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

/// An enum value without the prefix of its type.
pub(crate) fn short(name: &'static str, prefix: &str) -> &'static str {
    match name.strip_prefix(prefix) {
        Some("UNSPECIFIED") | None => "-",
        Some(short) => short,
    }
}

/// Whether the user wants it to run.
pub(crate) fn is_wanted(process: &Process) -> bool {
    process
        .status
        .as_ref()
        .is_some_and(|status| status.desired_state() == DesiredState::Running)
}

#[cfg(test)]
mod tests;
