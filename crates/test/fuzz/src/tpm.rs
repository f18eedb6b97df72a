//! TPMs: quotes, signatures, public areas, and whatever a TPM answers.

use std::sync::LazyLock;

use heirloom_attest::tpm::{self, AkIdentity, AkPublic, AttestationKey, EkPublic, Name, Quote};
use heirloom_model::evidence::PcrValue;
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::Register32;
use heirloom_model::secret::Secret;
use heirloom_tpm::capability::Handles;
use heirloom_tpm::client::Tpm;
use heirloom_tpm::key::{AttestationKey as OwnKey, EndorsementKind, StorageRoot};
use heirloom_tpm::mac_key::MacKey;
use heirloom_tpm::pcr::Selection;
use heirloom_tpm::policy::PolicyDigest;
use heirloom_tpm::public::PublicArea;
use heirloom_tpm::transport::{Transport, TransportError};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::nitro::{cut, joined};
use crate::vectors;
use crate::vtpm::base64;

/// A real quote, and all that it takes to verify it.
struct Real {
    key: AttestationKey,
    attest: Vec<u8>,
    signature: Vec<u8>,
    registers: Vec<PcrValue>,
}

static REAL: LazyLock<Vec<Real>> =
    LazyLock::new(|| [azure(), trustee()].into_iter().flatten().collect());

impl Real {
    fn verifies(&self, attest: &[u8], signature: &[u8]) -> bool {
        let Ok(quote) = Quote::parse(attest) else { return false };
        let qualifying = quote.qualifying();
        tpm::verify_quote(&self.key, attest, signature, qualifying, &self.registers).is_ok()
    }
}

fn azure() -> Option<Real> {
    let json = vectors::json("tee/tpm/azure_vtpm_quote.json")?;
    let signature = vectors::bytes("tee/tpm/azure_vtpm_quote.sig")?;
    let modulus = hex::decode(json["ak_n"].as_str().unwrap()).unwrap();
    Some(Real {
        key: AttestationKey::from_modulus(&modulus).unwrap(),
        attest: vectors::bytes("tee/tpm/azure_vtpm_quote.msg")?,
        // RSASSA with SHA-256.
        signature: [&[0, 0x14, 0, 0x0b, 1, 0], signature.as_slice()].concat(),
        registers: registers(&json["pcrs_sha256"], u32::MAX),
    })
}

fn trustee() -> Option<Real> {
    let json = vectors::json("tee/tpm/coco/tpm_evidence.json")?;
    let quote = &json["tpm_quote"];
    let attest = base64(&quote["message"]);
    let mask = Quote::parse(&attest).unwrap().selection();
    Some(Real {
        key: AttestationKey::from_spki(&base64(&json["ak_public"])).unwrap(),
        attest,
        signature: base64(&quote["signature"]),
        registers: registers(&quote["pcrs"], mask),
    })
}

fn registers(values: &Value, mask: u32) -> Vec<PcrValue> {
    let values = values.as_array().unwrap().iter().zip(0_u8..);
    let selected = values.filter(|(_, index)| mask >> index & 1 == 1);
    let read = |(value, index): (&Value, u8)| {
        let bytes = hex::decode(value.as_str().unwrap()).unwrap();
        PcrValue { index, value: Register32::new(bytes.try_into().unwrap()) }
    };
    selected.map(read).collect()
}

/// What a TPM signed (`TPMS_ATTEST`).
pub fn attest(data: &[u8]) -> bool {
    let Ok(quote) = Quote::parse(data) else { return false };
    let _read =
        (quote.clock(), quote.selection(), quote.firmware_version(), quote.qualified_signer());
    let accepted = REAL.iter().filter(|real| real.verifies(data, &real.signature));
    accepted.inspect(|real| assert_eq!(data, real.attest, "nobody signed this")).count() > 0
}

/// Real ones, also of TPMs whose keys are elliptic.
pub fn attests() -> Vec<Vec<u8>> {
    let more = vectors::bytes("tee/tpm/swtpm_quote.attest");
    REAL.iter().map(|real| real.attest.clone()).chain(more).collect()
}

