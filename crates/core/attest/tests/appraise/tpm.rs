//! TPM: real quotes, keys and certificates, and such of our own that differ in one field.

use aws_lc_rs::hmac;
use heirloom_attest::tpm::{
    self, AK_IDENTITY_OID, AkIdentity, AkPublic, AttestationKey, CertifiedKey, Credential,
    CredentialSeed, EkPublic, Manufacturers, Name, Quote, QuoteClaims, TpmError,
};
use heirloom_model::counter::Time;
use heirloom_model::digest::sha256;
use heirloom_model::evidence::{Certificate, PcrValue, TrustAnchor};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::Register32;

use crate::forge::{Key, NOW, Request, UNTIL, extension, named, sequence};
use crate::vectors;

/// A quote and all that it takes to verify it.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) key: AttestationKey,
    pub(crate) attest: Vec<u8>,
    pub(crate) signature: Vec<u8>,
    pub(crate) qualifying: Vec<u8>,
    pub(crate) registers: Vec<PcrValue>,
}

impl Case {
    pub(crate) fn verify(&self) -> Result<QuoteClaims, TpmError> {
        let Self { key, attest, signature, qualifying, registers } = self;
        tpm::verify_quote(key, attest, signature, qualifying, registers)
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> &'static str {
        let mut changed = self.clone();
        change(&mut changed);
        changed.verify().map_or_else(|error| error.reason(), |_| "ok")
    }
}

/// `TPMT_SIGNATURE`: RSASSA with SHA-256.
pub(crate) fn rsassa(signature: &[u8]) -> Vec<u8> {
    let length = u16::try_from(signature.len()).unwrap().to_be_bytes();
    [&[0x00, 0x14, 0x00, 0x0b], length.as_slice(), signature].concat()
}

