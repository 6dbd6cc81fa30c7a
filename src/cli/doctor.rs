//! `doctor`: examines what a daemon keeps, without one and without changing it.
//!
//! Each finding says what is, what it means and what to do. Only what needs
//! somebody to act makes the exit code 1. While a daemon runs, what it is in the
//! midst of (runs that begin and end) is not judged.

mod examined;
mod export;

use std::path::Path;

use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    CliError, Console, ExitCode,
    args::{DoctorArgs, GlobalArgs, OutputFormat},
    paths,
    render::{Output, style::Palette, text},
};
use crate::{
    daemon,
    grpc::{
        convert::{durable::ProtoCodec, process},
        proto,
    },
    store::{
        Options, Recovered, Stored,
        inspect::{InspectError, Inspection, inspect},
    },
};
use examined::Run;

/// Free bytes below which the disk needs somebody.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// Findings of one kind that are told one by one.
const TOLD_MAX: usize = 20;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    /// Good to know.
    Note,
    /// May become a problem, or is left over from one.
    Warning,
    /// Somebody has to act.
    Problem,
}

#[derive(Debug, Serialize)]
struct Finding {
    severity: Severity,
    what: String,
    meaning: String,
    remedy: String,
}

/// What was found in one state directory.
#[derive(Debug, Default, Serialize)]
struct Report {
    healthy: bool,
    /// By name, in the order of telling.
    #[serde(serialize_with = "as_object")]
    facts: Vec<(&'static str, Value)>,
    findings: Vec<Finding>,
}

pub(crate) fn doctor(
    args: &DoctorArgs,
    global: &GlobalArgs,
    console: &mut Console<'_>,
) -> Result<ExitCode, CliError> {
    let dir = args.state_dir.clone();
    let dir = dir.unwrap_or_else(|| paths::default_state_dir(console.here));
    if !dir.is_dir() {
        return Err(CliError::Refused(format!(
            "there is no state directory {}; name it with --state-dir",
            dir.display()
        )));
    }
    let mut report = Report::default();
    report.fact("state_directory", dir.display().to_string());
    let is_free = report.used_by(&dir);
    report.space(&dir);
    let inspected = inspect(&dir, &ProtoCodec, &Options::default());
    report.store(&inspected);
    let content = inspected.as_ref().ok().map(|found| &found.content);
    report.runs(&dir, content, is_free);
    report.logs(&dir, content);
    let urgent = |finding: &Finding| finding.severity == Severity::Problem;
    report.healthy = !report.findings.iter().any(urgent);
    if let (Some(file), Ok(inspection)) = (&args.export, &inspected) {
        let processes = inspection.content.processes.iter();
        export::export(processes.map(message), file)?;
        report.fact("exported_to", file.display().to_string());
    }
    let palette = Palette::choose(console.stdout_is_terminal, console.here);
    let format = global.output;
    let terminal = console.stdout_is_terminal;
    let out = &mut Output::new(console.stdout, format, terminal, palette, console.now);
    report.print(format, out)?;
    if args.export.is_some() && inspected.is_err() {
        return Err(CliError::Refused("there is nothing to export".into()));
    }
    Ok(match report.healthy {
        true => ExitCode::Ok,
        false => ExitCode::Failed,
    })
}

/// A configuration as a message.
fn message(stored: &Stored) -> proto::Process {
    proto::Process {
        name: stored.spec.name.to_string(),
        ..process::configured(stored.uid, &stored.spec)
    }
}

/// Whether the store knows this uid, as a live process or a tombstone.
fn knows(content: &Recovered, uid: &str) -> bool {
    let mut all = content.processes.iter().chain(&content.tombstones);
    all.any(|stored| stored.uid.to_string() == uid)
}

// === impl Report ===

impl Report {
    fn fact(&mut self, name: &'static str, value: impl Into<Value>) {
        self.facts.push((name, value.into()));
    }

    fn find(&mut self, severity: Severity, [what, meaning, remedy]: [String; 3]) {
        self.findings.push(Finding {
            severity,
            what,
            meaning,
            remedy,
        });
    }

