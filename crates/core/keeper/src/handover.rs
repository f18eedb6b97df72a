//! Who may hand a keyring to whom, and what the two sides keep of each other on the way.
//!
//! A handover is permitted by one step of an approved plan, and by nothing else: an edge that a
//! policy names is necessary and not enough. [`authorise`] derives the permission from the log;
//! donor and receiver do so each for itself, again at every message, and attest its digest. So a
//! permission is good for one network, domain, plan, step, pair of seats and keyring, until one
//! epoch, and only while the log says so.
//!
//! Whoever gives is the one who must be sure: the donor sends nothing before it has verified what
//! the receiver attested in answer to the donor's own challenge. The receiver verifies the donor in
//! the same way, and then believes nothing that it sends: it computes the chain itself.
//!
//! What the two sides do is in [`keeper`](crate::keeper); what they say is in
//! [`heirloom_model::handover`].

use std::ops::Deref;

use heirloom_attest::local::{LocalError, appraise_local};
use heirloom_attest::result::Host;
use heirloom_model::counter::{Epoch, Generation, SecurityVersion, Time};
use heirloom_model::digest::{AuthorisationDigest, ChannelDigest, PlanDigest, ReleaseDigest};
use heirloom_model::domain::PlanStep;
use heirloom_model::evidence::{LocalReport, ReportData, SessionRole};
use heirloom_model::handover::{
    Authorisation, HandoverProof, HandoverQuestion, HandoverRequest, HandoverRole,
};
use heirloom_model::identifier::{NodeId, PlatformId};
use heirloom_model::measurement::Measurement;
use heirloom_model::plan::{Action, KeyringPlan, Placement, StepId};
use heirloom_model::policy::{HolderRole, Policy};
use heirloom_model::release::Release;
use heirloom_registry::domain::{Committed, DomainState};
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::{PlanState, PlanStatus};

use crate::handshake::{Peer, is_expired};
use crate::port::{Platform, PlatformError, PlatformIdentity};

/// A handover that the log allows now.
///
/// Only [`authorise`] makes one, and it is not kept: what the log allows may be over with the next
/// entry.
///
/// ```compile_fail
/// fn forge(allowed: heirloom_keeper::handover::Authorised) -> heirloom_keeper::handover::Authorised {
///     heirloom_keeper::handover::Authorised { ..allowed }
/// }
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Authorised {
    authorisation: Authorisation,
    from_needs: SecurityVersion,
    to_needs: SecurityVersion,
}

impl Deref for Authorised {
    type Target = Authorisation;

    fn deref(&self) -> &Authorisation {
        &self.authorisation
    }
}

impl Authorised {
    /// Node and code of a side, and the lowest security version that policy and release demand
    /// of it.
    pub(crate) fn seat(&self, role: HandoverRole) -> (&NodeId, Measurement, SecurityVersion) {
        match role {
            HandoverRole::Donor => (&self.from_node, self.from.measurement, self.from_needs),
            HandoverRole::Receiver => (&self.to_node, self.to.measurement, self.to_needs),
        }
    }
}

