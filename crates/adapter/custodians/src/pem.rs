//! The bytes in a PEM block.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The content of the one block of a text, whatever its name.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut lines = text.trim().lines().map(str::trim);
    let name = lines.next()?.strip_prefix("-----BEGIN ")?;
    let end = format!("-----END {name}");
    let body: Vec<&str> = lines.collect();
    let (last, body) = body.split_last()?;
    if *last != end {
        return None;
    }
    STANDARD.decode(body.concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_is_read_and_two_are_not() {
        let one = "-----BEGIN PUBLIC KEY-----\nAQID\nBAUG\n-----END PUBLIC KEY-----\n";
        assert_eq!(decode(one), Some(vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(decode(&format!("{one}{one}")), None);
        assert_eq!(decode(&one.replace("END PUBLIC", "END OTHER")), None);
        assert_eq!(decode(""), None);
    }
}
