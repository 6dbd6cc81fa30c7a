//! `up`: what a person sees and what Ctrl-C does.

mod readme;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::support::eventually;

/// `procession up`, and what it printed.
struct Up {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    directory: TempDir,
}

const FILE: &str = r#"
[processes.db]
command = ["sh", "-c", "echo db up; trap 'exit 0' TERM; while :; do sleep 0.05; done"]

[processes.web]
command = ["sh", "-c", "echo web up; trap 'exit 0' TERM; while :; do sleep 0.05; done"]
dependencies = [{ name = "db", condition = "running" }]

[processes.worker]
command = ["sh", "-c", "echo worker up; trap 'exit 0' TERM; while :; do sleep 0.05; done"]
dependencies = [{ name = "web", condition = "running" }]
"#;

// === impl Up ===

impl Up {
    /// With `content` as procession.toml of the directory it runs in.
    fn start(content: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("procession.toml"), content).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
        command.arg("up").current_dir(directory.path());
        Self::run(command, directory)
    }

    fn run(mut command: Command, directory: TempDir) -> Self {
        let mut child = command
            .arg("--state-dir")
            .arg(directory.path().join("state"))
            .env("PROCESSION_SOCKET", directory.path().join("socket"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let read = |from: Box<dyn std::io::Read + Send>| {
            let lines = Arc::clone(&lines);
            thread::spawn(move || {
                for line in BufReader::new(from).lines().map_while(Result::ok) {
                    lines.lock().unwrap().push(line);
                }
            });
        };
        read(Box::new(child.stdout.take().unwrap()));
        read(Box::new(child.stderr.take().unwrap()));
        Self {
            child,
            lines,
            directory,
        }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line with all of `parts`; its number.
    fn sees(&self, parts: &[&str]) -> usize {
        let found = |line: &String| parts.iter().all(|part| line.contains(part));
        eventually(&format!("a line with {parts:?}"), || {
            self.lines().iter().position(found)
        })
    }

    fn interrupt(&self) {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
    }

    fn ends(&mut self) -> ExitStatus {
        eventually("up ends", || self.child.try_wait().unwrap())
    }

    /// Pids that were told for `name`.
    fn pids(&self, name: &str) -> Vec<String> {
        let lines = self.lines();
        let of = lines
            .iter()
            .filter(|line| line.contains(&format!("  {name}  ")));
        of.filter_map(|line| {
            let (_, rest) = line.split_once("pid ")?;
            rest.split_whitespace().next().map(str::to_owned)
        })
        .collect()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}", self.lines().join("\n"));
        }
        // Twice: at once.
        for _ in 0..2 {
            if matches!(self.child.try_wait(), Ok(None)) {
                self.interrupt();
            }
        }
        let _ = self.child.wait();
    }
}

#[test]
fn an_interrupt_stops_dependents_first_and_leaves_nothing() {
    let mut up = Up::start(FILE);
    assert_eq!(
        up.sees(&["up with 3 processes on ", "Ctrl-C stops them"]),
        0
    );
    for line in ["db     | db up", "web    | web up", "worker | worker up"] {
        up.sees(&[line]);
    }
    let running = |name: &str| up.sees(&[&format!("  {name}  STARTING -> RUNNING")]);
    assert!(running("db") < running("web") && running("web") < running("worker"));
    up.sees(&["worker  STOPPED -> PENDING", "waiting for web"]);
    let pids: Vec<_> = ["db", "web", "worker"]
        .iter()
        .flat_map(|name| up.pids(name))
        .collect();
    assert_eq!(pids.len(), 3);

    up.interrupt();
    up.sees(&["stopping every process; Ctrl-C again kills them"]);
    assert_eq!(up.ends().code(), Some(0));
    let asked = |name: &str| up.sees(&[&format!("  {name}  RUNNING -> STOPPING")]);
    let gone = |name: &str| up.sees(&[&format!("  {name}  "), "-> STOPPED"]);
    assert!(gone("worker") < asked("web"), "{:#?}", up.lines());
    assert!(gone("web") < asked("db"), "{:#?}", up.lines());
    gone("db");
    for pid in pids {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} lives");
    }
    assert!(!up.directory.path().join("socket").exists());
}

#[test]
fn a_second_interrupt_kills_at_once() {
    let mut up = Up::start(
        "[processes.stubborn]\n\
         command = [\"sh\", \"-c\", \"trap 'echo never' TERM; echo up; while :; do sleep 0.05; done\"]\n\
         stop_policy = { grace_period = \"10m\" }\n",
    );
    up.sees(&["up with 1 process on "]);
    up.sees(&["stubborn | up"]);
    up.interrupt();
    up.sees(&["stubborn | never"]);
    let begun = Instant::now();
    up.interrupt();
    assert_eq!(up.ends().code(), Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(30),
        "not the grace period"
    );
    up.sees(&["another signal: killing every process"]);
    up.sees(&["stubborn  STOPPING", "signal 9"]);
    up.sees(&["stubborn  STOPPING", "step KILL"]);
}

#[test]
fn it_ends_with_the_code_of_the_process_that_counts() {
    let mut up = Up::start(
        "[processes.main]\ncommand = [\"sh\", \"-c\", \"exit 7\"]\nexit_with = \"end\"\n\
         restart_policy = { mode = \"never\" }\n\
         [processes.other]\ncommand = \"sleep 1000\"\n",
    );
    assert_eq!(up.ends().code(), Some(7));
    up.sees(&["main has ended; its exit code is 7"]);
    up.sees(&["  main  ", "-> FAILED", "EXIT_CODE: exited with code 7"]);
    up.sees(&["  other  ", "-> STOPPED"]);
    for pid in up.pids("other") {
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}

#[test]
fn without_a_file_it_says_what_it_looks_for() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command.arg("up").current_dir(directory.path());
    let mut up = Up::run(command, directory);
    assert_eq!(up.ends().code(), Some(2));
    up.sees(&["error: there is no procession.toml", "name a file"]);
}

#[test]
fn without_protection_it_warns_as_serve_does() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("procession.toml"), FILE).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_procession"));
    command.args(["up", "--insecure-tcp", "127.0.0.1:0"]);
    command.current_dir(directory.path());
    let mut up = Up::run(command, directory);
    up.sees(&["TCP without any protection"]);
    up.interrupt();
    assert_eq!(up.ends().code(), Some(0));
}
