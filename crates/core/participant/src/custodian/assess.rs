//! What follows from the table for a key of a participant: possible or not, why, and what to do.

use heirloom_model::participant::CustodianKind;

use crate::custodian::key::{KeyScheme, KeyUsage, Operation};
use crate::custodian::table::{self, Check, Product, Row, Says};

/// What became of a question, from best to worst.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Outcome {
    /// Every source says so, and none says otherwise.
    Possible,
    /// It depends, nobody tried it, sources contradict each other, or the table is silent.
    Uncertain,
    /// It cannot be done.
    Impossible,
}

/// One reason of a verdict.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reason {
    /// What it does to the verdict.
    pub outcome: Outcome,
    /// What is the matter, as a sentence without its full stop.
    pub text: String,
    /// Where that comes from.
    pub source: String,
}

/// The answer to whether a key can be held and used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The worst of its reasons.
    pub outcome: Outcome,
    /// Why, worst first.
    pub reasons: Vec<Reason>,
    /// What to do instead, or before.
    pub fix: Option<&'static str>,
}

/// Whether a new key can be made in this kind of custodian and used by a Canton node there.
pub fn assess(kind: CustodianKind, usage: KeyUsage, scheme: KeyScheme) -> Verdict {
    verdict(kind, usage, scheme, Operation::Create)
}

/// Whether an existing key can be brought into this kind of custodian and used there.
pub fn assess_import(kind: CustodianKind, usage: KeyUsage, scheme: KeyScheme) -> Verdict {
    verdict(kind, usage, scheme, Operation::Import)
}

fn verdict(kind: CustodianKind, usage: KeyUsage, scheme: KeyScheme, entry: Operation) -> Verdict {
    let operation = scheme.operation();
    let mut reasons = Vec::new();
    if usage.operation() != operation {
        reasons.push(Reason {
            outcome: Outcome::Impossible,
            text: format!("a key for {usage} cannot be of scheme {scheme}"),
            source: "Canton 3.6, crypto.proto: signing and encryption keys are different types"
                .to_owned(),
        });
    }
    let (product, canton) = (Product::of(kind), Product::in_canton(kind));
    for (product, operation) in [(product, entry), (product, operation), (canton, operation)] {
        reasons.push(reason(product, scheme, operation));
    }
    if scheme.algorithm().is_none() {
        reasons.push(Reason {
            outcome: Outcome::Impossible,
            text: format!("no custodian here makes or uses keys of scheme {scheme}"),
            source: "this project".to_owned(),
        });
    }
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.outcome));
    let outcome = reasons.first().map_or(Outcome::Uncertain, |reason| reason.outcome);
    let fix = if outcome == Outcome::Possible { None } else { fix(kind, usage, scheme) };
    Verdict { outcome, reasons, fix }
}

fn reason(product: Product, scheme: KeyScheme, operation: Operation) -> Reason {
    let Some(row) = table::row(product, scheme, operation) else {
        return Reason {
            outcome: Outcome::Uncertain,
            text: format!("nothing is known about {product}: {operation} with {scheme}"),
            source: "the table is silent".to_owned(),
        };
    };
    let verb = match row.says {
        Says::Yes => "can",
        Says::No => "cannot",
        Says::Depends => "may or may not",
    };
    let note = if row.note.is_empty() { String::new() } else { format!(" ({})", row.note) };
    let text = format!("{product} {verb} {operation} with {scheme}{note}");
    Reason { outcome: outcome(row), text, source: source(row) }
}

/// What was run is believed over what was described: a contradiction with a document makes a
/// verified "no" no less certain, and a "yes" uncertain.
fn outcome(row: &Row) -> Outcome {
    match row.says {
        Says::No => Outcome::Impossible,
        Says::Yes if row.contradiction.is_none() => Outcome::Possible,
        Says::Yes | Says::Depends => Outcome::Uncertain,
    }
}

fn source(row: &Row) -> String {
    let check = match row.check {
        Check::Verified => "verified",
        Check::Unverified => "unverified",
    };
    match row.contradiction {
        None => format!("{}, {check}", row.source),
        Some(other) => format!("{}, {check}; {} says otherwise", row.source, other.source),
    }
}

