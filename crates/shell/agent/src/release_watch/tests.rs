use heirloom_emulated::host::EmulatedHost;
use heirloom_keeper::port::Platform as _;
use heirloom_launcher::report::{LaunchMode, Secs};
use heirloom_model::counter::{Epoch, Generation, PlanNumber, Serial};
use heirloom_model::digest::{Checksum, Nonce};
use heirloom_model::domain::{GenerationReceipt, LogPosition};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::DomainId;
use heirloom_model::log::LogEntry;
use heirloom_model::measurement::LaunchedCode;
use heirloom_model::plan::{Action, KeyringGround, Placement, Plan, Step, StepId, Strategy};
use heirloom_model::policy::HolderRule;
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use heirloom_registry::domain::DomainState;
use heirloom_registry::network::Applied;
use heirloom_testkit::ceremony::{Ceremony, Code};

use super::*;

const CHECKSUM: Checksum = Checksum::new([0xc0; 32]);

struct World {
    ceremony: Ceremony,
    state: NetworkState,
    old: Code,
    new: Code,
    via: Code,
}

impl World {
    /// A network of one node with a keeper release and its upgrader, and nothing newer.
    fn new() -> Self {
        let ceremony = Ceremony::new(&[7; 32]);
        let state = NetworkState::new(ceremony.network);
        let (old, new) = (Code::named("old", 2), Code::named("new", 2));
        let via = Code::upgrader("via", 1);
        let mut world = Self { ceremony, state, old, new, via };
        world.append(&world.ceremony.root());
        world.append(&world.ceremony.epoch(Epoch(1)));
        let nodes = world.ceremony.nodes(1);
        world.append(&world.ceremony.fleet(Serial(1), nodes));
        world.publish("keeper-1.0.0", &old);
        world.publish("upgrader-1.0.0", &via);
        world
    }

    fn append(&mut self, envelope: &Envelope) {
        let LogPosition { length, head } = self.state.position();
        let entry = LogEntry { index: length, previous: head, envelope: wire::encode(envelope) };
        let applied = self.state.apply(&entry).unwrap();
        assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
    }

    fn publish(&mut self, name: &str, code: &Code) {
        let (envelope, _) = self.ceremony.release(name, code);
        self.append(&envelope);
    }

    /// Publishes a policy with the usual ways and these changes.
    fn policy(&mut self, change: impl FnOnce(&mut Policy)) {
        let (old, new, via) = (self.old, self.new, self.via);
        let edges = [(old, via), (via, new), (new, via), (via, old)];
        let mut policy = self.ceremony.policy_of(Serial(1), &[old, new, via], &edges);
        change(&mut policy);
        self.append(&self.ceremony.policy(&policy));
    }

    /// Lets the old code on the only node create generation 0, so that there is something to plan
    /// for.
    fn genesis(&mut self) {
        let node: NodeId = "node-1".parse().unwrap();
        self.append(&self.ceremony.endorsements());
        self.append(&self.ceremony.order(Generation(0), &node, Epoch(2)));
        let order = self.domain().order().unwrap().order().nonce;
        let receipt = GenerationReceipt {
            network: self.ceremony.network,
            domain: self.ceremony.domain,
            node: node.clone(),
            order,
            generation: Generation(0),
            checksum: CHECKSUM,
        };
        let key = SigningKey::from_seed(Secret::new([8; 32]));
        let mut signed = Envelope::signed(&receipt, [&key]);
        let Measurement::Sgx(measurement) = self.old.measurement else {
            panic!("it is of the kind SGX")
        };
        let secs = Secs {
            measurement,
            signer: self.ceremony.release_of("keeper-1.0.0", &self.old).signer,
            product_id: 0,
            isv_svn: 2,
            attributes: LaunchMode::Production.attributes(),
            misc_select: 0,
        };
        let host = EmulatedHost::from_seed(&self.ceremony.manufacturer, &[1; 32]);
        let enclave = host.launch(secs, Box::new(|bytes: &mut [u8]| bytes.fill(1)));
        let report_data = signed.report_data(&key.public_key());
        signed.evidence = Some(enclave.evidence(&report_data).unwrap());
        signed.sign(&self.ceremony.agent_key(&node));
        self.append(&signed);
        assert!(self.domain().committed().is_some());
    }

