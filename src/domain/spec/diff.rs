//! Which fields differ between two configurations, and which of them a live run
//! cannot take on.

use super::Config;

/// One changed field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Path as in a field mask, e.g. `spec.env`.
    pub path: &'static str,
    /// Whether a running process must be restarted for it to take effect.
    pub needs_restart: bool,
}

impl Config {
    /// The fields in which `new` differs from `self`, in the order of the contract.
    #[must_use]
    pub fn changes_to(&self, new: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut note = |differs: bool, path: &'static str, needs_restart: bool| {
            if differs {
                changes.push(Change {
                    path,
                    needs_restart,
                });
            }
        };
        let (a, b) = (self, new);
        note(a.labels != b.labels, "labels", false);
        note(a.annotations != b.annotations, "annotations", false);
        note(a.group != b.group, "group", false);
        note(a.command != b.command, "spec.command", true);
        note(a.env != b.env, "spec.env", true);
        note(a.clear_env != b.clear_env, "spec.clear_env", true);
        note(a.env_files != b.env_files, "spec.env_files", true);
        note(
            a.working_directory != b.working_directory,
            "spec.working_directory",
            true,
        );
        note(a.run_as != b.run_as, "spec.run_as", true);
        note(a.autostart != b.autostart, "spec.autostart", false);
        note(a.restart != b.restart, "spec.restart_policy", false);
        note(a.stop != b.stop, "spec.stop_policy", false);
        note(a.dependencies != b.dependencies, "spec.dependencies", false);
        note(
            a.stdio.merge_stderr != b.stdio.merge_stderr,
            "spec.stdio.merge_stderr",
            true,
        );
        note(a.stdio.tty != b.stdio.tty, "spec.stdio.tty", true);
        note(
            a.stdio.open_stdin != b.stdio.open_stdin,
            "spec.stdio.open_stdin",
            true,
        );
        note(
            a.stdio.stdin_file != b.stdio.stdin_file,
            "spec.stdio.stdin_file",
            true,
        );
        note(
            a.stdio.log_policy != b.stdio.log_policy,
            "spec.stdio.log_policy",
            false,
        );
        note(
            a.stdio.log_forwards != b.stdio.log_forwards,
            "spec.stdio.log_forwards",
            false,
        );
        // Live application by prlimit comes with the limits themselves.
        let limits = a.rlimits != b.rlimits || a.open_files_max != b.open_files_max;
        note(limits, "spec.resource_limits", true);
        note(a.umask != b.umask, "spec.umask", true);
        note(a.nice != b.nice, "spec.nice", true);
        note(
            a.oom_score_adj != b.oom_score_adj,
            "spec.oom_score_adj",
            true,
        );
        note(
            a.start_timeout != b.start_timeout,
            "spec.start_timeout",
            false,
        );
        note(a.exit_with != b.exit_with, "spec.exit_with", false);
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::{ForwardTarget, JournaldTarget, LogForward, LogPolicy};

    #[test]
    fn equal_configurations_have_no_changes() {
        assert_eq!(Config::default().changes_to(&Config::default()), []);
    }

    #[test]
    fn changes_tell_what_forces_a_restart() {
        let mut new = Config {
            nice: 5,
            autostart: true,
            ..Config::default()
        };
        new.stdio.log_policy = Some(LogPolicy::default());
        new.stdio.log_forwards = vec![LogForward {
            target: ForwardTarget::Journald(JournaldTarget::default()),
            streams: Vec::new(),
        }];
        let changes = Config::default().changes_to(&new);
        assert_eq!(
            changes,
            [
                Change {
                    path: "spec.autostart",
                    needs_restart: false
                },
                Change {
                    path: "spec.stdio.log_policy",
                    needs_restart: false
                },
                Change {
                    path: "spec.stdio.log_forwards",
                    needs_restart: false
                },
                Change {
                    path: "spec.nice",
                    needs_restart: true
                },
            ]
        );
    }
}
