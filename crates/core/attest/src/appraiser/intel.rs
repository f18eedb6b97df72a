//! SGX and TDX: DCAP quotes under Intel's provisioning certificates.

use std::collections::BTreeMap;

use heirloom_model::appraisal::{GraceEnd, Reference, TdxRule};
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::{AnchorId, sha256};
use heirloom_model::evidence::{DcapCollateral, TrustAnchor};
use heirloom_model::limit::ENDORSEMENTS_MAX;
use heirloom_model::measurement::TeeKind;
use heirloom_model::policy::AppraisalPolicy;

use super::judge::{self, Question, reference};
use crate::account::{Step, Trail};
use crate::cache::{Memory, MemoryKey};
use crate::dcap::PlatformClaims;
use crate::endorse::{Collateral, Expiry, Family};
use crate::error::AppraiseError;
use crate::pki::{Certificate, Window};
use crate::quote::{Body, Quote};
use crate::result::{AttestationResult, Grace, Host, SignedCode, Tcb};
use crate::td_report::TdReport;
use crate::{dcap, diagnose};

/// What is verified when a quote is, in this order.
const VERIFIED: &[Step] = &[
    Step::Chain,
    Step::Revocation,
    Step::QuotingReport,
    Step::QuotingKey,
    Step::Signature,
    Step::QuotingIdentity,
    Step::TcbLevel,
];
const REMEMBERED_BEFORE: &[Step] =
    &[Step::Chain, Step::Revocation, Step::QuotingReport, Step::QuotingKey];
const REMEMBERED_AFTER: &[Step] = &[Step::QuotingIdentity, Step::TcbLevel];

/// Intel's word about platforms, and which quoting identities it covers.
#[derive(Clone, Debug, Default)]
pub(super) struct Intel {
    endorsements: BTreeMap<Family, Collateral>,
    pub(super) memory: Memory<QuotingIdentity>,
}

/// A verified quoting identity.
#[derive(Clone, Debug)]
pub(super) struct QuotingIdentity {
    claims: PlatformClaims,
    anchor: AnchorId,
    family: Family,
    /// Digest of the endorsements that it was verified with.
    endorsements: [u8; 32],
    /// The time for which it was verified.
    verified: Time,
    /// When the platform's certificates and the anchor are valid.
    certificates: Window,
}

impl Intel {
    /// Forgets what rests on other anchors.
    pub(super) fn retain(&mut self, anchors: &[TrustAnchor]) {
        self.memory.clear();
        self.endorsements.retain(|family, _| anchors.iter().any(|anchor| vouches(anchor, family)));
    }

    /// Learns endorsements.
    pub(super) fn endorse(
        &mut self,
        anchors: &[TrustAnchor],
        kind: TeeKind,
        content: DcapCollateral,
    ) -> Result<(), AppraiseError> {
        let collateral = Collateral::parse(kind, content)?;
        let family = collateral.family;
        if !anchors.iter().any(|anchor| vouches(anchor, &family)) {
            return Err(AppraiseError::UnknownAnchor);
        }
        let newest = match self.endorsements.get(&family) {
            Some(known) => collateral.merged_into(known)?,
            None if self.endorsements.len() < ENDORSEMENTS_MAX => collateral,
            None => return Err(AppraiseError::TooManyEndorsements { limit: ENDORSEMENTS_MAX }),
        };
        self.endorsements.insert(family, newest);
        Ok(())
    }

    pub(super) fn calendar(&self) -> impl Iterator<Item = Expiry> {
        self.endorsements.values().flat_map(Collateral::calendar)
    }

