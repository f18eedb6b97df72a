//! Handovers, moves, reseals, seats: planned and shown on logs in files.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread::JoinHandle;

use heirloom_model::plan::{Action, Plan};
use heirloom_model::wire;
use serde_json::{Value, json};

use crate::world::Network;

/// An agent that answers one question with this status.
fn agent(status: Value) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answered = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = Vec::new();
        let mut byte = [0];
        while !asked.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            asked.extend(byte);
        }
        let body = status.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        String::from_utf8(asked).unwrap()
    });
    (address, answered)
}

const HANDOVER: &str = "--strategy handover --via upgrader-1.0.0 --to keeper-2.0.0";

#[test]
fn a_handover_of_an_exclusive_domain_is_planned_explained_and_approved() {
    let network = Network::exclusive(1);
    let log = network.log();
    let (place, _) = network.release();
    place.fails(
        &format!("upgrade start --to keeper-2.0.0 --key operator-1.key {log}"),
        3,
        "E-PLAN-001",
    );
    let started = place.json(&format!("upgrade start {HANDOVER} --key operator-1.key {log}"));
    assert_eq!(started["strategy"], "handover");
    assert_eq!(started["nodes"], json!(["node-1"]));
    assert_eq!(started["withdraw_policy"], Value::Null);
    assert!(started["via"].as_str().unwrap().starts_with("sgx:"));
    let downtime = started["downtime"].as_str().unwrap();
    assert!(downtime.contains("no process starts in between"), "{downtime}");

    let digest = started["plan"].as_str().unwrap();
    assert_eq!(place.json(&format!("plan check {digest} {log}"))["sound"], true);
    let told = place.ok(&format!("plan show {digest} --steps {log}"));
    for expected in ["handover", "point of no return", "the way back"] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    for operator in [1, 2] {
        place.ok(&format!("plan approve --plan {digest} --key operator-{operator}.key {log}"));
    }
    let status = place.json(&format!("upgrade status {log}"));
    assert_eq!(status["status"], "approved");
    assert_eq!(status["consent"], "operators");
    assert_eq!(status["switch_over"]["suspended"], Value::Null);
    assert_eq!(status["point_of_no_return"], "before: an abort goes back");
    let told = place.ok(&format!("upgrade status {log}"));
    assert!(told.contains("not yet: the old holder is active"), "{told}");

    let shown = place.json(&format!("custody show {log}"));
    let domain = &shown["domains"][0];
    assert_eq!(domain["activity"]["state"], "active");
    assert_eq!(domain["activity"]["node"], "node-1");
    assert_eq!(domain["activity"]["cause"], "first");
    assert_eq!(domain["holders"][0]["part"], "old");
    assert_eq!(domain["holders"][0]["active"], true);
}

