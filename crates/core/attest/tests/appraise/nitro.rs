//! Nitro: real documents, and documents of a manufacturer of our own that differ in one field.

use heirloom_attest::chain::ChainError;
use heirloom_attest::nitro::{self, Document, NitroClaims, NitroError};
use heirloom_model::counter::Time;
use heirloom_model::evidence::TrustAnchor;
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{ImageMeasurement, Register48};
use minicbor::Encoder;
use minicbor::data::Tag;

use crate::forge::{Key, NOW, Request, SINCE, UNTIL};
use crate::vectors;

/// Real documents, the times at which they were made, and whether of an enclave in debug mode.
const REAL: [(&str, u64, bool); 3] = [
    ("nitro_attest_fixture.cose", 1_736_179_625, false),
    ("evervault/beta_debug-mode.cose", 1_665_582_606, true),
    ("evervault/valid-attestation-doc.cose", 1_695_049_410, true),
];

fn real(name: &str) -> Option<Vec<u8>> {
    vectors::bytes(&format!("tee/nitro/{name}"))
}

fn root() -> Option<Vec<TrustAnchor>> {
    let text = vectors::bytes("tee/nitro/aws_nitro_root_g1.pem")?;
    Some(vec![TrustAnchor::Nitro(pem::parse(text).unwrap().into_contents())])
}

fn verify(bytes: &[u8], anchors: &[TrustAnchor], now: Time) -> Result<NitroClaims, NitroError> {
    let document = Document::parse(bytes)?;
    let chain = nitro::verify_chain(&document, anchors, now)?;
    nitro::verify(&document, &chain, now)
}

#[test]
fn every_real_document_verifies_when_it_was_made() {
    for (name, now, debug) in REAL {
        let (Some(bytes), Some(anchors)) = (real(name), root()) else { return };
        let claims = verify(&bytes, &anchors, Time(now)).unwrap();
        assert_eq!(claims.timestamp(), Time(now), "{name}");
        assert!(claims.module_id().starts_with("i-"), "{name}");
        // A document of an enclave in debug mode is genuine, and has no measurement.
        let measurement = claims.measurement();
        assert_eq!(measurement == Err(NitroError::ZeroRegister { index: 0 }), debug, "{name}");
        assert_eq!(measurement.is_ok(), !debug, "{name}");
    }
}

#[test]
fn a_real_document_is_of_its_root_and_time() {
    for (name, now, _) in REAL {
        let (Some(bytes), Some(anchors)) = (real(name), root()) else { return };
        let reason =
            |anchors: &[TrustAnchor], now| verify(&bytes, anchors, Time(now)).unwrap_err().reason();
        assert_eq!(reason(&anchors, now + 86_400), "certificate-expired", "{name}");
        assert_eq!(reason(&anchors, now - 86_400 * 365), "certificate-not-yet-valid", "{name}");
        assert_eq!(reason(&[], now), "unknown-anchor");
        let wrong = [TrustAnchor::Snp(anchors[0].certificate().to_vec())];
        assert_eq!(reason(&wrong, now), "unknown-anchor");
        let foreign = [TrustAnchor::Nitro(world().roots()[0].certificate().to_vec())];
        assert_eq!(reason(&foreign, now), "unknown-anchor");
    }
}

#[test]
fn no_byte_of_a_real_document_can_change() {
    for (name, now, _) in REAL {
        let (Some(bytes), Some(anchors)) = (real(name), root()) else { return };
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1 << (index % 8);
            assert!(verify(&changed, &anchors, Time(now)).is_err(), "{name} at {index}");
        }
        for length in 0..bytes.len() {
            assert!(Document::parse(&bytes[..length]).is_err(), "{name} cut at {length}");
        }
    }
}

/// A manufacturer of our own, and a document that its key signs.
struct World {
    root: Key,
    zone: Key,
    leaf: Key,
    root_der: Vec<u8>,
    zone_der: Vec<u8>,
    certificate: Request,
    protected: Vec<u8>,
    unprotected: bool,
    tagged: Option<u64>,
    fields: Vec<(&'static str, Vec<u8>)>,
}

fn world() -> World {
    let (root, zone, leaf) = (Key::p384(), Key::p384(), Key::p384());
    let root_der = Request::authority("nitro", "nitro", &root).signed(&root);
    let zone_der = Request::authority("nitro", "zone", &zone).signed(&root);
    let certificate = Request::leaf("zone", "enclave", &leaf);
    let mut world = World {
        root,
        zone,
        leaf,
        root_der,
        zone_der,
        certificate,
        protected: vec![0xa1, 0x01, 0x38, 0x22],
        unprotected: false,
        tagged: None,
        fields: Vec::new(),
    };
    world.fields = vec![
        ("module_id", cbor(|e| drop(e.str("i-0123-enc4567")))),
        ("digest", cbor(|e| drop(e.str("SHA384")))),
        ("timestamp", cbor(|e| drop(e.u64(NOW.0 * 1000)))),
        ("pcrs", registers(&[(0, 1), (1, 2), (2, 3), (8, 9)])),
        ("certificate", Vec::new()),
        ("cabundle", Vec::new()),
        ("public_key", cbor(|e| drop(e.null()))),
        ("user_data", cbor(|e| drop(e.bytes(&[7; 64])))),
        ("nonce", cbor(|e| drop(e.null()))),
    ];
    world.certify();
    world
}

fn cbor(write: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder);
    encoder.into_writer()
}

