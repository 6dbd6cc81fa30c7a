//! Layers: what a module may import of ours and of others.
//!
//! [`LAYERS`] is the table of `ARCHITECTURE.md`. Test code may use what it likes.

use super::{
    Tree, complains, holds,
    uses::{crate_paths, names, supers},
};

/// What one top module may name, beside itself and std.
struct Layer {
    module: &'static str,
    /// Of ours; `a::b` allows only what is below it.
    ours: &'static [&'static str],
    /// Of others; `None`: all but those that [`ONLY_IN`] keeps elsewhere.
    crates: Option<&'static [&'static str]>,
}

/// Lowest first.
const LAYERS: &[Layer] = &[
    Layer {
        module: "domain",
        ours: &[],
        crates: Some(&["thiserror"]),
    },
    Layer {
        module: "sync",
        ours: &[],
        crates: Some(&["arc_swap"]),
    },
    Layer {
        module: "registry",
        ours: &["domain", "sync"],
        crates: Some(&["arc_swap", "dashmap", "foldhash", "thiserror"]),
    },
    Layer {
        module: "shim",
        ours: &["domain"],
        crates: Some(&["libc", "memchr", "nix", "thiserror"]),
    },
    Layer {
        module: "runner",
        ours: &["domain", "shim"],
        crates: Some(&[
            "libc",
            "nix",
            "signal_hook",
            "thiserror",
            "tokio",
            "tracing",
        ]),
    },
    Layer {
        module: "logs",
        ours: &["domain", "shim::segment"],
        crates: Some(&[
            "bytes",
            "memchr",
            "nix",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ]),
    },
    Layer {
        module: "watch",
        ours: &["domain", "registry"],
        crates: Some(&[
            "bytes",
            "futures_util",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ]),
    },
    Layer {
        module: "supervisor",
        ours: &["domain", "registry", "runner", "logs"],
        crates: Some(&[
            "futures_util",
            "thiserror",
            "tokio",
            "tokio_util",
            "tracing",
        ]),
    },
    Layer {
        module: "store",
        ours: &["domain"],
        crates: Some(&["rusqlite", "thiserror", "tokio", "tracing"]),
    },
    // In `otlp` it is a client of gRPC, with messages of its own.
    Layer {
        module: "forward",
        ours: &["domain", "logs"],
        crates: Some(&[
            "bytes",
            "jiff",
            "nix",
            "prost",
            "thiserror",
            "tokio",
            "tonic",
            "tonic_types",
            "tracing",
        ]),
    },
    Layer {
        module: "grpc",
        ours: &["domain", "registry", "watch", "logs", "supervisor", "store"],
        crates: None,
    },
    // Checks names as the daemon does; produces `proto::Process`, so that a file and a call are validated by the
    // same code (ADR 007).
    Layer {
        module: "config",
        ours: &["domain::id", "grpc::proto"],
        crates: None,
    },
    Layer {
        module: "telemetry",
        ours: &[],
        crates: None,
    },
    Layer {
        module: "daemon",
        ours: &[
            "domain",
            "sync",
            "registry",
            "runner",
            "logs",
            "watch",
            "supervisor",
            "store",
            "forward",
            "grpc",
            "config",
            "telemetry",
        ],
        crates: None,
    },
    // A client like any other, but for the verbs that become the daemon.
    Layer {
        module: "cli",
        ours: &["domain::id", "grpc::proto", "config", "daemon", "telemetry"],
        crates: None,
    },
];

/// What single files may import beyond their layer, and why.
const BEYOND: &[(&str, &[&str], &str)] = &[
    (
        "src/cli/doctor.rs",
        &["grpc::convert::durable", "grpc::convert::process", "store"],
        "looks into the store without a daemon",
    ),
    ("src/cli/foreground.rs", BECOMES_DAEMON.0, BECOMES_DAEMON.1),
    ("src/cli/serve.rs", BECOMES_DAEMON.0, BECOMES_DAEMON.1),
    ("src/cli/up.rs", BECOMES_DAEMON.0, BECOMES_DAEMON.1),
    (
        "src/forward/journald.rs",
        &["shim::ctl"],
        "seals and passes memory as a shim is given its definition",
    ),
];
const BECOMES_DAEMON: (&[&str], &str) = (
    &["domain", "grpc::server", "supervisor", "logs"],
    "the command line that becomes the daemon resolves its options and its end",
);

/// Crates with a home: the only paths that may name them. `tonic` and `prost`
/// are for the wire: `config` makes messages, `cli` is a client.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("dashmap", &["src/registry/table.rs"]),
    // `Cache` has no face in `sync`: it is never part of a model.
    ("arc_swap", &["src/sync.rs", "src/registry/cached.rs"]),
    (
        "tonic",
        &[
            "src/grpc/",
            "src/grpc.rs",
            "src/cli/",
            "src/daemon",
            "src/forward/otlp",
        ],
    ),
    (
        "prost",
        &[
            "src/grpc/",
            "src/grpc.rs",
            "src/cli/",
            "src/config/",
            "src/config.rs",
            "src/daemon",
            "src/forward/otlp",
        ],
    ),
    ("rusqlite", &["src/store"]),
    ("clap", &["src/cli"]),
    ("schemars", &["src/config"]),
    // In `convert` for the numbers of signals, in `daemon` for the lock.
    (
        "libc",
        &[
            "src/shim",
            "src/runner",
            "src/daemon/state_dir.rs",
            "src/grpc/server/",
            "src/grpc/convert/signal.rs",
        ],
    ),
];

