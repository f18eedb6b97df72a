//! A network from its first key to its first policy, by several people and offline.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use heirloom_launcher::manifest::Manifest;
use heirloom_model::release::ReleaseKind;

use crate::world::{Place, domain, keeper};

const LOG: &str = "--network net/network.toml --log net/registry.log";

/// The network's id.
fn network(place: &Place) -> String {
    let root = place.json("root verify net/root.statement");
    root["network"].as_str().unwrap().to_owned()
}

/// A fleet of one node.
pub(crate) fn fleet(place: &Place, serial: u64) -> String {
    let agent = place.json("signer show net/keys/operator-1.key");
    let agent = agent["public_key"].as_str().unwrap().to_owned();
    format!(
        "serial = {serial}\nnot_after = \"2099-01-01\"\n[[node]]\nnode = \"node-1\"\n\
         domain = \"{}\"\nhost = \"host-1\"\nfailure_domain = \"zone-1\"\n\
         operator = \"alice\"\nagent = \"{agent}\"\n",
        domain()
    )
}

/// A policy of one keeper, with what stands in its holder table.
pub(crate) fn policy(holder: &str) -> String {
    format!(
        "domain = \"{}\"\nserial = 1\nsharing = \"replicated\"\nholders_min = 2\n\
         session_seconds_max = 3600\nephemeral_epochs = 3\nforget_after_epochs = 2\n\
         update = \"ask\"\nnot_after = \"2099-01-01\"\n\
         [[holder]]\n{holder}\n[appraisal]\nplatforms = \"any\"\ntcb = [\"up-to-date\"]\n\
         advisories_accepted = []\ntcb_evaluation_min = 1\ntcb_grace = []\ncollateral_grace_seconds = 0\n",
        domain()
    )
}

