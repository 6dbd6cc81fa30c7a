//! `procession`: the command line, and the shim where it is not installed apart.

use std::{ffi::OsString, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    let code = match args.get(1) {
        Some(verb) if verb == "shim" => shim(),
        _ => procession::cli::main(args),
    };
    ExitCode::from(code)
}

/// One run of a process, on behalf of a daemon.
fn shim() -> u8 {
    procession::shim::main()
}
