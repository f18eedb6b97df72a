//! Platforms that count, and platforms that seal nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

use heirloom_emulated::host::EmulatedEnclave;
use heirloom_keeper::keeper::Keeper;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_model::admin::{Unreadable, Volatile, WitnessGap};
use heirloom_model::digest::{CounterName, Nonce};
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::log::LogEntry;
use heirloom_model::protocol::ServingState;
use heirloom_model::sealed::SealRecipe;
use heirloom_model::secret::Secret;

use crate::world::{Disk, Node, World};

/// The emulated machine with counters in memory, or without sealing.
struct Variant<'node> {
    enclave: &'node EmulatedEnclave,
    counters: RefCell<BTreeMap<CounterName, u64>>,
    /// Raises that still work.
    raises: Cell<u32>,
    /// Whether the counter answers nothing.
    is_silent: Cell<bool>,
    sealing: Sealing,
}

impl<'node> Variant<'node> {
    fn counting(enclave: &'node EmulatedEnclave) -> Self {
        let (counters, raises) = (RefCell::default(), Cell::new(u32::MAX));
        Self { enclave, counters, raises, is_silent: Cell::new(false), sealing: Sealing::Recorded }
    }

    fn stands(&self) -> u64 {
        self.counters.borrow().values().copied().max().unwrap_or_default()
    }
}

impl Platform for Variant<'_> {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        self.enclave.identity()
    }
    fn sealing(&self) -> Result<Sealing, PlatformError> {
        Ok(self.sealing)
    }
    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        match self.sealing {
            Sealing::None => Err(PlatformError::Unsupported("sealing")),
            Sealing::Recorded | Sealing::CurrentOnly => self.enclave.seal_recipe(key_id),
        }
    }
    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        self.enclave.seal_key(recipe)
    }
    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        self.enclave.evidence(report_data)
    }
    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        self.enclave.report_target()
    }
    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        self.enclave.report(target, report_data)
    }
    fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError> {
        self.enclave.verify_report(report)
    }
    fn counter(&self, name: &CounterName) -> Result<u64, PlatformError> {
        if self.sealing == Sealing::None {
            return Err(PlatformError::Unsupported("counters"));
        }
        if self.is_silent.get() {
            return Err(PlatformError::Unreachable("the TPM is gone".to_owned()));
        }
        Ok(self.counters.borrow().get(name).copied().unwrap_or_default())
    }
    fn raise(&self, name: &CounterName, to: u64) -> Result<(), PlatformError> {
        if self.raises.get() == 0 {
            return Err(PlatformError::Unreachable("power failed".to_owned()));
        }
        self.raises.set(self.raises.get() - 1);
        let stands = self.counter(name)?;
        if to > stands + 1 {
            return Err(PlatformError::CounterJump { stands, to });
        }
        self.counters.borrow_mut().insert(*name, to.max(stands));
        Ok(())
    }
    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        self.enclave.random(bytes)
    }
}

/// Starts a keeper on this disk.
fn start(world: &World, node: &Node, platform: &Variant<'_>, disk: &Disk) -> Keeper {
    let config = world.config(&node.name, &world.old);
    Keeper::start(config, platform, &disk.stored()).unwrap()
}

/// Follows some of the log, as a shell does.
fn follow(
    world: &World,
    keeper: &mut Keeper,
    platform: &Variant<'_>,
    disk: &mut Disk,
    entries: &[LogEntry],
) -> Result<(), KeeperError> {
    let intent = keeper.follow(platform, entries, None, world.now)?;
    let receipt = intent.persist(disk).unwrap();
    keeper.complete(intent, receipt);
    Ok(keeper.count_witness(platform)?)
}

