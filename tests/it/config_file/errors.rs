//! What is wrong is told with line, key and what is allowed, in these words.

use super::load_text;

/// The errors of a file, without its name.
fn errors(name: &str, text: &str) -> Vec<String> {
    let error = load_text(name, text).expect_err(text);
    error
        .errors()
        .iter()
        .map(|error| error.to_string().trim_start().to_owned())
        .collect()
}

/// One key of one process; the error is on line 3.
fn errors_of(line: &str) -> Vec<String> {
    errors(
        "a.toml",
        &format!("[processes.web]\ncommand = \"x\"\n{line}\n"),
    )
}

#[test]
fn values() {
    let table = [
        (
            "nice = 30",
            "nice: must be an integer from -20 to 19; found the integer 30",
        ),
        (
            "nice = 99999999999999999999",
            "nice: must be an integer from -20 to 19; found the integer 99999999999999999999",
        ),
        (
            "nice = 1.5",
            "nice: must be an integer from -20 to 19; found the number 1.5",
        ),
        (
            "nice = 1979-05-27",
            "nice: must be an integer from -20 to 19; found a date or time",
        ),
        (
            "autostart = \"yes\"",
            "autostart: must be true or false; found the string \"yes\"",
        ),
        (
            "env.PORT = 80",
            "env.PORT: must be a string; found the integer 80 (put it in quotes)",
        ),
        ("env = []", "env: must be a table; found a list"),
        (
            "env.\"A=B\" = \"x\"",
            "env.\"A=B\": must be the name of an environment variable: not empty and without \
             \"=\"; found \"A=B\"",
        ),
        (
            "labels.a = \"x\\u0000\"",
            "labels.a: must not contain a NUL character",
        ),
        (
            "working_directory = \"\"",
            "working_directory: must not be empty",
        ),
        (
            "start_timeout = 10",
            "start_timeout: must be a duration such as \"10s\", \"1m30s\" or \"500ms\"; found the \
             integer 10",
        ),
        (
            "start_timeout = \"10\"",
            "start_timeout: must be a duration such as \"10s\", \"1m30s\" or \"500ms\"; found \
             \"10\"",
        ),
        (
            "umask = 18",
            "umask: must be octal digits in quotes such as \"022\"; found the integer 18",
        ),
        (
            "stop_policy.signal = \"trem\"",
            "stop_policy.signal: must be a signal such as \"term\", \"SIGTERM\", \"hup\" or \
             \"usr1\"; found \"trem\"",
        ),
        (
            "resource_limits.memory_max_bytes = \"64M\"",
            "resource_limits.memory_max_bytes: must be a number of bytes or a size such as \
             \"64MiB\" (units: B, KiB, MiB, GiB, TiB, kB, MB, GB, TB); found \"64M\"",
        ),
        (
            "resource_limits.memory_max_bytes = -1",
            "resource_limits.memory_max_bytes: must be a number of bytes or a size such as \
             \"64MiB\"; found the integer -1",
        ),
        (
            "restart_policy.jitter_ratio = 2",
            "restart_policy.jitter_ratio: must be a number from 0 to 1; found the integer 2",
        ),
        (
            "restart_policy.jitter_ratio = nan",
            "restart_policy.jitter_ratio: must be a number from 0 to 1; found the number NaN",
        ),
        (
            "restart_policy.success_exit_codes = [0, 256]",
            "restart_policy.success_exit_codes[1]: must be an integer from 0 to 255; found the \
             integer 256",
        ),
        (
            "restart_policy.mode = \"on-failure\"",
            "restart_policy.mode: must be one of \"never\", \"on_failure\", \"always\"; found \
             \"on-failure\"; did you mean \"on_failure\"?",
        ),
        (
            "dependencies = [\"a b\"]",
            "dependencies[0]: the name contains ' '; allowed are A-Z a-z 0-9 . _ -",
        ),
        (
            "dependencies = [3]",
            "dependencies[0]: must be a string or a table; found the integer 3",
        ),
        (
            "group = \"-\"",
            "group: the name must start and end with a letter or a digit",
        ),
        (
            "hooks.pre_start = \"a 'b\"",
            "hooks.pre_start: must be words as in a shell, but a quote is not closed or a \
             backslash ends it",
        ),
        ("hooks.pre_start = []", "hooks.pre_start: must not be empty"),
        (
            "hooks.pre_start = \"'' x\"",
            "hooks.pre_start: must start with a program to run; the first word is empty",
        ),
        (
            "hooks.pre_start = 1",
            "hooks.pre_start: must be a string, a list of strings or a table; found the \
             integer 1",
        ),
        (
            "file_watch = { paths = [] }",
            "file_watch.paths: must not be empty",
        ),
        (
            "env.HOME = \"${NOPE}/x\"",
            "env.HOME: the environment variable NOPE is not set; set it, or give a default as in \
             ${NOPE:-value}",
        ),
        (
            "hooks.pre_start = \"echo ${NOPE}\"",
            "hooks.pre_start: the environment variable NOPE is not set; set it, or give a default \
             as in ${NOPE:-value}",
        ),
    ];
    for (line, expected) in table {
        assert_eq!(
            errors_of(line),
            [format!("3: processes.web.{expected}")],
            "{line}"
        );
    }
}

