//! The fold: what one network's log says, entry by entry.

use std::collections::BTreeMap;

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::result::AttestationResult;
use heirloom_model::counter::{Epoch, LogIndex, Serial, Time};
use heirloom_model::digest::{LogHash, NetworkId, PlanDigest, ReleaseDigest, TermsDigest};
use heirloom_model::domain::LogPosition;
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::fleet::{Fleet, Node};
use heirloom_model::identifier::{DomainId, NodeId, OperatorId};
use heirloom_model::log::{BrokenChain, LogEntry};
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::{AppraisalPolicy, Policy};
use heirloom_model::release::Release;
use heirloom_model::root::{Role, Root};
use heirloom_model::service::Rehearsal;
use heirloom_model::signature::PublicKey;
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;

use crate::domain::DomainState;
use crate::migration::SurveySeen;
use crate::plan::PlanState;
use crate::refusal::Refusal;
use crate::rule;
use crate::rule::Change;
use crate::verified::{Quorum, Verified};

/// The trusted state of one network, as far as its log was followed.
#[derive(Clone, Debug)]
pub struct NetworkState {
    pub(crate) network: NetworkId,
    pub(crate) position: LogPosition,
    /// The head after each number of entries, so that a statement can be tied to the history that
    /// its maker saw. 32 bytes an entry.
    pub(crate) heads: Vec<LogHash>,
    pub(crate) root: Option<Verified<Root>>,
    pub(crate) appraiser: Appraiser,
    pub(crate) epoch: Epoch,
    pub(crate) now: Option<Time>,
    pub(crate) fleet: Option<Verified<Fleet>>,
    pub(crate) releases: BTreeMap<ReleaseDigest, Verified<Release>>,
    pub(crate) published: BTreeMap<ReleaseDigest, LogIndex>,
    pub(crate) domains: BTreeMap<DomainId, DomainState>,
    pub(crate) plans: BTreeMap<PlanDigest, PlanState>,
    /// By terms and by the operator who recorded them, with their entries.
    pub(crate) rehearsals: BTreeMap<TermsDigest, Rehearsals>,
    /// What each node of the fleet found out last about its participants.
    pub(crate) surveys: BTreeMap<NodeId, SurveySeen>,
}

/// The rehearsals of one set of terms: by whom, and in which entry.
pub(crate) type Rehearsals = BTreeMap<PublicKey, (Verified<Rehearsal>, LogIndex)>;

/// What an entry did.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use = "a refused statement has no effect"]
pub enum Applied {
    /// The statement counts.
    Accepted(StatementKind),
    /// It does not. The log goes on.
    Refused(Refusal),
}

impl NetworkState {
    /// Nothing but the name of a network. It trusts exactly the first root with this digest.
    pub fn new(network: NetworkId) -> Self {
        Self {
            network,
            position: LogPosition::START,
            heads: vec![LogPosition::START.head],
            root: None,
            appraiser: Appraiser::new(Vec::new()),
            epoch: Epoch::default(),
            now: None,
            fleet: None,
            releases: BTreeMap::new(),
            published: BTreeMap::new(),
            domains: BTreeMap::new(),
            plans: BTreeMap::new(),
            rehearsals: BTreeMap::new(),
            surveys: BTreeMap::new(),
        }
    }

    /// Follows the log by one entry. Fails, and changes nothing, only if the entry does not
    /// follow those before it.
    pub fn apply(&mut self, entry: &LogEntry) -> Result<Applied, BrokenChain> {
        let next = self.position.advance(entry)?;
        let examined = self.examine(&entry.envelope);
        self.position = next;
        self.heads.push(next.head);
        Ok(match examined {
            Ok((kind, change)) => {
                self.commit(change, entry.index);
                Applied::Accepted(kind)
            }
            Err(refusal) => Applied::Refused(refusal),
        })
    }

    /// What [`Self::apply`] would say about this envelope as the next entry. Only the appraiser's
    /// memory of what it appraised changes.
    pub fn judge(&mut self, envelope: &[u8]) -> Result<StatementKind, Refusal> {
        self.examine(envelope).map(|(kind, _)| kind)
    }

    /// The network.
    pub fn network(&self) -> NetworkId {
        self.network
    }