#[test]
fn a_switch_over_is_told_from_one_side_of_the_point_of_no_return_to_the_other() {
    let network = Network::exclusive(1);
    let log = network.log();
    let place = &network.place;
    let (started, plan) = approved(&network, &format!("upgrade start {HANDOVER}"));
    let digest = started["plan"].as_str().unwrap();
    let status = || place.json(&format!("upgrade status {log}"));
    let custody = || place.json(&format!("custody show {log}"))["domains"][0].clone();
    let step =
        |wanted: fn(&Action) -> bool| plan.steps.iter().find(|step| wanted(&step.action)).unwrap();
    let suspend = step(|action| matches!(action, Action::Suspend(_)));
    let activate = step(|action| matches!(action, Action::Activate(_)));

    network.carry_out(&plan, |action| *action == suspend.action);
    let holders = custody()["holders"].clone();
    let parts: Vec<&str> =
        holders.as_array().unwrap().iter().map(|seat| seat["part"].as_str().unwrap()).collect();
    assert_eq!(parts, ["old", "upgrader", "new"]);
    assert!(holders.as_array().unwrap().iter().all(|seat| seat["proof"] == "proven"), "{holders}");
    assert_eq!(status()["point_of_no_return"], "before: an abort goes back");

    network.carry_out_step(&plan, suspend);
    assert_eq!(custody()["activity"]["state"], "suspended");
    assert_eq!(custody()["activity"]["step"]["step"], suspend.id.0);
    let told = place.ok(&format!("custody show {log}"));
    assert!(told.contains("nobody: node-1 is suspended"), "{told}");
    let told = place.ok(&format!("upgrade status {log}"));
    assert!(told.contains("nobody is active"), "{told}");
    assert_eq!(status()["point_of_no_return"], "before: an abort goes back");

    network.carry_out_step(&plan, activate);
    let now = status();
    assert_eq!(now["point_of_no_return"], "after: only forward");
    let at = |name: &str| now["switch_over"][name].as_u64().unwrap();
    assert!(at("suspended") < at("activated"), "{now}");
    assert_eq!(custody()["activity"]["cause"], "planned");
    assert_eq!(custody()["activity"]["measurement"], started["to"]);
    let told = place.ok(&format!("upgrade status {log}"));
    assert!(told.contains("over, within 2 log entries"), "{told}");
    let abort = format!("upgrade abort --plan {digest} --key operator-1.key {log}");
    let said = place.fails(&abort, 3, "E-STATEMENT-004");
    assert!(said.contains("there is only forward now"), "{said}");
    assert!(said.contains("with the two releases exchanged"), "{said}");
    assert!(!said.contains("publish again"), "{said}");
    let entries = place.json(&format!("registry show {log}"));
    let entries = entries["entries"].as_array().unwrap();
    let suspension = entries.iter().find(|entry| entry["kind"] == "suspension").unwrap();
    assert_eq!(suspension["counts"], true);
    assert_eq!(suspension["statement"]["content"]["step"]["plan"], digest);
}

#[test]
fn an_abort_of_a_suspended_holder_shows_who_is_active_again() {
    let network = Network::exclusive(1);
    let log = network.log();
    let place = &network.place;
    let (started, plan) = approved(&network, &format!("upgrade start {HANDOVER}"));
    let digest = started["plan"].as_str().unwrap();
    network.carry_out(&plan, |action| matches!(action, Action::Activate(_)));
    let abort = format!("upgrade abort --plan {digest} --key operator-1.key {log}");
    place.ok(&abort);
    let told = place.ok(&format!("upgrade status {log}"));
    assert!(told.contains("nobody is active"), "{told}");
    let said = place.fails(&abort, 3, "E-STATEMENT-004");
    assert!(said.contains("it was called off already"), "{said}");

    let back = |wanted: fn(&Action) -> bool| {
        plan.rollback.iter().map(|back| &back.step).find(|step| wanted(&step.action)).unwrap()
    };
    network.carry_out_step(&plan, back(|action| matches!(action, Action::Restart(_))));
    network.carry_out_step(&plan, back(|action| matches!(action, Action::Activate(_))));
    let status = place.json(&format!("upgrade status {log}"));
    assert!(status["switch_over"]["restored"].is_u64(), "{status}");
    let told = place.ok(&format!("upgrade status {log}"));
    assert!(told.contains("undone: node-1 is active again since log entry"), "{told}");
    assert!(!told.contains("nobody is active"), "{told}");
}

#[test]
fn options_of_one_strategy_are_refused_with_the_other() {
    let network = Network::exclusive(1);
    let log = network.log();
    let (place, _) = network.release();
    let create = "plan create --out plan";
    for (words, code) in [
        (format!("{create} --to keeper-2.0.0 --via upgrader-1.0.0 {log}"), "E-INPUT-002"),
        (format!("{create} --to keeper-2.0.0 --node node-1 {log}"), "E-INPUT-002"),
        (format!("{create} {HANDOVER} --wave-size one {log}"), "E-INPUT-002"),
        (format!("{create} {HANDOVER} --upgrade-epoch 9 {log}"), "E-INPUT-002"),
    ] {
        place.fails(&words, 1, code);
    }
    let ended = place.run(&format!("{create} --strategy handover --to keeper-2.0.0 {log}"));
    assert_eq!(ended.exit, 2, "{}", ended.err);
    assert!(ended.err.contains("--via"), "{}", ended.err);
    // A keeper carries nothing for others.
    let keeper = HANDOVER.replace("upgrader-1.0.0", "keeper-1.0.0");
    let said = place.fails(&format!("{create} {keeper} {log}"), 3, "E-PLAN-001");
    assert!(said.contains("not an upgrader's"), "{said}");
    let said = place.fails(&format!("{create} {HANDOVER} --withdraw 7 {log}"), 3, "E-PLAN-001");
    assert!(said.contains("must have serial 2, not 7"), "{said}");
    place.ok(&format!("{create} {HANDOVER} --withdraw 2 {log}"));
    let said = place.fails(
        &format!("plan create --out other {HANDOVER} --node node-9 --from keeper-1.0.0 {log}"),
        3,
        "E-PLAN-001",
    );
    assert!(said.contains("node-9"), "{said}");
}