    /// One finding per line of `lines`, but not endlessly.
    fn find_each(&mut self, severity: Severity, lines: Vec<String>, meaning: &str, remedy: &str) {
        let more = lines.len().saturating_sub(TOLD_MAX);
        for line in lines.into_iter().take(TOLD_MAX) {
            self.find(severity, [line, meaning.to_owned(), remedy.to_owned()]);
        }
        if more > 0 {
            let line = format!("{more} more like these");
            self.find(severity, [line, meaning.to_owned(), remedy.to_owned()]);
        }
    }

    /// Whether a daemon certainly does not use the directory.
    fn used_by(&mut self, dir: &Path) -> bool {
        let holder = daemon::holder(dir);
        match &holder {
            Ok(None) => self.fact("used_by", "nobody"),
            Ok(Some(holder)) => self.fact("used_by", format!("daemon ({holder})")),
            Err(error) => self.find(
                Severity::Problem,
                [
                    format!("whether a daemon runs cannot be told: {error}"),
                    "a daemon would not start either".into(),
                    "run this as the user of the daemon, or repair the directory".into(),
                ],
            ),
        }
        matches!(holder, Ok(None))
    }

    fn space(&mut self, dir: &Path) {
        match examined::free_bytes(dir) {
            Ok(free) => {
                self.fact("free_bytes", free);
                if free < FREE_BYTES_MIN {
                    self.find(
                        Severity::Problem,
                        [
                            format!("only {free} bytes are free on the disk"),
                            "intents will be refused and output will block".into(),
                            "free space on the file system of the state directory".into(),
                        ],
                    );
                }
            }
            Err(error) => self.find(
                Severity::Warning,
                [
                    format!("the free space cannot be told: {error}"),
                    "a full disk would come as a surprise".into(),
                    "look at it with df".into(),
                ],
            ),
        }
        if let Some(mode) = examined::open_to_others(dir) {
            self.find(
                Severity::Problem,
                [
                    format!("others can enter the directory (mode {mode:04o})"),
                    "configurations with their environment may be read by others".into(),
                    format!("chmod 0700 {}", dir.display()),
                ],
            );
        }
    }

    fn store(&mut self, inspected: &Result<Inspection, InspectError>) {
        let inspection = match inspected {
            Ok(inspection) => inspection,
            Err(InspectError::Missing(_)) => {
                return self.find(
                    Severity::Note,
                    [
                        "there is no store".into(),
                        "no daemon has kept anything here yet".into(),
                        "nothing, unless this is the wrong directory".into(),
                    ],
                );
            }
            Err(error) => {
                return self.find(
                    Severity::Problem,
                    [
                        error.to_string(),
                        "the daemon does not start with it".into(),
                        "put back a copy of it; or move store.db and store.db-wal away, start \
                         the daemon, and apply the configurations again"
                            .into(),
                    ],
                );
            }
        };
        self.content(inspection);
        if let Some(broken) = &inspection.content.log_break {
            self.find(
                Severity::Warning,
                [
                    format!("{}: {}", broken.place, broken.problem),
                    "what was recorded last is gone: after a power cut only states that were \
                     not synced, otherwise acknowledged calls too"
                        .into(),
                    "compare what `procession ps` shows with what you last asked for".into(),
                ],
            );
        }
        let damage = inspection.problems.iter().chain(&inspection.content.damage);
        let damage = damage.map(|damage| format!("{}: {}", damage.place, damage.problem));
        self.find_each(
            Severity::Problem,
            damage.collect(),
            "part of the store is damaged: the daemon reads what it can, and records nothing",
            "`procession doctor --export FILE` rescues what can be read; end the daemon, move \
             store.db and store.db-wal away, start it, and `procession apply FILE`",
        );
    }

