//! Sealed files: what is left on disk, and why it cannot be opened.
//!
//! A file is an AES-256-GCM ciphertext under a key that only this code on this machine can derive
//! again. The header says how, in the clear, and is authenticated. Sealing uses the current
//! security versions; opening uses the recorded ones, so that a microcode or firmware update
//! loses nothing. Sealing to a signer is not done and not opened: whoever holds the signing key
//! would hold the keys.
//!
//! Sealing gives no freshness: an old file opens as well as a new one. See
//! [`keeper`](crate::keeper) for what is done about that.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce as AeadNonce, UnboundKey};
use heirloom_model::admin::{SealingAge, Unreadable};
use heirloom_model::context;
use heirloom_model::counter::Generation;
use heirloom_model::digest::{Nonce, sha256};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::measurement::TeeKind;
use heirloom_model::sealed::{
    SEALED_FORMAT, SealPolicy, SealRecipe, SealedEnvelope, SealedHeader, SealedOrigin,
    SealedPurpose, SgxSealRecipe,
};
use heirloom_model::wire;
use zeroize::Zeroizing;

use crate::intent::StoredFile;
use crate::kmac::kmac256;
use crate::port::{Platform, PlatformError, PlatformIdentity};

/// ATTRIBUTES.FLAGS that a seal key always depends on: INIT and DEBUG (SDM volume 3D, 37.7.1).
/// Without the second, a debug twin of the code could open what the code sealed.
pub const FLAGS_MASK_LEAST: u64 = 0b11;
/// The flags that this release seals to: INIT, DEBUG and MODE64BIT.
pub const FLAGS_MASK: u64 = 0b111;
/// ATTRIBUTES.XFRM that a seal key depends on: the legacy components that are always set.
/// Others change with the processor and the kernel, and would make an update a loss.
pub const XFRM_MASK: u64 = 0b11;
/// MISCSELECT that a seal key depends on: none, it changes with the kernel.
pub const MISC_MASK: u32 = 0;

/// What an SEV-SNP key of a keeper always depends on: guest policy, which says whether the guest
/// can be debugged, and measurement (AMD 56860, `GUEST_FIELD_SELECT`, bits 0 and 3).
pub const SNP_FIELDS_LEAST: u64 = 0b1001;

/// What a file is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Subject {
    /// What it is.
    pub purpose: SealedPurpose,
    /// Whose keyring it belongs to.
    pub domain: DomainId,
    /// The node whose keeper seals it.
    pub node: NodeId,
    /// First generation inside.
    pub first: Generation,
    /// Last generation inside.
    pub last: Generation,
    /// Grows with every write of the same purpose.
    pub sequence: u64,
}

/// Whose files a keeper opens. What it is told about itself is not measured; so what it sealed
/// once is not taken for its own by the same code under another name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Home<'a> {
    /// The domain.
    pub domain: &'a DomainId,
    /// The node.
    pub node: &'a NodeId,
}

/// A file that was opened: what its header says, and its content.
pub struct Opened {
    /// What it is about, authenticated.
    pub subject: Subject,
    /// Whether it was sealed at lower security versions than the present ones.
    pub age: SealingAge,
    /// The content.
    pub content: Zeroizing<Vec<u8>>,
}

/// Why a file was not opened.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// It cannot be opened by this code on this platform as it stands.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The platform did not say.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

/// Seals `content` to exactly this code on exactly this platform, at its current security
/// versions, and opens it once before it is handed out.
pub fn seal(
    platform: &dyn Platform,
    identity: &PlatformIdentity,
    subject: &Subject,
    content: &[u8],
) -> Result<Vec<u8>, PlatformError> {
    let mut nonce = [0; NONCE_LEN];
    platform.random(&mut nonce)?;
    let recipe = platform.seal_recipe(key_id(subject.purpose, &nonce))?;
    let header = SealedHeader {
        format: SEALED_FORMAT,
        purpose: subject.purpose,
        domain: subject.domain,
        first: subject.first,
        last: subject.last,
        sequence: subject.sequence,
        platform: identity.platform,
        measurement: identity.measurement,
        signer: identity.signer,
        recipe,
        nonce,
        node: subject.node.clone(),
    };
    let key = aead_key(platform, &header.recipe)?;
    let mut ciphertext = Vec::with_capacity(content.len().saturating_add(AES_256_GCM.tag_len()));
    ciphertext.extend_from_slice(content);
    key.seal_in_place_append_tag(
        AeadNonce::assume_unique_for_key(nonce),
        Aad::from(wire::encode(&header)),
        &mut ciphertext,
    )
    .map_err(|_| PlatformError::Unsupported("sealing a file of this size"))?;
    let bytes = wire::encode(&SealedEnvelope { header, ciphertext });
    // A file that does not open is worse than none: somebody would rely on it.
    let sealed = StoredFile { name: String::new(), bytes };
    let home = Home { domain: &subject.domain, node: &subject.node };
    match open(platform, identity, home, &sealed) {
        Ok(opened) if opened.subject == *subject && opened.content.as_slice() == content => {
            Ok(sealed.bytes)
        }
        Err(OpenError::Platform(error)) => Err(error),
        Ok(_) | Err(OpenError::Unreadable(_)) => {
            Err(PlatformError::Corrupt("what it sealed does not open".to_owned()))
        }
    }
}

