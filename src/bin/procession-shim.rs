//! The shim as its own small program.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(procession::shim::main())
}
