//! SEV-SNP: reports, certificates of their keys, and the table in which hosts supply them.

use std::sync::LazyLock;

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::decode;
use heirloom_attest::snp::{self, Report, VerifiedVek};
use heirloom_model::appraisal::VekKind;
use heirloom_model::counter::Time;
use heirloom_model::evidence::{
    Certificate, Endorsements, Evidence, RevokedKeys, SnpEvidence, TrustAnchor,
};

use crate::forge::{self, SINCE, UNTIL};
use crate::host_certificates::CertificateTable;
use crate::vectors;

/// A real report under the real key of its chip.
pub(crate) struct Genuine {
    pub(crate) report: Vec<u8>,
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) root: Vec<u8>,
    pub(crate) key: VerifiedVek,
}

/// A day on which all of them count.
pub(crate) const DAY: Time = Time(1_773_000_000);
/// Bytes that the signature covers.
const SIGNED: usize = 0x2a0;

const REAL: [(&str, &str, &str); 4] = [
    ("report_milan.bin", "vcek_milan.der", "milan"),
    ("azure_genoa_report.bin", "coco/az-snp-vtpm_vcek-genoa.pem", "genoa"),
    ("oak/genoa_oc_report.bin", "oak/genoa_oc_vcek.der", "genoa"),
    ("oak/turin_oc_report.bin", "oak/turin_oc_vcek.der", "turin"),
];

static GENUINE: LazyLock<Vec<Genuine>> = LazyLock::new(|| {
    let read = |(report, key, generation): (&str, &str, &str)| {
        let report = vectors::bytes(&format!("tee/snp/{report}"))?;
        Genuine::of(report, &ders(key)?.swap_remove(0), generation)
    };
    REAL.into_iter().filter_map(read).collect()
});

impl Genuine {
    pub(crate) fn of(report: Vec<u8>, key: &[u8], generation: &str) -> Option<Self> {
        let authorities = ders(&format!("coco/{generation}_ask_ark_asvk.pem"))?;
        let (issuer, root) = (authorities[0].clone(), authorities[1].clone());
        let certificates = vec![Certificate(key.to_vec()), Certificate(issuer)];
        let anchors = [TrustAnchor::Snp(root.clone())];
        let key = snp::verify_vek(&anchors, &certificates, DAY).unwrap();
        Some(Self { report, certificates, root, key })
    }
}

fn ders(name: &str) -> Option<Vec<Vec<u8>>> {
    let bytes = vectors::bytes(&format!("tee/snp/{name}"))?;
    let blocks = pem::parse_many(&bytes).unwrap_or_default();
    let ders: Vec<_> = blocks.into_iter().map(pem::Pem::into_contents).collect();
    Some(if ders.is_empty() { vec![bytes] } else { ders })
}

/// A report.
pub fn report(data: &[u8]) -> bool {
    let evidence = SnpEvidence { report: data.to_vec(), certificates: Vec::new() };
    let claims = decode::unverified(&Evidence::Snp(evidence));
    let Ok(report) = Report::parse(data) else {
        assert!(claims.is_err(), "people are not shown what cannot be read");
        return false;
    };
    assert_eq!(report.bytes().as_slice(), data, "a report is all of its bytes");
    drop((report.generation(), report.signing_key()));
    let mut accepted = false;
    for genuine in GENUINE.iter() {
        if let Ok(claims) = snp::verify(&report, &genuine.key, DAY) {
            assert_eq!(data[..SIGNED], genuine.report[..SIGNED], "nobody signed this report");
            assert_eq!(claims.report().launch_digest(), report.launch_digest());
            accepted = true;
        }
    }
    accepted
}

/// Real reports.
pub fn reports() -> Vec<Vec<u8>> {
    GENUINE.iter().map(|genuine| genuine.report.clone()).collect()
}

/// A certificate in the place of a key's and of its issuer's, and a list of revoked ones.
pub fn certificate(data: &[u8]) -> bool {
    let certificate = Certificate(data.to_vec());
    let mut accepted = false;
    for genuine in GENUINE.iter() {
        let [key, issuer] = genuine.certificates.as_slice() else { continue };
        let anchors = [TrustAnchor::Snp(genuine.root.clone())];
        let shown =
            SnpEvidence { report: genuine.report.clone(), certificates: vec![certificate.clone()] };
        drop(decode::unverified(&Evidence::Snp(shown)));
        for path in [[certificate.clone(), issuer.clone()], [key.clone(), certificate.clone()]] {
            if let Ok(found) = snp::verify_vek(&anchors, &path, DAY) {
                // A key of another chip under the same root is as genuine.
                let known = GENUINE.iter().any(|known| known.key.tcb() == found.tcb());
                assert!(known, "nobody issued this certificate");
                accepted = true;
            }
        }
        let root = Certificate(genuine.root.clone());
        let list = RevokedKeys { root, revoked: data.to_vec() };
        drop(Appraiser::new(anchors.to_vec()).endorse(Endorsements::Snp(list)));
    }
    accepted
}

/// Certificates of keys and of authorities, and a list that nobody believes.
pub fn certificates() -> Vec<Vec<u8>> {
    let real = GENUINE.iter().flat_map(|genuine| &genuine.certificates);
    let key = forge::Key::p256();
    let list = forge::list(&key, "ARK-Milan", SINCE, UNTIL, &[1, 2, 3]);
    real.map(|certificate| certificate.0.clone()).chain([list]).collect()
}

/// A table of certificates, as a host supplies it.
pub fn table(data: &[u8]) -> bool {
    let Ok(table) = CertificateTable::parse(data) else { return false };
    let [key, provider] = [VekKind::Vcek, VekKind::Vlek].map(|kind| table.key(kind));
    for found in [key, provider, table.issuer()].into_iter().flatten() {
        let is_there = data.windows(found.0.len().max(1)).any(|window| window == found.0);
        let is_armoured = data.windows(11).any(|window| window == b"-----BEGIN ");
        assert!(is_there || is_armoured || found.0.is_empty(), "a certificate that is not there");
    }
    key.is_some() && table.issuer().is_some()
}

/// Tables with real certificates: in DER, in PEM, with a root and with what nobody knows.
pub fn tables() -> Vec<Vec<u8>> {
    let Some(genuine) = GENUINE.first() else { return Vec::new() };
    let [key, issuer] = genuine.certificates.as_slice() else { return Vec::new() };
    let armoured = pem::encode(&pem::Pem::new("CERTIFICATE", key.0.clone())).into_bytes();
    let root = genuine.root.clone();
    let all =
        |key: &[u8]| written(&[(VCEK, key), (ASK, &issuer.0), (ARK, &root), (0x1234, &[1, 2, 3])]);
    vec![written(&[]), all(&key.0), all(&armoured), written(&[(VLEK, &key.0), (ASK, &issuer.0)])]
}

// Identifiers of AMD 56421, table 7.
const VCEK: u128 = 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd;
const VLEK: u128 = 0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1;
const ASK: u128 = 0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782;
const ARK: u128 = 0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae;

fn written(entries: &[(u128, &[u8])]) -> Vec<u8> {
    let mut at = 24 * (entries.len() + 1);
    let (mut head, mut body) = (Vec::new(), Vec::new());
    for (id, content) in entries {
        head.extend(id.to_be_bytes());
        for number in [at, content.len()] {
            head.extend(u32::try_from(number).unwrap().to_le_bytes());
        }
        body.extend_from_slice(content);
        at += content.len();
    }
    [head, vec![0; 24], body].concat()
}
