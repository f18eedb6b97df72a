//! Secrets that come from files: PINs, passwords, tokens. Never from arguments or environment.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::CustodianError;

/// The longest secret in a file: access tokens of clouds have some kilobytes.
const SECRET_BYTES_MAX: u64 = 16 * 1024;
/// Permissions of group and others.
const OTHERS: u32 = 0o077;

/// Opens a file with a secret, which is for its owner only.
fn open(path: &Path) -> Result<File, CustodianError> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let metadata = file.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.mode() & OTHERS != 0 {
        let why = format!("others may read it: its mode is {:o}", metadata.mode() & 0o777);
        return Err(refused(path, why));
    }
    Ok(file)
}

/// A file with secrets that somebody else reads: it is there, and for its owner only.
pub(crate) fn expect_private(path: &Path) -> Result<(), CustodianError> {
    open(path).map(drop)
}

/// Reads a secret that is bytes: each of them counts, a line end too.
pub(crate) fn read_bytes(path: &Path) -> Result<SecretBytes, CustodianError> {
    let mut file = open(path)?;
    // A buffer of the final size is never moved, so no copy of the secret stays behind.
    let mut bytes = Vec::with_capacity(usize::try_from(SECRET_BYTES_MAX).unwrap_or(0) + 1);
    let read = file.by_ref().take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes);
    let whole = SecretBytes::new(bytes);
    let length = read.map_err(|error| unreadable(path, &error))?;
    if u64::try_from(length).is_ok_and(|length| length > SECRET_BYTES_MAX) {
        return Err(refused(path, format!("it has more than {SECRET_BYTES_MAX} bytes")));
    }
    if whole.expose(<[u8]>::is_empty) {
        return Err(refused(path, "it is empty".to_owned()));
    }
    Ok(whole)
}

/// Reads a secret that somebody typed, without the one line end that editors leave.
pub(crate) fn read_line(path: &Path) -> Result<SecretBytes, CustodianError> {
    let whole = read_bytes(path)?;
    let line = whole.expose(|bytes| {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        line.strip_suffix(b"\r").filter(|_| line.len() < bytes.len()).unwrap_or(line).to_vec()
    });
    if line.is_empty() {
        return Err(refused(path, "it is empty".to_owned()));
    }
    Ok(SecretBytes::new(line))
}

/// The secret as text.
pub(crate) fn read_text(path: &Path) -> Result<SecretText, CustodianError> {
    let secret = read_line(path)?;
    let is_text = secret.expose(|bytes| std::str::from_utf8(bytes).is_ok());
    if !is_text {
        return Err(refused(path, "it is not UTF-8".to_owned()));
    }
    Ok(SecretText::new(secret))
}

/// Secret text. Wiped when dropped.
pub(crate) struct SecretText(SecretBytes);

impl SecretText {
    /// Takes over bytes that are UTF-8.
    pub(crate) fn new(text: SecretBytes) -> Self {
        Self(text)
    }

    pub(crate) fn expose<R>(&self, use_text: impl FnOnce(&str) -> R) -> R {
        self.0.expose(|bytes| use_text(std::str::from_utf8(bytes).expect("it is UTF-8")))
    }
}

fn refused(path: &Path, why: String) -> CustodianError {
    let what = "the secret in it".to_owned();
    CustodianError::Refused { place: path.display().to_string(), what, why }
}

fn unreadable(path: &Path, error: &io::Error) -> CustodianError {
    refused(path, format!("it cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(content: &[u8], mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), content).unwrap();
        fs::set_permissions(file.path(), Permissions::from_mode(mode)).unwrap();
        file
    }

    fn is_refused(file: &tempfile::NamedTempFile) -> bool {
        matches!(read_text(file.path()), Err(CustodianError::Refused { .. }))
    }

    #[test]
    fn a_secret_is_read_without_its_line_end() {
        let secret = read_text(file(b"1234\n", 0o600).path()).ok().unwrap();
        assert!(secret.expose(|text| text == "1234"));
        let cases: [(&[u8], &[u8]); 5] = [
            (b"1234", b"1234"),
            (b"1234\r\n", b"1234"),
            (b"1234\n\n", b"1234\n"),
            (b"1234\r", b"1234\r"),
            (b"12\n34\n", b"12\n34"),
        ];
        for (content, expected) in cases {
            let secret = read_line(file(content, 0o600).path()).ok().unwrap();
            assert!(secret.expose(|bytes| bytes == expected), "{content:?}");
        }
    }

    #[test]
    fn bytes_are_read_as_they_are_also_if_the_last_one_looks_like_a_line_end() {
        for last in [0x0a, 0x0d, 0x00, 0x20] {
            let content = [[7; 31].as_slice(), &[last]].concat();
            let secret = read_bytes(file(&content, 0o600).path()).ok().unwrap();
            assert!(secret.expose(|bytes| bytes == content), "{last:#x}");
        }
        assert!(read_bytes(file(b"", 0o600).path()).is_err());
    }

    #[test]
    fn a_file_that_others_may_read_is_not_private() {
        assert!(expect_private(file(b"1", 0o600).path()).is_ok());
        assert!(expect_private(file(b"1", 0o640).path()).is_err());
        assert!(expect_private(Path::new("/nonexistent/secret")).is_err());
    }

    #[test]
    fn a_secret_that_others_may_read_or_that_is_none_is_refused() {
        assert!(is_refused(&file(b"1234\n", 0o640)));
        assert!(is_refused(&file(b"1234\n", 0o604)));
        assert!(is_refused(&file(b"\n", 0o600)));
        assert!(is_refused(&file(b"\xff", 0o600)));
        assert!(is_refused(&file(&vec![b'1'; 17 * 1024], 0o600)));
        assert!(read_bytes(Path::new("/nonexistent/secret")).is_err());
    }
}