#[test]
fn keys() {
    let table = [
        (
            "restart_policy.mod = \"x\"",
            "restart_policy.mod: unknown key; did you mean \"mode\"?",
        ),
        (
            "comand = 1",
            "comand: unknown key; did you mean \"command\"?",
        ),
        (
            "cwd = \"/\"",
            "cwd: unknown key; did you mean \"working_directory\"?",
        ),
        (
            "depends_on = []",
            "depends_on: unknown key; did you mean \"dependencies\"?",
        ),
        (
            "\"a b\" = 1",
            "\"a b\": unknown key; allowed here: annotations, autostart, clear_env, \
          command, dependencies, env, env_files, exit_with, file_watch, group, hooks, labels, \
          liveness_probe, nice, oom_score_adj, readiness_probe, reload, resource_limits, \
          restart_policy, run_as, schedule, secret_env, secrets, sockets, start_timeout, \
          startup_probe, stdio, stop_policy, umask, working_directory",
        ),
        (
            "restart_policy.budget = {}",
            "restart_policy.budget.max_restarts: is missing; it must \
          be given",
        ),
        (
            "reload = {}",
            "reload: must have exactly one of signal, command; found none",
        ),
        (
            "schedule = { cron = \"* * * * *\", interval = \"1s\" }",
            "schedule: must have exactly one of cron, interval; found cron and interval",
        ),
    ];
    for (line, expected) in table {
        assert_eq!(
            errors_of(line),
            [format!("3: processes.web.{expected}")],
            "{line}"
        );
    }
}

/// Several errors at once, and lines, in every language.
#[test]
fn all_at_once_with_their_lines() {
    let expected = |lines: [u32; 4]| {
        let texts = [
            "processes.a.restart_policy.mod: unknown key; did you mean \"mode\"?",
            "processes.a.nice: must be an integer from -20 to 19; found the integer 20",
            "processes.b.command: is missing; it must be given",
            "group: unknown key; did you mean \"groups\"?",
        ];
        lines
            .iter()
            .zip(texts)
            .map(|(line, text)| format!("{line}: {text}"))
            .collect::<Vec<_>>()
    };
    let toml = "# comment\n[processes.a]\ncommand = \"x\"\nrestart_policy.mod = \"always\"\nnice = 20\n\n\
                [processes.b]\n\n[group]\n";
    assert_eq!(errors("a.toml", toml), expected([4, 5, 7, 9]));
    let yaml = "# comment\nprocesses:\n  a:\n    command: x\n    restart_policy:\n      mod: always\n    \
                nice:\n      20\n  b:\n    command:\ngroup: {}\n";
    assert_eq!(errors("a.yaml", yaml), expected([6, 7, 9, 11]));
    let json = "{\n  \"processes\": {\n    \"a\": {\n      \"command\": \"x\",\n      \
                \"restart_policy\": { \"mod\"\n: 1 }, \"nice\": 20 },\n    \"b\":\n\n    {}\n  },\n  \
                \"group\": {}\n}\n";
    assert_eq!(errors("a.json", json), expected([5, 6, 7, 11]));
}

