//! Platform or code were updated: everything is sealed again, and at every moment everything opens.

use heirloom_keeper::keeper::error::KeeperError;
use heirloom_model::admin::SealingAge;
use heirloom_model::counter::SecurityVersion;
use heirloom_model::domain::HoldingOrigin;
use heirloom_model::protocol::ServingState;
use heirloom_model::sealed::{CpuSvn, SealRecipe, SealedEnvelope};
use heirloom_model::wire;
use heirloom_testkit::ceremony::Code;

use crate::lifecycle::two_holders;
use crate::world::{Crash, Disk, Node, World};

/// The security versions that each file was sealed at.
fn recipes(disk: &Disk) -> Vec<(u16, CpuSvn)> {
    let recipe = |bytes: &Vec<u8>| {
        let sealed: SealedEnvelope = wire::decode(bytes).unwrap();
        let SealRecipe::Sgx(recipe) = sealed.header.recipe else { panic!("it is of the kind SGX") };
        (recipe.isv_svn, recipe.cpu_svn)
    };
    disk.files.values().map(recipe).collect()
}

fn are_current(node: &Node) -> bool {
    let identity = node.identity();
    recipes(&node.disk).iter().all(|found| *found == (identity.isv_svn, identity.cpu_svn))
}

/// A holder of three generations, with a proposal, on a machine whose microcode was updated.
fn updated() -> (World, Node) {
    let (mut world, mut one, mut two) = two_holders();
    world.rotate(1, &mut one, &mut two);
    world.rotate(2, &mut one, &mut two);
    let order = world.order(3, &one);
    world.feed(&mut one);
    let intent = one.keeper.create_generation(&one.enclave, order).unwrap();
    one.carry_out(intent);
    assert_eq!(one.status().sealing, SealingAge::Current);
    one.host.update_microcode().unwrap();
    one.host.certify_again(&world.ceremony.manufacturer);
    restart(&world, &mut one, &world.old);
    (world, one)
}

fn restart(world: &World, node: &mut Node, code: &Code) {
    world.restart(node, code);
    world.feed(node);
}

fn reseal(node: &mut Node) -> usize {
    let files = node.disk.stored();
    let intent = node.keeper.reseal(&node.enclave, &files).unwrap();
    let count = intent.writes().len();
    node.carry_out(intent);
    count
}

#[test]
fn everything_is_sealed_again_under_its_name() {
    let (world, mut one) = updated();
    assert_eq!(one.status().sealing, SealingAge::Older);
    assert!(!are_current(&one));
    let names: Vec<String> = one.disk.files.keys().cloned().collect();
    let before = one.status().holding.unwrap();
    assert_eq!(reseal(&mut one), 6, "three keyring files, a proposal, two witnesses");
    assert_eq!(one.disk.files.keys().cloned().collect::<Vec<_>>(), names);
    assert!(are_current(&one));
    assert_eq!(one.status().sealing, SealingAge::Current);
    assert_eq!(reseal(&mut one), 0, "once more");
    assert_eq!(one.status().holding.unwrap().checksum, before.checksum);
    restart(&world, &mut one, &world.old);
    assert_eq!(one.keeper.state(), ServingState::Ready);
    assert_eq!(one.status().sealing, SealingAge::Current);
    assert_eq!(one.status().holding.unwrap().origin, HoldingOrigin::Recovered);
    assert_eq!(one.disk.names("proposed").len(), 1);
}

/// A newer build of the same code, as its signer numbers it.
#[test]
fn code_of_a_higher_security_version_seals_again() {
    let (world, mut one, _) = two_holders();
    let newer = Code { security_version: SecurityVersion(3), ..world.old };
    restart(&world, &mut one, &newer);
    assert_eq!(one.keeper.state(), ServingState::Ready);
    assert_eq!(one.status().sealing, SealingAge::Older);
    reseal(&mut one);
    assert_eq!(one.status().sealing, SealingAge::Current);
    // The older build cannot open them any more: that is what the version is for.
    restart(&world, &mut one, &world.old);
    assert_eq!(one.keeper.state(), ServingState::Unreadable);
}

/// The update came while the keeper ran: the platform is asked, not what it said at the start.
#[test]
fn sealing_follows_the_platform_as_it_is_now() {
    let (world, mut one, _) = two_holders();
    one.host.update_microcode().unwrap();
    one.host.certify_again(&world.ceremony.manufacturer);
    assert!(reseal(&mut one) > 0);
    assert!(are_current(&one));
    assert_eq!(one.status().sealing, SealingAge::Current);
    assert_eq!(reseal(&mut one), 0);
}

/// Power fails at every write, before and after it.
#[test]
fn power_may_fail_at_every_write() {
    for crash in [Crash::Before, Crash::After] {
        for at in 0..6 {
            let (world, mut one) = updated();
            one.disk.operations = 0;
            one.disk.crash = Some((at, crash));
            let intent = one.keeper.reseal(&one.enclave, &one.disk.stored()).unwrap();
            assert!(intent.persist(&mut one.disk).is_err());
            drop(intent);
            assert_eq!(one.status().sealing, SealingAge::Older, "nothing counts yet");
            one.disk.crash = None;
            restart(&world, &mut one, &world.old);
            assert_eq!(one.keeper.state(), ServingState::Ready, "{crash:?} {at}");
            let done = u32::from(crash == Crash::After) + at;
            let left = usize::try_from(6 - done).unwrap();
            let expected = if left == 0 { SealingAge::Current } else { SealingAge::Older };
            assert_eq!(one.status().sealing, expected);
            assert_eq!(reseal(&mut one), left);
            assert!(are_current(&one));
        }
    }
}

#[test]
fn what_cannot_be_opened_is_not_sealed_again() {
    let (world, mut one) = updated();
    let name = one.disk.names("keyring")[0].to_owned();
    let mut damaged = one.disk.stored();
    let file = damaged.iter_mut().find(|file| file.name == name).unwrap();
    *file.bytes.last_mut().unwrap() ^= 1;
    let refused = one.keeper.reseal(&one.enclave, &damaged).err();
    assert!(matches!(refused, Some(KeeperError::Unreadable(_))));
    let mut torn = one.disk.files[&name].clone();
    torn.pop();
    one.disk.files.insert(name, torn);
    restart(&world, &mut one, &world.old);
    let refused = one.keeper.reseal(&one.enclave, &one.disk.stored()).err();
    assert!(matches!(refused, Some(KeeperError::Unreadable(_))));
}
