//! A flag day as its operators have it: terms, plan, consent, rehearsal, what is called off, and
//! the report, on a log in a file.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::Nonce;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, Plan, ServiceAction, Step};
use heirloom_model::service::Tip;
use heirloom_model::wire;
use heirloom_registry::port::LogStore as _;
use heirloom_registry_shell::client::RegistryClient;
use heirloom_testkit::ceremony::{Ceremony, Code};
use heirloom_testkit::service;

use crate::statements;
use crate::world::{self, Network, Place};

/// Terms as an operator writes them.
fn terms() -> String {
    format!(
        "application = \"ledger\"\nfrom = \"ledger-1.0.0\"\nto = \"ledger-2.0.0\"\n\
         program = \"binary\"\nconfiguration_from = \"{0}\"\nconfiguration_to = \"{0}\"\n\
         schema_from = 1\nschema_to = 2\nmigrations = [\"outputs-by-owner\"]\n\
         tests = [\"transfer\"]\nquiet_ms = 500\nwatch_ms = 1000\nerrors_max = 0\n\
         clients_min = 1\n[[key]]\nkey = \"ledger-signing\"\ncustody = \"keyring\"\n\
         [[key]]\nkey = \"view-tls\"\ncustody = \"per-boot\"\n",
        service::configuration()
    )
}

const START: &str = "upgrade start --strategy flag-day --terms terms.toml --opens +1 \
                     --abort-after +4 --key operator-1.key";

/// The old and the new code of the service.
fn codes() -> (Code, Code) {
    (Code::application("ledger 1", 1), Code::application("ledger 2", 2))
}

/// A network whose policy names both releases of a service, and the terms in a file.
fn network(seed: u8) -> Network {
    let network = Network::founded(seed);
    let (old, new) = codes();
    network.append(&network.ceremony.release("ledger-1.0.0", &old).0);
    network.append(&network.ceremony.release("ledger-2.0.0", &new).0);
    let mut policy = network.policy(2);
    for code in [&old, &new] {
        Ceremony::admit(&mut policy, service::APPLICATION, code);
    }
    network.append(&network.ceremony.policy(&policy));
    network.place.write("terms.toml", terms().as_bytes());
    network
}

/// Proposes a flag day and lets two operators approve it.
fn approved(network: &Network, more: &str) -> Plan {
    let log = network.log();
    let started = network.place.json(&format!("{START} {more} --out plan {log}"));
    let plan: Plan = wire::decode(&network.place.read("plan")).unwrap();
    assert_eq!(started["plan"], plan.digest().to_string());
    for operator in 0..2 {
        append(network, |ceremony| ceremony.approval(plan.digest(), operator, Epoch(900)));
    }
    plan
}

/// Somebody else than the world appends to the log; so the world has to go on from there.
fn append(network: &Network, make: impl Fn(&Ceremony) -> Envelope) {
    network.append(&make(&network.ceremony));
}

/// Carries out the forward steps up to the first one of this kind.
fn carry_out(network: &Network, plan: &Plan, until: impl Fn(&Action) -> bool) {
    for step in plan.steps.iter().take_while(|step| !until(&step.action)) {
        carry_out_step(network, plan, step);
    }
}

fn carry_out_step(network: &Network, plan: &Plan, step: &Step) {
    match &step.action {
        Action::Verify { .. } => {
            let nonce = Nonce::new([u8::try_from(step.id.0).unwrap(); 32]);
            network.answer(&network.ceremony.challenge(plan, step.id, nonce), Serial(2));
        }
        Action::Service(ServiceAction::Muster(_)) if step.node == plan.nodes[0] => {
            // The window opens.
            append(network, |ceremony| ceremony.epoch(Epoch(2)));
            state(network, plan, step, service::tip(40));
        }
        Action::Service(ServiceAction::Equip(_) | ServiceAction::Muster(_)) => {
            state(network, plan, step, service::tip(40));
        }
        Action::Service(
            ServiceAction::Freeze(_)
            | ServiceAction::Launch(_)
            | ServiceAction::Join(_)
            | ServiceAction::Watch(_),
        ) => {
            state(network, plan, step, service::tip(42));
        }
        _ => {}
    }
    append(network, |ceremony| ceremony.result(plan, step.id));
}