/// `TPMT_SIGNATURE`: ECDSA with SHA-256.
fn ecdsa(signature: &[u8]) -> Vec<u8> {
    let (r, s) = signature.split_at(signature.len() / 2);
    [&[0x00, 0x18, 0x00, 0x0b], sized(r).as_slice(), &sized(s)].concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

pub(crate) fn register(index: usize, value: &str) -> PcrValue {
    let value = Register32::new(hex::decode(value).unwrap().try_into().unwrap());
    PcrValue { index: u8::try_from(index).unwrap(), value }
}

fn azure() -> Option<Case> {
    let json = vectors::json("tee/tpm/azure_vtpm_quote.json")?;
    let attest = vectors::bytes("tee/tpm/azure_vtpm_quote.msg")?;
    let signature = vectors::bytes("tee/tpm/azure_vtpm_quote.sig")?;
    let values = json["pcrs_sha256"].as_array().unwrap().iter().enumerate();
    let modulus = hex::decode(json["ak_n"].as_str().unwrap()).unwrap();
    Some(Case {
        key: AttestationKey::from_modulus(&modulus).unwrap(),
        qualifying: Quote::parse(&attest).unwrap().qualifying().to_vec(),
        attest,
        signature: rsassa(&signature),
        registers: values.map(|(index, value)| register(index, value.as_str().unwrap())).collect(),
    })
}

/// The second real quote: its key as `SubjectPublicKeyInfo`, its signature as the TPM made it.
fn trustee() -> Option<Case> {
    let json = vectors::json("tee/tpm/coco/tpm_evidence.json")?;
    let quote = &json["tpm_quote"];
    let attest = crate::vtpm::base64(&quote["message"]);
    let mask = Quote::parse(&attest).unwrap().selection();
    let values = quote["pcrs"].as_array().unwrap().iter().enumerate();
    let quoted = values.filter(|(index, _)| mask >> index & 1 == 1);
    Some(Case {
        key: AttestationKey::from_spki(&crate::vtpm::base64(&json["ak_public"])).unwrap(),
        qualifying: Quote::parse(&attest).unwrap().qualifying().to_vec(),
        attest,
        signature: crate::vtpm::base64(&quote["signature"]),
        registers: quoted.map(|(index, value)| register(index, value.as_str().unwrap())).collect(),
    })
}

fn swtpm() -> Option<Case> {
    let json = vectors::json("tee/tpm/swtpm_quote.json")?;
    let point = vectors::bytes("tee/tpm/swtpm_quote.ak_sec1")?;
    let head = Key::p256().spki();
    let (head, _) = head.split_at(head.len() - point.len());
    let value = |index: usize| register(index, json["pcrs"][index.to_string()].as_str().unwrap());
    Some(Case {
        key: AttestationKey::from_spki(&[head, &point].concat()).unwrap(),
        attest: vectors::bytes("tee/tpm/swtpm_quote.attest")?,
        signature: ecdsa(&vectors::bytes("tee/tpm/swtpm_quote.sig_rs")?),
        qualifying: vec![9; 32],
        registers: vec![value(0), value(16)],
    })
}

fn real() -> Vec<Case> {
    [azure(), trustee(), swtpm()].into_iter().flatten().collect()
}

#[test]
fn every_real_quote_verifies() {
    for case in real() {
        let claims = case.verify().unwrap();
        assert_eq!(claims.registers(), case.registers);
        assert!(claims.clock().milliseconds > 0 && claims.firmware_version() > 0);
    }
}

#[test]
fn no_byte_of_a_real_quote_can_change() {
    for case in real() {
        for index in 0..case.attest.len() {
            let reason = case.with(|case| case.attest[index] ^= 1 << (index % 8));
            assert_ne!(reason, "ok", "quote at {index}");
        }
        for index in 0..case.signature.len() {
            let reason = case.with(|case| case.signature[index] ^= 1 << (index % 8));
            assert_ne!(reason, "ok", "signature at {index}");
        }
        for length in 0..case.attest.len() {
            assert_ne!(case.with(|case| case.attest.truncate(length)), "ok");
        }
        for length in 0..case.signature.len() {
            assert_ne!(case.with(|case| case.signature.truncate(length)), "ok");
        }
    }
}

#[test]
fn a_quote_is_for_its_key_data_and_registers() {
    for case in real() {
        assert_eq!(case.with(|case| case.qualifying[0] ^= 1), "qualifying-data");
        assert_eq!(case.with(|case| case.qualifying.push(0)), "qualifying-data");
        assert_eq!(case.with(|case| case.registers.truncate(1)), "register-selection");
        assert_eq!(case.with(|case| case.registers.reverse()), "register-selection");
        let twice = |case: &mut Case| case.registers.push(case.registers[1]);
        assert_eq!(case.with(twice), "register-selection");
        let more = |case: &mut Case| {
            let last = case.registers.last().copied().unwrap();
            case.registers.push(PcrValue { index: 31, ..last });
        };
        assert_eq!(case.with(more), "register-selection");
        let moved = |case: &mut Case| case.registers[0].value = Register32::new([0xee; 32]);
        assert_eq!(case.with(moved), "register-digest");
        assert_eq!(case.with(|case| case.attest.push(0)), "malformed-tpm-data");
        assert_eq!(case.with(|case| case.signature.push(0)), "malformed-tpm-data");
        let foreign = |key: &Key| AttestationKey::from_spki(&key.spki()).unwrap();
        let (rsa, p256, p384) = (Key::rsa(), Key::p256(), Key::p384());
        let reasons = [&rsa, &p256, &p384].map(|key| case.with(|case| case.key = foreign(key)));
        assert!(reasons.contains(&"quote-signature") && reasons.contains(&"key-kind"));
        assert!(!reasons.contains(&"ok"));
    }
}

/// A quote of our own: what the TPM attests, with parts that tests change.
struct Attested {
    magic: u32,
    kind: u16,
    qualifying: Vec<u8>,
    safe: u8,
    banks: u32,
    bank: u16,
    selection: Vec<u8>,
    digest: Vec<u8>,
}

const REGISTERS: [PcrValue; 2] = [
    PcrValue { index: 0, value: Register32::new([1; 32]) },
    PcrValue { index: 15, value: Register32::new([2; 32]) },
];

fn attested() -> Attested {
    Attested {
        magic: 0xff54_4347,
        kind: 0x8018,
        qualifying: vec![5; 32],
        safe: 1,
        banks: 1,
        bank: 0x000b,
        selection: vec![0x01, 0x80, 0x00],
        digest: sha256(&[&[1; 32], &[2; 32]]).to_vec(),
    }
}

impl Attested {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.magic.to_be_bytes().to_vec();
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(sized(&[0; 34]));
        bytes.extend(sized(&self.qualifying));
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 3, self.safe]);
        bytes.extend([0, 0, 0, 0, 0, 0, 0, 7]);
        bytes.extend(self.banks.to_be_bytes());
        bytes.extend(self.bank.to_be_bytes());
        bytes.push(u8::try_from(self.selection.len()).unwrap());
        bytes.extend(&self.selection);
        bytes.extend(sized(&self.digest));
        bytes
    }
}

