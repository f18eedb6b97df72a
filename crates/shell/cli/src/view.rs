//! Statements as JSON, for people and programs. Names are those of the model.

use heirloom_model::domain::{
    Activation, ActivationCause, Challenge, EpochStart, GenerationOrder, GenerationReceipt,
    HoldingOrigin, LogPosition, PlanStep, PossessionProof, Registration, Suspension,
};
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::Endorsements;
use heirloom_model::fleet::Fleet;
use heirloom_model::plan::{
    Abort, Approval, KeyringGround, Placement, Plan, Proposal, StepOutcome, StepResult,
};
use heirloom_model::policy::{KeyScope, Policy, Sharing, UpdateMode};
use heirloom_model::release::Release;
use heirloom_model::root::Root;
use heirloom_model::statement::{Statement, StatementKind};
use heirloom_model::wire;
use serde_json::{Value, json};

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::{time, view_appraisal, view_participant, view_service};

/// A statement with who signed it.
pub(crate) fn envelope(envelope: &Envelope) -> Result<Value, Diagnostic> {
    let signers: Vec<String> =
        envelope.signatures.iter().map(|made| made.key.to_string()).collect();
    Ok(json!({
        "kind": envelope.kind.name(),
        "content": payload(envelope)?,
        "signed_by": signers,
        "evidence": envelope.evidence.as_ref().map(|evidence| evidence.digest().to_string()),
    }))
}

/// The content of a statement.
pub(crate) fn payload(envelope: &Envelope) -> Result<Value, Diagnostic> {
    fn with<T: Statement>(
        envelope: &Envelope,
        show: impl Fn(&T) -> Value,
    ) -> Result<Value, Diagnostic> {
        envelope.unverified::<T>().map(|content| show(&content)).map_err(|error| {
            let message = format!("the {} cannot be read", T::KIND.name());
            Diagnostic::new(Code::StatementMalformed, message).because(&error)
        })
    }
    match envelope.kind {
        StatementKind::Root => with(envelope, root),
        StatementKind::Fleet => with(envelope, fleet),
        StatementKind::Release => with(envelope, release),
        StatementKind::Policy => with(envelope, policy),
        StatementKind::Epoch => with(envelope, epoch),
        StatementKind::Endorsements => with(envelope, endorsements),
        StatementKind::GenerationOrder => with(envelope, generation_order),
        StatementKind::GenerationReceipt => with(envelope, generation_receipt),
        StatementKind::Registration => with(envelope, registration),
        StatementKind::Challenge => with(envelope, challenge),
        StatementKind::PossessionProof => with(envelope, possession_proof),
        StatementKind::Proposal => with(envelope, proposal),
        StatementKind::Approval => with(envelope, approval),
        StatementKind::Abort => with(envelope, abort),
        StatementKind::StepResult => with(envelope, step_result),
        StatementKind::Suspension => with(envelope, suspension),
        StatementKind::Activation => with(envelope, activation),
        StatementKind::Standing => with(envelope, view_service::standing),
        StatementKind::Rehearsal => with(envelope, view_service::rehearsal),
        StatementKind::Revocation => with(envelope, view_service::revocation),
        StatementKind::ParticipantSurvey => with(envelope, view_participant::survey),
        StatementKind::ParticipantStanding => with(envelope, view_participant::standing),
        StatementKind::MapAgreement => with(envelope, view_participant::agreement),
    }
}

/// Anything with a text form.
#[expect(clippy::needless_pass_by_value, reason = "takes values and references alike")]
fn text(value: impl ToString) -> Value {
    Value::String(value.to_string())
}

fn texts<T: ToString>(values: impl IntoIterator<Item = T>) -> Value {
    values.into_iter().map(text).collect()
}

fn root(root: &Root) -> Value {
    let roles: Vec<Value> = root
        .roles
        .iter()
        .map(|keys| {
            json!({
                "role": keys.role.name(),
                "threshold": keys.threshold,
                "keys": texts(&keys.keys),
            })
        })
        .collect();
    let anchors: Vec<Value> = root.anchors.iter().map(view_appraisal::anchor).collect();
    json!({
        "network": root.network.map(|network| network.to_string()),
        "serial": root.serial.0,
        "not_after": time::show(root.not_after),
        "roles": roles,
        "anchors": anchors,
    })
}

fn fleet(fleet: &Fleet) -> Value {
    let nodes: Vec<Value> = fleet
        .nodes
        .iter()
        .map(|node| {
            json!({
                "node": text(&node.node),
                "domain": text(node.domain),
                "host": text(&node.host),
                "failure_domain": text(&node.failure_domain),
                "operator": text(&node.operator),
                "agent": text(node.agent),
            })
        })
        .collect();
    let operators: Vec<Value> = fleet
        .operators
        .iter()
        .map(|known| json!({ "operator": text(&known.operator), "key": text(known.key) }))
        .collect();
    json!({
        "network": text(fleet.network),
        "serial": fleet.serial.0,
        "not_after": time::show(fleet.not_after),
        "nodes": nodes,
        "operators": operators,
    })
}

