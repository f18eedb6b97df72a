//! SEV-SNP: real reports, and reports of a manufacturer of our own that differ in one field.

use heirloom_attest::chain::ChainError;
use heirloom_attest::snp::{self, Report, SnpClaims, SnpError, Tcb, VerifiedVek};
use heirloom_model::appraisal::{SnpGeneration, VekKind};
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Certificate, TrustAnchor};

use crate::forge::{Key, NOW, Request, SINCE, UNTIL, extension, tlv};
use crate::vectors;

/// A real report, the certificate of its key, its generation and a day on which it verifies.
struct Real {
    report: &'static str,
    certificate: &'static str,
    generation: &'static str,
    kind: VekKind,
    vmpl: u32,
    now: Time,
}

const MARCH_2026: Time = Time(1_773_000_000);
const DECEMBER_2025: Time = Time(1_764_547_200);
/// Beyond every certificate of a chip.
const YEAR_2040: Time = Time(2_208_988_800);

#[rustfmt::skip]
const REAL: [Real; 8] = [
    Real::vcek("report_milan.bin", "vcek_milan.der", "milan", 0),
    Real::vcek("coco/snp_test-report.bin", "coco/snp_test-vcek.der", "milan", 0),
    Real { kind: VekKind::Vlek, now: DECEMBER_2025, ..Real::vcek("coco/snp_test-vlek-report.bin", "coco/snp_test-vlek.der", "milan", 1) },
    Real::vcek("azure_milan_report.bin", "coco/az-snp-vtpm_vcek.pem", "milan", 0),
    Real::vcek("azure_genoa_report.bin", "coco/az-snp-vtpm_vcek-genoa.pem", "genoa", 0),
    Real::vcek("oak/milan_oc_release_report.bin", "oak/milan_oc_release_vcek.der", "milan", 0),
    Real::vcek("oak/genoa_oc_report.bin", "oak/genoa_oc_vcek.der", "genoa", 0),
    Real::vcek("oak/turin_oc_report.bin", "oak/turin_oc_vcek.der", "turin", 0),
];

impl Real {
    const fn vcek(
        report: &'static str,
        certificate: &'static str,
        generation: &'static str,
        vmpl: u32,
    ) -> Self {
        Self { report, certificate, generation, kind: VekKind::Vcek, vmpl, now: MARCH_2026 }
    }

    fn report(&self) -> Option<Vec<u8>> {
        vectors::bytes(&format!("tee/snp/{}", self.report))
    }

    /// The certificate of the key and its issuer's.
    fn certificates(&self) -> Option<Vec<Certificate>> {
        let leaf = vectors::bytes(&format!("tee/snp/{}", self.certificate))?;
        let leaf = match pem::parse_many(&leaf) {
            Ok(blocks) if !blocks.is_empty() => blocks[0].contents().to_vec(),
            _ => leaf,
        };
        let [ask, _, asvk] = authorities(self.generation)?;
        let issuer = if self.kind == VekKind::Vlek { asvk } else { ask };
        Some(vec![Certificate(leaf), Certificate(issuer)])
    }

    fn anchors(&self) -> Option<Vec<TrustAnchor>> {
        let [_, ark, _] = authorities(self.generation)?;
        Some(vec![TrustAnchor::Snp(ark)])
    }

    fn vek(&self) -> Option<VerifiedVek> {
        let certificates = self.certificates()?;
        Some(snp::verify_vek(&self.anchors()?, &certificates, self.now).unwrap())
    }
}

/// ASK, ARK and ASVK of a generation.
fn authorities(generation: &str) -> Option<[Vec<u8>; 3]> {
    let text = vectors::bytes(&format!("tee/snp/coco/{generation}_ask_ark_asvk.pem"))?;
    let blocks = pem::parse_many(&text).unwrap();
    let ders: Vec<_> = blocks.iter().map(|block| block.contents().to_vec()).collect();
    Some(ders.try_into().unwrap())
}

fn named(generation: &str) -> SnpGeneration {
    match generation {
        "milan" => SnpGeneration::Milan,
        "genoa" => SnpGeneration::Genoa,
        _ => SnpGeneration::Turin,
    }
}

#[test]
fn every_real_report_verifies_on_its_day() {
    for case in &REAL {
        let (Some(bytes), Some(vek)) = (case.report(), case.vek()) else { return };
        let report = Report::parse(&bytes).unwrap();
        let claims = snp::verify(&report, &vek, case.now).unwrap();
        assert_eq!(claims.generation(), named(case.generation), "{}", case.report);
        assert_eq!(claims.kind(), case.kind, "{}", case.report);
        assert_eq!(claims.report().vmpl(), case.vmpl, "{}", case.report);
        assert_eq!(claims.platform().is_some(), case.kind == VekKind::Vcek, "{}", case.report);
        assert_eq!(claims.provider().is_some(), case.kind == VekKind::Vlek, "{}", case.report);
    }
}

