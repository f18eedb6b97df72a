//! Statements of attested instances: registrations, and answers to challenges.

use heirloom_attest::result::AttestationResult;
use heirloom_model::admin::Volatile;
use heirloom_model::counter::{LogIndex, Serial};
use heirloom_model::domain::{LogPosition, PossessionProof, Registration};
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::signature::PublicKey;
use heirloom_model::statement::AttestedStatement;

use super::activity::check_keeper;
use super::fleet::node_in;
use super::{Attested, Change, not_expired, same_network};
use crate::domain::DomainState;
use crate::network::NetworkState;
use crate::refusal::Refusal;
use crate::verified::{Verified, verify_countersigned};

pub(crate) fn examine_registration(
    state: &mut NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let (statement, key) = verify_attested::<Registration>(state, envelope)?;
    let attested = attest(state, envelope, key, &statement.domain)?;
    let domain = known_domain(state, &statement.domain)?;
    check_follows(state, domain, &statement.as_of, statement.policy)?;
    // An instance that has not seen the last registration on its node may be an old one, whose
    // statement somebody kept.
    if let Some(last) = domain.registration(&statement.node) {
        check_seen(&statement.as_of, last.at)?;
    }
    Ok(Change::Registration(statement, attested))
}

pub(crate) fn examine_proof(
    state: &mut NetworkState,
    envelope: &Envelope,
) -> Result<Change, Refusal> {
    let (proof, key) = verify_attested::<PossessionProof>(state, envelope)?;
    let domain = known_domain(state, &proof.domain)?;
    let unknown = Refusal::UnknownChallenge { nonce: proof.challenge };
    let asked = domain.challenges.get(&proof.challenge).ok_or(unknown)?;
    if asked.challenge.targets.binary_search(&proof.node).is_err() {
        return Err(Refusal::NotAsked { node: proof.node.clone() });
    }
    let code = asked.challenge.code;
    if let Some(answer) = asked.proofs.get(&proof.node) {
        return Err(Refusal::AlreadyRecorded { what: "answer of this node", at: answer.at });
    }
    // The nonce shows that the proof was made after the challenge. That its position covers the
    // challenge shows that the holder knew the policy and the generations of that moment.
    check_seen(&proof.as_of, asked.at)?;
    check_follows(state, domain, &proof.as_of, proof.policy)?;
    check_durable(domain, &proof.node, &key)?;
    let attested = attest(state, envelope, key, &proof.domain)?;
    let found = attested.result.measurement();
    if found != proof.measurement {
        let stated = proof.measurement;
        return Err(Refusal::MeasurementMismatch { stated, attested: found });
    }
    match code {
        Some(asked) if asked != found => return Err(Refusal::OtherCodeAsked { asked, found }),
        Some(_) => {}
        // An upgrader has a copy only for a while, so it never answers for its node unasked.
        None => check_keeper(state, &proof.domain, &found)?,
    }
    Ok(Change::Proof(proof, attested))
}

/// A proof says that durable state was opened. An instance that registered without any contradicts
/// itself.
fn check_durable(domain: &DomainState, node: &NodeId, key: &PublicKey) -> Result<(), Refusal> {
    let own = domain.registrations().find(|found| *found.instance() == *key);
    match own.and_then(|found| found.statement().volatile) {
        Some(Volatile::Memory) => Err(Refusal::HoldsInMemory { node: node.clone() }),
        Some(Volatile::UntilUpdate) | None => Ok(()),
    }
}

/// Verifies a statement of one instance and the agent of its node, which must be meant for the
/// domain. Returns the instance's key, for which only its evidence can vouch: call [`attest`]
/// before believing it.
pub(crate) fn verify_attested<T: AttestedStatement>(
    state: &NetworkState,
    envelope: &Envelope,
) -> Result<(Verified<T>, PublicKey), Refusal> {
    let unverified: T = envelope.unverified().map_err(Refusal::Malformed)?;
    same_network(state, unverified.network())?;
    let agent = node_in(state, unverified.node(), unverified.domain())?.agent;
    verify_countersigned(envelope, agent)
}

/// Shows that the signer is an instance which the domain's policy lets hold. The evidence is bound
/// to exactly this statement and this key.
pub(crate) fn attest(
    state: &mut NetworkState,
    envelope: &Envelope,
    key: PublicKey,
    domain: &DomainId,
) -> Result<Attested, Refusal> {
    let evidence = envelope.evidence.as_ref().ok_or(Refusal::EvidenceMissing)?;
    let result = appraise_holder(state, domain, evidence, &envelope.report_data(&key))?;
    Ok(Attested { instance: key, result })
}

/// Appraises under the policy in force.
pub(crate) fn appraise(
    state: &mut NetworkState,
    domain: &DomainId,
    evidence: &Evidence,
    expected: &ReportData,
) -> Result<AttestationResult, Refusal> {
    let no_policy = Refusal::NoPolicy { domain: *domain };
    let policy = state.policy(domain).ok_or_else(|| no_policy.clone())?;
    let now = not_expired(state, "policy", policy.not_after)?;
    let NetworkState { appraiser, domains, .. } = state;
    let policy = domains.get(domain).and_then(DomainState::policy).ok_or(no_policy)?;
    appraiser.appraise(evidence, expected, &policy.appraisal, now).map_err(Refusal::evidence)
}

/// Appraises under the policy in force, and asks it whether that code may hold.
pub(crate) fn appraise_holder(
    state: &mut NetworkState,
    domain: &DomainId,
    evidence: &Evidence,
    expected: &ReportData,
) -> Result<AttestationResult, Refusal> {
    let result = appraise(state, domain, evidence, expected)?;
    let measurement = result.measurement();
    let policy = state.policy(domain).ok_or(Refusal::NoPolicy { domain: *domain })?;
    let rule = policy.holder(&measurement).ok_or(Refusal::MeasurementRefused { measurement })?;
    let (needed, found) = (rule.security_version, result.security_version());
    if found < needed {
        return Err(Refusal::SecurityVersionTooLow { needed, found });
    }
    Ok(result)
}

fn known_domain<'a>(
    state: &'a NetworkState,
    domain: &DomainId,
) -> Result<&'a DomainState, Refusal> {
    state.domains.get(domain).ok_or(Refusal::NoPolicy { domain: *domain })
}

/// Refuses a statement whose maker had not seen `entry`.
pub(crate) fn check_seen(as_of: &LogPosition, entry: LogIndex) -> Result<(), Refusal> {
    if as_of.length > entry {
        return Ok(());
    }
    Err(Refusal::Stale { length: as_of.length, needed: entry })
}

/// Refuses a statement whose maker followed another history.
pub(crate) fn check_history(state: &NetworkState, as_of: &LogPosition) -> Result<(), Refusal> {
    if state.head_at(as_of.length) == Some(&as_of.head) {
        return Ok(());
    }
    Err(Refusal::OtherHistory { length: as_of.length })
}

/// Refuses a statement whose maker followed another history, or drew another conclusion from
/// this one.
fn check_follows(
    state: &NetworkState,
    domain: &DomainState,
    as_of: &LogPosition,
    policy: Serial,
) -> Result<(), Refusal> {
    check_history(state, as_of)?;
    let expected = domain.policy_in_force_at(as_of.length);
    if expected != Some(policy) {
        return Err(Refusal::WrongPolicy { expected, found: policy });
    }
    Ok(())
}