/// A release.
pub(crate) fn release(release: &Release) -> Value {
    let artifacts: Vec<Value> = release
        .artifacts
        .iter()
        .map(|artifact| {
            json!({
                "name": text(&artifact.name),
                "size": artifact.size,
                "digest": text(artifact.digest),
            })
        })
        .collect();
    json!({
        "network": text(release.network),
        "name": text(&release.name),
        "kind": release.kind.name(),
        "digest": text(release.digest()),
        "security_version": release.security_version.0,
        "measurements": texts(&release.measurements),
        "signer": text(release.signer),
        "artifacts": artifacts,
        "not_after": time::show(release.not_after),
    })
}

/// A policy.
pub(crate) fn policy(policy: &Policy) -> Value {
    let holders: Vec<Value> = policy
        .holders
        .iter()
        .map(|rule| {
            json!({
                "measurement": text(rule.measurement),
                "security_version": rule.security_version.0,
                "role": rule.role.name(),
                "gives_to": texts(&rule.gives_to),
            })
        })
        .collect();
    let applications: Vec<Value> = policy
        .applications
        .iter()
        .map(|rule| {
            let keys = match &rule.keys {
                KeyScope::All => text("all"),
                KeyScope::Only(keys) => texts(keys),
            };
            json!({
                "application": text(&rule.application),
                "measurement": text(rule.measurement),
                "security_version": rule.security_version.0,
                "keys": keys,
            })
        })
        .collect();
    json!({
        "network": text(policy.network),
        "domain": text(policy.domain),
        "serial": policy.serial.0,
        "digest": text(policy.digest()),
        "sharing": match policy.sharing {
            Sharing::Replicated => "replicated",
            Sharing::Exclusive => "exclusive",
        },
        "holders_min": policy.holders_min,
        "holders": holders,
        "applications": applications,
        "appraisal": view_appraisal::appraisal(&policy.appraisal),
        "session_seconds_max": policy.session_seconds_max,
        "ephemeral_epochs": policy.ephemeral_epochs,
        "forget_after_epochs": policy.forget_after_epochs,
        "update": update(policy.update),
        "not_after": time::show(policy.not_after),
        "completes": policy.completes.map(|plan| plan.to_string()),
    })
}

/// The word for what agents do with a release that a policy names.
pub(crate) fn update(mode: UpdateMode) -> &'static str {
    match mode {
        UpdateMode::Ask => "ask",
        UpdateMode::Auto => "auto",
    }
}

fn epoch(start: &EpochStart) -> Value {
    json!({
        "network": text(start.network),
        "epoch": start.epoch.0,
        "time": time::show(start.time),
    })
}

fn endorsements(endorsements: &Endorsements) -> Value {
    let bytes = wire::encode(endorsements).len();
    let (format, collateral) = match endorsements {
        Endorsements::SgxDcap(collateral) => ("sgx-dcap", collateral),
        Endorsements::TdxDcap(collateral) => ("tdx-dcap", collateral),
        Endorsements::Snp(found) | Endorsements::Tpm(found) => {
            let is_tpm = matches!(endorsements, Endorsements::Tpm(_));
            let (format, list) = (if is_tpm { "tpm" } else { "snp" }, found.revoked.len());
            return json!({ "format": format, "bytes": bytes, "revoked_bytes": list });
        }
    };
    json!({
        "format": format,
        "bytes": bytes,
        "tcb_info_bytes": collateral.tcb_info.len(),
        "qe_identity_bytes": collateral.qe_identity.len(),
    })
}

fn generation_order(order: &GenerationOrder) -> Value {
    json!({
        "network": text(order.network),
        "domain": text(order.domain),
        "generation": order.generation.0,
        "node": text(&order.node),
        "not_after": order.not_after.0,
        "nonce": text(order.nonce),
    })
}

fn generation_receipt(receipt: &GenerationReceipt) -> Value {
    json!({
        "network": text(receipt.network),
        "domain": text(receipt.domain),
        "node": text(&receipt.node),
        "order": text(receipt.order),
        "generation": receipt.generation.0,
        "checksum": text(receipt.checksum),
    })
}

/// A point in the log.
pub(crate) fn position(position: &LogPosition) -> Value {
    json!({ "length": position.length.0, "head": text(position.head) })
}

fn registration(registration: &Registration) -> Value {
    json!({
        "network": text(registration.network),
        "domain": text(registration.domain),
        "node": text(&registration.node),
        "as_of": position(&registration.as_of),
        "policy": registration.policy.0,
    })
}

fn challenge(challenge: &Challenge) -> Value {
    json!({
        "network": text(challenge.network),
        "domain": text(challenge.domain),
        "nonce": text(challenge.nonce),
        "verifier": text(&challenge.verifier),
        "targets": texts(&challenge.targets),
        "step": challenge.step.as_ref().map(plan_step),
        "code": challenge.code.map(text),
    })
}