/// Opens a file that this code sealed on this platform at `home`, or says why it cannot.
pub fn open(
    platform: &dyn Platform,
    identity: &PlatformIdentity,
    home: Home<'_>,
    stored: &StoredFile,
) -> Result<Opened, OpenError> {
    let corrupt = || OpenError::from(Unreadable::Corrupt { file: stored.name.clone() });
    // A file of another format may not decode; who sealed it and in which format it says in any.
    let origin = SealedOrigin::of(&stored.bytes).ok_or_else(corrupt)?;
    if let Some(reason) = foreign(identity, &origin, &stored.name) {
        return Err(reason.into());
    }
    let SealedEnvelope { header, ciphertext } =
        wire::decode(&stored.bytes).map_err(|_| corrupt())?;
    if let Some(reason) = diagnose(identity, home, &header, &stored.name) {
        return Err(reason.into());
    }
    let key = match aead_key(platform, &header.recipe) {
        Ok(key) => key,
        Err(error) => return Err(refused(&header, identity, &stored.name, error)),
    };
    let mut content = Zeroizing::new(ciphertext);
    let nonce = AeadNonce::assume_unique_for_key(header.nonce);
    let size = key
        .open_in_place(nonce, Aad::from(wire::encode(&header)), &mut content)
        .map_err(|_| corrupt())?
        .len();
    content.truncate(size);
    // Nothing that was sealed at higher versions opens: what differs is older.
    let is_current = platform.seal_recipe(*header.recipe.key_id())? == header.recipe;
    let age = if is_current { SealingAge::Current } else { SealingAge::Older };
    let SealedHeader { purpose, domain, node, first, last, sequence, .. } = header;
    let subject = Subject { purpose, domain, node, first, last, sequence };
    Ok(Opened { subject, age, content })
}

/// Whether other code sealed a file, or sealed it in another format. Other code comes first: its
/// files are not ours to open in any format.
fn foreign(own: &PlatformIdentity, origin: &SealedOrigin, file: &str) -> Option<Unreadable> {
    let file = file.to_owned();
    if origin.measurement != own.measurement {
        let (sealed_by, own) = (origin.measurement, own.measurement);
        return Some(Unreadable::WrongMeasurement { file, sealed_by, own });
    }
    let (found, own) = (origin.format, SEALED_FORMAT);
    (found != own).then_some(Unreadable::OtherFormat { file, found, own })
}

/// What can be said without a key against a header of this code. It is not authenticated yet; so
/// this only explains a refusal and never permits anything.
fn diagnose(
    own: &PlatformIdentity,
    home: Home<'_>,
    header: &SealedHeader,
    file: &str,
) -> Option<Unreadable> {
    let file = file.to_owned();
    if !is_ours(header) {
        return Some(Unreadable::Corrupt { file });
    }
    if header.domain != *home.domain {
        return Some(Unreadable::OtherDomain { file, found: header.domain });
    }
    if header.platform != own.platform {
        let (sealed_on, own) = (header.platform, own.platform);
        return Some(Unreadable::OtherPlatform { file, sealed_on, own });
    }
    if header.node != *home.node {
        let (found, own) = (header.node.clone(), home.node.clone());
        return Some(Unreadable::OtherNode { file, found, own });
    }
    match recorded_isv_svn(&header.recipe) {
        Some(sealed_at) if sealed_at > own.isv_svn => {
            Some(Unreadable::CodeRolledBack { file, sealed_at, own: own.isv_svn })
        }
        Some(_) | None => None,
    }
}

