//! What manufacturers say about families of platforms, and until when.
//!
//! Anybody may publish endorsements: they are signed by the manufacturer. Each part's signature
//! is checked up to the root when they arrive, so that forged ones cannot push genuine ones aside;
//! paths, revocation and dates are judged again at each appraisal, at its time.

use std::fmt;

use heirloom_model::counter::Time;
use heirloom_model::digest::{AnchorId, sha256};
use heirloom_model::evidence::{DcapCollateral, Endorsements, TrustAnchor};
use heirloom_model::measurement::TeeKind;
use heirloom_model::wire;

use crate::error::{AppraiseError, EndorsementPart};
use crate::pki::{self, Certificate, Crl, Window};
use crate::result::Grace;

/// A family of platforms that share endorsements.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Family {
    /// SGX or TDX, which have endorsements of their own.
    pub kind: TeeKind,
    /// The root that vouches for it.
    pub anchor: AnchorId,
    /// Intel's number of the platform's make (FMSPC).
    pub fmspc: [u8; 6],
    /// SHA-256 of the name of the CA that issues its platforms' certificates, in DER.
    pub issuer: [u8; 32],
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, fmspc) = (self.kind, hex::encode_upper(self.fmspc));
        write!(f, "{kind} with FMSPC {fmspc} under root {}", self.anchor)
    }
}

/// One line of the expiry calendar.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Expiry {
    /// From this second on it does not count.
    pub at: Time,
    /// What expires.
    pub item: ExpiryItem,
}

/// What expires.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum ExpiryItem {
    /// A trust anchor.
    Anchor(AnchorId),
    /// A part of the endorsements of a family.
    Endorsements(Family, EndorsementPart),
    /// The list of revoked keys under a root.
    Revocations(AnchorId),
}

/// Endorsements of one family whose signatures are checked up to their own root.
#[derive(Clone, Debug)]
pub(crate) struct Collateral {
    pub(crate) family: Family,
    /// SHA-256 of its exact encoding.
    pub(crate) digest: [u8; 32],
    pub(crate) content: DcapCollateral,
    pub(crate) pck_crl: Crl,
    pub(crate) root_crl: Crl,
    pub(crate) tcb_signer: Certificate,
    /// The time windows of all parts, in the order in which they are judged.
    parts: Vec<(EndorsementPart, Window)>,
    /// The evaluation data numbers of TCB info and quoting enclave identity.
    evaluations: [u64; 2],
}

impl Collateral {
    /// Parses endorsements and checks every signature in them.
    pub(crate) fn parse(kind: TeeKind, content: DcapCollateral) -> Result<Self, AppraiseError> {
        use EndorsementPart as Part;
        let (tcb_signer, root) = issuer(Part::TcbInfoIssuer, &content.tcb_info_issuer_chain)?;
        signed_by(
            &tcb_signer,
            Part::TcbInfo,
            content.tcb_info.as_bytes(),
            &content.tcb_info_signature,
        )?;
        let (qe_signer, qe_root) =
            issuer(Part::QeIdentityIssuer, &content.qe_identity_issuer_chain)?;
        signed_by(
            &qe_signer,
            Part::QeIdentity,
            content.qe_identity.as_bytes(),
            &content.qe_identity_signature,
        )?;
        let (pck_ca, pck_root) = issuer(Part::PckCrlIssuer, &content.pck_crl_issuer_chain)?;
        agree(qe_root.der == root.der, Part::QeIdentityIssuer)?;
        agree(pck_root.der == root.der, Part::PckCrlIssuer)?;
        let pck_crl = crl(Part::PckCrl, &content.pck_crl, &pck_ca)?;
        let root_crl = crl(Part::RootCrl, &content.root_ca_crl, &root)?;
        let (tcb_info, fmspc, evaluation) = tcb_info(kind, &content.tcb_info)?;
        let identity = Document::parse(Part::QeIdentity, &content.qe_identity)?;
        let qe_identity = identity.window()?;
        let evaluations = [evaluation, identity.evaluation()?];
        let family = Family {
            kind,
            anchor: TrustAnchor::SgxDcap(root.der).id(),
            fmspc,
            issuer: sha256(&[&pck_ca.subject]),
        };
        // A list that is newer than our own clock is no reason to refuse: it only revokes more.
        let since_ever = |crl: &Crl| Window { since: Time(0), until: crl.until };
        let parts = vec![
            (Part::QeIdentity, qe_identity),
            (Part::QeIdentityIssuer, qe_signer.window),
            (Part::TcbInfo, tcb_info),
            (Part::TcbInfoIssuer, tcb_signer.window),
            (Part::RootCrl, since_ever(&root_crl)),
            (Part::PckCrl, since_ever(&pck_crl)),
            (Part::PckCrlIssuer, pck_ca.window),
        ];
        let digest = sha256(&[&wire::encode(&Endorsements::SgxDcap(content.clone()))]);
        Ok(Self { family, digest, content, pck_crl, root_crl, tcb_signer, parts, evaluations })
    }

