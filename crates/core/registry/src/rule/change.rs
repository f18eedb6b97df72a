//! Changes to the state. None of them can fail.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_model::counter::LogIndex;
use heirloom_model::digest::PlanDigest;
use heirloom_model::domain::{
    Activation, ActivationCause, GenerationReceipt, PlanStep, PossessionProof, Registration,
    Suspension,
};
use heirloom_model::fleet::Fleet;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::measurement::Measurement;
use heirloom_model::participant::{MapAgreement, ParticipantStanding};
use heirloom_model::plan::{Abort, Action, Approval, Plan, StepResult};
use heirloom_model::policy::Policy;
use heirloom_model::root::{Role, Root};
use heirloom_model::service::{Rehearsal, Standing};
use heirloom_model::signature::PublicKey;

use super::custody::{forgettable, is_complete};
use super::plan::PLANS_KEPT_MAX;
use super::service::TERMS_KEPT_MAX;
use super::{Attested, Change, Proposer};
use crate::activity::{Active, Activity, SuspendedHolder};
use crate::domain::{
    CHALLENGES_KEPT_MAX, Challenged, Committed, DomainState, OpenOrder, POLICIES_KEPT_MAX, Proven,
    Receipt, Registered,
};
use crate::migration::{AgreementSeen, ParticipantStandingSeen, SurveySeen};
use crate::network::{NetworkState, Rehearsals};
use crate::plan::{AbortCause, PlanState, PlanStatus};
use crate::standing::{StandingSeen, content};
use crate::verified::{Quorum, Verified};

impl NetworkState {
    /// Makes an examined change, as of the entry at `at`.
    pub(crate) fn commit(&mut self, change: Change, at: LogIndex) {
        match change {
            Change::Root(root) => self.commit_root(root, at),
            Change::Fleet(fleet) => self.commit_fleet(fleet),
            Change::Release(release) => {
                let digest = release.digest();
                self.published.insert(digest, at);
                self.releases.insert(digest, release);
            }
            Change::Policy(policy) => self.commit_policy(*policy, at),
            Change::Epoch(start) => {
                self.epoch = start.epoch;
                self.now = Some(start.time);
                self.refresh_plans(at);
            }
            Change::Endorsements(appraiser) => self.appraiser = *appraiser,
            Change::Order(order) => {
                let (domain, receipts) = (order.domain, BTreeMap::new());
                self.domain_mut(domain).order =
                    Some(OpenOrder { order, at, proposed: None, receipts });
            }
            Change::Receipt(receipt, attested) => self.commit_receipt(&receipt, attested, at),
            Change::Registration(statement, attested) => {
                self.commit_registration(statement, attested, at);
            }
            Change::Challenge(challenge) => {
                let domain = self.domain_mut(challenge.domain);
                if domain.challenges.len() >= CHALLENGES_KEPT_MAX
                    && let Some(nonce) = forgettable(domain)
                {
                    domain.challenges.remove(&nonce);
                }
                let (nonce, proofs) = (challenge.nonce, BTreeMap::new());
                domain.challenges.insert(nonce, Challenged { challenge, at, proofs });
            }
            Change::Proof(proof, attested) => self.commit_proof(proof, attested, at),
            Change::Proposal(plan, proposer) => self.commit_proposal(*plan, proposer, at),
            Change::Approval(approval) => self.commit_approval(&approval, at),
            Change::Abort(abort) => self.commit_abort(abort.get(), at),
            Change::StepResult(result) => self.commit_result(result, at),
            Change::Suspension(statement, attested) => {
                self.commit_suspension(&statement, &attested, at);
            }
            Change::Activation(statement, attested) => {
                self.commit_activation(&statement, attested, at);
            }
            Change::Standing(standing, attested) => self.commit_standing(*standing, attested, at),
            Change::Rehearsal(rehearsal, operator) => {
                self.commit_rehearsal(rehearsal, operator, at);
            }
            Change::Revocation(revocation, operator) => {
                self.commit_revocation(&revocation.plan, operator, at);
            }
            Change::Survey(survey) => {
                let seen = SurveySeen { survey: *survey, at, epoch: self.epoch };
                self.surveys.insert(seen.survey.node.clone(), seen);
            }
            Change::ParticipantStanding(standing) => self.commit_facts(*standing, at),
            Change::Agreement(agreement, key) => self.commit_agreement(agreement, key, at),
        }
    }

