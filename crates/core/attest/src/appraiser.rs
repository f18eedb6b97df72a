//! The one verb: appraise.

use heirloom_model::counter::Time;
use heirloom_model::evidence::{Endorsements, Evidence, ReportData, TrustAnchor};
use heirloom_model::policy::AppraisalPolicy;

use crate::endorse::Expiry;
use crate::error::AppraiseError;
use crate::result::AttestationResult;

/// Whose word is believed, and what they said. Data only: equal histories give equal appraisers.
#[derive(Clone, Debug)]
pub struct Appraiser {
    anchors: Vec<TrustAnchor>,
}

impl Appraiser {
    /// An appraiser that believes these anchors and has no endorsements yet.
    pub fn new(anchors: Vec<TrustAnchor>) -> Self {
        Self { anchors }
    }

    /// Believes exactly these anchors from now on. Endorsements of others are forgotten.
    pub fn replace_anchors(&mut self, anchors: Vec<TrustAnchor>) {
        self.anchors = anchors;
    }

    /// Learns endorsements. For each family the newest are kept; older ones change nothing.
    pub fn endorse(&mut self, _endorsements: Endorsements) -> Result<(), AppraiseError> {
        Err(AppraiseError::UnknownAnchor)
    }

    /// Appraises evidence that must carry exactly the `expected` report data.
    pub fn appraise(
        &mut self,
        _evidence: &Evidence,
        _expected: &ReportData,
        _policy: &AppraisalPolicy,
        _now: Time,
    ) -> Result<AttestationResult, AppraiseError> {
        Err(AppraiseError::UnknownAnchor)
    }

    /// What expires when, earliest first.
    pub fn expiry_calendar(&self) -> Vec<Expiry> {
        Vec::new()
    }
}
