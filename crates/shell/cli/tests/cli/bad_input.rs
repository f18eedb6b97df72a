//! Bad input: each row is one file with one thing wrong. The error says what, why and what to do,
//! the exit code is the documented one, and nothing is changed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::statements::{fleet, policy};
use crate::world::{Network, Place, keeper};

const LOG: &str = "--network net/network.toml --log net/registry.log";

/// A network with a signed fleet, policy and release, nothing of it published.
fn signed() -> Place {
    let place = Place::with_network();
    place.ok(&format!("epoch advance --key net/keys/timekeeper-1.key {LOG}"));
    place.write("fleet.toml", fleet(&place, 1).as_bytes());
    let both = "--key net/keys/operator-1.key --key net/keys/operator-2.key";
    place.ok(&format!("fleet sign fleet.toml {both} --out fleet {LOG}"));
    let one = "11".repeat(32);
    let holder = format!(
        "measurement = \"sgx:{one}\"\nsecurity_version = 1\nrole = \"keeper\"\ngives_to = []"
    );
    place.write("policy.toml", policy(&holder).as_bytes());
    let both = "--key net/keys/policy-1.key --key net/keys/policy-2.key";
    place.ok(&format!("policy sign policy.toml {both} --out policy {LOG}"));
    let root = place.json("root verify net/root.statement");
    place.bundle("bundle", &keeper(root["network"].as_str().unwrap(), "keeper-1.0.0"));
    place.ok("release sign bundle --key net/keys/release-1.key --out release");
    place
}

