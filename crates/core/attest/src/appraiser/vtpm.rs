//! Confidential virtual machines with a virtual TPM: the report of the machine names the TPM's key,
//! and the TPM what the machine booted.

use heirloom_model::appraisal::VtpmRule;
use heirloom_model::counter::SecurityVersion;
use heirloom_model::digest::sha256;
use heirloom_model::evidence::{PcrValue, TrustAnchor, VtpmEvidence};
use heirloom_model::measurement::{
    LaunchDigest, Measurement, Register32, TeeKind, VtpmMeasurement,
};

use super::amd::Amd;
use super::judge::{self, Question};
use super::tpm::{judge_registers, judge_text};
use crate::account::{Step, Trail};
use crate::error::AppraiseError;
use crate::hcl::{self, Hardware, HclReport};
use crate::result::AttestationResult;
use crate::snp::Report;
use crate::tpm;

/// Appraises a quote by a virtual TPM, and the report of its machine under the rule for reports.
pub(super) fn appraise(
    amd: &mut Amd,
    anchors: &[TrustAnchor],
    evidence: &VtpmEvidence,
    question: &Question<'_>,
    trail: &mut Trail,
) -> Result<AttestationResult, AppraiseError> {
    let VtpmEvidence { hcl_report, certificates, attest, signature, registers, report_data } =
        evidence;
    let parsed = parse(hcl_report);
    let (left, report) = trail.check(Step::Format, parsed, |(_, report)| {
        format!("HCL report with an SEV-SNP report of version {}", report.version())
    })?;
    let verified = amd.verify(anchors, report, certificates, question.now, trail)?;
    let report = verified.claims.report();
    let bound = hcl::bind(&left, &verified.claims);
    let bound = trail.check(Step::Binding, bound, |_| {
        "the report carries the digest of the TPM's key".to_owned()
    })?;
    let qualifying = report_data.qualify_vtpm();
    let quote = tpm::verify_quote(bound.key(), attest, signature, &qualifying, registers);
    let quote = quote.map_err(AppraiseError::from);
    let quote = quote.and_then(|_| judge::quoted(registers));
    trail.check(Step::Quote, quote, |()| {
        "signed by the TPM's key, over these registers".to_owned()
    })?;
    question.report_data(report_data, trail)?;
    let policy = question.policy;
    let rule = policy.vtpm.as_ref().ok_or(AppraiseError::KindNotAccepted { kind: TeeKind::Vtpm });
    let machine = policy.snp.as_ref().ok_or(AppraiseError::KindNotAccepted { kind: TeeKind::Snp });
    let rules = rule.and_then(|rule| Ok((rule, machine?)));
    let (rule, machine) = trail.check(Step::Kind, rules, |_| {
        "the policy has rules for virtual TPMs and for their machines".to_owned()
    })?;
    let (expires, grace) = amd.judge(&verified, machine, question, trail)?;
    let rules: Vec<_> = rule.registers.iter().collect();
    let measurement = measure(report.launch_digest(), registers, rule);
    let judged = judge_registers(registers, &rules, &rule.measured);
    judge_text(measurement.clone().and(judged), trail)?;
    Ok(AttestationResult {
        measurement: Measurement::Vtpm(measurement?),
        signed: None,
        security_version: SecurityVersion(u64::from(report.guest_svn())),
        host: verified.host(),
        anchor: verified.anchor,
        tcb: verified.tcb(),
        advisories: Vec::new(),
        report_data: *report_data,
        expires,
        grace,
    })
}

fn parse(bytes: &[u8]) -> Result<(HclReport<'_>, Report<'_>), AppraiseError> {
    let left = HclReport::parse(bytes)?;
    match left.hardware() {
        Hardware::Snp(report) => Ok((left, Report::parse(report)?)),
        Hardware::Tdx(_) => Err(AppraiseError::UnsupportedHardware { kind: TeeKind::Tdx }),
    }
}

/// The launch digest, and the registers that the policy counts as code.
fn measure(
    launch: LaunchDigest,
    registers: &[PcrValue],
    rule: &VtpmRule,
) -> Result<VtpmMeasurement, AppraiseError> {
    let mut selection = 0_u32;
    let mut values = Vec::new();
    for index in &rule.measured {
        let found = registers.iter().find(|register| register.index == *index);
        let found = found.ok_or(AppraiseError::RegisterRules { index: *index })?;
        let bit = 1_u32.checked_shl(u32::from(*index)).unwrap_or(0);
        // Named twice or out of order, equal selections would not mean equal measurements.
        if bit <= selection {
            return Err(AppraiseError::RegisterRules { index: *index });
        }
        selection |= bit;
        values.extend(found.value.as_bytes());
    }
    // Without a register the code that was booted would be any.
    if selection == 0 {
        return Err(AppraiseError::RegisterRules { index: 0 });
    }
    let values = Register32::new(sha256(&[&values]));
    Ok(VtpmMeasurement::of(&launch, selection, &values))
}
