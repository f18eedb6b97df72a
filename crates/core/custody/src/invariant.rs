//! The two invariants, one function each.
//!
//! * **No loss.** Whatever effect comes next, enough holders in separate failure domains remain
//!   that have freshly proven, from durable state, that they can use exactly the committed keyring.
//! * **No leak.** A keyring goes only along an edge that an unexpired policy names.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use heirloom_model::counter::{Generation, LogIndex, SecurityVersion, Serial, Time};
use heirloom_model::digest::Checksum;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::identifier::{FailureDomain, NodeId, PlatformId};
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::Policy;

use crate::holding::{Condition, KeyCopy, Keyring, Proof, Seat};

/// What must hold after the next effect.
#[derive(Clone, Copy, Debug)]
pub struct Requirement<'a> {
    /// The policy in force. Only holders that it names count, and never fewer than it demands.
    pub policy: &'a Policy,
    /// The keyring that must survive.
    pub keyring: Keyring,
    /// The fewest failure domains with a proven holder. The policy can only raise it.
    pub need: u32,
    /// Only proofs whose challenge stands at or after this entry of the log are fresh.
    pub fresh_from: LogIndex,
}

impl Requirement<'_> {
    /// How many failure domains are needed: what is asked, what the policy asks, at least one.
    pub fn needed(&self) -> u32 {
        self.need.max(self.policy.holders_min).max(1)
    }
}

/// What is about to happen to the copies.
#[derive(Clone, Copy, Debug)]
pub enum NextEffect<'a> {
    /// Nothing: is everything well now?
    None,
    /// The instances at these seats go away, and with them what they hold in usable form. Other
    /// seats of the same nodes stay.
    TakeAway(&'a BTreeSet<Seat>),
    /// This policy takes effect. Holders that it does not name stop counting.
    Enforce(&'a Policy),
}

/// The holders that remain after the next effect. Only [`no_loss`] makes one, so whoever has one
/// asked before acting:
///
/// ```compile_fail
/// let forged = heirloom_custody::invariant::Survivors { holders: vec![], domains: 3, needed: 1 };
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "an effect that takes a holder away names its survivors"]
pub struct Survivors {
    holders: Vec<NodeId>,
    domains: u32,
    needed: u32,
}

impl Survivors {
    /// The proven holders, sorted.
    pub fn holders(&self) -> &[NodeId] {
        &self.holders
    }

    /// In how many failure domains they are. Domains that share a machine are one.
    pub fn failure_domains(&self) -> u32 {
        self.domains
    }

    /// How many failure domains were needed.
    pub fn needed(&self) -> u32 {
        self.needed
    }

    /// How many failure domains can vanish before the last proven holder does.
    pub fn margin(&self) -> u32 {
        self.domains.saturating_sub(1)
    }
}

/// Why an effect could lose the keyring.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LossRisk {
    /// Too few holders would remain.
    #[error("{0}")]
    TooFew(Shortfall),
    /// One node is said to be in two failure domains, so no count means anything.
    #[error("{node} is listed in failure domains {first} and {second}")]
    Contradiction {
        /// The node.
        node: NodeId,
        /// Where one entry puts it.
        first: FailureDomain,
        /// Where another one does.
        second: FailureDomain,
    },
}

/// Who is missing, and why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Shortfall {
    /// How many failure domains need a proven holder.
    pub needed: u32,
    /// How many would have one.
    pub found: u32,
    /// The holders that count, sorted.
    pub holders: Vec<NodeId>,
    /// The nodes that do not count, sorted, each with its reason.
    pub missing: Vec<Missing>,
}

/// A node that does not count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Missing {
    /// The node.
    pub node: NodeId,
    /// Where it is.
    pub failure_domain: FailureDomain,
    /// Why it does not count.
    pub why: Why,
}

