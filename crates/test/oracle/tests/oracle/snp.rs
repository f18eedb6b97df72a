//! SEV-SNP reports: the crate `sev`, whose own way is to check signatures and nothing else.
//!
//! What it accepts and we refuse, by name:
//!
//! * **reserved versions**: it verifies a report that it has written anew, so that the reserved
//!   bytes of the four TCB versions may be anything although they are signed;
//! * **behind the signature**: the padding of the signature's two numbers and what follows them;
//! * **time**: it never looks at a date;
//! * **root**: it takes any root that signed itself;
//! * **binding**: it does not compare the certificate's chip and versions with the report's.

use heirloom_attest::snp::{self, Report};
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Certificate, TrustAnchor};
use sev::certs::snp::{self as theirs_snp, Chain, Verifiable as _, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser as _;

use crate::mutate::Random;
use crate::{theirs, vector};

/// A real report, the certificate of its key and its generation.
struct Case {
    name: &'static str,
    report: Vec<u8>,
    vek: Vec<u8>,
    issuer: Vec<u8>,
    root: Vec<u8>,
    /// Reserved bytes of a TCB version.
    reserved: std::ops::Range<usize>,
    now: u64,
}

#[rustfmt::skip]
const REAL: [(&str, &str, &str, usize); 8] = [
    ("report_milan.bin", "vcek_milan.der", "milan", VCEK),
    ("coco/snp_test-report.bin", "coco/snp_test-vcek.der", "milan", VCEK),
    ("coco/snp_test-vlek-report.bin", "coco/snp_test-vlek.der", "milan", VLEK),
    ("azure_milan_report.bin", "coco/az-snp-vtpm_vcek.pem", "milan", VCEK),
    ("azure_genoa_report.bin", "coco/az-snp-vtpm_vcek-genoa.pem", "genoa", VCEK),
    ("oak/milan_oc_release_report.bin", "oak/milan_oc_release_vcek.der", "milan", VCEK),
    ("oak/genoa_oc_report.bin", "oak/genoa_oc_vcek.der", "genoa", VCEK),
    ("oak/turin_oc_report.bin", "oak/turin_oc_vcek.der", "turin", VCEK),
];
/// The order of the authorities' certificates in a file: ASK, ARK, ASVK.
const VCEK: usize = 0;
const VLEK: usize = 2;
const DECEMBER_2025: u64 = 1_764_547_200;
const MARCH_2026: u64 = 1_773_000_000;
const YEAR_2040: u64 = 2_208_988_800;
const ROUNDS: u64 = 800;
/// Where the four TCB versions stand (AMD 56860, table 23).
const TCB: [usize; 4] = [0x038, 0x180, 0x1e0, 0x1f0];
/// Where the signature stands, and each of its numbers: 48 bytes of 72.
const SIGNATURE: usize = 0x2a0;
const NUMBER: usize = 72;

fn ders(name: &str) -> Option<Vec<Vec<u8>>> {
    let bytes = vector(&format!("tee/snp/{name}"))?;
    let blocks = pem::parse_many(&bytes).unwrap_or_default();
    let ders: Vec<_> = blocks.into_iter().map(pem::Pem::into_contents).collect();
    Some(if ders.is_empty() { vec![bytes] } else { ders })
}

fn real() -> Vec<Case> {
    let case = |(report, vek, generation, issuer): (&'static str, &str, &str, usize)| {
        let authorities = ders(&format!("coco/{generation}_ask_ark_asvk.pem"))?;
        Some(Case {
            name: report,
            report: vector(&format!("tee/snp/{report}"))?,
            vek: ders(vek)?.swap_remove(0),
            issuer: authorities[issuer].clone(),
            root: authorities[1].clone(),
            reserved: if generation == "turin" { 4..7 } else { 2..6 },
            now: if issuer == VLEK { DECEMBER_2025 } else { MARCH_2026 },
        })
    };
    REAL.into_iter().filter_map(case).collect()
}

impl Case {
    fn ours(&self, report: &[u8]) -> Option<()> {
        self.ours_with(report, &self.vek, &self.root, self.now)
    }

    fn ours_with(&self, report: &[u8], vek: &[u8], root: &[u8], now: u64) -> Option<()> {
        let certificates = [Certificate(vek.to_vec()), Certificate(self.issuer.clone())];
        let anchors = [TrustAnchor::Snp(root.to_vec())];
        let vek = snp::verify_vek(&anchors, &certificates, Time(now)).ok()?;
        snp::verify(&Report::parse(report).ok()?, &vek, Time(now)).ok().map(drop)
    }

    fn theirs(&self, report: &[u8]) -> Option<()> {
        self.theirs_with(report, &self.vek, &self.root)
    }

    fn theirs_with(&self, report: &[u8], vek: &[u8], root: &[u8]) -> Option<()> {
        theirs(|| {
            let der = |der: &[u8]| theirs_snp::Certificate::from_der(der).ok();
            let ca = ca::Chain { ark: der(root)?, ask: der(&self.issuer)? };
            let chain = Chain { ca, vek: der(vek)? };
            let report = AttestationReport::from_bytes(report).ok()?;
            (&chain, &report).verify().ok().map(drop)
        })
    }

    /// Whether a byte is one that the other side does not look at.
    fn unseen(&self, at: usize) -> bool {
        let reserved_version = TCB
            .iter()
            .any(|tcb| at.checked_sub(*tcb).is_some_and(|at| self.reserved.contains(&at)));
        let behind = at.checked_sub(SIGNATURE).is_some_and(|at| {
            let in_number = at < 2 * NUMBER && at % NUMBER < 48;
            !in_number
        });
        reserved_version || behind
    }

    /// Compares both verdicts about a changed report, and says whether they differ.
    fn compare(&self, changed: &[u8]) -> bool {
        match (self.ours(changed), self.theirs(changed)) {
            (None, Some(())) => {
                let same_length = changed.len() == self.report.len();
                let pairs = changed.iter().zip(&self.report).enumerate();
                let mut different = pairs.filter(|(_, (new, old))| new != old);
                let is_named = different.all(|(at, _)| self.unseen(at));
                assert!(same_length && is_named, "{}: an exception without name", self.name);
                true
            }
            (ours, theirs) => {
                assert_eq!(ours, theirs, "{}: we accept what others refuse", self.name);
                false
            }
        }
    }
}

#[test]
fn both_accept_real_reports() {
    for case in real() {
        assert_eq!(case.ours(&case.report), Some(()), "{}", case.name);
        assert_eq!(case.theirs(&case.report), Some(()), "{}", case.name);
    }
}

#[test]
fn verdicts_about_every_changed_byte_differ_only_where_the_other_side_does_not_look() {
    for case in real() {
        let different: Vec<usize> = (0..case.report.len())
            .filter(|at| {
                let mut changed = case.report.clone();
                changed[*at] ^= 1;
                case.compare(&changed)
            })
            .collect();
        let unseen: Vec<usize> = (0..case.report.len()).filter(|at| case.unseen(*at)).collect();
        assert_eq!(different, unseen, "{}", case.name);
    }
}

#[test]
fn verdicts_about_mutations_differ_only_by_name() {
    for (seed, case) in real().into_iter().enumerate() {
        let mut random = Random::new(u64::try_from(seed).unwrap());
        for _ in 0..ROUNDS {
            let changed = random.mutated(&case.report);
            if changed != case.report {
                case.compare(&changed);
            }
        }
    }
}

#[test]
fn only_we_look_at_dates_and_know_our_root() {
    let cases = real();
    for case in &cases {
        let Case { name, report, vek, root, now, .. } = case;
        assert_eq!(case.ours_with(report, vek, root, YEAR_2040), None, "{name}: time");
        assert_eq!(case.ours_with(report, vek, root, 0), None, "{name}: time");
        // A root of another generation signed none of these: both see it.
        let Some(foreign) = cases.iter().find(|other| other.root != *root) else { return };
        assert_eq!(case.ours_with(report, vek, &foreign.root, *now), None, "{name}: root");
        assert_eq!(case.theirs_with(report, vek, &foreign.root), None, "{name}: root");
    }
}

#[test]
fn both_know_how_long_a_report_is() {
    for case in real() {
        let longer = [case.report.as_slice(), &[0]].concat();
        let shorter = &case.report[..case.report.len() - 1];
        for report in [longer.as_slice(), shorter] {
            assert_eq!((case.ours(report), case.theirs(report)), (None, None), "{}", case.name);
        }
    }
}

#[test]
fn both_refuse_the_key_of_another_machine() {
    let cases = real();
    for (index, case) in cases.iter().enumerate() {
        for (_, other) in cases.iter().enumerate().filter(|(other, _)| *other != index) {
            if other.vek == case.vek || other.issuer != case.issuer {
                continue;
            }
            let (report, root) = (&case.report, &case.root);
            assert_eq!(case.ours_with(report, &other.vek, root, case.now), None, "{}", case.name);
            assert_eq!(case.theirs_with(report, &other.vek, root), None, "{}", case.name);
        }
    }
}

#[test]
fn verdicts_about_changed_certificates_are_the_same() {
    for case in real() {
        for at in (0..case.vek.len()).step_by(5) {
            let mut vek = case.vek.clone();
            vek[at] ^= 1;
            let ours = case.ours_with(&case.report, &vek, &case.root, case.now);
            assert_eq!(ours, None, "{} at {at}", case.name);
            let others = case.theirs_with(&case.report, &vek, &case.root);
            // It keeps the inner name of the signature's algorithm to itself: the outer one, its
            // parameters and unused bits of the signature are not signed.
            let signed = signed_length(&vek);
            assert!(others.is_none() || at >= signed, "{} at {at}: signed", case.name);
        }
    }
}

/// Where the signed part of a certificate ends: both sequences have lengths of two bytes.
fn signed_length(certificate: &[u8]) -> usize {
    let length = certificate.get(6..8).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
    8 + usize::from(u16::from_be_bytes(length.unwrap_or([0; 2])))
}
