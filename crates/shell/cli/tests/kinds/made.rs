//! Evidence under manufacturers of the tests' own: accepted as it is, refused for each change.

use std::fmt::Write as _;

use heirloom_model::evidence::{Evidence, TrustAnchor};
use heirloom_model::wire;

use crate::forge::{NOW, SINCE, UNTIL};
use crate::place::{Case, Place};
use crate::vectors::COMMON;
use crate::worlds::{DATA, Made, Nitro, Snp, Tpm, revocations};

const SNP: &str = "[snp]\n\
    tcb_min = [{ generation = \"genoa\", fmc = 0, bootloader = 3, tee = 1, snp = 20, \
    microcode = 209 }]\nkeys = [\"vcek\"]\nvmpl_max = 0\nid_key = [\"none\"]\n\
    author_key = [\"none\"]\nhost_data = [\"none\"]\nsmt = \"accepted\"\n\
    revocation = \"if-present\"\nalias_check = \"skip\"\nunknown_info = \"0x0\"\n";

/// The case of evidence that is written encoded, with the anchor as its certificate.
fn case(made: &Made, kind: &str, rules: &str) -> Case {
    let place = Place::new();
    place.write("evidence", wire::encode(&made.evidence));
    place.write("root.der", made.anchors[0].certificate());
    let words = format!("evidence --anchor {kind}:root.der {}", question());
    Case { place, words, rules: format!("{COMMON}{rules}") }
}

fn question() -> String {
    format!("--report-data {DATA} --time {}", NOW.0)
}

fn register(value: u8) -> String {
    format!("[\"{}\"]", format!("{value:02x}").repeat(32))
}

/// Rules that look at all registers but those that are measured.
fn pcrs(table: &str, measured: &[u8]) -> String {
    let mut text = format!("[{table}.pcr]\n");
    for index in (0..16).filter(|index| !measured.contains(index)) {
        writeln!(text, "{index} = {}", register(index)).unwrap();
    }
    text
}

/// The rules for the tests' machine with a TPM.
fn tpm_rules() -> String {
    format!(
        "[tpm]\nrevocation = \"if-present\"\nauthorities = {}\n{}",
        register(0x55),
        pcrs("tpm", &[])
    )
}

fn quoted(made: &[heirloom_model::evidence::PcrValue]) -> String {
    let mut text = "[pcr]\n".to_owned();
    for register in made {
        writeln!(text, "{} = \"{}\"", register.index, register.value).unwrap();
    }
    text
}

#[test]
fn a_guest_of_snp_is_accepted_and_refused_by_each_rule() {
    let case = case(&Snp::new().made(), "snp", SNP);
    let json = case.accepted();
    assert_eq!(json["measurement"], format!("snp:{}", "22".repeat(48)));
    assert_eq!((&json["signer"], &json["security_version"]), (&serde_json::Value::Null, &7.into()));
    let ones = format!("[\"{}\"]", "11".repeat(48));
    let short = format!("[\"{}\"]", "11".repeat(32));
    let mismatch = "reference-mismatch";
    case.refused("id_key = [\"none\"]", &format!("id_key = {ones}"), mismatch);
    case.refused("author_key = [\"none\"]", &format!("author_key = {ones}"), mismatch);
    case.refused("host_data = [\"none\"]", &format!("host_data = {short}"), mismatch);
    case.refused("\"vcek\"", "\"vlek\"", "key-kind-not-accepted");
    case.refused("genoa", "milan", "generation-not-accepted");
    case.refused("snp = 20", "snp = 21", "firmware-too-old");
    case.refused("smt = \"accepted\"", "smt = \"refused\"", "threads-not-accepted");
    case.refused("if-present", "demanded", "missing-revocations");
    case.refused(SNP, "", "kind-not-accepted");
    let other = format!("platforms = [\"{}\"]", "01".repeat(32));
    case.refused("platforms = \"any\"", &other, "platform-not-listed");
}