    fn commit_fleet(&mut self, fleet: Verified<Fleet>) {
        // What a node found out counts while the node is where it was.
        let stays = |id: &NodeId, seen: &mut SurveySeen| {
            let mut nodes = fleet.nodes.iter();
            nodes.any(|node| node.node == *id && node.domain == seen.survey.domain)
        };
        self.surveys.retain(stays);
        self.fleet = Some(fleet);
        self.forget_registrations();
    }

    fn commit_approval(&mut self, approval: &Verified<Approval>, at: LogIndex) {
        if let Some(plan) = self.plans.get_mut(&approval.plan) {
            for key in approval.signers() {
                // An old consent that somebody repeats never shortens a newer one.
                let until = plan.approvals.entry(*key).or_default();
                *until = approval.not_after.max(*until);
            }
        }
        self.refresh_plans(at);
    }

    fn commit_facts(&mut self, standing: Verified<ParticipantStanding>, at: LogIndex) {
        let PlanStep { plan, step } = standing.step;
        if let Some(plan) = self.plans.get_mut(&plan) {
            plan.facts.insert(step, ParticipantStandingSeen { standing, at });
        }
    }

    fn commit_agreement(
        &mut self,
        agreement: Verified<MapAgreement>,
        key: PublicKey,
        at: LogIndex,
    ) {
        if let Some(plan) = self.plans.get_mut(&agreement.plan) {
            let operator = agreement.operator.clone();
            plan.agreements.insert(operator, AgreementSeen { agreement, key, at });
        }
    }

    fn commit_abort(&mut self, abort: &Abort, at: LogIndex) {
        let reason = abort.reason.clone();
        if let Some(plan) = self.plans.get_mut(&abort.plan) {
            let cause = match abort.node.clone() {
                None => AbortCause::Operator { reason },
                Some(node) => AbortCause::Agent { node, reason },
            };
            plan.call_off(cause, at);
        }
        self.refresh_plans(at);
    }

    fn commit_revocation(&mut self, plan: &PlanDigest, operator: PublicKey, at: LogIndex) {
        if let Some(plan) = self.plans.get_mut(plan)
            && let Some(until) = plan.approvals.remove(&operator)
        {
            plan.revoked.insert(operator, (until, at));
        }
        self.refresh_plans(at);
    }

    fn commit_root(&mut self, root: Verified<Root>, at: LogIndex) {
        self.appraiser.replace_anchors(root.anchors.clone());
        self.root = Some(root);
        // Who counts as an operator may have changed.
        self.refresh_plans(at);
    }

    fn commit_policy(&mut self, policy: Verified<Policy>, at: LogIndex) {
        let (id, serial, waits) = (policy.domain, policy.serial, policy.completes.is_some());
        let domain = self.domain_mut(id);
        domain.policies.insert(serial, policy);
        domain.published = serial;
        if waits {
            domain.pending = Some(serial);
        } else {
            // A policy that waits behind this one would take effect with a lower serial.
            domain.pending = None;
            domain.in_force.push((at, serial));
        }
        domain.forget_policies();
        self.forget_registrations();
    }

    fn commit_receipt(
        &mut self,
        receipt: &Verified<GenerationReceipt>,
        attested: Attested,
        at: LogIndex,
    ) {
        let Some(mut open) = self.domain_mut(receipt.domain).order.take() else { return };
        let Attested { instance, result } = attested;
        open.proposed = Some(receipt.checksum);
        open.receipts.insert(receipt.node.clone(), Receipt { instance, result, at });
        let complete = is_complete(self, &receipt.domain, &open);
        let epoch = self.epoch();
        let domain = self.domain_mut(receipt.domain);
        if complete {
            let (generation, checksum) = (receipt.generation, receipt.checksum);
            domain.committed = Some(Committed { generation, checksum, at, epoch });
            domain.genesis_node.get_or_insert_with(|| open.order.node.clone());
        } else {
            domain.order = Some(open);
        }
    }

