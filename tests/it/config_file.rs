//! Configuration files as a user has them: through `config::load`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::{fs, path::Path};

use procession::config::{self, Config, ConfigErrors, Environment};
use tempfile::TempDir;

mod errors;
mod full;
mod quickstart;

fn load_text(name: &str, text: &str) -> Result<Config, ConfigErrors> {
    load_with(name, text, &[])
}

fn load_with(name: &str, text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, text).unwrap();
    config::load(&path, &environment(env))
}

fn environment(env: &[(&str, &str)]) -> Environment {
    env.iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn command_of(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    let text = format!("[processes.a]\ncommand = {text}\n");
    let config = load_with("a.toml", &text, env).unwrap_or_else(|e| panic!("{e}"));
    config.processes[0].spec.clone().unwrap().command
}

#[test]
fn examples_load_and_say_the_same() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let load = |name: &str, env: &[(&str, &str)]| {
        config::load(&examples.join(name), &environment(env)).unwrap_or_else(|e| panic!("{e}"))
    };
    let toml = load("quickstart.toml", &[]);
    assert_eq!(toml, load("quickstart.yaml", &[]));
    assert_eq!(toml, load("quickstart.json", &[]));
    let names: Vec<_> = toml
        .processes
        .iter()
        .map(|process| &*process.name)
        .collect();
    assert_eq!(names, ["flaky", "web", "worker"]);

    let other = load("quickstart.toml", &[("PORT", "9000")]);
    let web = other.processes[1].spec.clone().unwrap();
    assert_eq!(
        web.command,
        ["sh", "quickstart/run.sh", "web", "127.0.0.1:9000"]
    );
    assert_eq!(Path::new(&web.working_directory), examples);
    // Whatever else lies there is an example too.
    for entry in fs::read_dir(&examples).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            load(path.file_name().unwrap().to_str().unwrap(), &[]);
        }
    }
}

#[test]
fn commands_are_words() {
    let port = [("PORT", "80"), ("SPACED", "a b'c")];
    let table: &[(&str, &[&str])] = &[
        ("\"serve\"", &["serve"]),
        ("\"serve  --port 80\"", &["serve", "--port", "80"]),
        (
            "\"say 'a b' \\\"c d\\\" e\\\\ f ''\"",
            &["say", "a b", "c d", "e f", ""],
        ),
        (
            "\"a && b | c > d *\"",
            &["a", "&&", "b", "|", "c", ">", "d", "*"],
        ),
        (
            "\"serve --port=${PORT} $$PORT\"",
            &["serve", "--port=80", "$PORT"],
        ),
        ("\"say ${SPACED} '${SPACED}'\"", &["say", "a b'c", "a b'c"]),
        ("\"say \\\"${NONE:-x y}\\\"\"", &["say", "x y"]),
        ("[\"say\", \"a ${PORT}\", \"'\"]", &["say", "a 80", "'"]),
        ("\"./bin/serve\"", &["./bin/serve"]),
    ];
    for (text, words) in table {
        assert_eq!(command_of(text, &port), *words, "{text}");
    }
}

#[test]
fn paths_are_relative_to_the_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("conf.yaml");
    let text = "processes:\n  a:\n    command: x\n    working_directory: ${D}\n    \
                stdio: {stdin_file: ../in}\n    env_files: [./e, /e]\n";
    let base = std::path::absolute(dir.path()).unwrap();
    let base = base.to_str().unwrap();
    fs::write(&path, text).unwrap();
    for (given, expected) in [
        (".", base.to_owned()),
        ("sub/", format!("{base}/sub")),
        ("../x", format!("{base}/../x")),
        ("/srv", "/srv".to_owned()),
    ] {
        let config = config::load(&path, &environment(&[("D", given)])).unwrap();
        let spec = config.processes[0].spec.clone().unwrap();
        assert_eq!(spec.working_directory, expected);
        assert_eq!(spec.env_files, [format!("{base}/e"), "/e".to_owned()]);
        assert_eq!(spec.stdio.unwrap().stdin_file, format!("{base}/../in"));
    }
}

#[test]
fn nothing_is_the_same_as_no_key() {
    let plain = "processes: {a: {command: x, working_directory: /}}";
    let nothing = "processes:\n  a:\n    command: x\n    working_directory: /\n    labels:\n    \
                   nice: null\n    stdio: ~\n";
    assert_eq!(load_text("a.yaml", plain), load_text("a.yaml", nothing));
    for (name, text) in [
        ("a.yaml", ""),
        ("a.yaml", "# none\n"),
        ("a.toml", ""),
        ("a.json", "{}"),
    ] {
        assert_eq!(load_text(name, text), Ok(Config::default()), "{name}");
    }
}

#[test]
fn yaml_as_people_write_it() {
    let text = "processes:\n  a: &base\n    command: x\n    working_directory: /\n    umask: 022\n    \
                env: {ANSWER: \"42\", ON: yes}\n  b:\n    <<: *base\n    command: y\n";
    let config = load_text("a.yml", text).unwrap_or_else(|e| panic!("{e}"));
    let spec = |i: usize| config.processes[i].spec.clone().unwrap();
    assert_eq!(spec(0).umask, "022");
    assert_eq!(spec(0).env["ON"], "yes");
    assert_eq!(spec(1).command, ["y"]);
    assert_eq!(spec(1).env, spec(0).env);
}

#[test]
fn a_byte_order_mark_and_crlf_do_no_harm() {
    let text = "\u{feff}[processes.a]\r\ncommand = \"x\"\r\n";
    assert_eq!(load_text("a.toml", text).unwrap().processes.len(), 1);
}

#[test]
fn files_that_cannot_be_read() {
    let dir = TempDir::new().unwrap();
    let error = |name: &str, bytes: Option<&[u8]>| {
        let path = dir.path().join(name);
        if let Some(bytes) = bytes {
            fs::write(&path, bytes).unwrap();
        }
        let error = config::load(&path, &Environment::new()).unwrap_err();
        error
            .to_string()
            .replace(&format!("{}: ", path.display()), "")
    };
    let kinds = "unknown kind of file; its name must end in .toml, .yaml (or .yml) or .json";
    assert_eq!(error("a.ini", Some(b"")), kinds);
    assert_eq!(error("toml", Some(b"")), kinds);
    assert_eq!(
        error("none.toml", None),
        "cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        error("a.toml", Some(b"a = \"\xff\"")),
        "is not UTF-8 from byte 5"
    );
    let large = vec![b'#'; config::FILE_BYTES_MAX + 1];
    assert_eq!(
        error("a.toml", Some(&large)),
        "is too large; at most 4194304 bytes are allowed"
    );
}

#[test]
fn the_number_of_processes_is_bounded() {
    let file = |count: usize| -> String {
        (0..count)
            .map(|i| format!("[processes.p{i}]\ncommand = \"x\"\n"))
            .collect()
    };
    let max = config::PROCESSES_MAX;
    assert_eq!(
        load_text("a.toml", &file(max)).unwrap().processes.len(),
        max
    );
    let error = load_text("a.toml", &file(max + 1)).unwrap_err().to_string();
    assert!(
        error.ends_with(
            ":2001: processes: has 1001 processes; at most 1000 are allowed in one file"
        ),
        "{error}"
    );
}

#[test]
fn one_anchor_may_serve_many_processes() {
    let mut text = "processes:\n  p0: &base\n    command: x\n".to_owned();
    for i in 1..300 {
        text.push_str(&format!("  p{i}:\n    <<: *base\n    nice: 1\n"));
    }
    assert_eq!(load_text("a.yaml", &text).unwrap().processes.len(), 300);
}
