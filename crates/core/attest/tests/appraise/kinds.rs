//! One appraiser over every kind: what each result says, what each rule refuses, and what is
//! remembered.

use heirloom_attest::endorse::{Expiry, ExpiryItem};
use heirloom_attest::error::{AppraiseError, EndorsementPart};
use heirloom_attest::hcl::HclError;
use heirloom_attest::result::{AnchorClass, Host, Tcb};
use heirloom_attest::snp::{self, SnpError};
use heirloom_model::appraisal::{
    AliasCheck, Reference, RevocationDemand, Smt, SnpGeneration, SnpRule, VekKind,
};
use heirloom_model::counter::{SecurityVersion, Time};
use heirloom_model::digest::{HostAuthority, sha256};
use heirloom_model::evidence::{
    Certificate, Endorsements, Evidence, ReportData, RevokedKeys, SnpEvidence, TrustAnchor,
};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{
    ImageMeasurement, LaunchDigest, Measurement, MrSigner, Register32, Register48, TeeKind,
    VtpmMeasurement,
};
use heirloom_model::policy::PlatformRule;

use crate::forge::{self, Key, NOW, Request, SINCE, UNTIL};
use crate::vectors::{bytes, reason};
use crate::worlds::{
    AUTHORITY, CHIP, DATA, MACHINE, Made, Nitro, Snp, Tpm, all, revocations, revoked_keys,
};

#[test]
fn an_snp_result_says_what_the_report_says() {
    let result = Snp::new().made().appraise().unwrap();
    assert_eq!(result.measurement(), Measurement::Snp(LaunchDigest::new([0x22; 48])));
    assert_eq!((result.kind(), result.signer(), result.product_id()), (TeeKind::Snp, None, None));
    assert_eq!(result.security_version(), SecurityVersion(7));
    assert_eq!(result.platform(), PlatformId::of_chip(&CHIP));
    let tcb = snp::Tcb { fmc: 0, bootloader: 3, tee: 1, snp: 20, microcode: 209 };
    assert_eq!(result.tcb(), Tcb::Snp(SnpGeneration::Genoa, tcb));
    assert_eq!(result.anchor_class(), AnchorClass::Development);
    assert_eq!((result.expires(), result.grace()), (UNTIL.after(1), None));
}

#[test]
fn a_nitro_result_says_what_the_document_says() {
    let result = Nitro::new().made().appraise().unwrap();
    let image = ImageMeasurement::of(&[1, 1, 2].map(|value| Register48::new([value; 48])));
    assert_eq!(result.measurement(), Measurement::Nitro(image));
    // The machine is the parent instance, whatever enclave runs on it.
    assert_eq!(result.platform(), PlatformId::of_module("i-0123456789abcdef0"));
    assert_eq!((result.tcb(), result.expires()), (Tcb::Unstated, UNTIL.after(1)));
}

#[test]
fn a_tpm_result_says_what_the_launcher_says() {
    let result = Tpm::new().made().appraise().unwrap();
    assert_eq!(result.kind(), TeeKind::Tpm);
    assert_eq!(result.signer(), Some(MrSigner::new([0x44; 32])));
    assert_eq!((result.product_id(), result.security_version()), (Some(5), SecurityVersion(6)));
    assert_eq!(result.host(), Host::Known(MACHINE));
    assert_eq!(result.tcb(), Tcb::Unstated);
}

#[test]
fn a_vtpm_result_measures_the_launch_and_what_the_policy_counts_as_code() {
    let made = Snp::new().vtpm();
    let result = made.appraise().unwrap();
    let values = Register32::new(sha256(&[&[4; 32], &[9; 32], &[11; 32]]));
    let selection = 1 << 4 | 1 << 9 | 1 << 11;
    let expected = VtpmMeasurement::of(&LaunchDigest::new([0x22; 48]), selection, &values);
    assert_eq!(result.measurement(), Measurement::Vtpm(expected));
    assert_eq!(result.platform(), PlatformId::of_chip(&CHIP));
    let measured = |registers: &[u8]| {
        let registers = registers.to_vec();
        made.with(|made| made.policy.vtpm.as_mut().unwrap().measured = registers).appraise()
    };
    // No register, a register twice, out of order, or both measured and judged.
    for wrong in [&[][..], &[4, 4, 9, 11], &[9, 4, 11], &[4, 9, 11, 12], &[4, 9], &[4, 9, 11, 16]] {
        assert_eq!(reason(&measured(wrong)), "register-rules", "{wrong:?}");
    }
}

