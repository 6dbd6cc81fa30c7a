//! A process writes lines as fast as they are taken: by its shim, or by the simplest
//! loop that reads a pipe into a file. Then all of it is read back.

use std::{
    fs, io,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use procession::grpc::proto::{
    self, LogPolicy, Stdio as Captured, tail_logs_response::Payload as Tail,
};

use tokio::time::timeout;

use super::{
    Scale,
    client::{Session, command},
    daemon::{Daemon, eventually},
    proc,
    roles::{self, LINE, Side},
    table::{Row, median},
};

/// Longer than any output is held back; shorter than the stream's heartbeats.
const SILENCE: Duration = Duration::from_secs(10);

/// What one round costs.
struct Cost {
    /// Seconds that the writer took.
    seconds: f64,
    /// Seconds of CPU of whoever read it.
    cpu: f64,
    /// KiB that the reader's memory grew by at its largest.
    grown: f64,
}

pub(crate) fn run(scale: &Scale) -> Vec<Row> {
    let bytes = scale.bytes(1_000_000_000);
    let daemon = Daemon::start();
    let session = daemon.session();
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let rounds = scale.rounds(3);
    let (mut lost, mut reading) = (0, f64::NAN);
    for round in 0..rounds {
        let name = format!("writer{round}");
        let side = side(daemon.path(), &name);
        ours.push(captured(&session, &name, &side, bytes));
        if round + 1 == rounds {
            let since = Instant::now();
            lost = bytes / LINE - read_back(&session, &name, bytes / LINE);
            reading = since.elapsed().as_secs_f64();
        }
        session.delete(&name);
        floor.push(floored(daemon.path(), &format!("floor{round}"), bytes));
    }
    drop(session);
    assert!(!scale.smoke || lost == 0, "{lost} lines lost");
    let of = |costs: &[Cost], figure: fn(&Cost) -> f64| median(costs.iter().map(figure).collect());
    let gigabytes = bytes as f64 / 1e9;
    let rate = |costs: &[Cost]| gigabytes * 1000.0 / of(costs, |cost| cost.seconds);
    let cpu = |costs: &[Cost]| of(costs, |cost| cost.cpu) / gigabytes;
    let loop_name = "a loop: pipe to file";
    vec![
        Row::new("output of 100-byte lines captured", rate(&ours), "MB/s")
            .against(loop_name, rate(&floor))
            .at_least(0.5, 0.9),
        Row::new("... CPU per GB", cpu(&ours), "s").against(loop_name, cpu(&floor)),
        Row::new(
            "... memory of the shim, grown by",
            of(&ours, |c| c.grown),
            "KiB",
        )
        .at_most(4096.0, 4096.0),
        Row::new("... lines lost or wrong", lost as f64, "").at_most(0.0, 0.0),
        Row::new(
            "... read back by TailLogs",
            bytes as f64 / 1e6 / reading,
            "MB/s",
        ),
    ]
}

fn side(above: &Path, name: &str) -> Side {
    let directory = above.join(name);
    fs::create_dir(&directory).expect("a directory");
    Side::new(&directory)
}

/// By a shim of the daemon.
fn captured(session: &Session, name: &str, side: &Side, bytes: usize) -> Cost {
    let words = side.writer(bytes).expect("words");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut process = command(name, &words);
    let spec = process.spec.as_mut().expect("a spec");
    spec.stdio = Some(Captured {
        log_policy: Some(LogPolicy {
            max_bytes: 4 << 30,
            ..Default::default()
        }),
        ..Default::default()
    });
    session.apply(vec![process]);
    let mut shim = 0;
    eventually("the writer runs", || {
        let seen = session.list();
        let pid = seen.get(name).map_or(0, |shown| shown.pid);
        shim = proc::parent(pid).unwrap_or(0);
        pid != 0 && shim != 0
    });
    let largest = || proc::status_kib(shim, "VmHWM:").expect("a shim") as f64;
    let cpu = || proc::activity(shim).expect("a shim").cpu;
    let (idle, before) = (largest(), cpu());
    side.go().expect("begun");
    let mut seconds = None;
    eventually("the writer is done", || {
        seconds = side.written();
        seconds.is_some()
    });
    // What is in the pipe still is 64 KiB at most.
    let after = cpu();
    Cost {
        seconds: seconds.unwrap_or(f64::NAN),
        cpu: after - before,
        grown: largest() - idle,
    }
}

/// Reads up to the last of `lines`, or until nothing more comes; the number of lines
/// that are as they were written, each with the next number. It follows, for the last
/// megabyte may be in the pipe still.
fn read_back(session: &Session, name: &str, lines: usize) -> usize {
    let request = proto::TailLogsRequest {
        selector: Some(proto::ProcessSelector {
            names: vec![name.to_owned()],
            ..Default::default()
        }),
        after_sequences: [(name.to_owned(), 0)].into(),
        follow: true,
        ..Default::default()
    };
    let mut client = session.client.clone();
    session.wait(async {
        let stream = client.tail_logs(request).await.expect("a stream");
        let mut stream = stream.into_inner();
        let (mut right, mut last) = (0, 0);
        while last < lines as i64 {
            let Ok(message) = timeout(SILENCE, stream.message()).await else {
                break;
            };
            let message = message.expect("a message").expect("it goes on");
            match message.payload.expect("a payload") {
                Tail::Entries(more) => more.entries.iter().for_each(|entry| {
                    let is_next = entry.sequence == last + 1;
                    last = entry.sequence;
                    let line = roles::line(last.cast_unsigned());
                    right += usize::from(is_next && entry.data == line[..LINE - 1]);
                }),
                Tail::Gap(gap) => eprintln!("{gap:?}"),
                Tail::Synced(_) | Tail::Progress(_) => {}
                Tail::Closing(_) => break,
            }
        }
        right
    })
}

/// By the loop.
fn floored(above: &Path, name: &str, bytes: usize) -> Cost {
    let side = side(above, name);
    let (from, to) = io::pipe().expect("a pipe");
    let reader = spawn(side.reader(), |command| command.stdin(from));
    let mut writer = spawn(side.writer(bytes), |command| command.stdout(to));
    side.go().expect("begun");
    let mut seconds = None;
    eventually("the writer is done", || {
        seconds = side.written();
        seconds.is_some()
    });
    // Its end is that of the pipe.
    writer.end();
    let mut cpu = None;
    eventually("the reader is done", || {
        cpu = side.read();
        cpu.is_some()
    });
    drop(reader);
    fs::remove_dir_all(above.join(name)).expect("removed");
    Cost {
        seconds: seconds.unwrap_or(f64::NAN),
        cpu: cpu.unwrap_or(f64::NAN),
        grown: 0.0,
    }
}

/// A child of the bench itself, ended when it is dropped.
struct Own(Child);

// === impl Own ===

impl Own {
    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.end();
    }
}

fn spawn(words: io::Result<Vec<String>>, with: impl FnOnce(&mut Command) -> &mut Command) -> Own {
    let words = words.expect("words");
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Own(with(&mut command).spawn().expect("a child"))
}
