use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::run::{Outcome, SignalScope};

pub(crate) fn run_record() -> RunRecord {
    RunRecord {
        boot_id: "0b0e4c6e-6f1b-4d0c-9d2e-7f2b6f2f0001".to_owned(),
        run_id: 7,
        name: "web".to_owned(),
        shim: ProcessIdentity {
            pid: 41,
            start_ticks: 1000,
        },
        main: ProcessIdentity {
            pid: 42,
            start_ticks: 1001,
        },
        pidfd_inode: 99,
        cgroup: Some("/procession-0123456789abcdef/x.7".to_owned()),
        started: true,
        began: Timestamp(1_700_000_000_000_000_000),
        stop: StopPlan {
            signal: 15,
            scope: SignalScope::Tree,
            grace: Duration::from_secs(10),
            kill_timeout: Duration::from_secs(5),
        },
        log_dir: PathBuf::from("/var/lib/procession/logs/x"),
        log_policy: Policy {
            max_bytes: 64 << 20,
            segment_bytes: 0,
            max_segments: 0,
            max_age: Duration::ZERO,
            drop_when_full: false,
        },
        merge_stderr: false,
        stdin: 0,
        pipes: vec![
            PipeIdentity {
                stream: 1,
                inode: 500,
            },
            PipeIdentity {
                stream: 2,
                inode: 501,
            },
        ],
    }
}

pub(crate) fn exit_record() -> ExitRecord {
    ExitRecord {
        exit: Exit {
            outcome: Outcome::Code(41),
            core_dumped: false,
            oom_killed: false,
            at: Timestamp(1_700_000_001_000_000_000),
            cpu_time: Duration::from_millis(12),
            max_rss_bytes: 1 << 20,
        },
        empty: true,
    }
}

#[test]
fn what_is_written_is_read_and_every_flipped_bit_is_noticed() {
    let bytes = run_record().encode();
    assert_eq!(RunRecord::decode(&bytes), Ok(run_record()));
    assert!(ExitRecord::decode(&bytes).is_err());
    for bit in 0..bytes.len() * 8 {
        let mut broken = bytes.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(RunRecord::decode(&broken).is_err(), "bit {bit}");
    }
    for len in 0..bytes.len() {
        assert!(RunRecord::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
    let bytes = exit_record().encode();
    assert_eq!(ExitRecord::decode(&bytes), Ok(exit_record()));
}

#[test]
fn a_newer_format_is_read_as_far_as_it_is_known() {
    let mut w = begin();
    write_exit(&mut w, &exit_record().exit);
    w.bool(true);
    w.u64(1234);
    let mut bytes = sealed(w, KIND_EXIT);
    assert_eq!(ExitRecord::decode(&bytes), Err(DecodeError::Trailing));
    bytes[4..6].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    bytes[CRC_AT..HEADER_BYTES].fill(0);
    let crc = crc32(&[&bytes]);
    bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(ExitRecord::decode(&bytes), Ok(exit_record()));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = RunRecord::decode(&bytes);
        let _ = ExitRecord::decode(&bytes);
    }
}