/// The security version of the code that a recipe asks for, if it does.
fn recorded_isv_svn(recipe: &SealRecipe) -> Option<u16> {
    match recipe {
        SealRecipe::Sgx(recipe) => Some(recipe.isv_svn),
        SealRecipe::Tpm(recipe) => Some(recipe.isv_svn),
        SealRecipe::Gramine(recipe) => Some(recipe.isv_svn),
        SealRecipe::Snp(_) => None,
    }
}

/// Whether keepers make such recipes at all: for the kind of platform that measured the code, to
/// the measurement, never readable by a debug twin, with a key of its own for each purpose and
/// file.
fn is_ours(header: &SealedHeader) -> bool {
    let fits = match (header.measurement.kind(), &header.recipe) {
        (TeeKind::Sgx, SealRecipe::Sgx(recipe)) => {
            recipe.policy == SealPolicy::Measurement
                && recipe.flags_mask & FLAGS_MASK_LEAST == FLAGS_MASK_LEAST
        }
        // What is mixed into these keys is not the recipe's to choose: measurement and mode are.
        (TeeKind::Sgx, SealRecipe::Gramine(_)) | (TeeKind::Tpm, SealRecipe::Tpm(_)) => true,
        (TeeKind::Snp, SealRecipe::Snp(recipe)) => {
            recipe.fields & SNP_FIELDS_LEAST == SNP_FIELDS_LEAST
        }
        (
            TeeKind::Sgx
            | TeeKind::Tdx
            | TeeKind::Snp
            | TeeKind::Nitro
            | TeeKind::Tpm
            | TeeKind::Vtpm,
            _,
        ) => false,
    };
    fits && *header.recipe.key_id() == key_id(header.purpose, &header.nonce)
        && header.first <= header.last
}

/// The recipe of SGX that seals to exactly this code at the security versions of `identity`.
pub fn sgx_recipe(identity: &PlatformIdentity, key_id: Nonce) -> SgxSealRecipe {
    SgxSealRecipe {
        policy: SealPolicy::Measurement,
        isv_svn: identity.isv_svn,
        cpu_svn: identity.cpu_svn,
        flags_mask: FLAGS_MASK,
        xfrm_mask: XFRM_MASK,
        misc_mask: MISC_MASK,
        key_id,
    }
}

/// What it means that the platform gave no key.
fn refused(
    header: &SealedHeader,
    identity: &PlatformIdentity,
    file: &str,
    error: PlatformError,
) -> OpenError {
    let file = file.to_owned();
    match error {
        PlatformError::IsvSvnTooHigh { asked: sealed_at, own } => {
            Unreadable::CodeRolledBack { file, sealed_at, own }.into()
        }
        PlatformError::CpuSvnTooHigh { asked: sealed_at, own } => {
            Unreadable::PlatformRolledBack { file, sealed_at, own }.into()
        }
        PlatformError::MachineSecretTooHigh { asked: sealed_with, own } => {
            Unreadable::MachineSecretMissing { file, sealed_with, own }.into()
        }
        PlatformError::OtherCircumstances(reason) => {
            Unreadable::OtherCircumstances { file, reason }.into()
        }
        // The platform that made the recipe supports it: somebody changed the recipe.
        PlatformError::Unsupported(_) if identity.measurement == header.measurement => {
            Unreadable::Corrupt { file }.into()
        }
        PlatformError::Unsupported(_)
        | PlatformError::NotMeasured
        | PlatformError::CounterJump { .. }
        | PlatformError::ReportRefused
        | PlatformError::Unreachable(_)
        | PlatformError::Corrupt(_) => OpenError::Platform(error),
    }
}

/// The key identifier of one file: its purpose, so that a rejected proposal is never readable as
/// a keyring, and its nonce, so that no two files share a key.
fn key_id(purpose: SealedPurpose, nonce: &[u8; NONCE_LEN]) -> Nonce {
    let context = match purpose {
        SealedPurpose::Keyring => context::SEAL_KEYRING,
        SealedPurpose::ProposedGeneration => context::SEAL_PROPOSED,
        SealedPurpose::Witness => context::SEAL_WITNESS,
    };
    Nonce::new(sha256(&[context, nonce]))
}

fn aead_key(platform: &dyn Platform, recipe: &SealRecipe) -> Result<LessSafeKey, PlatformError> {
    let expanded = platform
        .seal_key(recipe)?
        .expose(|key| kmac256::<32>(key, &[recipe.key_id().as_bytes()], context::SEAL_EXPAND));
    let key =
        UnboundKey::new(&AES_256_GCM, expanded.as_slice()).expect("an AES-256 key has 32 bytes");
    Ok(LessSafeKey::new(key))
}

#[cfg(test)]
mod tests;