#[test]
fn a_report_with_certificates_and_a_list_in_files_is_the_same_evidence() {
    let made = Snp::new().made();
    let Evidence::Snp(evidence) = &made.evidence else { panic!("a report") };
    let mut case = case(&made, "snp", &SNP.replace("if-present", "demanded"));
    case.place.write("report.bin", &evidence.report);
    case.place.write("vcek.der", &evidence.certificates[0].0);
    case.place.write("ask.der", &evidence.certificates[1].0);
    let heirloom_model::evidence::Endorsements::Snp(list) = revocations(SINCE, UNTIL, &[77]) else {
        panic!("a list")
    };
    case.place.write("crl.der", &list.revoked);
    let listed = format!(
        "report.bin --certificate vcek.der --certificate ask.der --anchor snp:root.der \
         --endorsements crl.der {}",
        question()
    );
    case.words = listed.clone();
    case.accepted();
    // Who is on the list, which is the issuer, is refused whatever the rules say.
    let heirloom_model::evidence::Endorsements::Snp(list) = revocations(SINCE, UNTIL, &[2]) else {
        panic!("a list")
    };
    case.place.write("crl.der", &list.revoked);
    case.refused("vmpl_max = 0", "vmpl_max = 1", "certificate-revoked");
    // Parts that mean nothing are refused, not ignored.
    case.words = listed.replace("crl.der", "crl.der --quoted rules.toml");
    let (exit, json) =
        case.place.json(&format!("evidence appraise {} --rules rules.toml", case.words));
    assert_eq!(exit, 1, "{json}");
}

#[test]
fn an_enclave_of_nitro_is_accepted_and_refused_by_each_rule() {
    let register = |value: &str| format!("[\"{}\"]", value.repeat(48));
    let rules = format!(
        "[nitro]\npcr3 = {}\npcr4 = {}\npcr8 = {}\n",
        register("03"),
        register("04"),
        register("08")
    );
    let made = Nitro::new().made();
    let mut case = case(&made, "nitro", &rules);
    let json = case.accepted();
    assert_eq!((&json["kind"], &json["tcb"]), (&"nitro".into(), &"not stated".into()));
    for value in ["03", "04", "08"] {
        case.refused(&register(value), "[\"none\"]", "reference-mismatch");
    }
    // The document as the security module hands it out.
    let Evidence::Nitro(document) = &made.evidence else { panic!("a document") };
    case.place.write("document.cose", document);
    case.words = case.words.replacen("evidence", "document.cose", 1);
    assert_eq!(case.accepted()["measurement"], json["measurement"]);
    // A root of another kind vouches for nothing, with the same certificate.
    case.words = case.words.replace("nitro:root.der", "root.der");
    case.refused("\"up-to-date\"", "\"out-of-date\"", "unknown-anchor");
}

#[test]
fn a_machine_with_a_tpm_is_accepted_and_refused_by_each_register() {
    let made = Tpm::new().made();
    let mut case = case(&made, "tpm", &tpm_rules());
    let json = case.accepted();
    assert_eq!(json["measurement"], format!("tpm:{}", "33".repeat(32)));
    let (authority, other) = (register(0x55), register(0xee));
    case.refused(&authority, &other, "reference-mismatch");
    // Nobody looks, said aloud.
    let mut unruled = case.rules.clone();
    unruled = unruled.replace(&authority, "\"skip\"");
    let (exit, out, _) = case.text(&unruled);
    assert!(exit == 0 && out.contains("–  host-authority"), "{out}");
    for index in 0..16 {
        let line = format!("\n{index} = {}", register(index));
        let other = format!("\n{index} = {}", register(0xee));
        case.refused(&line, &other, "reference-mismatch");
    }
    // The quote and its parts in files.
    let Evidence::Tpm(evidence) = &made.evidence else { panic!("a quote") };
    case.place.write("quote", &evidence.attest);
    case.place.write("signature", &evidence.signature);
    case.place.write("ak.der", &evidence.certificates[0].0);
    let launch = format!(
        "[launch]\nmeasurement = \"tpm:{}\"\nsigner = \"{}\"\nproduct_id = 5\nisv_svn = 6\n\
         debug = false\nauthority = \"{}\"\n",
        "33".repeat(32),
        "44".repeat(32),
        "55".repeat(32)
    );
    let registers = quoted(&evidence.registers);
    case.place.write("quoted.toml", format!("{registers}{launch}"));
    case.words = format!(
        "quote --signature signature --certificate ak.der --quoted quoted.toml \
         --anchor tpm:root.der {}",
        question()
    );
    assert_eq!(case.accepted()["platform"], json["platform"]);
    // The launcher's word is covered by the quote.
    let lied = launch.replace("isv_svn = 6", "isv_svn = 7");
    case.place.write("quoted.toml", format!("{registers}{lied}"));
    case.refused("tcb_evaluation_min = 1", "tcb_evaluation_min = 2", "qualifying-data");
    case.place.write("quoted.toml", registers);
    let words = format!("evidence appraise {} --rules rules.toml", case.words);
    assert_eq!(case.place.json(&words).0, 1, "without claims there is no evidence");
}