fn possession_proof(proof: &PossessionProof) -> Value {
    json!({
        "network": text(proof.network),
        "domain": text(proof.domain),
        "node": text(&proof.node),
        "challenge": text(proof.challenge),
        "generation": proof.generation.0,
        "checksum": text(proof.checksum),
        "origin": origin(proof.origin),
        "as_of": position(&proof.as_of),
        "policy": proof.policy.0,
        "measurement": text(proof.measurement),
    })
}

/// A step of a plan.
pub(crate) fn plan_step(step: &PlanStep) -> Value {
    json!({ "plan": text(step.plan), "step": step.step.0 })
}

fn suspension(suspension: &Suspension) -> Value {
    json!({
        "network": text(suspension.network),
        "domain": text(suspension.domain),
        "node": text(&suspension.node),
        "step": plan_step(&suspension.step),
        "generation": suspension.generation.0,
        "checksum": text(suspension.checksum),
        "as_of": position(&suspension.as_of),
    })
}

fn activation(activation: &Activation) -> Value {
    let step = match &activation.cause {
        ActivationCause::Planned(step) => Some(plan_step(step)),
        ActivationCause::First | ActivationCause::Restarted => None,
    };
    json!({
        "network": text(activation.network),
        "domain": text(activation.domain),
        "node": text(&activation.node),
        "cause": cause(&activation.cause),
        "step": step,
        "generation": activation.generation.0,
        "checksum": text(activation.checksum),
        "origin": origin(activation.origin),
        "as_of": position(&activation.as_of),
    })
}

/// The word for why an instance became the active holder.
pub(crate) fn cause(cause: &ActivationCause) -> &'static str {
    match cause {
        ActivationCause::First => "first",
        ActivationCause::Restarted => "restarted",
        ActivationCause::Planned(_) => "planned",
    }
}

/// The word for how an instance came to its keyring.
pub(crate) fn origin(origin: HoldingOrigin) -> &'static str {
    match origin {
        HoldingOrigin::Recovered => "recovered",
        HoldingOrigin::Received => "received",
    }
}

fn proposal(proposal: &Proposal) -> Value {
    let shown = match wire::decode::<Plan>(&proposal.plan) {
        Ok(found) => plan(&found),
        Err(error) => json!({ "unreadable": error.to_string() }),
    };
    json!({ "network": text(proposal.network), "plan": shown })
}

/// A plan, without its steps.
pub(crate) fn plan(plan: &Plan) -> Value {
    let kept = plan.keyring.as_ref();
    json!({
        "digest": text(plan.digest()),
        "network": text(plan.network),
        "domain": text(plan.domain),
        "number": plan.number.0,
        "strategy": plan.strategy.name(),
        "from": kept.map(|kept| placement(&kept.from)),
        "via": kept.and_then(|kept| kept.via.as_ref()).map(placement),
        "to": kept.map(|kept| placement(&kept.to)),
        "others": kept.map(others),
        "policy": kept.map(|kept| kept.policy.0),
        "generation": kept.map(|kept| kept.generation.0),
        "checksum": kept.map(|kept| text(kept.checksum)),
        "holders_min": kept.map(|kept| kept.holders_min),
        "nodes": texts(&plan.nodes),
        "steps": plan.steps.len(),
        "rollback_steps": plan.rollback.len(),
        "point_of_no_return": plan.point_of_no_return.0,
        "not_after": plan.not_after.0,
        "service": plan.service.as_ref().map(view_service::change),
        "participant": plan.participant.as_ref().map(view_participant::change),
    })
}

/// What the releases of a plan are on other kinds of platform.
pub(crate) fn others(kept: &KeyringGround) -> Value {
    kept.others.iter().map(|pair| json!({ "from": text(pair.from), "to": text(pair.to) })).collect()
}

/// A release and its measurement.
pub(crate) fn placement(placement: &Placement) -> Value {
    json!({ "release": text(placement.release), "measurement": text(placement.measurement) })
}

fn approval(approval: &Approval) -> Value {
    json!({
        "network": text(approval.network),
        "plan": text(approval.plan),
        "not_after": approval.not_after.0,
    })
}

fn abort(abort: &Abort) -> Value {
    json!({
        "network": text(abort.network),
        "plan": text(abort.plan),
        "node": abort.node.as_ref().map(text),
        "reason": abort.reason,
    })
}

fn step_result(result: &StepResult) -> Value {
    json!({
        "network": text(result.network),
        "plan": text(result.plan),
        "number": result.number.0,
        "step": result.step.0,
        "node": text(&result.node),
        "outcome": outcome(result.outcome),
        "journal": text(result.journal),
    })
}

/// The word for how a step ended.
pub(crate) fn outcome(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Done => "done",
        StepOutcome::FoundDone => "found done",
    }
}
