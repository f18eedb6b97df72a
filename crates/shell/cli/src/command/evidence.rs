//! `heirloom evidence`: what attesters say about themselves.

use crate::command::{evidence_appraise, evidence_collect, evidence_decode};
use crate::diagnostic::Diagnostic;
use crate::output::Report;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Show what evidence says, and what of it could not be checked
    ///
    /// Reads an Oasis `extra_info` value (base64, hexadecimal, or a file), evidence of any kind, raw
    /// or encoded, or a whole `control status` document of any Oasis release.
    Decode(evidence_decode::Args),
    /// Appraise evidence under given anchors, endorsements and rules
    ///
    /// Reads encoded evidence, a quote of SGX or TDX, a report of SEV-SNP with its certificates, a
    /// Nitro document, or the quote of a TPM with its parts. Shows every check with its outcome, by
    /// which rule it was made, and then the result. Exits with 3 if the evidence is refused.
    Appraise(evidence_appraise::Args),
    /// Look which TEE is here, and collect evidence from it if there is exactly one
    ///
    /// Exits with 3 if there is none that can be used, or more than one.
    Collect(evidence_collect::Args),
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    match command {
        Command::Decode(args) => evidence_decode::run(args),
        Command::Appraise(args) => evidence_appraise::run(args),
        Command::Collect(args) => evidence_collect::run(args),
    }
}
