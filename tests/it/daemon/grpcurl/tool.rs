//! grpcurl as a program.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::BufReader,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
};

use base64::Engine as _;
use serde_json::{Value, json};

use crate::daemon::support::Daemon;

pub(super) struct Grpcurl {
    program: PathBuf,
    form: Form,
    socket: PathBuf,
    called: RefCell<BTreeSet<String>>,
}

/// How grpcurl is told of a Unix socket; no version knows both.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    /// `unix://SOCKET`, from 1.9.2 on.
    Address,
    /// `-unix -authority localhost SOCKET`, up to 1.9.1.
    Option,
}

/// A streaming call; dropping it ends it.
pub(super) struct Stream {
    child: Child,
    messages: serde_json::StreamDeserializer<
        'static,
        serde_json::de::IoRead<BufReader<ChildStdout>>,
        Value,
    >,
}

// === impl Grpcurl ===

impl Grpcurl {
    /// grpcurl in `form` for `daemon`; `None`, with a remark, where there is none.
    pub(super) fn of(daemon: &Daemon, form: Form) -> Option<Self> {
        let name = form.program();
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin");
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::iter::once(ours)
            .chain(std::env::split_paths(&path))
            .map(|directory| directory.join(name))
            .find(|at| at.is_file());
        if program.is_none() {
            assert_ne!(
                std::env::var("CI").as_deref(),
                Ok("true"),
                "CI needs {name}"
            );
            eprintln!("not tested: there is no {name}; `make tools` installs it");
        }
        Some(Self {
            program: program?,
            form,
            socket: daemon.socket().to_owned(),
            called: RefCell::default(),
        })
    }

    /// The methods called so far.
    pub(super) fn called(&self) -> BTreeSet<String> {
        self.called.borrow().clone()
    }

    /// What it prints with `args` after the address.
    pub(super) fn text(&self, args: &[&str]) -> String {
        let output = self.command(&[]).args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The answer to a unary call.
    pub(super) fn call(&self, method: &str, request: &Value) -> Value {
        let output = self.method(method, request).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{method} {request}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The status of a call that fails.
    pub(super) fn refused(&self, method: &str, request: &Value) -> Value {
        let output = self.method(method, request).output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!output.status.success(), "{method} {request}: {stdout}");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_str(&stderr).unwrap_or_else(|error| panic!("{error} in {stderr}"))
    }

    pub(super) fn stream(&self, method: &str, request: &Value) -> Stream {
        let mut command = self.method(method, request);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let messages = serde_json::Deserializer::from_reader(stdout).into_iter();
        Stream { child, messages }
    }

    /// The lines that `name` wrote so far.
    pub(super) fn output(&self, name: &str) -> Vec<String> {
        let request = json!({"selector": {"names": [name]}});
        let output = self.method("TailLogs", &request).output().unwrap();
        assert!(output.status.success());
        let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<Value>();
        let entries = messages.flat_map(|message| {
            let entries = message.unwrap()["entries"]["entries"].clone();
            entries.as_array().cloned().unwrap_or_default()
        });
        let line = |entry: Value| {
            let data = entry["data"].as_str().unwrap_or_default().to_owned();
            let data = base64::engine::general_purpose::STANDARD
                .decode(data)
                .unwrap();
            String::from_utf8(data).unwrap()
        };
        entries.map(line).collect()
    }

    fn method(&self, method: &str, request: &Value) -> Command {
        self.called.borrow_mut().insert(method.to_owned());
        let mut command = self.command(&[
            "-format-error",
            "-max-time",
            "60",
            "-d",
            &request.to_string(),
        ]);
        command.arg(format!("procession.v1.ProcessManager/{method}"));
        command
    }

    fn command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        match self.form {
            Form::Address => command
                .arg("-plaintext")
                .args(options)
                .arg(format!("unix://{}", self.socket.display())),
            Form::Option => command
                .args(["-unix", "-plaintext", "-authority", "localhost"])
                .args(options)
                .arg(&self.socket),
        };
        command
    }
}

// === impl Form ===

impl Form {
    pub(super) const ALL: [Self; 2] = [Self::Address, Self::Option];

    /// What tools/grpcurl.sh calls the version that knows it.
    fn program(self) -> &'static str {
        match self {
            Self::Address => "grpcurl",
            Self::Option => "grpcurl-1.9.1",
        }
    }
}

// === impl Stream ===

impl Stream {
    pub(super) fn next(&mut self) -> Value {
        self.messages.next().expect("a message").unwrap()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