#[test]
fn a_keyring_is_sealed_again_and_moved_by_plans_of_the_same_kind() {
    let network = Network::exclusive(2);
    let log = network.log();
    let (place, _) = network.release();
    let resealed =
        place.json(&format!("host reseal --node node-1 --key operator-1.key --out plan {log}"));
    assert_eq!(resealed["from"], resealed["to"]);
    assert_eq!(resealed["schema"], "heirloom.upgrade.started.v1");
    place.ok(&format!("plan check plan {log}"));
    let told = place.ok(&format!("plan show plan --steps {log}"));
    assert!(told.contains("seal"), "{told}");
    let digest = resealed["plan"].as_str().unwrap();
    place.ok(&format!("upgrade abort --plan {digest} --key operator-1.key {log}"));

    place.fails(
        &format!("host move --from node-1 --to node-1 --key operator-1.key {log}"),
        3,
        "E-PLAN-001",
    );
    place.fails(
        &format!("host move --from node-2 --to node-1 --key operator-1.key {log}"),
        3,
        "E-PLAN-001",
    );
    let moved =
        place.json(&format!("host move --from node-1 --to node-2 --key operator-1.key {log}"));
    assert_eq!(moved["nodes"], json!(["node-1", "node-2"]));
    assert_eq!(moved["from"], moved["to"]);
    // The same code: what tells the seats apart is where they are.
    let shown = |node: &str| place.json(&format!("host show --node {node} {log}"));
    assert_eq!(shown("node-1")["seats"][0]["part"], "old");
    assert_eq!(shown("node-2")["seats"][0]["part"], "new");
}

#[test]
fn a_copy_that_a_plan_took_away_counts_nowhere_any_more() {
    let network = Network::exclusive(2);
    let log = network.log();
    let place = &network.place;
    let (_moved, plan) = approved(&network, "host move --from node-1 --to node-2");
    let custody = || place.json(&format!("custody show {log}"))["domains"][0].clone();
    let domains = |count: u32| format!("proven in {count} failure domains");
    let says = |count: u32| custody()["custody"].as_str().unwrap().contains(&domains(count));

    // Both have proven, and old is still where it was.
    network.carry_out(&plan, |action| matches!(action, Action::Stop(_)));
    assert!(says(2), "{}", custody());
    network.carry_out_rest(&plan);
    let status = place.json(&format!("upgrade status {log}"));
    assert_eq!(status["status"], "finished");
    let domain = custody();
    assert!(says(1), "{domain}");
    let proof = |at: usize| domain["holders"][at]["proof"].as_str().unwrap().to_owned();
    assert!(proof(0).starts_with("gone since log entry "), "{domain}");
    assert_eq!(proof(1), "proven");
    let shown = place.json(&format!("host show --node node-1 {log}"));
    for seat in shown["seats"].as_array().unwrap() {
        let proof = seat["proof"].as_str();
        assert!(proof.is_none_or(|proof| proof.starts_with("gone since ")), "{shown}");
    }
    let listed = place.json(&format!("host list {log}"));
    assert_eq!(listed["hosts"][0]["release"], Value::Null);
    assert_eq!(listed["hosts"][1]["release"], "keeper-1.0.0");
    // What node-1 once proved does not stand in the way of going back.
    place.ok(&format!("host move --from node-2 --to node-1 --key operator-1.key {log}"));
}

