//! Where the socket and the state are when nobody says so. `serve` and the client
//! verbs share this file, so they meet without options.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// Bytes of a directory's name; file systems take 255.
const UP_NAME_BYTES_MAX: usize = 200;

/// The user who runs the command and the environment it sees.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Effective user ID.
    pub uid: u32,
    /// The environment; variables that are not UTF-8 are left out.
    pub env: &'a BTreeMap<String, String>,
}

// === impl Surroundings ===

impl Surroundings<'_> {
    /// The value of `name`, unless it is empty.
    #[must_use]
    pub fn set(&self, name: &str) -> Option<&str> {
        self.env
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The value of `name` where it is an absolute path; others are ignored, as
    /// the XDG specification asks.
    fn directory(&self, name: &str) -> Option<PathBuf> {
        self.set(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    }
}

/// The socket of the daemon: `option`, else `$PROCESSION_SOCKET`, else
/// [`default_socket`].
#[must_use]
pub fn socket(option: Option<PathBuf>, here: Surroundings<'_>) -> PathBuf {
    option
        .or_else(|| here.set("PROCESSION_SOCKET").map(PathBuf::from))
        .unwrap_or_else(|| default_socket(here))
}

/// `$XDG_RUNTIME_DIR/procession/procession.sock`; without that variable
/// `/run/procession/procession.sock` as root, else `/tmp/procession-UID/procession.sock`.
#[must_use]
pub fn default_socket(here: Surroundings<'_>) -> PathBuf {
    let directory = match here.directory("XDG_RUNTIME_DIR") {
        Some(runtime) => runtime.join("procession"),
        None if here.uid == 0 => PathBuf::from("/run/procession"),
        None => PathBuf::from(format!("/tmp/procession-{}", here.uid)),
    };
    directory.join("procession.sock")
}

/// `/var/lib/procession` as root; else `$XDG_STATE_HOME/procession`, else
/// `$HOME/.local/state/procession`, else `/tmp/procession-UID/state`.
#[must_use]
pub fn default_state_dir(here: Surroundings<'_>) -> PathBuf {
    if let Some(state) = here.directory("XDG_STATE_HOME") {
        return state.join("procession");
    }
    if here.uid == 0 {
        return PathBuf::from("/var/lib/procession");
    }
    match here.directory("HOME") {
        Some(home) => home.join(".local/state/procession"),
        None => PathBuf::from(format!("/tmp/procession-{}/state", here.uid)),
    }
}

/// The state of `up` with `file`: one directory per file below the default one,
/// so that what one file brought up is not taken over by another.
///
/// # Errors
/// The file's own path cannot be found out.
pub fn up_state_dir(file: &Path, here: Surroundings<'_>) -> io::Result<PathBuf> {
    let file = std::path::absolute(file)?;
    let name = file.to_string_lossy().replace('/', "-");
    let name = name.trim_start_matches('-');
    let tail = name.ceil_char_boundary(name.len().saturating_sub(UP_NAME_BYTES_MAX));
    Ok(default_state_dir(here).join("up").join(&name[tail..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Vars<'a> = &'a [(&'a str, &'a str)];

    fn with<T>(uid: u32, vars: Vars<'_>, f: impl FnOnce(Surroundings<'_>) -> T) -> T {
        let env = vars
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let env: BTreeMap<String, String> = env.collect();
        f(Surroundings { uid, env: &env })
    }

    #[test]
    fn the_socket_is_where_the_first_of_option_variable_and_default_says() {
        let runtime = ("XDG_RUNTIME_DIR", "/run/user/7");
        let named = ("PROCESSION_SOCKET", "/s");
        let cases: [(u32, Vars<'_>, Option<&str>, &str); 7] = [
            (7, &[runtime, named], Some("/o"), "/o"),
            (7, &[runtime, named], None, "/s"),
            (
                7,
                &[runtime],
                None,
                "/run/user/7/procession/procession.sock",
            ),
            (0, &[], None, "/run/procession/procession.sock"),
            (7, &[], None, "/tmp/procession-7/procession.sock"),
            (
                7,
                &[("XDG_RUNTIME_DIR", "relative")],
                None,
                "/tmp/procession-7/procession.sock",
            ),
            (
                7,
                &[("PROCESSION_SOCKET", "")],
                None,
                "/tmp/procession-7/procession.sock",
            ),
        ];
        for (uid, vars, option, expected) in cases {
            let found = with(uid, vars, |here| socket(option.map(PathBuf::from), here));
            assert_eq!(found, PathBuf::from(expected), "{vars:?} {option:?}");
        }
    }

    #[test]
    fn the_state_directory_follows_user_and_variables() {
        let cases: [(u32, Vars<'_>, &str); 4] = [
            (0, &[("HOME", "/root")], "/var/lib/procession"),
            (7, &[("HOME", "/h")], "/h/.local/state/procession"),
            (
                7,
                &[("XDG_STATE_HOME", "/x"), ("HOME", "/h")],
                "/x/procession",
            ),
            (7, &[], "/tmp/procession-7/state"),
        ];
        for (uid, vars, expected) in cases {
            assert_eq!(
                with(uid, vars, default_state_dir),
                PathBuf::from(expected),
                "{vars:?}"
            );
        }
    }
}
