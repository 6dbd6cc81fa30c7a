//! What this program does when it is executed again by a case: the writer whose
//! output is captured, and the simplest reader there can be.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};

/// Bytes of a line with its newline.
pub(crate) const LINE: usize = 100;
/// Bytes of one read and one write.
const BUFFER: usize = 64 * 1024;
/// Lines in as many whole buffers as whole lines: 25 buffers.
const BLOCK_LINES: usize = BUFFER;
/// Digits of the number at the start of a line.
const DIGITS: usize = 10;

const WRITER: &str = "--role-writer";
const READER: &str = "--role-reader";
const BEAT: &str = "--role-beat";

/// The file in which each run tells its pid and when it came to main().
pub(crate) const BEATS: &str = "beats";

/// What a writer and a reader tell when they are done, in files.
#[derive(Debug, Clone)]
pub(crate) struct Side {
    directory: PathBuf,
}

// === impl Side ===

impl Side {
    pub(crate) fn new(directory: &Path) -> Self {
        Self {
            directory: directory.to_owned(),
        }
    }

    /// The words that make this program a writer of `bytes`.
    pub(crate) fn writer(&self, bytes: usize) -> io::Result<Vec<String>> {
        let lines = (bytes / LINE).to_string();
        words(WRITER, &lines, &self.directory)
    }

    /// The words that make this program a reader of its stdin.
    pub(crate) fn reader(&self) -> io::Result<Vec<String>> {
        words(READER, "-", &self.directory)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Lets the writer begin.
    pub(crate) fn go(&self) -> io::Result<()> {
        File::create(self.file("go")).map(drop)
    }

    /// Seconds the writer took, once it is done.
    pub(crate) fn written(&self) -> Option<f64> {
        self.told("written")
    }

    /// Seconds of CPU the reader took, once it is done.
    pub(crate) fn read(&self) -> Option<f64> {
        self.told("read")
    }

    fn told(&self, name: &str) -> Option<f64> {
        let text = std::fs::read_to_string(self.file(name)).ok()?;
        let nanos: u64 = text.strip_suffix('\n')?.parse().ok()?;
        Some(nanos as f64 / 1e9)
    }

    fn tell(&self, name: &str, nanos: u128) -> io::Result<()> {
        std::fs::write(self.file(name), format!("{nanos}\n"))
    }
}

/// The words that make this program tell when it runs, in a file of the directory.
pub(crate) fn beat(directory: &Path) -> io::Result<Vec<String>> {
    words(BEAT, "-", directory)
}

fn words(role: &str, lines: &str, directory: &Path) -> io::Result<Vec<String>> {
    let words = [
        std::env::current_exe()?.display().to_string(),
        role.to_owned(),
        lines.to_owned(),
        directory.display().to_string(),
    ];
    Ok(words.to_vec())
}

/// Plays the role that the arguments ask for, if they ask for one.
pub(crate) fn play() -> Option<io::Result<()>> {
    let words: Vec<String> = std::env::args().collect();
    // As runsv executes it, in the directory of the service.
    if words == ["./run"] {
        return Some(tell_and_wait(Path::new(".")));
    }
    let [_, role, lines, directory] = words.as_slice() else {
        return None;
    };
    let side = Side::new(Path::new(directory));
    match role.as_str() {
        WRITER => Some(write_lines(lines.parse().unwrap_or(0), &side)),
        READER => Some(read_all(&side)),
        BEAT => Some(tell_and_wait(Path::new(directory))),
        _ => None,
    }
}

fn tell_and_wait(directory: &Path) -> io::Result<()> {
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let file = File::options()
        .create(true)
        .append(true)
        .open(directory.join(BEATS));
    // One write, so that nobody reads half of it.
    let text = format!("{} {}\n", std::process::id(), now.as_nanos());
    file?.write_all(text.as_bytes())?;
    loop {
        thread::park();
    }
}

/// The line of this number, from 1.
pub(crate) fn line(number: u64) -> [u8; LINE] {
    let mut line = *b"..........0123456789abcdefghijklmnopqrstuvwxyz\
        ABCDEFGHIJKLMNOPQRSTUVWXYZ what a service has to tell\n";
    let mut rest = number;
    for digit in line[..DIGITS].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    line
}

/// Writes as fast as the pipe takes it, tells how long that took and waits for its
/// end.
fn write_lines(lines: usize, side: &Side) -> io::Result<()> {
    let mut block: Vec<u8> = (1..=BLOCK_LINES as u64).flat_map(line).collect();
    // The pipe itself: what is behind `stdout()` looks for newlines.
    let mut out = File::options().write(true).open("/proc/self/fd/1")?;
    while !side.file("go").exists() {
        thread::sleep(Duration::from_millis(1));
    }
    let since = Instant::now();
    let mut left = lines;
    while left > 0 {
        let now = left.min(BLOCK_LINES);
        for part in block[..now * LINE].chunks(BUFFER) {
            out.write_all(part)?;
        }
        left -= now;
        for line in block.chunks_mut(LINE) {
            add(&mut line[..DIGITS], BLOCK_LINES);
        }
    }
    side.tell("written", since.elapsed().as_nanos())?;
    loop {
        thread::park();
    }
}

/// Adds to a number in decimal, as cheaply as writing it allows.
fn add(digits: &mut [u8], mut amount: usize) {
    for digit in digits.iter_mut().rev() {
        if amount == 0 {
            return;
        }
        let sum = usize::from(*digit - b'0') + amount;
        *digit = b'0' + (sum % 10) as u8;
        amount = sum / 10;
    }
}

/// Reads by 64 KiB into a file, and tells its CPU time at the end.
fn read_all(side: &Side) -> io::Result<()> {
    let mut file = File::create(side.file("copy"))?;
    let mut input = File::open("/proc/self/fd/0")?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = input.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        file.write_all(&buffer[..count])?;
    }
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let cpu = usage.user_time() + usage.system_time();
    let nanos = cpu.num_nanoseconds().unsigned_abs();
    side.tell("read", u128::from(nanos))
}