    /// The newest of each part, these endorsements being the ones that came last.
    ///
    /// Parts are replaced one by one: whoever bundles fresh TCB info with the revocation list of
    /// last week does not bring back who was revoked since. The manufacturer signs texts of earlier
    /// evaluations again, with a later date; so the evaluation counts before the date.
    pub(crate) fn merged_into(self, known: &Self) -> Result<Self, AppraiseError> {
        let newer = |part| self.age(part) >= known.age(part);
        let mut content = known.content.clone();
        let new = self.content.clone();
        if newer(EndorsementPart::TcbInfo) {
            content.tcb_info = new.tcb_info;
            content.tcb_info_signature = new.tcb_info_signature;
            content.tcb_info_issuer_chain = new.tcb_info_issuer_chain;
        }
        if newer(EndorsementPart::QeIdentity) {
            content.qe_identity = new.qe_identity;
            content.qe_identity_signature = new.qe_identity_signature;
            content.qe_identity_issuer_chain = new.qe_identity_issuer_chain;
        }
        if self.root_crl.this_update >= known.root_crl.this_update {
            content.root_ca_crl = new.root_ca_crl;
        }
        if self.pck_crl.this_update >= known.pck_crl.this_update {
            content.pck_crl = new.pck_crl;
            content.pck_crl_issuer_chain = new.pck_crl_issuer_chain;
        }
        Self::parse(self.family.kind, content)
    }

    /// By what two texts of one part are compared.
    fn age(&self, wanted: EndorsementPart) -> (u64, Time) {
        let [tcb_info, qe_identity] = self.evaluations;
        let is_identity = wanted == EndorsementPart::QeIdentity;
        let found = self.parts.iter().find(|(part, _)| *part == wanted);
        let since = found.map_or(Time(0), |(_, window)| window.since);
        (if is_identity { qe_identity } else { tcb_info }, since)
    }

    /// The first second at which some part does not count any more.
    pub(crate) fn expires(&self) -> (EndorsementPart, Time) {
        let first = self.parts.iter().min_by_key(|(_, window)| window.until);
        first.map_or((EndorsementPart::TcbInfo, Time(0)), |(part, window)| (*part, window.until))
    }

    /// The time at which to verify: now, or the last second of these endorsements if they are
    /// expired and the policy's grace still lasts.
    pub(crate) fn moment(
        &self,
        now: Time,
        grace_seconds: u64,
    ) -> Result<(Time, Option<Grace>), AppraiseError> {
        self.not_of_the_future(now)?;
        let (part, expired) = self.expires();
        let Some(grace) = grace(part, expired, grace_seconds, now)? else {
            return Ok((now, None));
        };
        let nothing = AppraiseError::ExpiredEndorsements { part, expired };
        let last = expired.previous().ok_or(nothing)?;
        // Parts whose windows never overlapped have no last second.
        self.not_of_the_future(last)?;
        Ok((last, Some(grace)))
    }

    /// The calendar of its parts.
    pub(crate) fn calendar(&self) -> impl Iterator<Item = Expiry> {
        self.parts.iter().map(|(part, window)| Expiry {
            at: window.until,
            item: ExpiryItem::Endorsements(self.family, *part),
        })
    }

    fn not_of_the_future(&self, time: Time) -> Result<(), AppraiseError> {
        let early = self.parts.iter().find(|(_, window)| time < window.since);
        early.map_or(Ok(()), |(part, window)| {
            Err(AppraiseError::EndorsementsNotYetValid { part: *part, since: window.since })
        })
    }
}

