//! An upgrade from the plan to its abort, by two operators, on a log in a file.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Command, Stdio};

use heirloom_model::counter::Epoch;
use heirloom_model::measurement::{LaunchedCode, Measurement};
use heirloom_model::plan::{Action, CodePair, Gate, Plan};
use heirloom_model::wire;

use crate::world::{self, Network};

#[test]
fn custody_says_whether_the_keyring_survives() {
    let network = Network::new();
    let log = network.log();
    let (place, _) = network.release();
    let shown = place.json(&format!("custody show {log}"));
    let domain = &shown["domains"][0];
    assert_eq!(domain["survives"], true);
    assert_eq!(domain["generation"], 0);
    assert_eq!(domain["holders"].as_array().unwrap().len(), 4);
    assert_eq!(domain["holders"][0]["proof"], "proven");
    let unproven = Network::unproven();
    let ended = unproven.place.run(&format!("--json custody show {}", unproven.log()));
    assert_eq!(ended.exit, 4, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("\"survives\":null"), "{}", ended.out);
    // Nobody has answered a challenge that was not asked yet.
    let late = place.run(&format!("custody show --since 1000 {log}"));
    assert_eq!(late.exit, 3);
    assert!(late.out.contains("AT RISK"), "{}", late.out);
}

#[test]
fn a_plan_is_made_explained_checked_approved_and_called_off() {
    let network = Network::new();
    let log = network.log();
    let (place, _) = network.release();
    let started =
        place.json(&format!("upgrade start --to keeper-2.0.0 --key operator-1.key {log}"));
    let digest = started["plan"].as_str().unwrap();
    assert_eq!(started["waves"].as_array().unwrap().len(), 2);

    let told = place.ok(&format!("plan show {digest} {log}"));
    for expected in ["wave 1", "point of no return", "the way back", "development root"] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    let checked = place.json(&format!("plan check {digest} {log}"));
    assert_eq!(checked["sound"], true);
    let status = place.json(&format!("upgrade status {log}"));
    assert_eq!(status["status"], "proposed");

    let approve =
        |operator: u32| format!("plan approve --plan {digest} --key operator-{operator}.key {log}");
    assert_eq!(place.json(&approve(1))["status"], "proposed");
    assert_eq!(place.json(&approve(2))["status"], "approved");
    let status = place.json(&format!("upgrade status {log}"));
    assert_eq!(status["point_of_no_return"], "before: an abort goes back");
    assert_eq!(status["next"].as_array().unwrap().len(), 4);

    place.fails(
        &format!("upgrade start --to keeper-2.0.0 --key operator-1.key {log}"),
        3,
        "E-PLAN-001",
    );
    place.ok(&format!("upgrade abort --plan {digest} --key operator-3.key {log}"));
    let status = place.json(&format!("upgrade status --plan {digest} {log}"));
    assert_eq!(status["status"], "rolling back");
}

#[test]
fn a_plan_in_a_file_is_checked_and_approved_only_by_its_own_digest() {
    let network = Network::new();
    let log = network.log();
    let (place, _) = network.release();
    let created = place.json(&format!(
        "plan create --to keeper-2.0.0 --wave-size one --out plan --propose operator-1.key {log}"
    ));
    let digest = created["plan"].as_str().unwrap();
    assert_eq!(created["waves"].as_array().unwrap().len(), 4);
    place.ok(&format!("plan check plan {log}"));
    place.ok(&format!("plan show plan {log}"));
    place.ok(&format!("plan approve --plan {digest} --file plan --key operator-1.key {log}"));
    let other = "ab".repeat(32);
    place.fails(
        &format!("plan approve --plan {other} --file plan --key operator-2.key {log}"),
        3,
        "E-PLAN-004",
    );
    place.fails(
        &format!("plan approve --plan {other} --key operator-2.key {log}"),
        3,
        "E-PLAN-005",
    );
    let expired = place.fails(
        &format!("plan approve --plan {digest} --not-after 0 --key operator-2.key {log}"),
        3,
        "E-STATEMENT-004",
    );
    assert!(expired.contains("reason: epoch-passed"), "{expired}");
}

/// An operator approves an edge for each kind of platform, and is shown each.
#[test]
fn a_plan_for_two_kinds_shows_what_it_does_on_both() {
    let network = Network::new();
    let log = network.log();
    let (place, _) = network.release();
    let created = place.json(&format!("plan create --to keeper-2.0.0 --out plan {log}"));
    assert_eq!(created["others"], serde_json::json!([]));
    let mut plan: Plan = wire::decode(&place.read("plan")).unwrap();
    let [from, to] = [1, 2].map(|byte| Measurement::Tpm(LaunchedCode::new([byte; 32])));
    plan.keyring.as_mut().unwrap().others = vec![CodePair { from, to }];
    place.write("mixed", &wire::encode(&plan));
    let shown = place.json(&format!("plan show mixed {log}"));
    let expected = serde_json::json!([{ "from": from.to_string(), "to": to.to_string() }]);
    assert_eq!(shown["plan"]["others"], expected);
    let told = place.ok(&format!("plan show mixed {log}"));
    assert!(told.contains(&format!("from {from} to {to}")), "{told}");
}