#[test]
fn a_real_report_is_of_its_generation_and_time() {
    for case in &REAL {
        let (Some(certificates), Some(anchors)) = (case.certificates(), case.anchors()) else {
            return;
        };
        let verify = |anchors: &[TrustAnchor], now| {
            snp::verify_vek(anchors, &certificates, now).unwrap_err().reason()
        };
        let other = if case.generation == "milan" { "genoa" } else { "milan" };
        let Some([_, foreign, _]) = authorities(other) else { return };
        assert_eq!(verify(&[TrustAnchor::Snp(foreign)], case.now), "unknown-anchor");
        assert_eq!(verify(&anchors, YEAR_2040), "certificate-expired", "{}", case.report);
        assert_eq!(verify(&anchors, Time(0)), "certificate-not-yet-valid", "{}", case.report);
        // The right root of the wrong kind is no anchor.
        let wrong = [TrustAnchor::Nitro(anchors[0].certificate().to_vec())];
        assert_eq!(verify(&wrong, case.now), "unknown-anchor");
    }
}

#[test]
fn no_byte_of_a_real_report_can_change() {
    for case in &REAL {
        let (Some(bytes), Some(vek)) = (case.report(), case.vek()) else { return };
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1 << (index % 8);
            let outcome =
                Report::parse(&changed).and_then(|report| snp::verify(&report, &vek, case.now));
            assert!(outcome.is_err(), "{} at {index:#x}", case.report);
        }
    }
}

#[test]
fn no_byte_of_a_real_certificate_can_change() {
    let case = &REAL[0];
    let (Some(certificates), Some(anchors)) = (case.certificates(), case.anchors()) else { return };
    for index in 0..certificates[0].0.len() {
        let mut changed = certificates.clone();
        changed[0].0[index] ^= 1 << (index % 8);
        let outcome = snp::verify_vek(&anchors, &changed, case.now);
        assert!(outcome.is_err(), "at {index:#x}");
    }
}

#[test]
fn a_truncated_report_or_certificate_is_refused() {
    let case = &REAL[0];
    let (Some(bytes), Some(certificates), Some(anchors)) =
        (case.report(), case.certificates(), case.anchors())
    else {
        return;
    };
    for length in 0..bytes.len() {
        let outcome = Report::parse(&bytes[..length]);
        assert_eq!(outcome, Err(SnpError::Length { found: length }));
    }
    let longer = [bytes.as_slice(), &[0]].concat();
    assert!(Report::parse(&longer).is_err());
    for length in 0..certificates[0].0.len() {
        let mut cut = certificates.clone();
        cut[0].0.truncate(length);
        assert!(snp::verify_vek(&anchors, &cut, case.now).is_err(), "{length}");
    }
}

#[test]
fn real_certificates_of_another_chip_or_firmware_do_not_fit() {
    let case = &REAL[1];
    let (Some(bytes), Some(anchors)) = (case.report(), case.anchors()) else { return };
    let Some([ask, _, asvk]) = authorities("milan") else { return };
    let report = Report::parse(&bytes).unwrap();
    for name in ["snp_test-vcek-invalid-legacy.der", "snp_test-vcek-invalid-new.der"] {
        let Some(leaf) = vectors::bytes(&format!("tee/snp/coco/{name}")) else { return };
        let certificates = [Certificate(leaf), Certificate(ask.clone())];
        let outcome = snp::verify_vek(&anchors, &certificates, case.now)
            .and_then(|vek| snp::verify(&report, &vek, case.now));
        assert!(outcome.is_err(), "{name}");
    }
    // The key of a chip is not issued by the authority for providers.
    let mut certificates = case.certificates().unwrap();
    certificates[1] = Certificate(asvk);
    let outcome = snp::verify_vek(&anchors, &certificates, case.now);
    assert_eq!(outcome.unwrap_err().reason(), "unknown-anchor");
    // Another chip of the same generation.
    let foreign = REAL[5].vek().unwrap();
    let outcome = snp::verify(&report, &foreign, case.now).unwrap_err();
    assert!(matches!(outcome, SnpError::TcbMismatch { .. } | SnpError::ChipMismatch), "{outcome}");
}

/// A manufacturer of our own, a key that it certified, and a report that the key signs.
struct World {
    ark: Key,
    ask: Key,
    vek: Key,
    authority: Request,
    certificate: Request,
    report: Vec<u8>,
    now: Time,
}

