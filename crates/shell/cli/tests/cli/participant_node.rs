//! Verbs that speak with servers, where there are none: each says what is wrong and what to do.

use crate::world::{Network, Place};

const CONFIG: &str = r#"
network = "0101010101010101010101010101010101010101010101010101010101010101"
node = "node-1"
key_file = "agent.key"
registry = "http://127.0.0.1:1"
data = "data"
identifier = "new"
custodian = "participant"
target_version = "3.4.11"

[source]
admin = "http://127.0.0.1:1"
ledger = "http://127.0.0.1:1"

[target]
admin = "http://127.0.0.1:2"
ledger = "http://127.0.0.1:2"

[keys]
signing = "p256"
encryption = "rsa2048"
label = "new"

[[route]]
from = "global::1220aa"
to = "global::1220aa"

[safeguard]
directory = "store"
"#;

const VERBS: [&str; 4] = ["preflight", "plan", "migrate --yes", "status"];

fn place() -> Place {
    let place = Place::new();
    place.write("participant.toml", CONFIG.as_bytes());
    place.ok("signer create agent.key");
    place
}

#[test]
fn a_wrong_configuration_is_refused_by_every_verb() {
    let place = place();
    for (from, to, expected) in [
        ("node =", "nodes =", "unknown field `nodes`"),
        ("data = \"data\"\n", "", "missing field `data`"),
        ("\"p256\"", "\"rsa2048\"", "not for namespace"),
        ("directory = \"store\"", "", "exactly one of: directory, command"),
        (
            "[[route]]\nfrom = \"global::1220aa\"\nto = \"global::1220aa\"\n",
            "route = []\n",
            "route",
        ),
        ("http://127.0.0.1:2", "http://127.0.0.1:1", "the same participant"),
        ("identifier = \"new\"", "identifier = \"a::b\"", "name"),
    ] {
        assert!(CONFIG.contains(from), "{from}");
        place.write("bad.toml", CONFIG.replace(from, to).as_bytes());
        for verb in VERBS {
            let words = format!("participant {verb} --config bad.toml");
            let said = place.fails(&words, 1, "E-PARTICIPANT-012");
            assert!(said.contains(expected), "{from}\n{said}");
        }
    }
    for verb in VERBS {
        place.fails(&format!("participant {verb} --config missing.toml"), 1, "E-FILE-001");
        assert_eq!(place.run(&format!("participant {verb}")).exit, 2, "{verb}");
    }
}

#[test]
fn participants_that_are_not_there_are_said_and_safe_to_try_again() {
    let place = place();
    place.fails("participant preflight --config participant.toml", 4, "E-PARTICIPANT-013");
    for verb in ["plan", "migrate --yes", "status"] {
        let words = format!("participant {verb} --config participant.toml");
        place.fails(&words, 4, "E-LOG-001");
    }
}

#[test]
fn a_custodian_that_is_not_there_is_said() {
    let place = place();
    let config = CONFIG.replace("\"participant\"", "\"custodian.toml\"");
    place.write("participant.toml", config.as_bytes());
    place.fails("participant preflight --config participant.toml", 1, "E-CUSTODIAN-001");
}

#[test]
fn plans_that_move_no_participant_are_refused() {
    let network = Network::new();
    let log = network.log();
    let (place, _) = network.release();
    let unknown = "ab".repeat(32);
    let agree = format!("participant agree --plan {unknown} {log}");
    place.fails(&agree, 3, "E-PLAN-005");
    place.fails(&format!("participant status --plan {unknown} {log}"), 3, "E-PLAN-005");
    let start = format!("upgrade start --to keeper-2.0.0 --key operator-1.key {log}");
    let plan = place.json(&start)["plan"].as_str().unwrap().to_owned();
    place.fails(&format!("participant status --plan {plan} {log}"), 3, "E-PLAN-001");
    let agree = format!("participant agree --plan {plan} --key operator-1.key {log}");
    place.fails(&agree, 3, "E-PLAN-001");
}