/// A signature of a TPM (`TPMT_SIGNATURE`).
pub fn signature(data: &[u8]) -> bool {
    let accepted = REAL.iter().filter(|real| real.verifies(&real.attest, data));
    accepted.inspect(|real| assert_eq!(data, real.signature, "RSA has one signature")).count() > 0
}

/// Real ones, and the form of the other algorithm.
pub fn signatures() -> Vec<Vec<u8>> {
    let elliptic = vectors::bytes("tee/tpm/swtpm_quote.sig_rs").map(|both| {
        let (r, s) = both.split_at(both.len() / 2);
        [&[0, 0x18, 0, 0x0b, 0, 32], r, &[0, 32], s].concat()
    });
    REAL.iter().map(|real| real.signature.clone()).chain(elliptic).collect()
}

/// Public areas (`TPMT_PUBLIC`), names, and the extension of attestation keys' certificates.
pub fn public(data: &[u8]) -> bool {
    let mut understood = false;
    if let Ok(key) = AkPublic::parse(data) {
        assert_eq!(AttestationKey::from_spki(&key.key().spki()).as_ref(), Ok(key.key()));
        assert_eq!(key.name(), Name::of(data), "a name is that of the whole area");
        understood = true;
    }
    if let Ok(key) = EkPublic::parse(data) {
        drop((key.platform(), key.name(), key.spki()));
        understood = true;
    }
    if let Ok(area) = PublicArea::parse(data) {
        assert_eq!(area.as_bytes(), data, "an area keeps its bytes");
        assert_eq!(area.name().as_bytes(), Name::of(data).as_bytes(), "both name it alike");
        understood = true;
    }
    if let Ok(identity) = AkIdentity::decode(data) {
        assert_eq!(identity.encode(), data, "an identity has one form");
        understood = true;
    }
    if let Ok(name) = Name::parse(data) {
        assert_eq!(name.as_bytes().as_slice(), data);
    }
    if let Ok(made) = MacKey::from_bytes(data, &PolicyDigest::new([1; 32])) {
        assert_eq!(made.to_bytes(), data, "a key has one form");
        understood = true;
    }
    if let Ok(key) = AttestationKey::from_spki(data) {
        assert_eq!(AttestationKey::from_spki(&key.spki()), Ok(key));
        understood = true;
    }
    understood
}

/// An identity, an attestation key, an endorsement key and a key as certificates have it.
pub fn publics() -> Vec<Vec<u8>> {
    let identity = AkIdentity { platform: PlatformId::new([1; 32]), name: Name::of(b"area") };
    let mut starts = vec![identity.encode()];
    starts.extend(REAL.iter().map(|real| real.key.spki()));
    if let Some(point) = vectors::bytes("tee/tpm/swtpm_quote.ak_sec1") {
        let coordinates = point[1..].chunks(32);
        let written = coordinates.flat_map(|number| [&[0, 32], number].concat());
        // ECC, SHA-256; restricted signing key of this TPM; no policy; ECDSA with SHA-256, P-256.
        let head =
            [0, 0x23, 0, 0x0b, 0, 5, 0, 0x72, 0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10];
        starts.push(head.into_iter().chain(written).collect());
    }
    // HMAC with SHA-256 under a policy; made by its TPM, and never leaves it.
    let head = [0, 8, 0, 0x0b, 0, 4, 4, 0x32, 0, 32];
    let tail = [0, 5, 0, 0x0b, 0, 32];
    let area = [&head, [1; 32].as_slice(), &tail, &[2; 32]].concat();
    let length = u8::try_from(area.len()).unwrap();
    starts.push([&[0, length], area.as_slice(), &[0, 2, 3, 3]].concat());
    starts
}

/// A TPM that gives these answers one after the other, and then none.
struct Script(Vec<Vec<u8>>);

