//! How a signing key is kept in a file: a header line, then a line of hexadecimal digits.
//!
//! Two lines of text, so that a person who opens the file sees what it is, and a tool that is
//! given another file says so instead of signing with nonsense.

use zeroize::Zeroizing;

use crate::secret::{Secret, SecretBytes};
use crate::signature::SigningKey;

/// The first line.
pub const HEADER: &str = "heirloom signing key v1";
/// Header, digits, two line ends, and some room for the line ends of other systems.
pub const KEY_FILE_BYTES_MAX: usize = 128;

/// Why text is not a signing key. It never quotes the text.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyFileError {
    /// The first line is another.
    #[error("the first line is not {HEADER:?}")]
    Header,
    /// The second line is not a key.
    #[error("the second line is not 64 hexadecimal digits")]
    Digits,
    /// More lines follow.
    #[error("more lines follow the key")]
    Trailing,
}

/// The content of a key file.
pub fn to_text(key: &SigningKey) -> SecretBytes {
    let digits = key.expose_seed(|seed| Zeroizing::new(hex::encode(seed)));
    SecretBytes::new([HEADER.as_bytes(), b"\n", digits.as_bytes(), b"\n"].concat())
}

/// Reads the content of a key file. The caller wipes its own copy.
pub fn from_text(text: &str) -> Result<SigningKey, KeyFileError> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return Err(KeyFileError::Header);
    }
    let digits = lines.next().ok_or(KeyFileError::Digits)?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(digits, seed.as_mut_slice()).map_err(|_| KeyFileError::Digits)?;
    if lines.next().is_some() {
        return Err(KeyFileError::Trailing);
    }
    Ok(SigningKey::from_seed(Secret::new(*seed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_file() {
        let key = SigningKey::from_seed(Secret::new([7; 32]));
        let text = to_text(&key).expose(|bytes| String::from_utf8(bytes.to_vec()).unwrap());
        assert!(text.len() <= KEY_FILE_BYTES_MAX);
        assert_eq!(from_text(&text).unwrap().public_key(), key.public_key());
    }

    #[test]
    fn other_text_is_refused_without_quoting_it() {
        let digits = "07".repeat(32);
        for (bad, expected) in [
            (String::new(), KeyFileError::Header),
            (digits.clone(), KeyFileError::Header),
            (HEADER.to_owned(), KeyFileError::Digits),
            (format!("{HEADER}\n{}\n", &digits[1..]), KeyFileError::Digits),
            (format!("{HEADER}\n{digits}00\n"), KeyFileError::Digits),
            (format!("{HEADER}\n{digits}\n{digits}\n"), KeyFileError::Trailing),
        ] {
            let error = from_text(&bad).err().unwrap();
            assert_eq!(error, expected, "{bad}");
            assert!(!error.to_string().contains("0707"), "{bad}");
        }
    }
}
