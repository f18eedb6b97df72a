//! The rules: each examines one kind of statement and returns the change that it makes.
//!
//! Examining changes nothing, and a change cannot fail: a statement counts completely or not at
//! all, and asking about it first gives the same answer as appending it.

pub(crate) mod activity;
pub(crate) mod attested;
pub(crate) mod clock;
pub(crate) mod custody;
pub(crate) mod fleet;
pub(crate) mod participant;
pub(crate) mod participant_plan;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod proposal;
pub(crate) mod release;
pub(crate) mod root;
pub(crate) mod service;
pub(crate) mod service_plan;

mod appraisal;
mod change;

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::result::AttestationResult;
use heirloom_model::counter::{Epoch, Time};
use heirloom_model::digest::NetworkId;
use heirloom_model::domain::{
    Activation, Challenge, EpochStart, GenerationOrder, GenerationReceipt, PossessionProof,
    Registration, Suspension,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::fleet::Fleet;
use heirloom_model::participant::{MapAgreement, ParticipantStanding, ParticipantSurvey};
use heirloom_model::plan::{Abort, Approval, Plan, StepResult};
use heirloom_model::policy::Policy;
use heirloom_model::release::Release;
use heirloom_model::root::Root;
use heirloom_model::service::{Rehearsal, Revocation, Standing};
use heirloom_model::signature::PublicKey;
use heirloom_model::statement::StatementKind;

use crate::network::NetworkState;
use crate::plan::Consent;
use crate::refusal::Refusal;
use crate::verified::Verified;

/// What a statement that counts changes.
#[derive(Debug)]
pub(crate) enum Change {
    Root(Verified<Root>),
    Fleet(Verified<Fleet>),
    Release(Verified<Release>),
    Policy(Box<Verified<Policy>>),
    Epoch(Verified<EpochStart>),
    Endorsements(Box<Appraiser>),
    Order(Verified<GenerationOrder>),
    Receipt(Verified<GenerationReceipt>, Attested),
    Registration(Verified<Registration>, Attested),
    Challenge(Verified<Challenge>),
    Proof(Verified<PossessionProof>, Attested),
    Proposal(Box<Plan>, Proposer),
    Approval(Verified<Approval>),
    Abort(Verified<Abort>),
    StepResult(Verified<StepResult>),
    Suspension(Verified<Suspension>, Attested),
    Activation(Verified<Activation>, Attested),
    Standing(Box<Verified<Standing>>, Attested),
    Rehearsal(Verified<Rehearsal>, PublicKey),
    Revocation(Verified<Revocation>, PublicKey),
    Survey(Box<Verified<ParticipantSurvey>>),
    ParticipantStanding(Box<Verified<ParticipantStanding>>),
    Agreement(Verified<MapAgreement>, PublicKey),
}

/// Who made an attested statement.
#[derive(Debug)]
pub(crate) struct Attested {
    pub(crate) instance: PublicKey,
    pub(crate) result: AttestationResult,
}

/// Who put a plan forward, and whose consent lets it run for that reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proposer {
    pub(crate) key: PublicKey,
    pub(crate) consent: Consent,
}

/// Applies every rule to a statement.
pub(crate) fn examine(state: &mut NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    check_evidence_presence(envelope)?;
    if envelope.kind == StatementKind::Root {
        return root::examine(state, envelope);
    }
    let root = state.root.as_ref().ok_or(Refusal::NoRoot)?;
    if let Some(now) = state.now
        && now > root.not_after
    {
        return Err(Refusal::RootExpired { not_after: root.not_after });
    }
    match envelope.kind {
        StatementKind::Root => root::examine(state, envelope),
        StatementKind::Fleet => fleet::examine(state, envelope),
        StatementKind::Release => release::examine(state, envelope),
        StatementKind::Policy => policy::examine(state, envelope),
        StatementKind::Epoch => clock::examine_epoch(state, envelope),
        StatementKind::Endorsements => clock::examine_endorsements(state, envelope),
        StatementKind::GenerationOrder => custody::examine_order(state, envelope),
        StatementKind::GenerationReceipt => custody::examine_receipt(state, envelope),
        StatementKind::Registration => attested::examine_registration(state, envelope),
        StatementKind::Challenge => custody::examine_challenge(state, envelope),
        StatementKind::PossessionProof => attested::examine_proof(state, envelope),
        StatementKind::Proposal => proposal::examine(state, envelope),
        StatementKind::Approval => plan::examine_approval(state, envelope),
        StatementKind::Abort => plan::examine_abort(state, envelope),
        StatementKind::StepResult => plan::examine_result(state, envelope),
        StatementKind::Suspension => activity::examine_suspension(state, envelope),
        StatementKind::Activation => activity::examine_activation(state, envelope),
        StatementKind::Standing => service::examine_standing(state, envelope),
        StatementKind::Rehearsal => service::examine_rehearsal(state, envelope),
        StatementKind::Revocation => service::examine_revocation(state, envelope),
        StatementKind::ParticipantSurvey => participant::examine_survey(state, envelope),
        StatementKind::ParticipantStanding => participant::examine_standing(state, envelope),
        StatementKind::MapAgreement => participant::examine_agreement(state, envelope),
    }
}

/// Evidence is there exactly where a rule looks at it: nothing unread travels under a signature's
/// authority.
fn check_evidence_presence(envelope: &Envelope) -> Result<(), Refusal> {
    match (envelope.kind.is_attested(), envelope.evidence.is_some()) {
        (true, false) => Err(Refusal::EvidenceMissing),
        (false, true) => Err(Refusal::EvidenceUnexpected),
        (true, true) | (false, false) => Ok(()),
    }
}

/// Refuses a statement of another network.
pub(crate) fn same_network(state: &NetworkState, found: NetworkId) -> Result<(), Refusal> {
    if found == state.network {
        return Ok(());
    }
    Err(Refusal::OtherNetwork { found: Some(found) })
}

/// Refuses what has expired; returns the time.
pub(crate) fn not_expired(
    state: &NetworkState,
    what: &'static str,
    not_after: Time,
) -> Result<Time, Refusal> {
    let now = state.now.ok_or(Refusal::NoTime)?;
    if now > not_after {
        return Err(Refusal::Expired { what, not_after, now });
    }
    Ok(now)
}

/// Refuses what ended with an epoch that has passed.
pub(crate) fn epoch_not_passed(
    state: &NetworkState,
    what: &'static str,
    not_after: Epoch,
) -> Result<(), Refusal> {
    if state.now.is_none() {
        return Err(Refusal::NoTime);
    }
    let epoch = state.epoch;
    if epoch > not_after {
        return Err(Refusal::EpochPassed { what, not_after, epoch });
    }
    Ok(())
}

/// Refuses any number but the next.
pub(crate) fn is_next(
    what: &'static str,
    last: Option<u64>,
    first: u64,
    found: u64,
) -> Result<(), Refusal> {
    let expected = match last {
        None => first,
        // At the end of the range nothing is next: no number is above the last.
        Some(last) => last.checked_add(1).ok_or(Refusal::Limit { what, limit: usize::MAX })?,
    };
    if found == expected { Ok(()) } else { Err(Refusal::NotNext { what, expected, found }) }
}
