use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::domain::LogPosition;
use heirloom_model::envelope::Envelope;
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::network::Applied;
use heirloom_testkit::ceremony::{Ceremony, Code};

use super::*;

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