/// What becomes of a quote with one change, signed by its key.
fn quote_with(change: impl FnOnce(&mut Attested)) -> &'static str {
    let key = Key::p256();
    let mut quote = attested();
    change(&mut quote);
    let attest = quote.bytes();
    let case = Case {
        key: AttestationKey::from_spki(&key.spki()).unwrap(),
        signature: ecdsa(&key.sign_evidence(&attest)),
        attest,
        qualifying: vec![5; 32],
        registers: REGISTERS.to_vec(),
    };
    case.with(|_| {})
}

#[test]
fn only_what_a_tpm_made_as_a_quote_is_one() {
    assert_eq!(quote_with(|_| {}), "ok");
    assert_eq!(quote_with(|quote| quote.magic ^= 1), "not-a-quote");
    // A key that certifies another key, and one that certifies a point in time.
    assert_eq!(quote_with(|quote| quote.kind = 0x8017), "not-a-quote");
    assert_eq!(quote_with(|quote| quote.kind = 0x8019), "not-a-quote");
    assert_eq!(quote_with(|quote| quote.qualifying = vec![5; 31]), "qualifying-data");
    assert_eq!(quote_with(|quote| quote.safe = 2), "malformed-tpm-data");
    assert_eq!(quote_with(|quote| quote.safe = 0), "ok");
    assert_eq!(quote_with(|quote| quote.banks = 2), "register-selection");
    assert_eq!(quote_with(|quote| quote.bank = 0x0004), "unsupported-algorithm");
    assert_eq!(quote_with(|quote| quote.selection[1] = 0), "register-selection");
    assert_eq!(quote_with(|quote| quote.selection[2] = 1), "register-selection");
    assert_eq!(quote_with(|quote| quote.selection.extend([0; 2])), "register-selection");
    assert_eq!(quote_with(|quote| quote.digest[0] ^= 1), "register-digest");
    assert_eq!(quote_with(|quote| quote.digest.truncate(31)), "register-digest");
}

/// Attributes as TPMs' own templates have them.
const AK_ATTRIBUTES: u32 = 0x0005_0472;
const EK_ATTRIBUTES: u32 = 0x0003_00b2;

/// `TPMT_PUBLIC` of a P-256 key: an attestation key has a scheme, an endorsement key a cipher.
fn public_ec(attributes: u32, symmetric: &[u8], scheme: &[u8], key: &Key) -> Vec<u8> {
    let point = key.public();
    let (x, y) = point[1..].split_at(32);
    let head = [&[0x00, 0x23, 0x00, 0x0b], attributes.to_be_bytes().as_slice()].concat();
    let curve = [0x00, 0x03, 0x00, 0x10];
    [&head, &sized(&[]), symmetric, scheme, &curve, &sized(x), &sized(y)].concat()
}

/// `TPMT_PUBLIC` of an RSA-2048 key.
fn public_rsa(attributes: u32, symmetric: &[u8], scheme: &[u8], key: &Key) -> Vec<u8> {
    // The modulus follows the heads of the sequence and of its own number, and a zero.
    let modulus = key.public()[9..265].to_vec();
    let head = [&[0x00, 0x01, 0x00, 0x0b], attributes.to_be_bytes().as_slice()].concat();
    let size = [0x08, 0x00, 0, 0, 0, 0];
    [&head, &sized(&[7; 32]), symmetric, scheme, &size, &sized(&modulus)].concat()
}

const NONE: &[u8] = &[0x00, 0x10];
const AES_128_CFB: &[u8] = &[0x00, 0x06, 0x00, 0x80, 0x00, 0x43];
const ECDSA: &[u8] = &[0x00, 0x18, 0x00, 0x0b];
const RSASSA: &[u8] = &[0x00, 0x14, 0x00, 0x0b];

