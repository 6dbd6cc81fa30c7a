//! A file system that can be cut off from its disk.
//!
//! The cut is `EXT4_IOC_SHUTDOWN` without a flush of the journal. What was synced
//! before it survives, and syncs that begin after it fail; but ext4 (seen on 6.18)
//! tells some of those that are under way that all is well, and what they wrote is
//! gone: jbd2 has nothing left to wait for once it has dropped the transaction. Of
//! 1953 syncs of a program that does nothing else, 1889 had returned before the cut
//! and none of these was lost, 64 returned during it with 0 and 25 of these were
//! lost; none began after it and returned 0. No real power cut gives anybody the
//! time to hear such an answer, so a test must not rely on one.

use std::{
    fs::File,
    io::Write,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
};

use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use super::support::{Rig, not_run, until};

const IMAGE_BYTES: u64 = 48 << 20;
const WRITERS: usize = 8;

/// Whether there is power, for those who ask meanwhile.
#[derive(Debug, Default)]
pub(super) struct Power(AtomicU8);

const ON: u8 = 0;
const GOING: u8 = 1;
const OFF: u8 = 2;

/// A file with a file system in it, mounted for this thread and those that it
/// starts: it goes with them, also if they are killed.
pub(super) struct Disk {
    image: PathBuf,
    at: PathBuf,
}

// === impl Power ===

impl Power {
    /// The cut was not begun.
    pub(super) fn is_on(&self) -> bool {
        self.0.load(SeqCst) == ON
    }

    /// The cut is done.
    pub(super) fn is_off(&self) -> bool {
        self.0.load(SeqCst) == OFF
    }
}

// === impl Disk ===

impl Disk {
    /// `None`, and a word, where that is not to be had.
    pub(super) fn new(rig: &Rig) -> Option<Self> {
        let disk = Self {
            image: rig.root().join("image"),
            at: rig.disk(),
        };
        std::fs::create_dir_all(&disk.at).unwrap();
        File::create(&disk.image)
            .unwrap()
            .set_len(IMAGE_BYTES)
            .unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        let none = None::<&str>;
        let own =
            unshare(CloneFlags::CLONE_NEWNS).and_then(|()| mount(none, "/", none, private, none));
        if let Err(errno) = own {
            not_run(&format!("no mounts of our own: {errno}"));
            return None;
        }
        let made = run("mkfs.ext4", &["-q", "-F"], &[&disk.image]).and_then(|()| disk.mount());
        if let Err(error) = made {
            not_run(&format!("no loop-mounted ext4: {error}"));
            return None;
        }
        Some(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &["-o", "loop"], &[&self.image, &self.at])
    }

    /// From now on nothing reaches the disk, what its log holds neither. Answers are
    /// taken meanwhile.
    pub(super) async fn cut(&self, power: &Power) {
        let root = File::open(&self.at).unwrap();
        power.0.store(GOING, SeqCst);
        let done = tokio::task::spawn_blocking(move || shut_down(&root)).await;
        power.0.store(OFF, SeqCst);
        done.unwrap().unwrap();
    }

    /// Power is back.
    pub(super) async fn again(&self) {
        until("the file system is unmounted", async || {
            umount2(&self.at, MntFlags::empty()).ok()
        })
        .await;
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
    }
}

fn shut_down(root: &File) -> std::io::Result<()> {
    // _IOR('X', 125, __u32)
    const EXT4_IOC_SHUTDOWN: u64 = 0x8004_587d;
    const NOLOGFLUSH: u32 = 2;
    let how = NOLOGFLUSH;
    // SAFETY: the call reads a u32, which outlives it, through a descriptor that is
    // open.
    #[allow(unsafe_code, reason = "there is no safe way to cut off a disk")]
    let done = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const how) };
    nix::errno::Errno::result(done)?;
    Ok(())
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(options).args(paths).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Appends and syncs until that fails; the number that was synced with power.
fn append_on(mut file: File, power: &Power) -> usize {
    for synced in 0_usize.. {
        let off = power.is_off();
        let done = file
            .write_all(&synced.to_le_bytes().repeat(512))
            .and_then(|()| file.sync_data());
        if done.is_err() || !power.is_on() {
            assert!(done.is_err() || !off, "synced without a disk");
            return synced;
        }
    }
    0
}

#[tokio::test]
async fn a_cut_keeps_what_was_synced_before_it() {
    let rig = Rig::new();
    let Some(disk) = Disk::new(&rig) else {
        return;
    };
    let path = |n: usize| disk.at.join(n.to_string());
    let (power, mut synced) = (Arc::<Power>::default(), Vec::new());
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let (file, power) = (File::create(path(n)).unwrap(), Arc::clone(&power));
            std::thread::spawn(move || append_on(file, &power))
        })
        .collect();
    until("much is written", async || {
        let found = std::fs::metadata(path(0)).unwrap();
        (found.len() > 20 * 4096).then_some(())
    })
    .await;
    disk.cut(&power).await;
    synced.extend(writers.into_iter().map(|writer| writer.join().unwrap()));
    disk.again().await;
    for (n, synced) in synced.iter().enumerate() {
        let bytes = std::fs::read(path(n)).unwrap();
        let blocks = bytes.chunks(4096).take(*synced);
        let whole = blocks.enumerate().filter(|(at, block)| {
            let expected = at.to_le_bytes().repeat(512);
            *block == expected
        });
        assert_eq!(whole.count(), *synced, "file {n}");
    }
    println!(
        "{} synced before a cut, none lost",
        synced.iter().sum::<usize>()
    );
}
