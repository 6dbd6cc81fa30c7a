//! A process is killed: how soon is its successor in main()? Ours, a loop that waits
//! and spawns, and runit's helper, in turn.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, SystemTime},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procession::grpc::proto::{RestartMode, RestartPolicy};

use super::{
    Scale,
    client::command,
    daemon::{Daemon, eventually, places},
    peers::Peers,
    roles,
    table::{Row, median},
};

/// runsv waits a second before it restarts what did not live that long.
const LIFE: Duration = Duration::from_millis(1200);

pub(crate) fn run(scale: &Scale) -> Vec<Row> {
    let daemons: Vec<(&str, Daemon)> = places()
        .iter()
        .map(|(place, above)| (*place, Daemon::start_in(above)))
        .collect();
    let ours: Vec<Beats> = daemons
        .iter()
        .map(|(_, daemon)| supervised(daemon))
        .collect();
    let mut at_ours = vec![Vec::new(); ours.len()];
    let mut floor = Loop::start(daemons[0].1.path());
    let mut peers = Peers::of("runsv");
    let peer = peers.as_mut().map(helped);
    let (mut at_floor, mut at_peer) = (Vec::new(), Vec::new());
    for _ in 0..scale.rounds(21) {
        thread::sleep(LIFE);
        for (beats, at) in ours.iter().zip(&mut at_ours) {
            at.push(beats.crash(|| ()));
        }
        let beats = floor.beats.clone();
        at_floor.push(beats.crash(|| floor.again()));
        if let Some(beats) = &peer {
            at_peer.push(beats.crash(|| ()));
        }
    }
    let ms = |seconds: &[f64]| median(seconds.to_vec()) * 1000.0;
    let mut rows = Vec::new();
    for ((place, _), at) in daemons.iter().zip(&at_ours) {
        let figure = format!("killed, then restarted main(); state on {place}");
        let row = Row::new(figure, ms(at), "ms");
        let floor = row
            .clone()
            .against("a loop: wait, posix_spawn", ms(&at_floor));
        rows.push(floor.at_most(3.0, 1.5));
        if !at_peer.is_empty() {
            rows.push(row.against("runsv", ms(&at_peer)).at_most(1.0, 1.0));
        }
    }
    rows
}

/// Where the runs of one process tell that they are in main().
#[derive(Clone)]
struct Beats(PathBuf);

// === impl Beats ===

impl Beats {
    fn at(directory: &Path) -> Self {
        fs::create_dir_all(directory).expect("a directory");
        Self(directory.join(roles::BEATS))
    }

    /// Pid and time of the latest run, and how many there were.
    fn latest(&self) -> Option<(usize, i32, u128)> {
        let text = fs::read_to_string(&self.0).ok()?;
        let (pid, time) = text.lines().last()?.split_once(' ')?;
        Some((text.lines().count(), pid.parse().ok()?, time.parse().ok()?))
    }

    /// Seconds from SIGKILL to main() of the next run, which `then` may start.
    fn crash(&self, then: impl FnOnce()) -> f64 {
        let mut latest = None;
        eventually("it runs", || {
            latest = self.latest();
            latest.is_some()
        });
        let (count, pid, _) = latest.expect("a run");
        let now = SystemTime::UNIX_EPOCH.elapsed().expect("a clock");
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
        then();
        let mut began = 0;
        eventually("it runs again", || {
            let next = self.latest().filter(|next| next.0 > count);
            began = next.map_or(0, |next| next.2);
            next.is_some()
        });
        began.saturating_sub(now.as_nanos()) as f64 / 1e9
    }
}

fn supervised(daemon: &Daemon) -> Beats {
    let directory = daemon.path().join("ours");
    let beats = Beats::at(&directory);
    let words = roles::beat(&directory).expect("words");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut process = command("beat", &words);
    let spec = process.spec.as_mut().expect("a spec");
    spec.restart_policy = Some(RestartPolicy {
        mode: RestartMode::Always.into(),
        initial_backoff: Some(prost_types::Duration::default()),
        max_backoff: Some(prost_types::Duration::default()),
        ..Default::default()
    });
    daemon.session().apply(vec![process]);
    beats
}

/// In runit's way: a program `run` in a directory, here this program itself.
fn helped(peers: &mut Peers) -> Beats {
    let service = peers.path().join("0");
    let beats = Beats::at(&service);
    let program = std::env::current_exe().expect("this program");
    symlink(program, service.join("run")).expect("a service");
    peers.watch(&service);
    beats
}

/// A child of the bench itself, ended when it is dropped.
struct Loop {
    beats: Beats,
    words: Vec<String>,
    child: Child,
}

// === impl Loop ===

impl Loop {
    fn start(above: &Path) -> Self {
        let directory = above.join("floor");
        let beats = Beats::at(&directory);
        let words = roles::beat(&directory).expect("words");
        let child = spawn(&words);
        Self {
            beats,
            words,
            child,
        }
    }

    fn again(&mut self) {
        self.child.wait().expect("reaped");
        self.child = spawn(&self.words);
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(words: &[String]) -> Child {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null());
    command.spawn().expect("a child")
}