#[test]
fn an_attestation_key_signs_nothing_but_what_its_tpm_made() {
    let (p256, rsa) = (Key::p256(), Key::rsa());
    let ak = |attributes| AkPublic::parse(&public_ec(attributes, NONE, ECDSA, &p256));
    let public = ak(AK_ATTRIBUTES).unwrap();
    assert_eq!(public.key().spki(), p256.spki());
    let whole = public_ec(AK_ATTRIBUTES, NONE, ECDSA, &p256);
    assert_eq!(public.name(), Name::of(&whole));
    assert_eq!(public.name().as_bytes()[2..], sha256(&[&whole]));
    let by_rsa = AkPublic::parse(&public_rsa(AK_ATTRIBUTES, NONE, RSASSA, &rsa)).unwrap();
    assert_eq!(by_rsa.key().spki(), rsa.spki());
    let reason = |attributes| ak(attributes).unwrap_err().reason();
    // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign: each is demanded.
    for bit in [1, 4, 5, 16, 18] {
        assert_eq!(reason(AK_ATTRIBUTES & !(1 << bit)), "key-attributes", "{bit}");
    }
    // encryptedDuplication, decrypt, and bits that mean nothing are refused.
    for bit in [11, 17, 0, 3, 8, 19, 31] {
        assert_eq!(reason(AK_ATTRIBUTES | 1 << bit), "key-attributes", "{bit}");
    }
    let without = public_ec(AK_ATTRIBUTES, NONE, NONE, &p256);
    assert_eq!(AkPublic::parse(&without).unwrap_err().reason(), "unsupported-algorithm");
    for length in 0..whole.len() {
        assert!(AkPublic::parse(&whole[..length]).is_err(), "{length}");
    }
    assert!(AkPublic::parse(&[whole.as_slice(), &[0]].concat()).is_err());
    assert!(EkPublic::parse(&whole).is_err());
}

#[test]
fn an_endorsement_key_decrypts_and_does_nothing_else() {
    let rsa = Key::rsa();
    let ek = |attributes, cipher| EkPublic::parse(&public_rsa(attributes, cipher, NONE, &rsa));
    let public = ek(EK_ATTRIBUTES, AES_128_CFB).unwrap();
    assert_eq!(public.spki(), rsa.spki());
    assert_eq!(public.platform(), PlatformId::of_endorsement_key(&rsa.spki()));
    for bit in [1, 4, 5, 16, 17] {
        let outcome = ek(EK_ATTRIBUTES & !(1 << bit), AES_128_CFB);
        assert_eq!(outcome.unwrap_err().reason(), "key-attributes", "{bit}");
    }
    let signing = ek(EK_ATTRIBUTES | 1 << 18, AES_128_CFB);
    assert_eq!(signing.unwrap_err().reason(), "key-attributes");
    assert_eq!(ek(EK_ATTRIBUTES, NONE).unwrap_err().reason(), "unsupported-algorithm");
    let cbc = [0x00, 0x06, 0x00, 0x80, 0x00, 0x42];
    assert_eq!(ek(EK_ATTRIBUTES, &cbc).unwrap_err().reason(), "unsupported-algorithm");
}

/// Public areas that a TPM in software gave out, and the name by which it knows the second.
const SOFTWARE_EK: &str = "\
     0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa0006\
     008000430010000300100020c69db210d327318f1617b036313ea3bfa047e7b3f6f20d1c3231ba0fbae2fa45\
     002014607460224c2ba6526afb093dae4a457aa4b7920292b6db95ee3e7cbe966b36";
const SOFTWARE_AK: &str = "\
     0023000b00050072000000100018000b000300100020b670739449352e186f23a0b41df9e013a6cb3b2c8f06\
     2819e91b0b3bd05bf2d70020025de9bddacd3138a0a26ea4e6395353e5e6e25339d4efc55d47da86183286ee";
const SOFTWARE_AK_NAME: &str =
    "000b55775151d7e64920732c475368828071e9fa8bb4bf1b1a1e10cf5394bb9636ee";