/// Why the log does not allow a handover, or something else that only a plan allows.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAuthorised {
    /// The plan is not the domain's latest one.
    #[error("plan {plan} is not the current plan of its domain")]
    NotCurrent {
        /// The plan.
        plan: PlanDigest,
    },
    /// The plan is about nothing that a keeper has.
    #[error("plan {plan} concerns no keyring")]
    NoKeyring {
        /// The plan.
        plan: PlanDigest,
    },
    /// The plan does not let such steps start now.
    #[error("the plan is {status}")]
    Status {
        /// Where it stands.
        status: PlanStatus,
    },
    /// The plan has no such step, or it says something else.
    #[error("step {step} of the plan is no {expected} of this seat")]
    OtherStep {
        /// The step.
        step: StepId,
        /// What it would have to be.
        expected: &'static str,
    },
    /// What must be done before the step is not done.
    #[error("step {step} of the plan waits for another one")]
    NotOpen {
        /// The step.
        step: StepId,
    },
    /// The step has its result: what it allowed is over.
    #[error("step {step} of the plan is done")]
    Done {
        /// The step.
        step: StepId,
    },
    /// A gate of the step is closed.
    #[error("step {step} of the plan waits: {gate}")]
    Closed {
        /// The step.
        step: StepId,
        /// What it waits for.
        gate: &'static str,
    },
    /// The last epoch of the plan has passed.
    #[error("the plan's last epoch was {not_after}, this is epoch {now}")]
    Lapsed {
        /// The plan's last epoch.
        not_after: Epoch,
        /// The epoch.
        now: Epoch,
    },
    /// The fleet does not have the node in this domain.
    #[error("{node} is not a node of the domain")]
    UnknownNode {
        /// The node.
        node: NodeId,
    },
    /// No policy is in force, or it has expired.
    #[error("no policy of the domain permits anything now")]
    NoPolicy,
    /// The policy does not let the code hold.
    #[error("the policy does not let {measurement} hold keys")]
    NotListed {
        /// The code.
        measurement: Measurement,
    },
    /// The policy gives the code another role than its release has.
    #[error("the policy lets {measurement} be a {}, its release is none", .role.name())]
    OtherRole {
        /// The code.
        measurement: Measurement,
        /// The role in the policy.
        role: HolderRole,
    },
    /// The policy names no such edge.
    #[error("the policy names no edge from {from} to {to}")]
    NoEdge {
        /// The donor.
        from: Measurement,
        /// The receiver.
        to: Measurement,
    },
    /// The release is not known, or does not launch to the measurement.
    #[error("release {release} is not known to launch to {measurement}")]
    UnknownRelease {
        /// The release.
        release: ReleaseDigest,
        /// The measurement.
        measurement: Measurement,
    },
    /// The receiver's release has expired.
    #[error("release {release} expired at {not_after}")]
    ReleaseExpired {
        /// The release.
        release: ReleaseDigest,
        /// Its last second.
        not_after: Time,
    },
    /// It would be a way back to older code.
    #[error("security version {to} is lower than {from}")]
    Downgrade {
        /// Of the donor, or of what ran before the plan.
        from: SecurityVersion,
        /// Of the receiver, or of what runs after it.
        to: SecurityVersion,
    },
    /// The committed keyring is not the one that the plan moves.
    #[error("the committed keyring is not the one that the plan moves")]
    OtherKeyring,
    /// The log does not say that this instance runs at that seat.
    #[error("the instance is not the one that is registered on {node} with {measurement}")]
    NotRegistered {
        /// The node.
        node: NodeId,
        /// The code.
        measurement: Measurement,
    },
    /// The log has no proof that the keyring survives without this copy.
    #[error("the log has no proof of {measurement} that allows it")]
    NotProven {
        /// Whose proof is missing.
        measurement: Measurement,
    },
    /// The delay of the policy has not passed.
    #[error("the policy demands {epochs} epochs more time")]
    TooEarly {
        /// How many epochs the policy demands in all.
        epochs: u32,
    },
}

/// Why a side of a handover does not believe the other.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAttested {
    /// The other side has the wrong end of the session.
    #[error("the receiver is the side that connects")]
    Direction,
    /// The session's evidence shows other code than the plan names.
    #[error("the session's evidence is of {found}, the plan names {expected}")]
    OtherCode {
        /// In the plan.
        expected: Measurement,
        /// In the evidence.
        found: Measurement,
    },
    /// The code is older than policy and release demand.
    #[error("security version {needed} is needed, the evidence shows {found}")]
    SecurityVersionTooLow {
        /// What is demanded.
        needed: SecurityVersion,
        /// In the evidence.
        found: SecurityVersion,
    },
    /// Both seats are on one host, and the session's evidence shows another machine.
    #[error("the session's evidence is of platform {found}, this is {own}")]
    OtherPlatform {
        /// This machine.
        own: PlatformId,
        /// In the evidence.
        found: PlatformId,
    },
    /// Both seats are on one host, and the session's evidence names no machine.
    #[error("the session's evidence names no platform, this is {own}")]
    UnknownPlatform {
        /// This machine.
        own: PlatformId,
    },
    /// Both seats are on one host, and a local report or its target is missing.
    #[error("seats on one host must attest locally")]
    ReportMissing,
    /// The seats are on different hosts, where local reports show nothing.
    #[error("seats on different hosts cannot attest locally")]
    ReportUnexpected,
    /// The local report is refused.
    #[error("the local report is refused")]
    Report(#[source] Box<LocalError<PlatformError>>),
    /// The local report and the session's evidence are of different enclaves.
    #[error("the local report and the session's evidence differ")]
    TwoEnclaves,
    /// The challenge was made in another session.
    #[error("the challenge was made in another session")]
    OtherSession,
    /// What the log allows has changed since the challenge was made.
    #[error("the log allows another handover than when the challenge was made")]
    OtherHandover,
    /// There is no challenge that waits for an answer.
    #[error("no challenge waits for this answer")]
    NoChallenge,
    /// The challenge was answered by something else.
    #[error("the challenge was answered differently before")]
    OtherAnswer,
}

