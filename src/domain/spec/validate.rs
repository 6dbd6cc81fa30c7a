//! What a configuration must satisfy by itself, before any other process is
//! looked at. All faults are reported at once.

use std::time::Duration;

use super::{Config, Identity, LogForward, LogPolicy, RestartPolicy, Rlimit, StopPolicy};
use crate::domain::{
    id::ProcessName,
    label,
    limits::{
        ANNOTATIONS_BYTES_MAX, BUDGET_RESTARTS_MAX, COMMAND_BYTES_MAX, COMMAND_WORDS_MAX,
        DEPENDENCIES_MAX, LABEL_CHARS_MAX, LABELS_MAX, LOG_SEGMENT_BYTES_MIN, LOG_SEGMENTS_MAX,
        POLICY_DURATION_MAX,
    },
};

/// One fault: which field, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// Path as in a field mask, e.g. `spec.command`.
    pub field: String,
    /// What is wrong and what is allowed.
    pub problem: String,
}

/// Names `setrlimit` knows on Linux.
const RLIMIT_NAMES: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

struct Faults(Vec<FieldError>);

impl Config {
    /// Checks everything that needs no other process.
    ///
    /// # Errors
    /// Every fault found, each naming its field.
    pub fn validate(&self, name: &ProcessName) -> Result<(), Vec<FieldError>> {
        let mut faults = Faults(Vec::new());
        faults.metadata(self);
        faults.command(self);
        faults.restart(&self.restart);
        faults.stop(&self.stop, "spec.stop_policy");
        faults.dependencies(self, name);
        faults.surroundings(self);
        if faults.0.is_empty() {
            Ok(())
        } else {
            Err(faults.0)
        }
    }
}

impl StopPolicy {
    /// Checks a policy that overrides the spec's for one stop.
    ///
    /// # Errors
    /// Every fault found, each naming its field below `prefix`.
    pub fn validate(&self, prefix: &str) -> Result<(), Vec<FieldError>> {
        let mut faults = Faults(Vec::new());
        faults.stop(self, prefix);
        if faults.0.is_empty() {
            Ok(())
        } else {
            Err(faults.0)
        }
    }
}

impl Faults {
    fn add(&mut self, field: impl Into<String>, problem: impl Into<String>) {
        self.0.push(FieldError {
            field: field.into(),
            problem: problem.into(),
        });
    }

    fn metadata(&mut self, config: &Config) {
        if config.labels.len() > LABELS_MAX {
            self.add(
                "labels",
                format!("{} pairs; at most {LABELS_MAX}", config.labels.len()),
            );
        }
        for (key, value) in &config.labels {
            if !label::is_key(key) {
                self.add(
                    format!("labels[{key}]"),
                    format!("key {key:?} must be [dns.prefix/]name with up to {LABEL_CHARS_MAX} of A-Z a-z 0-9 . _ - and a letter or digit at both ends"),
                );
            }
            if !label::is_value(value) {
                self.add(
                    format!("labels[{key}]"),
                    format!("value {value:?} must be empty or up to {LABEL_CHARS_MAX} of A-Z a-z 0-9 . _ - with a letter or digit at both ends"),
                );
            }
        }
        let bytes: usize = config
            .annotations
            .iter()
            .map(|(k, v)| k.len() + v.len())
            .sum();
        if bytes > ANNOTATIONS_BYTES_MAX {
            self.add(
                "annotations",
                format!("{bytes} bytes; at most {ANNOTATIONS_BYTES_MAX}"),
            );
        }
        if config.annotations.keys().any(String::is_empty) {
            self.add("annotations", "has an empty key; name it");
        }
    }

    fn command(&mut self, config: &Config) {
        match config.command.first() {
            None => self.add(
                "spec.command",
                "is required: give the program and its arguments",
            ),
            Some(program) if program.is_empty() => {
                self.add("spec.command[0]", "is empty; name a program");
            }
            Some(_) => {}
        }
        self.words("spec.command", config.command.iter().map(String::as_str));
        for key in config.env.keys() {
            if key.is_empty() || key.contains('=') {
                self.add(
                    "spec.env",
                    format!("name {key:?} must be non-empty without '='"),
                );
            }
        }
        let pairs = config
            .env
            .iter()
            .flat_map(|(k, v)| [k.as_str(), v.as_str()]);
        self.words("spec.env", pairs);
    }