    fn domain(&self) -> &DomainState {
        self.state.domain(&self.ceremony.domain).unwrap()
    }

    /// Puts the smallest plan forward that leads from old to this release.
    fn propose(&mut self, to: Placement) -> Plan {
        let from = self.first();
        self.propose_between(from, to)
    }

    /// The release that was there first.
    fn first(&self) -> Placement {
        Placement {
            release: self.ceremony.release("keeper-1.0.0", &self.old).1,
            measurement: self.old.measurement,
        }
    }

    fn propose_between(&mut self, from: Placement, to: Placement) -> Plan {
        let node: NodeId = "node-1".parse().unwrap();
        let prepare = Step {
            id: StepId(0),
            node: node.clone(),
            wave: 0,
            action: Action::Prepare(to),
            gates: Vec::new(),
        };
        let plan = Plan {
            network: self.ceremony.network,
            keyring: Some(KeyringGround {
                from,
                to,
                via: None,
                policy: Serial(1),
                generation: Generation(0),
                checksum: CHECKSUM,
                holders_min: 1,
                others: Vec::new(),
            }),
            domain: self.ceremony.domain,
            number: PlanNumber(self.domain().plan_number().0 + 1),
            strategy: Strategy::Rolling,
            nodes: vec![node],
            steps: vec![prepare],
            rollback: Vec::new(),
            point_of_no_return: StepId(0),
            not_after: Epoch(9),
            nonce: Nonce::new([5; 32]),
            service: None,
            participant: None,
        };
        self.append(&self.ceremony.proposal(&plan));
        plan
    }

    fn offer(&self, installed: &Code) -> Option<Offer> {
        offer(&self.state, &"node-1".parse().unwrap(), &installed.measurement)
    }
}

fn names(offer: &Offer) -> Vec<&str> {
    offer.candidates().map(|candidate| candidate.name.as_str()).collect()
}

#[test]
fn a_newer_release_is_offered_with_the_upgrader_that_carries_to_it() {
    let mut world = World::new();
    world.policy(|policy| policy.update = UpdateMode::Auto);
    assert_eq!(world.offer(&world.old), None, "nothing is newer");
    world.publish("keeper-2.0.0", &world.new.clone());
    let offered = world.offer(&world.old).unwrap();
    assert_eq!(names(&offered), ["upgrader-1.0.0", "keeper-2.0.0"]);
    assert_eq!(offered.from.name.as_str(), "keeper-1.0.0");
    assert_eq!(offered.update, UpdateMode::Auto);
}

#[test]
fn the_way_back_is_never_offered() {
    let mut world = World::new();
    world.policy(|_| {});
    world.publish("keeper-2.0.0", &world.new.clone());
    assert_eq!(world.offer(&world.new), None, "it was published before");
    let stranger = Code::named("stranger", 9);
    assert_eq!(world.offer(&stranger), None, "nobody knows what is installed");
}

#[test]
fn a_release_with_a_lower_security_version_is_not_offered() {
    let mut world = World::new();
    let lower = Code::named("new", 0);
    world.policy(|policy| {
        for rule in &mut policy.holders {
            rule.security_version = SecurityVersion(0);
        }
    });
    world.publish("keeper-2.0.0", &lower);
    assert_eq!(world.offer(&world.old), None);
}

#[test]
fn a_release_below_its_own_rule_is_not_offered() {
    let mut world = World::new();
    world.policy(|policy| {
        let new = Code::named("new", 2).measurement;
        let rule = policy.holders.iter_mut().find(|rule| rule.measurement == new);
        rule.unwrap().security_version = SecurityVersion(3);
    });
    world.publish("keeper-2.0.0", &world.new.clone());
    assert_eq!(world.offer(&world.old), None);
}

#[test]
fn a_release_that_the_policy_names_no_way_to_is_not_offered() {
    for (from, to) in [("old", "via"), ("via", "new")] {
        let mut world = World::new();
        let code = |name: &str| match name {
            "via" => Code::upgrader("via", 1).measurement,
            name => Code::named(name, 1).measurement,
        };
        world.policy(|policy| {
            let rule = policy.holders.iter_mut().find(|rule| rule.measurement == code(from));
            rule.unwrap().gives_to.retain(|given| *given != code(to));
        });
        world.publish("keeper-2.0.0", &world.new.clone());
        assert_eq!(world.offer(&world.old), None, "{from} to {to}");
    }
}