/// What a receiver remembers of its request until the donor has answered.
#[derive(Clone, Debug)]
pub struct ReceiverAsk {
    pub(crate) request: HandoverRequest,
    pub(crate) authorisation: AuthorisationDigest,
}

/// A donor that has attested for one handover in one session.
///
/// Only [`Keeper::prove_to_donor`](crate::keeper::Keeper::prove_to_donor) makes one:
///
/// ```compile_fail
/// fn forge(donor: heirloom_keeper::handover::Donor) -> heirloom_keeper::handover::Donor {
///     heirloom_keeper::handover::Donor { ..donor }
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Donor {
    pub(crate) peer: Peer,
    pub(crate) step: PlanStep,
    pub(crate) authorisation: AuthorisationDigest,
    /// What this side answered; every further request repeats it.
    pub(crate) report: Option<LocalReport>,
}

/// A donor's challenge, as long as it is good: for one receiver, in one session.
#[derive(Debug)]
pub struct DonorChallenge {
    pub(crate) request: HandoverRequest,
    pub(crate) question: HandoverQuestion,
    pub(crate) channel: ChannelDigest,
    pub(crate) authorisation: AuthorisationDigest,
    pub(crate) answer: Answer,
}

/// What became of a donor's challenge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    /// Nobody answered yet.
    Awaited,
    /// The receiver answered with this, and it was verified.
    Given(Option<Box<LocalReport>>),
    /// Somebody answered with something else: whatever comes now is no answer any more.
    Spent,
}

/// What a donor remembers of one session: at most one challenge.
#[derive(Debug, Default)]
pub struct DonorSession {
    pub(crate) challenge: Option<DonorChallenge>,
}

/// Decides from the log whether a step of a plan allows a handover now, and which.
///
/// A plan is proposed and approved only for the policy in force and the committed keyring, and
/// while it is under way neither changes. So whoever follows the log honestly never comes to see
/// that the policy does not name the edge or the code, or gives the code another role, or that a
/// release is not known or the keyring another one. These are looked at all the same: what permits
/// a secret to leave does not rest on rules that are written down elsewhere.
pub fn authorise(network: &NetworkState, step: PlanStep) -> Result<Authorised, NotAuthorised> {
    let state = current_plan(network, &step.plan)?;
    let id = step.step;
    // Where there is no keyring, none is handed over.
    let no_keyring = NotAuthorised::NoKeyring { plan: step.plan };
    let plan = KeyringPlan::of(state.plan()).ok_or(no_keyring)?;
    expect_forward(state)?;
    let other_step = NotAuthorised::OtherStep { step: id, expected: "hand-over" };
    let found =
        plan.step(id).filter(|_| !plan.is_rollback(id)).ok_or_else(|| other_step.clone())?;
    let Action::HandOver { from_node, from, to } = &found.action else { return Err(other_step) };
    if state.done_at(id).is_some() {
        return Err(NotAuthorised::Done { step: id });
    }
    if !state.is_open(found) {
        return Err(NotAuthorised::NotOpen { step: id });
    }
    if network.epoch() > plan.not_after {
        let (not_after, now) = (plan.not_after, network.epoch());
        return Err(NotAuthorised::Lapsed { not_after, now });
    }
    let host = |node: &NodeId| {
        let known = network.node(node).filter(|known| known.domain == plan.domain);
        let unknown = || NotAuthorised::UnknownNode { node: node.clone() };
        known.map(|known| known.host.clone()).ok_or_else(unknown)
    };
    let (from_host, to_host) = (host(from_node)?, host(&found.node)?);
    let policy = network.policy(&plan.domain).ok_or(NotAuthorised::NoPolicy)?;
    let needs = expect_edge(network, policy, plan, (from, to))?;
    expect_keyring(network.domain(&plan.domain).and_then(DomainState::committed), plan)?;
    let authorisation = Authorisation {
        network: plan.network,
        domain: plan.domain,
        plan: step.plan,
        step: id,
        from_node: from_node.clone(),
        from_host,
        from: *from,
        to_node: found.node.clone(),
        to_host,
        to: *to,
        generation: plan.keyring.generation,
        checksum: plan.keyring.checksum,
        not_after: plan.not_after,
        nonce: plan.nonce,
    };
    Ok(Authorised { authorisation, from_needs: needs.0, to_needs: needs.1 })
}