/// Nothing here is signed by the evidence's own word: the same bytes under a policy or question
/// that differs in one field.
#[test]
fn every_kind_is_judged_by_the_whole_policy() {
    for made in all() {
        let kind = made.evidence.kind();
        let refused = |change: &dyn Fn(&mut Made)| made.with(change).appraise().unwrap_err();
        let unruled = refused(&|made| {
            let policy = &mut made.policy;
            (policy.snp, policy.nitro, policy.tpm, policy.vtpm) = (None, None, None, None);
        });
        assert_eq!(unruled, AppraiseError::KindNotAccepted { kind });
        let other = PlatformRule::Only(vec![PlatformId::new([1; 32])]);
        assert_eq!(
            refused(&|made| made.policy.platforms = other.clone()).reason(),
            "platform-not-listed"
        );
        assert_eq!(
            refused(&|made| made.expected = ReportData::new([2; 64])).reason(),
            "report-data-mismatch"
        );
        assert_eq!(refused(&|made| made.anchors.clear()), AppraiseError::UnknownAnchor);
        let late = refused(&|made| made.now = UNTIL.after(1));
        assert_eq!(late, AppraiseError::CertificateExpired { expired: UNTIL.after(1) });
        let early = refused(&|made| made.now = SINCE.previous().unwrap());
        assert_eq!(early, AppraiseError::CertificateNotYetValid { since: SINCE });
        let platform = made.appraise().unwrap().platform();
        let listed = made.with(|made| made.policy.platforms = PlatformRule::Only(vec![platform]));
        assert_eq!(listed.appraise(), made.appraise());
        // An anchor of another kind vouches for nothing, even with the same certificate.
        let der = made.anchors[0].certificate().to_vec();
        let foreign = match kind {
            TeeKind::Nitro => TrustAnchor::Tpm(der),
            _ => TrustAnchor::Nitro(der),
        };
        let foreign = refused(&|made| made.anchors = vec![foreign.clone()]);
        assert_eq!(foreign, AppraiseError::UnknownAnchor, "{kind}");
    }
}

/// One field of the rule at a time.
#[test]
fn each_field_of_the_rule_for_snp_refuses_alone() {
    let good = Snp::new().made();
    let with = |change: &dyn Fn(&mut SnpRule)| {
        let changed = good.with(|made| change(made.policy.snp.as_mut().unwrap()));
        changed.appraise().map(|_| ()).map_err(|error| error.reason())
    };
    assert_eq!(with(&|_| {}), Ok(()));
    let reference = Err("reference-mismatch");
    let other = Reference::Match(vec![Register48::new([1; 48])]);
    assert_eq!(with(&|rule| rule.id_key = other.clone()), reference);
    assert_eq!(with(&|rule| rule.author_key = other.clone()), reference);
    let host = Reference::Match(vec![Register32::new([1; 32])]);
    assert_eq!(with(&|rule| rule.host_data = host.clone()), reference);
    assert_eq!(with(&|rule| rule.smt = Smt::Refused), Err("threads-not-accepted"));
    assert_eq!(with(&|rule| rule.keys = vec![VekKind::Vlek]), Err("key-kind-not-accepted"));
    assert_eq!(with(&|rule| rule.tcb_min.clear()), Err("generation-not-accepted"));
    let milan = SnpGeneration::Milan;
    let generation = with(&|rule| rule.tcb_min[0].generation = milan);
    assert_eq!(generation, Err("generation-not-accepted"));
    let old = Err("firmware-too-old");
    assert_eq!(with(&|rule| rule.tcb_min[0].fmc = 1), old);
    assert_eq!(with(&|rule| rule.tcb_min[0].bootloader = 4), old);
    assert_eq!(with(&|rule| rule.tcb_min[0].tee = 2), old);
    assert_eq!(with(&|rule| rule.tcb_min[0].snp = 21), old);
    assert_eq!(with(&|rule| rule.tcb_min[0].microcode = 210), old);
    // Launched by firmware that is too old, and updated since.
    for (part, at) in [("boot loader", 0), ("PSP operating system", 1), ("SNP firmware", 6)] {
        let launched = Snp::new().with(0x1f0 + at, &[0]).made().appraise();
        match launched {
            Err(AppraiseError::FirmwareTooOld { component, found: 0, .. }) => {
                assert_eq!(component, format!("{part} at launch"));
            }
            other => panic!("{other:?}"),
        }
    }
    let guest = Snp::new().with(0x030, &[1]).made();
    assert_eq!(guest.appraise(), Err(AppraiseError::PrivilegeTooLow { found: 1, most: 0 }));
    let guest = guest.with(|made| made.policy.snp.as_mut().unwrap().vmpl_max = 1);
    assert!(guest.appraise().is_ok());
    // A guest that excludes hyper-threading on a machine that has it off.
    let single = Snp::new().with(0x008, &0x2_0000_u64.to_le_bytes()).with(0x040, &[0x24]).made();
    let single = single.with(|made| made.policy.snp.as_mut().unwrap().smt = Smt::Refused);
    assert!(single.appraise().is_ok());
}

