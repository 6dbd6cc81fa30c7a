//! The disk refuses, and takes again: nothing false is acknowledged meanwhile, and
//! nobody has to help afterwards.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::resource::{Resource, getrlimit, setrlimit},
};
use procession::{
    domain::status::Desired,
    store::{Health, NotDurable, ReasonKind, Store},
};

use super::support::{desire, find, observe, open, put, seen, until_durable, until_health};

/// Longer than some pauses between attempts to heal.
const SEVERAL_ATTEMPTS: Duration = Duration::from_millis(200);

/// Edits process 1 until that fails; the last generation that was acknowledged,
/// and why the next was not.
fn edit_until_refused(store: &Store, from: i64) -> (i64, ReasonKind) {
    for generation in from..from + 100_000 {
        match store
            .intend(vec![put(1, generation, Desired::Running)])
            .wait()
        {
            Ok(()) => {}
            Err(NotDurable::ReadOnly(reason)) => return (generation - 1, reason.kind),
            Err(other) => panic!("{other}"),
        }
    }
    panic!("never refused");
}

fn is_writable(health: &Health) -> bool {
    *health == Health::Writable
}

/// A file system of `kib` on `dir`, for this thread and those it starts. `false`:
/// that takes privileges this test does not have.
#[allow(clippy::print_stderr, reason = "a test that is left out is told")]
fn small_disk(dir: &Path, kib: u32) -> bool {
    let size = format!("size={kib}k");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let none = None::<&str>;
    let made = unshare(CloneFlags::CLONE_NEWNS)
        .and_then(|()| mount(none, "/", none, private, none))
        .and_then(|()| {
            let kind = Some("tmpfs");
            mount(kind, dir, kind, MsFlags::empty(), Some(&*size))
        });
    if let Err(errno) = made {
        eprintln!("no small disk: {errno}");
    }
    made.is_ok()
}

#[test]
fn a_full_disk_refuses_intents_keeps_states_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    if !small_disk(dir.path(), 8 << 10) {
        return;
    }
    let (store, _) = open(dir.path());
    let intents = vec![put(1, 1, Desired::Running), put(2, 1, Desired::Running)];
    store.intend(intents).wait().unwrap();
    let filler = dir.path().join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    let (acked, kind) = edit_until_refused(&store, 2);
    assert_eq!(kind, ReasonKind::Full);

    // What happens meanwhile is recorded in the space that was set aside.
    observe(&store, vec![seen(1, 1, 1), seen(2, 1, 2)]);
    let (mut version, since) = (1, Instant::now());
    while version < 99 || since.elapsed() < SEVERAL_ATTEMPTS {
        version += 1;
        observe(&store, vec![seen(1, version, version + 1)]);
        until_durable(&store, version + 1);
        // What was freed could be taken back, but then it would be full again.
        assert!(!is_writable(&store.health().borrow()), "state {version}");
    }
    let refused = store.intend(vec![desire(1, Desired::Stopped)]).wait();
    assert!(
        matches!(refused, Err(NotDurable::ReadOnly(_))),
        "{refused:?}"
    );

    fs::remove_file(&filler).unwrap();
    until_health(&store, is_writable);
    assert!(dir.path().join("store.reserve").exists());
    store
        .intend(vec![desire(1, Desired::Stopped)])
        .wait()
        .unwrap();
    drop(store);
    let (_store, found) = open(dir.path());
    let first = find(&found, 1).unwrap();
    assert!(first.spec.generation >= acked, "{first:?}");
    assert_eq!(first.desired, Desired::Stopped);
    assert_eq!(first.observed.as_ref().unwrap().version, version);
}

#[test]
fn a_disk_that_takes_no_more_bytes_is_never_believed() {
    let dir = tempfile::tempdir().unwrap();
    // SIGXFSZ would end it; ignored, the write fails with EFBIG.
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "store::faults::alone_with_a_limit",
            "--nocapture",
        ])
        .env(LIMITED_DIR, dir.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}{errors}");
    assert!(text.contains("1 passed"), "{text}");
}

const LIMITED_DIR: &str = "STORE_LIMITED_DIR";

#[test]
fn alone_with_a_limit() {
    let Some(dir) = std::env::var_os(LIMITED_DIR) else {
        return; // see above
    };
    let dir = Path::new(&dir);
    let (store, _) = open(dir);
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    let mut acked = 0;
    // Each limit ends in another part of a transaction.
    for limit in (0..12).map(|n| (300 << 10) + n * 5000) {
        setrlimit(Resource::RLIMIT_FSIZE, limit, hard).unwrap();
        let (last, kind) = edit_until_refused(&store, acked + 1);
        assert_eq!(kind, ReasonKind::Io);
        if last > 0 {
            observe(&store, vec![seen(1, last, last)]);
        }
        setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
        until_health(&store, is_writable);
        if last > 0 {
            until_durable(&store, last);
        }
        acked = last;
    }
    assert!(acked > 0);
    drop(store);
    let (_store, found) = open(dir);
    assert!(found.read_only.is_none(), "{found:?}");
    assert!(find(&found, 1).unwrap().spec.generation >= acked);
}
