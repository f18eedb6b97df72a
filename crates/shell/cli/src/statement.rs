//! Files that hold one statement: made, signed by one person after the other, published.

use std::path::{Path, PathBuf};

use heirloom_model::envelope::{Envelope, signing_bytes};
use heirloom_model::limit::ENVELOPE_BYTES_MAX;
use heirloom_model::statement::{Statement, StatementKind};
use heirloom_model::wire;
use serde_json::json;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::file;
use crate::key;
use crate::output::Report;
use crate::view;

/// A file to sign.
#[derive(Debug, clap::Args)]
pub(crate) struct SignArgs {
    /// What to sign: a new input, or a statement file that gets another signature
    pub(crate) input: PathBuf,
    /// Key file; repeat it to sign with several keys
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub(crate) keys: Vec<PathBuf>,
    /// Statement file to write; a statement that gets another signature is replaced by default
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Reads a statement file. Nothing in it is verified.
pub(crate) fn read(path: &Path) -> Result<Envelope, Diagnostic> {
    let bytes = file::read(path, ENVELOPE_BYTES_MAX)?;
    wire::decode(&bytes).map_err(|error| {
        let message = format!("{} is not a statement", path.display());
        Diagnostic::new(Code::StatementMalformed, message).because(&error)
    })
}

/// Reads a statement file of one kind. Nothing in it is verified.
pub(crate) fn read_as<T: Statement>(path: &Path) -> Result<(Envelope, T), Diagnostic> {
    let envelope = read(path)?;
    require_kind(&envelope, T::KIND, path)?;
    let content = envelope.unverified().map_err(|error| {
        let message = format!("{} is not a {}", path.display(), T::KIND.name());
        Diagnostic::new(Code::StatementMalformed, message).because(&error)
    })?;
    Ok((envelope, content))
}

/// Refuses a statement of another kind.
pub(crate) fn require_kind(
    envelope: &Envelope,
    kind: StatementKind,
    path: &Path,
) -> Result<(), Diagnostic> {
    if envelope.kind == kind {
        return Ok(());
    }
    let (found, expected) = (envelope.kind.name(), kind.name());
    let message = format!("{} is a {found}, not a {expected}", path.display());
    Err(Diagnostic::new(Code::StatementKind, message))
}

/// Refuses a statement with a signature that does not verify. Who signed is another question.
pub(crate) fn verify_signatures(envelope: &Envelope, path: &Path) -> Result<(), Diagnostic> {
    let message = signing_bytes(envelope.kind, &envelope.payload);
    for made in &envelope.signatures {
        made.key.verify_bytes(&message, &made.signature).map_err(|error| {
            let message = format!("{} has a bad signature", path.display());
            Diagnostic::new(Code::StatementSignature, message).because(&error)
        })?;
    }
    Ok(())
}

/// Whether a file begins like a statement. Inputs are text or directories, which never do.
pub(crate) fn is_statement(path: &Path) -> Result<bool, Diagnostic> {
    if path.is_dir() {
        return Ok(false);
    }
    let bytes = file::read(path, ENVELOPE_BYTES_MAX)?;
    Ok(bytes.first().is_none_or(|first| *first >= 0x80))
}

/// Signs what `make` makes of the input, or adds signatures if the input is a statement.
pub(crate) fn sign<T: Statement>(
    args: &SignArgs,
    make: impl FnOnce(&Path) -> Result<T, Diagnostic>,
) -> Result<Report, Diagnostic> {
    let added = is_statement(&args.input)?;
    let keys = key::read_all(&args.keys)?;
    let mut envelope = if added {
        let (envelope, _) = read_as::<T>(&args.input)?;
        verify_signatures(&envelope, &args.input)?;
        envelope
    } else {
        Envelope::unsigned(&make(&args.input)?)
    };
    for key in &keys {
        envelope.sign(key);
    }
    let encoded = wire::encode(&envelope);
    let target = match (&args.out, added) {
        (Some(out), _) => {
            file::create(out, &encoded)?;
            out
        }
        (None, true) => {
            file::replace(&args.input, &encoded)?;
            &args.input
        }
        (None, false) => {
            let message = "where to write the statement was not given";
            return Err(Diagnostic::new(Code::InputMissing, message).hint("give --out FILE"));
        }
    };
    signed(&envelope, target)
}

/// What was signed, by whom, and where it is.
pub(crate) fn signed(envelope: &Envelope, target: &Path) -> Result<Report, Diagnostic> {
    let mut shown = view::envelope(envelope)?;
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("file".to_owned(), json!(target.display().to_string()));
    }
    let signatures = envelope.signatures.len();
    let kind = envelope.kind.name();
    let text = format!("{}: {kind} with {signatures} signatures\n", target.display());
    Ok(Report::new("statement.signed", shown, text))
}

/// Shows a statement file: its content, and whose signatures verify.
pub(crate) fn show(path: &Path, kind: StatementKind) -> Result<Report, Diagnostic> {
    let envelope = read(path)?;
    require_kind(&envelope, kind, path)?;
    verify_signatures(&envelope, path)?;
    Ok(Report::fields(kind.name(), view::envelope(&envelope)?))
}