/// Whether something that expires counts now: by itself, or by the policy's grace.
pub(crate) fn grace(
    part: EndorsementPart,
    expired: Time,
    grace_seconds: u64,
    now: Time,
) -> Result<Option<Grace>, AppraiseError> {
    let until = expired.after(grace_seconds);
    if now < expired {
        Ok(None)
    } else if now < until {
        Ok(Some(Grace { part, expired, until }))
    } else {
        Err(AppraiseError::ExpiredEndorsements { part, expired })
    }
}

/// Signer and root of a chain that must be exactly these two.
fn issuer(part: EndorsementPart, pem: &str) -> Result<(Certificate, Certificate), AppraiseError> {
    let chain = Certificate::parse_chain(pem.as_bytes())
        .map_err(|fault| AppraiseError::MalformedEndorsements { part, fault })?;
    let found = chain.len();
    let [signer, root] = <[Certificate; 2]>::try_from(chain)
        .map_err(|_| AppraiseError::EndorsementChainLength { part, found })?;
    if !root.signed_certificate(&signer) {
        return Err(AppraiseError::EndorsementSignature { part });
    }
    Ok((signer, root))
}

fn signed_by(
    signer: &Certificate,
    part: EndorsementPart,
    bytes: &[u8],
    signature: &[u8],
) -> Result<(), AppraiseError> {
    if signer.signed_bytes(bytes, signature) {
        return Ok(());
    }
    Err(AppraiseError::EndorsementSignature { part })
}

fn agree(agrees: bool, part: EndorsementPart) -> Result<(), AppraiseError> {
    if agrees { Ok(()) } else { Err(AppraiseError::EndorsementsDisagree { part }) }
}

fn crl(part: EndorsementPart, der: &[u8], ca: &Certificate) -> Result<Crl, AppraiseError> {
    let crl =
        Crl::parse(der).map_err(|fault| AppraiseError::MalformedEndorsements { part, fault })?;
    if !ca.signed_crl(&crl) {
        return Err(AppraiseError::EndorsementSignature { part });
    }
    Ok(crl)
}

/// The window, the family and the evaluation of a TCB info.
fn tcb_info(kind: TeeKind, json: &str) -> Result<(Window, [u8; 6], u64), AppraiseError> {
    let document = Document::parse(EndorsementPart::TcbInfo, json)?;
    // Intel's words are in capitals.
    agree(document.text("id")?.to_ascii_lowercase() == kind.name(), EndorsementPart::TcbInfo)?;
    let mut fmspc = [0; 6];
    hex::decode_to_slice(document.text("fmspc")?, &mut fmspc)
        .map_err(|_| document.malformed("the FMSPC is not 6 bytes"))?;
    Ok((document.window()?, fmspc, document.evaluation()?))
}

/// A JSON document of the manufacturer, whose signature is already checked.
struct Document {
    part: EndorsementPart,
    fields: serde_json::Value,
}

impl Document {
    fn parse(part: EndorsementPart, json: &str) -> Result<Self, AppraiseError> {
        let fields = serde_json::from_str(json)
            .map_err(|_| AppraiseError::MalformedEndorsements { part, fault: "not JSON" })?;
        Ok(Self { part, fields })
    }

    fn text(&self, name: &str) -> Result<&str, AppraiseError> {
        let value = self.fields.get(name).and_then(serde_json::Value::as_str);
        value.ok_or_else(|| self.malformed("a field is missing"))
    }

    fn evaluation(&self) -> Result<u64, AppraiseError> {
        let value = self.fields.get("tcbEvaluationDataNumber").and_then(serde_json::Value::as_u64);
        value.ok_or_else(|| self.malformed("a field is missing"))
    }

    fn window(&self) -> Result<Window, AppraiseError> {
        let date = |name| {
            let date = pki::parse_date(self.text(name)?);
            date.ok_or_else(|| self.malformed("a date is malformed"))
        };
        // `nextUpdate` is the last second.
        Ok(Window { since: date("issueDate")?, until: date("nextUpdate")?.after(1) })
    }

    fn malformed(&self, fault: &'static str) -> AppraiseError {
        AppraiseError::MalformedEndorsements { part: self.part, fault }
    }
}
