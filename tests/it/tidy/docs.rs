//! Documents name what exists, and nothing of the machine they were written on.

use std::collections::HashSet;

use regex::Regex;

use super::{Tree, complains, holds};

const MAP: &str = "ARCHITECTURE.md";
const MAP_LINES_MAX: usize = 270;

fn text<'a>(tree: &'a Tree, path: &str) -> &'a str {
    tree.get(path).map_or("", |file| file.text.as_str())
}

/// Texts between backticks, outside of fenced blocks.
fn spans(text: &str) -> Vec<&str> {
    let mut fenced = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2));
        }
    }
    found
}

/// Whether `path` is a file or a folder of the project, or of `src/`.
fn exists(tree: &Tree, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    [path.to_owned(), format!("src/{path}")].iter().any(|path| {
        let folder = format!("{path}/");
        tree.files
            .iter()
            .any(|file| file.path == *path || file.path.starts_with(&folder))
    })
}

/// All words of the production code and of the contract.
fn words(tree: &Tree) -> HashSet<String> {
    let word = Regex::new(r"[A-Za-z_][A-Za-z0-9_]*").expect("a pattern");
    let mut found = HashSet::new();
    for file in &tree.files {
        let code = match file.path.as_str() {
            path if path.starts_with("src/") => file.code(),
            path if path.ends_with(".proto") => file.text.clone(),
            _ => continue,
        };
        found.extend(word.find_iter(&code).map(|word| word.as_str().to_owned()));
    }
    found
}

fn the_map_names_what_exists(tree: &Tree) -> Vec<String> {
    let path = Regex::new(r"^[\w.-]+(/[\w.-]+)*(/|\.(rs|md|toml|proto|json))$").expect("a pattern");
    let symbol = Regex::new(r"^[A-Za-z_]\w*(::[A-Za-z_]\w*)*$").expect("a pattern");
    let words = words(tree);
    let mut complaints = Vec::new();
    for span in spans(text(tree, MAP)) {
        if path.is_match(span) {
            if !exists(tree, span) {
                complaints.push(format!("{MAP}: there is no file `{span}`"));
            }
        } else if symbol.is_match(span) {
            let missing = span.split("::").find(|part| !words.contains(*part));
            if let Some(part) = missing {
                complaints.push(format!("{MAP}: `{span}`: nothing is called {part}"));
            }
        }
    }
    complaints
}

/// Relative links of documents, and documents that sources point to.
fn links_lead_somewhere(tree: &Tree) -> Vec<String> {
    let link = Regex::new(r"\]\(([^)#:]+)(?:#[^)]*)?\)").expect("a pattern");
    let mention = Regex::new(r"\bdocs/[\w/-]+\.md\b").expect("a pattern");
    let mut complaints = Vec::new();
    for file in &tree.files {
        let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let targets: Vec<String> = if file.path.ends_with(".md") {
            let links = link.captures_iter(&file.text);
            links.map(|found| resolved(folder, &found[1])).collect()
        } else if file.path.ends_with(".rs") {
            let mentions = mention.find_iter(&file.text);
            mentions.map(|found| found.as_str().to_owned()).collect()
        } else {
            continue;
        };
        for target in targets.iter().filter(|target| !exists(tree, target)) {
            complaints.push(format!("{}: there is no {target}", file.path));
        }
    }
    complaints
}