#[test]
fn a_tpm_knows_a_key_by_the_name_that_we_compute() {
    let [ek, ak, name] =
        [SOFTWARE_EK, SOFTWARE_AK, SOFTWARE_AK_NAME].map(|text| hex::decode(text).unwrap());
    assert!(EkPublic::parse(&ek).is_ok());
    let ak = AkPublic::parse(&ak).unwrap();
    assert_eq!(ak.name().as_bytes().as_slice(), name);
    assert_eq!(Name::parse(&name), Ok(ak.name()));
    assert!(Name::parse(&name[1..]).is_err());
    // Another algorithm.
    let other = [&[0x00, 0x0c], &name[2..]].concat();
    assert_eq!(Name::parse(&other).unwrap_err().reason(), "malformed-tpm-data");
}

/// What a TPM does with a credential after it has the seed (TPM 2.0 part 1, 24).
fn open(credential: &Credential, seed: &[u8], name: &Name) -> Option<Vec<u8>> {
    use aws_lc_rs::cipher::{AES_128, DecryptingKey, DecryptionContext, UnboundCipherKey};
    let kdf = |label: &[u8], context: &[u8], bits: u32| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let one = 1_u32.to_be_bytes();
        let block = [&one[..], label, context, &bits.to_be_bytes()].concat();
        hmac::sign(&key, &block)
    };
    let (length, rest) = credential.id_object.split_first_chunk::<2>()?;
    assert_eq!(length, &[0, 32]);
    let (mac, identity) = rest.split_at(32);
    let integrity = kdf(b"INTEGRITY\0", &[], 256);
    let key = hmac::Key::new(hmac::HMAC_SHA256, integrity.as_ref());
    hmac::verify(&key, &[identity, name.as_bytes()].concat(), mac).ok()?;
    let storage = kdf(b"STORAGE\0", name.as_bytes(), 128);
    let key = UnboundCipherKey::new(&AES_128, &storage.as_ref()[..16]).unwrap();
    let mut text = identity.to_vec();
    let zero = DecryptionContext::Iv128([0; 16].into());
    DecryptingKey::cfb128(key).unwrap().decrypt(&mut text, zero).unwrap();
    let (length, secret) = text.split_first_chunk::<2>()?;
    assert_eq!(usize::from(u16::from_be_bytes(*length)), secret.len());
    Some(secret.to_vec())
}

#[test]
fn a_credential_for_an_rsa_key_opens_with_the_named_key_only() {
    use aws_lc_rs::encoding::AsDer;
    use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey, PrivateDecryptingKey};
    let private = PrivateDecryptingKey::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let spki = private.public_key().as_der().unwrap().as_ref().to_vec();
    let (_, modulus) = spki.split_at(spki.len() - 261);
    let head = [&[0x00, 0x01, 0x00, 0x0b], EK_ATTRIBUTES.to_be_bytes().as_slice()].concat();
    let size = [0x08, 0x00, 0, 0, 0, 0];
    let area = [&head, &sized(&[]), AES_128_CFB, NONE, &size, &sized(&modulus[..256])].concat();
    let ek = EkPublic::parse(&area).unwrap();
    let (name, other) = (Name::of(b"key"), Name::of(b"other key"));
    let seed = CredentialSeed::new([3; 32]);
    let made = tpm::make_credential(&ek, &name, &[0x42; 32], &seed).unwrap();
    let private = OaepPrivateDecryptingKey::new(private).unwrap();
    let mut plain = vec![0; private.min_output_size()];
    let secret = &made.encrypted_secret;
    let opened =
        private.decrypt(&OAEP_SHA256_MGF1SHA256, secret, &mut plain, Some(b"IDENTITY\0")).unwrap();
    assert_eq!(opened, [3; 32]);
    assert_eq!(open(&made, opened, &name), Some(vec![0x42; 32]));
    assert_eq!(open(&made, opened, &other), None);
    for length in [0, 33] {
        let outcome = tpm::make_credential(&ek, &name, &vec![1; length], &seed);
        assert_eq!(outcome, Err(TpmError::SecretLength { found: length }));
    }
}