/// Registers filled with one byte each.
fn registers(values: &[(u64, u8)]) -> Vec<u8> {
    cbor(|e| {
        e.map(values.len() as u64).unwrap();
        for (index, fill) in values {
            e.u64(*index).unwrap().bytes(&[*fill; 48]).unwrap();
        }
    })
}

impl World {
    fn roots(&self) -> Vec<TrustAnchor> {
        vec![TrustAnchor::Nitro(self.root_der.clone())]
    }

    /// Puts the certificates into the document.
    fn certify(&mut self) {
        let leaf = self.certificate.signed(&self.zone);
        self.set("certificate", cbor(|e| drop(e.bytes(&leaf))));
        let bundle = [self.root_der.clone(), self.zone_der.clone()];
        self.bundle(&bundle);
    }

    fn bundle(&mut self, ders: &[Vec<u8>]) {
        let value = cbor(|e| {
            e.array(ders.len() as u64).unwrap();
            for der in ders {
                e.bytes(der).unwrap();
            }
        });
        self.set("cabundle", value);
    }

    fn set(&mut self, name: &str, value: Vec<u8>) {
        let field = self.fields.iter_mut().find(|(found, _)| *found == name);
        field.unwrap().1 = value;
    }

    fn document(&self) -> Vec<u8> {
        let mut payload = cbor(|e| drop(e.map(self.fields.len() as u64)));
        for (name, value) in &self.fields {
            payload.extend(cbor(|e| drop(e.str(name))));
            payload.extend(value);
        }
        let signed = cbor(|e| {
            e.array(4).unwrap().str("Signature1").unwrap().bytes(&self.protected).unwrap();
            e.bytes(&[]).unwrap().bytes(&payload).unwrap();
        });
        let signature = self.leaf.sign_evidence(&signed);
        cbor(|e| {
            if let Some(tag) = self.tagged {
                e.tag(Tag::new(tag)).unwrap();
            }
            e.array(4).unwrap().bytes(&self.protected).unwrap();
            if self.unprotected {
                e.map(1).unwrap().u8(4).unwrap().bytes(&[1]).unwrap();
            } else {
                e.map(0).unwrap();
            }
            e.bytes(&payload).unwrap().bytes(&signature).unwrap();
        })
    }

    fn verify(&self) -> Result<NitroClaims, NitroError> {
        verify(&self.document(), &self.roots(), NOW)
    }

    fn reason(&self) -> &'static str {
        self.verify().map_or_else(|error| error.reason(), |_| "ok")
    }
}

/// What becomes of a document with one change.
fn changed(change: impl FnOnce(&mut World)) -> &'static str {
    let mut world = world();
    change(&mut world);
    world.reason()
}

#[test]
fn a_document_of_our_own_verifies() {
    let claims = world().verify().unwrap();
    let measured = [[1; 48], [2; 48], [3; 48]].map(Register48::new);
    assert_eq!(claims.measurement(), Ok(ImageMeasurement::of(&measured)));
    assert_eq!(claims.register(8), Ok(Register48::new([9; 48])));
    assert_eq!(claims.register(3), Err(NitroError::MissingRegister { index: 3 }));
    assert_eq!(claims.platform(), PlatformId::of_module("i-0123"));
    assert_eq!(claims.user_data(), Some([7; 64].as_slice()));
    assert_eq!((claims.nonce(), claims.public_key()), (None, None));
    assert_eq!(changed(|world| world.tagged = Some(18)), "ok");
}

#[test]
fn another_envelope_is_refused() {
    assert_eq!(changed(|world| world.tagged = Some(98)), "malformed-document");
    assert_eq!(changed(|world| world.unprotected = true), "malformed-document");
    // ES256; and ES384 with a critical header.
    let es256 = vec![0xa1, 0x01, 0x26];
    assert_eq!(changed(|world| world.protected = es256), "unsupported-signature-algorithm");
    let critical = vec![0xa2, 0x01, 0x38, 0x22, 0x02, 0x81, 0x04];
    assert_eq!(changed(|world| world.protected = critical), "unsupported-signature-algorithm");
    let good = world().document();
    let anchors = world().roots();
    let trailing = [good.as_slice(), &[0]].concat();
    assert_eq!(verify(&trailing, &anchors, NOW).unwrap_err().reason(), "malformed-document");
    // The same array, its length in one byte more.
    let longer = [&[0x98, 0x04], &good[1..]].concat();
    assert_eq!(verify(&longer, &anchors, NOW).unwrap_err().reason(), "malformed-document");
}