#[test]
fn truncated_statements_are_refused() {
    let place = signed();
    for kind in ["fleet", "policy", "release"] {
        let whole = place.read(kind);
        for length in [0, 1, whole.len() / 2, whole.len() - 1] {
            place.write("damaged", &whole[..length]);
            place.fails(&format!("{kind} publish damaged {LOG}"), 1, "E-STATEMENT-001");
            place.fails(&format!("{kind} show damaged"), 1, "E-STATEMENT-001");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        place.write("damaged", &longer);
        place.fails(&format!("{kind} publish damaged {LOG}"), 1, "E-STATEMENT-001");
    }
}

#[test]
fn no_flipped_bit_of_a_statement_gets_into_the_log() {
    let place = signed();
    for kind in ["fleet", "policy", "release"] {
        let whole = place.read(kind);
        // Every eleventh byte: kind, payload and signatures are all hit.
        for index in (0..whole.len()).step_by(11) {
            let mut damaged = whole.clone();
            damaged[index] ^= 0x10;
            place.write("damaged", &damaged);
            let log = place.read("net/registry.log");
            let ended = place.run(&format!("{kind} publish damaged {LOG}"));
            assert!([1, 3].contains(&ended.exit), "{kind} {index}: {}", ended.err);
            assert!(ended.err.contains("error[E-STATEMENT-00"), "{kind} {index}: {}", ended.err);
            assert_eq!(place.read("net/registry.log"), log, "{kind} {index}");
        }
    }
}

#[test]
fn a_bad_signature_is_neither_shown_nor_joined() {
    let place = signed();
    for kind in ["fleet", "policy", "release"] {
        let mut damaged = place.read(kind);
        // The last byte says that there is no evidence; before it stands a signature.
        let last = damaged.len() - 2;
        damaged[last] ^= 1;
        place.write("damaged", &damaged);
        place.fails(&format!("{kind} show damaged"), 3, "E-STATEMENT-003");
        place.fails(&format!("{kind} publish damaged {LOG}"), 3, "E-STATEMENT-003");
        let join = format!("{kind} sign damaged --key net/keys/root-1.key");
        place.fails(&join, 3, "E-STATEMENT-003");
    }
}

#[test]
fn statements_by_the_wrong_people_are_refused() {
    let place = signed();
    for (role, reason) in [("operator", "unknown-signer"), ("root", "unknown-signer")] {
        let keys = format!("--key net/keys/{role}-1.key --key net/keys/{role}-2.key");
        place.ok(&format!("policy sign policy.toml {keys} --out by-{role} {LOG}"));
        let said = place.fails(&format!("policy publish by-{role} {LOG}"), 3, "E-STATEMENT-004");
        assert!(said.contains(&format!("reason: {reason}")), "{said}");
    }
    place.ok(&format!("policy sign policy.toml --key net/keys/policy-1.key --out short {LOG}"));
    let said = place.fails(&format!("policy publish short {LOG}"), 3, "E-STATEMENT-004");
    assert!(said.contains("reason: threshold-not-met"), "{said}");
}

#[test]
fn expired_statements_are_refused() {
    let place = signed();
    let text = String::from_utf8(place.read("policy.toml")).unwrap();
    place.write("old.toml", text.replace("2099-01-01", "2001-01-01").as_bytes());
    let both = "--key net/keys/policy-1.key --key net/keys/policy-2.key";
    place.ok(&format!("policy sign old.toml {both} --out old {LOG}"));
    let said = place.fails(&format!("policy publish old {LOG}"), 3, "E-STATEMENT-004");
    assert!(said.contains("reason: expired"), "{said}");
}

#[test]
fn inputs_with_mistakes_are_refused() {
    let place = signed();
    let good = String::from_utf8(place.read("policy.toml")).unwrap();
    let holder = good.split("[[holder]]").nth(1).unwrap().split("[appraisal]").next().unwrap();
    let repeated = format!("[[holder]]{holder}[[holder]]{holder}[appraisal]");
    for (from, to, code) in [
        ("serial = 1", "serial = 1\nserail = 2", "E-INPUT-001"),
        ("serial = 1", "", "E-INPUT-001"),
        ("serial = 1", "serial = -1", "E-INPUT-001"),
        ("serial = 1", "serial = ", "E-INPUT-001"),
        ("\"replicated\"", "\"shared\"", "E-INPUT-002"),
        ("\"any\"", "\"all\"", "E-INPUT-002"),
        ("\"up-to-date\"", "\"revoked\"", "E-INPUT-002"),
        ("2099-01-01", "2099-13-01", "E-INPUT-002"),
        ("sgx:11", "sgx:1", "E-INPUT-002"),
        ("[\"up-to-date\"]", "[\"up-to-date\", \"up-to-date\"]", "E-INPUT-003"),
        (&format!("[[holder]]{holder}[appraisal]"), &repeated, "E-INPUT-003"),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from}");
        place.write("bad.toml", bad.as_bytes());
        let sign = format!("policy sign bad.toml --key net/keys/policy-1.key --out bad {LOG}");
        place.fails(&sign, 1, code);
    }
    place.write("bad.toml", good.replace("tcb = [\"up-to-date\"]", "tcb = []").as_bytes());
    let both = "--key net/keys/policy-1.key --key net/keys/policy-2.key";
    place.ok(&format!("policy sign bad.toml {both} --out empty {LOG}"));
    let said = place.fails(&format!("policy publish empty {LOG}"), 3, "E-STATEMENT-004");
    assert!(said.contains("reason: shape"), "{said}");
}

#[test]
fn nothing_is_overwritten() {
    let place = signed();
    let sign = format!("policy sign policy.toml --key net/keys/policy-1.key --out policy {LOG}");
    place.fails(&sign, 1, "E-FILE-004");
    place.fails("signer create net/keys/policy-1.key", 1, "E-FILE-004");
    place.fails("init net --anchor anchor", 1, "E-FILE-004");
}