/// The current plan of its domain. Every other plan is stale.
pub(crate) fn current_plan<'a>(
    network: &'a NetworkState,
    plan: &PlanDigest,
) -> Result<&'a PlanState, NotAuthorised> {
    let is_current = |state: &&PlanState| {
        let domain = network.domain(&state.plan().domain);
        domain.and_then(|domain| domain.plan()) == Some(plan)
    };
    let found = network.plan(plan).filter(is_current);
    found.ok_or(NotAuthorised::NotCurrent { plan: *plan })
}

/// Expects that forward steps of a plan may run.
pub(crate) fn expect_forward(plan: &PlanState) -> Result<(), NotAuthorised> {
    match plan.status() {
        PlanStatus::Approved | PlanStatus::PastNoReturn => Ok(()),
        status @ (PlanStatus::Proposed
        | PlanStatus::ApprovalLapsed
        | PlanStatus::Expired
        | PlanStatus::RollingBack
        | PlanStatus::RolledBack
        | PlanStatus::Finished) => Err(NotAuthorised::Status { status }),
    }
}

/// Expects that the policy in force names the edge and that it does not lead to older code.
/// Returns the lowest security versions of donor and receiver.
fn expect_edge(
    network: &NetworkState,
    policy: &Policy,
    plan: KeyringPlan<'_>,
    (from, to): (&Placement, &Placement),
) -> Result<(SecurityVersion, SecurityVersion), NotAuthorised> {
    if is_expired(policy, network) {
        return Err(NotAuthorised::NoPolicy);
    }
    let donor = side(network, policy, from)?;
    let receiver = side(network, policy, to)?;
    if !policy.names_edge(&from.measurement, &to.measurement) {
        let (from, to) = (from.measurement, to.measurement);
        return Err(NotAuthorised::NoEdge { from, to });
    }
    let not_after = receiver.release.not_after;
    if network.now().is_none_or(|now| now > not_after) {
        return Err(NotAuthorised::ReleaseExpired { release: to.release, not_after });
    }
    let (before, after) =
        (release(network, &plan.keyring.from)?, release(network, &plan.keyring.to)?);
    expect_no_downgrade(before, after)?;
    // An upgrader counts its own versions: what comes after the last keeper is decided above.
    if (donor.role, receiver.role) == (HolderRole::Keeper, HolderRole::Keeper) {
        expect_no_downgrade(donor.release, receiver.release)?;
    }
    Ok((donor.needs, receiver.needs))
}

/// One side of an edge.
struct Side<'a> {
    release: &'a Release,
    role: HolderRole,
    needs: SecurityVersion,
}

fn side<'a>(
    network: &'a NetworkState,
    policy: &Policy,
    placement: &Placement,
) -> Result<Side<'a>, NotAuthorised> {
    let measurement = placement.measurement;
    let rule = policy.holder(&measurement).ok_or(NotAuthorised::NotListed { measurement })?;
    let release = release(network, placement)?;
    let role = rule.role;
    if release.kind.role() != Some(role) {
        return Err(NotAuthorised::OtherRole { measurement, role });
    }
    Ok(Side { release, role, needs: rule.security_version.max(release.security_version) })
}

fn release<'a>(
    network: &'a NetworkState,
    placement: &Placement,
) -> Result<&'a Release, NotAuthorised> {
    let Placement { release, measurement } = *placement;
    let known = network.release(&release).map(heirloom_registry::verified::Verified::get);
    known
        .filter(|known| known.measurements.contains(&measurement))
        .ok_or(NotAuthorised::UnknownRelease { release, measurement })
}

