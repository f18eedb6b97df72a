//! A network's attestation CA, in a directory: it certifies that an attestation key lives in the
//! same TPM as an endorsement key that a manufacturer certified, and takes certificates back.
//!
//! It never sees a TPM. What it is shown are files, and it believes only who opens its challenge,
//! once and in time.

mod issue;
mod record;

use std::path::Path;

use heirloom_attest::tpm::{
    AkIdentity, AkPublic, CredentialSeed, EkKind, EkPublic, Manufacturers, make_credential,
    verify_ek_certificate,
};
use heirloom_launcher::files;
use heirloom_launcher::randomness::system_randomness;
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Certificate, Endorsements, RevokedKeys, TrustAnchor};
use heirloom_model::identifier::PlatformId;
use heirloom_model::wire;
use heirloom_tpm::machine::enrolment::{
    EnrolmentAnswer, EnrolmentChallenge, EnrolmentRequest, EnrolmentSecret,
};
use heirloom_tpm::machine::state::CertificateChain;
use zeroize::Zeroizing;

pub use self::record::{Certified, EndorsementKeys, certified};
use self::record::{Pending, Rules};
use crate::error::PlatformdError;

/// Why a key is not certified, or a certificate not taken back.
#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    /// A key or certificate in the request, or of the manufacturers, is not what it should be.
    #[error("the request is refused")]
    Request(#[from] heirloom_attest::tpm::TpmError),
    /// The request names another machine than its endorsement key.
    #[error("the request says that the machine is {said}, its endorsement key says {found}")]
    OtherMachine {
        /// In the request.
        said: PlatformId,
        /// By the endorsement key.
        found: PlatformId,
    },
    /// The endorsement key is of another kind than those that name machines in this network.
    #[error(
        "this CA takes endorsement keys of kind {}, and this one is of {found}: a TPM has one of \
         each, and would be two machines",
        demanded.name()
    )]
    EndorsementKind {
        /// What the CA was founded for.
        demanded: EndorsementKeys,
        /// In the request.
        found: EkKind,
    },
    /// The attestation key is of another kind than those of our machines.
    #[error("the attestation key is not of P-256")]
    KeyKind,
    /// The answer came too late.
    #[error("the challenge was made at {made}, and it is {now}: ask for another one")]
    ChallengeExpired {
        /// When it was made.
        made: Time,
        /// By the clock of the CA.
        now: Time,
    },
    /// The answer is not the secret that was asked for.
    #[error(
        "this is not the answer to the newest challenge of this key: answer that one; if it is, the \
         two keys are not in one TPM"
    )]
    WrongAnswer,
    /// Nothing was asked, or it was answered.
    #[error(
        "no challenge of this key waits for an answer: it was answered, or never made; ask for one"
    )]
    NotChallenged,
    /// The CA never certified a key of the machine.
    #[error("this CA certified no key of {platform}")]
    NeverCertified {
        /// The machine.
        platform: PlatformId,
    },
    /// The machine was given up.
    #[error("{platform} was given up at {at}, for ever: this CA certifies no key of it any more")]
    GivenUp {
        /// The machine.
        platform: PlatformId,
        /// When.
        at: Time,
    },
    /// One machine has as many certificates as it may have at a time.
    #[error(
        "{platform} has {limit} certificates that have not ended: a machine needs one, and so many \
         of one could not be taken back with those of others"
    )]
    TooManyOfMachine {
        /// The machine.
        platform: PlatformId,
        /// How many it may have.
        limit: usize,
    },
    /// It issued as many certificates as it may.
    #[error("the CA has issued {limit} certificates: found another one")]
    TooManyCertified {
        /// How many it may.
        limit: usize,
    },
    /// So many keys do not fit on a list.
    #[error("more than {limit} keys are revoked: found another CA")]
    TooManyRevoked {
        /// How many fit.
        limit: usize,
    },
    /// Certificates could not be made.
    #[error("a certificate could not be made")]
    Issue(#[from] rcgen::Error),
}

const KEY: &str = "key.pem";
const ANCHOR: &str = "anchor";
const ANCHOR_WHAT: &str = "anchor of an attestation CA";

/// Founds an attestation CA in a directory that has none: in which there is no key. The key comes
/// last, so that what a crash left half founded is founded by the same command.
pub fn found(
    directory: &Path,
    endorsement_keys: EndorsementKeys,
    now: Time,
) -> Result<TrustAnchor, PlatformdError> {
    files::create_private_directory(directory)?;
    files::refuse_present(&directory.join(KEY))?;
    let (key, certificate) = issue::found(now)?;
    let anchor = TrustAnchor::Tpm(certificate);
    Rules { endorsement_keys }.write(directory)?;
    files::replace(&directory.join(ANCHOR), &wire::encode(&anchor))?;
    files::create(&directory.join(KEY), key.as_bytes())?;
    Ok(anchor)
}

