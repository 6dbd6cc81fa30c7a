//! What the daemon and a shim say to each other: one message per packet of a
//! `SOCK_SEQPACKET` socket.
//!
//! ```text
//! magic u32 | version u16 | type u16 | seq u64 | len u32 | crc32 u32 | payload
//! ```
//!
//! Little-endian; the checksum covers the header with the checksum as zero, and
//! the payload. Invariants: decoding never panics, whatever it is given, and
//! allocates no more than it was given; fields are only ever appended.
//! Deliberately absent: sockets (`ctl`), the definition (`definition`).

mod values;

use self::values::{
    cut, read_output_state, read_scope, read_spawn_error, scope_number, write_output_state,
    write_spawn_error,
};
pub(crate) use self::values::{read_exit, read_plan, write_exit, write_plan};
use super::{
    codec::{DecodeError, Reader, Writer, crc32},
    output::Policy,
};
use crate::domain::run::{Exit, OutputHealth, SignalScope, SpawnError, StopPlan};

/// Bytes of the largest message, header included.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The newest version spoken here. A daemon speaks this one and the two before
/// it, so that it understands the shims of the daemons before it.
pub(crate) const VERSION: u16 = 1;
/// The oldest version spoken here.
pub(crate) const OLDEST: u16 = 1;

/// What a shim gives its daemon to keep, so that it outlives the shim.
pub(crate) const HELD_STDOUT: u8 = 1;
pub(crate) const HELD_STDERR: u8 = 2;
/// The end that is written to; as long as it is given, stdin is open.
pub(crate) const HELD_STDIN: u8 = 3;
/// The master of the run's terminal; as long as it is given, stdin is open.
pub(crate) const HELD_TTY: u8 = 4;

/// Bytes of one `Write`.
pub(crate) const WRITE_BYTES_MAX: usize = 32 * 1024;

const MAGIC: u32 = 0x4e53_5250;
const HEADER_BYTES: usize = 24;
const HELLO: u16 = 1;
const CRC_AT: usize = 20;
/// So many fit one message; a run with more survivors names these.
const SURVIVORS_MAX: usize = 8 * 1024;

/// Step of carrying out a run that can fail before the program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    /// The shim itself could not be used.
    Shim = 1,
    /// Reading the definition, or what it refers to.
    Prepare = 2,
    /// fork.
    Fork = 3,
    /// Standard input.
    Stdin = 4,
    /// A resource limit; `index` tells which.
    Rlimit = 5,
    /// The nice value.
    Nice = 6,
    /// The OOM score adjustment.
    OomScoreAdj = 7,
    /// The working directory.
    WorkingDirectory = 8,
    /// Groups, group and user.
    Identity = 9,
    /// Closing every other descriptor.
    Descriptors = 10,
    /// exec.
    Exec = 11,
}

/// One message, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// First message of each side on each connection. Never changes its form, so
    /// that it is understood whatever else is not.
    Hello {
        /// Oldest version the sender speaks.
        oldest: u16,
        /// Newest version the sender speaks.
        newest: u16,
    },
    /// Begin a run. Its definition comes along as a sealed memfd, and its locked
    /// run directory. Once.
    Define,
    /// Take over a run whose shim is dead. Its locked run directory comes along,
    /// and the read ends of its pipes as far as the daemon has them. Once.
    Adopt {
        /// Which they are: `HELD_*`.
        held: Vec<u8>,
    },
    /// The main process exists and is held before exec.
    Spawned {
        /// Its pid.
        pid: i32,
        /// Its start time in clock ticks since boot; with the pid, its identity.
        start_ticks: u64,
        /// Path of its cgroup below the hierarchy.
        cgroup: Option<String>,
        /// What comes along to be kept for whoever takes over from a dead shim.
        held: Vec<u8>,
    },
    /// exec is confirmed.
    Started,
    /// The program never ran.
    SpawnFailed {
        /// What failed.
        step: Step,
        /// How.
        error: SpawnError,
    },
    /// The main process ended.
    Exited(Exit),
    /// SIGKILL goes to the tree.
    Killing,
    /// These live past the kill timeout.
    Survivors(Vec<i32>),
    /// Nothing of the run is left. Last message of a shim.
    Empty,
    /// Bring the run to an end; replaces a plan under way.
    Stop(StopPlan),
    /// Send a signal. Answered.
    Signal {
        /// Kernel number.
        number: i32,
        /// To whom.
        scope: SignalScope,
    },
    /// Stop all of it from running. Answered.
    Freeze,
    /// Undo `Freeze`. Answered.
    Thaw,
    /// Answer to the message with this `seq`.
    Reply {
        /// The message answered.
        seq: u64,
        /// 0 if it was done.
        errno: i32,
    },
    /// For the daemon's log.
    Warning(String),
    /// How output is kept has changed.
    Output(OutputHealth),
    /// Write to standard input as much as it takes now. Answered by `Written`.
    Write {
        /// Bytes written before; else nothing is written.
        offset: Option<u64>,
        /// At most `WRITE_BYTES_MAX`.
        bytes: Vec<u8>,
        /// Close it, if all of them were written.
        close: bool,
    },
    /// Answer to the `Write` with this `seq`.
    Written {
        /// The message answered.
        seq: u64,
        /// 0 if all was written; `EAGAIN`: a part of it, there is no room for more;
        /// `ERANGE`: nothing, the offset differs; `EBADF`: it is not open.
        errno: i32,
        /// Bytes written to this run in all.
        total: u64,
    },
    /// The terminal is so large now. Answered by `Reply`.
    Resize {
        /// Lines.
        rows: u16,
        /// Characters of a line.
        columns: u16,
    },
    /// Keep output like this from now on.
    Keep(Policy),
}