const CHIP: [u8; 64] = [0x5a; 64];
const FIRMWARE: Tcb = Tcb { fmc: 0, bootloader: 3, tee: 1, snp: 20, microcode: 209 };

fn world() -> World {
    let (ark, ask, vek) = (Key::rsa(), Key::rsa(), Key::p384());
    let mut certificate = Request::leaf("SEV-Genoa", "SEV-VCEK", &vek);
    certificate.extensions = vec![
        extension("1.3.6.1.4.1.3704.1.2", false, &tlv(0x16, b"Genoa")),
        version(1, FIRMWARE.bootloader),
        version(2, FIRMWARE.tee),
        version(3, FIRMWARE.snp),
        version(8, FIRMWARE.microcode),
        extension("1.3.6.1.4.1.3704.1.4", false, &CHIP),
    ];
    let authority = Request::authority("ARK-Genoa", "SEV-Genoa", &ask);
    World { ark, ask, vek, authority, certificate, report: report(), now: NOW }
}

/// An extension with a security version.
fn version(part: u8, version: u8) -> Vec<u8> {
    let name = format!("1.3.6.1.4.1.3704.1.3.{part}");
    let number = if version < 128 { vec![2, 1, version] } else { vec![2, 2, 0, version] };
    extension(&name, false, &number)
}

/// A report of version 5 by a Genoa machine.
fn report() -> Vec<u8> {
    let mut report = vec![0; Report::BYTES];
    put(&mut report, 0x000, &[5]);
    put(&mut report, 0x008, &0x3_0000_u64.to_le_bytes());
    put(&mut report, 0x034, &[1]);
    put(&mut report, 0x040, &[0x25]);
    put(&mut report, 0x050, &[0x11; 64]);
    put(&mut report, 0x090, &[0x22; 48]);
    for tcb in [0x038, 0x180, 0x1e0, 0x1f0] {
        put(&mut report, tcb, &[3, 1, 0, 0, 0, 0, 20, 209]);
    }
    put(&mut report, 0x188, &[0x19, 0x11, 1]);
    put(&mut report, 0x1a0, &CHIP);
    report
}

fn put(report: &mut [u8], at: usize, bytes: &[u8]) {
    report[at..at + bytes.len()].copy_from_slice(bytes);
}

impl World {
    fn anchors(&self) -> Vec<TrustAnchor> {
        let root = Request::authority("ARK-Genoa", "ARK-Genoa", &self.ark).signed(&self.ark);
        vec![TrustAnchor::Snp(root)]
    }

    fn vek(&self) -> Result<VerifiedVek, SnpError> {
        let certificates = [self.certificate.signed(&self.ask), self.authority.signed(&self.ark)];
        let certificates = certificates.map(Certificate);
        snp::verify_vek(&self.anchors(), &certificates, self.now)
    }

    /// Signs the report and verifies all.
    fn verify(&self) -> Result<SnpClaims, SnpError> {
        let mut report = self.report.clone();
        let signature = self.vek.sign_evidence(&report[..0x2a0]);
        let (r, s) = signature.split_at(48);
        let reversed = |number: &[u8]| number.iter().rev().copied().collect::<Vec<_>>();
        put(&mut report, 0x2a0, &reversed(r));
        put(&mut report, 0x2e8, &reversed(s));
        let report = Report::parse(&report)?;
        snp::verify(&report, &self.vek()?, self.now)
    }

    fn reason(&self) -> &'static str {
        self.verify().map_or_else(|error| error.reason(), |_| "ok")
    }
}

/// What becomes of a report with these bytes in it.
fn with_bytes(at: usize, bytes: &[u8]) -> &'static str {
    let mut world = world();
    put(&mut world.report, at, bytes);
    world.reason()
}

/// What becomes of a certificate with one change.
fn with_certificate(change: impl FnOnce(&mut Request)) -> &'static str {
    let mut world = world();
    change(&mut world.certificate);
    world.reason()
}

#[test]
fn a_report_of_our_own_verifies() {
    let claims = world().verify().unwrap();
    assert_eq!(claims.tcb(), FIRMWARE);
    assert_eq!(claims.committed_tcb(), FIRMWARE);
    assert!(claims.report().allows_smt() && !claims.report().single_socket());
    assert_eq!(claims.report().launch_digest().as_bytes(), &[0x22; 48]);
}

