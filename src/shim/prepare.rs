//! From a definition to what the kernel takes: names looked up, files read,
//! texts made C strings. All that can fail by name fails here, before fork.
//!
//! Deliberately absent: changing anything (`child`).

use std::{
    collections::BTreeMap,
    ffi::{CString, OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

use nix::{
    errno::Errno,
    sys::{resource::Resource, stat::Mode},
    unistd::{Gid, Group, Uid, User, getgrouplist},
};

use super::{
    definition::{Definition, Identity, Stdin},
    env_file,
    protocol::Step,
};
use crate::domain::run::SpawnError;

/// Why the program never ran.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) step: Step,
    pub(super) error: SpawnError,
}

/// All a child sets up, in the kernel's terms.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    /// Where the program may be, in the order of `PATH`.
    pub(super) candidates: Vec<CString>,
    /// What to open; `None` where it is given.
    pub(super) stdin: Option<CString>,
    pub(super) rlimits: Vec<(Resource, u64, u64)>,
    pub(super) nice: Option<i32>,
    pub(super) oom_score_adj: Option<String>,
    pub(super) umask: Option<Mode>,
    pub(super) working_directory: Option<CString>,
    pub(super) ids: Option<Ids>,
}

/// `None` leaves it as it is.
#[derive(Debug)]
pub(super) struct Ids {
    pub(super) user: Option<Uid>,
    pub(super) group: Option<Gid>,
    pub(super) groups: Option<Vec<Gid>>,
}

const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// A limit that is none, as a definition has it.
const UNLIMITED: u64 = u64::MAX;

// === impl Prepared ===

impl Prepared {
    pub(super) fn new(definition: &Definition) -> Result<Self, Failure> {
        let Some(program) = definition.argv.first().filter(|p| !p.is_empty()) else {
            return Err(refuse("command: is empty; name a program"));
        };
        let env = environment(definition)?;
        let path = env.get(OsStr::new("PATH")).map(OsString::as_os_str);
        let candidates = candidates(program, path.unwrap_or(OsStr::new(DEFAULT_PATH)))?;
        let mut argv = Vec::new();
        for (index, arg) in definition.argv.iter().enumerate() {
            argv.push(c_string(arg, || format!("command[{index}]"))?);
        }
        let mut rlimits = Vec::new();
        for limit in &definition.rlimits {
            let resource = resource(&limit.resource)
                .ok_or_else(|| refuse(&format!("rlimit {:?}: no such resource", limit.resource)))?;
            let value = |v| {
                if v == UNLIMITED {
                    libc::RLIM_INFINITY
                } else {
                    v
                }
            };
            rlimits.push((resource, value(limit.soft), value(limit.hard)));
        }
        let stdin = match &definition.stdin {
            Stdin::Null => Some(c"/dev/null".to_owned()),
            Stdin::File(path) => Some(c_string(path.as_os_str(), || "stdin".to_owned())?),
            Stdin::Pipe | Stdin::Tty => None,
        };
        Ok(Self {
            argv,
            env: env
                .into_iter()
                .map(|(name, value)| pair(name, &value))
                .collect::<Result<_, _>>()?,
            candidates,
            stdin,
            rlimits,
            nice: definition.nice,
            oom_score_adj: definition.oom_score_adj.map(|value| value.to_string()),
            umask: definition.umask.map(Mode::from_bits_truncate),
            working_directory: definition
                .working_directory
                .as_deref()
                .map(|path| c_string(path.as_os_str(), || "working directory".to_owned()))
                .transpose()?,
            ids: definition.identity.as_ref().map(ids).transpose()?,
        })
    }
}

