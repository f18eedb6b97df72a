//! RSA OAEP with SHA-256, for tokens that only do the bare RSA operation. RFC 8017 §7.1.2 step 3.
//!
//! What went wrong is not told, and the time does not depend on it: Manger's attack needs to know
//! whether the first byte was zero. Only the length of a good message shows.

use aws_lc_rs::digest::{SHA256, digest};
use heirloom_model::secret::SecretBytes;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

const HASH_BYTES: usize = 32;

/// The message in an encoded one of `k` bytes. Nothing if it is none.
pub(crate) fn unpad(encoded: &SecretBytes) -> Option<SecretBytes> {
    encoded.expose(|encoded| {
        let (first, rest) = encoded.split_first()?;
        let (masked_seed, masked_block) = rest.split_at_checked(HASH_BYTES)?;
        if masked_block.len() <= HASH_BYTES {
            return None;
        }
        let seed = unmask(masked_seed, masked_block);
        let block = seed.expose(|seed| unmask(masked_block, seed));
        block.expose(|block| message(*first, block))
    })
}

/// The message in a data block: `lHash ‖ 00… ‖ 01 ‖ M`.
fn message(first: u8, block: &[u8]) -> Option<SecretBytes> {
    let (hash, rest) = block.split_at(HASH_BYTES);
    let mut good = first.ct_eq(&0) & hash.ct_eq(digest(&SHA256, &[]).as_ref());
    let mut start = 0_u64;
    let mut looking = Choice::from(1);
    for (index, byte) in (1_u64..).zip(rest) {
        let is_one = byte.ct_eq(&1);
        let is_zero = byte.ct_eq(&0);
        start.conditional_assign(&index, looking & is_one);
        good &= !looking | is_one | is_zero;
        looking &= !is_one;
    }
    good &= !looking;
    if !bool::from(good) {
        return None;
    }
    let start = usize::try_from(start).ok()?;
    rest.get(start..).map(|message| SecretBytes::new(message.to_vec()))
}

/// `masked` with the mask that follows from `seed`: MGF1 with SHA-256, RFC 8017 B.2.1.
fn unmask(masked: &[u8], seed: &[u8]) -> SecretBytes {
    let mut bytes = masked.to_vec();
    for (counter, chunk) in (0_u32..).zip(bytes.chunks_mut(HASH_BYTES)) {
        let mut context = aws_lc_rs::digest::Context::new(&SHA256);
        context.update(seed);
        context.update(&counter.to_be_bytes());
        for (byte, mask) in chunk.iter_mut().zip(context.finish().as_ref()) {
            *byte ^= mask;
        }
    }
    SecretBytes::new(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8017 §7.1.1 step 2.
    fn pad(first: u8, label: &[u8], separator: u8, message: &[u8]) -> SecretBytes {
        let zeros = vec![0; 256 - 2 * HASH_BYTES - 2 - message.len()];
        let hash = digest(&SHA256, label);
        let block = [hash.as_ref(), &zeros, &[separator], message].concat();
        let seed = [7; HASH_BYTES];
        let block = unmask(&block, &seed).expose(<[u8]>::to_vec);
        let seed = unmask(&seed, &block).expose(<[u8]>::to_vec);
        SecretBytes::new([&[first], seed.as_slice(), &block].concat())
    }

    fn is_none(encoded: &SecretBytes) -> bool {
        unpad(encoded).is_none()
    }

    #[test]
    fn a_message_comes_out() {
        for message in [&b""[..], b"x", &[0, 1, 2], &[1; 190]] {
            let found = unpad(&pad(0, b"", 1, message)).unwrap();
            assert!(found.expose(|found| found == message));
        }
    }

    #[test]
    fn each_rule_of_the_padding_refuses_by_itself() {
        assert!(is_none(&pad(1, b"", 1, b"x")), "the first byte");
        assert!(is_none(&pad(0, b"other", 1, b"x")), "the label");
        assert!(is_none(&pad(0, b"", 2, b"x")), "the separator");
        assert!(is_none(&pad(0, b"", 0, b"")), "no separator at all");
        assert!(is_none(&SecretBytes::new(vec![0; 64])), "too short");
    }
}
