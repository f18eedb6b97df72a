//! Policies.

use heirloom_model::envelope::Envelope;
use heirloom_model::limit::{EPHEMERAL_EPOCHS_MAX, POLICY_RULES_MAX};
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::{HolderRule, KeyScope, Policy};
use heirloom_model::root::Role;

use super::{Change, appraisal, is_next, not_expired, same_network};
use crate::domain::DomainState;
use crate::network::NetworkState;
use crate::plan::PlanStatus;
use crate::refusal::{Fault, Refusal};
use crate::rule::plan::current_plan;
use crate::shape::{ascending, not_empty, require};
use crate::verified::{Verified, verify};

/// Domains of one network.
pub(crate) const DOMAINS_MAX: usize = 1_024;

pub(crate) fn examine(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let policy: Verified<Policy> = verify(envelope, &[state.quorum(Role::Policy)?])?;
    same_network(state, policy.network)?;
    not_expired(state, "policy", policy.not_after)?;
    let domain = state.domains.get(&policy.domain);
    is_next("policy", domain.map(|domain| domain.published.0), 1, policy.serial.0)?;
    if domain.is_none() && state.domains.len() >= DOMAINS_MAX {
        return Err(Refusal::Limit { what: "domains", limit: DOMAINS_MAX });
    }
    check_shape(&policy)?;
    check_sharing(domain, &policy)?;
    check_moment(state, &policy)?;
    Ok(Change::Policy(Box::new(policy)))
}

/// How holders share a keyring is decided before it exists. Holders of a domain that became
/// exclusive later would all believe that they were never active, and the one active holder of a
/// domain that became replicated would not be the only one any more, without having said so.
fn check_sharing(domain: Option<&DomainState>, policy: &Policy) -> Result<(), Refusal> {
    let settled = domain.filter(|domain| domain.committed.is_some()).and_then(DomainState::policy);
    match settled {
        Some(in_force) if in_force.sharing != policy.sharing => {
            Err(Refusal::SharingSettled { domain: policy.domain })
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the policy may be published now.
fn check_moment(state: &NetworkState, policy: &Policy) -> Result<(), Refusal> {
    let Some(completes) = &policy.completes else {
        // The plan's holders, edges and minimum were approved under the policy in force. Another
        // one, in the middle, could take away the way forward and the way back.
        return match state.plan_under_way(&policy.domain) {
            Some(plan) => Err(Refusal::PlanUnderWay { plan: *plan.digest() }),
            None => Ok(()),
        };
    };
    let plan = current_plan(state, completes)?;
    require(plan.plan().domain == policy.domain, "policy.completes", Fault::Dangling)?;
    match plan.status() {
        PlanStatus::Proposed
        | PlanStatus::Approved
        | PlanStatus::ApprovalLapsed
        | PlanStatus::PastNoReturn => {}
        status @ (PlanStatus::Expired
        | PlanStatus::RollingBack
        | PlanStatus::RolledBack
        | PlanStatus::Finished) => return Err(Refusal::PlanStatus { status }),
    }
    match state.domains.get(&policy.domain).and_then(|domain| domain.pending) {
        Some(serial) => Err(Refusal::PolicyPending { serial }),
        None => Ok(()),
    }
}

fn check_shape(policy: &Policy) -> Result<(), Refusal> {
    require(policy.holders_min >= 1, "policy.holders_min", Fault::OutOfRange)?;
    let epochs = usize::try_from(policy.ephemeral_epochs).unwrap_or(usize::MAX);
    require(epochs <= EPHEMERAL_EPOCHS_MAX, "policy.ephemeral_epochs", Fault::OutOfRange)?;
    not_empty("policy.holders", &policy.holders)?;
    ascending("policy.holders", &policy.holders, POLICY_RULES_MAX, |rule| rule.measurement)?;
    for rule in &policy.holders {
        check_holder(policy, rule)?;
    }
    ascending("policy.applications", &policy.applications, POLICY_RULES_MAX, |rule| {
        (rule.application.clone(), rule.measurement)
    })?;
    for rule in &policy.applications {
        require(!rule.measurement.is_zero(), "policy.applications.measurement", Fault::Zero)?;
        if let KeyScope::Only(keys) = &rule.keys {
            not_empty("policy.applications.keys", keys)?;
            ascending("policy.applications.keys", keys, POLICY_RULES_MAX, Clone::clone)?;
        }
    }
    appraisal::check_shape(&policy.appraisal)
}

/// Every edge ends at code that may hold: in Oasis an edge to code without an entry of its own
/// fails in silence.
fn check_holder(policy: &Policy, rule: &HolderRule) -> Result<(), Refusal> {
    require(!rule.measurement.is_zero(), "policy.holders.measurement", Fault::Zero)?;
    ascending("policy.holders.gives_to", &rule.gives_to, POLICY_RULES_MAX, |to| *to)?;
    let zero = rule.gives_to.iter().any(Measurement::is_zero);
    require(!zero, "policy.holders.gives_to", Fault::Zero)?;
    let dangling = rule.gives_to.iter().any(|to| policy.holder(to).is_none());
    require(!dangling, "policy.holders.gives_to", Fault::Dangling)
}
