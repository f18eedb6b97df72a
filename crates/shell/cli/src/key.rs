//! Signing keys of people. They come from files, never from flags or the environment.

use std::path::{Path, PathBuf};

use heirloom_model::signature::SigningKey;
use heirloom_store::key_file::{self, KeyFileError};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::file;

/// Reads a signing key.
pub(crate) fn read(path: &Path) -> Result<SigningKey, Diagnostic> {
    key_file::read(path).map_err(|error| key_error(&error))
}

/// Reads several signing keys.
pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Vec<SigningKey>, Diagnostic> {
    paths.iter().map(|path| read(path)).collect()
}

/// Makes a key and a new file for it.
pub(crate) fn create(path: &Path) -> Result<SigningKey, Diagnostic> {
    let key = SigningKey::generate(&mut random);
    key_file::create(path, &key).map_err(|error| key_error(&error))?;
    Ok(key)
}

/// Fills bytes from the system's generator.
pub(crate) fn random(bytes: &mut [u8]) {
    aws_lc_rs::rand::fill(bytes).expect("the system has random numbers");
}

/// The error of a key file as ours.
pub(crate) fn key_error(error: &KeyFileError) -> Diagnostic {
    let code = match error {
        KeyFileError::Store(error) => return file::store_error(error),
        KeyFileError::Exposed { .. } => Code::KeyExposed,
        KeyFileError::Malformed { .. } => Code::KeyMalformed,
    };
    let diagnostic = Diagnostic::new(code, error.to_string());
    match std::error::Error::source(error) {
        Some(source) => diagnostic.because(source),
        None => diagnostic,
    }
}
