//! What a client verb works with: the connection, standard output and error.

use std::{io::Write, path::PathBuf};

use super::{
    client::{self, Client},
    errors::CliError,
    render::{self, Output},
};

/// One command's connection and output.
#[derive(Debug)]
pub(crate) struct Session<'a> {
    pub(crate) client: Client,
    pub(crate) out: Output<'a>,
    pub(crate) err: Remarks<'a>,
    pub(crate) socket: PathBuf,
}

/// Standard error: remarks that are no result.
pub(crate) struct Remarks<'a>(pub(crate) &'a mut dyn Write);

// === impl Session ===

impl<'a> Session<'a> {
    /// Connects to the daemon on `socket`.
    ///
    /// # Errors
    /// [`CliError::Unreachable`].
    pub(crate) async fn open(
        socket: PathBuf,
        out: Output<'a>,
        err: &'a mut dyn Write,
    ) -> Result<Self, CliError> {
        let client = client::connect(&socket).await?;
        Ok(Self {
            client,
            out,
            err: Remarks(err),
            socket,
        })
    }
}

// === impl Remarks ===

impl Remarks<'_> {
    pub(crate) fn say(&mut self, text: &str) {
        render::remark(self.0, text);
    }
}

impl std::fmt::Debug for Remarks<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remarks")
    }
}