#[test]
fn syntax() {
    let table = [
        (
            "a.toml",
            "a = 1\na = 2\nb = \"x\n",
            vec![
                "2: invalid TOML: duplicate key \"a\"",
                "3: invalid TOML: invalid basic string, expected `\"`",
            ],
        ),
        (
            "a.yaml",
            "a: 1\nb: 2\na: 3\n",
            vec!["3: invalid YAML: duplicate mapping key `a` is not allowed here"],
        ),
        (
            "a.json",
            "{\n\"a\": 1,\n\"a\": 2}",
            vec!["3: invalid JSON: duplicate key \"a\"; first on line 2"],
        ),
        (
            "a.json",
            "{\n\"a\": 1,\n}",
            vec!["3: invalid JSON: key must be a string"],
        ),
        (
            "a.json",
            "",
            vec!["1: invalid JSON: EOF while parsing a value"],
        ),
        ("a.json", "[]", vec!["1: must be a table; found a list"]),
        ("a.yaml", "- x", vec!["1: must be a table; found a list"]),
        (
            "a.yaml",
            "a: 1\n---\nb: 1\n",
            vec!["3: invalid YAML: only single YAML document expected but multiple found"],
        ),
    ];
    for (name, text, expected) in table {
        assert_eq!(errors(name, text), expected, "{name}: {text}");
    }
    let twice = "[processes.web]\ncommand = \"x\"\n[processes.web]\ncommand = \"y\"\n";
    assert_eq!(
        errors("a.toml", twice)[0],
        "3: invalid TOML: duplicate key \"web\""
    );
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100));
    assert_eq!(
        errors("a.json", &deep),
        ["1: is nested too deeply; at most 32 levels are allowed"]
    );
}

#[test]
fn cycles() {
    let file = |processes: &[(&str, &str)]| {
        let processes = processes.iter().map(|(name, deps)| {
            format!("[processes.{name}]\ncommand = \"x\"\ndependencies = [{deps}]\n")
        });
        processes.collect::<String>()
    };
    let refused = [
        (
            file(&[("a", "\"a\"")]),
            "3: processes.a.dependencies[0]: is part of a cycle: a -> a",
        ),
        (
            file(&[("a", "\"b\""), ("b", "\"elsewhere\", { name = \"a\" }")]),
            "6: processes.b.dependencies[1]: is part of a cycle: a -> b -> a",
        ),
        (
            file(&[
                ("a", "\"b\""),
                ("b", "\"c\""),
                ("c", "\"d\""),
                ("d", "\"b\""),
            ]),
            "12: processes.d.dependencies[0]: is part of a cycle: b -> c -> d -> b",
        ),
    ];
    for (text, expected) in refused {
        assert_eq!(
            errors("a.toml", &text),
            [format!("{expected}; none of them could start")]
        );
    }
    let diamond = file(&[
        ("a", "\"b\", \"c\""),
        ("b", "\"d\""),
        ("c", "\"d\""),
        ("d", "\"none\""),
    ]);
    load_text("a.toml", &diamond).unwrap();
}

#[test]
fn many_errors_are_counted() {
    let keys: String = (0..103).map(|i| format!("qqqqqqqq{i} = 1\n")).collect();
    let error = load_text("a.toml", &keys).unwrap_err();
    assert_eq!(error.errors().len(), 100);
    assert!(error.to_string().ends_with(": 3 more errors"), "{error}");
}

/// Aliases of aliases; expanded, these are ten to the eighth texts.
#[test]
fn an_alias_bomb_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for i in 1..8 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        text.push_str(&format!("a{i}: &a{i} [{aliases}]\n"));
    }
    let found = errors("a.yaml", &text);
    assert!(found[0].contains("invalid YAML: "), "{found:?}");
}
