//! Trust anchors as people name them: what a certificate vouches for, and its file.

use std::path::{Path, PathBuf};

use heirloom_attest::result::AnchorClass;
use heirloom_model::evidence::TrustAnchor;
use heirloom_model::limit::ANCHOR_BYTES_MAX;
use heirloom_model::wire;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::view_appraisal::anchor_kind;
use crate::{file, output};

/// What a trust anchor of one kind is, around the DER of its certificate.
type Kind = fn(Vec<u8>) -> TrustAnchor;

/// The words in front of a file, and what they mean.
const KINDS: [(&str, Kind); 4] = [
    ("sgx", TrustAnchor::SgxDcap),
    ("snp", TrustAnchor::Snp),
    ("nitro", TrustAnchor::Nitro),
    ("tpm", TrustAnchor::Tpm),
];

/// Reads anchors, `KIND:FILE` or `FILE`, and sorts them. Files stand beside `folder`.
pub(crate) fn read_all(folder: &Path, given: &[PathBuf]) -> Result<Vec<TrustAnchor>, Diagnostic> {
    let mut anchors = given.iter().map(|one| read(folder, one)).collect::<Result<Vec<_>, _>>()?;
    anchors.sort();
    Ok(anchors)
}

/// Says what some anchors are worth.
pub(crate) fn warn(anchors: &[TrustAnchor]) {
    // A network founds its attestation CA itself: that is no manufacturer's to do.
    let is_own = |anchor: &TrustAnchor| matches!(anchor, TrustAnchor::Tpm(_));
    let is_development =
        |anchor: &TrustAnchor| AnchorClass::of(&anchor.id()) == AnchorClass::Development;
    if anchors.iter().any(|anchor| !is_own(anchor) && is_development(anchor)) {
        output::note(
            "a development root is trusted: platforms under it protect nothing from their owner",
        );
    }
    if anchors.iter().any(is_own) {
        output::note(
            "an attestation CA is trusted: a TPM says what its machine booted, and isolates \
             nothing from whoever controls the machine",
        );
    }
}

/// An anchor on one line.
pub(crate) fn describe(anchor: &TrustAnchor) -> String {
    let id = anchor.id();
    format!("{} ({}, {})", id, anchor_kind(anchor), AnchorClass::of(&id).name())
}

fn read(folder: &Path, given: &Path) -> Result<TrustAnchor, Diagnostic> {
    let (kind, path) = split(given);
    let path = folder.join(path);
    let shown = path.display();
    let bytes = file::read(&path, ANCHOR_BYTES_MAX)?;
    if let Ok(encoded) = wire::decode::<TrustAnchor>(&bytes) {
        return match kind {
            Some((named, _)) if named != anchor_kind(&encoded) => {
                let found = anchor_kind(&encoded);
                let message = format!("{shown} is an anchor for {found}, not for {named}");
                Err(Diagnostic::new(Code::InputValue, message))
            }
            Some(_) | None => Ok(encoded),
        };
    }
    let der = certificate(bytes).ok_or_else(|| {
        let message = format!("{shown} is not a certificate");
        Diagnostic::new(Code::InputMalformed, message)
            .hint("give the root's certificate in DER or PEM, or an encoded trust anchor")
    })?;
    // Without a word it is what it always was.
    let (_, kind) = kind.unwrap_or(KINDS[0]);
    Ok(kind(der))
}

/// The word in front of a file, if it is one that means something.
fn split(given: &Path) -> (Option<(&'static str, Kind)>, &Path) {
    let split = given.to_str().and_then(|text| text.split_once(':'));
    let known = split.and_then(|(word, path)| {
        let kind = KINDS.into_iter().find(|(name, _)| *name == word)?;
        Some((Some(kind), Path::new(path)))
    });
    known.unwrap_or((None, given))
}

/// One certificate: DER, or one block of PEM.
pub(crate) fn certificate(bytes: Vec<u8>) -> Option<Vec<u8>> {
    // A DER certificate is a SEQUENCE with a long length.
    if bytes.starts_with(&[0x30, 0x82]) {
        return Some(bytes);
    }
    let mut certificates = certificates(bytes)?;
    let only = certificates.pop()?;
    certificates.is_empty().then_some(only)
}

/// Certificates that one file holds at most: a key's, and all above it.
const CERTIFICATES_MAX: usize = 16;

/// The certificates of a file: DER of one, or PEM of several.
pub(crate) fn certificates(bytes: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    if bytes.starts_with(&[0x30, 0x82]) {
        return Some(vec![bytes]);
    }
    let blocks = pem::parse_many(&bytes).ok()?;
    let are_certificates = blocks.iter().all(|block| block.tag() == "CERTIFICATE");
    let fits = (1..=CERTIFICATES_MAX).contains(&blocks.len());
    (are_certificates && fits).then(|| blocks.into_iter().map(pem::Pem::into_contents).collect())
}
