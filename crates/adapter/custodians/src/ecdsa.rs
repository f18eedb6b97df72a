//! ECDSA signatures: `r ‖ s` of tokens, and the DER that ledgers take.

/// The DER of `SEQUENCE { INTEGER r, INTEGER s }`. Nothing if the halves are not of equal length,
/// or longer than those of any curve here.
pub(crate) fn der_of_halves(halves: &[u8]) -> Option<Vec<u8>> {
    /// Both halves on P-384.
    const HALVES_BYTES_MAX: usize = 96;
    if halves.is_empty() || !halves.len().is_multiple_of(2) || halves.len() > HALVES_BYTES_MAX {
        return None;
    }
    let (r, s) = halves.split_at(halves.len() / 2);
    let body = [integer(r), integer(s)].concat();
    // At most 2 * (2 + 1 + 48) bytes: the length is one byte.
    let length = u8::try_from(body.len()).ok().filter(|length| *length < 0x80)?;
    Some([&[0x30, length][..], &body].concat())
}

/// An unsigned number as the shortest INTEGER.
fn integer(number: &[u8]) -> Vec<u8> {
    let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len() - 1);
    let significant = &number[start..];
    let sign: &[u8] = if significant[0] & 0x80 == 0 { &[] } else { &[0] };
    let length = u8::try_from(sign.len() + significant.len()).expect("at most 49 bytes");
    [&[0x02, length], sign, significant].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_shortest_form() {
        assert_eq!(der_of_halves(&[0, 1, 0x80, 0]).unwrap(), [0x30, 8, 2, 1, 1, 2, 3, 0, 0x80, 0]);
        assert_eq!(der_of_halves(&[0, 0]).unwrap(), [0x30, 6, 2, 1, 0, 2, 1, 0]);
        assert_eq!(der_of_halves(&[1, 2, 3]), None);
        assert_eq!(der_of_halves(&[]), None);
        assert_eq!(der_of_halves(&[1; 98]), None);
    }
}