/// Why a node does not count as a holder. In the order of how far it came.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, thiserror::Error)]
pub enum Why {
    /// Its copy is known to be gone.
    #[error("its copy is lost")]
    Lost,
    /// A plan is changing the seat that answered.
    #[error("it is being changed")]
    Changing,
    /// The next effect takes away the seat that answered.
    #[error("it is taken away next")]
    TakenAway,
    /// It has not proven anything.
    #[error("no proof")]
    NoProof,
    /// It answered an older challenge only.
    #[error("its proof answers log entry {asked_at}, but {fresh_from} or later is needed")]
    Stale {
        /// The challenge that it answered.
        asked_at: LogIndex,
        /// The oldest one that counts.
        fresh_from: LogIndex,
    },
    /// The policy does not let the code that answered hold the keyring.
    #[error("{measurement} may not hold by policy serial {policy}")]
    MeasurementNotAllowed {
        /// The code.
        measurement: Measurement,
        /// The policy.
        policy: Serial,
    },
    /// It proved another generation.
    #[error("it proved generation {found}, not {expected}")]
    WrongGeneration {
        /// What must survive.
        expected: Generation,
        /// What it has.
        found: Generation,
    },
    /// It proved another keyring.
    #[error("it proved checksum {found}")]
    WrongChecksum {
        /// What it has.
        found: Checksum,
    },
    /// It has not restarted since it received the keyring.
    #[error("it has not restarted since it received keys")]
    NotRecovered,
}

/// Missing nodes that one message names.
const NAMED_MAX: usize = 8;

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, found, .. } = self;
        write!(f, "{found} of {needed} failure domains would have a proven holder")?;
        for (position, missing) in self.missing.iter().take(NAMED_MAX).enumerate() {
            let separator = if position == 0 { ": " } else { ", " };
            write!(f, "{separator}{} ({})", missing.node, missing.why)?;
        }
        match self.missing.len().checked_sub(NAMED_MAX) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, ", and {more} more"),
        }
    }
}

/// Whether the keyring survives the next effect: at least `needed` distinct failure domains keep
/// a holder at a seat that is not being changed, runs code that the policy lets hold, and has
/// proven exactly the committed keyring from durable state, freshly. A keeper and an upgrader
/// count alike: both hold a sealed copy.
///
/// Of several proofs by the seats of one node the best counts; a node or failure domain counts
/// once, however often it is listed. Failure domains are what the fleet says; the machine is what
/// evidence shows: domains whose holders answered from one machine count once.
pub fn no_loss(
    requirement: &Requirement<'_>,
    copies: &[KeyCopy],
    proofs: &[Proof],
    next: &NextEffect<'_>,
) -> Result<Survivors, LossRisk> {
    let places = distinct(copies)?;
    let mut answers: BTreeMap<&NodeId, Result<&Proof, Why>> = BTreeMap::new();
    for proof in proofs {
        let Some(place) = places.get(&proof.node) else { continue };
        let answer = away(place, proof, next)
            .or_else(|| flaw(requirement, proof, next))
            .map_or(Ok(proof), Err);
        answers
            .entry(&proof.node)
            .and_modify(|best| *best = better(*best, answer))
            .or_insert(answer);
    }
    let mut places_held = Vec::new();
    let mut holders = Vec::new();
    let mut missing = Vec::new();
    for (node, place) in &places {
        let answer = match place.condition {
            Condition::Lost => Err(Why::Lost),
            Condition::Steady => answers.get(node).copied().unwrap_or(Err(Why::NoProof)),
        };
        match answer {
            Ok(proof) => {
                places_held.push((place.failure_domain, proof.platform));
                holders.push((*node).clone());
            }
            Err(why) => {
                let failure_domain = place.failure_domain.clone();
                missing.push(Missing { node: (*node).clone(), failure_domain, why });
            }
        }
    }
    let needed = requirement.needed();
    let found = separate(&places_held);
    if found < needed {
        return Err(LossRisk::TooFew(Shortfall { needed, found, holders, missing }));
    }
    Ok(Survivors { holders, domains: found, needed })
}

/// Whether one proof counts towards a requirement, whatever happens next.
pub fn counts(requirement: &Requirement<'_>, proof: &Proof) -> Result<(), Why> {
    match flaw(requirement, proof, &NextEffect::None) {
        None => Ok(()),
        Some(why) => Err(why),
    }
}

/// All that is said of one node.
struct Place<'c> {
    failure_domain: &'c FailureDomain,
    condition: Condition,
    changing: BTreeSet<Measurement>,
}

