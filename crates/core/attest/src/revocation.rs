//! Lists of revoked keys under a root: AMD's, and those of networks' attestation CAs.
//!
//! A list is kept for each root, the newest. Who is on it is refused whatever the policy says and
//! however old the list is; whether there must be a current one is for the policy to say.

use std::collections::BTreeMap;

use heirloom_model::appraisal::RevocationDemand;
use heirloom_model::counter::Time;
use heirloom_model::digest::AnchorId;
use heirloom_model::evidence::{Certificate as Der, RevokedKeys, TrustAnchor};

use crate::account::{Step, Trail};
use crate::endorse::{self, Expiry, ExpiryItem};
use crate::error::{AppraiseError, EndorsementPart};
use crate::pki::{Certificate, Crl};
use crate::result::Grace;

/// Who makes lists, and how they are signed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum ListMaker {
    /// AMD: RSASSA-PSS with SHA-384.
    Amd,
    /// An attestation CA: ECDSA with P-256 and SHA-256.
    AttestationCa,
}

/// The lists of one kind of evidence, by root.
#[derive(Clone, Debug)]
pub(crate) struct RevocationLists {
    maker: ListMaker,
    lists: BTreeMap<AnchorId, Crl>,
}

/// What the policy says about lists, and when it is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) rule: RevocationDemand,
    pub(crate) grace_seconds: u64,
    pub(crate) now: Time,
}

impl ListMaker {
    fn part(self) -> EndorsementPart {
        match self {
            Self::Amd => EndorsementPart::VekCrl,
            Self::AttestationCa => EndorsementPart::AkCrl,
        }
    }

    fn anchor(self, root: &Der) -> TrustAnchor {
        match self {
            Self::Amd => TrustAnchor::Snp(root.0.clone()),
            Self::AttestationCa => TrustAnchor::Tpm(root.0.clone()),
        }
    }

    fn signed(self, root: &Certificate, list: &Crl) -> bool {
        match self {
            Self::Amd => root.signed_crl_pss(list),
            Self::AttestationCa => root.signed_crl(list),
        }
    }
}

impl RevocationLists {
    pub(crate) fn new(maker: ListMaker) -> Self {
        Self { maker, lists: BTreeMap::new() }
    }

    /// Forgets what rests on other anchors.
    pub(crate) fn retain(&mut self, anchors: &[TrustAnchor]) {
        self.lists.retain(|root, _| anchors.iter().any(|anchor| anchor.id() == *root));
    }

    /// Learns a list, if one of the anchors signed it. An older one than what is known changes
    /// nothing.
    pub(crate) fn learn(
        &mut self,
        anchors: &[TrustAnchor],
        content: &RevokedKeys,
    ) -> Result<(), AppraiseError> {
        let anchor = self.maker.anchor(&content.root);
        // As many lists are kept as there are anchors.
        if !anchors.contains(&anchor) {
            return Err(AppraiseError::UnknownAnchor);
        }
        let part = self.maker.part();
        let malformed = |fault| AppraiseError::MalformedEndorsements { part, fault };
        let root = Certificate::parse(&content.root.0).map_err(malformed)?;
        let list = Crl::parse(&content.revoked).map_err(malformed)?;
        if !self.maker.signed(&root, &list) {
            return Err(AppraiseError::EndorsementSignature { part });
        }
        let is_newer = |known: &Crl| list.this_update >= known.this_update;
        if self.lists.get(&anchor.id()).is_none_or(is_newer) {
            self.lists.insert(anchor.id(), list);
        }
        Ok(())
    }

    pub(crate) fn calendar(&self) -> impl Iterator<Item = Expiry> {
        let line = |(root, list): (&AnchorId, &Crl)| Expiry {
            at: list.until,
            item: ExpiryItem::Revocations(*root),
        };
        self.lists.iter().map(line)
    }

    /// Whatever the policy says, and however old the list is: who is on it is refused.
    pub(crate) fn not_revoked(
        &self,
        anchor: AnchorId,
        certificates: &[Der],
        trail: &mut Trail,
    ) -> Result<(), AppraiseError> {
        let Some(list) = self.lists.get(&anchor) else {
            trail.skip(Step::Revocation, || "there is no list of revoked keys".to_owned());
            return Ok(());
        };
        let parsed: Result<Vec<_>, _> =
            certificates.iter().map(|certificate| Certificate::parse(&certificate.0)).collect();
        let outcome = match parsed {
            Err(fault) => Err(AppraiseError::MalformedCertificate { fault }),
            Ok(parsed) if parsed.iter().any(|found| list.names(found)) => {
                Err(AppraiseError::CertificateRevoked)
            }
            Ok(_) => Ok(()),
        };
        let made = list.this_update;
        trail.check(Step::Revocation, outcome, |()| format!("not in the list made at {made}"))
    }

    /// Whether there is a current list, if the policy demands one. Answers until when what rests
    /// on it holds, and by which grace.
    pub(crate) fn demanded(
        &self,
        anchor: AnchorId,
        demand: Demand,
        trail: &mut Trail,
    ) -> Result<(Time, Option<Grace>), AppraiseError> {
        let known = self.lists.get(&anchor);
        if demand.rule == RevocationDemand::IfPresent {
            trail.skip(Step::Endorsements, || match known {
                Some(known) => format!("a list until {} is not demanded", known.until),
                None => "no list, and none is demanded".to_owned(),
            });
            return Ok((Time(u64::MAX), None));
        }
        let part = self.maker.part();
        let found = known.ok_or(AppraiseError::MissingRevocations { anchor }).and_then(|known| {
            let grace = endorse::grace(part, known.until, demand.grace_seconds, demand.now)?;
            Ok((grace.map_or(known.until, |grace| grace.until), grace))
        });
        trail.check(Step::Endorsements, found, |(until, grace)| match grace {
            None => format!("a list until {until}"),
            Some(grace) => format!("a list that expired at {}, grace until {until}", grace.expired),
        })
    }
}