/// Signed as it is, by a key that is certified.
#[test]
fn what_no_policy_can_allow_is_refused_whatever_the_policy_says() {
    let reason = |made: Made| made.appraise().unwrap_err().reason();
    assert_eq!(reason(Snp::new().with(0x008, &0xb_0000_u64.to_le_bytes()).made()), "debug-guest");
    let agent = Snp::new().with(0x008, &0x7_0000_u64.to_le_bytes()).made();
    assert_eq!(reason(agent), "migration-agent");
    assert_eq!(reason(Snp::new().with(0x090, &[0; 48]).made()), "zero-measurement");
    for index in 0..3 {
        let mut debug = Nitro::new();
        debug.registers[index].1 = [0; 48];
        assert_eq!(debug.made().appraise().unwrap_err().reason(), "debug-enclave", "{index}");
    }
    let tpm = |change: &dyn Fn(&mut Tpm)| {
        let mut machine = Tpm::new();
        change(&mut machine);
        machine.made().appraise().unwrap_err()
    };
    assert_eq!(tpm(&|machine| machine.launch.debug = true), AppraiseError::DebugEnclave);
    let zero = tpm(&|machine| machine.launch.measurement = [0; 32].into_measurement());
    assert_eq!(zero, AppraiseError::ZeroMeasurement);
    let unsigned = tpm(&|machine| machine.launch.signer = MrSigner::new([0; 32]));
    assert_eq!(unsigned, AppraiseError::ZeroSigner);
    let blank = tpm(&|machine| {
        machine.registers.iter_mut().for_each(|pcr| pcr.value = Register32::new([0; 32]));
    });
    assert_eq!(blank, AppraiseError::ZeroRegisters);
    assert_eq!(reason(Snp::new().with(0x008, &0xb_0000_u64.to_le_bytes()).vtpm()), "debug-guest");
}

trait IntoMeasurement {
    fn into_measurement(self) -> heirloom_model::measurement::LaunchedCode;
}

impl IntoMeasurement for [u8; 32] {
    fn into_measurement(self) -> heirloom_model::measurement::LaunchedCode {
        heirloom_model::measurement::LaunchedCode::new(self)
    }
}

#[test]
fn a_tpm_quote_covers_the_claims_and_exactly_the_registers_that_a_rule_judges() {
    let good = Tpm::new().made();
    let with = |change: &dyn Fn(&mut heirloom_model::evidence::TpmEvidence)| {
        let changed = good.with(|made| {
            let Evidence::Tpm(evidence) = &mut made.evidence else { panic!("a TPM's evidence") };
            change(evidence);
        });
        changed.appraise().unwrap_err().reason()
    };
    // What the launcher says, one field at a time, after the quote was made.
    let claims = "qualifying-data";
    assert_eq!(with(&|made| made.launch.measurement = [1; 32].into_measurement()), claims);
    assert_eq!(with(&|made| made.launch.signer = MrSigner::new([1; 32])), claims);
    assert_eq!(with(&|made| made.launch.product_id = 6), claims);
    assert_eq!(with(&|made| made.launch.isv_svn = 7), claims);
    assert_eq!(with(&|made| made.launch.authority = OTHER_AUTHORITY), claims);
    assert_eq!(with(&|made| made.report_data = ReportData::new([2; 64])), claims);
    let quoted = |count: u8| {
        let mut machine = Tpm::new();
        machine.registers.retain(|pcr| pcr.index < count);
        machine.made().appraise().unwrap_err()
    };
    assert_eq!(quoted(15), AppraiseError::RegistersIncomplete);
    let mut other = Tpm::new();
    other.registers[7].value = Register32::new([0xee; 32]);
    let found = Register32::new([0xee; 32]).to_string();
    let changed = AppraiseError::ReferenceMismatch { claim: "PCR 7", found };
    assert_eq!(other.made().appraise(), Err(changed));
    let ruled = |change: &dyn Fn(&mut heirloom_model::appraisal::TpmRule)| {
        good.with(|made| change(made.policy.tpm.as_mut().unwrap())).appraise()
    };
    let missing = ruled(&|rule| drop(rule.registers.remove(3)));
    assert_eq!(missing, Err(AppraiseError::RegisterRules { index: 3 }));
    let twice = ruled(&|rule| rule.registers.push(rule.registers[3].clone()));
    assert_eq!(twice, Err(AppraiseError::RegisterRules { index: 3 }));
    assert!(ruled(&|rule| rule.registers[3].value = Reference::Skip).is_ok());
}