#[test]
fn a_plan_with_faults_is_found_and_not_approved() {
    let network = Network::new();
    let log = network.log();
    let (place, ceremony) = network.release();
    place.ok(&format!("plan create --to keeper-2.0.0 --out plan {log}"));
    let mut plan: Plan = wire::decode(&place.read("plan")).unwrap();
    // Stops holders without asking whether others have the keys.
    for step in plan.steps.iter_mut().filter(|step| matches!(step.action, Action::Stop(_))) {
        step.gates.retain(|gate| !matches!(gate, Gate::Proven { .. }));
    }
    place.append(&ceremony.proposal(&plan));
    let digest = plan.digest();
    let checked = place.run(&format!("--json plan check {digest} {log}"));
    assert_eq!(checked.exit, 3, "{}{}", checked.out, checked.err);
    assert!(checked.out.contains("\"F-401\""), "{}", checked.out);
    let approve = format!("plan approve --plan {digest} --key operator-1.key {log}");
    place.fails(&approve, 3, "E-PLAN-002");
}

#[test]
fn what_cannot_be_planned_is_refused_with_what_to_do() {
    let network = Network::new();
    let log = network.log();
    let (place, _) = network.release();
    let same =
        place.fails(&format!("plan create --to keeper-1.0.0 --out plan {log}"), 3, "E-PLAN-001");
    assert!(same.contains("there is nothing to do"), "{same}");
    place.fails(&format!("plan create --to keeper-9.0.0 --out plan {log}"), 3, "E-LOG-007");
    place.fails(&format!("upgrade status {log}"), 3, "E-PLAN-005");
    place.fails(&format!("upgrade watch {log}"), 3, "E-PLAN-005");
    place.fails(
        &format!("plan create --to keeper-2.0.0 --out plan --domain {} {log}", "00".repeat(32)),
        3,
        "E-LOG-007",
    );
}

#[test]
fn ctrl_c_detaches_from_an_upgrade_and_stops_nothing() {
    let network = Network::new();
    let log = network.log();
    let (place, _) = network.release();
    place.ok(&format!("upgrade start --to keeper-2.0.0 --key operator-1.key {log}"));
    let before = place.read("log");
    let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
    command
        .args(format!("upgrade watch {log}").split_whitespace())
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = world::start(&mut command);
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    // The first line says what is awaited; from then on Ctrl-C is handled.
    said.read_line(&mut line).unwrap();
    assert!(line.contains("waiting for approval"), "{line}");
    let mut command = Command::new("kill");
    let sent = world::start(command.args(["-INT", &child.id().to_string()])).wait().unwrap();
    assert!(sent.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("error[E-INTERRUPT-001]: detached; the upgrade goes on"), "{rest}");
    assert_eq!(place.read("log"), before);
}

#[test]
fn watching_ends_with_the_plan() {
    let network = Network::new();
    let log = network.log();
    let (place, _) = network.release();
    let started =
        place.json(&format!("upgrade start --to keeper-2.0.0 --key operator-1.key {log}"));
    let digest = started["plan"].as_str().unwrap();
    place.ok(&format!("upgrade abort --plan {digest} --key operator-1.key {log}"));
    // Nothing was started, so nothing has to be put back.
    let watched = place.run(&format!("--json upgrade watch {log}"));
    assert_eq!(watched.exit, 3, "{}{}", watched.out, watched.err);
    assert!(watched.out.contains("\"status\":\"rolled back\""), "{}", watched.out);
}

#[test]
fn an_expired_plan_says_that_it_waits_for_an_abort() {
    let network = Network::new();
    let log = network.log();
    let (place, ceremony) = network.release();
    let started = place
        .json(&format!("upgrade start --to keeper-2.0.0 --epochs 1 --key operator-1.key {log}"));
    let digest = started["plan"].as_str().unwrap();
    for operator in [1, 2] {
        place.ok(&format!("plan approve --plan {digest} --key operator-{operator}.key {log}"));
    }
    for epoch in [2, 3] {
        place.append(&ceremony.epoch(Epoch(epoch)));
    }
    let told = place.ok(&format!("upgrade status {log}"));
    for expected in ["expired", "an abort: the plan's last epoch", "heirloom upgrade abort --plan"]
    {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(!told.contains("nothing\n"), "{told}");
    let watched = place.run(&format!("upgrade watch {log}"));
    assert_eq!(watched.exit, 3, "{}{}", watched.out, watched.err);
    assert!(watched.out.contains("heirloom upgrade abort --plan"), "{}", watched.out);
    place.ok(&format!("upgrade abort --plan {digest} --key operator-1.key {log}"));
    let status = place.json(&format!("upgrade status {log}"));
    assert_eq!(status["advice"], serde_json::Value::Null);
}

#[test]
fn a_plan_that_expired_before_its_approval_asks_for_another_plan() {
    let network = Network::new();
    let log = network.log();
    let (place, ceremony) = network.release();
    place.ok(&format!("upgrade start --to keeper-2.0.0 --epochs 1 --key operator-1.key {log}"));
    for epoch in [2, 3] {
        place.append(&ceremony.epoch(Epoch(epoch)));
    }
    let told = place.ok(&format!("upgrade status {log}"));
    assert!(told.contains("another plan: the last epoch"), "{told}");
    assert!(!told.contains("upgrade abort"), "{told}");
}
