//! How the attestation key of a machine comes by its certificate, in files that people carry.
//!
//! The machine shows both keys (request). The attestation CA checks the manufacturer's certificate
//! of the endorsement key, and encrypts a secret so that only a TPM with *both* keys opens it
//! (challenge). The machine shows the secret (answer), and gets its certificate. Nobody who only
//! has files of another machine's TPM can answer.

use std::path::Path;

use heirloom_launcher::files;
use heirloom_model::evidence::Certificate;
use heirloom_model::identifier::{HostId, PlatformId};
use heirloom_model::secret::Secret;
use heirloom_model::wire;
use minicbor::{Decode, Encode};

use super::error::MachineError;
use super::state::{CERTIFICATES, CertificateChain, MachineRecord};
use super::{setup, spki};
use crate::client::Tpm;
use crate::credential::Credential;
use crate::error::TpmError;
use crate::key::{EndorsementKey, endorsement_certificate};

/// What a machine shows to an attestation CA. Nothing in it is secret or believed.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct EnrolmentRequest {
    /// The machine's name, for people.
    #[n(0)]
    pub host: HostId,
    /// The machine.
    #[n(1)]
    pub platform: PlatformId,
    /// The public endorsement key: `TPMT_PUBLIC`.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub endorsement_key: Vec<u8>,
    /// The manufacturer's certificate of it, in DER.
    #[n(3)]
    pub endorsement_certificate: Certificate,
    /// The public attestation key: `TPMT_PUBLIC`.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub attestation_key: Vec<u8>,
}

/// A secret for whoever has both keys in one TPM.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct EnrolmentChallenge {
    /// The content of `TPM2B_ID_OBJECT`.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub identity: Vec<u8>,
    /// The content of `TPM2B_ENCRYPTED_SECRET`.
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    pub seed: Vec<u8>,
}

/// The secret. It proves something once, to whoever made it, and is worth nothing afterwards.
#[derive(Decode, Encode)]
pub struct EnrolmentAnswer {
    /// The secret.
    #[n(0)]
    pub secret: EnrolmentSecret,
}

/// What an attestation CA encrypts for a TPM, and the TPM opens. It is written into files that
/// people carry, and does not print, copy or compare by habit.
pub struct EnrolmentSecret(Secret<32>);

impl EnrolmentSecret {
    /// Takes over random bytes.
    pub fn new(random: [u8; 32]) -> Self {
        Self(Secret::new(random))
    }

    /// Whether two are the same, in time that does not depend on their content.
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.same_as(&other.0)
    }
}

impl<C> Encode<C> for EnrolmentSecret {
    fn encode<W: minicbor::encode::Write>(
        &self,
        encoder: &mut minicbor::Encoder<W>,
        _context: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        self.0.expose(|bytes| encoder.bytes(bytes).map(|_| ()))
    }
}

impl<'b, C> Decode<'b, C> for EnrolmentSecret {
    fn decode(
        decoder: &mut minicbor::Decoder<'b>,
        _context: &mut C,
    ) -> Result<Self, minicbor::decode::Error> {
        let secret = Secret::from_slice(decoder.bytes()?);
        secret.map(Self).ok_or(minicbor::decode::Error::message("a secret has 32 bytes"))
    }
}

/// What the machine in a directory shows to an attestation CA. Its attestation key answers only on
/// an approved host, as everything here. Nothing here changes the TPM, so that a machine is enrolled
/// anew while it is served.
pub fn request(state: &Path, tpm: &Tpm) -> Result<EnrolmentRequest, MachineError> {
    tpm.startup()?;
    let record = MachineRecord::read(state)?;
    let kind = spki::kind(tpm)?;
    let certificate = endorsement_certificate(tpm, kind)?;
    let endorsement_key = EndorsementKey::open(tpm, kind)?.public().as_bytes().to_vec();
    let root = record.root(tpm)?;
    let secret = setup::peek(state, &record, tpm)?;
    let attestation_key = setup::attestation_key(&root, setup::attestation_value(&secret))?
        .public()
        .as_bytes()
        .to_vec();
    Ok(EnrolmentRequest {
        host: record.host.clone(),
        platform: record.platform,
        endorsement_key,
        endorsement_certificate: Certificate(certificate),
        attestation_key,
    })
}

/// Opens a challenge.
pub fn answer(
    state: &Path,
    tpm: &Tpm,
    challenge: &EnrolmentChallenge,
) -> Result<EnrolmentAnswer, MachineError> {
    tpm.startup()?;
    let record = MachineRecord::read(state)?;
    let endorsement = EndorsementKey::open(tpm, spki::kind(tpm)?)?;
    let root = record.root(tpm)?;
    let EnrolmentChallenge { identity, seed } = challenge.clone();
    let credential = Credential { identity, seed };
    let machine = setup::peek(state, &record, tpm)?;
    let secret = setup::attestation_key(&root, setup::attestation_value(&machine))?
        .activate(&endorsement, &credential)?;
    let secret = secret.expose(Secret::from_slice).ok_or(TpmError::Corrupt {
        subject: "the challenge",
        what: "its secret does not have 32 bytes",
    })?;
    Ok(EnrolmentAnswer { secret: EnrolmentSecret(secret) })
}

/// Installs the certificates of the attestation key.
pub fn install(state: &Path, tpm: &Tpm, chain: &CertificateChain) -> Result<(), MachineError> {
    tpm.startup()?;
    let record = MachineRecord::read(state)?;
    let root = record.root(tpm)?;
    let secret = setup::peek(state, &record, tpm)?;
    chain.expect_about(&setup::attestation_key(&root, setup::attestation_value(&secret))?)?;
    Ok(files::replace(&state.join(CERTIFICATES), &wire::encode(chain))?)
}

wire! {
    EnrolmentRequest: "request for a certificate", 16 * 1024;
    EnrolmentChallenge: "challenge of an attestation CA", 2 * 1024;
    EnrolmentAnswer: "answer to an attestation CA", 256;
}
