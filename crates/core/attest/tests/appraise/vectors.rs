//! Real evidence, its endorsements and its day.

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::decode;
use heirloom_attest::error::AppraiseError;
use heirloom_attest::result::AttestationResult;
use heirloom_model::appraisal::{AcceptedAdvisory, Reference, TdxRule};
use heirloom_model::counter::Time;
use heirloom_model::evidence::{DcapCollateral, Endorsements, Evidence, ReportData, TrustAnchor};
use heirloom_model::measurement::TeeKind;
use heirloom_model::policy::{AppraisalPolicy, PlatformRule, TcbLevel};
use serde_json::Value;

/// When `sgx_quote_v3.bin` was made.
pub(crate) const NOW: Time = Time(1_750_334_171);

/// A quote with everything that an appraisal of it needs.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) kind: TeeKind,
    pub(crate) quote: Vec<u8>,
    pub(crate) anchors: Vec<TrustAnchor>,
    pub(crate) collateral: DcapCollateral,
    pub(crate) policy: AppraisalPolicy,
    pub(crate) now: Time,
}

/// The bytes of a shared vector; says so if there are none.
pub(crate) fn bytes(relative: &str) -> Option<Vec<u8>> {
    let Some(path) = heirloom_testkit::vectors::find(relative) else {
        eprintln!("skipped: the vector {relative} is not on this machine");
        return None;
    };
    #[expect(clippy::disallowed_methods, reason = "tests read vectors from files")]
    Some(std::fs::read(path).unwrap())
}

pub(crate) fn json(relative: &str) -> Option<Value> {
    Some(serde_json::from_slice(&bytes(relative)?).unwrap())
}

pub(crate) fn intel_root() -> Option<TrustAnchor> {
    Some(TrustAnchor::SgxDcap(bytes("tee/sgx/IntelSGXRootCA.der")?))
}

pub(crate) fn collateral(relative: &str) -> Option<DcapCollateral> {
    let json = json(relative)?;
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    let binary = |name: &str| hex::decode(text(name)).unwrap();
    Some(DcapCollateral {
        pck_crl_issuer_chain: text("pck_crl_issuer_chain"),
        root_ca_crl: binary("root_ca_crl"),
        pck_crl: binary("pck_crl"),
        tcb_info_issuer_chain: text("tcb_info_issuer_chain"),
        tcb_info: text("tcb_info"),
        tcb_info_signature: binary("tcb_info_signature"),
        qe_identity_issuer_chain: text("qe_identity_issuer_chain"),
        qe_identity: text("qe_identity"),
        qe_identity_signature: binary("qe_identity_signature"),
    })
}

/// A real SGX quote of a machine that needs configuration and hardening, under the Processor CA.
pub(crate) fn sgx() -> Option<Case> {
    Some(Case {
        kind: TeeKind::Sgx,
        quote: bytes("tee/sgx/sgx_quote_v3.bin")?,
        anchors: vec![intel_root()?],
        collateral: collateral("tee/sgx/sgx_quote_v3.collateral.json")?,
        policy: AppraisalPolicy {
            tcb: vec![TcbLevel::ConfigurationAndSwHardeningNeeded],
            advisories_accepted: forever(&["INTEL-SA-00289", "INTEL-SA-00615"]),
            tcb_evaluation_min: 17,
            ..policy()
        },
        now: NOW,
    })
}

/// A real TDX quote of version 4, of a machine that is up to date, under the Platform CA. It came
/// with padding.
pub(crate) fn tdx() -> Option<Case> {
    let padded = bytes("tee/tdx/tdx_quote_v4.bin")?;
    Some(Case {
        kind: TeeKind::Tdx,
        quote: decode::unpadded_quote(&padded).unwrap().to_vec(),
        anchors: vec![intel_root()?],
        collateral: collateral("tee/tdx/tdx_quote_v4.collateral.json")?,
        policy: policy(),
        now: Time(1_750_332_747),
    })
}

/// Accepts platforms that are up to date, and of TDX what has any service trust domains,
/// because quotes of TDX 1.0 do not state them.
pub(crate) fn policy() -> AppraisalPolicy {
    AppraisalPolicy {
        platforms: PlatformRule::Any,
        tcb: vec![TcbLevel::UpToDate],
        advisories_accepted: Vec::new(),
        tcb_evaluation_min: 1,
        collateral_grace_seconds: 0,
        tdx: Some(TdxRule {
            module: Reference::Skip,
            attributes: Reference::Skip,
            xfam: Reference::Skip,
            service_td: Reference::Skip,
        }),
        snp: None,
        nitro: None,
        tpm: None,
        vtpm: None,
        tcb_grace: Vec::new(),
    }
}

/// Advisories that are accepted for longer than any test lasts.
pub(crate) fn forever(names: &[&str]) -> Vec<AcceptedAdvisory> {
    let accepted = |name: &&str| AcceptedAdvisory { id: (*name).to_owned(), until: Time(u64::MAX) };
    names.iter().map(accepted).collect()
}

impl Case {
    /// An appraiser with the case's anchors and endorsements.
    pub(crate) fn appraiser(&self) -> Result<Appraiser, AppraiseError> {
        let mut appraiser = Appraiser::new(self.anchors.clone());
        appraiser.endorse(self.endorsements())?;
        Ok(appraiser)
    }

    pub(crate) fn evidence(&self) -> Evidence {
        match self.kind {
            TeeKind::Tdx => Evidence::TdxDcap(self.quote.clone()),
            _ => Evidence::SgxDcap(self.quote.clone()),
        }
    }

    pub(crate) fn endorsements(&self) -> Endorsements {
        match self.kind {
            TeeKind::Tdx => Endorsements::TdxDcap(self.collateral.clone()),
            _ => Endorsements::SgxDcap(self.collateral.clone()),
        }
    }

    /// What the evidence carries, so that it is expected.
    pub(crate) fn report_data(&self) -> ReportData {
        let claims = decode::unverified(&self.evidence()).ok();
        claims.and_then(|claims| claims.report_data).unwrap_or(ReportData::new([0; 64]))
    }

    /// Appraises with a new appraiser.
    pub(crate) fn appraise(&self) -> Result<AttestationResult, AppraiseError> {
        self.appraise_with(&mut self.appraiser()?)
    }

    /// Appraises with one that may remember.
    pub(crate) fn appraise_with(
        &self,
        appraiser: &mut Appraiser,
    ) -> Result<AttestationResult, AppraiseError> {
        appraiser.appraise(&self.evidence(), &self.report_data(), &self.policy, self.now)
    }

    /// The case with one change.
    pub(crate) fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }
}

/// The reason of a refusal, or `ok`.
pub(crate) fn reason(outcome: &Result<AttestationResult, AppraiseError>) -> &'static str {
    outcome.as_ref().map_or_else(AppraiseError::reason, |_| "ok")
}