#[test]
fn what_no_policy_can_allow_is_refused() {
    let policy = |bits: u64| with_bytes(0x008, &bits.to_le_bytes());
    assert_eq!(policy(1 << 17 | 1 << 19), "debug-guest");
    assert_eq!(policy(1 << 17 | 1 << 18), "migration-agent");
    assert_eq!(policy(1 << 17 | 1 << 26), "unknown-guest-policy");
    assert_eq!(policy(1 << 16), "unknown-guest-policy");
    assert_eq!(with_bytes(0x030, &[4]), "not-asked-by-guest");
    assert_eq!(with_bytes(0x030, &[0xff; 4]), "not-asked-by-guest");
    assert_eq!(with_bytes(0x030, &[3]), "ok");
    assert_eq!(with_bytes(0x090, &[0; 48]), "zero-measurement");
}

#[test]
fn what_is_not_known_is_refused() {
    assert_eq!(with_bytes(0x000, &[1]), "unsupported-report-version");
    assert_eq!(with_bytes(0x000, &[6]), "unsupported-report-version");
    assert_eq!(with_bytes(0x034, &[2]), "unsupported-signature-algorithm");
    assert_eq!(with_bytes(0x048, &[1 << 1]), "unknown-signing-key");
    assert_eq!(with_bytes(0x048, &[7 << 2]), "unknown-signing-key");
    assert_eq!(with_bytes(0x048, &[1]), "ok");
    assert_eq!(with_bytes(0x188, &[0x17]), "unknown-processor");
    for reserved in [0x04c, 0x18b, 0x1eb, 0x1ef, 0x208, 0x29f, 0x2d0, 0x318, 0x49f] {
        assert_eq!(with_bytes(reserved, &[1]), "reserved-not-zero", "{reserved:#x}");
    }
    // Version 3 has no mitigation vectors yet, version 2 no processor either.
    let mut world = world();
    put(&mut world.report, 0x000, &[3]);
    assert_eq!(world.reason(), "ok");
    put(&mut world.report, 0x1f8, &[1]);
    assert_eq!(world.reason(), "reserved-not-zero");
    put(&mut world.report, 0x1f8, &[0]);
    put(&mut world.report, 0x000, &[2]);
    assert_eq!(world.reason(), "reserved-not-zero");
    put(&mut world.report, 0x188, &[0; 3]);
    assert_eq!(world.reason(), "ok");
}

#[test]
fn report_and_certificate_must_say_the_same() {
    assert_eq!(with_bytes(0x048, &[1 << 2]), "signing-key-mismatch");
    // Family and model of Milan.
    assert_eq!(with_bytes(0x188, &[0x19, 0x01]), "generation-mismatch");
    assert_eq!(with_bytes(0x1a0, &[0]), "chip-mismatch");
    for component in [0x180, 0x181, 0x186, 0x187] {
        assert_eq!(with_bytes(component, &[99]), "tcb-mismatch", "{component:#x}");
    }
    assert_eq!(with_bytes(0x183, &[1]), "reserved-not-zero");
    for (index, part) in [(1, 1), (2, 2), (3, 3), (4, 8)] {
        let reason = with_certificate(|request| request.extensions[index] = version(part, 99));
        assert_eq!(reason, "tcb-mismatch", "{part}");
    }
    let other = extension("1.3.6.1.4.1.3704.1.4", false, &[0x5b; 64]);
    assert_eq!(with_certificate(|request| request.extensions[5] = other), "chip-mismatch");
    let milan = extension("1.3.6.1.4.1.3704.1.2", false, &tlv(0x16, b"Milan-B0"));
    assert_eq!(with_certificate(|request| request.extensions[0] = milan), "generation-mismatch");
}

#[test]
fn a_certificate_says_all_that_it_must_once() {
    for index in 0..6 {
        let reason = with_certificate(|request| drop(request.extensions.remove(index)));
        assert_eq!(reason, "malformed-certificate", "{index}");
        let reason = with_certificate(|request| {
            let twice = request.extensions[index].clone();
            request.extensions.push(twice);
        });
        assert_eq!(reason, "malformed-certificate", "{index}");
    }
    assert_eq!(with_certificate(|request| request.subject = "SEV-VLEK"), "malformed-certificate");
    assert_eq!(with_certificate(|request| request.subject = "VCEK"), "malformed-certificate");
    let provider = extension("1.3.6.1.4.1.3704.1.5", false, &tlv(0x16, b"CN=cloud"));
    assert_eq!(
        with_certificate(|request| request.extensions.push(provider)),
        "malformed-certificate"
    );
    let rome = extension("1.3.6.1.4.1.3704.1.2", false, &tlv(0x16, b"Rome"));
    assert_eq!(with_certificate(|request| request.extensions[0] = rome), "unknown-product");
    let p256 = Key::p256();
    assert_eq!(with_certificate(|request| request.spki = p256.spki()), "malformed-certificate");
    let other = Key::p384();
    assert_eq!(with_certificate(|request| request.spki = other.spki()), "report-signature");
}

