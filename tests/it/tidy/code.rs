//! Rules about sources: sizes, headers, forbidden words, unsafe, tests.

use regex::Regex;

use super::{Exemption, Tree, complains, exempt, holds};

/// Lines of non-test code of a file; 300 is the aim.
const LINES_MAX: usize = 600;
const LONG: &[Exemption] = &[(
    "src/shim/supervise.rs",
    "one loop, a line over; split it before it grows",
)];

/// Files with `unsafe` outside of the two layers that speak to the kernel.
const UNSAFE: &[Exemption] = &[];
const UNSAFE_LAYERS: &[&str] = &["src/shim/", "src/shim.rs", "src/runner/", "src/runner.rs"];

/// Tests that sleep.
const SLEEPS: &[Exemption] = &[
    (
        "tests/it/daemon/api.rs",
        "between two looks, with a deadline",
    ),
    (
        "tests/it/daemon/load.rs",
        "nothing can be waited for: a daemon at rest must do nothing",
    ),
    (
        "tests/it/daemon/support.rs",
        "between two looks, with a deadline",
    ),
    (
        "tests/it/daemon/survival.rs",
        "a kill at a random instant; a daemon that stands still",
    ),
    (
        "tests/it/daemon/survival/intents.rs",
        "a kill at a random instant",
    ),
    (
        "tests/it/faults/support.rs",
        "between two looks, with a deadline",
    ),
    (
        "tests/it/server/support.rs",
        "between two looks, with a deadline",
    ),
    ("src/runner/fake/tests.rs", "on a paused clock"),
    (
        "tests/it/registry_stress/run.rs",
        "between two looks, with a deadline",
    ),
    (
        "tests/it/shim/stops.rs",
        "nothing can be waited for: a frozen run must do nothing",
    ),
    (
        "tests/it/shim/survival.rs",
        "between two looks, with a deadline",
    ),
];

/// Each line of `text` that matches, as `path:line: what`.
fn lines(path: &str, text: &str, pattern: &Regex, what: &str) -> Vec<String> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| pattern.is_match(line))
        .map(|(at, line)| format!("{path}:{}: {what}: {}", at + 1, line.trim()))
        .collect()
}

fn files_are_short(tree: &Tree) -> Vec<String> {
    tree.rust(&["src", "benches", "examples"])
        .filter(|file| !exempt(LONG, &file.path))
        .map(|file| (file, file.production().lines().count()))
        .filter(|(_, count)| *count > LINES_MAX)
        .map(|(file, count)| format!("{}: {count} lines, at most {LINES_MAX}", file.path))
        .collect()
}

fn no_mod_rs(tree: &Tree) -> Vec<String> {
    tree.rust(&["src", "tests", "benches"])
        .filter(|file| file.path.ends_with("/mod.rs"))
        .map(|file| format!("{}: write foo.rs beside foo/", file.path))
        .collect()
}

/// Every file, not only those with a folder: the rule is easier to keep.
fn modules_have_headers(tree: &Tree) -> Vec<String> {
    tree.rust(&["src"])
        .filter(|file| !file.production().is_empty() && !file.text.starts_with("//! "))
        .map(|file| format!("{}: no //! header (role, invariants, absences)", file.path))
        .collect()
}

fn nothing_is_left_to_do(tree: &Tree) -> Vec<String> {
    let marks = Regex::new(r"\b(TODO|FIXME|XXX)\b|\b(todo|unimplemented)!|\(being built\)")
        .expect("a pattern");
    tree.rust(&["src"])
        .flat_map(|file| lines(&file.path, &file.text, &marks, "unfinished"))
        .collect()
}

fn no_test_is_ignored(tree: &Tree) -> Vec<String> {
    let ignored = Regex::new(r"#\[ignore\b").expect("a pattern");
    tree.rust(&["src", "tests"])
        .flat_map(|file| lines(&file.path, &file.text, &ignored, "ignored test"))
        .collect()
}