/// The service of a node states what this step asks for.
fn state(network: &Network, plan: &Plan, step: &Step, tip: Tip) {
    network.append(&stated(network, plan, step, tip));
}

fn stated(network: &Network, plan: &Plan, step: &Step, tip: Tip) -> Envelope {
    let said = service::standing(network.ceremony.network, plan, step.id, tip);
    let (old, new) = codes();
    let (code, seat) = if said.measurement == old.measurement { (old, 0xc0) } else { (new, 0x08) };
    let seat = seat ^ world::number(&step.node);
    network.attested(seat, &step.node, code, &said)
}

#[test]
fn every_field_of_terms_is_written_down() {
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    let create = format!(
        "plan create --strategy flag-day --terms terms.toml --opens +1 --abort-after +4 \
         --rehearsals 0 --out plan {log}"
    );
    let good = terms();
    for line in good.lines().filter(|line| line.contains(" = ")) {
        let field = line.split(" = ").next().unwrap();
        let without = good.replacen(&format!("{line}\n"), "", 1);
        place.write("terms.toml", without.as_bytes());
        let said = place.fails(&create, 1, "E-INPUT-001");
        assert!(said.contains(&format!("missing field `{field}`")), "{said}");
    }
    let keyless = good.split("[[key]]").next().unwrap();
    place.write("terms.toml", keyless.as_bytes());
    assert!(place.fails(&create, 1, "E-INPUT-001").contains("missing field `key`"));
}

#[test]
fn the_terms_of_the_reference_are_accepted() {
    let network = network(7);
    network.place.write("terms.toml", statements::example("terms").as_bytes());
    network.place.ok(&format!("{START} --rehearsals 0 {}", network.log()));
}

#[test]
fn terms_with_one_thing_wrong_are_refused_by_the_name_of_the_field() {
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    let create = format!(
        "plan create --strategy flag-day --terms terms.toml --opens +1 --abort-after +4 \
         --rehearsals 0 --out plan {log}"
    );
    let configuration = service::configuration().to_string();
    for (from, to, exit, code, names) in [
        ("quiet_ms", "drained_ms", 1, "E-INPUT-001", "unknown field `drained_ms`"),
        ("schema_to = 2", "schema_to = -2", 1, "E-INPUT-001", "schema_to"),
        ("schema_to = 2", "schema_to = \"2\"", 1, "E-INPUT-001", "schema_to"),
        ("errors_max = 0", "errors_max = 0.5", 1, "E-INPUT-001", "errors_max"),
        (configuration.as_str(), "c0ffee", 1, "E-INPUT-002", "configuration_from"),
        ("application = \"ledger\"", "application = \"Led ger\"", 1, "E-INPUT-002", "application"),
        ("program = \"binary\"", "program = \"../x\"", 1, "E-INPUT-002", "program"),
        ("program = \"binary\"", "program = \"missing\"", 1, "E-INPUT-002", "no file missing"),
        ("[\"transfer\"]", "[\"Trans fer\"]", 1, "E-INPUT-002", "tests"),
        ("\"outputs-by-owner\"", "\"\"", 1, "E-INPUT-002", "migrations"),
        ("\"per-boot\"", "\"boot\"", 1, "E-INPUT-002", "key.custody"),
        ("key = \"view-tls\"", "key = \"ledger-signing\"", 1, "E-INPUT-003", "key"),
        ("\"ledger-2.0.0\"", "\"ledger-9.0.0\"", 3, "E-LOG-007", "ledger-9.0.0"),
        // What no file is wrong about, but no flag day may be.
        ("[\"transfer\"]", "[]", 3, "E-PLAN-001", "test"),
        ("quiet_ms = 500", "quiet_ms = 0", 3, "E-PLAN-001", "quiet"),
        ("schema_to = 2", "schema_to = 0", 3, "E-PLAN-001", "schema"),
        ("[\"outputs-by-owner\"]", "[]", 3, "E-PLAN-001", "migration"),
        ("application = \"ledger\"", "application = \"other\"", 3, "E-PLAN-001", "other"),
        ("\"ledger-2.0.0\"", "\"keeper-2.0.0\"", 3, "E-PLAN-001", "not an application's"),
    ] {
        let bad = terms().replacen(from, to, 1);
        assert_ne!(bad, terms(), "{from}");
        place.write("terms.toml", bad.as_bytes());
        let said = place.fails(&create, exit, code);
        assert!(said.contains(names), "{from} -> {to}: {said}");
    }
}