#[test]
fn a_network_is_made_whole_and_never_again_in_the_same_place() {
    let place = Place::with_network();
    assert_eq!(fs::read_dir(place.path("net/keys")).unwrap().count(), 12);
    for entry in fs::read_dir(place.path("net/keys")).unwrap() {
        let mode = entry.unwrap().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let shown = place.json("root show net/root.statement");
    let roles = shown["content"]["roles"].as_array().unwrap();
    let thresholds: Vec<u64> =
        roles.iter().map(|role| role["threshold"].as_u64().unwrap()).collect();
    assert_eq!(thresholds, [2, 1, 2, 2, 1]);
    assert_eq!(shown["content"]["anchors"][0]["class"], "development");
    let log = place.json(&format!("registry show {LOG}"));
    assert_eq!(log["entries"][0]["counts"], true);
    place.fails("init net --anchor anchor", 1, "E-FILE-004");
    place.fails("init other --anchor anchor --policy-threshold 4", 3, "E-STATEMENT-004");
    place.fails("init other --anchor missing", 1, "E-FILE-001");
    place.fails("init other --anchor net/network.toml", 1, "E-INPUT-001");
}

#[test]
fn statements_are_signed_one_after_the_other_and_published_when_enough_signed() {
    let place = Place::with_network();
    place.ok(&format!("epoch advance --key net/keys/timekeeper-1.key {LOG}"));
    place.write("fleet.toml", fleet(&place, 1).as_bytes());
    place.ok(&format!("fleet sign fleet.toml --key net/keys/operator-1.key --out fleet {LOG}"));
    let short = place.fails(&format!("fleet publish fleet {LOG}"), 3, "E-STATEMENT-004");
    assert!(short.contains("reason: threshold-not-met"), "{short}");
    place.ok("fleet sign fleet --key net/keys/operator-2.key --network net/network.toml");
    assert_eq!(place.json("fleet show fleet")["signed_by"].as_array().unwrap().len(), 2);
    assert_eq!(place.json(&format!("fleet publish fleet {LOG}"))["index"], 2);
    let again = place.fails(&format!("fleet publish fleet {LOG}"), 3, "E-STATEMENT-004");
    assert!(again.contains("reason: not-next"), "{again}");
    place.fails(&format!("policy publish fleet {LOG}"), 1, "E-STATEMENT-002");
}

/// The table of an operator with this key file.
fn operator(place: &Place, name: &str, key: &str) -> String {
    let shown = place.json(&format!("signer show net/keys/{key}.key"));
    let key = shown["public_key"].as_str().unwrap();
    format!("[[operator]]\nname = \"{name}\"\nkey = \"{key}\"\n")
}

#[test]
fn a_fleet_says_whose_key_is_whose() {
    let place = Place::with_network();
    place.ok(&format!("epoch advance --key net/keys/timekeeper-1.key {LOG}"));
    let keys = "--key net/keys/operator-1.key --key net/keys/operator-2.key";
    let sign = |name: &str, operators: &str, serial: u64| {
        let input = format!("{name}.toml");
        place.write(&input, (fleet(&place, serial) + operators).as_bytes());
        format!("fleet sign {input} {keys} --out {name} {LOG}")
    };
    // People list them as they like.
    let (alice, bob) =
        (operator(&place, "alice", "operator-1"), operator(&place, "bob", "operator-2"));
    place.ok(&sign("first", &format!("{bob}{alice}"), 1));
    let shown = place.json("fleet show first");
    let named = shown["content"]["operators"].as_array().unwrap();
    let names: Vec<&str> = named.iter().map(|known| known["operator"].as_str().unwrap()).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert!(alice.contains(named[0]["key"].as_str().unwrap()));
    place.ok(&format!("fleet publish first {LOG}"));

    place.fails(&sign("twice", &format!("{alice}{alice}"), 2), 1, "E-INPUT-003");
    let misspelt = alice.replace("key =", "keys =");
    place.fails(&sign("misspelt", &misspelt, 2), 1, "E-INPUT-001");
    place.fails(
        &sign("short", "[[operator]]\nname = \"alice\"\nkey = \"00\"\n", 2),
        1,
        "E-INPUT-002",
    );
    for (name, operators) in [
        ("shared", format!("{alice}{}", operator(&place, "carol", "operator-1"))),
        ("foreign", operator(&place, "alice", "policy-1")),
    ] {
        place.ok(&sign(name, &operators, 2));
        let told = place.fails(&format!("fleet publish {name} {LOG}"), 3, "E-STATEMENT-004");
        assert!(told.contains("fleet.operators.key"), "{told}");
    }
    // Who gets another key is said aloud.
    place.ok(&sign("second", &operator(&place, "alice", "operator-3"), 2));
    let ended = place.run(&format!("fleet publish second {LOG}"));
    assert_eq!(ended.exit, 0, "{}", ended.err);
    for expected in ["alice speaks with", "bob speaks with"] {
        assert!(ended.err.contains(expected), "{expected}: {}", ended.err);
    }
}

#[test]
fn a_release_is_measured_signed_published_and_verified() {
    let place = Place::with_network();
    place.ok(&format!("epoch advance --key net/keys/timekeeper-1.key {LOG}"));
    place.bundle("bundle", &keeper(&network(&place), "keeper-1.0.0"));
    place.ok("release sign bundle --key net/keys/release-1.key --out release");
    let shown = place.json("release show release");
    assert_eq!(shown["content"]["kind"], "keeper");
    assert_eq!(shown["content"]["artifacts"].as_array().unwrap().len(), 3);
    let carrier =
        Manifest { kind: ReleaseKind::Upgrader, ..keeper(&network(&place), "upgrader-1.0.0") };
    place.bundle("carrier", &carrier);
    place.ok("release sign carrier --key net/keys/release-1.key --out carrier.release");
    assert_eq!(place.json("release show carrier.release")["content"]["kind"], "upgrader");
    let verify = format!("release verify release --bundle bundle {LOG}");
    assert_eq!(place.json(&verify)["published"], false);
    place.ok(&format!("release publish release {LOG}"));
    assert_eq!(place.json(&verify)["published"], true);

    place.bundle("other", &keeper(&network(&place), "keeper-1.0.1"));
    place.fails(&format!("release verify release --bundle other {LOG}"), 3, "E-BUNDLE-002");
    let mut sigstruct = place.read("bundle/sigstruct");
    sigstruct[960] ^= 1;
    place.write("bundle/sigstruct", &sigstruct);
    place.fails(&verify, 1, "E-BUNDLE-001");
    place.fails("release sign bundle --key net/keys/release-1.key --out again", 1, "E-BUNDLE-001");
}

/// One bundle has a measurement for each platform that is asked for, and on no other.
#[test]
fn a_release_has_one_measurement_for_each_of_its_platforms() {
    let place = Place::with_network();
    place.ok(&format!("epoch advance --key net/keys/timekeeper-1.key {LOG}"));
    place.bundle("bundle", &keeper(&network(&place), "keeper-1.0.0"));
    let sign = "release sign bundle --key net/keys/release-1.key --out";
    let measurements = |file: &str| {
        let shown = place.json(&format!("release show {file}"));
        let found = shown["content"]["measurements"].as_array().unwrap().iter();
        found.map(|it| it.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    place.ok(&format!("{sign} usual"));
    let usual = measurements("usual");
    let digest = usual[0].strip_prefix("sgx:").expect("the emulated CPU measures as SGX does");
    assert_eq!(usual.len(), 1);

    place.ok(&format!("{sign} both --platform tpm --platform emulated --platform tpm"));
    assert_eq!(measurements("both"), [format!("sgx:{digest}"), format!("tpm:{digest}")]);
    let text = place.ok("release show both");
    assert!(text.contains(&format!("tpm:{digest}")), "{text}");
    let verified = place.json(&format!("release verify both --bundle bundle {LOG}"));
    assert_eq!(verified["measurements"].as_array().unwrap().len(), 2);
    place.ok(&format!("{sign} above --platform tpm"));
    assert_eq!(measurements("above"), [format!("tpm:{digest}")]);
    place.bundle("other", &keeper(&network(&place), "keeper-1.0.1"));
    place.fails(&format!("release verify above --bundle other {LOG}"), 3, "E-BUNDLE-002");
    assert_ne!(place.run(&format!("{sign} nowhere --platform snp")).exit, 0);
}

/// What the tools of other platforms computed is signed as it stands, and said again by whoever
/// compares.
#[test]
fn a_release_names_what_no_launcher_of_ours_measures() {
    let place = Place::with_network();
    place.ok(&format!("epoch advance --key net/keys/timekeeper-1.key {LOG}"));
    place.bundle("bundle", &keeper(&network(&place), "keeper-1.0.0"));
    let sign = "release sign bundle --key net/keys/release-1.key --out";
    let (sgx, tdx) = (format!("sgx:{}", "44".repeat(32)), format!("tdx:{}", "55".repeat(32)));
    place.ok(&format!("{sign} tee --measurement {tdx} --measurement {sgx}"));
    let shown = place.json("release show tee");
    assert_eq!(shown["content"]["measurements"], serde_json::json!([sgx, tdx]));
    let verify = format!("release verify tee {LOG} --bundle bundle");
    place.ok(&format!("{verify} --measurement {sgx} --measurement {tdx}"));
    // Nobody said it, somebody said something else, or what is computed differs.
    place.fails(&format!("{verify} --measurement {sgx}"), 3, "E-BUNDLE-002");
    let other = format!("tdx:{}", "56".repeat(32));
    place.fails(&format!("{verify} --measurement {sgx} --measurement {other}"), 3, "E-BUNDLE-002");
    place.fails(&format!("{verify} --measurement {tdx}"), 3, "E-BUNDLE-002");

    place.ok(&format!("{sign} mixed --platform tpm --measurement {tdx}"));
    place.ok(&format!("release verify mixed {LOG} --bundle bundle --measurement {tdx}"));
    // One for each kind: the emulated CPU measures as SGX does.
    place.fails(&format!("{sign} two --platform emulated --measurement {sgx}"), 1, "E-INPUT-003");
    let twice = format!("{sign} twice --measurement {tdx} --measurement {other}");
    place.fails(&twice, 1, "E-INPUT-003");
}

#[test]
fn a_policy_names_measurements_and_its_mistakes_are_found() {
    let place = Place::with_network();
    let (one, two) = ("11".repeat(32), "22".repeat(32));
    let holder = format!(
        "measurement = \"sgx:{one}\"\nsecurity_version = 1\nrole = \"keeper\"\ngives_to = []"
    );
    place.write("policy.toml", policy(&holder).as_bytes());
    let sign = |input: &str, out: &str| {
        format!(
            "policy sign {input} --out {out} --network net/network.toml \
             --key net/keys/policy-1.key --key net/keys/policy-2.key"
        )
    };
    place.ok(&sign("policy.toml", "policy"));
    let shown = place.json("policy show policy");
    assert_eq!(shown["content"]["holders"][0]["measurement"], format!("sgx:{one}"));

    let signer =
        format!("signer = \"{two}\"\nsecurity_version = 1\nrole = \"keeper\"\ngives_to = []");
    place.write("signer.toml", policy(&signer).as_bytes());
    place.fails(&sign("signer.toml", "bad"), 3, "E-INPUT-004");
    let disguised = format!(
        "measurement = \"signer:{two}\"\nsecurity_version = 1\nrole = \"keeper\"\ngives_to = []"
    );
    place.write("disguised.toml", policy(&disguised).as_bytes());
    place.fails(&sign("disguised.toml", "bad"), 3, "E-INPUT-004");

    // Nothing about who holds, and for how long, is left to a default.
    for (from, to, code) in [
        ("role = \"keeper\"", "role = \"master\"", "E-INPUT-002"),
        ("role = \"keeper\"\n", "", "E-INPUT-001"),
        ("update = \"ask\"", "update = \"always\"", "E-INPUT-002"),
        ("update = \"ask\"\n", "", "E-INPUT-001"),
        ("forget_after_epochs = 2\n", "", "E-INPUT-001"),
    ] {
        let bad = policy(&holder).replace(from, to);
        place.write("words.toml", bad.as_bytes());
        place.fails(&sign("words.toml", "bad"), 1, code);
    }
    let carrier = policy(&holder).replace("\"keeper\"", "\"upgrader\"");
    place.write("carrier.toml", carrier.as_bytes());
    let diff = place.ok("policy diff policy carrier.toml --network net/network.toml");
    assert!(diff.contains(&format!("+ holders[sgx:{one}].role: upgrader\n")), "{diff}");

    // OLD gives to NEW, but NEW has no rule: it would receive nothing, in silence.
    let dangling = holder.replace("[]", &format!("[\"sgx:{two}\"]"));
    place.write("dangling.toml", policy(&dangling).as_bytes());
    let lint = place
        .run("--json policy lint dangling.toml --previous policy.toml --network net/network.toml");
    assert_eq!(lint.exit, 3, "{}{}", lint.out, lint.err);
    assert!(lint.out.contains("\"L-201\""), "{}", lint.out);

    let diff = "policy diff policy dangling.toml --network net/network.toml";
    let shown = place.ok(diff);
    let expected = format!("+ holders[sgx:{one}].gives_to[sgx:{two}]: listed\n");
    assert!(shown.contains(&expected), "{shown}");
    assert_eq!(place.run(&format!("{diff} --exit-code")).exit, 4);
    let same = "policy diff policy policy.toml --exit-code --network net/network.toml";
    assert_eq!(place.ok(same), "no difference\n");
}

#[test]
fn a_root_is_followed_by_the_next_one_only_with_both_thresholds() {
    let place = Place::with_network();
    let old = place.json("root show net/root.statement");
    let mut input = "serial = 2\nnot_after = \"2099-01-01\"\nanchors = [\"anchor\"]\n".to_owned();
    place.ok("signer create new.key");
    let new = place.json("signer show new.key")["public_key"].as_str().unwrap().to_owned();
    for role in old["content"]["roles"].as_array().unwrap() {
        let is_root = role["role"] == "root";
        let mut keys = role["keys"].as_array().unwrap().clone();
        if is_root {
            keys.truncate(1);
            keys.push(new.clone().into());
        }
        let (name, threshold) = (&role["role"], &role["threshold"]);
        let keys = serde_json::Value::from(keys);
        let table = format!("[[role]]\nrole = {name}\nthreshold = {threshold}\nkeys = {keys}\n");
        input.push_str(&table);
    }
    place.write("root.toml", input.as_bytes());
    place.write("short.toml", input.split("[[role]]").next().unwrap().as_bytes());
    let network = "--network net/network.toml";
    place.fails(
        &format!("root sign short.toml --key new.key --out no {network}"),
        1,
        "E-INPUT-001",
    );
    let unknown = input.replace("\"operator\"", "\"admin\"");
    place.write("unknown.toml", unknown.as_bytes());
    place.fails(
        &format!("root sign unknown.toml --key new.key --out no {network}"),
        1,
        "E-INPUT-002",
    );

    place.ok(&format!("root sign root.toml --key new.key --out root {network}"));
    let publish = format!("root publish root {LOG}");
    let short = place.fails(&publish, 3, "E-STATEMENT-004");
    assert!(short.contains("reason: threshold-not-met"), "{short}");
    // Two keys of the old root, of which one may be any, and two of the new one.
    for number in 1..=3 {
        place.ok(&format!("root sign root --key net/keys/root-{number}.key {network}"));
    }
    assert_eq!(place.json(&publish)["index"], 1);
    let again = place.fails(&publish, 3, "E-STATEMENT-004");
    assert!(again.contains("reason: not-next"), "{again}");
}

#[test]
fn genesis_is_said_aloud() {
    let (place, ceremony) = {
        let network = crate::world::Network::new();
        network.release()
    };
    let log = format!("--network {} --log log", ceremony.network);
    let order = "generation order --node node-1 --key operator-1.key --key operator-2.key";
    place.fails(&format!("{order} --genesis {log}"), 3, "E-GENERATION-001");
    let ordered = place.json(&format!("{order} {log}"));
    assert_eq!(ordered["generation"], 1);

    let place = Place::with_network();
    let missing = place.fails(
        &format!("generation order --node node-1 --key net/keys/operator-1.key {LOG}"),
        3,
        "E-LOG-007",
    );
    assert!(missing.contains("no policy is published"), "{missing}");
}

/// An example of the reference.
pub(crate) fn example(name: &str) -> String {
    let reference = include_str!("../../../../../docs/reference/inputs.md");
    let start = format!("```toml {name}\n");
    let (_, rest) = reference.split_once(&start).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_examples_of_the_reference_are_accepted() {
    let place = Place::with_network();
    for name in ["network", "root", "fleet", "policy", "handover", "rules", "agent"] {
        place.write(&format!("{name}.toml"), example(name).as_bytes());
    }
    for (noun, name) in
        [("root", "root"), ("fleet", "fleet"), ("policy", "policy"), ("policy", "handover")]
    {
        place.ok(&format!(
            "{noun} sign {name}.toml --key net/keys/root-1.key --out {name} --network network.toml"
        ));
        place.ok(&format!("{noun} show {name}"));
    }
    heirloom_agent::config::Config::read(&place.path("agent.toml")).unwrap();
    place.write("agent.toml", (example("agent") + &example("service")).as_bytes());
    let agent = heirloom_agent::config::Config::read(&place.path("agent.toml")).unwrap();
    assert!(agent.service.is_some());
    let bare = example("agent").replace("platform = \"platform.sock\"\n", "");
    let (bare, _) = bare.split_once("[[keeper]]").unwrap();
    place.write("agent.toml", (bare.to_owned() + &example("tee")).as_bytes());
    let agent = heirloom_agent::config::Config::read(&place.path("agent.toml")).unwrap();
    assert_eq!(agent.tee.unwrap().code.len(), 1);
    place.write("participant.toml", example("participant").as_bytes());
    let path = place.path("participant.toml");
    heirloom_agent::participant::config::Config::read(&path).unwrap();
    the_examples_about_evidence_are_read(&place);
}

/// Rules are read before the endorsements, which are not there; what was quoted is read last, when
/// nothing is missing but a certificate.
fn the_examples_about_evidence_are_read(place: &Place) {
    place.write("evidence", b"");
    let digits = "00".repeat(64);
    let appraise = |rules: &str| {
        format!("evidence appraise evidence --anchor anchor --rules {rules} --report-data {digits}")
    };
    let kinds = ["rules", "rules-tdx", "rules-snp", "rules-nitro", "rules-tpm", "rules-vtpm"];
    for name in kinds {
        let rules = example(name);
        place.write("rules.toml", rules.as_bytes());
        let missing = format!("{} --endorsements missing", appraise("rules.toml"));
        place.fails(&missing, 1, "E-FILE-001");
        // The same table in a policy is shown as it was written.
        let (head, _) = example("policy").split_once("[appraisal]").map(owned).unwrap();
        let rules = rules.replace("\n[", "\n[appraisal.");
        place.write("ruled.toml", format!("{head}[appraisal]\n{rules}").as_bytes());
        let keys = "--key net/keys/policy-1.key --key net/keys/policy-2.key";
        place.ok(&format!(
            "policy sign ruled.toml {keys} --out {name}.policy --network network.toml"
        ));
        let shown = place.json(&format!("policy show {name}.policy"));
        for kind in ["tdx", "snp", "nitro", "tpm", "vtpm"] {
            let is_ruled = rules.contains(&format!("\n[appraisal.{kind}"));
            let found = &shown["content"]["appraisal"][kind];
            assert_eq!(*found != "not accepted", is_ruled, "{name}: {found}");
        }
        let text = place.ok(&format!("policy show {name}.policy"));
        assert_eq!(text.contains(": skip"), rules.contains("\"skip\""), "{text}");
    }
    place.write("rules.toml", example("rules-tpm").as_bytes());
    place.write("quoted.toml", example("quoted").as_bytes());
    place.write("quote", b"\xffTCG");
    let quoted = format!("{} --quoted quoted.toml", appraise("rules.toml"))
        .replace("appraise evidence", "appraise quote --signature quote");
    let ended = place.run(&quoted);
    assert_eq!(ended.exit, 3, "{}", ended.err);
    assert!(ended.err.contains("reason: missing-certificate"), "{}", ended.err);
}

fn owned((left, right): (&str, &str)) -> (String, String) {
    (left.to_owned(), right.to_owned())
}