// === impl Step ===

impl Step {
    /// The step with this number.
    #[must_use]
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Shim,
            2 => Self::Prepare,
            3 => Self::Fork,
            4 => Self::Stdin,
            5 => Self::Rlimit,
            6 => Self::Nice,
            7 => Self::OomScoreAdj,
            8 => Self::WorkingDirectory,
            9 => Self::Identity,
            10 => Self::Descriptors,
            11 => Self::Exec,
            _ => return None,
        })
    }
}

// === impl Message ===

impl Message {
    /// What each side says first.
    #[must_use]
    pub(crate) fn hello() -> Self {
        Self::Hello {
            oldest: OLDEST,
            newest: VERSION,
        }
    }

    /// The packet for this message. Texts and lists too long for one are cut.
    #[must_use]
    pub(crate) fn encode(&self, seq: u64) -> Vec<u8> {
        let mut w = Writer::default();
        w.u32(MAGIC);
        w.u16(VERSION);
        w.u16(self.type_number());
        w.u64(seq);
        w.u64(0); // length and checksum, below
        self.write(&mut w);
        let mut packet = w.0;
        let len = u32::try_from(packet.len() - HEADER_BYTES).unwrap_or(u32::MAX);
        packet[16..CRC_AT].copy_from_slice(&len.to_le_bytes());
        let crc = crc32(&[&packet]);
        packet[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        packet
    }

    /// The message in `packet`, and its sequence number.
    ///
    /// # Errors
    /// [`DecodeError`] if it is truncated, corrupt, too large, of another
    /// version, or has a value out of range.
    pub(crate) fn decode(packet: &[u8]) -> Result<(u64, Self), DecodeError> {
        if packet.len() > MESSAGE_BYTES_MAX {
            return Err(DecodeError::TooLarge);
        }
        let mut r = Reader(packet);
        if r.u32()? != MAGIC {
            return Err(DecodeError::Magic);
        }
        let version = r.u16()?;
        let kind = r.u16()?;
        let seq = r.u64()?;
        let len = r.u32()?;
        let crc = r.u32()?;
        match r.0.len().cmp(&usize::try_from(len).unwrap_or(usize::MAX)) {
            std::cmp::Ordering::Less => return Err(DecodeError::Truncated),
            std::cmp::Ordering::Greater => return Err(DecodeError::Trailing),
            std::cmp::Ordering::Equal => {}
        }
        if crc32(&[&packet[..CRC_AT], &[0; 4], &packet[HEADER_BYTES..]]) != crc {
            return Err(DecodeError::Checksum);
        }
        if kind != HELLO && !(OLDEST..=VERSION).contains(&version) {
            return Err(DecodeError::Version(version));
        }
        let message = Self::read(kind, &mut r)?;
        r.end()?;
        Ok((seq, message))
    }

    fn type_number(&self) -> u16 {
        match self {
            Self::Hello { .. } => HELLO,
            Self::Define => 2,
            Self::Spawned { .. } => 3,
            Self::Started => 4,
            Self::SpawnFailed { .. } => 5,
            Self::Exited(_) => 6,
            Self::Killing => 7,
            Self::Survivors(_) => 8,
            Self::Empty => 9,
            Self::Stop(_) => 10,
            Self::Signal { .. } => 11,
            Self::Freeze => 12,
            Self::Thaw => 13,
            Self::Reply { .. } => 14,
            Self::Adopt { .. } => 15,
            Self::Warning(_) => 16,
            Self::Output(_) => 17,
            Self::Write { .. } => 18,
            Self::Written { .. } => 19,
            Self::Resize { .. } => 20,
            Self::Keep(_) => 21,
        }
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::Hello { oldest, newest } => {
                w.u16(*oldest);
                w.u16(*newest);
            }
            Self::Adopt { held } => w.bytes(held),
            Self::Define
            | Self::Started
            | Self::Killing
            | Self::Empty
            | Self::Freeze
            | Self::Thaw => {}
            Self::Spawned {
                pid,
                start_ticks,
                cgroup,
                held,
            } => {
                w.i32(*pid);
                w.u64(*start_ticks);
                w.option(cgroup.as_deref(), |w, path| w.bytes(cut(path).as_bytes()));
                w.bytes(held);
            }
            Self::SpawnFailed { step, error } => {
                w.u8(*step as u8);
                write_spawn_error(w, error);
            }
            Self::Exited(exit) => write_exit(w, exit),
            Self::Survivors(pids) => {
                w.list(&pids[..pids.len().min(SURVIVORS_MAX)], |w, pid| w.i32(*pid));
            }
            Self::Stop(plan) => write_plan(w, plan),
            Self::Signal { number, scope } => {
                w.i32(*number);
                w.u8(scope_number(*scope));
            }
            Self::Reply { seq, errno } => {
                w.u64(*seq);
                w.i32(*errno);
            }
            Self::Warning(text) => w.bytes(cut(text).as_bytes()),
            Self::Output(health) => {
                write_output_state(w, health.state);
                w.u64(health.approximate_bytes);
            }
            Self::Write {
                offset,
                bytes,
                close,
            } => {
                w.option(*offset, Writer::u64);
                w.bytes(bytes);
                w.bool(*close);
            }
            Self::Written { seq, errno, total } => {
                w.u64(*seq);
                w.i32(*errno);
                w.u64(*total);
            }
            Self::Resize { rows, columns } => {
                w.u16(*rows);
                w.u16(*columns);
            }
            Self::Keep(policy) => policy.encode(w),
        }
    }