#[test]
fn options_that_do_not_fit_together_are_refused() {
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    let flag_day = "plan create --strategy flag-day --out plan";
    let whole = "--terms terms.toml --opens +1 --abort-after +4 --rehearsals 0";
    let refused = format!("{flag_day} {whole} --to ledger-2.0.0 {log}");
    assert!(place.fails(&refused, 1, "E-INPUT-002").contains("the terms name the releases"));
    for (more, expected) in [
        ("--node node-1", "belong to --strategy handover"),
        ("--wave-size one", "belong to --strategy rolling"),
    ] {
        let said = place.fails(&format!("{flag_day} {whole} {more} {log}"), 1, "E-INPUT-002");
        assert!(said.contains(expected), "{said}");
    }
    for (strategy, option) in [
        ("rolling", "--terms terms.toml"),
        ("rolling", "--opens +1"),
        ("rolling", "--abort-after +1"),
        ("handover --via upgrader-1.0.0", "--rehearsals 1"),
        ("handover --via upgrader-1.0.0", "--stage node-1"),
    ] {
        let create = format!("plan create --strategy {strategy} --to keeper-2.0.0 --out plan");
        let said = place.fails(&format!("{create} {option} {log}"), 1, "E-INPUT-002");
        assert!(said.contains("belong to --strategy flag-day"), "{said}");
    }
    for left in ["--terms terms.toml", "--opens +1", "--abort-after +4", "--rehearsals 0"] {
        let ended = place.run(&format!("{flag_day} {} {log}", whole.replace(left, "")));
        assert_eq!(ended.exit, 2, "{left}: {}", ended.err);
        let option = left.split(' ').next().unwrap();
        assert!(ended.err.contains(option), "{left}: {}", ended.err);
    }
    for bad in ["soon", "+", "-1", "+1.5"] {
        let ended = place.run(&format!("{flag_day} {} {log}", whole.replace("+1", bad)));
        assert_eq!(ended.exit, 2, "{bad}: {}", ended.err);
    }
    for (stage, expected) in
        [("node-9", "node-9"), ("node-1 --stage node-1,node-2,node-3", "node-1")]
    {
        let create = format!("{flag_day} {whole} --stage {stage} {log}");
        let said = place.fails(&create, 3, "E-PLAN-001");
        assert!(said.contains(expected), "{said}");
    }
    let closed = whole.replace("--abort-after +4", "--abort-after 1");
    let said = place.fails(&format!("{flag_day} {closed} {log}"), 3, "E-PLAN-001");
    assert!(said.contains("epoch"), "{said}");
}

#[test]
fn a_rule_for_an_application_names_no_signer() {
    let network = network(7);
    let place = &network.place;
    let one = "11".repeat(32);
    let holder = format!(
        "measurement = \"sgx:{one}\"\nsecurity_version = 1\nrole = \"keeper\"\ngives_to = []"
    );
    for peering in ["signer = \"5151\"", "measurement = \"mrsigner:5151\"", "signer = [1]"] {
        let rule = format!(
            "\n[[application]]\napplication = \"ledger\"\n{peering}\nsecurity_version = 1\n\
             keys = \"all\"\n"
        );
        place.write("policy.toml", (statements::policy(&holder) + &rule).as_bytes());
        let sign =
            format!("policy sign policy.toml --key policy-1.key --out policy {}", network.log());
        let said = place.fails(&sign, 3, "E-INPUT-004");
        assert!(said.contains("application."), "{said}");
    }
}