    fn content(&mut self, inspection: &Inspection) {
        let content = &inspection.content;
        self.fact("schema_version", inspection.version);
        self.fact("database_bytes", inspection.database_bytes);
        self.fact("log_of_database_bytes", inspection.log_bytes);
        self.fact("processes", content.processes.len());
        self.fact("tombstones", content.tombstones.len());
        self.fact("request_ids", content.requests.len());
        self.fact("daemon_runs_remembered", content.lineage.len());
        self.fact("durable_revision", content.durable_revision.get());
        self.fact("ended_cleanly", content.clean);
    }

    /// Run directories and processes that do not know of each other.
    fn runs(&mut self, dir: &Path, content: Option<&Recovered>, is_free: bool) {
        let (runs, strange) = examined::runs(dir);
        self.fact("run_directories", runs.len());
        self.find_each(
            Severity::Warning,
            strange,
            "nobody of procession made it",
            "look at it, and remove it if it is not yours",
        );
        // A daemon at work is in the midst of beginning and ending runs.
        let Some(content) = content.filter(|_| is_free) else {
            return;
        };
        let orphans = runs.iter().filter(|run| !knows(content, &run.uid));
        self.find_each(
            Severity::Warning,
            orphans
                .map(|run| format!("{run} is of no stored process"))
                .collect(),
            "the next daemon ends what it still runs, unless the store has lost something",
            "if it must run on, copy what it needs before a daemon starts here",
        );
        let processes = content.processes.iter();
        self.find_each(
            Severity::Warning,
            processes.filter_map(|stored| lost(stored, &runs)).collect(),
            "how that run ended cannot be proven: the daemon will say UNKNOWN, LOST",
            "look at what it did; `procession start NAME` starts it again",
        );
    }

    fn logs(&mut self, dir: &Path, content: Option<&Recovered>) {
        let (bytes, uids) = examined::logs(dir);
        self.fact("output_bytes", bytes);
        let Some(content) = content else {
            return;
        };
        let orphans = uids.iter().filter(|uid| !knows(content, uid));
        self.find_each(
            Severity::Note,
            orphans.map(|uid| format!("logs/{uid}")).collect(),
            "output of a process that is gone",
            "remove it when nobody needs it any more",
        );
    }

    fn print(&self, format: OutputFormat, out: &mut Output<'_>) -> Result<(), CliError> {
        if format == OutputFormat::Json {
            let json = match out.is_terminal() {
                true => serde_json::to_string_pretty(self),
                false => serde_json::to_string(self),
            };
            return out.line(&json.map_err(|error| CliError::Json(error.to_string()))?);
        }
        let facts: Vec<(String, String)> = self.facts.iter().map(label).collect();
        out.fields(&facts)?;
        for finding in &self.findings {
            let severity = match finding.severity {
                Severity::Note => "note",
                Severity::Warning => "warning",
                Severity::Problem => "PROBLEM",
            };
            out.line(&format!("\n{severity}: {}", text::line(&finding.what)))?;
            out.line(&format!("  means: {}", text::line(&finding.meaning)))?;
            out.line(&format!("  do:    {}", text::line(&finding.remedy)))?;
        }
        out.line(match self.healthy {
            true => "\nNo problems found.",
            false => "\nThere are problems.",
        })
    }
}

/// A process whose latest recorded state has a live run without a directory.
fn lost(stored: &Stored, runs: &[Run]) -> Option<String> {
    let status = &stored.observed.as_ref()?.status;
    let uid = stored.uid.to_string();
    let there = runs
        .iter()
        .any(|run| run.uid == uid && run.run_id == status.run_id);
    let name = &stored.spec.name;
    (status.state.is_alive() && !there)
        .then(|| format!("run {} of {name} has no directory", status.run_id))
}

fn as_object<S: Serializer>(
    facts: &[(&'static str, Value)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(facts.iter().map(|(name, value)| (name, value)))
}

/// A fact as people read it.
fn label((name, value): &(&'static str, Value)) -> (String, String) {
    let mut words = name.replace('_', " ");
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    let value = match value {
        Value::String(value) => text::line(value),
        Value::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
        value => value.to_string(),
    };
    (words, value)
}