#[test]
fn a_virtual_tpm_is_accepted_by_two_rules_and_refused_by_each() {
    let measured = [4, 9, 11];
    let rules = format!("{SNP}[vtpm]\nmeasured = [4, 9, 11]\n{}", pcrs("vtpm", &measured));
    let made = Snp::new().vtpm();
    let mut case = case(&made, "snp", &rules);
    let json = case.accepted();
    assert_eq!(json["kind"], "vtpm");
    let line = format!("\n7 = {}", register(7));
    case.refused(&line, &format!("\n7 = {}", register(0xee)), "reference-mismatch");
    case.refused(SNP, "", "kind-not-accepted");
    case.refused("snp = 20", "snp = 21", "firmware-too-old");
    let Evidence::Vtpm(evidence) = &made.evidence else { panic!("a virtual TPM's") };
    case.place.write("quote", &evidence.attest);
    case.place.write("signature", &evidence.signature);
    case.place.write("hcl", &evidence.hcl_report);
    for (index, certificate) in evidence.certificates.iter().enumerate() {
        case.place.write(&format!("{index}.der"), &certificate.0);
    }
    case.place.write("quoted.toml", quoted(&evidence.registers));
    case.words = format!(
        "quote --kind vtpm --hcl-report hcl --signature signature --certificate 0.der \
         --certificate 1.der --quoted quoted.toml --anchor snp:root.der {}",
        question()
    );
    assert_eq!(case.accepted()["measurement"], json["measurement"]);
}

#[test]
fn people_see_every_check_its_rule_and_its_outcome() {
    let case = case(&Tpm::new().made(), "tpm", &tpm_rules());
    let (exit, out, err) = case.text(&case.rules);
    assert_eq!((exit, err.as_str()), (0, ""));
    for expected in
        ["✓  certificate-chain", "RFC 5280", "–  platform", "skipped", "outcome: accepted"]
    {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    let rules = case.rules.split("[tpm]").next().unwrap();
    let (exit, out, err) = case.text(rules);
    assert_eq!(exit, 3);
    for expected in ["✗  kind-accepted", "·  pcrs", "not-reached", "outcome: refused"] {
        assert!(out.contains(expected), "{expected}\n{out}");
    }
    assert!(err.contains("error[E-EVIDENCE-002]") && err.contains("kind-not-accepted"), "{err}");
}

#[test]
fn an_anchor_says_what_it_vouches_for() {
    let made = Snp::new().made();
    let TrustAnchor::Snp(der) = &made.anchors[0] else { panic!("a root of SEV-SNP") };
    let place = Place::new();
    place.write("ark.der", der);
    place.write("encoded", wire::encode(&made.anchors[0]));
    let (exit, json) = place.json("init net --anchor snp:ark.der");
    assert_eq!(exit, 0, "{json}");
    assert_eq!(json["anchors"][0]["kind"], "snp");
    assert_eq!(json["anchors"][0]["class"], "development");
    let (_, root) = place.json("root show net/root.statement");
    assert_eq!(root["content"]["anchors"], json["anchors"]);
    // Encoded it says so itself, and nothing else is believed about it.
    assert_eq!(place.json("init encoded-net --anchor encoded").1["anchors"], json["anchors"]);
    assert_eq!(place.json("init same-net --anchor snp:encoded").1["anchors"], json["anchors"]);
    assert_eq!(place.json("init wrong-net --anchor nitro:encoded").0, 1);
    assert_eq!(place.json("init plain-net --anchor ark.der").1["anchors"][0]["kind"], "sgx");
}