/// `link` of a document in `folder`, from the root.
fn resolved(folder: &str, link: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in link.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

fn the_map_is_short(tree: &Tree) -> Vec<String> {
    let count = text(tree, MAP).lines().count();
    let wrong = count == 0 || count > MAP_LINES_MAX;
    let complaint = format!("{MAP}: {count} lines, at most {MAP_LINES_MAX}");
    wrong.then_some(complaint).into_iter().collect()
}

/// The version of the manifest has a heading.
fn the_changelog_knows_the_version(tree: &Tree) -> Vec<String> {
    let version = text(tree, "Cargo.toml")
        .lines()
        .find_map(|line| line.strip_prefix("version = \""))
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or("?");
    let heading = format!("## [{version}]");
    let known = text(tree, "CHANGELOG.md")
        .lines()
        .any(|line| line.starts_with(&heading));
    let complaint = format!("CHANGELOG.md: no heading {heading}");
    (!known).then_some(complaint).into_iter().collect()
}

fn decisions_are_indexed(tree: &Tree) -> Vec<String> {
    let map = text(tree, MAP);
    tree.files
        .iter()
        .filter(|file| file.path.starts_with("docs/adr/") && !map.contains(&file.path))
        .map(|file| format!("{MAP}: {} is not in the index", file.path))
        .collect()
}

fn no_machine_paths(tree: &Tree) -> Vec<String> {
    let elsewhere = Regex::new(r"/(home|Users|mnt|workspace)/\w|/root/\w").expect("a pattern");
    let here = env!("CARGO_MANIFEST_DIR");
    // A short one, such as /app, may well be an example.
    let here = (here.matches('/').count() > 1).then_some(here);
    let mut complaints = Vec::new();
    for file in &tree.files {
        let document = file.path.ends_with(".md")
            || ["docs/", "examples/", "clients/", "benches/"]
                .iter()
                .any(|folder| file.path.starts_with(folder));
        for (at, line) in file.text.lines().enumerate() {
            let found = elsewhere.is_match(line) || here.is_some_and(|here| line.contains(here));
            if document && found {
                complaints.push(format!("{}:{}: {line}", file.path, at + 1));
            }
        }
    }
    complaints
}

#[test]
fn map_names() {
    complains(
        the_map_names_what_exists,
        &[
            (
                MAP,
                "`src/a.rs` `a.rs` `src/b/` `A::run`\n```\n`Lost`\n```\n`A::gone` `Gone` `make it`",
            ),
            ("src/a.rs", "struct A; fn run() {} // Gone"),
        ],
        &["src/b/", "A::gone", "`Gone`"],
    );
    holds(the_map_names_what_exists);
}

#[test]
fn links() {
    complains(
        links_lead_somewhere,
        &[
            (
                "README.md",
                "[a](docs/a.md) [b](docs/b.md#x) [c](https://c.org/d.md)",
            ),
            ("docs/a.md", "[up](../README.md) [gone](../GONE.md)"),
            ("src/a.rs", "//! See `docs/c.md`."),
        ],
        &["no docs/b.md", "no GONE.md", "no docs/c.md"],
    );
    holds(links_lead_somewhere);
}

#[test]
fn map_size() {
    let long = "x\n".repeat(MAP_LINES_MAX + 1);
    complains(the_map_is_short, &[(MAP, &long)], &["271 lines"]);
    complains(the_map_is_short, &[], &["0 lines"]);
    holds(the_map_is_short);
}

#[test]
fn changelog() {
    let manifest = ("Cargo.toml", "[package]\nversion = \"1.2.3\"\n");
    let sample = [manifest, ("CHANGELOG.md", "## [1.2.2]\n")];
    complains(the_changelog_knows_the_version, &sample, &["1.2.3"]);
    holds(the_changelog_knows_the_version);
}

#[test]
fn decisions() {
    let sample = [
        (MAP, "docs/adr/001-a.md"),
        ("docs/adr/001-a.md", ""),
        ("docs/adr/002-b.md", ""),
    ];
    complains(decisions_are_indexed, &sample, &["002-b"]);
    holds(decisions_are_indexed);
}

#[test]
fn machine_paths() {
    let own = format!("cd {}", env!("CARGO_MANIFEST_DIR"));
    let sample = [
        ("README.md", "see /home/ann/x\nand /etc/procession"),
        ("docs/a.md", own.as_str()),
    ];
    complains(no_machine_paths, &sample, &["README.md:1", "docs/a.md:1"]);
    holds(no_machine_paths);
}