/// Top module of a file: `src/a/b.rs` and `src/a.rs` are `a`.
fn module(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    let top = inner.split('/').next().unwrap_or(inner);
    top.strip_suffix(".rs").unwrap_or(top)
}

/// Names of the dependencies, as code spells them.
fn dependencies(tree: &Tree) -> Vec<String> {
    let manifest = tree.get("Cargo.toml").map_or("", |file| file.text.as_str());
    let table = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let table = table.split("\n[").next().unwrap_or_default();
    table
        .lines()
        .filter(|line| line.starts_with(|c: char| c.is_alphanumeric()))
        .filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_")))
        .collect()
}

fn imports_go_downwards(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust(&["src"]) {
        let top = module(&file.path);
        if ["lib", "main", "bin"].contains(&top) {
            continue;
        }
        let Some(layer) = LAYERS.iter().find(|layer| layer.module == top) else {
            complaints.push(format!("{}: module {top} has no layer", file.path));
            continue;
        };
        let code = file.code();
        for path in crate_paths(&code) {
            let below =
                |allowed: &&str| path == **allowed || path.starts_with(&format!("{allowed}::"));
            let beyond = BEYOND.iter().filter(|(at, ..)| *at == file.path);
            let beyond = beyond.flat_map(|(_, ours, _)| ours.iter());
            if !below(&top) && !layer.ours.iter().chain(beyond).any(below) {
                let allowed = layer.ours;
                complaints.push(format!(
                    "{}: {top} may not import crate::{path}; it may import {allowed:?}",
                    file.path
                ));
            }
        }
        if supers(&code) > file.path.matches('/').count() - 1 && !file.production().is_empty() {
            complaints.push(format!(
                "{}: super:: reaches the root; name crate::",
                file.path
            ));
        }
    }
    complaints
}

fn crates_stay_in_their_layer(tree: &Tree) -> Vec<String> {
    let dependencies = dependencies(tree);
    let mut complaints = Vec::new();
    for file in tree.rust(&["src"]) {
        let top = module(&file.path);
        let layer = LAYERS.iter().find(|layer| layer.module == top);
        let Some(allowed) = layer.and_then(|layer| layer.crates) else {
            continue;
        };
        let code = file.code();
        for name in &dependencies {
            if names(&code, name) && !allowed.contains(&name.as_str()) {
                complaints.push(format!(
                    "{}: {top} may not use {name}; it may use {allowed:?}",
                    file.path
                ));
            }
        }
    }
    complaints
}

fn crates_stay_at_home(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in tree.rust(&["src"]) {
        let code = file.code();
        for (name, homes) in ONLY_IN {
            let at_home = homes.iter().any(|home| file.path.starts_with(home));
            if !at_home && names(&code, name) {
                complaints.push(format!("{}: {name} is only for {homes:?}", file.path));
            }
        }
    }
    complaints
}

#[test]
fn imports() {
    complains(
        imports_go_downwards,
        &[
            ("src/domain/id.rs", "use crate::registry::Slot;"),
            ("src/registry.rs", "use crate::{domain::id, watch::Filter};"),
            ("src/cli/ps.rs", "use crate::grpc::{proto, status};"),
            ("src/watch/filter.rs", "use super::super::grpc::x;"),
            ("src/helpers.rs", ""),
        ],
        &[
            "crate::registry::Slot",
            "crate::watch::Filter",
            "crate::grpc::status",
            "super::",
            "helpers has no layer",
        ],
    );
    holds(imports_go_downwards);
}

#[test]
fn third_parties() {
    let manifest = "[dependencies]\ntokio = \"1\"\ntracing = { version = \"0.1\" }\n";
    complains(
        crates_stay_in_their_layer,
        &[
            ("Cargo.toml", manifest),
            ("src/domain/time.rs", "use tokio::time::Instant;"),
            ("src/shim/supervise.rs", "tracing::info!(\"x\");"),
            ("src/logs.rs", "tokio::spawn(x)"),
        ],
        &["domain may not use tokio", "shim may not use tracing"],
    );
    holds(crates_stay_in_their_layer);
}

#[test]
fn homes() {
    complains(
        crates_stay_at_home,
        &[
            ("src/registry/table.rs", "use dashmap::DashMap;"),
            ("src/registry/log.rs", "use dashmap::DashMap;"),
            ("src/supervisor/api.rs", "fn f() -> tonic::Status"),
        ],
        &["log.rs: dashmap", "api.rs: tonic"],
    );
    holds(crates_stay_at_home);
}