#[test]
fn every_field_stands_once_and_has_its_form() {
    for index in 0..9 {
        let reason = changed(|world| world.fields[index].0 = "other");
        assert_eq!(reason, "malformed-document", "{index}");
        let reason = changed(|world| {
            let twice = world.fields[index].clone();
            world.fields[(index + 1) % 9] = twice;
        });
        assert_eq!(reason, "malformed-document", "{index}");
    }
    let set = |name: &str, value: Vec<u8>| changed(|world| world.set(name, value));
    assert_eq!(set("digest", cbor(|e| drop(e.str("SHA256")))), "malformed-document");
    assert_eq!(set("pcrs", registers(&[(0, 1), (1, 2), (2, 3), (32, 9)])), "malformed-document");
    assert_eq!(set("pcrs", registers(&[(0, 1), (1, 2), (2, 3), (0, 1)])), "malformed-document");
    let short = cbor(|e| drop(e.map(1).unwrap().u8(0).unwrap().bytes(&[1; 32])));
    assert_eq!(set("pcrs", short), "malformed-document");
    assert_eq!(set("user_data", cbor(|e| drop(e.bytes(&[0; 513])))), "document-too-large");
    assert_eq!(set("user_data", cbor(|e| drop(e.u8(1)))), "malformed-document");
    assert_eq!(set("pcrs", vec![0xbf, 0xff]), "malformed-document");
    assert_eq!(set("public_key", cbor(|e| drop(e.bytes(&[0; 1025])))), "document-too-large");
    // The attester's own fields may be missing altogether.
    assert_eq!(changed(|world| world.fields.truncate(6)), "ok");
    assert_eq!(changed(|world| world.fields.truncate(5)), "malformed-document");
}

#[test]
fn an_enclave_in_debug_mode_has_no_measurement() {
    for (index, values) in [
        (0, [(0, 0), (1, 2), (2, 3)]),
        (1, [(0, 1), (1, 0), (2, 3)]),
        (2, [(0, 1), (1, 2), (2, 0)]),
    ] {
        let mut world = world();
        world.set("pcrs", registers(&values));
        let claims = world.verify().unwrap();
        assert_eq!(claims.measurement(), Err(NitroError::ZeroRegister { index }));
    }
}

#[test]
fn the_path_must_be_whole_and_begin_with_the_root() {
    let root_missing = changed(|world| {
        let zone = world.zone_der.clone();
        world.bundle(&[zone]);
    });
    assert_eq!(root_missing, "unknown-anchor");
    let empty = changed(|world| world.bundle(&[]));
    assert_eq!(empty, "unknown-anchor");
    let gap = changed(|world| {
        let root = world.root_der.clone();
        world.bundle(&[root]);
    });
    assert_eq!(gap, "unknown-anchor");
    // The same name and key, but not the certificate that is trusted.
    let again = changed(|world| {
        let mut request = Request::authority("nitro", "nitro", &world.root);
        request.serial = 9;
        let (root, zone) = (request.signed(&world.root), world.zone_der.clone());
        world.bundle(&[root, zone]);
    });
    assert_eq!(again, "unknown-anchor");
    let expired = changed(|world| {
        world.certificate.until = Time(NOW.0 - 1);
        world.certify();
    });
    assert_eq!(expired, "certificate-expired");
    let weak = changed(|world| {
        world.zone = Key::p256();
        let request = Request::authority("nitro", "zone", &world.zone);
        world.zone_der = request.signed(&world.root);
        world.certify();
    });
    assert_eq!(weak, "certificate-algorithm");
    assert_eq!(changed(|world| world.leaf = Key::p384()), "document-signature");
    let many = changed(|world| {
        let root = world.root_der.clone();
        world.bundle(&vec![root; 10]);
    });
    assert_eq!(many, "document-too-large");
}

#[test]
fn a_remembered_path_is_good_for_its_own_documents_and_time() {
    let mut world = world();
    let bytes = world.document();
    let document = Document::parse(&bytes).unwrap();
    let chain = nitro::verify_chain(&document, &world.roots(), NOW).unwrap();
    assert_eq!((chain.since(), chain.until()), (SINCE, UNTIL.after(1)));
    assert!(nitro::verify(&document, &chain, UNTIL).is_ok());
    let expired = ChainError::Expired { until: UNTIL.after(1) };
    let outcome = nitro::verify(&document, &chain, UNTIL.after(1));
    assert_eq!(outcome, Err(NitroError::Chain { error: expired }));
    // A new certificate for the same key.
    world.certificate.serial = 9;
    world.certify();
    let other = world.document();
    let other = Document::parse(&other).unwrap();
    assert_eq!(nitro::verify(&other, &chain, NOW), Err(NitroError::OtherChain));
}