#[test]
fn a_flag_day_is_planned_explained_checked_approved_and_consent_taken_back() {
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    let create = START.replace("upgrade start", "plan create").replace("--key", "--propose");
    let created = place.json(&format!("{create} --rehearsals 0 --out plan {log}"));
    let digest = created["plan"].as_str().unwrap();
    assert_eq!(created["strategy"], "flag-day");
    assert_eq!(created["service"]["opens"], 2);
    assert_eq!(created["service"]["abort_after"], 5);
    assert!(created["notes"].to_string().contains("rehears"), "{created}");

    let told = place.ok(&format!("plan show {digest} {log}"));
    for expected in ["ledger", "freeze", "point of no return", "the way back", "open", "commit"] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert_eq!(place.json(&format!("plan check plan {log}"))["sound"], true);
    let no_plan = "ab".repeat(32);
    let unknown = format!("upgrade revoke --plan {no_plan} --key operator-1.key {log}");
    place.fails(&unknown, 3, "E-PLAN-005");
    let revoke = format!("upgrade revoke --plan {digest} --key operator-1.key {log}");
    let said = place.fails(&revoke, 3, "E-STATEMENT-004");
    assert!(said.contains("reason: not-approved"), "{said}");
    for operator in [1, 2] {
        place.ok(&format!("plan approve --plan {digest} --key operator-{operator}.key {log}"));
    }
    let revoked = place.json(&revoke);
    assert_eq!(revoked["status"], "approval lapsed");
    let again = place.fails(&revoke, 3, "E-STATEMENT-004");
    assert!(again.contains("reason: "), "{again}");
    let report = place.json(&format!("upgrade report {log}"));
    assert_eq!(report["approvals"], 1);
    assert_eq!(report["approved_by"].as_array().unwrap().len(), 1);
}

#[test]
fn consent_is_not_taken_back_once_clients_are_kept_out() {
    let network = network(7);
    let log = network.log();
    let plan = approved(&network, "--rehearsals 0");
    carry_out(&network, &plan, |action| {
        matches!(action, Action::Service(ServiceAction::Freeze(_)))
    });
    let revoke = format!("upgrade revoke --plan {} --key operator-1.key {log}", plan.digest());
    let said = network.place.fails(&revoke, 3, "E-STATEMENT-004");
    assert!(said.contains("reason: revoked-too-late"), "{said}");
}

