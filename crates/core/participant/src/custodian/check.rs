//! Everything that is asked about one custodian before it is relied on.

use heirloom_canton::fingerprint::{Fingerprint, fingerprint_of_bytes};

use crate::custodian::assess::{self, Verdict};
use crate::custodian::key::{KeyHandle, KeyScheme, KeyState, KeyUsage, PublicKeyDer};
use crate::custodian::probe::{self, Difference, Probe, ProbeError, Trial};
use crate::custodian::table::Product;
use crate::custodian::{Custodian, CustodianError, spki};

/// What was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Checked {
    /// What it says that it can do, and what was tried.
    pub probe: Probe,
    /// Where that contradicts the table.
    pub differences: Vec<Difference>,
    /// For each usage and each scheme that fits it: whether a new key can be made and used.
    pub verdicts: Vec<(KeyUsage, KeyScheme, Verdict)>,
    /// Its keys.
    pub keys: Vec<CheckedKey>,
}

/// One key of a custodian.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CheckedKey {
    /// The key.
    pub key: KeyHandle,
    /// Whether it may be used.
    pub state: Result<KeyState, CustodianError>,
    /// The name under which a ledger knows it. For a namespace key it is the namespace.
    pub fingerprint: Result<Fingerprint, CustodianError>,
}

/// Checks a custodian. `product` says which rows of the table it is compared with: those of its
/// kind, or those of the very product where somebody knows it.
pub fn check(
    custodian: &dyn Custodian,
    trial: &Trial,
    product: Option<Product>,
) -> Result<Checked, ProbeError> {
    let probe = probe::probe(custodian, trial)?;
    let kind = probe.description.kind;
    let product = product.unwrap_or(Product::of(kind));
    let pairs = KeyUsage::ALL.iter().flat_map(|usage| {
        let schemes = KeyScheme::ALL.iter().copied();
        let fitting = schemes.filter(|scheme| scheme.operation() == usage.operation());
        fitting.map(|scheme| (*usage, scheme))
    });
    let verdicts =
        pairs.map(|(usage, scheme)| (usage, scheme, assess::assess(kind, usage, scheme))).collect();
    Ok(Checked {
        differences: probe::compare(product, &probe.abilities),
        verdicts,
        keys: keys(custodian)?,
        probe,
    })
}

/// The keys of a custodian, with their state and the names that a ledger gives them.
pub fn keys(custodian: &dyn Custodian) -> Result<Vec<CheckedKey>, CustodianError> {
    let keys = custodian.keys()?.into_iter().map(|key| CheckedKey {
        state: custodian.state(&key),
        fingerprint: custodian.public(&key).map(|public| fingerprint(key.scheme, &public)),
        key,
    });
    Ok(keys.collect())
}

/// The name under which a ledger knows a key: over the 32 bytes of Ed25519, over the DER of every
/// other one. It can be said before any node exists.
pub fn fingerprint(scheme: KeyScheme, public: &PublicKeyDer) -> Fingerprint {
    let raw = if scheme == KeyScheme::Ed25519 { spki::raw(scheme, public).ok() } else { None };
    fingerprint_of_bytes(raw.unwrap_or(public.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_one_of_the_ledger() {
        // Digital-Asset-2 of the Canton Network: its key and its namespace.
        let raw = [
            0x47, 0x4b, 0x8d, 0x82, 0x53, 0x37, 0x72, 0xa4, 0xcd, 0x30, 0xc9, 0x3a, 0x25, 0x13,
            0xae, 0x29, 0x5b, 0xb4, 0xfd, 0x53, 0x6c, 0x7b, 0x44, 0x69, 0xc2, 0x27, 0xe1, 0x88,
            0x5e, 0xbf, 0x46, 0xc9,
        ];
        let public = spki::compose(KeyScheme::Ed25519, &raw).unwrap();
        assert_eq!(
            fingerprint(KeyScheme::Ed25519, &public).as_str(),
            "12209b21d512c6a7e2f5d215266fe6568cb732caaef7ff04e308f990a652340d3529"
        );
    }
}