/// Each node once, with the worst that is said of it and of each of its seats.
fn distinct(copies: &[KeyCopy]) -> Result<BTreeMap<&NodeId, Place<'_>>, LossRisk> {
    let mut places: BTreeMap<&NodeId, Place<'_>> = BTreeMap::new();
    for copy in copies {
        let KeyCopy { node, failure_domain, condition, changing } = copy;
        let place = places.entry(node).or_insert_with(|| Place {
            failure_domain,
            condition: *condition,
            changing: BTreeSet::new(),
        });
        if place.failure_domain != failure_domain {
            return Err(LossRisk::Contradiction {
                node: node.clone(),
                first: place.failure_domain.clone(),
                second: failure_domain.clone(),
            });
        }
        place.condition = place.condition.max(*condition);
        place.changing.extend(changing);
    }
    Ok(places)
}

/// Why the seat that gave a proof does not count, whatever it proved.
fn away(place: &Place<'_>, proof: &Proof, next: &NextEffect<'_>) -> Option<Why> {
    if place.changing.contains(&proof.measurement) {
        return Some(Why::Changing);
    }
    match next {
        NextEffect::TakeAway(seats) if seats.contains(&proof.seat()) => Some(Why::TakenAway),
        NextEffect::None | NextEffect::TakeAway(_) | NextEffect::Enforce(_) => None,
    }
}

/// What is wrong with a proof; none if it counts.
fn flaw(requirement: &Requirement<'_>, proof: &Proof, next: &NextEffect<'_>) -> Option<Why> {
    let Requirement { policy, keyring, fresh_from, .. } = *requirement;
    if proof.asked_at < fresh_from {
        return Some(Why::Stale { asked_at: proof.asked_at, fresh_from });
    }
    let coming = match next {
        NextEffect::Enforce(coming) => Some(*coming),
        NextEffect::None | NextEffect::TakeAway(_) => None,
    };
    for policy in [Some(policy), coming].into_iter().flatten() {
        if policy.holder(&proof.measurement).is_none() {
            let measurement = proof.measurement;
            return Some(Why::MeasurementNotAllowed { measurement, policy: policy.serial });
        }
    }
    if proof.generation != keyring.generation {
        let found = proof.generation;
        return Some(Why::WrongGeneration { expected: keyring.generation, found });
    }
    if proof.checksum != keyring.checksum {
        return Some(Why::WrongChecksum { found: proof.checksum });
    }
    match proof.origin {
        HoldingOrigin::Recovered => None,
        HoldingOrigin::Received => Some(Why::NotRecovered),
    }
}

/// The better of two answers: one without a flaw, the younger of two such; otherwise the one that
/// came further.
fn better<'p>(
    left: Result<&'p Proof, Why>,
    right: Result<&'p Proof, Why>,
) -> Result<&'p Proof, Why> {
    match (left, right) {
        (Ok(left), Ok(right)) if left.asked_at > right.asked_at => Ok(left),
        (_, Ok(proof)) | (Ok(proof), Err(_)) => Ok(proof),
        (Err(left), Err(right)) => Err(left.max(right)),
    }
}

/// In how many failure domains these places are, where domains that share a machine are one: the
/// fleet can say that a machine is in two places, and then the fleet is wrong.
fn separate(places: &[(&FailureDomain, Option<PlatformId>)]) -> u32 {
    // Each domain that was found to be one with another, and that other.
    let mut merged: BTreeMap<&FailureDomain, &FailureDomain> = BTreeMap::new();
    let mut machines: BTreeMap<PlatformId, &FailureDomain> = BTreeMap::new();
    let mut domains = BTreeSet::new();
    for (domain, platform) in places {
        domains.insert(*domain);
        let Some(platform) = platform else { continue };
        let known = *machines.entry(*platform).or_insert(*domain);
        let (left, right) = (last_merged(&merged, known), last_merged(&merged, domain));
        if left != right {
            merged.insert(left, right);
        }
    }
    // Every merge made two into one.
    u32::try_from(domains.len().saturating_sub(merged.len())).unwrap_or(u32::MAX)
}

/// What a domain was merged into, in the end. Merges join two ends, so there is no circle.
fn last_merged<'d>(
    merged: &BTreeMap<&'d FailureDomain, &'d FailureDomain>,
    domain: &'d FailureDomain,
) -> &'d FailureDomain {
    let mut last = domain;
    while let Some(next) = merged.get(last) {
        last = next;
    }
    last
}

/// Code that would give or receive, as its evidence or its signed release shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Party {
    /// The code.
    pub measurement: Measurement,
    /// Its security version.
    pub security_version: SecurityVersion,
}