    /// How far the log was followed.
    pub fn position(&self) -> LogPosition {
        self.position
    }

    /// The head of the log when it had `length` entries, if it was followed so far.
    pub fn head_at(&self, length: LogIndex) -> Option<&LogHash> {
        self.heads.get(usize::try_from(length.0).ok()?)
    }

    /// Who may sign what; none before the first root.
    pub fn root(&self) -> Option<&Verified<Root>> {
        self.root.as_ref()
    }

    /// The nodes.
    pub fn fleet(&self) -> Option<&Verified<Fleet>> {
        self.fleet.as_ref()
    }

    /// A release by its digest, expired or not.
    pub fn release(&self, digest: &ReleaseDigest) -> Option<&Verified<Release>> {
        self.releases.get(digest)
    }

    /// The entry that published a release.
    pub fn published_at(&self, release: &ReleaseDigest) -> Option<LogIndex> {
        self.published.get(release).copied()
    }

    /// Every release, expired or not.
    pub fn releases(&self) -> impl Iterator<Item = (&ReleaseDigest, &Verified<Release>)> {
        self.releases.iter()
    }

    /// The policy in force in a domain, expired or not.
    pub fn policy(&self, domain: &DomainId) -> Option<&Verified<Policy>> {
        self.domain(domain)?.policy()
    }

    /// A policy by its serial, in force or not, if it is still remembered.
    pub fn policy_by_serial(&self, domain: &DomainId, serial: Serial) -> Option<&Verified<Policy>> {
        self.domain(domain)?.policy_by_serial(serial)
    }

    /// The policy that waits for the plan that it completes.
    pub fn pending_policy(&self, domain: &DomainId) -> Option<&Verified<Policy>> {
        self.domain(domain)?.pending_policy()
    }

    /// The epoch; 0 before the first.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The time at which the epoch started; none before the first.
    pub fn now(&self) -> Option<Time> {
        self.now
    }

    /// A node of the fleet.
    pub fn node(&self, node: &NodeId) -> Option<&Node> {
        let nodes = &self.fleet.as_ref()?.nodes;
        nodes.binary_search_by(|known| known.node.cmp(node)).ok().and_then(|at| nodes.get(at))
    }

    /// The key with which an operator speaks for itself: the one that the fleet names, as long as
    /// it counts as an operator's.
    pub fn key_of(&self, operator: &OperatorId) -> Result<&PublicKey, Refusal> {
        let named = self.fleet.as_ref().and_then(|fleet| fleet.key_of(operator));
        let counts = |key: &&PublicKey| self.operators().contains(key);
        named.filter(counts).ok_or_else(|| Refusal::NoOperatorKey { operator: operator.clone() })
    }

    /// Refuses whoever is not the operator that he speaks for, as the fleet in force says.
    pub fn speaks_for(&self, operator: &OperatorId, found: PublicKey) -> Result<(), Refusal> {
        let fleet = self.fleet.as_ref().ok_or(Refusal::NoFleet)?;
        rule::not_expired(self, "fleet", fleet.not_after)?;
        let expected = *self.key_of(operator)?;
        if expected == found {
            return Ok(());
        }
        Err(Refusal::NotOperatorsKey { operator: operator.clone(), expected, found })
    }

    /// The nodes that are meant to hold a domain's keys.
    pub fn nodes_of(&self, domain: DomainId) -> impl Iterator<Item = &Node> {
        let nodes = self.fleet.iter().flat_map(|fleet| &fleet.nodes);
        nodes.filter(move |node| node.domain == domain)
    }

    /// A domain that has, or had, a policy.
    pub fn domain(&self, domain: &DomainId) -> Option<&DomainState> {
        self.domains.get(domain)
    }

    /// Every domain.
    pub fn domains(&self) -> impl Iterator<Item = (&DomainId, &DomainState)> {
        self.domains.iter()
    }

    /// A plan, if it is still remembered.
    pub fn plan(&self, plan: &PlanDigest) -> Option<&PlanState> {
        self.plans.get(plan)
    }

    /// Every remembered plan.
    pub fn plans(&self) -> impl Iterator<Item = &PlanState> {
        self.plans.values()
    }