#[test]
fn a_credential_for_a_p256_key_opens_with_the_named_key_only() {
    use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
    let private = PrivateKey::generate(&ECDH_P256).unwrap();
    let public = private.compute_public_key().unwrap();
    let (x, y) = public.as_ref()[1..].split_at(32);
    let head = [&[0x00, 0x23, 0x00, 0x0b], EK_ATTRIBUTES.to_be_bytes().as_slice()].concat();
    let curve = [0x00, 0x03, 0x00, 0x10];
    let area = [&head, &sized(&[]), AES_128_CFB, NONE, &curve, &sized(x), &sized(y)].concat();
    let ek = EkPublic::parse(&area).unwrap();
    let name = Name::of(b"key");
    let made = tpm::make_credential(&ek, &name, b"secret", &CredentialSeed::new([3; 32])).unwrap();
    let point = &made.encrypted_secret;
    let ephemeral = [&[4], &point[2..34], &point[36..68]].concat();
    let peer = UnparsedPublicKey::new(&ECDH_P256, &ephemeral);
    let seed = agree(&private, peer, (), |shared| {
        Ok(sha256(&[&1_u32.to_be_bytes(), shared, b"IDENTITY\0", &point[2..34], x]))
    });
    assert_eq!(open(&made, &seed.unwrap(), &name), Some(b"secret".to_vec()));
    // Not a scalar of the curve.
    let outcome = tpm::make_credential(&ek, &name, b"secret", &CredentialSeed::new([0; 32]));
    assert_eq!(outcome, Err(TpmError::Credential));
}

/// An attestation CA of our own and the certificate of a key.
struct Enrolled {
    authority: Key,
    key: Key,
    certificate: Request,
    now: Time,
}

fn identity() -> AkIdentity {
    AkIdentity { platform: PlatformId::new([8; 32]), name: Name::of(b"public area") }
}

/// The extended key usage of these object identifiers.
fn usage(purposes: &[&str]) -> Vec<u8> {
    let purposes: Vec<_> = purposes.iter().map(|purpose| named(purpose)).collect();
    extension("2.5.29.37", true, &sequence(&purposes))
}

fn enrolled() -> Enrolled {
    let (authority, key) = (Key::p256(), Key::p256());
    let mut certificate = Request::leaf("attestation ca", "attestation key", &key);
    certificate.extensions =
        vec![usage(&["2.23.133.8.3"]), extension(AK_IDENTITY_OID, false, &identity().encode())];
    Enrolled { authority, key, certificate, now: NOW }
}

impl Enrolled {
    fn verify(&self) -> Result<CertifiedKey, TpmError> {
        let root = Request::authority("attestation ca", "attestation ca", &self.authority);
        let anchors = [TrustAnchor::Tpm(root.signed(&self.authority))];
        let certificates = [Certificate(self.certificate.signed(&self.authority))];
        tpm::verify_ak_certificate(&anchors, &certificates, self.now)
    }
}

/// What becomes of a certificate with one change.
fn enrolled_with(change: impl FnOnce(&mut Enrolled)) -> &'static str {
    let mut enrolled = enrolled();
    change(&mut enrolled);
    enrolled.verify().map_or_else(|error| error.reason(), |_| "ok")
}

#[test]
fn a_certified_key_is_in_a_known_machine() {
    let enrolled = enrolled();
    let certified = enrolled.verify().unwrap();
    assert_eq!(certified.platform(), identity().platform);
    assert_eq!(certified.name(), identity().name);
    assert_eq!(certified.key().spki(), enrolled.key.spki());
    assert_eq!(certified.chain().until(), UNTIL.after(1));
}

#[test]
fn only_a_certificate_of_an_attestation_key_is_one() {
    let not = "not-an-attestation-key";
    assert_eq!(
        enrolled_with(|it| drop(it.certificate.extensions.remove(0))),
        "certificate-purpose"
    );
    assert_eq!(enrolled_with(|it| drop(it.certificate.extensions.remove(1))), not);
    // A server's certificate of the same authority, and one that is for two things.
    let server = usage(&["1.3.6.1.5.5.7.3.1"]);
    assert_eq!(enrolled_with(|it| it.certificate.extensions[0] = server), "certificate-purpose");
    let both = usage(&["2.23.133.8.3", "1.3.6.1.5.5.7.3.1"]);
    assert_eq!(enrolled_with(|it| it.certificate.extensions[0] = both), "certificate-purpose");
    let twice = extension(AK_IDENTITY_OID, false, &identity().encode());
    assert_eq!(enrolled_with(|it| it.certificate.extensions.push(twice)), not);
    assert_eq!(enrolled_with(|it| it.now = UNTIL.after(1)), "certificate-expired");
    assert_eq!(enrolled_with(|it| it.certificate.issuer = "another ca"), "unknown-anchor");
    let enrolled = enrolled();
    let certificate = Certificate(enrolled.certificate.signed(&enrolled.authority));
    let foreign = Request::authority("attestation ca", "attestation ca", &Key::p256());
    let foreign = [TrustAnchor::Tpm(foreign.signed(&Key::p256()))];
    let outcome = tpm::verify_ak_certificate(&foreign, &[certificate], NOW);
    assert!(matches!(outcome.unwrap_err().reason(), "unknown-anchor" | "certificate-signature"));
    assert_eq!(tpm::verify_ak_certificate(&foreign, &[], NOW), Err(TpmError::MissingCertificate));
}