fn expect_no_downgrade(before: &Release, after: &Release) -> Result<(), NotAuthorised> {
    let (from, to) = (before.security_version, after.security_version);
    if to < from { Err(NotAuthorised::Downgrade { from, to }) } else { Ok(()) }
}

/// Expects that the committed keyring is the one that operators approved to move.
fn expect_keyring(
    committed: Option<&Committed>,
    plan: KeyringPlan<'_>,
) -> Result<(), NotAuthorised> {
    let is_the_one = committed.is_some_and(|committed| {
        (committed.generation, committed.checksum)
            == (plan.keyring.generation, plan.keyring.checksum)
    });
    if is_the_one { Ok(()) } else { Err(NotAuthorised::OtherKeyring) }
}

/// Expects that the other side of a session is what a handover names on that side.
pub(crate) fn expect_peer(
    own: &PlatformIdentity,
    peer: &Peer,
    role: HandoverRole,
    authorised: &Authorised,
) -> Result<(), NotAttested> {
    let end = match role {
        HandoverRole::Donor => SessionRole::Responder,
        HandoverRole::Receiver => SessionRole::Initiator,
    };
    if peer.role() != end {
        return Err(NotAttested::Direction);
    }
    let (_, expected, needed) = authorised.seat(role);
    let found = peer.measurement();
    if found != expected {
        return Err(NotAttested::OtherCode { expected, found });
    }
    let found = peer.result().security_version();
    if found < needed {
        return Err(NotAttested::SecurityVersionTooLow { needed, found });
    }
    if authorised.is_local() { expect_host(own.platform, peer.result().host()) } else { Ok(()) }
}

/// Expects evidence of this very machine. Of hosts that their evidence does not name, nobody knows
/// whether they are one: such a host is not even itself.
pub(crate) fn expect_host(own: PlatformId, found: Host) -> Result<(), NotAttested> {
    match found {
        Host::Known(found) if found == own => Ok(()),
        Host::Known(found) => Err(NotAttested::OtherPlatform { own, found }),
        Host::Unknown => Err(NotAttested::UnknownPlatform { own }),
    }
}

/// Expects that questions have a target for local reports exactly if both seats are on one host.
pub(crate) fn expect_target(
    question: &HandoverQuestion,
    authorised: &Authorised,
) -> Result<(), NotAttested> {
    match (&question.target, authorised.is_local()) {
        (Some(_), true) | (None, false) => Ok(()),
        (None, true) => Err(NotAttested::ReportMissing),
        (Some(_), false) => Err(NotAttested::ReportUnexpected),
    }
}

/// Expects that what the other side attested locally is the answer to exactly this, by the very
/// enclave that the session's evidence is about. Between hosts that evidence, which was made for
/// this session, is all there is.
pub(crate) fn expect_report(
    platform: &dyn Platform,
    peer: &Peer,
    report: Option<&LocalReport>,
    expected: &ReportData,
    authorised: &Authorised,
) -> Result<(), NotAttested> {
    let report = match (report, authorised.is_local()) {
        (Some(report), true) => report,
        (None, false) => return Ok(()),
        (None, true) => return Err(NotAttested::ReportMissing),
        (Some(_), false) => return Err(NotAttested::ReportUnexpected),
    };
    let shown = peer.result();
    let verify = |report: &LocalReport| platform.verify_report(report);
    let attested = appraise_local(shown.kind(), report, expected, verify)
        .map_err(|error| NotAttested::Report(Box::new(error)))?;
    let is_one_enclave = attested.measurement() == shown.measurement()
        && Some(attested.signer()) == shown.signer()
        && Some(attested.product_id()) == shown.product_id()
        && attested.security_version() == shown.security_version();
    if is_one_enclave { Ok(()) } else { Err(NotAttested::TwoEnclaves) }
}

impl Donor {
    /// What to ask the donor for.
    pub(crate) fn ask(&self, newest: Generation, count: u32) -> HandoverProof {
        HandoverProof { report: self.report, newest, count }
    }
}

#[cfg(test)]
mod tests;