#[test]
fn a_rehearsal_is_what_was_finished_on_another_network() {
    let test = network(8);
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    let rehearse = |from: &Network, id: &str| {
        let file = from.place.path("log");
        format!(
            "upgrade rehearse --test-network {id} --test-log {} --key operator-2.key {log}",
            file.display()
        )
    };
    let id = test.ceremony.network.to_string();
    place.fails(&rehearse(&test, &id), 3, "E-PLAN-005");

    let other = format!("{START} --rehearsals 0 {}", test.log());
    test.place.write("terms.toml", terms().replace("quiet_ms = 500", "quiet_ms = 600").as_bytes());
    test.place.ok(&other);
    let said = place.fails(&rehearse(&test, &id), 3, "E-PLAN-001");
    assert!(said.contains("only a plan that was finished"), "{said}");
    let wrong = place.fails(&rehearse(&test, &"ab".repeat(32)), 3, "E-LOG-006");
    assert!(wrong.contains("network"), "{wrong}");

    let test = self::network(9);
    let id = test.ceremony.network.to_string();
    let plan = approved(&test, "--rehearsals 0");
    carry_out(&test, &plan, |_| false);
    let told = test.place.json(&format!("upgrade status {}", test.log()));
    assert_eq!(told["status"], "finished", "{told}");
    let recorded = place.json(&rehearse(&test, &id));
    assert_eq!(recorded["rehearsed_on"], id);

    // Here it counts for exactly these terms.
    let started = place.json(&format!("{START} --rehearsals 1 {log}"));
    let report = place.json(&format!("upgrade report {log}"));
    assert_eq!((&report["plan"], &report["rehearsals"]), (&started["plan"], &1.into()));
    assert_eq!(recorded["terms"], report["service"]["terms"]["digest"]);
    let abort = format!("upgrade abort --plan {} --key operator-1.key {log}", report["plan"]);
    place.ok(&abort.replace('"', ""));
    place.write("terms.toml", terms().replace("quiet_ms = 500", "quiet_ms = 600").as_bytes());
    place.ok(&format!("{START} --rehearsals 1 {log}"));
    assert_eq!(place.json(&format!("upgrade report {log}"))["rehearsals"], 0);

    // A network is no rehearsal for itself.
    let own = format!("--test-network {} --test-log log", test.ceremony.network);
    let said = test.place.fails(
        &format!("upgrade rehearse {own} --key operator-1.key {}", test.log()),
        3,
        "E-PLAN-001",
    );
    assert!(said.contains("itself"), "{said}");
}

#[test]
fn a_report_tells_an_event_to_its_end() {
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    let plan = approved(&network, "--rehearsals 0");
    carry_out(&network, &plan, |_| false);
    let report = place.json(&format!("upgrade report {log}"));
    assert_eq!(report["status"], "finished");
    assert_eq!(report["peer_matrix_ok"], true);
    assert_eq!(report["tips"].as_array().unwrap().len(), 3);
    let blocks = report["blocks"].as_array().unwrap();
    let frozen = blocks.iter().find(|block| block["action"] == "freeze").unwrap();
    assert_eq!((&frozen["done"], frozen["tips"].as_array().unwrap().len()), (&3.into(), 1));
    assert_eq!(report["frozen"]["height"], 42);
    assert_eq!(report["called_off_by"], serde_json::Value::Null);
    let told = place.ok(&format!("upgrade report {log}"));
    for expected in ["finished", "42 (", "node-3", "yes", "commit", "closed"] {
        assert!(told.contains(expected), "{expected}\n{told}");
    }
    assert!(!told.contains("NO"), "{told}");
    let late = format!("upgrade abort --plan {} --key operator-1.key {log}", plan.digest());
    let said = place.fails(&late, 3, "E-STATEMENT-004");
    assert!(said.contains("the way back is another flag day"), "{said}");
}

#[test]
fn a_report_says_who_called_an_event_off_and_why() {
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    let plan = approved(&network, "--rehearsals 0");
    carry_out(&network, &plan, |action| matches!(action, Action::Service(ServiceAction::Migrate)));
    let node: NodeId = "node-2".parse().unwrap();
    append(&network, |ceremony| {
        ceremony.abort_of_agent(plan.digest(), &node, "output 77 has no owner")
    });
    let report = place.json(&format!("upgrade report {log}"));
    assert_eq!(report["called_off_by"], "the agent of node-2");
    assert_eq!(report["called_off_for"], "output 77 has no owner");
    assert_eq!(report["peer_matrix_ok"], false);
    let told = place.ok(&format!("upgrade report {log}"));
    assert!(told.contains("by the agent of node-2: output 77 has no owner"), "{told}");
    let status = place.ok(&format!("upgrade status {log}"));
    assert!(status.contains("by the agent of node-2: output 77 has no owner"), "{status}");
}

#[test]
fn a_deadline_that_passes_calls_a_flag_day_off_by_itself() {
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    let plan = approved(&network, "--rehearsals 0");
    carry_out(&network, &plan, |action| {
        matches!(action, Action::Service(ServiceAction::Muster(_)))
    });
    for epoch in 2..=6 {
        append(&network, |ceremony| ceremony.epoch(Epoch(epoch)));
    }
    let report = place.json(&format!("upgrade report {log}"));
    assert_eq!(report["called_off_by"], "the plan itself");
    let told = place.ok(&format!("upgrade report {log}"));
    assert!(told.contains("its abort deadline has passed"), "{told}");
}