/// Writes the challenge for a request, and keeps the secret that answers it.
pub fn challenge(
    directory: &Path,
    request: &EnrolmentRequest,
    manufacturers: &[Certificate],
    now: Time,
) -> Result<EnrolmentChallenge, PlatformdError> {
    let (endorsement, attestation) = verified(directory, request, manufacturers, now)?;
    let secret = random();
    let seed = CredentialSeed::new(*random());
    let credential = make_credential(&endorsement, &attestation.name(), secret.as_slice(), &seed)
        .map_err(CertifyError::from)?;
    let path = Pending::path(directory, &endorsement.platform(), &attestation.name());
    Pending::new(EnrolmentSecret::new(*secret), now).write(&path)?;
    Ok(EnrolmentChallenge { identity: credential.id_object, seed: credential.encrypted_secret })
}

/// Certifies the attestation key of a request whose challenge was answered.
pub fn certify(
    directory: &Path,
    request: &EnrolmentRequest,
    manufacturers: &[Certificate],
    answer: &EnrolmentAnswer,
    now: Time,
) -> Result<CertificateChain, PlatformdError> {
    let (endorsement, attestation) = verified(directory, request, manufacturers, now)?;
    let (platform, name) = (endorsement.platform(), attestation.name());
    let point = attestation.key().p256_point().ok_or(CertifyError::KeyKind)?;
    Pending::answered(&Pending::path(directory, &platform, &name), &answer.secret, now)?;
    let issuer = issue::issuer(directory, now)?;
    let mut serial = [0; 16];
    system_randomness()(&mut serial);
    // Positive, as serial numbers are, and never shorter than it looks.
    serial[0] = (serial[0] & 0x3f) | 0x40;
    let certified = Certified {
        platform,
        name: name.as_bytes().to_vec(),
        serial: serial.to_vec(),
        issued: now,
        until: issue::certificate_ends(now),
    };
    certified.write(directory)?;
    let identity = AkIdentity { platform, name };
    let certificate = issue::certificate(&issuer, &identity, point, &serial, now)?;
    Ok(CertificateChain { certificates: vec![Certificate(certificate)] })
}

/// Takes back every certificate of a machine, for ever. The list says so from now on.
pub fn revoke(
    directory: &Path,
    platform: &PlatformId,
    now: Time,
) -> Result<Endorsements, PlatformdError> {
    let all = certified(directory)?;
    let of_machine: Vec<_> = all.iter().filter(|one| one.platform == *platform).collect();
    if of_machine.is_empty() {
        return Err(CertifyError::NeverCertified { platform: *platform }.into());
    }
    for one in of_machine {
        one.revoke(directory, now)?;
    }
    revocations(directory, now)
}

/// The list of what was revoked, made anew.
pub fn revocations(directory: &Path, now: Time) -> Result<Endorsements, PlatformdError> {
    let mut revoked = Vec::new();
    for one in certified(directory)? {
        if let Some(at) = one.revoked(directory)? {
            revoked.push((one, at));
        }
    }
    let anchor: TrustAnchor = files::read_value(&directory.join(ANCHOR))?;
    let TrustAnchor::Tpm(root) = anchor else {
        let path = directory.join(ANCHOR);
        return Err(PlatformdError::NotPem { path, what: ANCHOR_WHAT });
    };
    let revoked = issue::list(&issue::issuer(directory, now)?, &revoked, now)?;
    Ok(Endorsements::Tpm(RevokedKeys { root: Certificate(root), revoked }))
}

/// Reads certificates of manufacturers: PEM, one or more.
pub fn read_manufacturers(path: &Path) -> Result<Vec<Certificate>, PlatformdError> {
    const BYTES_MAX: usize = 256 * 1024;
    let text = files::read_text(path, BYTES_MAX)?;
    let not_pem = || PlatformdError::NotPem { path: path.to_owned(), what: "certificates in PEM" };
    let parsed = pem::parse_many(text.as_bytes()).map_err(|_| not_pem())?;
    if parsed.is_empty() || parsed.iter().any(|one| one.tag() != "CERTIFICATE") {
        return Err(not_pem());
    }
    Ok(parsed.into_iter().map(|one| Certificate(one.into_contents())).collect())
}

/// Both keys, after the manufacturer's certificate and the attributes of both were checked.
fn verified(
    directory: &Path,
    request: &EnrolmentRequest,
    manufacturers: &[Certificate],
    now: Time,
) -> Result<(EkPublic, AkPublic), PlatformdError> {
    let rules = Rules::read(directory)?;
    let refused = CertifyError::Request;
    let endorsement = EkPublic::parse(&request.endorsement_key).map_err(refused)?;
    rules.endorsement_keys.admit(endorsement.kind())?;
    let makers = Manufacturers::of(manufacturers, now).map_err(refused)?;
    let certificate = &request.endorsement_certificate;
    let verified =
        verify_ek_certificate(&makers, certificate, &endorsement, now).map_err(refused)?;
    if verified.platform() != request.platform {
        let (said, found) = (request.platform, verified.platform());
        return Err(CertifyError::OtherMachine { said, found }.into());
    }
    let attestation = AkPublic::parse(&request.attestation_key).map_err(refused)?;
    record::admit(&certified(directory)?, directory, &verified.platform(), now)?;
    Ok((endorsement, attestation))
}

fn random() -> Zeroizing<[u8; 32]> {
    let mut bytes = Zeroizing::new([0; 32]);
    system_randomness()(bytes.as_mut_slice());
    bytes
}
