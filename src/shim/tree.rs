//! Who descends from whom, read from `/proc`.
//!
//! What is read is old when it is read: callers repeat until nothing is left and
//! take a proof of emptiness from `waitid` only. Deliberately absent: cgroups.

use std::{fs, io, time::Duration};

use super::pidfd;

/// One process as `/proc/<pid>/stat` tells of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: i32,
    pub(crate) zombie: bool,
    /// Stopped, or in the kernel without interruption: with SIGSTOP pending it
    /// runs no more. So waits who has called vfork for a child that is stopped.
    pub(crate) stands: bool,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// In clock ticks since boot; with the pid, an identity.
    pub(crate) start_ticks: u64,
}

/// What `/proc/<pid>/stat` tells of the end of a zombie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) zombie: bool,
    pub(crate) start_ticks: u64,
    /// As wait4 has it; 0 for who may not be told.
    pub(crate) wait_status: i32,
    /// Of it and of what it waited for.
    pub(crate) cpu_time: Duration,
}

/// What process `pid` used, and how it ended if it is a zombie.
pub(crate) fn usage(pid: i32) -> Option<Usage> {
    parse_usage(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The process with this pid, zombies included.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// All processes there are.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .collect()
}

/// Children of `pid`, zombies included.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    children_by_task(pid).unwrap_or_else(|_| {
        let mut found = all();
        found.retain(|process| process.parent == pid);
        found.iter().map(|process| process.pid).collect()
    })
}

/// Calls `visit` for each process below `root` with its pid and its parent's,
/// parents before their children.
pub(crate) fn visit(root: i32, mut visit: impl FnMut(i32, i32)) {
    let below = |parent| children(parent).into_iter().map(move |pid| (pid, parent));
    let mut waiting: Vec<_> = below(root).collect();
    // A tree that is forking while it is read could keep this going; the next
    // pass sees the rest.
    let mut left = VISIT_MAX;
    while let Some((pid, parent)) = waiting.pop() {
        if left == 0 {
            return;
        }
        left -= 1;
        visit(pid, parent);
        waiting.extend(below(pid));
    }
}

/// Sends a signal to each process below `root`.
pub(crate) fn signal(root: i32, number: i32) {
    visit(root, |pid, parent| {
        // Who is orphaned meanwhile comes to the root, which is a subreaper.
        let is_it = || stat(pid).is_some_and(|p| p.parent == parent || p.parent == root);
        let _ = pidfd::kill_if(pid, number, is_it); // gone meanwhile
    });
}

/// Live processes below `root`.
pub(crate) fn living(root: i32) -> Vec<Stat> {
    let mut found = Vec::new();
    visit(root, |pid, _| {
        found.extend(stat(pid).filter(|process| !process.zombie));
    });
    found
}

const VISIT_MAX: usize = 100_000;

fn children_by_task(pid: i32) -> io::Result<Vec<i32>> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Ok(Vec::new()); // it is gone
    };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(text) => found.extend(
                text.split_ascii_whitespace()
                    .filter_map(|n| n.parse::<i32>().ok()),
            ),
            // The thread is gone, or the kernel has no such file.
            Err(_) if !task.path().exists() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
    }
    Ok(found)
}

/// The name in the second field may hold anything, parentheses and spaces too,
/// so fields are counted from its last parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let (head, tail) = text.rsplit_once(')')?;
    let pid = head.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    Some(Stat {
        pid,
        zombie: matches!(*fields.first()?, "Z" | "X"),
        stands: matches!(*fields.first()?, "T" | "t" | "D"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// Fields 14 to 17 are times in ticks of 1/100 s, and the last one is the wait
/// status.
fn parse_usage(text: &str) -> Option<Usage> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let used = ticks(11)? + ticks(12)? + ticks(13)? + ticks(14)?;
    Some(Usage {
        zombie: *fields.first()? == "Z",
        start_ticks: ticks(19)?,
        wait_status: fields.get(49)?.parse().ok()?,
        cpu_time: Duration::from_millis(used.saturating_mul(TICK_MILLIS)),
    })
}

/// The kernel counts for user space in hundredths of a second on all machines
/// that we run on.
const TICK_MILLIS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_fields() {
        let text = "42 (a) b (c)) Z 7 41 40 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 9876 0 0";
        assert_eq!(
            parse_stat(text),
            Some(Stat {
                pid: 42,
                zombie: true,
                stands: false,
                parent: 7,
                group: 41,
                session: 40,
                start_ticks: 9876
            })
        );
        assert_eq!(parse_stat("42 (a"), None);
        assert_eq!(parse_stat("42 (a) S 1"), None);
    }

    #[test]
    fn a_zombie_tells_its_end() {
        let text = "42 (a) b (c)) Z 7 41 40 0 -1 0 0 0 0 0 3 4 5 6 20 0 1 0 9876 0 0 \
            0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 19712";
        assert_eq!(
            parse_usage(text),
            Some(Usage {
                zombie: true,
                start_ticks: 9876,
                wait_status: 19712,
                cpu_time: Duration::from_millis(180),
            })
        );
    }

    #[test]
    fn this_process_is_found() {
        let pid = std::process::id().cast_signed();
        let own = stat(pid).unwrap();
        assert!(children(own.parent).contains(&pid));
    }
}
