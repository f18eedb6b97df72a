//! Evidence, endorsements and trust anchors (RFC 9334 §8).

use minicbor::{Decode, Encode};

use crate::digest::{AnchorId, ChannelDigest, DigestOf, EvidenceDigest, sha256};
use crate::limit::{ANCHOR_BYTES_MAX, ENDORSEMENTS_BYTES_MAX, EVIDENCE_BYTES_MAX};
use crate::signature::PublicKey;
use crate::{context, fixed_bytes, wire};

fixed_bytes! {
    /// What an attester put into its evidence: 64 bytes of its own choice.
    ReportData[64];
    /// Whom a local report is addressed to (SGX: TARGETINFO, Intel SDM volume 3D §37.16).
    ReportTarget[512];
    /// A local attestation report (SGX: REPORT, Intel SDM volume 3D §37.15). Only the enclave that
    /// it is addressed to, on the CPU that made it, can check it.
    LocalReport[432];
}

/// Signed claims of an attester about itself.
///
/// Quotes are malleable outside their signed part, so no digest of evidence identifies anything
/// but a byte string.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Evidence {
    /// An SGX quote, version 3, as the DCAP quoting enclave makes it.
    #[n(0)]
    SgxDcap(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
}

/// What manufacturers say about attesters.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Endorsements {
    /// Intel's collateral for DCAP quotes of one platform family.
    #[n(0)]
    SgxDcap(#[n(0)] DcapCollateral),
}

/// Collateral of one FMSPC and PCK CA, as Intel's provisioning service (version 4) hands it out.
/// Everything in it is signed by the manufacturer and checked at appraisal.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct DcapCollateral {
    /// PEM chain of the issuer of the PCK CRL.
    #[n(0)]
    pub pck_crl_issuer_chain: String,
    /// DER of the root CA's CRL.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub root_ca_crl: Vec<u8>,
    /// DER of the PCK CA's CRL.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub pck_crl: Vec<u8>,
    /// PEM chain of the TCB signing key.
    #[n(3)]
    pub tcb_info_issuer_chain: String,
    /// The exact `tcbInfo` JSON that is signed.
    #[n(4)]
    pub tcb_info: String,
    /// ECDSA P-256 signature over `tcb_info`, as r and s.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub tcb_info_signature: Vec<u8>,
    /// PEM chain of the QE identity signing key.
    #[n(6)]
    pub qe_identity_issuer_chain: String,
    /// The exact `enclaveIdentity` JSON that is signed.
    #[n(7)]
    pub qe_identity: String,
    /// ECDSA P-256 signature over `qe_identity`, as r and s.
    #[n(8)]
    #[cbor(with = "minicbor::bytes")]
    pub qe_identity_signature: Vec<u8>,
}

/// Whose word is believed about attesters.
#[derive(Clone, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub enum TrustAnchor {
    /// The DER certificate of an SGX provisioning root CA.
    #[n(0)]
    SgxDcap(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
}

impl TrustAnchor {
    /// SHA-256 of the anchor's certificate.
    pub fn id(&self) -> AnchorId {
        let Self::SgxDcap(certificate) = self;
        AnchorId::new(sha256(&[certificate]))
    }
}

impl Evidence {
    /// Digest of these exact bytes, for references in logs. Not an identity.
    pub fn digest(&self) -> EvidenceDigest {
        EvidenceDigest::of(wire::encode(self).as_slice())
    }
}

impl ReportData {
    /// What evidence for a statement carries: its kind, payload and the key that signs it.
    pub fn for_statement(kind: u8, payload: &[u8], key: &PublicKey) -> Self {
        let payload = sha256(&[payload]);
        Self::hashed(&[context::EVIDENCE_STATEMENT, &[kind], &payload, key.as_bytes()])
    }

    /// What evidence for a session carries: the role, the asker's nonce, the channel's exporter
    /// and the key that authenticated the channel.
    pub fn for_session(
        role: SessionRole,
        nonce: &crate::digest::Nonce,
        exporter: &[u8; 32],
        key: &PublicKey,
    ) -> Self {
        let context = match role {
            SessionRole::Initiator => context::EVIDENCE_SESSION_INITIATOR,
            SessionRole::Responder => context::EVIDENCE_SESSION_RESPONDER,
        };
        Self::hashed(&[context, nonce.as_bytes(), exporter, key.as_bytes()])
    }

    /// SHA-256 of the parts in the first half, zeros in the second.
    pub(crate) fn hashed(parts: &[&[u8]]) -> Self {
        let mut bytes = [0; 64];
        let (head, _) = bytes.split_at_mut(32);
        head.copy_from_slice(&sha256(parts));
        Self::new(bytes)
    }
}

impl ChannelDigest {
    /// One channel: what both ends know and nobody else could have.
    pub fn of_channel(exporter: &[u8; 32], initiator: &PublicKey, responder: &PublicKey) -> Self {
        Self::new(sha256(&[context::CHANNEL, exporter, initiator.as_bytes(), responder.as_bytes()]))
    }
}

/// A side of a session. Evidence of one side is worthless on the other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SessionRole {
    /// The side that connected.
    Initiator,
    /// The side that accepted.
    Responder,
}

wire! {
    Evidence: "evidence", EVIDENCE_BYTES_MAX;
    Endorsements: "endorsements", ENDORSEMENTS_BYTES_MAX;
    TrustAnchor: "trust anchor", ANCHOR_BYTES_MAX;
}
