//! TDX quotes under a manufacturer of the tests' own: what only a genuine quoting enclave can sign.

use std::sync::LazyLock;

use heirloom_attest::appraiser::Appraiser;
use heirloom_attest::error::AppraiseError;
use heirloom_attest::result::{AnchorClass, AttestationResult, Tcb};
use heirloom_model::appraisal::{GraceEnd, Reference, TcbGrace};
use heirloom_model::counter::Time;
use heirloom_model::digest::sha256;
use heirloom_model::evidence::{DcapCollateral, Endorsements, Evidence, ReportData, TrustAnchor};
use heirloom_model::measurement::Register48;
use heirloom_model::policy::{AppraisalPolicy, TcbLevel};
use serde_json::json;

use crate::forge::{self, Key, NOW, Request, SINCE, UNTIL, extension, named, sequence, tlv};
use crate::vectors::policy;

const SGX: &str = "1.2.840.113741.1.13.1";
const DATA: ReportData = ReportData::new([0xcc; 64]);
const QUOTING_SIGNER: [u8; 32] = [0x51; 32];
const COMPONENTS: [u8; 16] = [1; 16];
const PCE_SVN: u8 = 13;
/// As `Request::leaf` numbers certificates.
const PLATFORM_SERIAL: u8 = 1;

static WORLD: LazyLock<World> = LazyLock::new(World::new);

/// A manufacturer and one machine of it.
struct World {
    root: Key,
    authority: Key,
    platform: Key,
    signer: Key,
    attestation: Key,
    chain: String,
    authority_chain: String,
    signer_chain: String,
    anchor: Vec<u8>,
}

impl World {
    fn new() -> Self {
        let [root, authority, platform, signer, attestation] = [(); 5].map(|()| Key::p256());
        let anchor = Request::authority("Root", "Root", &root).signed(&root);
        let between = Request::authority("Root", "Platform CA", &authority).signed(&root);
        let mut leaf = Request::leaf("Platform CA", "Platform", &platform);
        leaf.extensions = vec![extension(SGX, false, &marks())];
        let leaf = leaf.signed(&authority);
        let signing = Request::leaf("Root", "TCB Signing", &signer).signed(&root);
        let text = |certificates: &[&[u8]]| {
            let block = |der: &&[u8]| pem::encode(&pem::Pem::new("CERTIFICATE", der.to_vec()));
            certificates.iter().map(block).collect::<String>()
        };
        Self {
            chain: text(&[&leaf, &between, &anchor]),
            authority_chain: text(&[&between, &anchor]),
            signer_chain: text(&[&signing, &anchor]),
            anchor,
            root,
            authority,
            platform,
            signer,
            attestation,
        }
    }

    fn anchors(&self) -> Vec<TrustAnchor> {
        vec![TrustAnchor::SgxDcap(self.anchor.clone())]
    }

    /// Modules from version 2 on are up to date, version 1 is old, 0 is not listed.
    fn endorsements(&self, revoked: &[u8], listed: Time) -> Endorsements {
        let components = |list: &[u8]| -> Vec<_> {
            list.iter().map(|version| json!({ "svn": version })).collect()
        };
        let level = |module: u8, status: &str| {
            let mut versions = [0; 16];
            versions[0] = module;
            json!({
                "tcb": {
                    "sgxtcbcomponents": components(&COMPONENTS),
                    "tdxtcbcomponents": components(&versions),
                    "pcesvn": PCE_SVN,
                },
                "tcbDate": "2026-01-01T00:00:00Z",
                "tcbStatus": status,
            })
        };
        let tcb_info = json!({
            "id": "TDX", "version": 3, "fmspc": "DEAD00000001", "pceId": "0000", "tcbType": 0,
            "issueDate": "2026-03-01T00:00:00Z", "nextUpdate": "2026-09-01T00:00:00Z",
            "tcbEvaluationDataNumber": 1,
            "tdxModule": {
                "mrsigner": "00".repeat(48),
                "attributes": "0000000000000000",
                "attributesMask": "FFFFFFFFFFFFFFFF",
            },
            "tcbLevels": [level(2, "UpToDate"), level(1, "OutOfDate")],
        })
        .to_string();
        let qe_identity = json!({
            "id": "TD_QE", "version": 2,
            "issueDate": "2026-03-01T00:00:00Z", "nextUpdate": "2026-09-01T00:00:00Z",
            "tcbEvaluationDataNumber": 1,
            "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": hex::encode_upper(QUOTING_SIGNER),
            "isvprodid": 2,
            "tcbLevels": [{
                "tcb": { "isvsvn": 1 },
                "tcbDate": "2025-01-01T00:00:00Z",
                "tcbStatus": "UpToDate",
            }],
        })
        .to_string();
        Endorsements::TdxDcap(DcapCollateral {
            pck_crl_issuer_chain: self.authority_chain.clone(),
            root_ca_crl: forge::list(&self.root, "Root", SINCE, UNTIL, &[]),
            pck_crl: forge::list(&self.authority, "Platform CA", listed, UNTIL, revoked),
            tcb_info_issuer_chain: self.signer_chain.clone(),
            tcb_info_signature: self.signer.sign_evidence(tcb_info.as_bytes()),
            tcb_info,
            qe_identity_issuer_chain: self.signer_chain.clone(),
            qe_identity_signature: self.signer.sign_evidence(qe_identity.as_bytes()),
            qe_identity,
        })
    }