#[test]
fn an_upgrader_that_forgot_is_not_shown_as_a_holder() {
    let network = Network::exclusive(1);
    let log = network.log();
    let place = &network.place;
    let (_started, plan) = approved(&network, &format!("upgrade start {HANDOVER}"));
    network.carry_out(&plan, |_| false);
    let shown = place.json(&format!("host show --node node-1 {log}"));
    let proof = |name: &str| {
        let seats = shown["seats"].as_array().unwrap();
        let seat = seats.iter().find(|seat| seat["release"] == name).unwrap();
        seat["proof"].as_str().unwrap().to_owned()
    };
    assert_eq!(proof("keeper-2.0.0"), "proven");
    assert!(proof("keeper-1.0.0").starts_with("gone since log entry "), "{shown}");
    assert!(proof("upgrader-1.0.0").starts_with("gone since log entry "), "{shown}");
}

#[test]
fn hosts_are_listed_with_what_holds_on_them() {
    let network = Network::exclusive(2);
    let log = network.log();
    let (place, _) = network.release();
    let listed = place.json(&format!("host list {log}"));
    assert_eq!(listed["hosts"][0]["release"], "keeper-1.0.0");
    assert_eq!(listed["hosts"][0]["active"], true);
    assert_eq!(listed["hosts"][1]["active"], false);
    let told = place.ok(&format!("host list {log}"));
    assert!(told.contains("host-2"), "{told}");
    place.fails(&format!("host show --node node-9 {log}"), 3, "E-LOG-007");
    for words in [format!("upgrade start {HANDOVER}"), "host reseal".to_owned()] {
        let words = format!("{words} --node node-9 --key operator-1.key {log}");
        let said = place.fails(&words, 3, "E-LOG-007");
        assert!(said.contains("the fleet has no node node-9"), "{said}");
    }
}

#[test]
fn a_host_is_shown_with_what_its_agent_says() {
    let network = Network::exclusive(1);
    let log = network.log();
    let (place, _) = network.release();
    let known = place.json(&format!("host show --node node-1 {log}"));
    assert_eq!(known["asked_agent"], false);
    assert_eq!(known["seats"][0]["running"], Value::Null);
    assert_eq!(known["seats"][0]["proof"], "proven");
    let code = known["seats"][0]["measurement"].as_str().unwrap();
    let status = |node: &str| {
        json!({ "heirloom": {
            "node": node,
            "switch_over_ms": 41,
            "hint": "release keeper-2.0.0 is staged and ready",
            "seats": [{
                "measurement": code, "state": "ready", "address": "127.0.0.1:7601",
                "sealing": "older", "instance": "ab",
            }],
            "silent": [format!("sgx:{}", "77".repeat(32))],
            "quarantined_state_of": [format!("sgx:{}", "66".repeat(32))],
            "staged": [{
                "release": "keeper-2.0.0", "kind": "keeper", "state": "fetching",
                "progress": { "received": 10, "wanted": 20 }, "reason": null,
            }],
        }})
    };
    let show = |address: &str| format!("host show --node node-1 --agent {address} {log}");
    let (address, asked) = agent(status("node-1"));
    let told = place.ok(&show(&address));
    assert!(asked.join().unwrap().starts_with("GET /v1/status "));
    for expected in ["ready", "older", "127.0.0.1:7601", "10 of 20 bytes", "is staged and ready"] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    let (address, asked) = agent(status("node-1"));
    let shown = place.json(&show(&address));
    asked.join().unwrap();
    assert_eq!(shown["seats"][0]["running"], true);
    assert_eq!(shown["staged"][0]["progress"]["wanted"], 20);
    let silent = shown["seats"].as_array().unwrap().iter().find(|seat| seat["state"] == "silent");
    assert_eq!(silent.unwrap()["measurement"], format!("sgx:{}", "77".repeat(32)));
    assert_eq!(shown["quarantined"][0], format!("sgx:{}", "66".repeat(32)));
    let (address, asked) = agent(status("node-2"));
    let said = place.fails(&show(&address), 1, "E-INPUT-002");
    asked.join().unwrap();
    assert!(said.contains("the agent of node-2"), "{said}");

    place.ok(&format!("upgrade start {HANDOVER} --key operator-1.key {log}"));
    let (address, asked) = agent(status("node-1"));
    let measured = place.json(&format!("upgrade status --agent {address} {log}"));
    asked.join().unwrap();
    assert_eq!(measured["switch_over"]["milliseconds"], 41);
}

