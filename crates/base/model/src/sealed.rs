//! What a keeper leaves on disk: self-describing sealed envelopes.
//!
//! The header is in the clear and authenticated. It records everything that derives the sealing
//! key again, so that a later security version opens what an earlier one sealed, and so that a
//! keeper that cannot open a file can say why.

use std::ops::RangeInclusive;

use minicbor::{Decode, Encode};

use crate::counter::{Generation, Serial};
use crate::digest::{Checksum, Nonce};
use crate::domain::LogPosition;
use crate::identifier::{DomainId, NodeId, PlatformId};
use crate::limit::SEALED_BYTES_MAX;
use crate::measurement::{Measurement, MrSigner};
use crate::{fixed_bytes, wire};

/// The one format version that this release writes.
pub const SEALED_FORMAT: u8 = 2;

fixed_bytes! {
    /// SGX: security version of the processor's microcode and firmware (CPUSVN).
    CpuSvn[16];
}

/// How a sealing key is derived from the platform: every input of the derivation.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub enum SealRecipe {
    /// SGX EGETKEY with KEYNAME = SEAL (SDM volume 3D, EGETKEY).
    #[n(0)]
    Sgx(#[n(0)] SgxSealRecipe),
    /// KDF over the secret that a TPM keeps for its machine.
    #[n(1)]
    Tpm(#[n(0)] TpmSealRecipe),
    /// SEV-SNP `SNP_GET_DERIVED_KEY`.
    #[n(2)]
    Snp(#[n(0)] SnpSealRecipe),
    /// Gramine's file of a seal key. Its inputs cannot be chosen; they are recorded so that it can
    /// be said why a key is another one.
    #[n(3)]
    Gramine(#[n(0)] GramineSealRecipe),
}

/// What derives a seal key from the secret that a TPM keeps for its machine. The measured launcher
/// mixes in measurement and mode of whoever asks; nobody can name another's.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct TpmSealRecipe {
    /// Which of the machine's secrets: each new one has the next number.
    #[n(0)]
    pub secret: u32,
    /// ISVSVN of the request; at most the code's own.
    #[n(1)]
    pub isv_svn: u16,
    /// Diversifies the key by purpose and file.
    #[n(2)]
    pub key_id: Nonce,
}

/// The fields of a request for a derived key (AMD 56860, `MSG_KEY_REQ`).
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SnpSealRecipe {
    /// Version of the request message, which decides what its fields mean. Never left to a library.
    #[n(0)]
    pub message_version: u32,
    /// Whether the key comes from the chip's key (0, VCEK) or from the migration root (1, VMRK).
    #[n(1)]
    pub root: u32,
    /// `GUEST_FIELD_SELECT`: what is mixed into the key.
    #[n(2)]
    pub fields: u64,
    /// Privilege level to mix in.
    #[n(3)]
    pub vmpl: u32,
    /// Guest security version to mix in; at most the launched one.
    #[n(4)]
    pub guest_svn: u32,
    /// Firmware version to mix in; at most the committed one, in every component.
    #[n(5)]
    pub tcb: u64,
    /// Diversifies the key by purpose and file, after the platform.
    #[n(6)]
    pub key_id: Nonce,
}

/// What Gramine's seal key depended on when it was used.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct GramineSealRecipe {
    /// ISVSVN of the enclave at that time.
    #[n(0)]
    pub isv_svn: u16,
    /// CPUSVN of the machine at that time.
    #[n(1)]
    pub cpu_svn: CpuSvn,
    /// Diversifies the key by purpose and file, after the platform.
    #[n(2)]
    pub key_id: Nonce,
}

impl SealRecipe {
    /// What diversifies the key by purpose and file.
    pub fn key_id(&self) -> &Nonce {
        match self {
            Self::Sgx(recipe) => &recipe.key_id,
            Self::Tpm(recipe) => &recipe.key_id,
            Self::Snp(recipe) => &recipe.key_id,
            Self::Gramine(recipe) => &recipe.key_id,
        }
    }
}

/// The fields of an SGX key request that matter for a seal key.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SgxSealRecipe {
    /// Whether the key belongs to the measurement or to its signer.
    #[n(0)]
    pub policy: SealPolicy,
    /// ISVSVN of the request; at most the enclave's own.
    #[n(1)]
    pub isv_svn: u16,
    /// CPUSVN of the request; at most the platform's current one, in every component.
    #[n(2)]
    pub cpu_svn: CpuSvn,
    /// Mask over ATTRIBUTES.FLAGS. Always includes INIT and DEBUG.
    #[n(3)]
    pub flags_mask: u64,
    /// Mask over ATTRIBUTES.XFRM.
    #[n(4)]
    pub xfrm_mask: u64,
    /// Mask over MISCSELECT.
    #[n(5)]
    pub misc_mask: u32,
    /// KEYID: diversifies the key by purpose and file.
    #[n(6)]
    pub key_id: Nonce,
}

