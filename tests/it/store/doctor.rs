//! `procession doctor`: says what is there and what to do, and changes nothing.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, Permissions},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::fcntl::{FcntlArg, fcntl};
use procession::{
    domain::status::Desired,
    store::{Store, inspect::inspect},
};
use serde_json::Value;

use super::support::{
    change_row_of_2, gone, observe, open, options, put, seen, uid, until_durable,
};

/// Exit code and report of `doctor` on `dir`.
fn doctor(dir: &Path, args: &[&str]) -> (i32, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_procession"))
        .args(["doctor", "-o", "json", "--state-dir"])
        .arg(dir)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_str(&text);
    let report = report.unwrap_or_else(|error| panic!("{error}: {text}{errors}"));
    (output.status.code().unwrap(), report)
}

/// Severity and text of every finding.
fn findings(report: &Value) -> Vec<(String, String)> {
    let findings = report["findings"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for finding in findings {
        assert!(!text(&finding["meaning"]).is_empty() && !text(&finding["remedy"]).is_empty());
    }
    let told = findings.iter();
    told.map(|finding| (text(&finding["severity"]), text(&finding["what"])))
        .collect()
}

/// A state directory with a store of two processes and a tombstone.
fn state() -> (tempfile::TempDir, PathBuf, Store) {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("state");
    DirBuilder::new().mode(0o700).create(&dir).unwrap();
    let (store, _) = open(&dir);
    let intents = (1..=3).map(|number| put(number, 1, Desired::Running));
    store.intend(intents.collect()).wait().unwrap();
    observe(&store, vec![seen(1, 1, 1), gone(3, 2, 2)]);
    until_durable(&store, 2);
    (root, dir, store)
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

fn make_run(dir: &Path, number: u64, run_id: i64) {
    let run = format!("runs/{}.{run_id}", uid(number));
    fs::create_dir_all(dir.join(run)).unwrap();
}

#[test]
fn a_sound_store_is_counted_and_left_as_it_is() {
    let (_root, dir, store) = state();
    make_run(&dir, 1, 1);
    store.close(false).unwrap();
    let before = files(&dir);
    let (code, report) = doctor(&dir, &[]);
    assert_eq!((code, findings(&report)), (0, Vec::new()), "{report}");
    let facts = &report["facts"];
    assert_eq!(facts["processes"], 2);
    assert_eq!(facts["tombstones"], 1);
    assert_eq!(facts["durable_revision"], 2);
    assert_eq!(facts["schema_version"], 1);
    assert_eq!(facts["ended_cleanly"], true);
    assert_eq!(facts["used_by"], "nobody");
    assert!(report["healthy"].as_bool().unwrap());
    assert_eq!(files(&dir), before);
}

#[test]
fn a_store_in_use_is_examined_and_not_disturbed() {
    let (_root, dir, store) = state();
    let lock = File::create(dir.join("lock")).unwrap();
    let before = files(&dir);
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&lock, FcntlArg::F_SETLK(&whole)).unwrap();
    let (code, report) = doctor(&dir, &[]);
    // Run 1 of process 1 has no directory, but the daemon may be at it.
    assert_eq!((code, findings(&report)), (0, Vec::new()), "{report}");
    let by = format!("daemon (pid {})", std::process::id());
    assert_eq!(report["facts"]["used_by"], by);
    assert_eq!(report["facts"]["processes"], 2);
    assert_eq!(report["facts"]["ended_cleanly"], false);
    assert_eq!(files(&dir), before);
    store
        .intend(vec![put(1, 2, Desired::Running)])
        .wait()
        .unwrap();
}

#[test]
fn what_does_not_fit_together_is_told() {
    let (_root, dir, store) = state();
    store.close(false).unwrap();
    make_run(&dir, 9, 4);
    fs::create_dir_all(dir.join("runs/leftover")).unwrap();
    fs::create_dir_all(dir.join(format!("logs/{}", uid(8)))).unwrap();
    fs::write(dir.join(format!("logs/{}/out", uid(8))), [1; 500]).unwrap();
    fs::set_permissions(&dir, Permissions::from_mode(0o755)).unwrap();
    let (code, report) = doctor(&dir, &[]);
    let expected = [
        ("problem", "mode 0755".to_owned()),
        ("warning", "runs/leftover".into()),
        ("warning", format!("runs/{}.4", uid(9))),
        ("warning", "run 1 of p-1 has no directory".into()),
        ("note", format!("logs/{}", uid(8))),
    ];
    let told = findings(&report);
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((severity, what), (expected, part)) in told.iter().zip(expected) {
        assert!(
            severity == expected && what.contains(&part),
            "{what}: {part}"
        );
    }
    assert_eq!(code, 1);
    assert!(report["facts"]["output_bytes"].as_u64().unwrap() >= 500);
}

#[test]
fn damage_is_a_problem_and_what_is_left_can_be_rescued() {
    let (root, dir, store) = state();
    store.close(false).unwrap();
    change_row_of_2(&dir);
    let rescued = root.path().join("rescued.json");
    let (code, report) = doctor(&dir, &["--export", rescued.to_str().unwrap()]);
    assert_eq!(code, 1, "{report}");
    let told = findings(&report);
    let damaged =
        |(severity, what): &(String, String)| severity == "problem" && what.contains("checksum");
    assert!(told.iter().any(damaged), "{told:?}");
    let text: Value = serde_json::from_str(&fs::read_to_string(&rescued).unwrap()).unwrap();
    let names: Vec<_> = text["processes"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["p-1"]);
    let mode = rescued.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn what_cannot_be_read_at_all_is_told_with_a_way_out() {
    let (_root, dir, store) = state();
    drop(store);
    fs::write(
        dir.join("store.db"),
        "not a database, but long enough to be one",
    )
    .unwrap();
    let (code, report) = doctor(&dir, &[]);
    assert_eq!(code, 1);
    let (severity, what) = findings(&report).remove(0);
    assert_eq!(severity, "problem");
    assert!(
        what.contains(dir.join("store.db").to_str().unwrap()),
        "{what}"
    );
}

#[test]
fn a_copy_is_of_one_moment_while_the_store_is_written() {
    let (_root, dir, store) = state();
    let writer = std::thread::spawn(move || {
        // Large enough that the log is moved again and again.
        for generation in 2..200 {
            let mut intent = put(1, generation, Desired::Running);
            if let procession::store::Wish::Put { spec, .. } = &mut intent.wish {
                let spec = std::sync::Arc::make_mut(spec);
                spec.config.command.push("x".repeat(50_000));
            }
            store.intend(vec![intent]).wait().unwrap();
        }
    });
    let mut looked = 0;
    while !writer.is_finished() {
        match inspect(
            &dir,
            &procession::grpc::convert::durable::ProtoCodec,
            &options(),
        ) {
            Ok(found) => {
                assert!(found.problems.is_empty(), "{:?}", found.problems);
                assert!(
                    found.content.damage.is_empty(),
                    "{:?}",
                    found.content.damage
                );
                looked += 1;
            }
            Err(error) => assert!(error.to_string().contains("try again"), "{error}"),
        }
    }
    writer.join().unwrap();
    assert!(looked > 0);
}