/// The world of a cloud provider's key.
fn provider() -> World {
    let mut world = world();
    world.certificate.subject = "SEV-VLEK";
    world.certificate.extensions[5] =
        extension("1.3.6.1.4.1.3704.1.5", false, &tlv(0x16, b"CN=cloud"));
    put(&mut world.report, 0x048, &[1 << 2]);
    world
}

#[test]
fn the_key_of_a_provider_names_no_chip() {
    let claims = provider().verify().unwrap();
    assert_eq!((claims.kind(), claims.platform()), (VekKind::Vlek, None));
    assert_eq!(claims.provider(), Some("CN=cloud"));
    let mut both = provider();
    both.certificate.extensions.push(extension("1.3.6.1.4.1.3704.1.4", false, &CHIP));
    assert_eq!(both.reason(), "malformed-certificate");
}

#[test]
fn turin_has_a_shorter_chip_number_and_another_order_of_versions() {
    let mut world = world();
    world.certificate.extensions[0] =
        extension("1.3.6.1.4.1.3704.1.2", false, &tlv(0x16, b"Turin"));
    world.certificate.extensions[5] = extension("1.3.6.1.4.1.3704.1.4", false, &CHIP[..8]);
    world.certificate.extensions.push(version(9, 2));
    put(&mut world.report, 0x188, &[0x1a, 0x02]);
    put(&mut world.report, 0x1a8, &[0; 56]);
    for tcb in [0x038, 0x180, 0x1e0, 0x1f0] {
        put(&mut world.report, tcb, &[2, 3, 1, 20, 0, 0, 0, 209]);
    }
    let claims = world.verify().unwrap();
    assert_eq!(claims.tcb(), Tcb { fmc: 2, ..FIRMWARE });
    put(&mut world.report, 0x180, &[3]);
    assert_eq!(world.reason(), "tcb-mismatch");
    put(&mut world.report, 0x180, &[2]);
    put(&mut world.report, 0x1a8, &[1]);
    assert_eq!(world.reason(), "chip-mismatch");
}

#[test]
fn the_path_must_be_whole_and_of_its_time() {
    let mut late = world();
    late.now = Time(UNTIL.0 + 1);
    assert_eq!(late.reason(), "certificate-expired");
    let mut last = world();
    last.now = UNTIL;
    assert_eq!(last.reason(), "ok");
    let mut early = world();
    early.now = Time(SINCE.0 - 1);
    assert_eq!(early.reason(), "certificate-not-yet-valid");
    let mut short = world();
    short.authority.until = Time(NOW.0 - 1);
    assert_eq!(short.reason(), "certificate-expired");
    let mut foreign = world();
    foreign.ask = Key::rsa();
    assert_eq!(foreign.reason(), "certificate-signature");
    let mut gap = world();
    gap.certificate.issuer = "SEV-VLEK-Genoa";
    assert_eq!(gap.reason(), "unknown-anchor");
    let mut weak = world();
    weak.ask = Key::p384();
    weak.authority.spki = weak.ask.spki();
    assert_eq!(weak.reason(), "certificate-algorithm");
    assert_eq!(snp::verify_vek(&world().anchors(), &[], NOW), Err(SnpError::MissingCertificate));
}

#[test]
fn a_root_that_is_not_of_this_time_is_no_anchor() {
    let world = world();
    let mut root = Request::authority("ARK-Genoa", "ARK-Genoa", &world.ark);
    root.until = Time(NOW.0 - 1);
    let anchors = [TrustAnchor::Snp(root.signed(&world.ark))];
    let certificates =
        [world.certificate.signed(&world.ask), world.authority.signed(&world.ark)].map(Certificate);
    let outcome = snp::verify_vek(&anchors, &certificates, NOW);
    assert_eq!(outcome.unwrap_err().reason(), "certificate-expired");
}

#[test]
fn a_remembered_path_ends_with_its_certificates() {
    let mut world = world();
    world.certificate.until = Time(NOW.0 + 10);
    let vek = world.vek().unwrap();
    assert_eq!(vek.chain().until(), Time(NOW.0 + 11));
    assert_eq!(vek.chain().since(), SINCE);
    let Some(bytes) = REAL[6].report() else { return };
    let report = Report::parse(&bytes).unwrap();
    let outcome = snp::verify(&report, &vek, Time(NOW.0 + 11));
    let expired = ChainError::Expired { until: Time(NOW.0 + 11) };
    assert_eq!(outcome, Err(SnpError::Chain { error: expired }));
}