/// To whom an SGX seal key belongs.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
#[cbor(index_only)]
pub enum SealPolicy {
    /// To exactly this measurement. The only policy that keepers use for keys.
    #[n(0)]
    Measurement,
    /// To every measurement of this signer. Exists because platforms offer it; keepers refuse it.
    #[n(1)]
    Signer,
}

/// What a sealed file is.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, Ord, PartialEq, PartialOrd)]
#[cbor(index_only)]
pub enum SealedPurpose {
    /// Master secrets of consecutive generations.
    #[n(0)]
    Keyring,
    /// A generation that is proposed and not yet committed. Never readable as a keyring.
    #[n(1)]
    ProposedGeneration,
    /// The highest serial, generation and log position that this keeper has seen.
    #[n(2)]
    Witness,
}

/// Everything about a sealed file but its content.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SealedHeader {
    /// [`SEALED_FORMAT`].
    #[n(0)]
    pub format: u8,
    /// What it is.
    #[n(1)]
    pub purpose: SealedPurpose,
    /// Whose keyring it belongs to.
    #[n(2)]
    pub domain: DomainId,
    /// First generation inside, for keyrings and proposals.
    #[n(3)]
    pub first: Generation,
    /// Last generation inside.
    #[n(4)]
    pub last: Generation,
    /// Grows with every write of the same purpose.
    #[n(5)]
    pub sequence: u64,
    /// The platform that sealed it.
    #[n(6)]
    pub platform: PlatformId,
    /// The code that sealed it.
    #[n(7)]
    pub measurement: Measurement,
    /// The signer of that code, for diagnosis.
    #[n(8)]
    pub signer: MrSigner,
    /// How to derive its key again.
    #[n(9)]
    pub recipe: SealRecipe,
    /// AEAD nonce, random.
    #[n(10)]
    #[cbor(with = "minicbor::bytes")]
    pub nonce: [u8; 12],
    /// The node whose keeper sealed it. Not measured: who runs as another node finds out here.
    #[n(11)]
    pub node: NodeId,
}

impl SealedHeader {
    /// The generations inside.
    pub fn generations(&self) -> RangeInclusive<Generation> {
        self.first..=self.last
    }
}

/// What stands at the same place in every format, this one or another. Nothing of it is
/// authenticated: it explains a refusal, and never permits anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SealedOrigin {
    /// As [`SealedHeader::format`].
    pub format: u8,
    /// As [`SealedHeader::measurement`].
    pub measurement: Measurement,
}

impl SealedOrigin {
    /// Reads it from a sealed file. None if that is no sealed file of any format.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > SEALED_BYTES_MAX {
            return None;
        }
        let AnyEnvelope { header } = minicbor::decode(bytes).ok()?;
        Some(Self { format: header.format, measurement: header.measurement })
    }
}

/// A [`SealedEnvelope`] whose other fields are passed over.
#[derive(Decode)]
struct AnyEnvelope {
    #[n(0)]
    header: AnyHeader,
}

/// A [`SealedHeader`] whose other fields are passed over.
#[derive(Decode)]
struct AnyHeader {
    #[n(0)]
    format: u8,
    #[n(7)]
    measurement: Measurement,
}

/// A sealed file: header, ciphertext, tag.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct SealedEnvelope {
    /// In the clear, authenticated as associated data.
    #[n(0)]
    pub header: SealedHeader,
    /// AES-256-GCM ciphertext and 16-byte tag.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub ciphertext: Vec<u8>,
}

/// What a keeper has seen and must never see less of. The content of a witness file.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Witness {
    /// How far it had followed the log.
    #[n(0)]
    pub position: LogPosition,
    /// The policy in force there; 0 before the first.
    #[n(1)]
    pub policy: Serial,
    /// The newest generation committed there.
    #[n(2)]
    pub committed: Option<WitnessedGeneration>,
}

/// A committed generation that a keeper has seen.
#[derive(Clone, Copy, Debug, Decode, Encode, Eq, PartialEq)]
pub struct WitnessedGeneration {
    /// The generation.
    #[n(0)]
    pub generation: Generation,
    /// The checksum of the keyring with it.
    #[n(1)]
    pub checksum: Checksum,
}

wire! {
    Witness: "witness", 256;
    SealedHeader: "sealed header", 1024;
    SealedEnvelope: "sealed file", SEALED_BYTES_MAX;
}
