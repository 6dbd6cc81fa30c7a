//! Going on where an earlier registry stood.

use super::*;

const HEAD: i64 = 10;

fn was(name: &str, n: u8, version: i64, revision: i64, created: i64) -> Restored<Plain> {
    Restored {
        uid: uid(n),
        body: plain(name, revision.unsigned_abs()),
        version,
        revision: Revision::new(revision),
        created: Revision::new(created),
        deleted: false,
    }
}

fn was_deleted(name: &str, n: u8, version: i64, revision: i64, created: i64) -> Restored<Plain> {
    Restored {
        deleted: true,
        ..was(name, n, version, revision, created)
    }
}

fn restored(oldest: i64, processes: Vec<Restored<Plain>>) -> Registry<Plain> {
    let position = Position {
        head: Revision::new(HEAD),
        oldest: Revision::new(oldest),
    };
    Registry::restore(Limits::default(), position, processes)
}

/// Names and revisions of what a latest-state reader at `after` misses.
fn missed(registry: &Registry<Plain>, after: i64) -> Vec<(String, i64, bool)> {
    let told = |change: &Change<Plain>| {
        let node = &change.node;
        (
            node.body().name.to_string(),
            change.revision.get(),
            node.is_deleted(),
        )
    };
    let mut after = after;
    let mut all = Vec::new();
    loop {
        match registry.read(Mode::LatestState, Revision::new(after), WIDE) {
            Read::Batch { to, changes, .. } => {
                all.extend(changes.iter().map(told));
                if to == registry.head() {
                    return all;
                }
                after = to.get();
            }
            Read::TooOld { oldest } => panic!("too old: {after}, oldest {oldest:?}"),
        }
    }
}

#[test]
fn what_was_kept_is_there_and_goes_on() {
    let registry = restored(
        2,
        vec![
            was("web", 1, 4, 9, 1),
            was_deleted("job", 2, 3, 8, 2),
            was("db", 3, 2, 5, 4),
        ],
    );
    assert_eq!(registry.head(), Revision::new(HEAD));
    let web = registry.get("web").unwrap();
    assert_eq!(
        (web.version(), web.revision(), web.uid()),
        (4, Revision::new(9), uid(1))
    );
    assert!(registry.get("job").is_none());
    let snapshot = registry.snapshot();
    let names: Vec<_> = snapshot.nodes.iter().map(|n| &n.body().name).collect();
    assert_eq!((snapshot.revision.get(), names.len()), (HEAD, 2));
    assert_eq!(names[0].as_str(), "db", "by name");

    let next = set(&registry, "web", 77);
    assert_eq!((next.version(), next.revision().get()), (5, HEAD + 1));
    let again = registry.create(uid(9), plain("job", 1)).unwrap();
    assert_eq!((again.version(), again.revision().get()), (1, HEAD + 2));
    let gone = delete(&registry, "db");
    assert_eq!((gone.version(), gone.revision().get()), (3, HEAD + 3));
    let told = changes(&registry, Mode::EveryChange, HEAD);
    assert_eq!(told.len(), 3);
    assert!(matches!(&told[0].before, Before::State(before) if before.version() == 4));
}

#[test]
fn readers_resume_from_before_and_forgotten_deletions_bar_the_way() {
    let registry = restored(
        6,
        vec![
            was("web", 1, 4, 9, 1),
            was_deleted("job", 2, 3, 8, 2),
            was("db", 3, 2, 5, 4),
        ],
    );
    let job = ("job".to_owned(), 8, true);
    let web = ("web".to_owned(), 9, false);
    assert_eq!(missed(&registry, 6), [job.clone(), web.clone()]);
    assert_eq!(missed(&registry, 8), std::slice::from_ref(&web));
    assert_eq!(missed(&registry, 9), []);
    for (mode, oldest) in [(Mode::LatestState, 6), (Mode::EveryChange, HEAD)] {
        let read = registry.read(mode, Revision::new(oldest - 1), WIDE);
        assert!(matches!(read, Read::TooOld { oldest: at } if at.get() == oldest));
        assert_eq!(registry.oldest_resumable(mode).get(), oldest);
    }
    set(&registry, "db", 1);
    let db = ("db".to_owned(), HEAD + 1, false);
    assert_eq!(missed(&registry, 6), [job, web, db]);
}

#[test]
fn a_state_from_after_the_head_gets_the_next_revision() {
    let registry = restored(
        0,
        vec![
            was("late", 1, 4, HEAD + 7, 1),
            was("later", 2, 1, HEAD + 9, HEAD + 9),
            was("old", 3, 1, 3, 3),
        ],
    );
    assert_eq!(registry.head().get(), HEAD + 2);
    let expected = [
        ("late".to_owned(), HEAD + 1, false),
        ("later".to_owned(), HEAD + 2, false),
    ];
    assert_eq!(missed(&registry, HEAD), expected);
    assert_eq!(registry.get("late").unwrap().version(), 4);
}

#[test]
fn of_one_name_the_newest_counts_and_tombstones_stay_bounded() {
    let registry = restored(
        0,
        vec![
            was("web", 2, 1, 7, 7),
            was_deleted("web", 1, 9, 6, 1),
            was_deleted("a", 3, 2, 3, 1),
            was_deleted("b", 4, 2, 4, 2),
        ],
    );
    assert_eq!(registry.get("web").unwrap().uid(), uid(2));
    assert_eq!(missed(&registry, 5), [("web".to_owned(), 7, false)]);
    assert_eq!(missed(&registry, 0).len(), 3);
    delete(&registry, "web");
    assert!(registry.get("web").is_none());
    assert!(registry.create(uid(5), plain("a", 1)).is_ok());
}