#[test]
fn watching_tells_what_services_state_and_who_calls_off() {
    let network = network(7);
    let plan = approved(&network, "--rehearsals 0");
    let id = network.ceremony.network;
    let program = |words: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
        command
            .args(words.split_whitespace())
            .current_dir(network.place.path(""))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        world::start(&mut command)
    };
    let mut server =
        program(&format!("--json registry serve --log log --listen 127.0.0.1:0 --network {id}"));
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let serving: serde_json::Value = serde_json::from_str(&said).unwrap();
    let address = serving["address"].as_str().unwrap();
    let mut watcher = program(&format!("upgrade watch --network {id} --registry {address}"));
    let mut told = BufReader::new(watcher.stderr.take().unwrap());
    let mut first = String::new();
    told.read_line(&mut first).unwrap();

    let log = RegistryClient::new(address);
    let step = plan
        .steps
        .iter()
        .find(|step| matches!(step.action, Action::Service(ServiceAction::Equip(_))))
        .unwrap();
    let node: NodeId = "node-2".parse().unwrap();
    let ceremony = &network.ceremony;
    for envelope in [
        stated(&network, &plan, step, service::tip(1)),
        ceremony.result(&plan, step.id),
        ceremony.abort_of_agent(plan.digest(), &node, "its disk is full"),
    ] {
        let end = log.head().unwrap().length;
        log.append(end, &wire::encode(&envelope)).unwrap();
    }
    let mut rest = String::new();
    told.read_to_string(&mut rest).unwrap();
    assert_eq!(watcher.wait().unwrap().code(), Some(3), "{rest}");
    server.kill().unwrap();
    server.wait().unwrap();
    for expected in [
        &format!("service of node-1 states step {} equip", step.id),
        &format!("step {} equip on node-1: done", step.id),
        "abort by the agent of node-2: its disk is full",
    ] {
        assert!(rest.contains(expected), "{expected}\n{first}{rest}");
    }
}

#[test]
fn a_plan_that_is_no_flag_day_has_no_report() {
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    place.fails(&format!("upgrade report {log}"), 3, "E-PLAN-005");
    place.ok(&format!("upgrade start --to keeper-2.0.0 --key operator-1.key {log}"));
    let said = place.fails(&format!("upgrade report {log}"), 3, "E-PLAN-001");
    assert!(said.contains("is no flag day"), "{said}");
}

#[test]
fn an_operator_calls_a_flag_day_off_with_a_reason() {
    let network = network(7);
    let (log, place) = (network.log(), &network.place);
    let started = place.json(&format!("{START} --rehearsals 0 {log}"));
    let digest = started["plan"].as_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
    command
        .args(format!("upgrade abort --plan {digest} --key operator-1.key {log}").split(' '))
        .args(["--reason", "the exchange asked for another day"])
        .current_dir(place.path(""))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    assert!(world::start(&mut command).wait().unwrap().success());
    let report = place.json(&format!("upgrade report {log}"));
    assert_eq!(report["called_off_by"], "an operator");
    assert_eq!(report["called_off_for"], "the exchange asked for another day");
    assert_eq!(report["rolled_back"], true);
}

#[test]
fn the_program_of_the_ledger_is_looked_for_beside_this_one() {
    let place = Place::new();
    let alone = place.copy_program(Path::new(env!("CARGO_BIN_EXE_heirloom")), "heirloom");
    let mut command = Command::new(&alone);
    command
        .args(["ledger", "inspect", "--data", "x"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let ended = world::start(&mut command).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("error[E-FILE-001]: heirloom-ledger cannot be started"), "{said}");
    assert!(said.contains("hint: it belongs into the directory of `heirloom`"), "{said}");
}
