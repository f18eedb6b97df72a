//! Real evidence of real machines, on its day.

use crate::place::{Case, Place};
use crate::vectors::{COMMON, find};

const ANY_TDX: &str =
    "[tdx]\nmodule = \"skip\"\nattributes = \"skip\"\nxfam = \"skip\"\nservice_td = \"skip\"\n";
const ANY_SNP: &str = "[snp]\nkeys = [\"vcek\"]\nvmpl_max = 0\nid_key = \"skip\"\n\
    author_key = \"skip\"\nhost_data = \"skip\"\nsmt = \"accepted\"\nrevocation = \"if-present\"\nalias_check = \"skip\"\nunknown_info = \"0x40\"\n";

fn minimum(generation: &str) -> String {
    format!(
        "tcb_min = [{{ generation = \"{generation}\", fmc = 0, bootloader = 0, tee = 0, snp = 0, \
         microcode = 0 }}]\n"
    )
}

#[test]
fn a_quote_of_sgx_is_accepted_with_its_collateral() {
    let (Some(quote), Some(root), Some(collateral)) = (
        find("sgx/sgx_quote_v3.bin"),
        find("sgx/IntelSGXRootCA.der"),
        find("sgx/sgx_quote_v3.collateral.json"),
    ) else {
        return;
    };
    let place = Place::new();
    let report_data = place.report_data(&quote);
    let words = format!(
        "{quote} --anchor {root} --endorsements {collateral} --report-data {report_data} \
         --time 1750334171"
    );
    let accepted = "[{ id = \"INTEL-SA-00289\", until = \"2026-01-01\" }, \
                    { id = \"INTEL-SA-00615\", until = \"2026-01-01\" }]";
    let rules = COMMON
        .replace("\"up-to-date\"", "\"configuration-and-sw-hardening-needed\"")
        .replace("accepted = []", &format!("accepted = {accepted}"));
    let case = Case { place, words, rules };
    let json = case.accepted();
    assert_eq!(json["anchor_class"], "production");
    assert_eq!(json["advisories"].as_array().unwrap().len(), 2);
    let level = "configuration-and-sw-hardening-needed";
    case.refused(level, "up-to-date", "tcb-level-not-accepted");
    case.refused("INTEL-SA-00289", "INTEL-SA-00288", "advisory-not-accepted");
    case.refused("2026-01-01", "2025-01-01", "advisory-no-longer-accepted");
    case.refused("evaluation_min = 1", "evaluation_min = 1000", "tcb-evaluation-too-low");
}

#[test]
fn a_quote_of_tdx_is_accepted_with_its_collateral_and_its_padding() {
    let (Some(quote), Some(root), Some(collateral)) = (
        find("tdx/tdx_quote_v4.bin"),
        find("tdx/IntelSGXRootCA.der"),
        find("tdx/tdx_quote_v4.collateral.json"),
    ) else {
        return;
    };
    let place = Place::new();
    let report_data = place.report_data(&quote);
    let words = format!(
        "{quote} --anchor sgx:{root} --endorsements {collateral} --report-data {report_data} \
         --time 1750332747"
    );
    let case = Case { place, words, rules: format!("{COMMON}{ANY_TDX}") };
    assert!(case.accepted()["measurement"].as_str().unwrap().starts_with("tdx:"));
    case.refused(ANY_TDX, "", "kind-not-accepted");
    let ones = format!("[\"{}\"]", "11".repeat(48));
    let mismatch = "reference-mismatch";
    case.refused("module = \"skip\"", &format!("module = {ones}"), mismatch);
    case.refused("attributes = \"skip\"", "attributes = [\"0x2\"]", mismatch);
    case.refused("xfam = \"skip\"", "xfam = [\"0x3\"]", mismatch);
    // A report of TDX 1.0 does not say whether a service domain is bound.
    case.refused("service_td = \"skip\"", "service_td = [\"none\"]", "claim-missing");
}

#[test]
fn a_report_of_each_generation_is_accepted_with_its_certificates() {
    for (generation, report, vcek) in [
        ("milan", "snp/report_milan.bin", "snp/vcek_milan.der"),
        ("genoa", "snp/oak/genoa_oc_report.bin", "snp/oak/genoa_oc_vcek.der"),
        ("turin", "snp/oak/turin_oc_report.bin", "snp/oak/turin_oc_vcek.der"),
    ] {
        let (Some(report), Some(vcek), Some(ask), Some(ark)) = (
            find(report),
            find(vcek),
            find(&format!("snp/ask_{generation}.pem")),
            find(&format!("snp/ark_{generation}.pem")),
        ) else {
            return;
        };
        let place = Place::new();
        let report_data = place.report_data(&report);
        let words = format!(
            "{report} --certificate {vcek} --certificate {ask} --anchor snp:{ark} \
             --report-data {report_data} --time 1773000000"
        );
        let rules = format!("{COMMON}{ANY_SNP}{}", minimum(generation));
        let case = Case { place, words, rules };
        let json = case.accepted();
        assert_eq!(json["anchor_class"], "production", "{generation}");
        let other = if generation == "milan" { "genoa" } else { "milan" };
        case.refused(generation, other, "generation-not-accepted");
        case.refused("\"vcek\"", "\"vlek\"", "key-kind-not-accepted");
        case.refused("bootloader = 0", "bootloader = 255", "firmware-too-old");
    }
}