impl Transport for Script {
    fn transmit(&mut self, _: &[u8]) -> Result<Zeroizing<Vec<u8>>, TransportError> {
        let reason = "it has said everything".to_owned();
        let answer = self.0.pop().ok_or(TransportError::Unreachable { reason })?;
        // The length of a header is what transports check; a code other than success is an error
        // without further reading, or a request to ask again later.
        let length = u32::try_from(answer.len() + 8).unwrap();
        let (tag, rest) = answer.split_at_checked(2).unwrap_or((&[0x80, 0x01], &[]));
        Ok(Zeroizing::new([tag, &length.to_be_bytes(), &[0; 4], rest].concat()))
    }
}

/// Answers, each its tag and what follows the header, behind its length. The first byte says what
/// is asked for.
pub fn responses(data: &[u8]) -> bool {
    let Some((question, answers)) = data.split_first() else { return false };
    let mut answers = cut(answers);
    answers.reverse();
    let tpm = Tpm::new(Script(answers));
    match question % 10 {
        0 => tpm.random(&mut [0; 16]).is_ok(),
        1 => tpm.description().is_ok(),
        2 => tpm.banks().is_ok(),
        3 => tpm.handles(Handles::Permanent).is_ok(),
        4 => registers_are_read(&tpm),
        5 => heirloom_tpm::key::endorsement_certificate(&tpm, EndorsementKind::P256).is_ok(),
        6 => StorageRoot::transient(&tpm).is_ok(),
        7 => StorageRoot::open(&tpm).is_ok(),
        8 => StorageRoot::transient(&tpm)
            .is_ok_and(|root| OwnKey::create(&root, Secret::new([1; 32])).is_ok()),
        _ => tpm.flush_leftovers().is_ok(),
    }
}

fn registers_are_read(tpm: &Tpm) -> bool {
    let Ok(registers) = tpm.registers(Selection::boot()) else { return false };
    let indices: Vec<u8> = registers.iter().map(|register| register.index).collect();
    assert!(indices.iter().copied().eq(Selection::boot().indices()), "each register once");
    true
}

/// An answer to each question of which answers are not under a session's key.
pub fn conversations() -> Vec<Vec<u8>> {
    const PLAIN: [u8; 2] = [0x80, 0x01];
    let answer = |body: &[&[u8]]| [PLAIN.as_slice(), &body.concat()].concat();
    let property = |property: u32, value: u32| {
        let list = [6, 1, property, value].map(u32::to_be_bytes).concat();
        answer(&[&[0], &list])
    };
    let description = [0x105, 0x10b, 0x10c, 0x200, 0x20e].map(|id| property(id, 0x4142_4344));
    let banks = answer(&[&[0], &[0, 0, 0, 5], &[0, 0, 0, 1], &[0, 0x0b, 3, 0xff, 0xff, 0xff]]);
    let handles = answer(&[&[0], &[0, 0, 0, 1], &[0, 0, 0, 1], &[0x81, 0, 0, 1]]);
    let values = [[0, 32].as_slice(), &[7; 32]].concat().repeat(8);
    let read = |selected: [u8; 3]| {
        let head = [[0, 0, 0, 9, 0, 0, 0, 1, 0, 0x0b, 3].as_slice(), &selected].concat();
        answer(&[&head, &[0, 0, 0, 8], &values])
    };
    let empty = answer(&[&[0], &[0, 0, 0, 1], &[0, 0, 0, 0]]);
    let of = |question: u8, answers: &[Vec<u8>]| [vec![question], joined(answers)].concat();
    vec![
        of(0, &[answer(&[&[0, 16], &[0x5a; 16]])]),
        of(1, &description),
        of(2, &[banks]),
        of(3, std::slice::from_ref(&handles)),
        of(4, &[read([0xff, 0, 0]), read([0, 0xff, 0])]),
        of(5, &[answer(&[&[0; 64]])]),
        of(6, &[answer(&[&[0x80, 0, 0, 1], &[0; 64]])]),
        of(7, &[handles.clone(), answer(&[&[0; 64]])]),
        of(8, &[answer(&[&[0; 64]])]),
        of(9, &[empty.clone(), empty.clone(), empty]),
    ]
}