    fn appraiser(&self) -> Appraiser {
        let mut appraiser = Appraiser::new(self.anchors());
        appraiser.endorse(self.endorsements(&[], SINCE)).unwrap();
        appraiser
    }

    /// A quote of version 4, or of version 5 if there is more of a report than TDX 1.0 has.
    fn quote(&self, report: &[u8]) -> Evidence {
        let newer = report.len() > 584;
        let mut signed = vec![if newer { 5 } else { 4 }, 0, 2, 0, 0x81, 0, 0, 0, 0, 0, 0, 0];
        signed.extend(dcap_qvl::INTEL_QE_VENDOR_ID);
        signed.extend([0; 20]);
        if newer {
            signed.extend([3, 0]);
            signed.extend(u32::try_from(report.len()).unwrap().to_le_bytes());
        }
        signed.extend(report);
        let key = &self.attestation.public()[1..];
        let quoting = &*QUOTING;
        let signature = self.attestation.sign_evidence(&signed);
        let section = [signature.as_slice(), key, &[6, 0], &count(quoting), quoting].concat();
        Evidence::TdxDcap([signed.as_slice(), &count(&section), &section].concat())
    }
}

/// What certifies the attestation key. The quoting enclave made it once, for all its quotes.
static QUOTING: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let key = &WORLD.attestation.public()[1..];
    let authentication = [0x5a; 32];
    let mut enclave = vec![0; 384];
    enclave[48] = 0x11;
    enclave[128..160].copy_from_slice(&QUOTING_SIGNER);
    (enclave[256], enclave[258]) = (2, 1);
    enclave[320..352].copy_from_slice(&sha256(&[key, &authentication]));
    let chain = WORLD.chain.as_bytes();
    [
        enclave.as_slice(),
        &WORLD.platform.sign_evidence(&enclave),
        &[32, 0],
        &authentication,
        &[5, 0],
        &count(chain),
        chain,
    ]
    .concat()
});

fn count(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}

/// What the certificate of a machine says about it.
fn marks() -> Vec<u8> {
    let part = |path: &str, value: Vec<u8>| sequence(&[named(&format!("{SGX}.{path}")), value]);
    let number = |value: u8| vec![2, 1, value];
    let mut tcb: Vec<_> =
        (1..).zip(COMPONENTS).map(|(at, svn)| part(&format!("2.{at}"), number(svn))).collect();
    tcb.push(part("2.17", number(PCE_SVN)));
    tcb.push(part("2.18", tlv(4, &COMPONENTS)));
    sequence(&[
        part("1", tlv(4, &[7; 16])),
        part("2", sequence(&tcb)),
        part("3", tlv(4, &[0, 0])),
        part("4", tlv(4, &[0xde, 0xad, 0, 0, 0, 1])),
        part("5", tlv(10, &[0])),
    ])
}

