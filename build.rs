//! Compiles the contract in `proto/` without protoc and writes the descriptor
//! set that reflection serves. What is spoken with an OpenTelemetry collector is
//! compiled apart: it is no part of the contract.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let descriptors = protox::compile(["procession/v1/process_manager.proto"], ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // `compile_fds` ignores `file_descriptor_set_path`, so the set is written here.
    fs::write(out.join("procession.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".google.rpc.Status", "::tonic_types::pb::Status")
        .bytes(".procession.v1")
        .compile_fds(descriptors)?;
    let collector = protox::compile(["opentelemetry/logs.proto"], ["proto"])?;
    tonic_prost_build::configure()
        .bytes(".opentelemetry")
        .compile_fds(collector)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