    /// Appraises a quote of an enclave.
    pub(super) fn sgx(
        &mut self,
        anchors: &[TrustAnchor],
        raw: &[u8],
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<AttestationResult, AppraiseError> {
        let quote = trail.check(Step::Format, Quote::parse_sgx(raw), |quote| {
            format!("SGX quote of version {}", quote.version)
        })?;
        let verified = self.authentic(anchors, raw, &quote, question, trail)?;
        let until = judge_platform(&verified, question, trail)?;
        Ok(result(&quote, verified, until))
    }

    /// Appraises a quote of a trust domain.
    pub(super) fn tdx(
        &mut self,
        anchors: &[TrustAnchor],
        raw: &[u8],
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<AttestationResult, AppraiseError> {
        let quote = trail.check(Step::Format, Quote::parse_tdx(raw), |quote| {
            format!("TDX quote of version {}", quote.version)
        })?;
        let verified = self.authentic(anchors, raw, &quote, question, trail)?;
        let rule = judge::rule(trail, TeeKind::Tdx, question.policy.tdx.as_ref())?;
        let until = judge_platform(&verified, question, trail)?;
        if let Body::Tdx(report) = quote.body {
            judge_domain(report, rule, trail)?;
        }
        Ok(result(&quote, verified, until))
    }

    /// Verifies a quote, and that it was made for what was asked.
    fn authentic(
        &mut self,
        anchors: &[TrustAnchor],
        raw: &[u8],
        quote: &Quote<'_>,
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<Verified, AppraiseError> {
        let verified = self.verify(anchors, raw, quote, question, trail)?;
        question.report_data(&quote.report_data(), trail)?;
        Ok(verified)
    }

    /// Verifies a quote, from memory as far as possible.
    fn verify(
        &mut self,
        anchors: &[TrustAnchor],
        raw: &[u8],
        quote: &Quote<'_>,
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<Verified, AppraiseError> {
        trail.block(&[Step::Attributes, Step::Measured], quote.deny(), |step, ()| match step {
            Step::Measured => quote.measurement().to_string(),
            _ => "nothing that every policy refuses".to_owned(),
        })?;
        let key = memory_key(quote);
        if let Some(verified) = self.verify_from_memory(&key, quote, question, trail)? {
            return Ok(verified);
        }
        let platform = Platform::parse(quote).and_then(|platform| {
            platform.window.check(question.now)?;
            Ok(platform)
        });
        let platform = trail.check(Step::Dates, platform, |platform| platform.window.text())?;
        let mut refusal = AppraiseError::UnknownAnchor;
        let mut furthest = trail.clone();
        furthest.fail(Step::Anchor, &refusal);
        for anchor in anchors {
            let mut attempt = trail.clone();
            let asked = Asked { raw, quote, platform: &platform, question };
            match self.verify_under(anchor, &asked, &mut attempt) {
                Ok(Some(verified)) => {
                    self.memory.put(key, verified.identity.clone());
                    *trail = attempt;
                    return Ok(verified);
                }
                Err(error) if tells_more(&refusal, &error) => {
                    refusal = error;
                    furthest = attempt;
                }
                Ok(None) | Err(_) => {}
            }
        }
        *trail = furthest;
        Err(refusal)
    }

    /// Verifies only the signature of the quote if everything else was verified before, with
    /// these endorsements and for this time; answers nothing otherwise.
    fn verify_from_memory(
        &self,
        key: &MemoryKey,
        quote: &Quote<'_>,
        question: &Question<'_>,
        trail: &mut Trail,
    ) -> Result<Option<Verified>, AppraiseError> {
        let Some(identity) = self.memory.get(key) else { return Ok(None) };
        let Some(collateral) = self.endorsements.get(&identity.family) else { return Ok(None) };
        if collateral.digest != identity.endorsements {
            return Ok(None);
        }
        let dates = identity.certificates.check(question.now);
        trail.check(Step::Dates, dates, |()| identity.certificates.text())?;
        trail.pass(Step::Anchor, || identity.anchor.to_string());
        let (moment, grace) = moment(collateral, question, trail)?;
        if moment < identity.verified {
            return Ok(None);
        }
        let remembered = || format!("remembered as verified for {}", identity.verified);
        for step in REMEMBERED_BEFORE {
            trail.pass(*step, remembered);
        }
        let signature = quote.verify_signature();
        trail.check(Step::Signature, signature, |()| "by the attestation key".to_owned())?;
        for step in REMEMBERED_AFTER {
            trail.pass(*step, remembered);
        }
        Ok(Some(Verified::new(identity.clone(), collateral, grace)))
    }

    /// Verifies everything under one anchor; answers nothing if the anchor has another name than
    /// the issuer of the platform's CA.
    fn verify_under(
        &self,
        anchor: &TrustAnchor,
        asked: &Asked<'_>,
        trail: &mut Trail,
    ) -> Result<Option<Verified>, AppraiseError> {
        let Asked { raw, quote, platform, question } = *asked;
        let TrustAnchor::SgxDcap(der) = anchor else { return Ok(None) };
        let Ok(root) = Certificate::parse(der) else { return Ok(None) };
        if !platform.is_issued_under(&root) {
            return Ok(None);
        }
        let certificates = platform.window.and(root.window);
        let dates = certificates.check(question.now);
        trail.check(Step::Dates, dates, |()| certificates.text())?;
        trail.pass(Step::Anchor, || anchor.id().to_string());
        let family = platform.family(anchor, quote.measurement().kind());
        let known = self.endorsements.get(&family);
        let known = known.ok_or(AppraiseError::MissingEndorsements { family });
        let collateral = trail.check(Step::Endorsements, known, |_| family.to_string())?;
        let (moment, grace) = moment(collateral, question, trail)?;
        let claims = certificates.check(moment).and_then(|()| {
            let verified = dcap::verify(raw, quote, der, &collateral.content, moment);
            verified.map_err(|failure| {
                diagnose::reason(failure, quote, &root, &platform.chain, collateral)
            })
        });
        let claims = claims.and_then(|claims| {
            let same = claims.fmspc == family.fmspc;
            if same { Ok(claims) } else { Err(AppraiseError::MissingEndorsements { family }) }
        });
        let claims = trail.block(VERIFIED, claims, |step, claims| match step {
            Step::Chain => format!("ends in {}", anchor.id()),
            Step::Revocation => "in neither list".to_owned(),
            Step::TcbLevel => format!("{:?}", claims.tcb),
            Step::QuotingKey => "made by the quoting enclave".to_owned(),
            Step::QuotingReport => "signed by the platform".to_owned(),
            Step::Signature => "by the attestation key".to_owned(),
            _ => "the one that the manufacturer describes".to_owned(),
        })?;
        let identity = QuotingIdentity {
            claims,
            anchor: anchor.id(),
            family,
            endorsements: collateral.digest,
            verified: moment,
            certificates,
        };
        Ok(Some(Verified::new(identity, collateral, grace)))
    }
}

/// What is to be verified under one anchor.
struct Asked<'a> {
    raw: &'a [u8],
    quote: &'a Quote<'a>,
    platform: &'a Platform,
    question: &'a Question<'a>,
}

/// Digest of everything in a quote that its quoting identity and its TCB level consist of.
fn memory_key(quote: &Quote<'_>) -> MemoryKey {
    // The level of a trust domain depends on its module too, of which the quoted body speaks.
    let module = match quote.body {
        Body::Sgx(_) => Vec::new(),
        Body::Tdx(report) => [
            report.tee_tcb_svn().as_slice(),
            report.current_tee_tcb_svn().as_ref().map_or(&[], <[u8; 16]>::as_slice),
            report.module_attributes().as_slice(),
            report.module_signer().as_bytes(),
            report.module().as_bytes(),
        ]
        .concat(),
    };
    MemoryKey::of([
        quote.header.as_slice(),
        quote.attestation_key,
        quote.qe_report.bytes(),
        quote.qe_signature,
        quote.authentication,
        quote.certification,
        &module,
    ])
}

/// The time for which to verify, which is in the past if the endorsements live on grace.
fn moment(
    collateral: &Collateral,
    question: &Question<'_>,
    trail: &mut Trail,
) -> Result<(Time, Option<Grace>), AppraiseError> {
    let seconds = question.policy.collateral_grace_seconds;
    let found = collateral.moment(question.now, seconds);
    trail.check(Step::Endorsements, found, |(_, grace)| match grace {
        None => format!("{}, valid until {}", collateral.family, collateral.expires().1),
        Some(Grace { part, expired, until }) => {
            format!("{}: the {part} expired at {expired}, grace until {until}", collateral.family)
        }
    })
}

/// Several anchors may have the name that a chain ends in; the one that got furthest says why.
fn tells_more(first: &AppraiseError, second: &AppraiseError) -> bool {
    let says_little = |error: &AppraiseError| {
        matches!(error, AppraiseError::UnknownAnchor | AppraiseError::MissingEndorsements { .. })
    };
    *first == AppraiseError::UnknownAnchor || !says_little(second)
}

impl Window {
    /// Certificates must count now; nothing is granted to them.
    fn check(self, now: Time) -> Result<(), AppraiseError> {
        if now < self.since {
            return Err(AppraiseError::CertificateNotYetValid { since: self.since });
        }
        if now >= self.until {
            return Err(AppraiseError::CertificateExpired { expired: self.until });
        }
        Ok(())
    }

    fn text(self) -> String {
        format!("valid from {} until {}", self.since, self.until)
    }
}

/// The certificates of a quote, parsed and not verified.
struct Platform {
    chain: Vec<Certificate>,
    window: Window,
    fmspc: [u8; 6],
}

impl Platform {
    fn parse(quote: &Quote<'_>) -> Result<Self, AppraiseError> {
        let malformed = |fault| AppraiseError::MalformedCertificate { fault };
        let chain = Certificate::parse_chain(quote.certification).map_err(malformed)?;
        let [leaf, intermediate, ..] = chain.as_slice() else {
            return Err(malformed("the chain is too short"));
        };
        if leaf.issuer != intermediate.subject {
            return Err(malformed("the chain is not in order"));
        }
        let marks = dcap::platform_marks(&leaf.der);
        let fmspc = marks.ok_or(malformed("there is no platform in it"))?.fmspc;
        // All of them, so that it does not matter which path is found through them.
        let window = chain.iter().fold(leaf.window, |window, next| window.and(next.window));
        Ok(Self { chain, window, fmspc })
    }

    fn is_issued_under(&self, root: &Certificate) -> bool {
        self.chain.get(1).is_some_and(|intermediate| intermediate.issuer == root.subject)
    }

    fn family(&self, anchor: &TrustAnchor, kind: TeeKind) -> Family {
        let issuer = self.chain.first().map_or(&[][..], |leaf| &leaf.issuer);
        Family { kind, anchor: anchor.id(), fmspc: self.fmspc, issuer: sha256(&[issuer]) }
    }
}

/// A quote that verifies, before anybody looked at what it says.
struct Verified {
    identity: QuotingIdentity,
    grace: Option<Grace>,
    expires: Time,
}

impl Verified {
    fn new(identity: QuotingIdentity, collateral: &Collateral, grace: Option<Grace>) -> Self {
        let (_, endorsed) = collateral.expires();
        let endorsed = grace.map_or(endorsed, |grace| grace.until);
        let expires = identity.certificates.until.min(endorsed);
        Self { identity, grace, expires }
    }
}

/// Judges what the policy says about Intel's platforms. Answers when the first acceptance ends.
fn judge_platform(
    verified: &Verified,
    question: &Question<'_>,
    trail: &mut Trail,
) -> Result<Time, AppraiseError> {
    let claims = &verified.identity.claims;
    let policy = question.policy;
    question.host(Host::Known(claims.platform), trail)?;
    let level = level_ends(claims, policy, question.now);
    let ends = trail.check(Step::Tcb, level, |ends| match ends {
        None => format!("{:?} is accepted", claims.tcb),
        Some(ends) => format!("{:?} is accepted until {ends}", claims.tcb),
    })?;
    let until = question.advisories(&claims.advisories, trail)?;
    let until = ends.map_or(until, |ends| ends.min(until));
    let (found, least) = (claims.tcb_evaluation, policy.tcb_evaluation_min);
    let evaluation = if found >= least {
        Ok(found)
    } else {
        Err(AppraiseError::TcbEvaluationTooLow { found, least })
    };
    trail.check(Step::Evaluation, evaluation, |found| format!("{found}, at least {least}"))?;
    Ok(until)
}

/// Accepts a level for good, or for a while: answers the first second after it.
fn level_ends(
    claims: &PlatformClaims,
    policy: &AppraisalPolicy,
    now: Time,
) -> Result<Option<Time>, AppraiseError> {
    let found = claims.tcb;
    if policy.tcb.contains(&found) {
        return Ok(None);
    }
    let grace = policy.tcb_grace.iter().find(|grace| grace.level == found);
    let grace = grace.ok_or(AppraiseError::TcbLevelNotAccepted { found })?;
    let until = match grace.until {
        GraceEnd::Date(until) => until,
        GraceEnd::AfterTcbDate(seconds) => claims.tcb_date.after(seconds),
    };
    if now > until {
        return Err(AppraiseError::TcbLevelNoLongerAccepted { found, until });
    }
    Ok(Some(until.after(1)))
}

/// Whether an anchor is the root of a family. The same certificate trusted for another kind of
/// evidence has the same digest, and is not.
fn vouches(anchor: &TrustAnchor, family: &Family) -> bool {
    matches!(anchor, TrustAnchor::SgxDcap(_)) && anchor.id() == family.anchor
}

/// Judges what the policy says about trust domains.
fn judge_domain(
    report: TdReport<'_>,
    rule: &TdxRule,
    trail: &mut Trail,
) -> Result<(), AppraiseError> {
    let bits = |bits: &u64| format!("{bits:#x}");
    let module = (Step::Module, "TDX module");
    reference(trail, module, &rule.module, &report.module(), judge::text)?;
    let attributes = (Step::TdAttributes, "TD attributes");
    reference(trail, attributes, &rule.attributes, &report.attributes(), bits)?;
    reference(trail, (Step::Features, "XFAM"), &rule.xfam, &report.xfam(), bits)?;
    let (step, claim) = (Step::ServiceDomain, "service trust domains");
    match (report.service_td(), &rule.service_td) {
        (Some(found), rule) => reference(trail, (step, claim), rule, &found, judge::text),
        (None, Reference::Match(_)) => {
            trail.check(step, Err(AppraiseError::ClaimMissing { claim }), |()| String::new())
        }
        (None, Reference::Skip) => {
            trail.skip(step, || "not stated".to_owned());
            Ok(())
        }
    }
}

fn result(quote: &Quote<'_>, verified: Verified, until: Time) -> AttestationResult {
    let Verified { identity, grace, expires } = verified;
    let (signed, security_version) = match quote.body {
        Body::Sgx(report) => {
            let signed = SignedCode { signer: report.signer(), product_id: report.product_id() };
            (Some(signed), report.security_version())
        }
        Body::Tdx(_) => (None, SecurityVersion(0)),
    };
    AttestationResult {
        measurement: quote.measurement(),
        signed,
        security_version,
        host: Host::Known(identity.claims.platform),
        anchor: identity.anchor,
        tcb: Tcb::Intel(identity.claims.tcb),
        advisories: identity.claims.advisories,
        report_data: quote.report_data(),
        expires: expires.min(until),
        grace,
    }
}
