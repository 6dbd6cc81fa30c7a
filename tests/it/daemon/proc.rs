//! Processes as `/proc` shows them: the truth that a daemon is held to.

use std::{collections::BTreeSet, fs};

use super::support::eventually;

/// In the environment of whatever a test starts, wherever it goes.
pub(crate) const MARK: &str = "TEST_MARK";

/// A process, alive or a zombie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    pub(crate) name: String,
    pub(crate) zombie: bool,
}

/// What a process did so far; equal numbers mean that it slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Activity {
    /// Times that one of its threads went to sleep.
    pub(crate) naps: u64,
    /// Clock ticks of CPU time.
    pub(crate) ticks: u64,
}

fn seen(pid: i32) -> Option<Seen> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    let mut fields = tail.split_ascii_whitespace();
    Some(Seen {
        pid,
        zombie: matches!(fields.next()?, "Z" | "X"),
        parent: fields.next()?.parse().ok()?,
        name: head.split_once('(')?.1.to_owned(),
    })
}

fn all() -> Vec<Seen> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(seen)
        .collect()
}

/// Everything that descends from `root`, zombies included.
pub(crate) fn below(root: i32) -> Vec<Seen> {
    let all = all();
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        let children = all.iter().filter(|p| family.contains(&p.parent));
        let children: Vec<i32> = children.map(|p| p.pid).collect();
        family.extend(children);
        if family.len() == before {
            break;
        }
    }
    family.remove(&root);
    all.into_iter()
        .filter(|p| family.contains(&p.pid))
        .collect()
}

/// Waits until nothing descends from `root`: a shim ends a moment after it has
/// told that its run is empty.
pub(crate) fn nothing_below(root: i32) {
    eventually("nothing is below the daemon", || {
        below(root).is_empty().then_some(())
    });
}

/// Live processes whose environment has the mark with this value.
pub(crate) fn marked(value: &str) -> Vec<i32> {
    let wanted = format!("{MARK}={value}");
    let has_mark = |pid: i32| {
        fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|env| env.split(|byte| *byte == 0).any(|v| v == wanted.as_bytes()))
    };
    all()
        .into_iter()
        .filter(|p| !p.zombie && has_mark(p.pid))
        .map(|p| p.pid)
        .collect()
}

pub(crate) fn alive(pid: i32) -> bool {
    seen(pid).is_some_and(|process| !process.zombie)
}

/// What its descriptors lead to.
pub(crate) fn descriptors(pid: i32) -> Vec<String> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .collect()
}

pub(crate) fn threads(pid: i32) -> Vec<String> {
    fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

/// Memory it holds now, in KiB.
pub(crate) fn rss(pid: i32) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmRSS:").unwrap()
}

/// `None` if it is gone.
pub(crate) fn activity(pid: i32) -> Option<Activity> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    let naps = tasks
        .filter_map(|task| {
            let status = task.ok()?.path().join("status");
            field(status.to_str()?, "voluntary_ctxt_switches:")
        })
        .sum();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Activity {
        naps,
        ticks: ticks(11)? + ticks(12)?,
    })
}

/// The first number after `key` in a file of keys and values.
fn field(path: &str, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}
