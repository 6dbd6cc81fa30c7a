use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{labels::LabelSelector, *};
use crate::domain::{
    spec::{Config, Spec},
    status::{Cause, Desired, Status},
    time::Timestamp,
};

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    pairs.iter().map(owned).collect()
}

fn process(name: &str, group: Option<&str>, state: State, pairs: &[(&str, &str)]) -> ProcessState {
    let config = Config {
        labels: labels(pairs),
        group: group.map(|g| ProcessName::new(g).unwrap()),
        ..Config::default()
    };
    let mut status = Status::new(Desired::Running, Cause::CONFIG, Timestamp(1));
    status.state = state;
    ProcessState {
        spec: std::sync::Arc::new(Spec {
            name: ProcessName::new(name).unwrap(),
            generation: 1,
            created: Timestamp(1),
            config,
        }),
        status,
        cause: Cause::CONFIG,
        time: Timestamp(1),
        intent: 0,
    }
}

fn names(texts: &[&str]) -> Vec<ProcessName> {
    texts.iter().map(|t| ProcessName::new(t).unwrap()).collect()
}

#[test]
fn all_parts_must_match_any_value_within_a_part() {
    let web = process("web-1", Some("front"), State::Running, &[("tier", "a")]);
    let parts = || Parts {
        names: names(&["web-1", "web-2"]),
        patterns: vec![Glob::new("web-*").unwrap(), Glob::new("db").unwrap()],
        labels: LabelSelector::parse("tier in (a,b)").unwrap(),
        states: vec![State::Backoff, State::Running],
        groups: names(&["front", "back"]),
    };
    assert!(Filter::new(parts()).matches(&web));
    let broken = [
        Parts {
            names: names(&["web-2"]),
            ..parts()
        },
        Parts {
            patterns: vec![Glob::new("x*").unwrap()],
            ..parts()
        },
        Parts {
            labels: LabelSelector::parse("!tier").unwrap(),
            ..parts()
        },
        Parts {
            states: vec![State::Failed],
            ..parts()
        },
        Parts {
            groups: names(&["back"]),
            ..parts()
        },
    ];
    for parts in broken {
        let filter = Filter::new(parts);
        assert!(!filter.matches(&web), "{filter}");
    }
    assert!(Filter::all().matches(&web));
    assert!(Filter::all().is_all());
    let alone = process("web-1", None, State::Running, &[("tier", "a")]);
    assert!(!Filter::new(parts()).matches(&alone), "without a group");
}

#[test]
fn canonical_text_does_not_depend_on_order() {
    let one = Filter::new(Parts {
        names: names(&["b", "a", "b"]),
        states: vec![State::Running, State::Failed],
        labels: LabelSelector::parse("x=1 , !y").unwrap(),
        ..Parts::default()
    });
    let other = Filter::new(Parts {
        names: names(&["a", "b"]),
        states: vec![State::Failed, State::Running, State::Failed],
        labels: LabelSelector::parse("!y,x in (1)").unwrap(),
        ..Parts::default()
    });
    assert_eq!(one, other);
    assert_eq!(one.to_string(), other.to_string());
    assert_ne!(one.to_string(), Filter::all().to_string());
}

