//! What a signature buys: a value that nothing else can make.

use std::collections::BTreeSet;
use std::ops::Deref;

use heirloom_model::envelope::{Envelope, signing_bytes};
use heirloom_model::limit::SIGNATURES_MAX;
use heirloom_model::signature::PublicKey;
use heirloom_model::statement::Statement;

use crate::refusal::Refusal;

/// A statement that its signers were entitled to make.
///
/// Only this crate makes one, after every rule about the statement held:
///
/// ```compile_fail
/// # use heirloom_registry::verified::Verified;
/// let forged = Verified { content: 1, signers: Vec::new() };
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verified<T> {
    content: T,
    signers: Vec<PublicKey>,
}

impl<T> Verified<T> {
    /// What was signed.
    pub fn get(&self) -> &T {
        &self.content
    }

    /// The distinct keys that signed it, sorted.
    pub fn signers(&self) -> &[PublicKey] {
        &self.signers
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

/// Keys out of which enough must sign.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quorum<'a> {
    /// What the keys are for, for messages.
    pub(crate) of: &'static str,
    /// The keys.
    pub(crate) keys: &'a [PublicKey],
    /// How many of them must sign.
    pub(crate) threshold: u32,
}

/// Verifies every signature on an envelope and counts the signers: the one place that does.
///
/// A threshold counts distinct public keys, never signatures or key names: a duplicate signature
/// once met a threshold in another implementation (CVE-2026-6966). Every signature that is
/// present must verify and must come from one of the quorums, so that a statement has one
/// meaning for everybody, also for those who know other keys.
pub(crate) fn verify<T: Statement>(
    envelope: &Envelope,
    quorums: &[Quorum<'_>],
) -> Result<Verified<T>, Refusal> {
    let found = envelope.signatures.len();
    if found > SIGNATURES_MAX {
        return Err(Refusal::TooManySignatures { found, limit: SIGNATURES_MAX });
    }
    for pair in envelope.signatures.windows(2) {
        let [left, right] = pair else { continue };
        if left.key >= right.key {
            return Err(Refusal::SignaturesNotSorted { key: right.key });
        }
    }
    let signers: BTreeSet<PublicKey> = envelope.signatures.iter().map(|made| made.key).collect();
    if let Some(key) =
        signers.iter().find(|key| !quorums.iter().any(|quorum| quorum.keys.contains(key)))
    {
        return Err(Refusal::UnknownSigner { key: *key });
    }
    for quorum in quorums {
        let distinct: BTreeSet<&PublicKey> = quorum.keys.iter().collect();
        let found = signers.iter().filter(|key| distinct.contains(key)).count();
        let needed = quorum.threshold.max(1);
        if u32::try_from(found).is_ok_and(|found| found < needed) {
            return Err(Refusal::ThresholdNotMet { of: quorum.of, found, needed });
        }
    }
    let message = signing_bytes(envelope.kind, &envelope.payload);
    for made in &envelope.signatures {
        made.key.verify_bytes(&message, &made.signature).map_err(Refusal::BadSignature)?;
    }
    let content = envelope.unverified::<T>().map_err(Refusal::Malformed)?;
    Ok(Verified { content, signers: signers.into_iter().collect() })
}

/// Verifies an envelope that exactly one of these keys must have signed.
pub(crate) fn verify_one<T: Statement>(
    envelope: &Envelope,
    of: &'static str,
    keys: &[PublicKey],
) -> Result<(Verified<T>, PublicKey), Refusal> {
    let [made] = envelope.signatures.as_slice() else {
        return Err(Refusal::NotOneSignature { found: envelope.signatures.len() });
    };
    let key = made.key;
    Ok((verify(envelope, &[Quorum { of, keys, threshold: 1 }])?, key))
}

/// Verifies an envelope that exactly two keys must have signed: this agent, and one instance.
/// Returns the key of the instance.
pub(crate) fn verify_countersigned<T: Statement>(
    envelope: &Envelope,
    agent: PublicKey,
) -> Result<(Verified<T>, PublicKey), Refusal> {
    let [left, right] = envelope.signatures.as_slice() else {
        return Err(Refusal::NotTwoSignatures { found: envelope.signatures.len() });
    };
    let instance = if left.key == agent { right.key } else { left.key };
    let (agents, instances) = ([agent], [instance]);
    let agent = Quorum { of: "agent", keys: &agents, threshold: 1 };
    let one = Quorum { of: "instance", keys: &instances, threshold: 1 };
    Ok((verify(envelope, &[agent, one])?, instance))
}

#[cfg(test)]
mod tests;