const OTHER_AUTHORITY: HostAuthority = HostAuthority::new([0xee; 32]);

/// An operator who makes a machine with an authority of his own could let any system have its
/// secret, whatever is in the registers today.
#[test]
fn a_machine_is_believed_only_if_an_admitted_authority_approves_its_hosts() {
    let mut machine = Tpm::new();
    machine.launch.authority = OTHER_AUTHORITY;
    let made = machine.made();
    let claim = "authority of hosts";
    let found = OTHER_AUTHORITY.to_string();
    assert_eq!(made.appraise(), Err(AppraiseError::ReferenceMismatch { claim, found }));
    let ruled = |authorities: &Reference<HostAuthority>| {
        let change = |made: &mut Made| {
            made.policy.tpm.as_mut().unwrap().authorities = authorities.clone();
        };
        made.with(change).appraise()
    };
    assert!(ruled(&Reference::Match(vec![AUTHORITY, OTHER_AUTHORITY])).is_ok());
    assert!(ruled(&Reference::Match(vec![AUTHORITY])).is_err());
    assert!(ruled(&Reference::Skip).is_ok(), "said aloud");
}

#[test]
fn each_register_of_nitro_is_judged_and_user_data_is_report_data() {
    for (index, claim) in [(3, "PCR 3"), (4, "PCR 4"), (5, "PCR 8")] {
        let mut enclave = Nitro::new();
        enclave.registers[index].1 = [0xee; 48];
        match enclave.made().appraise() {
            Err(AppraiseError::ReferenceMismatch { claim: found, .. }) => assert_eq!(found, claim),
            found => panic!("{found:?}"),
        }
    }
    let mut enclave = Nitro::new();
    enclave.user_data.push(0);
    assert_eq!(enclave.made().appraise(), Err(AppraiseError::UserDataLength { found: 65 }));
}

#[test]
fn a_vtpm_is_judged_by_the_rule_of_its_machine_too() {
    let good = Snp::new().vtpm();
    let refused = |change: &dyn Fn(&mut Made)| good.with(change).appraise().unwrap_err();
    let unruled = refused(&|made| made.policy.snp = None);
    assert_eq!(unruled, AppraiseError::KindNotAccepted { kind: TeeKind::Snp });
    let old = refused(&|made| made.policy.snp.as_mut().unwrap().tcb_min[0].snp = 21);
    assert_eq!(old.reason(), "firmware-too-old");
    // A quote for another question, and one over other registers than those that are shown.
    let other = Snp::new().vtpm_with(&crate::worlds::registers(), [1; 32]);
    assert_eq!(other.appraise().unwrap_err().reason(), "qualifying-data");
    let swapped = refused(&|made| {
        let Evidence::Vtpm(evidence) = &mut made.evidence else { panic!("a virtual TPM's") };
        evidence.registers[4].value = Register32::new([0xee; 32]);
    });
    assert_eq!(swapped.reason(), "register-digest");
    // A report that the guest asked for, with a key of its own in it, whatever the policy accepts.
    let guest = Snp::new().with(0x030, &[1]).vtpm();
    let guest = guest.with(|made| made.policy.snp.as_mut().unwrap().vmpl_max = 3);
    let level = AppraiseError::Hcl(HclError::PrivilegeLevel { found: 1 });
    assert_eq!(guest.appraise(), Err(level));
    // The runtime data of another machine.
    let foreign = refused(&|made| {
        let Evidence::Vtpm(evidence) = &mut made.evidence else { panic!("a virtual TPM's") };
        let last = evidence.hcl_report.len() - 3;
        evidence.hcl_report[last] = b' ';
    });
    assert_eq!(foreign.reason(), "runtime-data");
}

