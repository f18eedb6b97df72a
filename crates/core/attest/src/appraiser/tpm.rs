//! Machines with a TPM, whose measured launcher answers for one process.

use heirloom_model::appraisal::{PcrRule, Reference};
use heirloom_model::counter::SecurityVersion;
use heirloom_model::evidence::{BOOT_REGISTERS, LaunchClaims, PcrValue, TpmEvidence, TrustAnchor};
use heirloom_model::measurement::{Measurement, TeeKind};

use super::judge::{self, Question};
use crate::account::{Step, Trail};
use crate::cache::{Memory, MemoryKey};
use crate::error::AppraiseError;
use crate::result::{AttestationResult, Host, SignedCode, Tcb};
use crate::revocation::{ListMaker, RevocationLists};
use crate::tpm::{self, CertifiedKey};

/// Which attestation keys are certified, and which were taken back.
#[derive(Clone, Debug)]
pub(super) struct Tpm {
    pub(super) revocations: RevocationLists,
    pub(super) memory: Memory<CertifiedKey>,
}

impl Default for Tpm {
    fn default() -> Self {
        let revocations = RevocationLists::new(ListMaker::AttestationCa);
        Self { revocations, memory: Memory::default() }
    }
}

impl Tpm {
    /// Appraises a quote and what the launcher claims.
    pub(super) fn appraise(
        &mut self,
        anchors: &[TrustAnchor],
        evidence: &TpmEvidence,
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<AttestationResult, AppraiseError> {
        let TpmEvidence { attest, signature, certificates, registers, launch, report_data } =
            evidence;
        trail.block(&[Step::Attributes, Step::Measured], deny(launch), |step, ()| match step {
            Step::Measured => Measurement::Tpm(launch.measurement).to_string(),
            _ => "not launched for debugging".to_owned(),
        })?;
        let key = MemoryKey::of(certificates.iter().map(|certificate| certificate.0.as_slice()));
        let now = question.now;
        let certified = if let Some(known) = self.memory.get(&key) {
            known.chain().holds_at(now).map(|()| known.clone()).map_err(AppraiseError::from)
        } else {
            let verified = tpm::verify_ak_certificate(anchors, certificates, now);
            verified.map_err(AppraiseError::from)
        };
        let certified = trail.check(Step::Chain, certified, |certified| {
            let (since, until) = (certified.chain().since(), certified.chain().until());
            format!("the key of {}, valid from {since} until {until}", certified.platform())
        })?;
        let anchor = TrustAnchor::Tpm(certified.chain().anchor().to_vec()).id();
        self.revocations.not_revoked(anchor, certificates, trail)?;
        let qualifying = launch.qualify(report_data);
        let quote = tpm::verify_quote(certified.key(), attest, signature, &qualifying, registers);
        let quote = quote.map_err(AppraiseError::from);
        let quote = quote.and_then(|quote| judge::quoted(registers).map(|()| quote));
        trail.check(Step::Quote, quote, |_| {
            "signed by the certified key, over these claims and registers".to_owned()
        })?;
        let (host, expires) = (Host::Known(certified.platform()), certified.chain().until());
        self.memory.put(key, certified);
        question.report_data(report_data, trail)?;
        let rule = judge::rule(trail, TeeKind::Tpm, question.policy.tpm.as_ref())?;
        let demand = question.demand(rule.revocation);
        let (listed, grace) = self.revocations.demanded(anchor, demand, trail)?;
        question.host(host, trail)?;
        let claim = (Step::Authority, "authority of hosts");
        judge::reference(trail, claim, &rule.authorities, &launch.authority, judge::text)?;
        let rules: Vec<_> = rule.registers.iter().collect();
        let judged = judge_registers(registers, &rules, &[]);
        judge_text(judged, trail)?;
        let signed = SignedCode { signer: launch.signer, product_id: launch.product_id };
        Ok(AttestationResult {
            measurement: Measurement::Tpm(launch.measurement),
            signed: Some(signed),
            security_version: SecurityVersion(u64::from(launch.isv_svn)),
            host,
            anchor,
            tcb: Tcb::Unstated,
            advisories: Vec::new(),
            report_data: *report_data,
            expires: expires.min(listed),
            grace,
        })
    }
}

/// What no policy can allow.
fn deny(launch: &LaunchClaims) -> Result<(), AppraiseError> {
    let is_zero = |bytes: &[u8; 32]| bytes.iter().all(|byte| *byte == 0);
    if launch.debug {
        return Err(AppraiseError::DebugEnclave);
    }
    if is_zero(launch.measurement.as_bytes()) {
        return Err(AppraiseError::ZeroMeasurement);
    }
    if is_zero(launch.signer.as_bytes()) {
        return Err(AppraiseError::ZeroSigner);
    }
    Ok(())
}

/// Each register is judged by exactly one rule, unless it is part of the measurement. Answers in
/// words what nobody looked at.
pub(super) fn judge_registers(
    registers: &[PcrValue],
    rules: &[&PcrRule],
    measured: &[u8],
) -> Result<Vec<String>, AppraiseError> {
    let mut looked_at_by_nobody = Vec::new();
    for register in registers {
        let index = register.index;
        let mut of_register = rules.iter().filter(|rule| rule.index == index);
        let (rule, another) = (of_register.next(), of_register.next());
        let rule = match (rule, another, measured.contains(&index)) {
            (None, None, true) => continue,
            (Some(rule), None, false) => rule,
            _ => return Err(AppraiseError::RegisterRules { index }),
        };
        if rule.value == Reference::Skip {
            looked_at_by_nobody.push(index.to_string());
        } else if !rule.value.accepts(&register.value) {
            let found = register.value.to_string();
            return Err(AppraiseError::ReferenceMismatch { claim: claim(index), found });
        }
    }
    Ok(looked_at_by_nobody)
}

/// Writes down what judging the registers came to.
pub(super) fn judge_text(
    judged: Result<Vec<String>, AppraiseError>,
    trail: &mut Trail,
) -> Result<(), AppraiseError> {
    trail.check(Step::Registers, judged, |skipped| match skipped.as_slice() {
        [] => "each one is what the policy says".to_owned(),
        some => format!("nobody looks at {}", some.join(", ")),
    })?;
    Ok(())
}

/// The name of a register. Only those that must be quoted are ever judged.
fn claim(index: u8) -> &'static str {
    const NAMES: [&str; BOOT_REGISTERS.end as usize] = [
        "PCR 0", "PCR 1", "PCR 2", "PCR 3", "PCR 4", "PCR 5", "PCR 6", "PCR 7", "PCR 8", "PCR 9",
        "PCR 10", "PCR 11", "PCR 12", "PCR 13", "PCR 14", "PCR 15",
    ];
    NAMES.get(usize::from(index)).copied().unwrap_or("a register")
}
