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

use std::time::Duration;

use super::codec::{DecodeError, Reader, Writer, crc32};
use crate::domain::{
    run::{Exit, Outcome, SignalScope, SpawnError, StopPlan, UnknownReason},
    time::Timestamp,
};

/// Bytes of the largest message, header included.
pub(crate) const MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// The version spoken here.
pub(crate) const VERSION: u16 = 1;

const MAGIC: u32 = 0x4e53_5250;
const HEADER_BYTES: usize = 24;
const CRC_AT: usize = 20;
/// So many fit one message; a run with more survivors names these.
const SURVIVORS_MAX: usize = 8 * 1024;
const TEXT_BYTES_MAX: usize = 4 * 1024;

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
    /// First message of each side.
    Hello {
        /// Newest version the sender speaks.
        version: u16,
    },
    /// The definition of the run comes along as a sealed memfd. Once.
    Define,
    /// The main process exists and is held before exec.
    Spawned {
        /// Its pid.
        pid: i32,
        /// Its start time in clock ticks since boot; with the pid, its identity.
        start_ticks: u64,
        /// Path of its cgroup below the hierarchy.
        cgroup: Option<String>,
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
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let message = Self::read(kind, &mut r)?;
        r.end()?;
        Ok((seq, message))
    }

    fn type_number(&self) -> u16 {
        match self {
            Self::Hello { .. } => 1,
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
        }
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::Hello { version } => w.u16(*version),
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
            } => {
                w.i32(*pid);
                w.u64(*start_ticks);
                w.option(cgroup.as_deref(), |w, path| w.bytes(cut(path).as_bytes()));
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
        }
    }

    fn read(kind: u16, r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            1 => Self::Hello { version: r.u16()? },
            2 => Self::Define,
            3 => Self::Spawned {
                pid: r.i32()?,
                start_ticks: r.u64()?,
                cgroup: r.option(Reader::string)?,
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
            other => return Err(DecodeError::Type(other)),
        })
    }
}

pub(crate) fn write_plan(w: &mut Writer, plan: &StopPlan) {
    w.i32(plan.signal);
    w.u8(scope_number(plan.scope));
    write_duration(w, plan.grace);
    write_duration(w, plan.kill_timeout);
}

pub(crate) fn read_plan(r: &mut Reader<'_>) -> Result<StopPlan, DecodeError> {
    Ok(StopPlan {
        signal: r.i32()?,
        scope: read_scope(r)?,
        grace: Duration::from_nanos(r.u64()?),
        kill_timeout: Duration::from_nanos(r.u64()?),
    })
}

fn write_spawn_error(w: &mut Writer, error: &SpawnError) {
    w.i32(error.errno);
    w.bytes(cut(&error.message).as_bytes());
}

fn read_spawn_error(r: &mut Reader<'_>) -> Result<SpawnError, DecodeError> {
    Ok(SpawnError {
        errno: r.i32()?,
        message: r.string()?.into(),
    })
}

fn write_exit(w: &mut Writer, exit: &Exit) {
    match &exit.outcome {
        Outcome::Code(code) => {
            w.u8(1);
            w.u8(*code);
        }
        Outcome::Signal(number) => {
            w.u8(2);
            w.i32(*number);
        }
        Outcome::SpawnError(error) => {
            w.u8(3);
            write_spawn_error(w, error);
        }
        Outcome::Unknown(reason) => {
            w.u8(4);
            w.u8(match reason {
                UnknownReason::Reboot => 1,
                UnknownReason::Lost => 2,
            });
        }
    }
    w.bool(exit.core_dumped);
    w.bool(exit.oom_killed);
    w.i64(exit.at.0);
    write_duration(w, exit.cpu_time);
    w.i64(exit.max_rss_bytes);
}

fn read_exit(r: &mut Reader<'_>) -> Result<Exit, DecodeError> {
    let outcome = match r.u8()? {
        1 => Outcome::Code(r.u8()?),
        2 => Outcome::Signal(r.i32()?),
        3 => Outcome::SpawnError(read_spawn_error(r)?),
        4 => Outcome::Unknown(match r.u8()? {
            1 => UnknownReason::Reboot,
            2 => UnknownReason::Lost,
            _ => return Err(DecodeError::Value("reason")),
        }),
        _ => return Err(DecodeError::Value("outcome")),
    };
    Ok(Exit {
        outcome,
        core_dumped: r.bool()?,
        oom_killed: r.bool()?,
        at: Timestamp(r.i64()?),
        cpu_time: Duration::from_nanos(r.u64()?),
        max_rss_bytes: r.i64()?,
    })
}

fn scope_number(scope: SignalScope) -> u8 {
    match scope {
        SignalScope::Main => 1,
        SignalScope::Group => 2,
        SignalScope::Cgroup => 3,
        SignalScope::Tree => 4,
    }
}

fn read_scope(r: &mut Reader<'_>) -> Result<SignalScope, DecodeError> {
    Ok(match r.u8()? {
        1 => SignalScope::Main,
        2 => SignalScope::Group,
        3 => SignalScope::Cgroup,
        4 => SignalScope::Tree,
        _ => return Err(DecodeError::Value("scope")),
    })
}

/// Nanoseconds; 584 years and more are 584 years.
fn write_duration(w: &mut Writer, duration: Duration) {
    w.u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}

#[cfg(test)]
mod tests;