fn tests_wait_for_conditions(tree: &Tree) -> Vec<String> {
    let sleeps = Regex::new(r"\bthread::sleep\b|\btime::sleep\(").expect("a pattern");
    tree.rust(&["src", "tests"])
        .filter(|file| !exempt(SLEEPS, &file.path))
        .flat_map(|file| lines(&file.path, file.tests(), &sleeps, "a test that sleeps"))
        .collect()
}

fn unsafe_is_for_the_kernel(tree: &Tree) -> Vec<String> {
    let word = Regex::new(r"\bunsafe\b").expect("a pattern");
    tree.rust(&["src"])
        .filter(|file| {
            !UNSAFE_LAYERS
                .iter()
                .any(|layer| file.path.starts_with(layer))
        })
        .filter(|file| !exempt(UNSAFE, &file.path))
        .flat_map(|file| lines(&file.path, &file.code(), &word, "unsafe"))
        .collect()
}

/// An exemption whose file is gone, or that gives no reason.
fn exemptions_are_needed(tree: &Tree) -> Vec<String> {
    [LONG, UNSAFE, SLEEPS]
        .into_iter()
        .flatten()
        .filter(|(path, reason)| tree.get(path).is_none() || reason.is_empty())
        .map(|(path, _)| format!("{path}: exempted, but gone or without a reason"))
        .collect()
}

#[test]
fn sizes() {
    let long = "x\n".repeat(LINES_MAX + 1);
    let tested = format!("x\n#[cfg(test)]\nmod tests {{\n{long}}}");
    complains(
        files_are_short,
        &[
            ("src/a.rs", &long),
            ("src/b.rs", &tested),
            ("src/c/tests.rs", &long),
        ],
        &["src/a.rs: 601"],
    );
    holds(files_are_short);
}

#[test]
fn module_files() {
    complains(
        no_mod_rs,
        &[("src/a/mod.rs", ""), ("src/mod.rs.rs", "")],
        &["src/a"],
    );
    holds(no_mod_rs);
}

#[test]
fn headers() {
    complains(
        modules_have_headers,
        &[
            ("src/a.rs", "use x;"),
            ("src/b.rs", "//! B.\n"),
            ("src/a/tests.rs", "x"),
        ],
        &["src/a.rs"],
    );
    holds(modules_have_headers);
}

#[test]
fn unfinished() {
    complains(
        nothing_is_left_to_do,
        &[(
            "src/a.rs",
            "// TODO: x\nlet path = \"XXXXXX\";\ntodo!()\n//! (being built)",
        )],
        &["a.rs:1", "a.rs:3", "a.rs:4"],
    );
    holds(nothing_is_left_to_do);
}

#[test]
fn ignored() {
    let text = "#[test]\n#[ignore = \"slow\"]\nfn f() {}";
    complains(no_test_is_ignored, &[("tests/it/a.rs", text)], &["a.rs:2"]);
    holds(no_test_is_ignored);
}

#[test]
fn sleeps() {
    let inline = "thread::sleep(d);\n#[cfg(test)]\nmod tests {\nstd::thread::sleep(d);\n}";
    complains(
        tests_wait_for_conditions,
        &[
            ("src/a.rs", inline),
            ("tests/it/b.rs", "tokio::time::sleep(d).await"),
        ],
        &["src/a.rs", "tests/it/b.rs:1"],
    );
    holds(tests_wait_for_conditions);
}

#[test]
fn unsafe_code() {
    complains(
        unsafe_is_for_the_kernel,
        &[
            ("src/a.rs", "// unsafe in words\nunsafe { f() }"),
            ("src/b.rs", "#![deny(unsafe_code)]"),
            ("src/shim/sys.rs", "unsafe { f() }"),
        ],
        &["src/a.rs:2"],
    );
    holds(unsafe_is_for_the_kernel);
}

#[test]
fn exemptions() {
    holds(exemptions_are_needed);
}