    fn words<'a>(&mut self, field: &str, words: impl Iterator<Item = &'a str>) {
        let (mut count, mut bytes) = (0, 0);
        for word in words {
            count += 1;
            bytes += word.len() + 1;
            if word.contains('\0') {
                self.add(field, "contains a NUL byte, which no argument can hold");
                return;
            }
        }
        if count > COMMAND_WORDS_MAX * 2 || bytes > COMMAND_BYTES_MAX {
            self.add(
                field,
                format!("{count} words of {bytes} bytes; at most {COMMAND_BYTES_MAX} bytes"),
            );
        }
    }

    fn restart(&mut self, policy: &RestartPolicy) {
        let at = |name: &str| format!("spec.restart_policy.{name}");
        self.duration(&at("initial_backoff"), policy.initial_backoff);
        self.duration(&at("max_backoff"), policy.max_backoff);
        self.duration(&at("stable_after"), policy.stable_after);
        self.duration(&at("start_grace"), policy.start_grace);
        if let (Some(first), Some(last)) = (policy.initial_backoff, policy.max_backoff)
            && first > last
        {
            self.add(at("max_backoff"), "is below initial_backoff; raise it");
        }
        if policy.max_consecutive_failures < 0 {
            self.add(
                at("max_consecutive_failures"),
                "is negative; 0 means never give up",
            );
        }
        if policy
            .jitter_ratio
            .is_some_and(|r| !(0.0..=1.0).contains(&r))
        {
            self.add(at("jitter_ratio"), "must be from 0.0 to 1.0");
        }
        if let Some(budget) = &policy.budget {
            if !(0..=BUDGET_RESTARTS_MAX).contains(&budget.max_restarts) {
                self.add(
                    at("budget.max_restarts"),
                    format!("must be 0 to {BUDGET_RESTARTS_MAX}"),
                );
            }
            self.duration(&at("budget.window"), budget.window);
        }
        for (name, codes) in [
            ("success_exit_codes", &policy.success_exit_codes),
            ("no_restart_exit_codes", &policy.no_restart_exit_codes),
        ] {
            if codes.iter().any(|code| !(0..=255).contains(code)) {
                self.add(at(name), "exit codes are 0 to 255");
            }
        }
    }

    fn stop(&mut self, policy: &StopPolicy, prefix: &str) {
        self.duration(&format!("{prefix}.grace_period"), policy.grace_period);
        self.duration(&format!("{prefix}.kill_timeout"), policy.kill_timeout);
        if policy.signal.is_some_and(|s| !(1..=64).contains(&s)) {
            self.add(
                format!("{prefix}.signal"),
                "is no signal; use one of 1 to 64",
            );
        }
    }

    fn dependencies(&mut self, config: &Config, name: &ProcessName) {
        if config.dependencies.len() > DEPENDENCIES_MAX {
            self.add("spec.dependencies", format!("more than {DEPENDENCIES_MAX}"));
        }
        for (i, dependency) in config.dependencies.iter().enumerate() {
            let field = format!("spec.dependencies[{i}].name");
            if dependency.name == *name {
                self.add(&field, "a process cannot depend on itself; remove it");
            }
            if config.dependencies[..i]
                .iter()
                .any(|other| other.name == dependency.name)
            {
                self.add(
                    &field,
                    format!("{} is listed twice; keep one", dependency.name),
                );
            }
        }
    }

    fn surroundings(&mut self, config: &Config) {
        let absolute = [
            (
                "spec.working_directory",
                config.working_directory.iter().collect::<Vec<_>>(),
            ),
            (
                "spec.stdio.stdin_file",
                config.stdio.stdin_file.iter().collect(),
            ),
            ("spec.env_files", config.env_files.iter().collect()),
        ];
        for (field, paths) in absolute {
            for path in paths {
                if !path.starts_with('/') || path.contains('\0') {
                    self.add(field, format!("{path:?} must be an absolute path"));
                }
            }
        }
        if config.stdio.tty && config.stdio.stdin_file.is_some() {
            self.add("spec.stdio.tty", "excludes stdin_file; keep one of them");
        }
        if config.stdio.open_stdin && config.stdio.stdin_file.is_some() {
            self.add(
                "spec.stdio.open_stdin",
                "excludes stdin_file; keep one of them",
            );
        }
        if let Some(Identity { user, .. }) = &config.run_as
            && user.is_empty()
        {
            self.add(
                "spec.run_as.user",
                "is required: a user name or a decimal uid",
            );
        }
        for (i, limit) in config.rlimits.iter().enumerate() {
            self.rlimit(&format!("spec.resource_limits.rlimits[{i}]"), limit);
        }
        if config.open_files_max < 0 {
            self.add(
                "spec.resource_limits.open_files_max",
                "is negative; 0 means no limit",
            );
        }
        if let Some(policy) = &config.stdio.log_policy {
            self.log_policy(policy);
        }
        self.0.extend(LogForward::check(&config.stdio.log_forwards));
        if config.umask.is_some_and(|mask| mask > 0o777) {
            self.add("spec.umask", "must be octal text up to \"777\"");
        }
        if !(-20..=19).contains(&config.nice) {
            self.add("spec.nice", "must be -20 to 19");
        }
        if config
            .oom_score_adj
            .is_some_and(|v| !(-1000..=1000).contains(&v))
        {
            self.add("spec.oom_score_adj", "must be -1000 to 1000");
        }
        self.duration("spec.start_timeout", config.start_timeout);
    }

    fn log_policy(&mut self, policy: &LogPolicy) {
        let at = |name: &str| format!("spec.stdio.log_policy.{name}");
        if policy.max_bytes < 0 {
            self.add(at("max_bytes"), "is negative; 0 means the default");
            return; // the other limits are measured by it
        }
        // Less is kept as if it were this much.
        let max = policy.max_bytes().max(LOG_SEGMENT_BYTES_MIN);
        let min = LOG_SEGMENT_BYTES_MIN.max(max / LOG_SEGMENTS_MAX);
        match u64::try_from(policy.segment_bytes) {
            Ok(0) => {}
            Ok(bytes) if (min..=max).contains(&bytes) => {}
            _ => self.add(
                at("segment_bytes"),
                format!("must be {min} to {max} (max_bytes), or 0: an eighth of max_bytes"),
            ),
        }
        if policy.max_segments < 0 {
            self.add(at("max_segments"), "is negative; 0 means no limit by count");
        }
        self.duration(&at("max_age"), policy.max_age);
    }

    fn rlimit(&mut self, field: &str, limit: &Rlimit) {
        if !RLIMIT_NAMES.contains(&limit.name.as_str()) {
            self.add(
                format!("{field}.name"),
                format!(
                    "{:?} is unknown; use one of {}",
                    limit.name,
                    RLIMIT_NAMES.join(", ")
                ),
            );
        }
        // -1 is "unlimited", which is above every number.
        let order = |v: i64| if v == -1 { i64::MAX } else { v };
        let hard = limit.hard.unwrap_or(limit.soft);
        if limit.soft < -1 || hard < -1 || order(limit.soft) > order(hard) {
            self.add(
                field,
                "soft and hard are -1 (unlimited) or more, and soft is not above hard",
            );
        }
    }

    fn duration(&mut self, field: &str, value: Option<Duration>) {
        if value.is_some_and(|v| v > POLICY_DURATION_MAX) {
            self.add(field, "is above 366 days");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::{Dependency, RestartBudget};

    fn valid() -> Config {
        Config {
            command: vec!["sleep".into(), "1".into()],
            ..Config::default()
        }
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "a table")]
    fn every_fault_names_its_field() {
        type Break = fn(&mut Config);
        let name = ProcessName::new("web").unwrap();
        let table: [(&str, Break); 21] = [
            ("spec.command", |c| c.command.clear()),
            ("spec.command[0]", |c| c.command[0].clear()),
            ("spec.command", |c| c.command.push("a\0".into())),
            ("spec.command", |c| {
                c.command.push("x".repeat(COMMAND_BYTES_MAX))
            }),
            ("spec.env", |c| {
                drop(c.env.insert("A=B".into(), String::new()))
            }),
            ("labels[-x]", |c| {
                drop(c.labels.insert("-x".into(), String::new()))
            }),
            ("labels[x]", |c| {
                drop(c.labels.insert("x".into(), "a b".into()))
            }),
            ("annotations", |c| {
                drop(c.annotations.insert("k".into(), "x".repeat(16 * 1024)))
            }),
            ("spec.working_directory", |c| {
                c.working_directory = Some("here".into())
            }),
            ("spec.stdio.stdin_file", |c| {
                c.stdio.stdin_file = Some("in".into())
            }),
            ("spec.stdio.tty", |c| {
                c.stdio.tty = true;
                c.stdio.stdin_file = Some("/in".into());
            }),
            ("spec.stdio.open_stdin", |c| {
                c.stdio.open_stdin = true;
                c.stdio.stdin_file = Some("/in".into());
            }),
            ("spec.run_as.user", |c| c.run_as = Some(Identity::default())),
            ("spec.nice", |c| c.nice = 20),
            ("spec.umask", |c| c.umask = Some(0o1777)),
            ("spec.oom_score_adj", |c| c.oom_score_adj = Some(1001)),
            ("spec.restart_policy.jitter_ratio", |c| {
                c.restart.jitter_ratio = Some(f64::NAN)
            }),
            ("spec.restart_policy.success_exit_codes", |c| {
                c.restart.success_exit_codes = vec![256]
            }),
            ("spec.restart_policy.budget.max_restarts", |c| {
                c.restart.budget = Some(RestartBudget {
                    max_restarts: -1,
                    window: None,
                });
            }),
            ("spec.resource_limits.rlimits[0].name", |c| {
                c.rlimits.push(Rlimit {
                    name: "files".into(),
                    soft: 1,
                    hard: None,
                });
            }),
            ("spec.dependencies[0].name", |c| {
                let name = ProcessName::new("web").unwrap();
                c.dependencies.push(Dependency {
                    name,
                    condition: None,
                    restart_with: false,
                    optional: false,
                });
            }),
        ];
        assert_eq!(valid().validate(&name), Ok(()));
        for (field, break_it) in table {
            let mut config = valid();
            break_it(&mut config);
            let faults = config.validate(&name).unwrap_err();
            assert_eq!(
                faults.iter().map(|f| &*f.field).collect::<Vec<_>>(),
                [field],
                "{faults:?}"
            );
        }
    }

    #[test]
    fn limits_of_the_log_fit_together() {
        const KIB: i64 = 1024;
        let name = ProcessName::new("web").unwrap();
        let age = Duration::from_secs;
        let fault = |max_bytes, segment_bytes, max_segments, max_age| {
            let mut config = valid();
            config.stdio.log_policy = Some(LogPolicy {
                max_bytes,
                segment_bytes,
                max_segments,
                max_age: Some(max_age),
                drop_when_full: None,
            });
            let faults = config.validate(&name).err().unwrap_or_default();
            faults.first().map(|fault| fault.to_string())
        };
        for (max_bytes, segment_bytes, max_segments, max_age) in [
            (0, 0, 0, age(0)),
            (0, 64 * KIB, i32::MAX, POLICY_DURATION_MAX),
            (0, 64 * KIB * KIB, 1, age(1)),
            (KIB, KIB, 1, age(1)),
            (1, KIB, 0, age(0)),
            (i64::MAX, i64::MAX, 0, age(0)),
        ] {
            assert_eq!(fault(max_bytes, segment_bytes, max_segments, max_age), None);
        }
        let prefix = "spec.stdio.log_policy.";
        let segment = "segment_bytes: must be 65536 to 67108864 (max_bytes), or 0";
        for (max_bytes, segment_bytes, max_segments, max_age, wanted) in [
            (-1, 0, 0, age(0), "max_bytes: is negative"),
            (0, -1, 0, age(0), segment),
            (0, 64 * KIB - 1, 0, age(0), segment),
            (0, 64 * KIB * KIB + 1, 0, age(0), segment),
            (
                KIB,
                KIB - 1,
                0,
                age(0),
                "segment_bytes: must be 1024 to 1024",
            ),
            (0, 0, -1, age(0), "max_segments: is negative"),
            (0, 0, 0, POLICY_DURATION_MAX + age(1), "max_age: is above"),
        ] {
            let told = fault(max_bytes, segment_bytes, max_segments, max_age).unwrap();
            assert!(told.starts_with(&format!("{prefix}{wanted}")), "{told}");
        }
    }

    #[test]
    fn faults_are_reported_together() {
        let config = Config {
            nice: 99,
            umask: Some(0o7777),
            ..Config::default()
        };
        let name = ProcessName::new("web").unwrap();
        assert_eq!(config.validate(&name).unwrap_err().len(), 3);
    }
}
