//! Nitro: documents under AWS' root.

use heirloom_model::appraisal::NitroRule;
use heirloom_model::counter::SecurityVersion;
use heirloom_model::evidence::{ReportData, TrustAnchor};
use heirloom_model::measurement::{Measurement, TeeKind};

use super::judge::{self, Question, reference};
use crate::account::{Step, Trail};
use crate::cache::{Memory, MemoryKey};
use crate::chain::VerifiedChain;
use crate::error::AppraiseError;
use crate::nitro::{self, Document, NitroClaims};
use crate::result::{AttestationResult, Host, Tcb};

/// Which certificates of enclaves are verified. AWS publishes nothing else about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Nitro {
    pub(super) memory: Memory<VerifiedChain>,
}

impl Nitro {
    /// Appraises a document.
    pub(super) fn appraise(
        &mut self,
        anchors: &[TrustAnchor],
        raw: &[u8],
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<AttestationResult, AppraiseError> {
        let document = trail.check(Step::Format, Document::parse(raw), |_| {
            format!("COSE_Sign1 of {} bytes", raw.len())
        })?;
        let certificates = std::iter::once(document.certificate());
        let key = MemoryKey::of(certificates.chain(document.bundle().iter().copied()));
        let now = question.now;
        let chain = match self.memory.get(&key) {
            Some(known) => known.holds_at(now).map(|()| known.clone()).map_err(Into::into),
            None => nitro::verify_chain(&document, anchors, now).map_err(AppraiseError::from),
        };
        let chain = trail.check(Step::Chain, chain, |chain| {
            format!("valid from {} until {}", chain.since(), chain.until())
        })?;
        let claims = nitro::verify(&document, &chain, now);
        let claims = trail.check(Step::Signature, claims, |claims| {
            format!("by {}, made at {}", claims.module_id(), claims.timestamp())
        })?;
        let (anchor, expires) = (TrustAnchor::Nitro(chain.anchor().to_vec()).id(), chain.until());
        self.memory.put(key, chain);
        // Enclaves that can be read from outside have registers of zeros.
        let image = trail.check(Step::Measured, claims.measurement(), |image| {
            Measurement::Nitro(*image).to_string()
        })?;
        let found = carried(&claims).inspect_err(|error| trail.fail(Step::ReportData, error))?;
        question.report_data(&found, trail)?;
        let rule = judge::rule(trail, TeeKind::Nitro, question.policy.nitro.as_ref())?;
        let host = Host::Known(claims.platform());
        question.host(host, trail)?;
        judge_registers(&claims, rule, trail)?;
        Ok(AttestationResult {
            measurement: Measurement::Nitro(image),
            signed: None,
            security_version: SecurityVersion(0),
            host,
            anchor,
            tcb: Tcb::Unstated,
            advisories: Vec::new(),
            report_data: found,
            expires,
            grace: None,
        })
    }
}

/// The report data is the whole user data of a document; whatever has another length is not ours.
fn carried(claims: &NitroClaims) -> Result<ReportData, AppraiseError> {
    let found = claims.user_data().unwrap_or_default();
    let bytes = found.try_into().map_err(|_| AppraiseError::UserDataLength { found: found.len() });
    bytes.map(ReportData::new)
}

fn judge_registers(
    claims: &NitroClaims,
    rule: &NitroRule,
    trail: &mut Trail,
) -> Result<(), AppraiseError> {
    let registers = [
        (Step::Role, "PCR 3", 3, &rule.pcr3),
        (Step::Parent, "PCR 4", 4, &rule.pcr4),
        (Step::Signer, "PCR 8", 8, &rule.pcr8),
    ];
    for (step, claim, index, values) in registers {
        let found = claims.register(index).map_err(AppraiseError::from);
        let found = found.inspect_err(|error| trail.fail(step, error))?;
        reference(trail, (step, claim), values, &found, judge::text)?;
    }
    Ok(())
}