#[test]
fn a_key_of_a_provider_names_no_host() {
    let made = Snp::of_provider().made().with(|made| {
        made.policy.snp.as_mut().unwrap().keys = vec![VekKind::Vlek];
    });
    let result = made.appraise().unwrap();
    assert_eq!((result.host(), result.platform()), (Host::Unknown, PlatformId::new([0; 32])));
    // Not even a list that has the word for nobody in it.
    for listed in [PlatformId::of_chip(&CHIP), PlatformId::new([0; 32])] {
        let listed = made.with(|made| made.policy.platforms = PlatformRule::Only(vec![listed]));
        assert_eq!(listed.appraise(), Err(AppraiseError::HostUnknown));
    }
}

#[test]
fn a_list_of_revoked_keys_is_demanded_looked_at_and_expires_with_grace() {
    let listed = |until: Time, serials: &[u8]| {
        let endorsements = revocations(SINCE, until, serials);
        Snp::new().made().with(|made| {
            made.policy.snp.as_mut().unwrap().revocation = RevocationDemand::Demanded;
            made.endorsements.push(endorsements);
        })
    };
    let good = listed(NOW.after(1000), &[77]);
    assert_eq!(good.appraise().unwrap().expires(), NOW.after(1000));
    assert!(good.appraiser().expiry_calendar().iter().any(|line| line.at == NOW.after(1000)));
    let anchor = good.anchors[0].id();
    let without = good.with(|made| made.endorsements.clear()).appraise();
    assert_eq!(without, Err(AppraiseError::MissingRevocations { anchor }));
    let late = good.with(|made| made.now = NOW.after(1000));
    let part = EndorsementPart::VekCrl;
    let expired = AppraiseError::ExpiredEndorsements { part, expired: NOW.after(1000) };
    assert_eq!(late.appraise(), Err(expired));
    let graced = late.with(|made| made.policy.collateral_grace_seconds = 60).appraise().unwrap();
    let grace = graced.grace().unwrap();
    assert_eq!((grace.part, grace.until), (part, NOW.after(1060)));
    assert_eq!(graced.expires(), NOW.after(1060));
    let over = late.with(|made| {
        made.policy.collateral_grace_seconds = 60;
        made.now = NOW.after(1060);
    });
    assert_eq!(reason(&over.appraise()), "expired-endorsements");
    // Who is listed is refused, also by a list that is not demanded and long expired.
    let revoked = listed(NOW.previous().unwrap(), &[2]);
    assert_eq!(revoked.appraise(), Err(AppraiseError::CertificateRevoked));
    let revoked = revoked
        .with(|made| made.policy.snp.as_mut().unwrap().revocation = RevocationDemand::IfPresent);
    assert_eq!(revoked.appraise(), Err(AppraiseError::CertificateRevoked));
    let mut warm = good.appraiser();
    good.appraise_with(&mut warm).unwrap();
    warm.endorse(revocations(SINCE.after(1), NOW, &[2])).unwrap();
    assert_eq!(good.appraise_with(&mut warm), Err(AppraiseError::CertificateRevoked));
    // An older list does not bring it back.
    warm.endorse(good.endorsements[0].clone()).unwrap();
    assert_eq!(good.appraise_with(&mut warm), Err(AppraiseError::CertificateRevoked));
}

#[test]
fn a_list_that_its_root_did_not_sign_is_refused_when_it_arrives() {
    let made = Snp::new().made();
    let heirloom_model::evidence::Endorsements::Snp(mut list) = revocations(SINCE, UNTIL, &[])
    else {
        panic!("AMD's endorsements");
    };
    *list.revoked.last_mut().unwrap() ^= 1;
    let forged = heirloom_model::evidence::Endorsements::Snp(list);
    let refused = made.appraiser().endorse(forged);
    let part = EndorsementPart::VekCrl;
    assert_eq!(refused, Err(AppraiseError::EndorsementSignature { part }));
    let mut nobody = heirloom_attest::appraiser::Appraiser::new(Vec::new());
    let refused = nobody.endorse(revocations(SINCE, UNTIL, &[]));
    assert_eq!(refused, Err(AppraiseError::UnknownAnchor));
}

