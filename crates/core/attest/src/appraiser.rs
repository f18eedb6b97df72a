//! The one verb: appraise.
//!
//! Things are refused in this order, and the first reason is the answer:
//!
//! 1. bytes that are no quote of a known kind;
//! 2. enclaves that no policy can allow: debug, privileged, zero, unknown attributes;
//! 3. platforms whose certificates are out of date, or that no trust anchor or endorsement covers;
//! 4. endorsements that are of the future, or expired beyond the policy's grace;
//! 5. whatever does not verify: chain, revocation, quoting enclave, TCB, signature;
//! 6. report data other than the caller asked for;
//! 7. what the appraisal policy does not accept: platform, TCB level, advisory, evaluation.
//!
//! Steps 3 and 5 are remembered for quoting identities that were verified before; what is
//! remembered counts only for the endorsements and the time for which it was verified.

use std::collections::BTreeMap;

use heirloom_model::counter::Time;
use heirloom_model::digest::sha256;
use heirloom_model::evidence::{Endorsements, Evidence, ReportData, TrustAnchor};
use heirloom_model::limit::ENDORSEMENTS_MAX;
use heirloom_model::policy::{AppraisalPolicy, PlatformRule};

use crate::cache::{Cache, QuotingIdentity, QuotingKey};
use crate::endorse::{Collateral, Expiry, ExpiryItem, Family};
use crate::error::AppraiseError;
use crate::pki::{Certificate, Window};
use crate::quote::Quote;
use crate::result::{AttestationResult, Grace};
use crate::{dcap, diagnose};

/// Whose word is believed, and what they said. Data only: equal histories give equal answers.
#[derive(Clone, Debug)]
pub struct Appraiser {
    anchors: Vec<TrustAnchor>,
    endorsements: BTreeMap<Family, Collateral>,
    cache: Cache,
}

impl Appraiser {
    /// An appraiser that believes these anchors and has no endorsements yet.
    pub fn new(anchors: Vec<TrustAnchor>) -> Self {
        Self { anchors, endorsements: BTreeMap::new(), cache: Cache::default() }
    }

    /// Believes exactly these anchors from now on. Endorsements under others are forgotten, and
    /// so is every verification.
    pub fn replace_anchors(&mut self, anchors: Vec<TrustAnchor>) {
        self.anchors = anchors;
        self.cache.clear();
        let Self { anchors, endorsements, .. } = self;
        endorsements.retain(|family, _| anchors.iter().any(|anchor| anchor.id() == family.anchor));
    }