#[test]
fn a_direct_way_needs_no_upgrader() {
    let mut world = World::new();
    world.policy(|policy| {
        let (old, new) = (Code::named("old", 1).measurement, Code::named("new", 2).measurement);
        policy.holders.retain(|rule| rule.role == HolderRole::Keeper);
        for rule in &mut policy.holders {
            rule.gives_to = if rule.measurement == old { vec![new] } else { vec![old] };
        }
    });
    world.publish("keeper-2.0.0", &world.new.clone());
    assert_eq!(names(&world.offer(&world.old).unwrap()), ["keeper-2.0.0"]);
}

#[test]
fn code_is_offered_only_in_the_role_that_the_policy_gives_it() {
    let mut world = World::new();
    let (old, carrier) = (world.old, Code::upgrader("new", 2));
    let policy = world.ceremony.policy_of(Serial(1), &[old, carrier], &[(old, carrier)]);
    world.append(&world.ceremony.policy(&policy));
    let disguised = Code { kind: ReleaseKind::Keeper, ..carrier };
    world.publish("keeper-2.0.0", &disguised);
    assert_eq!(world.offer(&old), None);
}

#[test]
fn the_newest_release_is_offered() {
    let mut world = World::new();
    let newest = Code::named("newest", 2);
    let (old, new, via) = (world.old, world.new, world.via);
    let edges = [(old, via), (via, new), (via, newest), (newest, via), (new, via)];
    let policy = world.ceremony.policy_of(Serial(1), &[old, new, newest, via], &edges);
    world.append(&world.ceremony.policy(&policy));
    world.publish("keeper-2.0.0", &new);
    world.publish("keeper-2.0.1", &newest);
    assert_eq!(world.offer(&old).unwrap().to.name.as_str(), "keeper-2.0.1");
    assert_eq!(world.offer(&new).unwrap().to.name.as_str(), "keeper-2.0.1");
}

#[test]
fn an_expired_release_is_not_offered() {
    let mut world = World::new();
    world.policy(|_| {});
    let mut release = world.ceremony.release_of("keeper-2.0.0", &world.new);
    release.not_after = world.state.now().unwrap();
    let signed = Envelope::signed(&release, world.ceremony.release_keys.iter().take(2));
    world.append(&signed);
    assert!(world.offer(&world.old).is_some());
    world.append(&world.ceremony.epoch(Epoch(2)));
    assert_eq!(world.offer(&world.old), None);
}

#[test]
fn what_operators_called_off_once_stays_called_off_whatever_was_planned_since() {
    let mut world = World::new();
    let (old, new, newest) = (world.old, world.new, Code::named("newest", 2));
    let edges = [(old, new), (new, old), (old, newest), (newest, old)];
    let mut policy = world.ceremony.policy_of(Serial(1), &[old, new, newest], &edges);
    policy.holders_min = 1;
    world.append(&world.ceremony.policy(&policy));
    world.genesis();
    let publish = |world: &mut World, name: &str, code: &Code| {
        world.publish(name, code);
        let release = world.ceremony.release(name, code).1;
        Placement { release, measurement: code.measurement }
    };
    let node: NodeId = "node-1".parse().unwrap();
    let called_off =
        |world: &World, to: Placement| was_called_off(&world.state, &node, &to.release);
    let second = publish(&mut world, "keeper-2.0.0", &new);
    let third = publish(&mut world, "keeper-3.0.0", &newest);
    let plan = world.propose(second);
    assert!(!called_off(&world, second), "it was only put forward");
    world.append(&world.ceremony.abort(plan.digest()));
    assert_eq!(world.state.plan(&plan.digest()).unwrap().status(), PlanStatus::RolledBack);
    assert!(called_off(&world, second) && !called_off(&world, third));
    world.propose(third);
    assert!(called_off(&world, second), "another plan came after it");
    assert!(!called_off(&world, third));
    let mut nodes = world.ceremony.nodes(2);
    nodes[1].domain = DomainId::new([9; 32]);
    let elsewhere = nodes[1].node.clone();
    world.append(&world.ceremony.fleet(Serial(2), nodes));
    assert!(!was_called_off(&world.state, &elsewhere, &second.release), "of another domain");
    assert!(called_off(&world, second));
}

