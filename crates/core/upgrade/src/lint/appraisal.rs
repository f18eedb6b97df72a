//! Mistakes in the rules about evidence.

use std::collections::BTreeSet;

use heirloom_model::appraisal::{AliasCheck, Reference, RevocationDemand, VekKind};
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::policy::{AppraisalPolicy, PlatformRule, Policy, TcbLevel};

use super::{GRACE_SECONDS_MAX, LintContext, LintFinding};

pub(super) fn appraisal(
    policy: &Policy,
    context: &LintContext<'_>,
    findings: &mut Vec<LintFinding>,
) {
    let now = &policy.appraisal;
    if now.platforms == PlatformRule::Any {
        findings.push(LintFinding::AnyPlatform);
    }
    for level in &now.tcb {
        match level {
            TcbLevel::OutOfDate
            | TcbLevel::OutOfDateConfigurationNeeded
            | TcbLevel::RelaunchAdvised
            | TcbLevel::RelaunchAdvisedConfigurationNeeded => {
                findings.push(LintFinding::OutOfDateAccepted(*level));
            }
            TcbLevel::UpToDate
            | TcbLevel::SwHardeningNeeded
            | TcbLevel::ConfigurationNeeded
            | TcbLevel::ConfigurationAndSwHardeningNeeded => {}
        }
    }
    findings.extend(now.tcb_grace.iter().copied().map(LintFinding::LevelForAWhile));
    let advisories = now.advisories_accepted.iter().cloned();
    findings.extend(advisories.map(LintFinding::AdvisoryAccepted));
    if now.tcb_evaluation_min == 0 {
        findings.push(LintFinding::NoEvaluationFloor);
    }
    if let Some(previous) = context.previous {
        let (before, now) = (previous.appraisal.tcb_evaluation_min, now.tcb_evaluation_min);
        if now < before {
            findings.push(LintFinding::EvaluationFloorLowered { before, now });
        }
    }
    if now.collateral_grace_seconds > GRACE_SECONDS_MAX {
        findings.push(LintFinding::LongGrace { seconds: now.collateral_grace_seconds });
    }
    kinds(policy, findings);
    confidential(now, findings);
    booted(now, findings);
}

/// Code of a kind whose evidence nobody accepts can never do what its rule lets it do.
fn kinds(policy: &Policy, findings: &mut Vec<LintFinding>) {
    let holders = policy.holders.iter().map(|rule| rule.measurement);
    let applications = policy.applications.iter().map(|rule| rule.measurement);
    let named: BTreeSet<Measurement> = holders.chain(applications).collect();
    for measurement in named {
        if let Some(kind) = lacking(&policy.appraisal, measurement.kind()) {
            findings.push(LintFinding::KindWithoutRule { measurement, kind });
        }
    }
}

/// The kind whose rule is missing before evidence of a kind is accepted.
fn lacking(policy: &AppraisalPolicy, kind: TeeKind) -> Option<TeeKind> {
    let (has_snp, has_vtpm) = (policy.snp.is_some(), policy.vtpm.is_some());
    let missing = match kind {
        TeeKind::Sgx => false,
        TeeKind::Tdx => policy.tdx.is_none(),
        TeeKind::Snp => !has_snp,
        TeeKind::Nitro => policy.nitro.is_none(),
        TeeKind::Tpm => policy.tpm.is_none(),
        // The machine around a virtual TPM has evidence of its own.
        TeeKind::Vtpm if has_vtpm && !has_snp => return Some(TeeKind::Snp),
        TeeKind::Vtpm => !has_vtpm,
    };
    missing.then_some(kind)
}

fn confidential(policy: &AppraisalPolicy, findings: &mut Vec<LintFinding>) {
    let mut skipped = |kind, claim| findings.push(LintFinding::ClaimSkipped { kind, claim });
    if policy.snp.as_ref().is_some_and(|rule| rule.alias_check == AliasCheck::Skipped) {
        skipped(TeeKind::Snp, "check of memory for aliases");
    }
    if let Some(rule) = &policy.tdx {
        if rule.attributes == Reference::Skip {
            skipped(TeeKind::Tdx, "attributes");
        }
        if rule.service_td == Reference::Skip {
            skipped(TeeKind::Tdx, "service domains");
        }
    }
    if let Some(rule) = &policy.nitro
        && rule.pcr3 == Reference::Skip
        && rule.pcr4 == Reference::Skip
    {
        skipped(TeeKind::Nitro, "account and parent instance");
    }
    if let Some(rule) = &policy.snp {
        let is_listed = matches!(policy.platforms, PlatformRule::Only(_));
        if rule.keys.contains(&VekKind::Vlek) && is_listed {
            findings.push(LintFinding::KeyOfNoMachine);
        }
        if rule.revocation == RevocationDemand::IfPresent {
            findings.push(LintFinding::RevocationNotDemanded);
        }
    }
}

fn booted(policy: &AppraisalPolicy, findings: &mut Vec<LintFinding>) {
    if let Some(rule) = &policy.tpm
        && rule.revocation == RevocationDemand::IfPresent
        && policy.platforms == PlatformRule::Any
    {
        findings.push(LintFinding::TpmOfAnyMachine);
    }
    if let Some(rule) = &policy.tpm
        && rule.registers.iter().all(|register| register.value == Reference::Skip)
    {
        findings.push(LintFinding::RegistersSkipped);
    }
    if let Some(rule) = &policy.tpm
        && rule.authorities == Reference::Skip
    {
        let (kind, claim) = (TeeKind::Tpm, "authorities that approve hosts");
        findings.push(LintFinding::ClaimSkipped { kind, claim });
    }
}
