//! What a run is told at its start, as it goes from the daemon to the shim.
//!
//! It may be larger than a message (argv and environment), so it travels as a
//! sealed memfd. Invariant: decoding never panics. Deliberately absent: what the
//! fields do (`prepare`, `child`, `output`).

use std::{ffi::OsString, fmt, os::unix::ffi::OsStrExt, path::PathBuf};

use super::{
    codec::{DecodeError, Reader, Writer},
    output::Policy,
    protocol::{read_plan, write_plan},
};
use crate::domain::run::StopPlan;

/// Bytes of the largest definition.
pub(crate) const DEFINITION_BYTES_MAX: usize = 8 * 1024 * 1024;

const FORMAT: u16 = 1;

/// As whom a run runs. Names are looked up in the shim, at each start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User name or decimal id; `None` leaves the user as it is.
    pub user: Option<String>,
    /// Group name or decimal id; default: the primary group of `user`.
    pub group: Option<String>,
    /// Group names or decimal ids, besides those the user is a member of.
    pub supplementary_groups: Vec<String>,
}

/// A resource limit to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// Lower case without `RLIMIT_`: "core", "nofile", ...
    pub resource: String,
    /// `u64::MAX` is unlimited.
    pub soft: u64,
    /// `u64::MAX` is unlimited.
    pub hard: u64,
}

/// Where standard input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// This file, opened for reading.
    File(PathBuf),
    /// A pipe, written to by messages.
    Pipe,
    /// A terminal, which standard output and error are too.
    Tty,
}

/// All a shim needs to know. Its debug form shows neither arguments nor
/// environment: they may hold secrets.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Definition {
    /// `<uid>.<run_id>`: names the cgroup.
    pub(crate) label: String,
    pub(crate) run_id: i64,
    /// The process, for people.
    pub(crate) name: String,
    /// Names the cgroup that all runs of this daemon are under.
    pub(crate) group: String,
    /// Whether to use cgroups where there are any.
    pub(crate) use_cgroup: bool,
    pub(crate) argv: Vec<OsString>,
    pub(crate) env: Vec<(OsString, OsString)>,
    pub(crate) env_files: Vec<PathBuf>,
    pub(crate) env_overrides: Vec<(OsString, OsString)>,
    pub(crate) working_directory: Option<PathBuf>,
    pub(crate) identity: Option<Identity>,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: Option<i32>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) rlimits: Vec<Rlimit>,
    pub(crate) stdin: Stdin,
    /// Where its output is kept.
    pub(crate) log_dir: PathBuf,
    pub(crate) log_policy: Policy,
    /// Whether both streams are one.
    pub(crate) merge_stderr: bool,
    pub(crate) stop: StopPlan,
}

// === impl Definition ===

impl fmt::Debug for Definition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Definition")
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

impl Definition {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut w = Writer::default();
        w.u16(FORMAT);
        w.bytes(self.label.as_bytes());
        w.i64(self.run_id);
        w.bytes(self.name.as_bytes());
        w.bytes(self.group.as_bytes());
        w.bool(self.use_cgroup);
        w.list(&self.argv, |w, arg| w.bytes(arg.as_bytes()));
        w.list(&self.env, write_pair);
        w.list(&self.env_files, |w, path| {
            w.bytes(path.as_os_str().as_bytes());
        });
        w.list(&self.env_overrides, write_pair);
        w.option(self.working_directory.as_ref(), |w, path| {
            w.bytes(path.as_os_str().as_bytes());
        });
        w.option(self.identity.as_ref(), |w, identity| {
            w.option(identity.user.as_ref(), |w, name| w.bytes(name.as_bytes()));
            w.option(identity.group.as_ref(), |w, name| w.bytes(name.as_bytes()));
            w.list(&identity.supplementary_groups, |w, name| {
                w.bytes(name.as_bytes());
            });
        });
        w.option(self.umask, Writer::u32);
        w.option(self.nice, Writer::i32);
        w.option(self.oom_score_adj, Writer::i32);
        w.list(&self.rlimits, |w, limit| {
            w.bytes(limit.resource.as_bytes());
            w.u64(limit.soft);
            w.u64(limit.hard);
        });
        match &self.stdin {
            Stdin::Null => w.u8(0),
            Stdin::File(path) => {
                w.u8(1);
                w.bytes(path.as_os_str().as_bytes());
            }
            Stdin::Pipe => w.u8(2),
            Stdin::Tty => w.u8(3),
        }
        w.bytes(self.log_dir.as_os_str().as_bytes());
        self.log_policy.encode(&mut w);
        w.bool(self.merge_stderr);
        write_plan(&mut w, &self.stop);
        w.0
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader(bytes);
        let format = r.u16()?;
        if format != FORMAT {
            return Err(DecodeError::Version(format));
        }
        let path = |r: &mut Reader<'_>| r.os_string().map(PathBuf::from);
        let definition = Self {
            label: r.string()?,
            run_id: r.i64()?,
            name: r.string()?,
            group: r.string()?,
            use_cgroup: r.bool()?,
            argv: r.list(Reader::os_string)?,
            env: r.list(read_pair)?,
            env_files: r.list(path)?,
            env_overrides: r.list(read_pair)?,
            working_directory: r.option(path)?,
            identity: r.option(|r| {
                Ok(Identity {
                    user: r.option(Reader::string)?,
                    group: r.option(Reader::string)?,
                    supplementary_groups: r.list(Reader::string)?,
                })
            })?,
            umask: r.option(Reader::u32)?,
            nice: r.option(Reader::i32)?,
            oom_score_adj: r.option(Reader::i32)?,
            rlimits: r.list(|r| {
                Ok(Rlimit {
                    resource: r.string()?,
                    soft: r.u64()?,
                    hard: r.u64()?,
                })
            })?,
            stdin: match r.u8()? {
                0 => Stdin::Null,
                1 => Stdin::File(path(&mut r)?),
                2 => Stdin::Pipe,
                3 => Stdin::Tty,
                _ => return Err(DecodeError::Value("stdin")),
            },
            log_dir: path(&mut r)?,
            log_policy: Policy::decode(&mut r)?,
            merge_stderr: r.bool()?,
            stop: read_plan(&mut r)?,
        };
        r.end()?;
        Ok(definition)
    }
}

fn write_pair(w: &mut Writer, (name, value): &(OsString, OsString)) {
    w.bytes(name.as_bytes());
    w.bytes(value.as_bytes());
}

fn read_pair(r: &mut Reader<'_>) -> Result<(OsString, OsString), DecodeError> {
    Ok((r.os_string()?, r.os_string()?))
}
