//! Decoding and appraising what attesters say about themselves.

use heirloom_testkit::vectors;
use serde_json::Value;

use crate::world::Place;

/// The value that the upgrade guide of Oasis shows.
pub(crate) const GUIDE: &str = "omlzaWduYXR1cmVYQG7nDuKTOUKAlJAfukdY6Xljox376lCLI0cIP0zPw2B8abJxa31j+NoQAWA0KZuHD41XPyICmjXDTpjDXukEEgVtaW5pdF9yZXNwb25zZaNoY2hlY2tzdW1YIEWZF5YaFQChstrZ9u1UdgyqZCagmNfghvyQna9WkmvyaWlzX3NlY3VyZfVvcG9saWN5X2NoZWNrc3VtWCCsrqRzYjx05t+KoCYz7wFSdKJ720g2LQBAsRKXmClMvw==";
const CHECKSUM: &str = "459917961a1500a1b2dad9f6ed54760caa6426a098d7e086fc909daf56926bf2";
const POLICY: &str = "acaea473623c74e6df8aa02633ef015274a27bdb48362d0040b1129798294cbf";

#[test]
fn the_value_of_the_guide_is_decoded_and_its_limits_are_said() {
    let place = Place::new();
    let said = place.ok(&format!("evidence decode {GUIDE}"));
    for expected in [
        &format!("checksum: {CHECKSUM}\n"),
        "is secure: true\n",
        &format!("policy checksum: {POLICY}\n"),
        "the signature cannot be checked without the attested key",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    let json = place.json(&format!("evidence decode {GUIDE}"));
    assert_eq!(json["schema"], "heirloom.evidence.extra-info.v1");
    assert_eq!(json["checksum"], CHECKSUM);
    assert_eq!(json["is_secure"], true);
    assert_eq!(json["policy_checksum"], POLICY);
    assert_eq!(json["signature_check"]["checked"], false);
}

#[test]
fn a_value_in_a_file_is_the_same_in_every_spelling() {
    let place = Place::new();
    let expected = place.ok(&format!("evidence decode {GUIDE}"));
    let bytes = decode_base64(GUIDE);
    place.write("raw", &bytes);
    place.write("hex", hex::encode(&bytes).as_bytes());
    place.write("base64", format!("\"{GUIDE}\"\n").as_bytes());
    for name in ["raw", "hex", "base64"] {
        assert_eq!(place.ok(&format!("evidence decode {name}")), expected, "{name}");
    }
}

#[test]
fn every_bit_of_a_value_matters() {
    let place = Place::new();
    let mut damaged = decode_base64(GUIDE);
    damaged[1] ^= 1;
    place.write("damaged", &damaged);
    place.fails("evidence decode damaged", 1, "E-EVIDENCE-001");
    place.write("short", &decode_base64(GUIDE)[..190]);
    place.fails("evidence decode short", 1, "E-EVIDENCE-001");
    place.fails("evidence decode nothing", 1, "E-EVIDENCE-001");
    let other = "11".repeat(32);
    place.fails(&format!("evidence decode {GUIDE} --rak {other}"), 3, "E-EVIDENCE-003");
    place.fails(&format!("evidence decode {GUIDE} --rak 11"), 1, "E-INPUT-002");
}

#[test]
fn signatures_are_checked_with_the_attested_key() {
    let Some(vectors) = read("oasis/init_response.json") else { return };
    let place = Place::new();
    let rak = vectors["generated"]["rak_public"].as_str().unwrap();
    for vector in vectors["generated"]["vectors"].as_array().unwrap() {
        let value = vector["extra_info"].as_str().unwrap();
        let json = place.json(&format!("evidence decode {value} --rak {rak}"));
        assert_eq!(json["signature_check"]["checked"], true, "{vector}");
        let expected = vector["init_response"]["checksum"].as_str().unwrap();
        assert_eq!(json["checksum"].as_str().unwrap_or_default(), expected, "{vector}");
    }
}

#[test]
fn every_shape_of_a_status_document_is_read() {
    let Some(mut shapes) = read("oasis/control_status_shapes.json") else { return };
    let place = Place::new();
    for (name, generation) in
        [("v22_2", Value::Null), ("v23_0", 2.into()), ("v24_0_and_later", 2.into())]
    {
        place.write("status.json", shapes[name].to_string().as_bytes());
        let json = place.json("evidence decode status.json");
        assert_eq!(json["keymanager"]["status"], "ready", "{name}");
        assert_eq!(json["keymanager"]["generation"], generation, "{name}");
        assert_eq!(json["keymanager"]["access_list"].as_array().unwrap().len(), 2, "{name}");
        let runtime = &json["runtimes"][0];
        assert_eq!(runtime["extra_info"]["checksum"], CHECKSUM, "{name}");
        assert_eq!(runtime["extra_info"]["signature_check"]["checked"], false, "{name}");
    }
    let runtime = &mut shapes["v22_2"]["registration"]["descriptor"]["runtimes"][0];
    runtime["capabilities"]["tee"]["rak"] = base64(&[0x11; 32]).into();
    place.write("status.json", shapes["v22_2"].to_string().as_bytes());
    // A document whose own key did not sign is not believed in any other field either.
    place.fails("evidence decode status.json", 3, "E-EVIDENCE-003");
    place.write("status.json", b"{\"identity\": {}}");
    place.fails("evidence decode status.json", 1, "E-EVIDENCE-001");
}

#[test]
fn a_real_quote_is_decoded_and_appraised() {
    let (Some(quote), Some(root)) =
        (find("tee/sgx/sgx_quote_v3.bin"), find("tee/sgx/IntelSGXRootCA.der"))
    else {
        return;
    };
    let place = Place::new();
    let json = place.json(&format!("evidence decode {quote}"));
    let measurement = "sgx:33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb";
    assert_eq!(json["measurement"], measurement);
    assert_eq!(json["signature_check"]["checked"], false);
    place.write("endorsements", b"nonsense");
    place.write("rules.toml", RULES);
    let report_data = json["report_data"].as_str().unwrap();
    let appraise = format!(
        "evidence appraise {quote} --anchor {root} --endorsements endorsements \
         --rules rules.toml --report-data {report_data}"
    );
    place.fails(&appraise, 1, "E-INPUT-001");
}

#[test]
fn evidence_is_appraised_and_each_refusal_has_its_reason() {
    let network = crate::world::Network::new();
    let (place, ceremony) = network.release();
    let manufacturer = &ceremony.manufacturer;
    let beginning = heirloom_testkit::ceremony::BEGINNING;
    place.write("anchor", &heirloom_model::wire::encode(&manufacturer.anchor()));
    let endorsements = manufacturer.endorsements(beginning);
    place.write("endorsements", &heirloom_model::wire::encode(&endorsements));
    place.write("rules.toml", RULES);
    let (evidence, report_data) = first_evidence(&place);
    place.write("evidence", &evidence);
    let appraise = |report_data: &str, days: u64| {
        let time = beginning.0 + days * 86_400;
        format!(
            "evidence appraise evidence --anchor anchor --endorsements endorsements \
             --rules rules.toml --report-data {report_data} --time {time}"
        )
    };
    let json = place.json(&appraise(&report_data, 1));
    assert_eq!(json["anchor_class"], "development");
    assert_eq!(json["security_version"], 1);
    // A refusal says what was checked, as data, and then that it is one.
    let refused = |words: &str, reason: &str| {
        let ended = place.run(words);
        assert_eq!(ended.exit, 3, "{}{}", ended.out, ended.err);
        assert!(ended.out.contains("outcome: refused"), "{}", ended.out);
        assert!(ended.err.contains("error[E-EVIDENCE-002]: "), "{}", ended.err);
        assert!(ended.err.contains(&format!("reason: {reason}")), "{}", ended.err);
    };
    refused(&appraise(&"00".repeat(64), 1), "report-data-mismatch");
    refused(&appraise(&report_data, 40), "expired-endorsements");
}

const RULES: &[u8] = b"platforms = \"any\"\ntcb = [\"up-to-date\"]\nadvisories_accepted = []\n\
    tcb_evaluation_min = 1\ntcb_grace = []\ncollateral_grace_seconds = 0\n";

/// The evidence of the first attested statement of a log, and what it carries.
fn first_evidence(place: &Place) -> (Vec<u8>, String) {
    use heirloom_model::envelope::Envelope;
    let log = heirloom_store::log_file::LogFile::inspect(&place.path("log")).unwrap();
    let envelopes = log.iter().map(|entry| heirloom_model::wire::decode(&entry.envelope).unwrap());
    let attested: Envelope =
        envelopes.into_iter().find(|envelope: &Envelope| envelope.evidence.is_some()).unwrap();
    let report_data = attested.report_data(&attested.signatures[0].key);
    let evidence = attested.evidence.unwrap();
    (heirloom_model::wire::encode(&evidence), report_data.to_string())
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn decode_base64(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

/// The path of a shared vector, if this machine has it.
fn find(relative: &str) -> Option<String> {
    let found = vectors::find(relative);
    if found.is_none() {
        eprintln!("skipped: {relative} is not on this machine");
    }
    found.map(|path| path.canonicalize().unwrap().display().to_string())
}

fn read(relative: &str) -> Option<Value> {
    let text = std::fs::read(find(relative)?).unwrap();
    Some(serde_json::from_slice(&text).unwrap())
}
