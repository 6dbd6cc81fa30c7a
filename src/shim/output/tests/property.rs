//! Anything in any order.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Write(Stream, Vec<u8>),
    /// `len` bytes in lines of `line`.
    Lines {
        stream: Stream,
        len: usize,
        line: usize,
    },
    Ready(Stream),
    Retry,
    /// Calls fail from the `after`th on, `fail` times.
    Fail {
        after: u32,
        fail: u32,
    },
    Killed,
    NextRun {
        finish: bool,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let stream = || prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    let byte = prop_oneof![Just(b'\n'), b'a'..=b'z', b'a'..=b'z', b'a'..=b'z'];
    let small = prop::collection::vec(byte, 1..20);
    let step = prop_oneof![
        4 => (stream(), small).prop_map(|(s, bytes)| Step::Write(s, bytes)),
        3 => (stream(), 1usize..4000, 1usize..900)
            .prop_map(|(stream, len, line)| Step::Lines { stream, len, line }),
        6 => stream().prop_map(Step::Ready),
        2 => Just(Step::Retry),
        2 => (0u32..12, 1u32..5).prop_map(|(after, fail)| Step::Fail { after, fail }),
        2 => Just(Step::Killed),
        1 => any::<bool>().prop_map(|finish| Step::NextRun { finish }),
    ];
    prop::collection::vec(step, 1..60)
}

fn take(bench: &mut Bench, step: &Step) {
    match step {
        Step::Write(stream, bytes) => write(bench, *stream, bytes),
        Step::Lines { stream, len, line } => {
            let line_end = |i| if i % line == line - 1 { b'\n' } else { b'x' };
            let bytes: Vec<u8> = (0..*len).map(line_end).collect();
            write(bench, *stream, &bytes);
        }
        Step::Ready(stream) => bench.ready(*stream),
        Step::Retry => bench.retry(),
        Step::Fail { after, fail } => {
            faults::plan(Some(Plan {
                call: None,
                after: *after,
                fail: *fail,
                errno: Errno::ENOSPC,
            }));
        }
        Step::Killed => {
            faults::plan(None);
            bench.begin(Begin::Adopted);
        }
        Step::NextRun { finish } => {
            if *finish {
                let _ = bench.output.finish(bench.now);
            }
            faults::plan(None);
            bench.next_run();
        }
    }
}

/// At most what a pipe holds waits in it.
fn write(bench: &mut Bench, stream: Stream, bytes: &[u8]) {
    if bench.waiting(stream) > 20_000 {
        bench.settle();
    }
    bench.write(stream, bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_fails_and_is_killed_each_byte_is_there_once(
        steps in steps(),
        segment_bytes in 1024u64..4096,
    ) {
        let policy = Policy { segment_bytes, max_bytes: MIB, ..KEEP_ALL };
        let mut bench = Bench::new(policy);
        let root = bench.path().parent().unwrap().to_owned();
        let logs = crate::logs::Logs::new(root, Default::default()).unwrap();
        let uid = crate::logs::tests::writer::uid(1);
        let mut live = logs.reader();
        let slot = live.attach(uid, crate::logs::Start::After(0)).unwrap().unwrap().slot;
        let mut live_entries = Vec::new();
        for step in &steps {
            take(&mut bench, step);
            let batch = live.read(slot, 3000, crate::logs::Place::MAX).unwrap();
            prop_assert!(batch.gaps.is_empty(), "{:?}", batch.gaps);
            live_entries.extend(batch.entries);
        }
        bench.settle();
        bench.check();
        prop_assert!(bench.output.finish(bench.now));
        let contents = bench.check();
        let numbers: Vec<i64> = contents.lines.keys().copied().collect();
        let dense: Vec<i64> = (1..contents.next).collect();
        prop_assert_eq!(numbers, dense);
        loop {
            let batch = live.read(slot, 3000, crate::logs::Place::MAX).unwrap();
            prop_assert!(batch.gaps.is_empty(), "{:?}", batch.gaps);
            live_entries.extend(batch.entries);
            if !batch.more { break; }
        }
        let mut late = logs.reader();
        let slot = late.attach(uid, crate::logs::Start::Oldest).unwrap().unwrap().slot;
        let mut late_entries = Vec::new();
        loop {
            let batch = late.read(slot, 64*1024, crate::logs::Place::MAX).unwrap();
            prop_assert!(batch.gaps.is_empty(), "{:?}", batch.gaps);
            late_entries.extend(batch.entries);
            if !batch.more { break; }
        }
        for entries in [live_entries, late_entries] {
            let mut got: std::collections::BTreeMap<i64, (Vec<u8>, i64, bool)> = Default::default();
            for e in entries {
                let line = got.entry(e.sequence).or_insert((Vec::new(), e.run_id, false));
                prop_assert_eq!(line.0.len() as i64, e.line_offset);
                prop_assert_eq!(line.1, e.run_id);
                prop_assert!(!line.2);
                line.0.extend_from_slice(&e.data);
                line.2 = !e.partial;
            }
            let want: std::collections::BTreeMap<i64, (Vec<u8>, i64, bool)> = contents.lines.iter().map(|(n, l)| (*n, (l.bytes.clone(), l.run_id, true))).collect();
            prop_assert_eq!(got, want);
        }
    }
}
