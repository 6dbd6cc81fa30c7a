use super::*;
use crate::shim::record::tests::{exit_record, run_record};

fn place() -> (tempfile::TempDir, PathBuf) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.1");
    (root, path)
}

#[test]
fn records_are_read_as_they_were_written_and_go_with_the_directory() {
    let (root, path) = place();
    let dir = RunDir::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    assert!(dir.run().unwrap().is_none() && dir.exit().unwrap().is_none());
    dir.keep_spares().unwrap();
    dir.write_run(&run_record()).unwrap();
    dir.write_exit(&exit_record()).unwrap();
    let again = RunDir::open(&path).unwrap();
    assert_eq!(again.run().unwrap(), Some(run_record()));
    assert_eq!(again.exit().unwrap(), Some(exit_record()));
    assert!(RunDir::create(&path).is_err(), "a run begins once");
    again.remove(&path).unwrap();
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn the_lock_is_free_when_the_last_copy_is_closed() {
    let (_root, path) = place();
    let dir = RunDir::create(&path).unwrap();
    let passed = RunDir::from_passed(dir.as_fd().try_clone_to_owned().unwrap());
    let other = RunDir::open(&path).unwrap();
    assert!(!other.try_lock().unwrap());
    drop(dir);
    assert!(!other.try_lock().unwrap());
    drop(passed);
    assert!(other.try_lock().unwrap());
}

#[test]
fn the_socket_is_reached_however_long_the_path_is() {
    let root = tempfile::tempdir().unwrap();
    let mut path = root.path().to_owned();
    for _ in 0..3 {
        path.push("d".repeat(100));
        fs::create_dir(&path).unwrap();
    }
    path.push("x.1");
    let dir = RunDir::create(&path).unwrap();
    assert_eq!(dir.connect().unwrap_err(), Errno::ENOENT);
    drop(dir.listen().unwrap());
    assert_eq!(dir.connect().unwrap_err(), Errno::ECONNREFUSED);
    let _listener = dir.listen().unwrap();
    dir.connect().unwrap();
}

#[test]
fn links_and_damage_are_refused() {
    let (root, path) = place();
    let dir = RunDir::create(&path).unwrap();
    let elsewhere = root.path().join("elsewhere");
    fs::write(&elsewhere, run_record().encode()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, path.join(RUN)).unwrap();
    assert!(matches!(dir.run(), Err(RunDirError::Io { what: RUN, .. })));
    fs::write(path.join(EXIT), b"nonsense").unwrap();
    assert!(matches!(dir.exit(), Err(RunDirError::Record(EXIT, _))));
    let link = root.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(RunDir::open(&link).is_err());
}

#[test]
fn labels_name_runs() {
    let uid = Uid::from_bytes(*uuid::Uuid::new_v4().as_bytes());
    assert_eq!(parse_label(&label(uid, 12)), Some((uid, 12)));
    let text = label(uid, 1);
    for other in [
        "",
        "x.1",
        &text[1..],
        &text.to_uppercase().replace(".1", ".01"),
    ] {
        assert_eq!(parse_label(other), None, "{other}");
    }
}

/// A file system of its own with this much room, for this thread.
fn small_disk(at: &Path, bytes: u32) -> nix::Result<()> {
    use nix::{
        mount::{MsFlags, mount},
        sched::{CloneFlags, unshare},
    };
    let nothing = None::<&str>;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing)?;
    let size = format!("size={bytes}");
    mount(
        Some("tmpfs"),
        at,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(&*size),
    )
}

#[test]
fn the_records_of_the_end_have_room_on_a_full_disk() {
    let (root, path) = place();
    let work = std::thread::spawn(move || {
        if let Err(errno) = small_disk(root.path(), 256 * 1024) {
            println!("skipped: no file system can be mounted: {errno}");
            return;
        }
        let dir = RunDir::create(&path).unwrap();
        dir.keep_spares().unwrap();
        let mut full = File::create(root.path().join("full")).unwrap();
        while full.write_all(&[0; 4096]).is_ok() {}
        assert!(dir.write_run(&run_record()).is_err());
        assert!(dir.run().unwrap().is_none());
        for empty in [false, true] {
            let record = ExitRecord {
                empty,
                ..exit_record()
            };
            dir.write_exit(&record).unwrap();
            assert_eq!(dir.exit().unwrap(), Some(record));
        }
    });
    work.join().unwrap();
}