    fn commit_registration(
        &mut self,
        statement: Verified<Registration>,
        attested: Attested,
        at: LogIndex,
    ) {
        let Attested { instance, result } = attested;
        let key = (statement.node.clone(), result.measurement());
        let domain = self.domain_mut(statement.domain);
        domain.registrations.insert(key, Registered { statement, instance, result, at });
    }

    fn commit_proof(&mut self, proof: Verified<PossessionProof>, attested: Attested, at: LogIndex) {
        let Attested { instance, result } = attested;
        let domain = self.domain_mut(proof.domain);
        if let Some(asked) = domain.challenges.get_mut(&proof.challenge) {
            asked.proofs.insert(proof.node.clone(), Proven { proof, instance, result, at });
        }
    }

    fn commit_suspension(
        &mut self,
        statement: &Verified<Suspension>,
        attested: &Attested,
        at: LogIndex,
    ) {
        let step = statement.step;
        self.domain_mut(statement.domain).activity = Activity::Suspended(SuspendedHolder {
            node: statement.node.clone(),
            measurement: attested.result.measurement(),
            instance: attested.instance,
            step,
            at,
        });
        if let Some(plan) = self.plans.get_mut(&step.plan) {
            plan.witness(step.step, at);
        }
    }

    fn commit_activation(
        &mut self,
        statement: &Verified<Activation>,
        attested: Attested,
        at: LogIndex,
    ) {
        let Attested { instance, result } = attested;
        let domain = self.domain_mut(statement.domain);
        domain.activity = Activity::Active(Active {
            node: statement.node.clone(),
            measurement: result.measurement(),
            host: result.host(),
            instance,
            cause: statement.cause,
            at,
        });
        domain.spent.remember(instance, at);
        match statement.cause {
            ActivationCause::First | ActivationCause::Restarted => {}
            ActivationCause::Planned(step) => {
                if let Some(plan) = self.plans.get_mut(&step.plan) {
                    plan.witness(step.step, at);
                }
                // The next holder serves: from here on there is only forward.
                self.refresh_plans(at);
            }
        }
    }

    fn commit_proposal(&mut self, plan: Plan, proposer: Proposer, at: LogIndex) {
        let digest = plan.digest();
        let id = plan.domain;
        let domain = self.domain_mut(id);
        domain.plan = Some(digest);
        domain.plan_number = plan.number;
        let unsettled = plan.steps.iter().map(|step| step.id).collect();
        let state = PlanState {
            digest,
            plan,
            consent: proposer.consent,
            proposed_by: proposer.key,
            proposed_at: at,
            approvals: BTreeMap::new(),
            approved_at: None,
            results: BTreeMap::new(),
            epochs: BTreeMap::new(),
            witnessed: BTreeMap::new(),
            standings: BTreeMap::new(),
            facts: BTreeMap::new(),
            agreements: BTreeMap::new(),
            revoked: BTreeMap::new(),
            unsettled,
            aborted: None,
            status: PlanStatus::Proposed,
        };
        self.plans.insert(digest, state);
        self.forget_plans(id);
        self.refresh_plans(at);
    }

    fn commit_result(&mut self, result: Verified<StepResult>, at: LogIndex) {
        let Some(plan) = self.plans.get_mut(&result.plan) else { return };
        let id = plan.plan.domain;
        let withdraws = match plan.plan.step(result.step).map(|step| &step.action) {
            Some(Action::Withdraw(serial)) => Some(*serial),
            _ => None,
        };
        plan.record(result, at, self.epoch);
        if let Some(serial) = withdraws {
            let domain = self.domain_mut(id);
            domain.pending = None;
            domain.in_force.push((at, serial));
            domain.forget_policies();
            self.forget_registrations();
        }
        self.refresh_plans(at);
    }