#[test]
fn an_old_directory_with_an_old_log_is_refused_where_the_platform_counts() {
    let mut world = World::new();
    let node = world.node(1, &world.old.clone());
    let platform = Variant::counting(&node.enclave);
    let mut disk = Disk::default();
    let mut keeper = start(&world, &node, &platform, &disk);
    let old_log = world.log.clone();
    follow(&world, &mut keeper, &platform, &mut disk, &old_log).unwrap();
    assert_eq!((keeper.state(), platform.stands()), (ServingState::Empty, 1));
    let old_disk = disk.clone();

    // A policy that withdraws something, say.
    world.publish(2, |_| {});
    follow(&world, &mut keeper, &platform, &mut disk, &world.log[old_log.len()..]).unwrap();
    assert_eq!((keeper.state(), platform.stands()), (ServingState::Empty, 2));

    // The whole host is put back: directory and log fit each other.
    let mut disk_again = old_disk.clone();
    let mut again = start(&world, &node, &platform, &disk_again);
    follow(&world, &mut again, &platform, &mut disk_again, &old_log).unwrap();
    assert_eq!(again.state(), ServingState::RolledBack);
    let gap = WitnessGap { counter: 2, newest: Some(1) };
    assert_eq!(again.status(world.now).behind, Some(gap));
    assert_eq!(disk_again.files, old_disk.files, "nothing is written");
    // Nor is an old directory believed with the present log: what it holds may be old.
    follow(&world, &mut again, &platform, &mut disk_again, &world.log[old_log.len()..]).unwrap();
    assert_eq!(again.state(), ServingState::RolledBack);

    // The newest directory is.
    let mut present = start(&world, &node, &platform, &disk);
    follow(&world, &mut present, &platform, &mut disk, &world.log).unwrap();
    assert_eq!(present.state(), ServingState::Empty);
    assert_eq!(present.status(world.now).behind, None);
    // Without a counter the same trick works: that is what the counter is for.
    let config = world.config(&node.name, &world.old);
    let mut blind = Keeper::start(config, &node.enclave, &old_disk.stored()).unwrap();
    let intent = blind.follow(&node.enclave, &old_log, None, world.now).unwrap();
    assert!(intent.writes().is_empty());
    assert_eq!(blind.state(), ServingState::Empty);
}

#[test]
fn a_crash_between_witness_and_counter_is_healed() {
    let world = World::new();
    let node = world.node(1, &world.old.clone());
    let platform = Variant::counting(&node.enclave);
    platform.raises.set(0);
    let mut disk = Disk::default();
    let mut keeper = start(&world, &node, &platform, &disk);
    let failed = follow(&world, &mut keeper, &platform, &mut disk, &world.log);
    assert!(matches!(failed, Err(KeeperError::Platform(PlatformError::Unreachable(_)))));
    assert_eq!((disk.names("witness").len(), platform.stands()), (1, 0), "the file is durable");
    // Nothing more is done before it is counted.
    assert!(keeper.follow(&platform, &[], None, world.now).is_err());

    platform.raises.set(u32::MAX);
    let mut again = start(&world, &node, &platform, &disk);
    follow(&world, &mut again, &platform, &mut disk, &world.log).unwrap();
    assert_eq!((again.state(), platform.stands()), (ServingState::Empty, 1));
}

#[test]
fn a_witness_that_was_taken_away_is_missed_only_by_who_holds_something() {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old.clone()), world.node(2, &world.old.clone()));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    let platform = Variant::counting(&one.enclave);
    let name = CounterName::of_witness(&world.ceremony.domain, &one.name);
    platform.counters.borrow_mut().insert(name, 9);
    let mut without = one.disk.clone();
    without.files.retain(|name, _| !name.starts_with("witness"));
    let mut keeper = start(&world, &one, &platform, &without);
    follow(&world, &mut keeper, &platform, &mut without, &world.log).unwrap();
    assert_eq!(keeper.state(), ServingState::RolledBack);
    assert_eq!(keeper.status(world.now).behind, Some(WitnessGap { counter: 9, newest: None }));
    // With everything gone, peers are asked.
    let mut empty = Disk::default();
    let mut keeper = start(&world, &one, &platform, &empty);
    follow(&world, &mut keeper, &platform, &mut empty, &world.log).unwrap();
    assert_eq!((keeper.state(), platform.stands()), (ServingState::Empty, 10));
}