/// A report of TDX 1.0 with this version of the module.
fn report(module: u8) -> Vec<u8> {
    let mut report = vec![0; 584];
    report[0] = module;
    report[123] = 0x10;
    report[128] = 0xe7;
    report[136..184].fill(0xd1);
    report[520..].fill(0xcc);
    report
}

/// A report of TDX 1.5: the same, with the current version of the module and service domains.
fn newer(module: u8, current: u8, service: [u8; 48]) -> Vec<u8> {
    [report(module).as_slice(), &[current], &[0; 15], &service].concat()
}

fn appraise(
    appraiser: &mut Appraiser,
    report: &[u8],
    policy: &AppraisalPolicy,
) -> Result<AttestationResult, AppraiseError> {
    appraiser.appraise(&WORLD.quote(report), &DATA, policy, NOW)
}

fn fresh(report: &[u8]) -> Result<AttestationResult, AppraiseError> {
    appraise(&mut WORLD.appraiser(), report, &policy())
}

#[test]
fn both_versions_take_the_same_way() {
    for report in [report(2), newer(2, 2, [0; 48])] {
        let result = fresh(&report).unwrap();
        assert_eq!(result.tcb(), Tcb::Intel(TcbLevel::UpToDate));
        assert_eq!(result.anchor_class(), AnchorClass::Development);
    }
}

#[test]
fn genuine_quotes_of_what_no_policy_allows_are_refused() {
    let refused = |at: usize, value: u8| {
        let mut report = report(2);
        report[at] = value;
        fresh(&report).unwrap_err().reason()
    };
    assert_eq!(refused(120, 1), "debug-enclave");
    assert_eq!(refused(120, 0x10), "profiled-domain");
    assert_eq!(refused(123, 0x30), "migratable-domain");
    assert_eq!(refused(123, 0), "pages-not-protected");
    assert_eq!(refused(122, 2), "unknown-attributes");
    // Of the module: its signer, and attributes that the manufacturer does not list.
    assert_eq!(refused(64, 1), "foreign-tdx-module");
    assert_eq!(refused(112, 1), "not-verified");
}

/// One quoting enclave, one machine, two modules: what is known of one is not known of the other.
#[test]
fn the_level_of_a_module_is_not_remembered_for_another() {
    let mut warm = WORLD.appraiser();
    appraise(&mut warm, &report(2), &policy()).unwrap();
    let old = appraise(&mut warm, &report(1), &policy());
    assert_eq!(old, Err(AppraiseError::TcbLevelNotAccepted { found: TcbLevel::OutOfDate }));
    assert_eq!(warm.quoting_identities_known(), 2);
    assert_eq!(appraise(&mut warm, &report(0), &policy()), Err(AppraiseError::NoTcbLevel));
    let revised = appraise(&mut warm, &newer(2, 0, [0; 48]), &policy());
    assert_eq!(revised, Err(AppraiseError::NoTcbLevel));
    appraise(&mut warm, &report(2), &policy()).unwrap();
}

#[test]
fn a_domain_that_was_started_before_an_update_is_of_a_level_of_its_own() {
    let started_before = newer(1, 2, [0; 48]);
    let level = TcbLevel::RelaunchAdvised;
    assert_eq!(fresh(&started_before), Err(AppraiseError::TcbLevelNotAccepted { found: level }));
    let accepting = AppraisalPolicy { tcb: vec![level], ..policy() };
    let result = appraise(&mut WORLD.appraiser(), &started_before, &accepting).unwrap();
    assert_eq!(result.tcb(), Tcb::Intel(level));
}

#[test]
fn service_domains_are_refused_unless_the_policy_names_them() {
    let bound = newer(2, 2, [0xab; 48]);
    let judged = |report: &[u8], named: [u8; 48]| {
        let mut accepting = policy();
        accepting.tdx.as_mut().unwrap().service_td = Reference::Match(vec![Register48::new(named)]);
        let judged = appraise(&mut WORLD.appraiser(), report, &accepting);
        judged.map(|_| ()).map_err(|error| error.reason())
    };
    assert_eq!(judged(&bound, [0; 48]), Err("reference-mismatch"));
    assert_eq!(judged(&bound, [0xab; 48]), Ok(()));
    assert_eq!(judged(&newer(2, 2, [0; 48]), [0; 48]), Ok(()));
    assert_eq!(judged(&newer(2, 2, [0; 48]), [0xab; 48]), Err("reference-mismatch"));
    // The same domain, in a report that says nothing about them.
    assert_eq!(judged(&report(2), [0; 48]), Err("claim-missing"));
}