    fn commit_standing(&mut self, standing: Verified<Standing>, attested: Attested, at: LogIndex) {
        let PlanStep { plan, step } = standing.step;
        let Some(plan) = self.plans.get_mut(&plan) else { return };
        let Attested { instance, result } = attested;
        let (mut superseded, mut stated) = (BTreeSet::new(), BTreeMap::new());
        if let Some(before) = plan.standings.remove(&step) {
            superseded = before.superseded;
            if before.instance == instance {
                stated = before.stated;
            } else {
                superseded.insert(before.instance);
            }
        }
        stated.insert(content(&standing), at);
        let seen = StandingSeen { standing, instance, result, at, superseded, stated };
        plan.standings.insert(step, seen);
    }

    fn commit_rehearsal(
        &mut self,
        rehearsal: Verified<Rehearsal>,
        operator: PublicKey,
        at: LogIndex,
    ) {
        let operators = self.operators().to_vec();
        let terms = rehearsal.terms;
        if !self.rehearsals.contains_key(&terms) && self.rehearsals.len() >= TERMS_KEPT_MAX {
            let last = |of: &Rehearsals| of.values().map(|(_, at)| *at).max();
            let oldest = self.rehearsals.iter().min_by_key(|(_, of)| last(of));
            if let Some(oldest) = oldest.map(|(terms, _)| *terms) {
                self.rehearsals.remove(&oldest);
            }
        }
        let known = self.rehearsals.entry(terms).or_default();
        known.retain(|key, _| operators.contains(key));
        known.insert(operator, (rehearsal, at));
    }

    fn domain_mut(&mut self, domain: DomainId) -> &mut DomainState {
        self.domains.entry(domain).or_default()
    }

    /// Decides where the latest plan of each domain stands, and lets go of policies whose plan
    /// will not be completed any more.
    fn refresh_plans(&mut self, at: LogIndex) {
        let none = Quorum { of: Role::Operator.name(), keys: &[], threshold: u32::MAX };
        let Self { domains, plans, root, epoch, .. } = self;
        let operators = root
            .as_ref()
            .and_then(|root| super::root::quorum(root, Role::Operator).ok())
            .unwrap_or(none);
        for domain in domains.values_mut() {
            let current = domain.plan.and_then(|digest| plans.get_mut(&digest));
            let waiting = current.and_then(|plan| {
                plan.refresh(operators, *epoch, at);
                (plan.aborted.is_none() && !plan.is_over()).then_some(plan.digest)
            });
            if domain.pending_policy().is_some_and(|policy| policy.completes != waiting) {
                domain.pending = None;
            }
        }
    }

    /// Keeps the registrations of nodes and code that may still hold, which bounds them.
    fn forget_registrations(&mut self) {
        let Self { domains, fleet, .. } = self;
        let Some(fleet) = fleet else { return };
        for (id, domain) in domains {
            let allowed: BTreeSet<Measurement> = domain
                .policy()
                .into_iter()
                .flat_map(|policy| policy.holders.iter().map(|rule| rule.measurement))
                .collect();
            domain.registrations.retain(|(node, measurement), _| {
                let known = fleet.nodes.binary_search_by(|known| known.node.cmp(node)).ok();
                let node = known.and_then(|at| fleet.nodes.get(at));
                node.is_some_and(|node| node.domain == *id) && allowed.contains(measurement)
            });
        }
    }

    /// Forgets the oldest plans of a domain. Their numbers keep them out.
    fn forget_plans(&mut self, domain: DomainId) {
        let mut known: Vec<(LogIndex, PlanDigest)> = self
            .plans
            .values()
            .filter(|plan| plan.plan.domain == domain)
            .map(|plan| (plan.proposed_at, plan.digest))
            .collect();
        known.sort_unstable();
        let surplus = known.len().saturating_sub(PLANS_KEPT_MAX);
        for (_, digest) in known.iter().take(surplus) {
            self.plans.remove(digest);
        }
    }
}

impl DomainState {
    /// Forgets the oldest policies that are neither in force nor pending.
    fn forget_policies(&mut self) {
        let kept = [self.in_force.last().map(|(_, serial)| *serial), self.pending];
        while self.policies.len() > POLICIES_KEPT_MAX {
            let mut serials = self.policies.keys();
            let oldest = serials.find(|serial| !kept.contains(&Some(**serial))).copied();
            let Some(oldest) = oldest else { return };
            self.policies.remove(&oldest);
        }
    }
}
