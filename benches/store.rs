//! Costs of the durable store, on the file system of the temporary directory.
//!
//! `cargo bench --bench store` prints a line per case; with `--test`, or under
//! `cargo test --benches`, every case runs a little and its figures mean nothing.
//! They are dominated by that file system's fsync, which is measured first.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "figures, and a bench that cannot go on says why"
)]

use std::{
    collections::VecDeque,
    fs::File,
    io::Write,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use procession::{
    domain::{
        id::{ProcessName, Revision, Uid},
        spec::{Config, Spec},
        status::{Cause, Desired, Status},
        time::Timestamp,
    },
    grpc::convert::durable::ProtoCodec,
    store::{Intent, Observation, Options, Store, Wish},
};

/// Processes of a large daemon.
const MANY: u64 = 20_000;

fn main() {
    let given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    // Only `cargo bench` passes `--bench`.
    let smoke = given("--test") || !given("--bench");
    let (intents, many) = if smoke { (64, 100) } else { (4096, MANY) };
    fsyncs(intents / 8);
    for group in [1, 64, 512] {
        intents_in_groups(intents, group);
    }
    states_and_start(many);
}

fn open(dir: &Path) -> (Store, usize) {
    let opened = Store::open(dir, Arc::new(ProtoCodec), Options::default());
    let (store, recovered) = opened.expect("a store");
    (store, recovered.processes.len())
}

fn uid(number: u64) -> Uid {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    Uid::from_bytes(bytes)
}

fn put(number: u64) -> Intent {
    let name = ProcessName::new(&format!("process-{number}")).expect("a name");
    let words = ["/usr/bin/server", "--listen", "127.0.0.1:8080", "--verbose"];
    let spec = Spec {
        name,
        generation: 1,
        created: Timestamp(1),
        config: Config {
            command: words.map(str::to_owned).to_vec(),
            labels: [("tier".to_owned(), "web".to_owned())].into(),
            ..Config::default()
        },
    };
    Intent {
        uid: uid(number),
        wish: Wish::Put {
            spec: Arc::new(spec),
            desired: Desired::Running,
        },
        number: 0,
        begin: false,
        instead_of: 0,
        cause: Cause::CONFIG,
        request: None,
    }
}

fn wish(number: u64, running: bool) -> Intent {
    let desired = if running {
        Desired::Running
    } else {
        Desired::Stopped
    };
    Intent {
        wish: Wish::Desired(desired),
        ..put(number)
    }
}

fn tell(case: &str, count: u64, took: Duration) {
    let each = took.as_secs_f64() / count as f64;
    println!("{case:<44} {:>9.1} us  {:>10.0}/s", each * 1e6, 1.0 / each);
}

fn fsyncs(count: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut file = File::create(dir.path().join("file")).expect("a file");
    let since = Instant::now();
    for _ in 0..count {
        file.write_all(&[1; 4096]).expect("written");
        file.sync_data().expect("synced");
    }
    tell("a page written and synced", count, since.elapsed());
}

fn intents_in_groups(count: u64, group: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, _) = open(dir.path());
    let created = (0..group).map(put).collect();
    store.intend(created).wait().expect("durable");
    let synced = store.stats().synced;
    let mut waiting = VecDeque::new();
    let since = Instant::now();
    for number in 0..count {
        if waiting.len() as u64 == group {
            let oldest: procession::store::Receipt = waiting.pop_front().expect("one");
            oldest.wait().expect("durable");
        }
        let intent = wish(number % group, (number / group).is_multiple_of(2));
        waiting.push_back(store.intend(vec![intent]));
    }
    for receipt in waiting {
        receipt.wait().expect("durable");
    }
    let took = since.elapsed();
    let synced = store.stats().synced - synced;
    tell(
        &format!("an intent, {group} wait ({synced} fsyncs)"),
        count,
        took,
    );
}

fn states_and_start(many: u64) {
    let dir = tempfile::tempdir().expect("a directory");
    let (store, _) = open(dir.path());
    let since = Instant::now();
    store
        .intend((0..many).map(put).collect())
        .wait()
        .expect("durable");
    tell("a process created, all in one call", many, since.elapsed());
    let batch = (0..many).map(|number| Observation {
        uid: uid(number),
        version: 1,
        revision: Revision::new(i64::try_from(number).unwrap_or(0) + 1),
        created: Revision::new(1),
        intent: 0,
        status: Status::new(Desired::Running, Cause::CONFIG, Timestamp(1)),
        cause: Cause::KERNEL,
        time: Timestamp(1),
        deleted: false,
    });
    let batch = batch.collect();
    let upto = Revision::new(i64::try_from(many).unwrap_or(0));
    let durable = store.durable_revision();
    let since = Instant::now();
    store.observe(batch, upto);
    while *durable.borrow() < upto {
        std::thread::yield_now();
    }
    tell("a state written behind", many, since.elapsed());
    drop(store);
    let since = Instant::now();
    let (store, found) = open(dir.path());
    assert_eq!(found as u64, many);
    tell("a process read after a kill", many, since.elapsed());
    store.close(false).expect("closed");
    let since = Instant::now();
    let (_store, found) = open(dir.path());
    assert_eq!(found as u64, many);
    tell("a process read after a clean end", many, since.elapsed());
}