#[test]
fn a_key_of_a_provider_is_accepted_by_name_and_names_no_machine() {
    let (Some(report), Some(vlek), Some(chain), Some(ark)) = (
        find("snp/coco/snp_test-vlek-report.bin"),
        find("snp/coco/snp_test-vlek.der"),
        find("snp/coco/milan_ask_ark_asvk.pem"),
        find("snp/ark_milan.pem"),
    ) else {
        return;
    };
    let place = Place::new();
    // The third of the bundle signs keys of providers.
    let bundle = pem::parse_many(std::fs::read(chain).unwrap()).unwrap();
    place.write("asvk.der", bundle[2].contents());
    let report_data = place.report_data(&report);
    let words = format!(
        "{report} --certificate {vlek} --certificate asvk.der --anchor snp:{ark} \
         --report-data {report_data} --time 1764547200"
    );
    let rules = format!("{COMMON}{ANY_SNP}{}", minimum("milan"))
        .replace("\"vcek\"", "\"vlek\"")
        .replace("vmpl_max = 0", "vmpl_max = 1");
    let case = Case { place, words, rules };
    assert_eq!(case.accepted()["platform"], serde_json::Value::Null);
    case.refused("\"vlek\"", "\"vcek\"", "key-kind-not-accepted");
    case.refused("vmpl_max = 1", "vmpl_max = 0", "privilege-too-low");
    let listed = format!("platforms = [\"{}\"]", "00".repeat(32));
    case.refused("platforms = \"any\"", &listed, "host-unknown");
}

#[test]
fn real_evidence_of_every_kind_is_decoded() {
    let place = Place::new();
    for (kind, vector) in [
        ("sgx", "sgx/sgx_quote_v3.bin"),
        ("tdx", "tdx/tdx_quote_v4.bin"),
        ("tdx", "tdx/coco/tdx_quote_5.dat"),
        ("snp", "snp/report_milan.bin"),
        ("snp", "snp/oak/turin_oc_report.bin"),
        ("nitro", "nitro/nitro_attest_fixture.cose"),
        ("nitro", "nitro/evervault/beta_debug-mode.cose"),
        ("tpm", "tpm/azure_vtpm_quote.msg"),
        ("tpm", "tpm/swtpm_quote.attest"),
        ("vtpm", "snp/coco/az-snp-vtpm_hcl-report.bin"),
    ] {
        let Some(path) = find(vector) else { return };
        let (exit, json) = place.json(&format!("evidence decode {path}"));
        assert_eq!(exit, 0, "{vector}: {json}");
        assert_eq!(json["kind"], kind, "{vector}");
        assert_eq!(json["signature_check"]["checked"], false, "{vector}");
        // Saying it changes nothing, and saying something else makes it no evidence.
        let said = place.json(&format!("evidence decode {path} --kind {kind}"));
        assert_eq!(said, (0, json), "{vector}");
        let other = if kind == "nitro" { "snp" } else { "nitro" };
        let (exit, json) = place.json(&format!("evidence decode {path} --kind {other}"));
        assert_eq!(exit, 1, "{vector}: {json}");
    }
}

#[test]
fn a_document_of_a_debug_enclave_is_refused_whatever_the_rules_say() {
    let (Some(document), Some(root)) =
        (find("nitro/evervault/beta_debug-mode.cose"), find("nitro/aws_nitro_root_g1.pem"))
    else {
        return;
    };
    let words = format!(
        "{document} --anchor nitro:{root} --report-data {} --time 1665582606",
        "00".repeat(64)
    );
    let rules = format!("{COMMON}[nitro]\npcr3 = \"skip\"\npcr4 = \"skip\"\npcr8 = \"skip\"\n");
    let case = Case { place: Place::new(), words, rules };
    case.refused("pcr3 = \"skip\"", "pcr3 = [\"none\"]", "debug-enclave");
}

#[test]
fn no_tee_is_invented_where_there_is_none() {
    let places = ["/dev/attestation", "/dev/nsm", "/sys/kernel/config/tsm/report"];
    if places.iter().any(|place| std::path::Path::new(place).exists()) {
        eprintln!("skipped: this machine has an interface to a TEE");
        return;
    }
    let place = Place::new();
    let data = "00".repeat(64);
    for words in ["evidence collect", &format!("evidence collect --report-data {data} --out new")] {
        let (exit, json) = place.json(words);
        assert_eq!(exit, 3, "{json}");
        assert_eq!(json["places"].as_array().unwrap().len(), 3);
        for found in json["places"].as_array().unwrap() {
            assert_eq!(found["state"], "absent", "{found}");
        }
        assert_eq!(json["evidence"], serde_json::Value::Null);
        let said = String::from_utf8(place.run(words).stderr).unwrap();
        assert!(said.contains("error[E-PLATFORM-004]"), "{said}");
    }
}
