//! Processes as `/proc` shows them: what they hold and what they did.

use std::fs;

/// In the environment of whatever a case starts, wherever it goes.
pub(crate) const MARK: &str = "SUPERVISION_BENCH";

/// What a process did so far; all its threads together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Activity {
    /// Times that a thread went to sleep of its own will.
    pub(crate) naps: u64,
    /// Seconds on a processor.
    pub(crate) cpu: f64,
}

/// `None` if it is gone.
pub(crate) fn activity(pid: i32) -> Option<Activity> {
    let mut sum = Activity::default();
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let task = task.ok()?.path();
        // In nanoseconds, where `stat` counts ticks of 10 ms.
        let text = fs::read_to_string(task.join("schedstat")).ok()?;
        let ran: f64 = text.split_ascii_whitespace().next()?.parse().ok()?;
        sum.cpu += ran / 1e9;
        sum.naps += field(task.join("status").to_str()?, "voluntary_ctxt_switches:")?;
    }
    Some(sum)
}

/// A field of `/proc/PID/status` in KiB: `VmRSS:`, `VmHWM:`.
pub(crate) fn status_kib(pid: i32, key: &str) -> Option<u64> {
    field(&format!("/proc/{pid}/status"), key)
}

/// Proportional share of memory, in KiB.
pub(crate) fn pss_kib(pid: i32) -> Option<u64> {
    field(&format!("/proc/{pid}/smaps_rollup"), "Pss:")
}

pub(crate) fn parent(pid: i32) -> Option<i32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = text.rsplit_once(')')?.1;
    fields.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Live processes whose environment has the mark with this value.
pub(crate) fn marked(value: &str) -> Vec<i32> {
    let wanted = format!("{MARK}={value}");
    let has_mark = |pid: i32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|byte| *byte == 0).any(|v| v == wanted.as_bytes()))
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| has_mark(*pid)).collect()
}

/// The first number after `key` in a file of keys and values.
fn field(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