#[test]
fn a_keeper_whose_platform_seals_nothing_holds_and_never_proves() {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old.clone()), world.node(2, &world.old.clone()));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    let mut three = world.node(3, &world.old.clone());
    let enclave = world.node(3, &world.old.clone()).enclave;
    let platform = Variant { sealing: Sealing::None, ..Variant::counting(&enclave) };
    three.keeper = start(&world, &three, &platform, &three.disk);
    let mut disk = Disk::default();
    let mut follow_on = |three: &mut Node| {
        let from = usize::try_from(three.keeper.position().length.0).unwrap();
        follow(&world, &mut three.keeper, &platform, &mut disk, &world.log[from..]).unwrap();
        assert!(disk.files.is_empty(), "there is nothing to write");
    };
    follow_on(&mut three);
    let (initiator, responder) = world.session(&mut three, &mut one);
    let request = three.keeper.replication_next().unwrap();
    let heirloom_model::protocol::PeerResponse::Generations(sent) =
        one.serve(&initiator, &request.message())
    else {
        panic!("the donor refuses")
    };
    let intent = three.keeper.accept_generations(&platform, &responder, &sent).unwrap();
    assert!(intent.writes().is_empty());
    let mut nothing = Disk::default();
    let receipt = intent.persist(&mut nothing).unwrap();
    three.keeper.complete(intent, receipt);
    assert_eq!(three.keeper.state(), ServingState::Ready);
    let status = three.keeper.status(world.now);
    assert_eq!((status.volatile, status.may_generate), (Some(Volatile::Memory), false));
    let challenge = world.challenge(&[&three]);
    let from = usize::try_from(three.keeper.position().length.0).unwrap();
    follow(&world, &mut three.keeper, &platform, &mut nothing, &world.log[from..]).unwrap();
    let proof = three.keeper.prove(&platform, challenge, &[]);
    assert!(proof.is_err(), "{proof:?}");
    let resealed = three.keeper.reseal(&platform, &[]);
    assert!(matches!(resealed, Err(KeeperError::Platform(PlatformError::Unsupported(_)))));
}

/// Two keepers go on from one directory. The second one to witness finds that it was overtaken.
#[test]
fn a_copy_that_was_overtaken_notices_at_once() {
    let mut world = World::new();
    let node = world.node(1, &world.old.clone());
    let platform = Variant::counting(&node.enclave);
    let mut disk = Disk::default();
    let mut keeper = start(&world, &node, &platform, &disk);
    let first = world.log.clone();
    follow(&world, &mut keeper, &platform, &mut disk, &first).unwrap();
    let mut copied = disk.clone();
    let mut copy = start(&world, &node, &platform, &copied);
    follow(&world, &mut copy, &platform, &mut copied, &first).unwrap();

    world.publish(2, |_| {});
    let second = world.log[first.len()..].to_vec();
    follow(&world, &mut keeper, &platform, &mut disk, &second).unwrap();
    world.publish(3, |_| {});
    let third = world.log[first.len() + second.len()..].to_vec();
    follow(&world, &mut keeper, &platform, &mut disk, &third).unwrap();
    assert_eq!((keeper.state(), platform.stands()), (ServingState::Empty, 3));

    follow(&world, &mut copy, &platform, &mut copied, &second).unwrap();
    assert_eq!(copy.state(), ServingState::RolledBack);
    assert_eq!(keeper.state(), ServingState::Empty, "the one that was first goes on");
}

/// The name of the node is an argument. Under another one the platform has another counter.
#[test]
fn a_directory_of_another_node_is_refused_by_name() {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old.clone()), world.node(2, &world.old.clone()));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    for platform in [&one.enclave as &dyn Platform, &Variant::counting(&one.enclave)] {
        let config = world.config(&two.name, &world.old);
        let mut disk = one.disk.clone();
        let mut elsewhere = Keeper::start(config, platform, &disk.stored()).unwrap();
        assert_eq!(elsewhere.state(), ServingState::Unreadable);
        let unreadable = elsewhere.status(world.now).unreadable;
        assert!(
            matches!(&unreadable, Some(Unreadable::OtherNode { found, own, .. })
                if (found, own) == (&one.name, &two.name)),
            "{unreadable:?}"
        );
        let intent = elsewhere.follow(platform, &world.log, None, world.now).unwrap();
        let receipt = intent.persist(&mut disk).unwrap();
        elsewhere.complete(intent, receipt);
        assert_eq!(elsewhere.state(), ServingState::Unreadable, "neither empty nor a holder");
        assert_eq!(disk.files, one.disk.files, "nothing is overwritten");
    }
}