#[test]
fn a_certificate_that_another_library_issued_is_one() {
    use rcgen::{
        BasicConstraints, CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa,
        Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm,
    };
    struct Point([u8; 65]);
    impl PublicKeyData for Point {
        fn der_bytes(&self) -> &[u8] {
            &self.0
        }

        fn algorithm(&self) -> &'static SignatureAlgorithm {
            &PKCS_ECDSA_P256_SHA256
        }
    }
    let public = public_ec(AK_ATTRIBUTES, NONE, ECDSA, &Key::p256());
    let public = AkPublic::parse(&public).unwrap();
    let authority = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let anchors = [TrustAnchor::Tpm(root.self_signed(&authority).unwrap().der().to_vec())];
    let mut leaf = CertificateParams::default();
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
    let arcs = AK_IDENTITY_OID.split('.').map(|arc| arc.parse().unwrap()).collect::<Vec<u64>>();
    let identity = AkIdentity { platform: PlatformId::new([8; 32]), name: public.name() };
    leaf.custom_extensions = vec![CustomExtension::from_oid_content(&arcs, identity.encode())];
    let point = Point(*public.key().p256_point().unwrap());
    let issued = leaf.signed_by(&point, &Issuer::from_params(&root, &authority)).unwrap();
    let certificates = [Certificate(issued.der().to_vec())];
    let certified = tpm::verify_ak_certificate(&anchors, &certificates, NOW).unwrap();
    assert_eq!(certified.key(), public.key());
    assert_eq!(certified.name(), public.name());
}

#[test]
fn there_is_one_way_to_write_an_identity() {
    let der = identity().encode();
    assert_eq!(AkIdentity::decode(&der), Ok(identity()));
    for index in [0, 1, 2, 3, 36, 37, 38, 39] {
        let mut changed = der.clone();
        changed[index] ^= 1;
        assert!(AkIdentity::decode(&changed).is_err(), "{index}");
    }
    for length in 0..der.len() {
        assert!(AkIdentity::decode(&der[..length]).is_err());
    }
    assert!(AkIdentity::decode(&[der.as_slice(), &[0]].concat()).is_err());
}

