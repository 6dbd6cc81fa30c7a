//! Options of the commands that run the daemon, or look at what it keeps.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};

/// `procession serve`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  procession serve
  procession serve --config procession.yaml
  procession serve --listen 10.0.0.5:7700 --tls-cert s.pem --tls-key s.key --tls-client-ca ca.pem")]
pub struct ServeArgs {
    /// Where the daemon is reached and keeps its state.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Processes to apply at start.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What SIGTERM does with the processes: stop them, or keep them for the next
    /// daemon. SIGINT (Ctrl-C) always stops them.
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = OnTerm::Stop)]
    pub on_term: OnTerm,
}

/// What SIGTERM does with the processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnTerm {
    /// Stop them all, dependents first.
    Stop,
    /// Leave them running.
    Keep,
}

/// `procession up`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  procession up
  procession up procession.yaml --no-color")]
pub struct UpArgs {
    /// File of processes [default: procession.toml, .yaml, .yml or .json here].
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Where the daemon is reached and keeps its state.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// No colours, also on a terminal.
    #[arg(long, alias = "no-colour")]
    pub no_color: bool,
}

/// `procession doctor`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Nothing is changed, and a running daemon is not disturbed.
Exit code 1: something needs to be done.

Examples:
  procession doctor
  procession doctor --state-dir /var/lib/procession -o json
  procession doctor --export rescued.json")]
pub struct DoctorArgs {
    /// Directory of the durable state [default: as of `serve`].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Write every configuration that can be read to FILE, for `apply`.
    #[arg(long, value_name = "FILE")]
    pub export: Option<PathBuf>,
}

/// Where the daemon is reached and keeps its state. The Unix socket is the
/// global `--socket`.
#[derive(Debug, Clone, Default, Args)]
pub struct ListenArgs {
    /// Directory of the durable state [default: $XDG_STATE_HOME/procession;
    /// /var/lib/procession as root].
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Group that may use the socket too (mode 0660 instead of 0600).
    #[arg(long, value_name = "GROUP")]
    pub socket_group: Option<String>,
    /// Also listen on TCP with mutual TLS.
    #[arg(long, value_name = "ADDR", requires_all = ["tls_cert", "tls_key", "tls_client_ca"])]
    pub listen: Option<SocketAddr>,
    /// Certificate chain of the daemon, PEM.
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of the daemon, PEM.
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub tls_key: Option<PathBuf>,
    /// Authorities that sign the certificates of clients, PEM.
    #[arg(long, value_name = "FILE", requires = "listen")]
    pub tls_client_ca: Option<PathBuf>,
    /// Also listen on TCP without any protection: whoever can connect may do
    /// everything.
    #[arg(long, value_name = "ADDR", conflicts_with = "listen")]
    pub insecure_tcp: Option<SocketAddr>,
    /// Threads that serve the API, 1 to 4 [default: the number of cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    pub api_threads: Option<u8>,
}
