//! Helpers of other supervisors, one per process, where they are installed.

use std::{
    fs,
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use super::{daemon::eventually, proc};

/// That many of one helper, each with a process; dropping it ends all by pid.
pub(crate) struct Peers {
    directory: TempDir,
    helpers: Vec<Child>,
    program: &'static str,
}

/// What each of them runs.
const SLEEPER: &str = "exec sleep 1000000";

// === impl Peers ===

impl Peers {
    /// `None` where the program is not installed.
    pub(crate) fn of(program: &'static str) -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
        found.then(|| Self {
            directory: tempfile::tempdir().expect("a directory"),
            helpers: Vec::new(),
            program,
        })
    }

    /// Starts more until there are `count`, and returns once all have a process.
    pub(crate) fn grow(&mut self, count: usize) {
        let from = self.helpers.len();
        for number in from..count {
            let service = self.path().join(number.to_string());
            fs::create_dir(&service).expect("a service");
            write_script(&service.join("run"), SLEEPER);
            self.watch(&service);
        }
        eventually("each helper has its process", || {
            // The helpers, and what they run.
            proc::marked(&self.mark()).len() >= 2 * count
        });
    }

    /// One more, for the service in this directory.
    pub(crate) fn watch(&mut self, service: &Path) {
        let helper = Command::new(self.program)
            .arg(service)
            .env(proc::MARK, self.mark())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.helpers.push(helper.expect("a helper"));
    }

    pub(crate) fn pids(&self) -> Vec<i32> {
        let pid = |helper: &Child| helper.id().cast_signed();
        self.helpers.iter().map(pid).collect()
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn mark(&self) -> String {
        self.path().display().to_string()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for helper in &mut self.helpers {
            let _ = helper.kill();
            let _ = helper.wait();
        }
        for _ in 0..10 {
            let left = proc::marked(&self.mark());
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn write_script(path: &Path, script: &str) {
    let mut file = fs::File::options();
    let file = file.create_new(true).write(true).mode(0o755).open(path);
    let mut file = file.expect("a script");
    writeln!(file, "#!/bin/sh\n{script}").expect("written");
    // Whatever the umask is.
    let all = fs::Permissions::from_mode(0o755);
    file.set_permissions(all).expect("executable");
}
