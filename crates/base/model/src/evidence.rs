//! Evidence, endorsements and trust anchors (RFC 9334 §8).

use std::ops::Range;

use minicbor::{Decode, Encode};

use crate::digest::{AnchorId, ChannelDigest, DigestOf, EvidenceDigest, HostAuthority, sha256};
use crate::limit::{ANCHOR_BYTES_MAX, ENDORSEMENTS_BYTES_MAX, EVIDENCE_BYTES_MAX};
use crate::measurement::{LaunchedCode, MrSigner, Register32, TeeKind};
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
    /// A TDX quote, version 4 or 5, as the DCAP quoting enclave makes it.
    #[n(1)]
    TdxDcap(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// An SEV-SNP report and the certificates of its key.
    #[n(2)]
    Snp(#[n(0)] SnpEvidence),
    /// A Nitro attestation document: `COSE_Sign1`, tagged or not.
    #[n(3)]
    Nitro(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// A TPM quote, and what the measured launcher says about what it launched.
    #[n(4)]
    Tpm(#[n(0)] TpmEvidence),
    /// A quote by a virtual TPM whose key the report of its confidential machine names.
    #[n(5)]
    Vtpm(#[n(0)] VtpmEvidence),
}

/// An SEV-SNP report (AMD 56860, ATTESTATION REPORT).
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SnpEvidence {
    /// The report: 1184 bytes.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub report: Vec<u8>,
    /// DER certificates: the key that signed it (VCEK or VLEK), then its issuer. The root is a
    /// trust anchor, and never taken from here.
    #[n(1)]
    pub certificates: Vec<Certificate>,
}

/// A TPM quote about a machine whose launcher answers for one process.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct TpmEvidence {
    /// The quote: `TPMS_ATTEST` (TPM 2.0 part 2, 10.12.12).
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub attest: Vec<u8>,
    /// Its signature: `TPMT_SIGNATURE` (TPM 2.0 part 2, 11.3.4).
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub signature: Vec<u8>,
    /// DER certificates: of the attestation key, then of its issuers below the trust anchor.
    #[n(2)]
    pub certificates: Vec<Certificate>,
    /// The registers that were quoted, by index.
    #[n(3)]
    pub registers: Vec<PcrValue>,
    /// What the launcher launched.
    #[n(4)]
    pub launch: LaunchClaims,
    /// What the attester asked to be attested. A quote has room for one digest, which covers this
    /// and [`Self::launch`].
    #[n(5)]
    pub report_data: ReportData,
}

/// What a measured launcher says about a process that it launched.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct LaunchClaims {
    /// The bundle.
    #[n(0)]
    pub measurement: LaunchedCode,
    /// Who signed it.
    #[n(1)]
    pub signer: MrSigner,
    /// The signer's number for the product.
    #[n(2)]
    pub product_id: u16,
    /// The signer's security version of the code.
    #[n(3)]
    pub isv_svn: u16,
    /// Whether the process can be read from outside.
    #[n(4)]
    pub debug: bool,
    /// Who approves what the machine boots: the TPM gives the machine's secret, and with it the
    /// keys that the process seals with, to whatever this one signs.
    #[n(5)]
    pub authority: HostAuthority,
}

/// A quote by a virtual TPM, bound to the report of its confidential machine.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct VtpmEvidence {
    /// What the firmware below the machine left in the TPM: the machine's report, and the runtime
    /// data whose digest the report carries.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub hcl_report: Vec<u8>,
    /// As in [`SnpEvidence::certificates`].
    #[n(1)]
    pub certificates: Vec<Certificate>,
    /// As in [`TpmEvidence::attest`].
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub attest: Vec<u8>,
    /// As in [`TpmEvidence::signature`].
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub signature: Vec<u8>,
    /// As in [`TpmEvidence::registers`].
    #[n(4)]
    pub registers: Vec<PcrValue>,
    /// What the attester asked to be attested.
    #[n(5)]
    pub report_data: ReportData,
}

/// PCR 0 to 15: those that firmware, boot loader and launcher extend. The others can be reset while
/// the machine runs.
pub const BOOT_REGISTERS: Range<u8> = 0..16;

/// One SHA-256 register of a TPM.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
pub struct PcrValue {
    /// Which, from 0 to 23.
    #[n(0)]
    pub index: u8,
    /// Its value.
    #[n(1)]
    pub value: Register32,
}

/// A DER certificate. Nothing is known about it.
#[derive(Clone, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(transparent)]
pub struct Certificate(
    /// The bytes.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub Vec<u8>,
);

/// What manufacturers say about attesters.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub enum Endorsements {
    /// Intel's collateral for DCAP quotes of one platform family.
    #[n(0)]
    SgxDcap(#[n(0)] DcapCollateral),
    /// Intel's collateral for TDX quotes of one platform family.
    #[n(1)]
    TdxDcap(#[n(0)] DcapCollateral),
    /// AMD's list of revoked keys of one generation.
    #[n(2)]
    Snp(#[n(0)] RevokedKeys),
    /// An attestation CA's list of revoked attestation keys of TPMs.
    #[n(3)]
    Tpm(#[n(0)] RevokedKeys),
}

/// What a root says about keys that it, or who it certified, takes back.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct RevokedKeys {
    /// DER of the root (AMD's ARK, or the attestation CA) that signed the list; must be a trust
    /// anchor.
    #[n(0)]
    pub root: Certificate,
    /// DER of the certificate revocation list.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub revoked: Vec<u8>,
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
    /// The DER certificate of an SGX provisioning root CA, for SGX and TDX.
    #[n(0)]
    SgxDcap(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// The DER certificate of the root key (ARK) of one generation of SEV-SNP machines.
    #[n(1)]
    Snp(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// The DER certificate of a root of Nitro enclaves.
    #[n(2)]
    Nitro(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
    /// The DER certificate of a network's attestation CA, which certifies the attestation keys of
    /// TPMs after it has seen that key and endorsement key are in one TPM.
    #[n(3)]
    Tpm(
        #[n(0)]
        #[cbor(with = "minicbor::bytes")]
        Vec<u8>,
    ),
}

impl TrustAnchor {
    /// SHA-256 of the anchor's certificate.
    pub fn id(&self) -> AnchorId {
        AnchorId::new(sha256(&[self.certificate()]))
    }

    /// The DER certificate.
    pub fn certificate(&self) -> &[u8] {
        match self {
            Self::SgxDcap(der) | Self::Snp(der) | Self::Nitro(der) | Self::Tpm(der) => der,
        }
    }
}

impl LaunchClaims {
    /// The qualifying data of a quote that vouches for these claims and this report data.
    pub fn qualify(&self, report_data: &ReportData) -> [u8; 32] {
        let claims = wire::encode(self);
        sha256(&[context::EVIDENCE_TPM, report_data.as_bytes(), &claims])
    }
}

impl Evidence {
    /// What made it.
    pub fn kind(&self) -> TeeKind {
        match self {
            Self::SgxDcap(_) => TeeKind::Sgx,
            Self::TdxDcap(_) => TeeKind::Tdx,
            Self::Snp(_) => TeeKind::Snp,
            Self::Nitro(_) => TeeKind::Nitro,
            Self::Tpm(_) => TeeKind::Tpm,
            Self::Vtpm(_) => TeeKind::Vtpm,
        }
    }

    /// Digest of these exact bytes, for references in logs. Not an identity.
    pub fn digest(&self) -> EvidenceDigest {
        EvidenceDigest::of(wire::encode(self).as_slice())
    }
}

impl ReportData {
    /// The qualifying data of a quote by a virtual TPM that vouches for this report data.
    pub fn qualify_vtpm(&self) -> [u8; 32] {
        sha256(&[context::EVIDENCE_VTPM, self.as_bytes()])
    }

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
    LaunchClaims: "launch claims", 256;
    Evidence: "evidence", EVIDENCE_BYTES_MAX;
    Endorsements: "endorsements", ENDORSEMENTS_BYTES_MAX;
    TrustAnchor: "trust anchor", ANCHOR_BYTES_MAX;
}
