//! What lies in a run directory about a run, byte by byte.
//!
//! ```text
//! magic u32 | format u16 | kind u16 | len u32 | crc32 u32 | payload
//! ```
//!
//! Little-endian; the checksum covers the header with the checksum as zero, and
//! the payload. Invariants: decoding never panics; fields are only ever appended,
//! so a record of a newer format is read as far as it is known, and one of an
//! older format is complete. Deliberately absent: files (`rundir`).

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::{
    codec::{DecodeError, Reader, Writer, crc32},
    output::Policy,
    protocol::{read_exit, read_plan, write_exit, write_plan},
};
use crate::domain::{
    run::{Exit, StopPlan},
    time::Timestamp,
};

/// Bytes of the largest record.
pub(crate) const RECORD_BYTES_MAX: usize = 64 * 1024;

const MAGIC: u32 = 0x5252_5350;
const FORMAT: u16 = 1;
const HEADER_BYTES: usize = 16;
const CRC_AT: usize = 12;
const KIND_RUN: u16 = 1;
const KIND_EXIT: u16 = 2;

/// A process, whatever becomes of its pid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessIdentity {
    pub(crate) pid: i32,
    /// In clock ticks since boot.
    pub(crate) start_ticks: u64,
}

/// A pipe that the run writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PipeIdentity {
    /// One of `protocol::HELD_*`.
    pub(crate) stream: u8,
    pub(crate) inode: u64,
}

/// A run that may live; written before its program is let go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunRecord {
    /// Of the boot during which it began; after another one nothing of it lives.
    pub(crate) boot_id: String,
    pub(crate) run_id: i64,
    /// The process, for people.
    pub(crate) name: String,
    pub(crate) shim: ProcessIdentity,
    pub(crate) main: ProcessIdentity,
    /// Inode of a pidfd of the main process, unique per boot; 0 before Linux 6.9.
    pub(crate) pidfd_inode: u64,
    /// Path of its cgroup below the hierarchy.
    pub(crate) cgroup: Option<String>,
    /// Whether exec was confirmed.
    pub(crate) started: bool,
    pub(crate) began: Timestamp,
    /// For what is left when the main process ends by itself.
    pub(crate) stop: StopPlan,
    pub(crate) log_dir: PathBuf,
    pub(crate) log_policy: Policy,
    pub(crate) merge_stderr: bool,
    /// 0: null, 1: file, 2: pipe, 3: terminal.
    pub(crate) stdin: u8,
    pub(crate) pipes: Vec<PipeIdentity>,
}

/// The end of a main process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExitRecord {
    pub(crate) exit: Exit,
    /// Whether nothing of the run was left.
    pub(crate) empty: bool,
}

// === impl RunRecord ===

impl RunRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = begin();
        w.bytes(self.boot_id.as_bytes());
        w.i64(self.run_id);
        w.bytes(self.name.as_bytes());
        self.shim.write(&mut w);
        self.main.write(&mut w);
        w.u64(self.pidfd_inode);
        w.option(self.cgroup.as_deref(), |w, path| w.bytes(path.as_bytes()));
        w.bool(self.started);
        w.i64(self.began.0);
        write_plan(&mut w, &self.stop);
        w.bytes(self.log_dir.as_os_str().as_bytes());
        self.log_policy.encode(&mut w);
        w.bool(self.merge_stderr);
        w.u8(self.stdin);
        w.list(&self.pipes, |w, pipe| {
            w.u8(pipe.stream);
            w.u64(pipe.inode);
        });
        sealed(w, KIND_RUN)
    }

    /// # Errors
    /// [`DecodeError`] if the bytes are not a whole record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (format, mut r) = unsealed(bytes, KIND_RUN)?;
        let record = Self {
            boot_id: r.string()?,
            run_id: r.i64()?,
            name: r.string()?,
            shim: ProcessIdentity::read(&mut r)?,
            main: ProcessIdentity::read(&mut r)?,
            pidfd_inode: r.u64()?,
            cgroup: r.option(Reader::string)?,
            started: r.bool()?,
            began: Timestamp(r.i64()?),
            stop: read_plan(&mut r)?,
            log_dir: Path::new(&r.os_string()?).to_owned(),
            log_policy: Policy::decode(&mut r)?,
            merge_stderr: r.bool()?,
            stdin: r.u8()?,
            pipes: r.list(|r| {
                Ok(PipeIdentity {
                    stream: r.u8()?,
                    inode: r.u64()?,
                })
            })?,
        };
        end(format, r)?;
        Ok(record)
    }
}

// === impl ExitRecord ===

impl ExitRecord {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = begin();
        write_exit(&mut w, &self.exit);
        w.bool(self.empty);
        sealed(w, KIND_EXIT)
    }

    /// # Errors
    /// [`DecodeError`] if the bytes are not a whole record.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (format, mut r) = unsealed(bytes, KIND_EXIT)?;
        let record = Self {
            exit: read_exit(&mut r)?,
            empty: r.bool()?,
        };
        end(format, r)?;
        Ok(record)
    }
}

// === impl ProcessIdentity ===

impl ProcessIdentity {
    fn write(self, w: &mut Writer) {
        w.i32(self.pid);
        w.u64(self.start_ticks);
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            pid: r.i32()?,
            start_ticks: r.u64()?,
        })
    }
}

fn begin() -> Writer {
    Writer(vec![0; HEADER_BYTES])
}

fn sealed(w: Writer, kind: u16) -> Vec<u8> {
    let mut bytes = w.0;
    let len = u32::try_from(bytes.len() - HEADER_BYTES).unwrap_or(u32::MAX);
    bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
    bytes[4..6].copy_from_slice(&FORMAT.to_le_bytes());
    bytes[6..8].copy_from_slice(&kind.to_le_bytes());
    bytes[8..CRC_AT].copy_from_slice(&len.to_le_bytes());
    let crc = crc32(&[&bytes]);
    bytes[CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn unsealed(bytes: &[u8], kind: u16) -> Result<(u16, Reader<'_>), DecodeError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(DecodeError::TooLarge);
    }
    let mut r = Reader(bytes);
    if r.u32()? != MAGIC {
        return Err(DecodeError::Magic);
    }
    let format = r.u16()?;
    let found = r.u16()?;
    let len = usize::try_from(r.u32()?).unwrap_or(usize::MAX);
    let crc = r.u32()?;
    match r.0.len().cmp(&len) {
        std::cmp::Ordering::Less => return Err(DecodeError::Truncated),
        std::cmp::Ordering::Greater => return Err(DecodeError::Trailing),
        std::cmp::Ordering::Equal => {}
    }
    if crc32(&[&bytes[..CRC_AT], &[0; 4], &bytes[HEADER_BYTES..]]) != crc {
        return Err(DecodeError::Checksum);
    }
    if format == 0 {
        return Err(DecodeError::Version(format));
    }
    if found != kind {
        return Err(DecodeError::Type(found));
    }
    Ok((format, r))
}

/// Only a newer format may have more.
fn end(format: u16, r: Reader<'_>) -> Result<(), DecodeError> {
    if format > FORMAT { Ok(()) } else { r.end() }
}

#[cfg(test)]
pub(crate) mod tests;
