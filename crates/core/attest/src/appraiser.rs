//! The one verb: appraise.
//!
//! Things are refused in this order, whatever made the evidence, and the first reason is the answer:
//!
//! 1. bytes that are no evidence of a known kind and version;
//! 2. what no policy can allow: debug, zero measurements, migration, unknown attributes; where the
//!    verification itself looks at it, together with the next;
//! 3. whatever does not verify: dates and paths of certificates, revocation, endorsements, the
//!    chain from the trust anchor to the last signature;
//! 4. report data other than the caller asked for;
//! 5. what the appraisal policy does not accept: the kind, the platform, firmware, reference values.
//!
//! What certificates say is remembered for as long as they say it, so that the next appraisal costs
//! one signature; what is remembered counts only for the endorsements and the time for which it was
//! verified, and never instead of the policy.
//!
//! [`Appraiser::explain`] is the same appraisal, written down check by check.

mod amd;
mod intel;
mod judge;
mod nitro;
mod tpm;
mod vtpm;

use heirloom_model::counter::Time;
use heirloom_model::evidence::{Endorsements, Evidence, ReportData, TrustAnchor};
use heirloom_model::measurement::TeeKind;
use heirloom_model::policy::AppraisalPolicy;

use self::amd::Amd;
use self::intel::Intel;
use self::judge::Question;
use self::nitro::Nitro;
use self::tpm::Tpm;
use crate::account::{Account, Trail};
use crate::endorse::{Expiry, ExpiryItem};
use crate::error::AppraiseError;
use crate::pki::Certificate;
use crate::result::AttestationResult;

/// Whose word is believed, and what they said. Data only: equal histories give equal answers.
#[derive(Clone, Debug)]
pub struct Appraiser {
    anchors: Vec<TrustAnchor>,
    intel: Intel,
    amd: Amd,
    nitro: Nitro,
    tpm: Tpm,
}

impl Appraiser {
    /// An appraiser that believes these anchors and has no endorsements yet.
    pub fn new(anchors: Vec<TrustAnchor>) -> Self {
        Self {
            anchors,
            intel: Intel::default(),
            amd: Amd::default(),
            nitro: Nitro::default(),
            tpm: Tpm::default(),
        }
    }

    /// Believes exactly these anchors from now on. Endorsements under others are forgotten, and
    /// so is every verification.
    pub fn replace_anchors(&mut self, anchors: Vec<TrustAnchor>) {
        self.anchors = anchors;
        self.intel.retain(&self.anchors);
        self.amd.memory.clear();
        self.amd.revocations.retain(&self.anchors);
        self.nitro.memory.clear();
        self.tpm.memory.clear();
        self.tpm.revocations.retain(&self.anchors);
    }

    /// Learns endorsements. For each family the newest of each part is kept; older parts change
    /// nothing.
    ///
    /// They must be under one of the anchors. Their signatures are checked now, so that forged
    /// ones cannot replace genuine ones; everything is judged again at each appraisal.
    pub fn endorse(&mut self, endorsements: Endorsements) -> Result<(), AppraiseError> {
        match endorsements {
            Endorsements::SgxDcap(content) => {
                self.intel.endorse(&self.anchors, TeeKind::Sgx, content)
            }
            Endorsements::TdxDcap(content) => {
                self.intel.endorse(&self.anchors, TeeKind::Tdx, content)
            }
            Endorsements::Snp(content) => self.amd.revocations.learn(&self.anchors, &content),
            Endorsements::Tpm(content) => self.tpm.revocations.learn(&self.anchors, &content),
        }
    }

    /// Appraises evidence that must carry exactly the `expected` report data.
    pub fn appraise(
        &mut self,
        evidence: &Evidence,
        expected: &ReportData,
        policy: &AppraisalPolicy,
        now: Time,
    ) -> Result<AttestationResult, AppraiseError> {
        self.run(evidence, &Question { expected, policy, now }, &mut Trail::silent())
    }

    /// Appraises evidence, and says which checks were made and what each found.
    pub fn explain(
        &mut self,
        evidence: &Evidence,
        expected: &ReportData,
        policy: &AppraisalPolicy,
        now: Time,
    ) -> Account {
        let mut trail = Trail::recording();
        let outcome = self.run(evidence, &Question { expected, policy, now }, &mut trail);
        Account::of(evidence.kind(), trail, outcome)
    }

    /// What expires when, earliest first.
    pub fn expiry_calendar(&self) -> Vec<Expiry> {
        let anchors = self.anchors.iter().filter_map(|anchor| {
            let at = Certificate::parse(anchor.certificate()).ok()?.window.until;
            Some(Expiry { at, item: ExpiryItem::Anchor(anchor.id()) })
        });
        let lists = self.amd.revocations.calendar().chain(self.tpm.revocations.calendar());
        let mut calendar: Vec<_> = anchors.chain(self.intel.calendar()).chain(lists).collect();
        calendar.sort();
        calendar
    }

    /// How many quoting identities, platform keys and certificate chains are remembered as
    /// verified.
    pub fn quoting_identities_known(&self) -> usize {
        let intel = self.intel.memory.len();
        intel + self.amd.memory.len() + self.nitro.memory.len() + self.tpm.memory.len()
    }

    /// The one place that knows every kind of evidence.
    fn run(
        &mut self,
        evidence: &Evidence,
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<AttestationResult, AppraiseError> {
        let Self { anchors, intel, amd, nitro, tpm } = self;
        match evidence {
            Evidence::SgxDcap(raw) => intel.sgx(anchors, raw, question, trail),
            Evidence::TdxDcap(raw) => intel.tdx(anchors, raw, question, trail),
            Evidence::Snp(evidence) => amd.snp(anchors, evidence, question, trail),
            Evidence::Nitro(raw) => nitro.appraise(anchors, raw, question, trail),
            Evidence::Tpm(evidence) => tpm.appraise(anchors, evidence, question, trail),
            Evidence::Vtpm(evidence) => vtpm::appraise(amd, anchors, evidence, question, trail),
        }
    }
}
