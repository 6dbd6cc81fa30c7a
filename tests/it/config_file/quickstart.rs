//! The quickstart does what its file says, without a daemon: what `load` gives is
//! run as it stands.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Lines, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use procession::{config, grpc::proto};

use super::environment;

/// A process of the quickstart; ends with the test.
struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Run {
    fn start(specs: &BTreeMap<String, proto::ProcessSpec>, name: &str) -> Self {
        let spec = &specs[name];
        let mut child = Command::new(&spec.command[0])
            .args(&spec.command[1..])
            .current_dir(&spec.working_directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The first line that contains `text`; the output may not end before.
    fn line_with(&mut self, text: &str) -> String {
        let found = self
            .lines
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no line with {text:?}"))
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn specs(port: &str) -> BTreeMap<String, proto::ProcessSpec> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart.toml");
    let config = config::load(&path, &environment(&[("PORT", port)])).unwrap();
    config
        .processes
        .into_iter()
        .map(|p| (p.name, p.spec.unwrap()))
        .collect()
}

#[test]
fn web_serves_worker_asks_and_both_stop_cleanly() {
    let mut web = Run::start(&specs("0"), "web");
    let hello = web.line_with("open http://");
    let address = hello.split('/').nth(2).unwrap();
    let address: SocketAddr = address.parse().unwrap();
    // The shell became the program.
    assert!(
        hello.ends_with(&format!("(pid {})", web.child.id())),
        "{hello}"
    );

    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    assert!(
        page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("request 1, "),
        "{page}"
    );
    web.line_with("GET / HTTP/1.1");

    let specs = specs(&address.port().to_string());
    let mut worker = Run::start(&specs, "worker");
    worker.line_with("web says: pid ");
    web.line_with("GET /status HTTP/1.1");
    web.signal(Signal::SIGTERM);
    web.line_with("asked to stop after ");
    assert_eq!(web.child.wait().unwrap().code(), Some(0));
    worker.line_with("web is down (");

    let mut web = Run::start(&specs, "web");
    web.line_with("GET /status");
    worker.line_with(&format!("web says: pid {}, request 1,", web.child.id()));
    worker.signal(Signal::SIGTERM);
    worker.line_with("asked to stop");
    assert_eq!(worker.child.wait().unwrap().code(), Some(0));
}

#[test]
fn flaky_fails() {
    let mut specs = specs("0");
    let words = &mut specs.get_mut("flaky").unwrap().command;
    assert_eq!(words.pop().as_deref(), Some("5"));
    words.push("0".into());
    let mut flaky = Run::start(&specs, "flaky");
    assert_eq!(flaky.child.wait().unwrap().code(), Some(1));
}