/// Where the counter stands does not matter: a holder without a witness is none.
#[test]
fn whoever_holds_something_without_a_witness_is_no_holder_where_the_platform_counts() {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old.clone()), world.node(2, &world.old.clone()));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    for counter in [0, 1, 9] {
        let platform = Variant::counting(&one.enclave);
        let name = CounterName::of_witness(&world.ceremony.domain, &one.name);
        platform.counters.borrow_mut().insert(name, counter);
        let mut disk = one.disk.clone();
        disk.files.retain(|name, _| !name.starts_with("witness"));
        let mut keeper = start(&world, &one, &platform, &disk);
        follow(&world, &mut keeper, &platform, &mut disk, &world.log).unwrap();
        assert_eq!(keeper.state(), ServingState::RolledBack, "{counter}");
        let gap = WitnessGap { counter, newest: None };
        assert_eq!(keeper.status(world.now).behind, Some(gap));
    }
}

/// A counter that does not answer is neither a reason to end nor one to go on.
#[test]
fn a_counter_that_fails_is_a_state_that_ends_when_the_counter_answers() {
    let mut world = World::new();
    let (mut one, mut two) = (world.node(1, &world.old.clone()), world.node(2, &world.old.clone()));
    world.feed(&mut one);
    world.feed(&mut two);
    world.rotate(0, &mut one, &mut two);
    let platform = Variant::counting(&one.enclave);
    let mut disk = one.disk.clone();
    platform.is_silent.set(true);
    let mut keeper = start(&world, &one, &platform, &disk);
    assert_eq!(keeper.state(), ServingState::Uncounted);
    let reason = keeper.status(world.now).uncounted;
    assert_eq!(reason.as_deref(), Some("the platform cannot be reached: the TPM is gone"));
    let failed = follow(&world, &mut keeper, &platform, &mut disk, &world.log);
    assert!(matches!(failed, Err(KeeperError::Platform(PlatformError::Unreachable(_)))));
    assert_eq!(keeper.state(), ServingState::Uncounted);
    assert_eq!(disk.files, one.disk.files, "nothing is written");

    platform.is_silent.set(false);
    let name = CounterName::of_witness(&world.ceremony.domain, &one.name);
    platform.counters.borrow_mut().insert(name, newest_witness(&disk) - 1);
    follow(&world, &mut keeper, &platform, &mut disk, &world.log).unwrap();
    assert_eq!(keeper.state(), ServingState::Ready);
    assert_eq!(keeper.status(world.now).uncounted, None);

    // It fails while it serves: what is durable was not counted, so nothing is answered.
    platform.raises.set(0);
    world.publish(2, |_| {});
    let from = usize::try_from(keeper.position().length.0).unwrap();
    let failed = follow(&world, &mut keeper, &platform, &mut disk, &world.log[from..]);
    assert!(matches!(failed, Err(KeeperError::Platform(PlatformError::Unreachable(_)))));
    assert_eq!(keeper.state(), ServingState::Uncounted);
    assert!(!keeper.state().answers());
    platform.raises.set(u32::MAX);
    follow(&world, &mut keeper, &platform, &mut disk, &[]).unwrap();
    assert_eq!(keeper.state(), ServingState::Ready);
}

/// The number of the newest witness in a directory.
fn newest_witness(disk: &Disk) -> u64 {
    let names = disk.names("witness");
    let newest = names.iter().max().expect("it has witnessed");
    let digits = newest.trim_start_matches("witness-").trim_end_matches(".sealed");
    digits.parse().unwrap()
}