impl From<&heirloom_attest::result::AttestationResult> for Party {
    fn from(result: &heirloom_attest::result::AttestationResult) -> Self {
        Self { measurement: result.measurement(), security_version: result.security_version() }
    }
}

/// The policy lets the keyring go along this edge. Only [`no_leak`] makes one.
///
/// ```compile_fail
/// let forged = heirloom_custody::invariant::Permitted { policy: Default::default() };
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "a keyring goes only where it is permitted"]
pub struct Permitted {
    policy: Serial,
    from: Measurement,
    to: Measurement,
}

impl Permitted {
    /// The policy that permits it.
    pub fn policy(&self) -> Serial {
        self.policy
    }

    /// Who gives.
    pub fn from(&self) -> Measurement {
        self.from
    }

    /// Who receives.
    pub fn to(&self) -> Measurement {
        self.to
    }
}

/// Why the keyring must not go along an edge.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LeakRisk {
    /// A measurement of zeros belongs to debug code.
    #[error("a zero measurement never holds keys")]
    ZeroMeasurement,
    /// The policy permits nothing any more.
    #[error("policy serial {policy} expired at {not_after}")]
    PolicyExpired {
        /// The policy.
        policy: Serial,
        /// Its end.
        not_after: Time,
    },
    /// The policy does not let the giver hold.
    #[error("policy serial {policy} does not let the giver {measurement} hold")]
    GiverNotNamed {
        /// The policy.
        policy: Serial,
        /// The giver.
        measurement: Measurement,
    },
    /// The policy has no rule of the receiver's own, even if others may give to it.
    #[error("policy serial {policy} has no rule for the receiver {measurement}")]
    ReceiverNotNamed {
        /// The policy.
        policy: Serial,
        /// The receiver.
        measurement: Measurement,
    },
    /// Both may hold, but the giver's rule does not name the receiver.
    #[error("policy serial {policy} names no edge from {from} to {to}")]
    EdgeNotNamed {
        /// The policy.
        policy: Serial,
        /// The giver.
        from: Measurement,
        /// The receiver.
        to: Measurement,
    },
    /// The code of one side is older than its rule allows.
    #[error(
        "{measurement} has security version {found}, policy serial {policy} demands {required}"
    )]
    SecurityVersionTooLow {
        /// The policy.
        policy: Serial,
        /// The code.
        measurement: Measurement,
        /// What its rule demands.
        required: SecurityVersion,
        /// What it has.
        found: SecurityVersion,
    },
}

/// Whether a holder may give the keyring to a receiver at this time.
///
/// The edge is directional: it stands in the giver's rule, and the receiver needs a rule of its
/// own. Nothing here is symmetric, since a rule that accepts only "at least my own version" makes
/// every upgrade or every way back impossible.
pub fn no_leak(
    policy: &Policy,
    now: Time,
    from: &Party,
    to: &Party,
) -> Result<Permitted, LeakRisk> {
    let serial = policy.serial;
    // Refused before the policy is consulted.
    if from.measurement.is_zero() || to.measurement.is_zero() {
        return Err(LeakRisk::ZeroMeasurement);
    }
    if now > policy.not_after {
        return Err(LeakRisk::PolicyExpired { policy: serial, not_after: policy.not_after });
    }
    let Some(giver) = policy.holder(&from.measurement) else {
        let measurement = from.measurement;
        return Err(LeakRisk::GiverNotNamed { policy: serial, measurement });
    };
    let Some(receiver) = policy.holder(&to.measurement) else {
        let measurement = to.measurement;
        return Err(LeakRisk::ReceiverNotNamed { policy: serial, measurement });
    };
    if !policy.names_edge(&from.measurement, &to.measurement) {
        let (from, to) = (from.measurement, to.measurement);
        return Err(LeakRisk::EdgeNotNamed { policy: serial, from, to });
    }
    for (party, rule) in [(from, giver), (to, receiver)] {
        if party.security_version < rule.security_version {
            return Err(LeakRisk::SecurityVersionTooLow {
                policy: serial,
                measurement: party.measurement,
                required: rule.security_version,
                found: party.security_version,
            });
        }
    }
    Ok(Permitted { policy: serial, from: from.measurement, to: to.measurement })
}

#[cfg(test)]
mod tests;