    /// The latest plan of a domain, unless it is finished or rolled back. Ask it for its status.
    pub fn active_plan(&self, domain: &DomainId) -> Option<&PlanState> {
        let plan = self.plans.get(self.domain(domain)?.plan()?)?;
        (!plan.is_over()).then_some(plan)
    }

    /// The latest plan of a domain, while its domain takes no other plan. Its last epoch ends that
    /// in any case, also after the point of no return and on the way back, so that a host which is
    /// gone for good cannot block its domain for ever: operators approve a new plan, and its number
    /// fences this one.
    pub fn holding_plan(&self, domain: &DomainId) -> Option<&PlanState> {
        self.active_plan(domain).filter(|plan| self.epoch <= plan.plan.not_after)
    }

    /// As [`Self::holding_plan`], if it was ever approved, so that its steps may be running. While
    /// there is one, its domain takes no rotation or policy either.
    pub fn plan_under_way(&self, domain: &DomainId) -> Option<&PlanState> {
        self.holding_plan(domain).filter(|plan| plan.approved_at.is_some())
    }

    /// How many operators, of those who count now, recorded a rehearsal of exactly these terms.
    pub fn rehearsals(&self, terms: &TermsDigest) -> usize {
        self.rehearsed_by(terms).count()
    }

    /// The rehearsals of these terms by operators who count now, with their entries.
    pub fn rehearsed_by(
        &self,
        terms: &TermsDigest,
    ) -> impl Iterator<Item = (&PublicKey, &Verified<Rehearsal>, LogIndex)> {
        let operators = self.operators();
        self.rehearsals
            .get(terms)
            .into_iter()
            .flatten()
            .filter(|(operator, _)| operators.contains(operator))
            .map(|(operator, (rehearsal, at))| (operator, rehearsal, *at))
    }

    /// Appraises evidence with this network's anchors and endorsements, at this network's time.
    pub fn appraise(
        &mut self,
        evidence: &Evidence,
        expected: &ReportData,
        policy: &AppraisalPolicy,
    ) -> Result<AttestationResult, Refusal> {
        let now = self.now.ok_or(Refusal::NoTime)?;
        self.appraiser.appraise(evidence, expected, policy, now).map_err(Refusal::evidence)
    }

    /// Appraises evidence under the policy in force in a domain, which must not have expired.
    ///
    /// The result says what runs there. Whether that code may hold or ask is another question:
    /// see [`Self::appraise_holder`].
    pub fn appraise_in(
        &mut self,
        domain: &DomainId,
        evidence: &Evidence,
        expected: &ReportData,
    ) -> Result<AttestationResult, Refusal> {
        rule::attested::appraise(self, domain, evidence, expected)
    }

    /// As [`Self::appraise_in`], for code that the policy lets hold the domain's keys at the
    /// security version that was attested.
    pub fn appraise_holder(
        &mut self,
        domain: &DomainId,
        evidence: &Evidence,
        expected: &ReportData,
    ) -> Result<AttestationResult, Refusal> {
        rule::attested::appraise_holder(self, domain, evidence, expected)
    }

    /// Anchors and endorsements, for what they say about themselves: expiry, for example.
    pub fn appraiser(&self) -> &Appraiser {
        &self.appraiser
    }

    /// The keeper releases that launch to a measurement.
    pub fn releases_with(
        &self,
        measurement: Measurement,
    ) -> impl Iterator<Item = &Verified<Release>> {
        self.releases.values().filter(move |release| release.measurements.contains(&measurement))
    }

    fn examine(&mut self, envelope: &[u8]) -> Result<(StatementKind, Change), Refusal> {
        let envelope: Envelope = wire::decode(envelope).map_err(Refusal::Malformed)?;
        let change = rule::examine(self, &envelope)?;
        Ok((envelope.kind, change))
    }

    /// The keys of a role in force.
    pub(crate) fn quorum(&self, role: Role) -> Result<Quorum<'_>, Refusal> {
        let root = self.root.as_ref().ok_or(Refusal::NoRoot)?;
        rule::root::quorum(root, role)
    }

    /// The keys of the operators; empty before the first root.
    pub fn operators(&self) -> &[PublicKey] {
        self.quorum(Role::Operator).map_or(&[], |quorum| quorum.keys)
    }
}
