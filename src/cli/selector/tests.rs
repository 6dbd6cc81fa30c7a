//! Targets as selectors.

use super::*;

type Words<'a> = &'a [&'a str];

fn parse(targets: &[&str]) -> Selection {
    parse_args(targets, None, false).unwrap()
}

fn parse_args(targets: &[&str], labels: Option<&str>, all: bool) -> Result<Selection, CliError> {
    let args = SelectArgs {
        targets: targets.iter().map(|&target| target.to_owned()).collect(),
        labels: labels.map(str::to_owned),
        all,
    };
    Selection::parse(&args, Empty::Refused)
}

/// names, patterns, groups of the wire.
fn wire(targets: &[&str]) -> (Vec<String>, Vec<String>, Vec<String>) {
    let selection = parse(targets);
    let selector = selection.on_the_wire(selection.groups.clone());
    (selector.names, selector.name_patterns, selector.groups)
}

#[test]
fn targets_become_parts_of_the_selector() {
    let list = |items: &[&str]| {
        items
            .iter()
            .map(|&item| item.to_owned())
            .collect::<Vec<_>>()
    };
    let cases: [(Words<'_>, Words<'_>, Words<'_>, Words<'_>); 8] = [
        (&["web"], &["web"], &[], &[]),
        (&["web", "db", "web"], &["web", "db"], &[], &[]),
        (&["web*"], &[], &["web*"], &[]),
        (&["web", "d?"], &[], &["web", "d?"], &[]),
        (&["group:front"], &[], &[], &["front"]),
        (&["front:*", "group:back"], &[], &[], &["front", "back"]),
        (&["all"], &[], &[], &[]),
        (&["*"], &[], &["*"], &[]),
    ];
    for (targets, names, patterns, groups) in cases {
        assert_eq!(
            wire(targets),
            (list(names), list(patterns), list(groups)),
            "{targets:?}"
        );
    }
}

#[test]
fn what_makes_no_sense_is_refused_with_the_remedy() {
    let cases: [(&[&str], &str); 7] = [
        (&[], "--all"),
        (&["all", "web"], "leave one out"),
        (&["group:a", "web"], "one command for each"),
        (&["we b"], "allowed are"),
        (&["-web"], "must start"),
        (&["group:"], "is empty"),
        (&["a/*"], "allowed are"),
    ];
    for (targets, remedy) in cases {
        let error = parse_args(targets, None, false).unwrap_err();
        assert!(matches!(error, CliError::Usage(_)), "{targets:?}");
        assert!(error.to_string().contains(remedy), "{targets:?}: {error}");
    }
    assert!(
        parse_args(&[], Some("a=b"), false).is_ok(),
        "labels are a target"
    );
    assert!(parse_args(&[], None, true).unwrap().is_everything());
}

#[test]
fn one_exact_name_is_a_single_call() {
    assert_eq!(parse(&["web"]).single_name(), Some("web"));
    for targets in [&["web", "db"][..], &["web*"], &["group:web"], &["all"]] {
        assert_eq!(parse(targets).single_name(), None, "{targets:?}");
    }
    let labelled = parse_args(&["web"], Some("a=b"), false).unwrap();
    assert_eq!(labelled.single_name(), None, "the labels have to be judged");
}

#[test]
fn what_was_named_must_be_found() {
    let found = |names: &[&'static str]| names.iter().copied().collect::<BTreeSet<&str>>();
    let selection = parse(&["web", "d*"]);
    assert!(selection.require(&found(&["web"])).is_ok());
    assert!(matches!(
        selection.require(&found(&["db"])),
        Err(CliError::NotFound(names)) if names == ["web"]
    ));
    assert!(matches!(
        parse(&["x*"]).require(&found(&[])),
        Err(CliError::NoMatch(_))
    ));
    assert!(
        parse(&["all"]).require(&found(&[])).is_ok(),
        "nothing is all there is"
    );
}

#[test]
fn a_selection_reads_as_it_was_written() {
    assert_eq!(parse(&["web", "d*"]).to_string(), "web d*");
    assert_eq!(parse(&["front:*"]).to_string(), "group:front");
    assert_eq!(
        parse_args(&["w*"], Some("a=b"), false).unwrap().to_string(),
        "w* -l a=b"
    );
    assert_eq!(parse(&["all"]).to_string(), "all");
}

#[test]
fn globs() {
    let cases = [
        ("*", "", true),
        ("*", "web", true),
        ("w?b", "web", true),
        ("w?b", "wb", false),
        ("web*", "web", true),
        ("*b*b", "abcb", true),
        ("*b*b", "abc", false),
        ("a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ("web", "web2", false),
    ];
    for (glob, text, expected) in cases {
        assert_eq!(matches(glob, text), expected, "{glob} {text}");
    }
}