#[test]
fn globs_know_star_and_question_mark_only() {
    let table = [
        ("*", "anything", true),
        ("web-*", "web-", true),
        ("web-*", "web", false),
        ("w?b", "web", true),
        ("w?b", "wb", false),
        ("*-1", "a-1-1", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("a", "aa", false),
    ];
    for (pattern, name, fits) in table {
        assert_eq!(
            Glob::new(pattern).unwrap().matches(name),
            fits,
            "{pattern} {name}"
        );
    }
    for bad in ["", "[ab]", "a b", &"*".repeat(200)] {
        assert!(Glob::new(bad).is_err(), "{bad}");
    }
}

#[test]
fn hostile_globs_are_quick() {
    let pattern = Glob::new(&"*a".repeat(60)).unwrap();
    assert!(!pattern.matches(&format!("{}b", "a".repeat(62))));
}

#[test]
fn label_selectors_mean_what_they_mean_in_kubernetes() {
    let held = labels(&[("app", "web"), ("tier", ""), ("example.com/x", "1")]);
    let table = [
        ("", true),
        ("  ", true),
        ("app", true),
        ("!app", false),
        ("nope", false),
        ("! nope", true),
        ("app=web", true),
        ("app == web", true),
        ("app!=web", false),
        ("nope!=web", true),
        ("tier=", true),
        ("app=", false),
        ("app in (web, db)", true),
        ("app in (db)", false),
        ("app notin (db)", true),
        ("nope notin (db)", true),
        ("app notin(web)", false),
        ("nope in (db)", false),
        ("tier in (,x)", true),
        ("example.com/x=1", true),
        ("app=web,!nope,tier", true),
        ("app=web,nope", false),
        ("in", false),
        ("in in (in)", false),
    ];
    for (text, matches) in table {
        let selector = LabelSelector::parse(text).unwrap();
        assert_eq!(selector.matches(&held), matches, "{text}");
    }
}

#[test]
fn label_errors_tell_the_place() {
    let table = [
        (",", 0),
        ("a,", 2),
        ("a,,b", 2),
        ("!", 1),
        ("a b", 2),
        ("a in", 4),
        ("a in (b", 7),
        ("a in (b c)", 8),
        ("a = b c", 6),
        ("a ~ b", 2),
        ("a > 1", 2),
        ("-a", 0),
        ("a=-b", 2),
        ("/a", 0),
        ("A.b/", 0),
        ("a=\u{e9}", 2),
    ];
    for (text, offset) in table {
        let error = LabelSelector::parse(text).unwrap_err();
        assert_eq!(error.offset, offset, "{text}: {error}");
    }
    let long = format!("a={}", "x".repeat(64));
    assert_eq!(LabelSelector::parse(&long).unwrap_err().offset, 2);
    assert!(LabelSelector::parse(&"a,".repeat(10_000)).is_err());
}

/// A second implementation of globs, by recursion.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some(b'*'), _) => {
            fits(&pattern[1..], name) || (!name.is_empty() && fits(pattern, &name[1..]))
        }
        (Some(b'?'), Some(_)) => fits(&pattern[1..], &name[1..]),
        (Some(p), Some(n)) if p == n => fits(&pattern[1..], &name[1..]),
        _ => false,
    }
}

proptest! {
    #[test]
    fn globs_agree_with_their_definition(pattern in "[ab*?]{1,8}", name in "[ab]{1,10}") {
        let glob = Glob::new(&pattern).unwrap();
        prop_assert_eq!(glob.matches(&name), fits(pattern.as_bytes(), name.as_bytes()));
    }

    #[test]
    fn any_text_is_parsed_or_refused_within_itself(text in "[ab=!,() /in-]{0,20}|\\PC{0,20}") {
        if let Err(error) = LabelSelector::parse(&text) {
            prop_assert!(error.offset <= text.len());
            prop_assert!(text.is_char_boundary(error.offset));
        }
    }

    #[test]
    fn canonical_selectors_parse_to_themselves(
        text in "(!?[ab]|[ab] ?(=|==|!=) ?[xy]?|[ab] (in|notin) \\([xy]?(, ?[xy]?)*\\))(,[cd](=[xy])?){0,3}"
    ) {
        let selector = LabelSelector::parse(&text).unwrap();
        let again = LabelSelector::parse(&selector.to_string()).unwrap();
        prop_assert_eq!(selector.to_string(), again.to_string());
        prop_assert_eq!(selector, again);
    }

    #[test]
    fn equality_and_sets_say_the_same(value in "[xy]", held in proptest::option::of("[xyz]")) {
        let labels: BTreeMap<_, _> = held.into_iter().map(|v| ("a".to_owned(), v)).collect();
        let says = |text: String| LabelSelector::parse(&text).unwrap().matches(&labels);
        prop_assert_eq!(says(format!("a={value}")), says(format!("a in ({value})")));
        prop_assert_eq!(says(format!("a!={value}")), says(format!("a notin ({value})")));
        prop_assert_eq!(says(format!("a={value}")), !says(format!("a!={value}")));
        prop_assert_eq!(says("a".into()), !says("!a".into()));
    }
}