#[test]
fn keys_come_from_files_that_only_their_owner_reads() {
    let place = signed();
    let sign = |key: &str| format!("policy sign policy.toml --key {key} --out new {LOG}");
    place.fails(&sign("missing.key"), 1, "E-FILE-001");
    place.write("nonsense.key", b"nonsense");
    let set = |name: &str, mode| {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    set("nonsense.key", 0o600);
    place.fails(&sign("nonsense.key"), 1, "E-KEY-001");
    set("net/keys/policy-1.key", 0o644);
    place.fails(&sign("net/keys/policy-1.key"), 3, "E-KEY-002");
}

#[test]
fn a_missing_permission_is_said() {
    let place = signed();
    fs::set_permissions(place.path("policy"), fs::Permissions::from_mode(0o000)).unwrap();
    if fs::read(place.path("policy")).is_ok() {
        eprintln!("skipped: this user may read everything");
        return;
    }
    let ended = place.run("policy show policy");
    assert_eq!(ended.exit, 1);
    assert!(ended.err.contains("error[E-FILE-002]"), "{}", ended.err);
}

#[test]
fn a_damaged_log_is_corruption_and_stays_as_it_is() {
    let place = signed();
    place.ok(&format!("fleet publish fleet {LOG}"));
    let whole = place.read("net/registry.log");
    for index in (16..whole.len()).step_by(97) {
        let mut damaged = whole.clone();
        damaged[index] ^= 1;
        place.write("damaged.log", &damaged);
        let read = "registry show --network net/network.toml --log damaged.log";
        place.fails(read, 5, "E-LOG-002");
        let append = "policy publish policy --network net/network.toml --log damaged.log";
        place.fails(append, 5, "E-LOG-002");
    }
    place.write("other.log", b"something else entirely");
    place.fails("registry show --network net/network.toml --log other.log", 5, "E-LOG-002");
    place.fails("registry show --network net/network.toml --log missing.log", 1, "E-FILE-001");
}

#[test]
fn a_log_of_another_network_is_refused() {
    let place = signed();
    let other = "ab".repeat(32);
    let show = format!("registry show --network {other} --log net/registry.log");
    place.fails(&show, 3, "E-LOG-006");
    place.fails("registry show --log net/registry.log", 1, "E-FILE-001");
    place.write("network.toml", b"network = \"12\"\n");
    place.fails("registry show --log net/registry.log", 1, "E-INPUT-001");
}

#[test]
fn a_registry_that_is_not_there_is_said_and_safe_to_try_again() {
    let place = signed();
    // Nobody listens on port 1.
    let show = "registry show --network net/network.toml --registry http://127.0.0.1:1";
    place.fails(show, 4, "E-LOG-001");
    place.fails("node status --agent http://127.0.0.1:1", 4, "E-NODE-001");
}

#[test]
fn an_agent_with_two_bundles_or_an_unknown_key_does_not_start() {
    let place = Place::new();
    let good = "network = \"01\"\nnode = \"node-1\"\n";
    place.write("agent.toml", good.as_bytes());
    place.fails("agent run --config agent.toml", 1, "E-AGENT-001");
    place.fails("agent run --config missing.toml", 1, "E-AGENT-001");
    let whole = format!(
        "network = \"{}\"\nnode = \"node-1\"\nkey_file = \"agent.key\"\n\
         registry = \"http://127.0.0.1:1\"\nplatform = \"platform.sock\"\ndata = \"data\"\n\
         mirrors = [\"/srv/releases\"]\nlisten = [\"127.0.0.1:0\"]\napi = \"127.0.0.1:0\"\n\
         free_bytes_min = 1\n[[keeper]]\nbundle = \"one\"\n[[keeper]]\nbundle = \"two\"\n",
        "01".repeat(32)
    );
    place.write("agent.toml", whole.as_bytes());
    let said = place.fails("agent run --config agent.toml", 1, "E-AGENT-001");
    assert!(said.contains("2 keeper bundles for one domain"), "{said}");
}

#[test]
fn damaged_journals_are_corruption() {
    let place = Place::new();
    crate::journal::journal(&place);
    let whole = place.read("journal");
    for index in (16..whole.len()).step_by(7) {
        let mut damaged = whole.clone();
        damaged[index] ^= 1;
        place.write("damaged", &damaged);
        place.fails("journal verify damaged", 5, "E-JOURNAL-001");
    }
}

#[test]
fn damaged_plans_are_refused() {
    let network = Network::new();
    let log = network.log();
    let (place, _) = network.release();
    place.ok(&format!("plan create --to keeper-2.0.0 --out plan {log}"));
    let whole = place.read("plan");
    place.write("damaged", &whole[..whole.len() - 1]);
    place.fails(&format!("plan check damaged {log}"), 1, "E-PLAN-003");
    // Another nonce is another plan, and as sound as this one; any other change is found.
    let mut damaged = whole.clone();
    let generation = damaged.len() / 2;
    damaged[generation] ^= 1;
    place.write("damaged", &damaged);
    let ended = place.run(&format!("plan check damaged {log}"));
    assert!([1, 3].contains(&ended.exit), "{}{}", ended.out, ended.err);
}
