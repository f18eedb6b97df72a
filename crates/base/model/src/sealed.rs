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
use crate::identifier::{DomainId, PlatformId};
use crate::limit::SEALED_BYTES_MAX;
use crate::measurement::{Measurement, MrSigner};
use crate::{fixed_bytes, wire};

/// The one format version that this release writes.
pub const SEALED_FORMAT: u8 = 1;

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
}

impl SealedHeader {
    /// The generations inside.
    pub fn generations(&self) -> RangeInclusive<Generation> {
        self.first..=self.last
    }
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