#[test]
fn a_real_endorsement_key_is_certified_by_its_manufacturer() {
    let names = ["swtpm_ek_cert.der", "issuercert.pem", "swtpm-localca-rootca-cert.pem"];
    let [Some(leaf), Some(issuer), Some(root)] =
        names.map(|name| vectors::bytes(&format!("tee/tpm/{name}")))
    else {
        return;
    };
    let [issuer, root] = [issuer, root].map(|text| pem::parse(text).unwrap().into_contents());
    // swtpm made its certificates on this day.
    let now = Time(1_795_200_000);
    let spki = {
        use x509_cert::der::{Decode, Encode};
        let parsed = x509_cert::Certificate::from_der(&leaf).unwrap();
        parsed.tbs_certificate().subject_public_key_info().to_der().unwrap()
    };
    let modulus = &spki[spki.len() - 261..spki.len() - 5];
    let area = |modulus: &[u8]| {
        let head = [&[0x00, 0x01, 0x00, 0x0b], EK_ATTRIBUTES.to_be_bytes().as_slice()].concat();
        let size = [0x08, 0x00, 0, 0, 0, 0];
        [&head, &sized(&[]), AES_128_CFB, NONE, &size, &sized(modulus)].concat()
    };
    let ek = EkPublic::parse(&area(modulus)).unwrap();
    let leaf = Certificate(leaf);
    let makers = [Certificate(issuer), Certificate(root)];
    let makers = |now| Manufacturers::of(&makers, now);
    let known = makers(now).unwrap();
    let verified = tpm::verify_ek_certificate(&known, &leaf, &ek, now).unwrap();
    assert_eq!(verified.platform(), PlatformId::of_endorsement_key(&spki));
    let other = EkPublic::parse(&area(&[0xff; 256])).unwrap();
    let outcome = tpm::verify_ek_certificate(&known, &leaf, &other, now);
    assert_eq!(outcome, Err(TpmError::OtherKey));
    let maker = Key::p256();
    let foreign = Request::authority("swtpm-localca-rootca", "swtpm-localca-rootca", &maker);
    let foreign = Manufacturers::of(&[Certificate(foreign.signed(&maker))], NOW).unwrap();
    assert!(tpm::verify_ek_certificate(&foreign, &leaf, &ek, now).is_err());
    let outcome = tpm::verify_ek_certificate(&known, &leaf, &ek, Time(0));
    assert_eq!(outcome.unwrap_err().reason(), "certificate-not-yet-valid");
    assert_eq!(makers(Time(0)).unwrap_err().reason(), "manufacturer-refused");
}

/// A maker of TPMs, whose root a test may change before it is signed.
fn maker(change: impl FnOnce(&mut Request, &mut Key)) -> Certificate {
    let mut key = Key::p256();
    let mut root = Request::authority("maker", "maker", &key);
    change(&mut root, &mut key);
    Certificate(root.signed(&key))
}

#[test]
fn a_manufacturer_is_a_self_signed_authority_that_counts_now() {
    let reason = |certificates: &[Certificate]| {
        Manufacturers::of(certificates, NOW).err().map_or("ok", |error| error.reason())
    };
    let refused = "manufacturer-refused";
    assert_eq!(reason(&[maker(|_, _| {})]), "ok");
    assert_eq!(reason(&[]), "no-manufacturer");
    // Signed by another key under its own name.
    assert_eq!(reason(&[maker(|_, key| *key = Key::p256())]), refused);
    assert_eq!(reason(&[maker(|root, _| root.issuer = "another")]), "no-manufacturer");
    assert_eq!(reason(&[maker(|root, _| root.until = NOW.previous().unwrap())]), refused);
    assert_eq!(reason(&[maker(|root, _| root.since = NOW.after(1))]), refused);
    assert_eq!(reason(&[maker(|root, _| root.extensions.clear())]), refused);
    assert_eq!(reason(&[Certificate(vec![0x30, 0])]), refused);
    let many = vec![maker(|_, _| {}); 9];
    assert_eq!(reason(&many[..8]), "ok");
    assert_eq!(reason(&many), "chain-too-long");
}

#[test]
fn a_certificate_of_an_endorsement_key_is_for_that_and_nothing_else() {
    let (maker_key, key) = (Key::p256(), Key::p256());
    let root = Request::authority("maker", "maker", &maker_key).signed(&maker_key);
    let makers = Manufacturers::of(&[Certificate(root)], NOW).unwrap();
    let area = public_ec(EK_ATTRIBUTES, AES_128_CFB, NONE, &key);
    let public = EkPublic::parse(&area).unwrap();
    let reason = |purposes: &[&str]| {
        let mut leaf = Request::leaf("maker", "TPM", &key);
        if !purposes.is_empty() {
            let usage: Vec<_> = purposes.iter().map(|purpose| named(purpose)).collect();
            leaf.extensions = vec![extension("2.5.29.37", false, &sequence(&usage))];
        }
        let leaf = Certificate(leaf.signed(&maker_key));
        let outcome = tpm::verify_ek_certificate(&makers, &leaf, &public, NOW);
        outcome.err().map_or("ok", |error| error.reason())
    };
    assert_eq!(reason(&["2.23.133.8.1"]), "ok");
    assert_eq!(reason(&[]), "certificate-purpose");
    assert_eq!(reason(&["2.23.133.8.3"]), "certificate-purpose");
    assert_eq!(reason(&["2.23.133.8.1", "2.23.133.8.3"]), "certificate-purpose");
}
