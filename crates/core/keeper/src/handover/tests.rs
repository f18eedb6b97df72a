//! What [`authorise`] looks at although the rules of the log let no plan come so far. Everything
//! else is tested where a log allows it and then does not.

use heirloom_model::counter::{LogIndex, PlanNumber, Serial};
use heirloom_model::digest::{Checksum, Nonce};
use heirloom_model::envelope::Envelope;
use heirloom_model::log::LogEntry;
use heirloom_model::plan::{KeyringGround, Plan, Strategy};
use heirloom_model::wire;
use heirloom_registry::network::Applied;
use heirloom_testkit::ceremony::{Ceremony, Code};

use super::*;

const GENERATION: Generation = Generation(4);
const CHECKSUM: Checksum = Checksum::new([4; 32]);

/// Three releases, a policy with the edges between them, and a plan that goes along.
struct Ground {
    state: NetworkState,
    policy: Policy,
    plan: Plan,
    via: Placement,
}

impl Ground {
    fn new() -> Self {
        let ceremony = Ceremony::new(&[7; 32]);
        let mut state = NetworkState::new(ceremony.network);
        let mut accept = |envelope: &Envelope| {
            let entry = LogEntry::following(&state.position(), wire::encode(envelope));
            let applied = state.apply(&entry).unwrap();
            assert!(matches!(applied, Applied::Accepted(_)), "{applied:?}");
        };
        let codes = [Code::named("old", 2), Code::upgrader("via", 1), Code::named("new", 3)];
        accept(&ceremony.root());
        accept(&ceremony.epoch(Epoch(1)));
        accept(&ceremony.fleet(Serial(1), ceremony.nodes(1)));
        let mut releases = ["old-1", "via-1", "new-1"].into_iter();
        let [from, via, to] = codes.map(|code| {
            let (envelope, release) = ceremony.release(releases.next().unwrap(), &code);
            accept(&envelope);
            Placement { release, measurement: code.measurement }
        });
        let [old, carrier, new] = codes;
        let policy = ceremony.policy_of(Serial(1), &codes, &[(old, carrier), (carrier, new)]);
        let plan = Plan {
            network: ceremony.network,
            keyring: Some(KeyringGround {
                from,
                to,
                via: Some(via),
                policy: policy.serial,
                generation: GENERATION,
                checksum: CHECKSUM,
                holders_min: 1,
                others: Vec::new(),
            }),
            domain: ceremony.domain,
            number: PlanNumber(1),
            strategy: Strategy::Handover,
            nodes: Vec::new(),
            steps: Vec::new(),
            rollback: Vec::new(),
            point_of_no_return: StepId(0),
            not_after: Epoch(9),
            nonce: Nonce::new([3; 32]),
            service: None,
            participant: None,
        };
        Self { state, policy, plan, via }
    }

    /// How the hop from the upgrader to the new keeper is judged, under a policy that was changed.
    fn judge(&self, change: impl FnOnce(&mut Policy)) -> Result<(), NotAuthorised> {
        self.judge_to(&self.plan.keyring.as_ref().expect("it moves a keyring").to, change)
    }

    fn judge_to(
        &self,
        to: &Placement,
        change: impl FnOnce(&mut Policy),
    ) -> Result<(), NotAuthorised> {
        let mut policy = self.policy.clone();
        change(&mut policy);
        expect_edge(&self.state, &policy, KeyringPlan::of(&self.plan).unwrap(), (&self.via, to))
            .map(|_| ())
    }
}

#[test]
fn a_hop_needs_an_edge_and_both_sides_in_their_roles() {
    let ground = Ground::new();
    let (from, to) = (
        ground.via.measurement,
        ground.plan.keyring.as_ref().expect("it moves a keyring").to.measurement,
    );
    assert_eq!(ground.judge(|_| {}), Ok(()));
    let unnamed = ground.judge(|policy| {
        policy.holders.iter_mut().for_each(|rule| rule.gives_to.retain(|named| *named != to));
    });
    assert_eq!(unnamed, Err(NotAuthorised::NoEdge { from, to }));
    for measurement in [from, to] {
        let unlisted =
            ground.judge(|policy| policy.holders.retain(|rule| rule.measurement != measurement));
        assert_eq!(unlisted, Err(NotAuthorised::NotListed { measurement }));
        let mut role = HolderRole::Keeper;
        let miscast = ground.judge(|policy| {
            let rule = policy.holders.iter_mut().find(|rule| rule.measurement == measurement);
            let rule = rule.unwrap();
            role = match rule.role {
                HolderRole::Keeper => HolderRole::Upgrader,
                HolderRole::Upgrader => HolderRole::Keeper,
            };
            rule.role = role;
        });
        assert_eq!(miscast, Err(NotAuthorised::OtherRole { measurement, role }));
    }
}

#[test]
fn a_hop_needs_a_release_that_launches_to_the_code() {
    let ground = Ground::new();
    let measurement = ground.plan.keyring.as_ref().expect("it moves a keyring").to.measurement;
    for release in [
        ReleaseDigest::new([9; 32]),
        ground.plan.keyring.as_ref().expect("it moves a keyring").from.release,
    ] {
        let unknown = ground.judge_to(&Placement { release, measurement }, |_| {});
        assert_eq!(unknown, Err(NotAuthorised::UnknownRelease { release, measurement }));
    }
}

#[test]
fn a_hop_moves_exactly_the_keyring_that_is_committed() {
    let Ground { plan, .. } = Ground::new();
    let (at, epoch) = (LogIndex(7), Epoch(1));
    let committed = Committed { generation: GENERATION, checksum: CHECKSUM, at, epoch };
    assert_eq!(expect_keyring(Some(&committed), KeyringPlan::of(&plan).unwrap()), Ok(()));
    let newer = Committed { generation: Generation(5), ..committed };
    let other = Committed { checksum: Checksum::new([5; 32]), ..committed };
    for committed in [None, Some(&newer), Some(&other)] {
        assert_eq!(
            expect_keyring(committed, KeyringPlan::of(&plan).unwrap()),
            Err(NotAuthorised::OtherKeyring)
        );
    }
}

/// All zeros stand for a machine that its evidence does not name: two of them are not one machine.
#[test]
fn seats_on_one_host_need_evidence_that_names_this_host() {
    let (own, nameless) = (PlatformId::new([1; 32]), PlatformId::new([0; 32]));
    assert_eq!(expect_host(own, Host::Known(own)), Ok(()));
    let found = PlatformId::new([2; 32]);
    assert_eq!(
        expect_host(own, Host::Known(found)),
        Err(NotAttested::OtherPlatform { own, found })
    );
    for own in [own, nameless] {
        let unknown = expect_host(own, Host::Unknown);
        assert_eq!(unknown, Err(NotAttested::UnknownPlatform { own }));
    }
}
