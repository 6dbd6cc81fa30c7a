//! Environment files: `KEY=VALUE` lines, `#` comments, an optional `export `,
//! single and double quotes.
//!
//! Values are bytes, not necessarily UTF-8. Within double quotes a backslash
//! escapes `"`, `\`, `$` and `` ` ``, and `\n` is a line break. Deliberately
//! absent: variable expansion, values over several lines, comments after an
//! unquoted value (there `#` is part of it).

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read},
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// Bytes of the largest file that is read.
pub(super) const ENV_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Why a file gives no environment.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnvFileError {
    /// It could not be read.
    #[error("env file {path:?}: {}", describe(.error))]
    Read { path: PathBuf, error: io::Error },
    /// It is larger than [`ENV_FILE_BYTES_MAX`].
    #[error("env file {path:?}: has more than {ENV_FILE_BYTES_MAX} bytes")]
    TooLarge { path: PathBuf },
    /// A line has another form than `KEY=VALUE`.
    #[error("env file {path:?}, line {line}: {problem}")]
    Line {
        path: PathBuf,
        line: usize,
        problem: &'static str,
    },
}

// === impl EnvFileError ===

impl EnvFileError {
    /// The kernel's errno, 0 where it did not refuse.
    pub(super) fn errno(&self) -> i32 {
        match self {
            Self::Read { error, .. } => error.raw_os_error().unwrap_or(0),
            Self::TooLarge { .. } | Self::Line { .. } => 0,
        }
    }
}

/// The variables in the file at `path`, in its order.
///
/// # Errors
/// [`EnvFileError`] names the file and, where there is one, the line.
pub(super) fn read(path: &Path) -> Result<Vec<(OsString, OsString)>, EnvFileError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(ENV_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| EnvFileError::Read {
            path: path.to_owned(),
            error,
        })?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > ENV_FILE_BYTES_MAX {
        return Err(EnvFileError::TooLarge {
            path: path.to_owned(),
        });
    }
    parse(&bytes).map_err(|(line, problem)| EnvFileError::Line {
        path: path.to_owned(),
        line,
        problem,
    })
}

fn parse(bytes: &[u8]) -> Result<Vec<(OsString, OsString)>, (usize, &'static str)> {
    let mut variables = Vec::new();
    for (index, line) in bytes.split(|b| *b == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let (key, value) = parse_line(line).map_err(|problem| (index + 1, problem))?;
        variables.push((OsString::from_vec(key), OsString::from_vec(value)));
    }
    Ok(variables)
}

fn parse_line(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let line = match line.strip_prefix(b"export") {
        Some(rest) if rest.first().is_some_and(u8::is_ascii_whitespace) => rest.trim_ascii_start(),
        _ => line,
    };
    let equals = line
        .iter()
        .position(|b| *b == b'=')
        .ok_or("has no '='; write KEY=VALUE")?;
    let key = &line[..equals];
    if key.is_empty() {
        return Err("has no name before '='");
    }
    if !key.iter().all(|b| b.is_ascii_graphic()) {
        return Err("has a name with spaces or unprintable characters");
    }
    let value = line[equals + 1..].trim_ascii_start();
    let value = match value.first() {
        Some(b'\'') => single_quoted(&value[1..])?,
        Some(b'"') => double_quoted(&value[1..])?,
        _ => value.to_vec(),
    };
    if value.contains(&0) {
        return Err("has a NUL byte");
    }
    Ok((key.to_vec(), value))
}

fn single_quoted(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let end = text.iter().position(|b| *b == b'\'').ok_or(UNTERMINATED)?;
    nothing_after(&text[end + 1..])?;
    Ok(text[..end].to_vec())
}

fn double_quoted(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut value = Vec::new();
    let mut bytes = text.iter();
    loop {
        match *bytes.next().ok_or(UNTERMINATED)? {
            b'"' => break,
            b'\\' => match *bytes.next().ok_or(UNTERMINATED)? {
                b'n' => value.push(b'\n'),
                b @ (b'"' | b'\\' | b'$' | b'`') => value.push(b),
                b => value.extend([b'\\', b]),
            },
            b => value.push(b),
        }
    }
    nothing_after(bytes.as_slice())?;
    Ok(value)
}

fn nothing_after(rest: &[u8]) -> Result<(), &'static str> {
    let rest = rest.trim_ascii_start();
    if rest.is_empty() || rest.starts_with(b"#") {
        Ok(())
    } else {
        Err("has text after the closing quote")
    }
}

const UNTERMINATED: &str = "has an unterminated quote";

fn describe(error: &io::Error) -> String {
    super::sys::describe(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<(String, String), &'static str> {
        let (key, value) = parse_line(line.as_bytes())?;
        Ok((
            String::from_utf8(key).unwrap(),
            String::from_utf8(value).unwrap(),
        ))
    }

    #[test]
    fn lines_have_the_forms_people_write() {
        for (line, key, value) in [
            ("A=b", "A", "b"),
            ("A=", "A", ""),
            ("export A=b c", "A", "b c"),
            ("exported=1", "exported", "1"),
            ("A=b#c", "A", "b#c"),
            ("A='b # $c\\n'  # comment", "A", "b # $c\\n"),
            (r#"A="b \"c\" \\ \$d\n\t""#, "A", "b \"c\" \\ $d\n\\t"),
            ("a.b-c=1", "a.b-c", "1"),
            ("A=b=c", "A", "b=c"),
        ] {
            assert_eq!(one(line), Ok((key.into(), value.into())), "{line}");
        }
    }

    #[test]
    fn other_lines_are_refused() {
        for line in ["A", "=b", "A B=c", "A='b", "A=\"b", "A=\"b\\", "A='b'c"] {
            assert!(one(line).is_err(), "{line}");
        }
        assert!(one("A=b\0").is_err());
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(
            parse(b"# one\n\nA=1\nnonsense\n").unwrap_err(),
            (4, "has no '='; write KEY=VALUE")
        );
        let variables = parse(b"A=1\r\nB=\xff\n").unwrap();
        assert_eq!(variables[0].1, "1");
        assert_eq!(variables[1].1, OsString::from_vec(vec![0xff]));
    }
}