/// What is remembered changes how long an appraisal takes, and nothing else.
#[test]
fn what_is_remembered_is_no_permission() {
    for made in all() {
        let kind = made.evidence.kind();
        let mut warm = made.appraiser();
        let first = made.appraise_with(&mut warm);
        assert!(first.is_ok(), "{kind}: {first:?}");
        assert_eq!(warm.quoting_identities_known(), 1, "{kind}");
        assert_eq!(made.appraise_with(&mut warm), first);
        assert_eq!(warm.quoting_identities_known(), 1, "{kind}");
        let changes: [&dyn Fn(&mut Made); 6] = [
            &|made| made.now = UNTIL.after(1),
            &|made| made.now = SINCE.previous().unwrap(),
            &|made| made.expected = ReportData::new([2; 64]),
            &|made| made.policy.platforms = PlatformRule::Only(vec![PlatformId::new([1; 32])]),
            &|made| (made.policy.snp, made.policy.nitro, made.policy.tpm) = (None, None, None),
            &|made| break_signature(&mut made.evidence),
        ];
        for change in changes {
            let changed = made.with(change);
            let answer = changed.appraise_with(&mut warm);
            assert!(answer.is_err(), "{kind}");
            assert_eq!(answer, changed.appraise(), "{kind}");
        }
        warm.replace_anchors(Vec::new());
        assert_eq!(warm.quoting_identities_known(), 0);
        assert_eq!(made.appraise_with(&mut warm), Err(AppraiseError::UnknownAnchor), "{kind}");
    }
}

/// The last byte of each signature.
fn break_signature(evidence: &mut Evidence) {
    let last = match evidence {
        Evidence::SgxDcap(bytes) | Evidence::TdxDcap(bytes) => bytes.get_mut(440),
        // s, behind r; zeros follow.
        Evidence::Snp(evidence) => evidence.report.get_mut(0x2e8),
        Evidence::Nitro(bytes) => bytes.last_mut(),
        Evidence::Tpm(evidence) => evidence.signature.last_mut(),
        Evidence::Vtpm(evidence) => evidence.signature.last_mut(),
    };
    *last.unwrap() ^= 1;
}

/// Every byte that is signed, of evidence whose certificates were verified once.
#[test]
fn no_byte_of_signed_evidence_can_change_unnoticed() {
    for made in all() {
        let mut warm = made.appraiser();
        made.appraise_with(&mut warm).unwrap();
        let signed = |evidence: &mut Evidence| match evidence {
            Evidence::SgxDcap(bytes) | Evidence::TdxDcap(bytes) | Evidence::Nitro(bytes) => {
                std::mem::take(bytes)
            }
            Evidence::Snp(evidence) => std::mem::take(&mut evidence.report),
            Evidence::Tpm(evidence) => std::mem::take(&mut evidence.attest),
            Evidence::Vtpm(evidence) => std::mem::take(&mut evidence.attest),
        };
        let count = signed(&mut made.evidence.clone()).len();
        for byte in 0..count {
            let mut evidence = made.evidence.clone();
            let bytes = match &mut evidence {
                Evidence::SgxDcap(bytes) | Evidence::TdxDcap(bytes) | Evidence::Nitro(bytes) => {
                    bytes
                }
                Evidence::Snp(evidence) => &mut evidence.report,
                Evidence::Tpm(evidence) => &mut evidence.attest,
                Evidence::Vtpm(evidence) => &mut evidence.attest,
            };
            bytes[byte] ^= 1 << (byte % 8);
            let outcome = warm.appraise(&evidence, &DATA, &made.policy, made.now);
            assert!(outcome.is_err(), "{}: byte {byte}", made.evidence.kind());
        }
    }
}

