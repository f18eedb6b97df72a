//! `heirloom signer`: keys that sign statements.

use std::path::PathBuf;

use serde_json::json;

use crate::diagnostic::Diagnostic;
use crate::key;
use crate::output::{Report, table};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a key file that only its owner can read
    Create {
        /// Key file to make
        file: PathBuf,
    },
    /// Show the public key of a key file
    Show {
        /// Key file
        file: PathBuf,
    },
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    let (key, file) = match command {
        Command::Create { file } => (key::create(file)?, file),
        Command::Show { file } => (key::read(file)?, file),
    };
    let (public, file) = (key.public_key().to_string(), file.display().to_string());
    let text = table(&[("public key", public.clone()), ("file", file.clone())]);
    Ok(Report::new("signer", json!({ "public_key": public, "file": file }), text))
}
