//! What somebody may have meant.

/// Keys people know from elsewhere, and ours.
const FAMILIAR: [(&str, &str); 19] = [
    ("args", "command"),
    ("cmd", "command"),
    ("entrypoint", "command"),
    ("script", "command"),
    ("cwd", "working_directory"),
    ("directory", "working_directory"),
    ("working_dir", "working_directory"),
    ("environment", "env"),
    ("env_file", "env_files"),
    ("depends_on", "dependencies"),
    ("requires", "dependencies"),
    ("user", "run_as"),
    ("restart", "restart_policy"),
    ("autorestart", "restart_policy"),
    ("availability", "restart_policy"),
    ("stopsignal", "stop_policy"),
    ("stopwaitsecs", "stop_policy"),
    ("shutdown", "stop_policy"),
    ("programs", "processes"),
];

/// What follows "unknown key".
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    let familiar = FAMILIAR
        .iter()
        .find(|(theirs, ours)| *theirs == key && known.contains(ours));
    if let Some((_, ours)) = familiar {
        return format!("; did you mean {ours:?}?");
    }
    let hint = did_you_mean(key, known);
    if hint.is_empty() {
        let known: Vec<_> = known
            .iter()
            .copied()
            .filter(|key| !key.starts_with('$'))
            .collect();
        return format!("; allowed here: {}", known.join(", "));
    }
    hint
}

/// The nearest of `known`; empty where none is near.
pub(super) fn did_you_mean(text: &str, known: &[&str]) -> String {
    // Beyond this length nothing is near, and the distance costs its square.
    if text.len() > 64 {
        return String::new();
    }
    let text = text.to_ascii_lowercase().replace('-', "_");
    let near = text.chars().count() / 4 + 1;
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&text, known), known))
        .min()
        .filter(|(distance, _)| *distance <= near)
        .map_or_else(String::new, |(_, known)| {
            format!("; did you mean {known:?}?")
        })
}