/// Real reports, with the roots that this release calls a manufacturer's.
#[test]
fn real_reports_are_of_production_roots() {
    let reports = [
        ("report_milan.bin", "vcek_milan.der", "milan"),
        ("oak/genoa_oc_report.bin", "oak/genoa_oc_vcek.der", "genoa"),
        ("oak/turin_oc_report.bin", "oak/turin_oc_vcek.der", "turin"),
    ];
    for (report, certificate, generation) in reports {
        let file = |name: &str| bytes(&format!("tee/snp/{name}"));
        let (Some(report), Some(vek)) = (file(report), file(certificate)) else { return };
        let pem = file(&format!("coco/{generation}_ask_ark_asvk.pem")).unwrap();
        let chain = pem::parse_many(pem).unwrap();
        let evidence = Evidence::Snp(SnpEvidence {
            report,
            certificates: vec![Certificate(vek), Certificate(chain[0].contents().to_vec())],
        });
        let claims = heirloom_attest::decode::unverified(&evidence).unwrap();
        let made = Snp::new().made().with(|made| {
            made.evidence = evidence;
            made.anchors = vec![TrustAnchor::Snp(chain[1].contents().to_vec())];
            made.expected = claims.report_data.unwrap();
            made.now = Time(1_773_000_000);
            let rule = made.policy.snp.as_mut().unwrap();
            let generations = [SnpGeneration::Milan, SnpGeneration::Genoa, SnpGeneration::Turin];
            rule.tcb_min = generations
                .map(|generation| heirloom_model::appraisal::SnpMinimum {
                    generation,
                    fmc: 0,
                    bootloader: 0,
                    tee: 0,
                    snp: 0,
                    microcode: 0,
                })
                .to_vec();
            (rule.id_key, rule.author_key) = (Reference::Skip, Reference::Skip);
            rule.host_data = Reference::Skip;
            // Version 2 of reports does not state it; and this Turin says something in bit 6.
            if generation == "milan" {
                rule.alias_check = AliasCheck::Skipped;
            }
            if generation == "turin" {
                rule.unknown_info = 0x40;
            }
        });
        let strict = made.with(|made| {
            let rule = made.policy.snp.as_mut().unwrap();
            (rule.alias_check, rule.unknown_info) = (AliasCheck::Demanded, 0);
        });
        let expected = match generation {
            "milan" => "aliases-not-checked",
            "genoa" => "ok",
            _ => "unknown-platform-info",
        };
        assert_eq!(reason(&strict.appraise()), expected);
        let result = made.appraise().unwrap();
        assert_eq!(result.anchor_class(), AnchorClass::Production, "{generation}");
        assert_eq!(Some(result.platform()), claims.platform);
        assert_eq!(Some(result.measurement()), claims.measurement);
    }
}

/// A real document verifies, and carries no report data; those of debug enclaves have no
/// measurement, whatever they carry.
#[test]
fn real_documents_verify_and_debug_enclaves_have_no_measurement() {
    let documents = [
        ("nitro_attest_fixture.cose", 1_736_179_625, "user-data-length"),
        ("evervault/beta_debug-mode.cose", 1_665_582_606, "debug-enclave"),
        ("evervault/valid-attestation-doc.cose", 1_695_049_410, "debug-enclave"),
    ];
    for (document, now, expected) in documents {
        let file = |name: &str| bytes(&format!("tee/nitro/{name}"));
        let (Some(document), Some(root)) = (file(document), file("aws_nitro_root_g1.pem")) else {
            return;
        };
        let root = TrustAnchor::Nitro(pem::parse(root).unwrap().contents().to_vec());
        assert_eq!(AnchorClass::of(&root.id()), AnchorClass::Production);
        let made = Nitro::new().made().with(|made| {
            made.evidence = Evidence::Nitro(document);
            made.anchors = vec![root];
            made.now = Time(now);
        });
        assert_eq!(made.appraise().unwrap_err().reason(), expected);
        let tomorrow = made.with(|made| made.now = Time(now + 86_400)).appraise();
        assert_eq!(reason(&tomorrow), "certificate-expired");
    }
}

#[test]
fn a_revoked_attestation_key_is_refused_and_a_current_list_can_be_demanded() {
    let part = EndorsementPart::AkCrl;
    let listed = |until: Time, serials: &[u8]| {
        let list = revoked_keys(SINCE, until, serials);
        Tpm::new().made().with(|made| {
            made.policy.tpm.as_mut().unwrap().revocation = RevocationDemand::Demanded;
            made.endorsements.push(Endorsements::Tpm(list));
        })
    };
    let ends = NOW.after(1000);
    let good = listed(ends, &[77]);
    assert_eq!(good.appraise().unwrap().expires(), ends);
    let anchor = good.anchors[0].id();
    let line = Expiry { at: ends, item: ExpiryItem::Revocations(anchor) };
    assert!(good.appraiser().expiry_calendar().contains(&line));
    let without = good.with(|made| made.endorsements.clear());
    assert_eq!(without.appraise(), Err(AppraiseError::MissingRevocations { anchor }));
    let rule = |made: &mut Made| {
        made.policy.tpm.as_mut().unwrap().revocation = RevocationDemand::IfPresent;
    };
    assert!(without.with(rule).appraise().is_ok());
    let expired = AppraiseError::ExpiredEndorsements { part, expired: ends };
    let late = good.with(|made| made.now = ends);
    assert_eq!(late.appraise(), Err(expired));
    let graced = late.with(|made| made.policy.collateral_grace_seconds = 60).appraise().unwrap();
    assert_eq!((graced.grace().unwrap().part, graced.expires()), (part, ends.after(60)));
    // Who is listed is refused, also by a list that is not demanded and long expired.
    let revoked = listed(NOW.previous().unwrap(), &[1]).with(rule);
    assert_eq!(revoked.appraise(), Err(AppraiseError::CertificateRevoked));
    // Although the key was verified before; and an older list does not bring it back.
    let mut warm = good.appraiser();
    good.appraise_with(&mut warm).unwrap();
    warm.endorse(Endorsements::Tpm(revoked_keys(SINCE.after(1), ends, &[1]))).unwrap();
    warm.endorse(Endorsements::Tpm(revoked_keys(SINCE, ends, &[]))).unwrap();
    assert_eq!(good.appraise_with(&mut warm), Err(AppraiseError::CertificateRevoked));
}