    /// Learns endorsements. For each family the newest of each part is kept; older parts change
    /// nothing.
    ///
    /// They must be under one of the anchors. Their signatures are checked now, so that forged
    /// ones cannot replace genuine ones; everything is judged again at each appraisal.
    pub fn endorse(&mut self, endorsements: Endorsements) -> Result<(), AppraiseError> {
        let Endorsements::SgxDcap(content) = endorsements;
        let collateral = Collateral::parse(content)?;
        let family = collateral.family;
        if !self.anchors.iter().any(|anchor| anchor.id() == family.anchor) {
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

    /// Appraises evidence that must carry exactly the `expected` report data.
    pub fn appraise(
        &mut self,
        evidence: &Evidence,
        expected: &ReportData,
        policy: &AppraisalPolicy,
        now: Time,
    ) -> Result<AttestationResult, AppraiseError> {
        let Evidence::SgxDcap(raw) = evidence;
        let quote = Quote::parse(raw)?;
        quote.report.deny()?;
        let verified = self.verify(raw, &quote, policy, now)?;
        judge(&quote, &verified, expected, policy)
    }

    /// What expires when, earliest first.
    pub fn expiry_calendar(&self) -> Vec<Expiry> {
        let anchors = self.anchors.iter().filter_map(|anchor| {
            let TrustAnchor::SgxDcap(der) = anchor;
            let at = Certificate::parse(der).ok()?.window.until;
            Some(Expiry { at, item: ExpiryItem::Anchor(anchor.id()) })
        });
        let endorsements = self.endorsements.values().flat_map(Collateral::calendar);
        let mut calendar: Vec<_> = anchors.chain(endorsements).collect();
        calendar.sort();
        calendar
    }

    /// How many quoting identities are remembered as verified.
    pub fn quoting_identities_known(&self) -> usize {
        self.cache.len()
    }

    /// Verifies a quote, from memory as far as possible.
    fn verify(
        &mut self,
        raw: &[u8],
        quote: &Quote<'_>,
        policy: &AppraisalPolicy,
        now: Time,
    ) -> Result<Verified, AppraiseError> {
        let key = QuotingKey::of(quote);
        if let Some(verified) = self.verify_from_memory(&key, quote, policy, now)? {
            return Ok(verified);
        }
        let platform = Platform::parse(quote)?;
        platform.window.check(now)?;
        let mut refusal = AppraiseError::UnknownAnchor;
        for anchor in &self.anchors {
            match self.verify_under(anchor, raw, quote, &platform, policy, now) {
                Ok(Some(verified)) => {
                    self.cache.put(key, verified.identity.clone());
                    return Ok(verified);
                }
                Ok(None) => {}
                Err(error) => refusal = more_telling(refusal, error),
            }
        }
        Err(refusal)
    }

    /// Verifies only the signature of the quote if everything else was verified before, with
    /// these endorsements and for this time; answers nothing otherwise.
    fn verify_from_memory(
        &self,
        key: &QuotingKey,
        quote: &Quote<'_>,
        policy: &AppraisalPolicy,
        now: Time,
    ) -> Result<Option<Verified>, AppraiseError> {
        let Some(identity) = self.cache.get(key) else { return Ok(None) };
        let Some(collateral) = self.endorsements.get(&identity.family) else { return Ok(None) };
        if collateral.digest != identity.endorsements {
            return Ok(None);
        }
        identity.certificates.check(now)?;
        let (moment, grace) = collateral.moment(now, policy.collateral_grace_seconds)?;
        if moment < identity.verified {
            return Ok(None);
        }
        quote.verify_signature()?;
        Ok(Some(Verified::new(identity.clone(), collateral, grace)))
    }

    /// Verifies everything under one anchor; answers nothing if the anchor has another name than
    /// the issuer of the platform's CA.
    fn verify_under(
        &self,
        anchor: &TrustAnchor,
        raw: &[u8],
        quote: &Quote<'_>,
        platform: &Platform,
        policy: &AppraisalPolicy,
        now: Time,
    ) -> Result<Option<Verified>, AppraiseError> {
        let TrustAnchor::SgxDcap(der) = anchor;
        let Ok(root) = Certificate::parse(der) else { return Ok(None) };
        if !platform.is_issued_under(&root) {
            return Ok(None);
        }
        let certificates = platform.window.and(root.window);
        certificates.check(now)?;
        let family = platform.family(anchor);
        let collateral =
            self.endorsements.get(&family).ok_or(AppraiseError::MissingEndorsements { family })?;
        let (moment, grace) = collateral.moment(now, policy.collateral_grace_seconds)?;
        certificates.check(moment)?;
        let claims =
            dcap::verify(raw, quote, der, &collateral.content, moment).map_err(|failure| {
                diagnose::reason(failure, quote, &root, &platform.chain, collateral)
            })?;
        if claims.fmspc != family.fmspc {
            return Err(AppraiseError::MissingEndorsements { family });
        }
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

/// Several anchors may have the name that a chain ends in; the one that got furthest says why.
fn more_telling(first: AppraiseError, second: AppraiseError) -> AppraiseError {
    let says_little = |error: &AppraiseError| {
        matches!(error, AppraiseError::UnknownAnchor | AppraiseError::MissingEndorsements { .. })
    };
    if says_little(&second) && first != AppraiseError::UnknownAnchor { first } else { second }
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

    fn family(&self, anchor: &TrustAnchor) -> Family {
        let issuer = self.chain.first().map_or(&[][..], |leaf| &leaf.issuer);
        Family { anchor: anchor.id(), fmspc: self.fmspc, issuer: sha256(&[issuer]) }
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

/// Compares what a verified quote says with what was asked for and what the policy accepts.
fn judge(
    quote: &Quote<'_>,
    verified: &Verified,
    expected: &ReportData,
    policy: &AppraisalPolicy,
) -> Result<AttestationResult, AppraiseError> {
    let report = &quote.report;
    let claims = &verified.identity.claims;
    let found = report.report_data();
    if found != *expected {
        let (expected, found) = (Box::new(*expected), Box::new(found));
        return Err(AppraiseError::ReportDataMismatch { expected, found });
    }
    if let PlatformRule::Only(listed) = &policy.platforms
        && !listed.contains(&claims.platform)
    {
        return Err(AppraiseError::PlatformNotListed { platform: claims.platform });
    }
    if !policy.tcb.contains(&claims.tcb) {
        return Err(AppraiseError::TcbLevelNotAccepted { found: claims.tcb });
    }
    let refused = |advisory: &&String| !policy.advisories_accepted.contains(advisory);
    if let Some(advisory) = claims.advisories.iter().find(refused) {
        return Err(AppraiseError::AdvisoryNotAccepted { advisory: advisory.clone() });
    }
    if claims.tcb_evaluation < policy.tcb_evaluation_min {
        return Err(AppraiseError::TcbEvaluationTooLow {
            found: claims.tcb_evaluation,
            least: policy.tcb_evaluation_min,
        });
    }
    Ok(AttestationResult {
        measurement: report.measurement(),
        signer: report.signer(),
        product_id: report.product_id(),
        security_version: report.security_version(),
        platform: claims.platform,
        anchor: verified.identity.anchor,
        tcb: claims.tcb,
        advisories: claims.advisories.clone(),
        report_data: found,
        expires: verified.expires,
        grace: verified.grace,
    })
}
