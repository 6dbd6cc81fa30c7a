//! Whatever the text, there is an answer and no panic. Proptest prints the seed
//! of a failure.

use proptest::prelude::*;

use super::*;

const FORMATS: [Format; 3] = [Format::Toml, Format::Yaml, Format::Json];

/// What files are made of, so that arbitrary text gets past the parsers.
const PIECES: [&str; 44] = [
    "processes",
    "groups",
    "a",
    "command",
    "env",
    "dependencies",
    "restart_policy",
    "mode",
    "nice",
    "stdio",
    "labels",
    ".",
    "=",
    ":",
    ": ",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    ",",
    "\"",
    "'",
    "\n",
    "\n  ",
    "- ",
    " ",
    "&x",
    "*x",
    "<<",
    "#",
    "${",
    "}",
    "$$",
    ":-",
    "\\",
    "1",
    "-1",
    "1e999",
    "null",
    "true",
    "é",
    "\0",
];

fn load_all(text: &str) {
    let env = [("a".to_owned(), "b".to_owned())].into();
    for format in FORMATS {
        let mut findings = Findings::default();
        let config = build(format, text, Path::new("/base"), &env, &mut findings);
        let result = findings.or(Path::new("f"), config);
        if let Err(errors) = result {
            assert!(!errors.errors().is_empty() && !errors.to_string().is_empty());
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_text_is_no_panic(text in any::<String>()) {
        load_all(&text);
    }

    #[test]
    fn arbitrary_pieces_are_no_panic(
        pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..60)
    ) {
        load_all(&pieces.concat());
    }

    /// A valid document with one value of any kind anywhere: what the schema lets
    /// through, the structs take.
    #[test]
    fn the_schema_and_the_structs_agree(
        key in prop::sample::select(process_keys()),
        value in prop::sample::select(vec![
            "1", "-1", "0.5", "true", "\"a\"", "\"10s\"", "[]", "{}", "[\"a\"]", "[1]", "[{}]",
            "{\"name\":\"a\"}", "{\"command\":\"a\"}", "[{\"name\":\"a\",\"file\":\"b\"}]", "\"\"",
            "2147483648", "9223372036854775808", "{\"mode\":\"always\"}", "{\"signal\":\"term\"}",
        ]),
    ) {
        let text = format!("{{\"processes\":{{\"a\":{{\"command\":\"x\",\"{key}\":{value}}}}}}}");
        let mut findings = Findings::default();
        build(Format::Json, &text, Path::new("/base"), &Environment::new(), &mut findings);
        // An error without a line would be one of serde's.
        if let Err(errors) = findings.or(Path::new("f"), ()) {
            prop_assert!(errors.errors().iter().all(|error| error.line > 0), "{errors}");
        }
    }
}

fn process_keys() -> Vec<String> {
    let properties = schema::schema()["$defs"]["Process"]["properties"].as_object();
    properties
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect()
}