#[test]
fn what_operators_went_back_from_is_left_behind() {
    let mut world = World::new();
    let (old, new) = (world.old, world.new);
    let mut policy = world.ceremony.policy_of(Serial(1), &[old, new], &[(old, new), (new, old)]);
    policy.holders_min = 1;
    world.append(&world.ceremony.policy(&policy));
    world.genesis();
    world.publish("keeper-2.0.0", &new);
    let release = world.ceremony.release("keeper-2.0.0", &new).1;
    let second = Placement { release, measurement: new.measurement };
    let node: NodeId = "node-1".parse().unwrap();
    let left = |world: &World| was_left_behind(&world.state, &node, &second.release);
    let finish = |world: &mut World, plan: &Plan| {
        for operator in 0..2 {
            world.append(&world.ceremony.approval(plan.digest(), operator, Epoch(9)));
        }
        assert!(!left(world), "no plan that leaves it has finished");
        world.append(&world.ceremony.result(plan, StepId(0)));
        assert_eq!(world.state.plan(&plan.digest()).unwrap().status(), PlanStatus::Finished);
    };
    let there = world.propose(second);
    finish(&mut world, &there);
    assert!(!left(&world), "it is where this node went");
    let back = world.propose_between(second, world.first());
    finish(&mut world, &back);
    assert!(left(&world));
    assert_eq!(world.offer(&old).unwrap().to.name.as_str(), "keeper-2.0.0", "it stays at hand");
    let mut nodes = world.ceremony.nodes(2);
    let other = nodes[1].node.clone();
    world.append(&world.ceremony.fleet(Serial(2), nodes.clone()));
    assert!(!was_left_behind(&world.state, &other, &second.release), "of another node");
    nodes[0].domain = DomainId::new([9; 32]);
    world.append(&world.ceremony.fleet(Serial(3), nodes));
    assert!(!left(&world), "of another domain");
}

/// A node of another kind of platform takes the measurement of its own kind, wherever it stands in
/// the release.
#[test]
fn a_node_is_offered_what_a_release_is_on_its_own_kind_of_platform() {
    let mut world = World::new();
    let above_a_tpm = |code: &Code| match code.measurement {
        Measurement::Sgx(digest) => Measurement::Tpm(LaunchedCode::new(*digest.as_bytes())),
        other => panic!("{other} is of the kind SGX"),
    };
    let all = [world.old, world.new, world.via];
    // Every edge leads to both kinds, as where keepers of both replicate.
    world.policy(|policy| {
        for rule in &mut policy.holders {
            let twins = all.iter().filter(|to| rule.gives_to.contains(&to.measurement));
            let twins: Vec<Measurement> = twins.map(above_a_tpm).collect();
            rule.gives_to.extend(twins);
            rule.gives_to.sort();
        }
        for rule in policy.holders.clone() {
            let code = all.iter().find(|code| code.measurement == rule.measurement).unwrap();
            policy.holders.push(HolderRule { measurement: above_a_tpm(code), ..rule });
        }
        policy.holders.sort_by_key(|rule| rule.measurement);
    });
    for (name, code) in
        [("keeper-1.1.0", world.old), ("upgrader-1.1.0", world.via), ("keeper-2.0.0", world.new)]
    {
        let mut release = world.ceremony.release_of(name, &code);
        release.measurements.push(above_a_tpm(&code));
        let keys = world.ceremony.release_keys.iter().take(2);
        let signed = Envelope::signed(&release, keys);
        world.append(&signed);
    }
    let offered = |installed: Measurement| {
        let offered = offer(&world.state, &"node-1".parse().unwrap(), &installed).unwrap();
        offered.candidates().map(|candidate| candidate.measurement).collect::<Vec<_>>()
    };
    let [old, new, via] = all;
    assert_eq!(offered(old.measurement), [via.measurement, new.measurement]);
    assert_eq!(offered(above_a_tpm(&old)), [above_a_tpm(&via), above_a_tpm(&new)]);
}