    fn read(kind: u16, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            HELLO => Self::Hello {
                oldest: r.u16()?,
                newest: r.u16()?,
            },
            2 => Self::Define,
            3 => Self::Spawned {
                pid: r.i32()?,
                start_ticks: r.u64()?,
                cgroup: r.option(Reader::string)?,
                held: r.bytes()?.to_vec(),
            },
            4 => Self::Started,
            5 => Self::SpawnFailed {
                step: Step::from_number(r.u8()?).ok_or(DecodeError::Value("step"))?,
                error: read_spawn_error(r)?,
            },
            6 => Self::Exited(read_exit(r)?),
            7 => Self::Killing,
            8 => Self::Survivors(r.list(Reader::i32)?),
            9 => Self::Empty,
            10 => Self::Stop(read_plan(r)?),
            11 => Self::Signal {
                number: r.i32()?,
                scope: read_scope(r)?,
            },
            12 => Self::Freeze,
            13 => Self::Thaw,
            14 => Self::Reply {
                seq: r.u64()?,
                errno: r.i32()?,
            },
            15 => Self::Adopt {
                held: r.bytes()?.to_vec(),
            },
            16 => Self::Warning(r.string()?),
            17 => Self::Output(OutputHealth {
                state: read_output_state(r)?,
                approximate_bytes: r.u64()?,
            }),
            18 => Self::Write {
                offset: r.option(Reader::u64)?,
                bytes: r.bytes()?.to_vec(),
                close: r.bool()?,
            },
            19 => Self::Written {
                seq: r.u64()?,
                errno: r.i32()?,
                total: r.u64()?,
            },
            20 => Self::Resize {
                rows: r.u16()?,
                columns: r.u16()?,
            },
            21 => Self::Keep(Policy::decode(r)?),
            other => return Err(DecodeError::Type(other)),
        })
    }
}

#[cfg(test)]
mod tests;