/// The machine was verified before its certificate was taken back.
#[test]
fn a_machine_that_was_revoked_since_is_refused() {
    let mut warm = WORLD.appraiser();
    appraise(&mut warm, &report(2), &policy()).unwrap();
    warm.endorse(WORLD.endorsements(&[PLATFORM_SERIAL], SINCE.after(1))).unwrap();
    let refused = appraise(&mut warm, &report(2), &policy());
    assert_eq!(refused, Err(AppraiseError::CertificateRevoked));
}

/// Every field that a level could depend on, in one byte each.
#[test]
fn what_is_remembered_of_one_module_answers_for_no_other() {
    let mut warm = WORLD.appraiser();
    appraise(&mut warm, &newer(2, 2, [0; 48]), &policy()).unwrap();
    let mut known = 1;
    // Versions, the module, its signer, its attributes, and the versions as of now.
    for at in [0, 1, 16, 63, 64, 111, 112, 119, 584, 599] {
        let mut changed = newer(2, 2, [0; 48]);
        changed[at] ^= 1;
        let answer = appraise(&mut warm, &changed, &policy());
        assert_eq!(answer, fresh(&changed), "byte {at}");
        known += usize::from(answer.is_ok() || reached_policy(&answer));
        assert_eq!(warm.quoting_identities_known(), known, "byte {at}");
    }
}

/// Whether a quote was verified and remembered before the policy refused it.
fn reached_policy(answer: &Result<AttestationResult, AppraiseError>) -> bool {
    matches!(answer, Err(AppraiseError::TcbLevelNotAccepted { .. }))
}

/// The `tcbDate` of levels of modules: the first day of 2026.
const TCB_DATE: Time = Time(1_767_225_600);

#[test]
fn an_old_level_is_accepted_for_as_long_as_the_policy_says() {
    let level = TcbLevel::OutOfDate;
    let judged = |level: TcbLevel, until: GraceEnd, now: Time| {
        let accepting = AppraisalPolicy { tcb_grace: vec![TcbGrace { level, until }], ..policy() };
        WORLD.appraiser().appraise(&WORLD.quote(&report(1)), &DATA, &accepting, now)
    };
    let over = |until| Err(AppraiseError::TcbLevelNoLongerAccepted { found: level, until });
    let last = judged(level, GraceEnd::Date(NOW), NOW).unwrap();
    assert_eq!((last.tcb(), last.expires()), (Tcb::Intel(level), NOW.after(1)));
    assert_eq!(judged(level, GraceEnd::Date(NOW), NOW.after(1)), over(NOW));
    // From the day of the level on, and not from that of a quoting enclave that lacks nothing.
    let seconds = NOW.0 - TCB_DATE.0;
    let last = judged(level, GraceEnd::AfterTcbDate(seconds), NOW).unwrap();
    assert_eq!(last.expires(), NOW.after(1));
    let before = NOW.previous().unwrap();
    assert_eq!(judged(level, GraceEnd::AfterTcbDate(seconds - 1), NOW), over(before));
    // What is granted to one level is granted to no other.
    let other = judged(TcbLevel::RelaunchAdvised, GraceEnd::Date(NOW), NOW);
    assert_eq!(other, Err(AppraiseError::TcbLevelNotAccepted { found: level }));
    // It ends also for who was verified before.
    let until = GraceEnd::Date(NOW);
    let accepting = AppraisalPolicy { tcb_grace: vec![TcbGrace { level, until }], ..policy() };
    let (mut warm, quote) = (WORLD.appraiser(), WORLD.quote(&report(1)));
    warm.appraise(&quote, &DATA, &accepting, NOW).unwrap();
    assert_eq!(warm.appraise(&quote, &DATA, &accepting, NOW.after(1)), over(NOW));
}