#[test]
fn a_list_of_attestation_keys_counts_if_the_ca_of_the_network_made_it() {
    let made = Tpm::new().made();
    let refused = |change: &dyn Fn(&mut RevokedKeys)| {
        let mut list = revoked_keys(SINCE, UNTIL, &[]);
        change(&mut list);
        made.appraiser().endorse(Endorsements::Tpm(list)).map_err(|error| error.reason())
    };
    assert_eq!(refused(&|_| ()), Ok(()));
    assert_eq!(
        refused(&|list| *list.revoked.last_mut().unwrap() ^= 1),
        Err("endorsement-signature")
    );
    let stranger = Key::p256();
    let signed = |issuer| forge::list(&stranger, issuer, SINCE, UNTIL, &[]);
    assert_eq!(refused(&|list| list.revoked = signed("CA")), Err("endorsement-signature"));
    assert_eq!(refused(&|list| list.revoked = signed("XA")), Err("endorsement-signature"));
    assert_eq!(refused(&|list| list.revoked = vec![0x30, 0]), Err("malformed-endorsements"));
    let root = Request::authority("CA", "CA", &stranger).signed(&stranger);
    let foreign = |list: &mut RevokedKeys| {
        *list = RevokedKeys { root: Certificate(root.clone()), revoked: signed("CA") };
    };
    assert_eq!(refused(&foreign), Err("unknown-anchor"));
    // The same bytes as a list of another maker.
    let list = revoked_keys(SINCE, UNTIL, &[]);
    let other = made.appraiser().endorse(Endorsements::Snp(list));
    assert_eq!(other, Err(AppraiseError::UnknownAnchor));
}

#[test]
fn what_a_machine_says_about_itself_is_known_or_named_by_the_policy() {
    let says = |info: u64| Snp::new().with(0x040, &info.to_le_bytes()).made();
    // All that is known; and the least that is demanded.
    assert!(says(0b1011_1111).appraise().is_ok());
    assert!(says(0b10_0000).appraise().is_ok());
    let unchecked = says(0b1001_1111);
    assert_eq!(unchecked.appraise(), Err(AppraiseError::Snp(SnpError::AliasesNotChecked)));
    let skipping = unchecked.with(|made| {
        made.policy.snp.as_mut().unwrap().alias_check = AliasCheck::Skipped;
    });
    assert!(skipping.appraise().is_ok());
    for bit in [6, 8, 31, 32, 63] {
        let bits = 1 << bit;
        let unknown = says(0b10_0000 | bits);
        assert_eq!(
            unknown.appraise(),
            Err(AppraiseError::Snp(SnpError::UnknownPlatformInfo { bits }))
        );
        let named = unknown.with(|made| made.policy.snp.as_mut().unwrap().unknown_info = bits);
        assert!(named.appraise().is_ok(), "{bit}");
        let other = unknown
            .with(|made| made.policy.snp.as_mut().unwrap().unknown_info = bits.rotate_left(1));
        assert_eq!(
            other.appraise(),
            Err(AppraiseError::Snp(SnpError::UnknownPlatformInfo { bits }))
        );
    }
    // Of the machine around a virtual TPM too.
    let around = Snp::new().with(0x040, &[0x05]).vtpm();
    assert_eq!(around.appraise(), Err(AppraiseError::Snp(SnpError::AliasesNotChecked)));
}
