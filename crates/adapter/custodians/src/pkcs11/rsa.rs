//! The numbers of an RSA private key, for tokens that take them one by one.

use cryptoki::object::Attribute;
use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::CustodianError;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// RFC 5208 §5 around RFC 8017 A.1.2: version, algorithm and the key as octets, in which stand
/// version, n, e, d, p, q, `dP`, `dQ` and `qInv`.
pub(super) fn attributes(pkcs8: &SecretBytes) -> Result<[Attribute; 8], CustodianError> {
    pkcs8.expose(read).ok_or_else(|| CustodianError::Corrupt {
        what: "a private key".to_owned(),
        why: "it is no PKCS#8 of RSA".to_owned(),
    })
}

fn read(pkcs8: &[u8]) -> Option<[Attribute; 8]> {
    let (outer, _) = item(SEQUENCE, pkcs8)?;
    let (_, rest) = item(INTEGER, outer)?;
    let (_, rest) = item(SEQUENCE, rest)?;
    let (octets, _) = item(OCTETS, rest)?;
    let (numbers, _) = item(SEQUENCE, octets)?;
    let (_, mut rest) = item(INTEGER, numbers)?;
    let mut next = || {
        let (number, after) = item(INTEGER, rest)?;
        rest = after;
        let start = number.iter().position(|byte| *byte != 0).unwrap_or(number.len());
        number.get(start..).map(<[u8]>::to_vec)
    };
    Some([
        Attribute::Modulus(next()?),
        Attribute::PublicExponent(next()?),
        Attribute::PrivateExponent(next()?),
        Attribute::Prime1(next()?),
        Attribute::Prime2(next()?),
        Attribute::Exponent1(next()?),
        Attribute::Exponent2(next()?),
        Attribute::Coefficient(next()?),
    ])
}

/// The content of one item, and what follows it.
fn item(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    let (first, rest) = rest.split_first()?;
    if *found != tag {
        return None;
    }
    let (length, rest) = match *first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
        0x82 => {
            let (length, rest) = rest.split_first_chunk::<2>()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}