fn fix(kind: CustodianKind, usage: KeyUsage, scheme: KeyScheme) -> Option<&'static str> {
    if usage.operation() != scheme.operation() {
        return Some(match usage.operation() {
            Operation::Decrypt => "use rsa2048 for encryption",
            _ => "use p256, which every product has, for signing",
        });
    }
    match (scheme, kind) {
        (KeyScheme::EciesP256, _) => Some(
            "rotate the node's encryption key to rsa2048, announce it, and set \
             rsa-oaep-sha-256 as its default, before anything is moved",
        ),
        (KeyScheme::Ed25519, CustodianKind::Aws) => Some(
            "make new p256 keys and move the parties to the new namespace, or choose GCP or a \
             driver, which hold Ed25519",
        ),
        (KeyScheme::Ed25519, CustodianKind::Gcp) => Some(
            "try one signature by a node with such a key before anything is moved, or use p256",
        ),
        (KeyScheme::Secp256k1 | KeyScheme::MlDsa65, _) => Some("use p256, which every product has"),
        (_, CustodianKind::Pkcs11) => {
            Some("ask the token with `heirloom custodian check`; the node needs a driver for it")
        }
        (_, CustodianKind::Vault) => {
            Some("the node needs a driver for Vault, which lists the scheme")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_key_of_a_node_does_not_go_to_aws_and_the_contradiction_is_named() {
        let verdict = assess_import(CustodianKind::Aws, KeyUsage::Namespace, KeyScheme::Ed25519);
        assert_eq!(verdict.outcome, Outcome::Impossible);
        let first = &verdict.reasons[0];
        assert!(first.source.contains("AwsKms.scala"), "{first:?}");
        assert!(first.source.contains("external_key_storage_migration_export_keys"), "{first:?}");
        assert!(verdict.fix.is_some());
    }

    #[test]
    fn the_default_key_of_a_kms_node_goes_to_every_cloud() {
        for kind in [CustodianKind::Software, CustodianKind::Aws, CustodianKind::Gcp] {
            for usage in [KeyUsage::Namespace, KeyUsage::Protocol] {
                let verdict = assess(kind, usage, KeyScheme::P256);
                assert_eq!(verdict.outcome, Outcome::Possible, "{verdict:?}");
                assert_eq!(verdict.fix, None);
            }
        }
    }

    #[test]
    fn ecies_goes_nowhere_and_the_fix_is_rotation() {
        for kind in CustodianKind::ALL.iter().copied() {
            let verdict = assess_import(kind, KeyUsage::Encryption, KeyScheme::EciesP256);
            assert_eq!(verdict.outcome, Outcome::Impossible, "{kind}");
            assert!(verdict.fix.is_some_and(|fix| fix.contains("rotate")), "{kind}");
        }
    }

    #[test]
    fn what_depends_or_is_contradicted_is_uncertain() {
        let token = assess(CustodianKind::Pkcs11, KeyUsage::Namespace, KeyScheme::Ed25519);
        assert_eq!(token.outcome, Outcome::Uncertain);
        let cloud = assess(CustodianKind::Gcp, KeyUsage::Namespace, KeyScheme::Ed25519);
        assert_eq!(cloud.outcome, Outcome::Uncertain);
        let vault = assess(CustodianKind::Vault, KeyUsage::Namespace, KeyScheme::Secp256k1);
        assert_eq!(vault.outcome, Outcome::Impossible);
    }

    #[test]
    fn a_key_in_the_wrong_usage_is_impossible_everywhere() {
        for kind in CustodianKind::ALL.iter().copied() {
            for scheme in KeyScheme::ALL.iter().copied() {
                for usage in KeyUsage::ALL.iter().copied() {
                    let verdict = assess(kind, usage, scheme);
                    let fits = usage.operation() == scheme.operation();
                    assert!(fits || verdict.outcome == Outcome::Impossible);
                    assert!(verdict.reasons.is_sorted_by(|a, b| a.outcome >= b.outcome));
                }
            }
        }
    }
}