/// The error for people of a step that failed in the child. `index` tells which
/// of several.
pub(super) fn describe(definition: &Definition, step: Step, index: usize, errno: Errno) -> Failure {
    let object = match step {
        Step::Shim => "shim".to_owned(),
        Step::Prepare => "definition".to_owned(),
        Step::Fork => "fork".to_owned(),
        Step::Stdin => match &definition.stdin {
            Stdin::Null => "stdin \"/dev/null\"".to_owned(),
            Stdin::File(path) => format!("stdin {path:?}"),
            Stdin::Pipe => "stdin (a pipe)".to_owned(),
            Stdin::Tty => "terminal".to_owned(),
        },
        Step::Rlimit => match definition.rlimits.get(index) {
            Some(limit) => format!("rlimit {:?}", limit.resource),
            None => "rlimit".to_owned(),
        },
        Step::Nice => format!("nice {}", definition.nice.unwrap_or_default()),
        Step::OomScoreAdj => {
            let value = definition.oom_score_adj.unwrap_or_default();
            format!("oom_score_adj {value}")
        }
        Step::WorkingDirectory => {
            let path = definition.working_directory.as_deref();
            format!("working directory {:?}", path.unwrap_or(Path::new("")))
        }
        Step::Identity => definition.identity.as_ref().map_or_else(
            || "identity".to_owned(),
            |identity| match (&identity.user, &identity.group) {
                (Some(user), _) => format!("user {user:?}"),
                (None, group) => format!("group {:?}", group.as_deref().unwrap_or_default()),
            },
        ),
        Step::Descriptors => "closing descriptors".to_owned(),
        Step::Exec => {
            let program = definition.argv.first().map(OsString::as_os_str);
            format!("exec {:?}", program.unwrap_or(OsStr::new("")))
        }
    };
    let mut message = format!("{object}: {}", errno.desc());
    if step == Step::Exec && errno == Errno::ENOENT && program_exists(definition) {
        message.push_str(" (its interpreter is missing)");
    }
    failure(step, errno as i32, message)
}

/// Whether the path that is the program exists, so that something else does not.
fn program_exists(definition: &Definition) -> bool {
    let Some(program) = definition.argv.first() else {
        return false;
    };
    let directory = definition.working_directory.as_deref();
    program.as_bytes().contains(&b'/') && directory.unwrap_or(Path::new("/")).join(program).exists()
}

fn failure(step: Step, errno: i32, message: String) -> Failure {
    Failure {
        step,
        error: SpawnError {
            errno,
            message: message.into(),
        },
    }
}

fn refuse(message: &str) -> Failure {
    failure(Step::Prepare, Errno::EINVAL as i32, message.to_owned())
}

/// `env`, then the files in their order, then the overrides; later ones win.
fn environment(definition: &Definition) -> Result<BTreeMap<OsString, OsString>, Failure> {
    let mut env: BTreeMap<_, _> = definition.env.iter().cloned().collect();
    for path in &definition.env_files {
        let variables = env_file::read(path)
            .map_err(|error| failure(Step::Prepare, error.errno(), error.to_string()))?;
        env.extend(variables);
    }
    env.extend(definition.env_overrides.iter().cloned());
    Ok(env)
}

fn pair(name: OsString, value: &OsStr) -> Result<CString, Failure> {
    let what = format!("env {name:?}");
    if name.is_empty() || name.as_bytes().contains(&b'=') {
        return Err(refuse(&format!("{what}: is no name of a variable")));
    }
    let mut bytes = name.into_vec();
    bytes.push(b'=');
    bytes.extend_from_slice(value.as_bytes());
    // The value is not named: it may be a secret.
    CString::new(bytes).map_err(|_| refuse(&format!("{what}: contains a NUL byte")))
}

fn c_string(text: &OsStr, what: impl FnOnce() -> String) -> Result<CString, Failure> {
    CString::new(text.as_bytes()).map_err(|_| refuse(&format!("{}: contains a NUL byte", what())))
}

/// As execvp does: a name with a slash is a path; an empty entry of `PATH` is
/// the working directory.
fn candidates(program: &OsStr, path: &OsStr) -> Result<Vec<CString>, Failure> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program, || "command[0]".to_owned())?]);
    }
    path.as_bytes()
        .split(|b| *b == b':')
        .map(|entry| {
            let entry = if entry.is_empty() { b"." } else { entry };
            let file = Path::new(OsStr::from_bytes(entry)).join(program);
            c_string(file.as_os_str(), || "command[0]".to_owned())
        })
        .collect()
}

fn ids(identity: &Identity) -> Result<Ids, Failure> {
    let user = identity.user.as_deref().map(find_user).transpose()?;
    let group = identity.group.as_deref().map(find_group).transpose()?;
    let extra = identity
        .supplementary_groups
        .iter()
        .map(|name| find_group(name))
        .collect::<Result<Vec<_>, _>>()?;
    let (uid, entry) = match user {
        Some((uid, entry)) => (Some(uid), entry),
        None => (None, None),
    };
    let group = match (group, &entry, &identity.user) {
        (Some(group), ..) => Some(group),
        (None, Some(entry), _) => Some(entry.gid),
        (None, None, Some(user)) => {
            return Err(failure(
                Step::Identity,
                0,
                format!("user {user:?}: no such user; name a group to use a bare id"),
            ));
        }
        (None, None, None) => None,
    };
    let mut groups = None;
    if uid.is_some() || !extra.is_empty() {
        let mut all = match (&entry, group) {
            (Some(entry), Some(group)) => member_of(&entry.name, group)?,
            (None, Some(group)) => vec![group],
            _ => Vec::new(),
        };
        for group in extra {
            if !all.contains(&group) {
                all.push(group);
            }
        }
        groups = Some(all);
    }
    Ok(Ids {
        user: uid,
        group,
        groups,
    })
}