#[test]
fn holders_are_asked_for_a_proof_outside_of_any_plan() {
    let network = Network::exclusive(1);
    let log = network.log();
    let (place, _) = network.release();
    let prove = "custody prove --verifier node-1 --wait 0";
    let refused = place.fails(&format!("{prove} --key operator-1.key {log}"), 3, "E-STATEMENT-004");
    assert!(refused.contains("reason: "), "{refused}");
    // Nobody runs here, so nobody answers: what was proven before does not count.
    let ended = place.run(&format!("--json {prove} --key node-1.key {log}"));
    assert_eq!(ended.exit, 3, "{}{}", ended.out, ended.err);
    assert!(ended.err.contains("0 of 1 nodes answered"), "{}", ended.err);
    let shown: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!(shown["domains"][0]["survives"], false);
    let entries = place.json(&format!("registry show {log}"));
    let last = entries["entries"].as_array().unwrap().last().unwrap();
    assert_eq!(last["kind"], "challenge");
    assert_eq!(last["counts"], true);
    assert_eq!(last["statement"]["content"]["step"], Value::Null);
}

#[test]
fn suspensions_and_activations_are_shown_with_their_cause() {
    let network = Network::exclusive(1);
    let log = network.log();
    let (place, _) = network.release();
    let entries = place.json(&format!("registry show {log}"));
    let entries = entries["entries"].as_array().unwrap();
    let activation = entries.iter().find(|entry| entry["kind"] == "activation").unwrap();
    assert_eq!(activation["counts"], true);
    assert_eq!(activation["statement"]["content"]["cause"], "first");
    assert_eq!(activation["statement"]["content"]["origin"], "recovered");
    let policy = entries.iter().find(|entry| entry["kind"] == "policy").unwrap();
    let roles: Vec<&Value> = policy["statement"]["content"]["holders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["role"])
        .collect();
    assert_eq!(roles.iter().filter(|role| ***role == "upgrader").count(), 1);
}

#[test]
fn the_next_policy_of_a_handover_has_no_mistake() {
    let network = Network::exclusive(1);
    let (log, policy) = (network.log(), network.policy(2));
    let (place, ceremony) = network.release();
    let write = |name: &str, policy| {
        place.write(name, &heirloom_model::wire::encode(&ceremony.policy(policy)));
    };
    write("good", &policy);
    let linted = place.json(&format!("policy lint good {log}"));
    assert_eq!(linted["sound"], true, "{linted}");
    let mut crowded = policy.clone();
    crowded.holders_min = 2;
    write("crowded", &crowded);
    let ended = place.run(&format!("--json policy lint crowded {log}"));
    assert_eq!(ended.exit, 3, "{}", ended.out);
    assert!(ended.out.contains("\"L-405\""), "{}", ended.out);
}

#[test]
fn a_fleet_that_is_too_small_for_its_policy_is_published_with_a_warning() {
    let network = Network::new();
    let log = network.log();
    let (place, ceremony) = network.release();
    let fleet = |serial: u64, count: usize| {
        let nodes = ceremony.nodes(count);
        let fleet = ceremony.fleet(heirloom_model::counter::Serial(serial), nodes);
        place.write(&format!("fleet-{serial}"), &heirloom_model::wire::encode(&fleet));
        place.run(&format!("fleet publish fleet-{serial} {log}"))
    };
    let enough = fleet(2, 4);
    assert_eq!((enough.exit, enough.err.as_str()), (0, ""), "{}", enough.out);
    let small = fleet(3, 1);
    assert_eq!(small.exit, 0, "{}", small.err);
    assert!(small.err.contains("demands 2 proven holders"), "{}", small.err);
}

/// Makes and proposes a plan with these words, and approves it; what the command said, and the
/// plan.
fn approved(network: &Network, words: &str) -> (Value, Plan) {
    let (place, log) = (&network.place, network.log());
    let started = place.json(&format!("{words} --key operator-1.key --out plan {log}"));
    let digest = started["plan"].as_str().unwrap();
    for operator in [1, 2] {
        place.ok(&format!("plan approve --plan {digest} --key operator-{operator}.key {log}"));
    }
    let plan = wire::decode(&place.read("plan")).unwrap();
    (started, plan)
}