/// A name, else a decimal id, with what the user database says of it.
fn find_user(text: &str) -> Result<(Uid, Option<User>), Failure> {
    let found = User::from_name(text).map_err(|errno| not_read("user", text, errno))?;
    if let Some(user) = found {
        return Ok((user.uid, Some(user)));
    }
    let Ok(number) = text.parse() else {
        return Err(unknown("user", text));
    };
    let uid = Uid::from_raw(number);
    let user = User::from_uid(uid).map_err(|errno| not_read("user", text, errno))?;
    Ok((uid, user))
}

fn find_group(text: &str) -> Result<Gid, Failure> {
    match Group::from_name(text).map_err(|errno| not_read("group", text, errno))? {
        Some(group) => Ok(group.gid),
        None => match text.parse() {
            Ok(number) => Ok(Gid::from_raw(number)),
            Err(_) => Err(unknown("group", text)),
        },
    }
}

fn member_of(user: &str, group: Gid) -> Result<Vec<Gid>, Failure> {
    let name = c_string(OsStr::new(user), || "user".to_owned())?;
    getgrouplist(&name, group).map_err(|errno| not_read("user", user, errno))
}

fn unknown(kind: &str, name: &str) -> Failure {
    failure(
        Step::Identity,
        0,
        format!("{kind} {name:?}: no such {kind}"),
    )
}

fn not_read(kind: &str, name: &str, errno: Errno) -> Failure {
    let message = format!("{kind} {name:?}: {}", errno.desc());
    failure(Step::Identity, errno as i32, message)
}

fn resource(name: &str) -> Option<Resource> {
    Some(match name {
        "as" => Resource::RLIMIT_AS,
        "core" => Resource::RLIMIT_CORE,
        "cpu" => Resource::RLIMIT_CPU,
        "data" => Resource::RLIMIT_DATA,
        "fsize" => Resource::RLIMIT_FSIZE,
        "locks" => Resource::RLIMIT_LOCKS,
        "memlock" => Resource::RLIMIT_MEMLOCK,
        "msgqueue" => Resource::RLIMIT_MSGQUEUE,
        "nice" => Resource::RLIMIT_NICE,
        "nofile" => Resource::RLIMIT_NOFILE,
        "nproc" => Resource::RLIMIT_NPROC,
        "rss" => Resource::RLIMIT_RSS,
        "rtprio" => Resource::RLIMIT_RTPRIO,
        "rttime" => Resource::RLIMIT_RTTIME,
        "sigpending" => Resource::RLIMIT_SIGPENDING,
        "stack" => Resource::RLIMIT_STACK,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_as_execvp_does() {
        let find = |program: &str, path: &str| {
            let found = candidates(OsStr::new(program), OsStr::new(path)).unwrap();
            found
                .into_iter()
                .map(|file| file.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        assert_eq!(find("a/b", "/x"), ["a/b"]);
        assert_eq!(find("ls", "/x:/y/:"), ["/x/ls", "/y/ls", "./ls"]);
    }

    #[test]
    fn a_variable_never_shows_its_value_in_an_error() {
        let error = pair("A".into(), OsStr::new("se\0cret")).unwrap_err();
        assert_eq!(&*error.error.message, "env \"A\": contains a NUL byte");
        assert!(pair("A=B".into(), OsStr::new("")).is_err());
        assert!(pair("".into(), OsStr::new("")).is_err());
    }

    #[test]
    fn unknown_names_are_named() {
        let error = find_user("no-such-user-here").unwrap_err();
        assert_eq!(
            &*error.error.message,
            "user \"no-such-user-here\": no such user"
        );
        assert!(find_group("no-such-group-here").is_err());
        assert_eq!(find_group("12345").unwrap(), Gid::from_raw(12345));
    }
}
