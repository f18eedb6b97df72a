//! Keys that the TPM made, under policies over registers, an authority and a counter.

use heirloom_tpm::authority::{Authority, PolicyReference};
use heirloom_tpm::counter::{Counter, CounterPublic, Incrementer};
use heirloom_tpm::error::TpmError;
use heirloom_tpm::key::StorageRoot;
use heirloom_tpm::mac_key::MacKey;
use heirloom_tpm::pcr::{Register, Selection};
use heirloom_tpm::policy::{Comparison, Opening, Policy, PolicyDigest, Step, trial};

use crate::world::{Approver, MESSAGE, World, as_booted, opens, reference, refusal};

const INDEX: u32 = 0x0180_4801;

/// Registers do not satisfy the policy, when the secret is asked for.
const POLICY_FAIL: u32 = 0x99d;
/// A counter does not satisfy the policy.
const POLICY: u32 = 0x126;
/// What was approved is not what the session satisfied.
const NOT_APPROVED: u32 = 0x1c4;

#[test]
fn a_key_is_used_while_registers_stand_as_its_policy_says() {
    let Some(world) = World::new() else { return };
    let (tpm, bus) = world.overheard();
    let root = StorageRoot::open(&tpm).unwrap();
    let policy = as_booted(&tpm);
    let made = root.make_mac_key(&policy.digest()).unwrap();
    let mac = root.mac(&made, Opening::Plain(&policy), MESSAGE).unwrap();
    let again = root.mac(&made, Opening::Plain(&policy), MESSAGE).unwrap();
    assert!(mac.same_as(&again));
    let other = root.mac(&made, Opening::Plain(&policy), b"another purpose").unwrap();
    assert!(!mac.same_as(&other));
    let carried = mac.expose(|mac| bus.carried(mac));
    assert!(!carried, "the secret crossed the bus in the clear");
    tpm.extend(8, &[1; 32]).unwrap();
    assert_eq!(refusal(root.mac(&made, Opening::Plain(&policy), MESSAGE)), POLICY_FAIL);
    // Whatever else is satisfied: the digest of the object decides.
    let now = as_booted(&tpm);
    assert_eq!(refusal(root.mac(&made, Opening::Plain(&now), MESSAGE)), POLICY_FAIL);
}

#[test]
fn a_key_survives_as_bytes_and_the_loss_of_power() {
    let Some(mut world) = World::new() else { return };
    let (policy, bytes, before) = {
        let tpm = world.tpm();
        let root = StorageRoot::open(&tpm).unwrap();
        let policy = as_booted(&tpm);
        let made = root.make_mac_key(&policy.digest()).unwrap();
        let mac = root.mac(&made, Opening::Plain(&policy), MESSAGE).unwrap();
        (policy, made.to_bytes(), mac)
    };
    world.swtpm.lose_power();
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let made = MacKey::from_bytes(&bytes, &policy.digest()).unwrap();
    assert!(root.mac(&made, Opening::Plain(&policy), MESSAGE).unwrap().same_as(&before));
}

#[test]
fn a_key_that_was_changed_or_is_of_another_tpm_is_refused() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let policy = as_booted(&tpm);
    let made = root.make_mac_key(&policy.digest()).unwrap();
    let bytes = made.to_bytes();
    let read = |bytes: &[u8]| MacKey::from_bytes(bytes, &policy.digest());
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let Ok(changed) = read(&changed) else { continue };
        let refused = root.mac(&changed, Opening::Plain(&policy), MESSAGE);
        assert!(refused.is_err(), "byte {at}");
    }
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length} bytes");
    }
    assert!(read(&[bytes.as_slice(), &[0]].concat()).is_err());
    let stranger = World::stranger();
    let tpm = stranger.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    assert_eq!(refusal(root.mac(&made, Opening::Plain(&policy), MESSAGE)), 0x1df);
}

/// Where attributes are: after the size, the kind and the digest of the name.
const ATTRIBUTES: usize = 2 + 2 + 2;

/// Policy, and each attribute: what holds data from outside, may leave the TPM, or needs no policy
/// is nothing that nobody ever knew.
#[test]
fn only_a_key_that_its_tpm_made_under_the_policy_is_one() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let policy = as_booted(&tpm);
    let bytes = root.make_mac_key(&policy.digest()).unwrap().to_bytes();
    let what = |bytes: &[u8], policy: &PolicyDigest| match MacKey::from_bytes(bytes, policy) {
        Err(TpmError::Corrupt { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let other = PolicyDigest::new([1; 32]);
    assert_eq!(what(&bytes, &other), "it is under another policy");
    for bit in 0..32 {
        let mut changed = bytes.clone();
        changed[ATTRIBUTES + 3 - bit / 8] ^= 1 << (bit % 8);
        let found = what(&changed, &policy.digest());
        assert_eq!(found, "it has other attributes: somebody may know it", "bit {bit}");
    }
}

#[test]
fn an_approved_upgrade_opens_the_same_secret() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let approver = Approver::new();
    let policy = Policy::approved(approver.authority(), reference(), Vec::new()).unwrap();
    let made = root.make_mac_key(&policy.digest()).unwrap();
    let old = approver.approve(as_booted(&tpm), &reference());
    let opening = Opening::Approved { policy: &policy, approval: &old };
    let before = root.mac(&made, opening, MESSAGE).unwrap();
    tpm.extend(8, &[1; 32]).unwrap();
    assert_eq!(refusal(root.mac(&made, opening, MESSAGE)), NOT_APPROVED);
    let new = approver.approve(as_booted(&tpm), &reference());
    assert!(new.verify(&approver.authority(), &reference()).is_some());
    let opening = Opening::Approved { policy: &policy, approval: &new };
    assert!(root.mac(&made, opening, MESSAGE).unwrap().same_as(&before));
}

#[test]
fn an_approval_can_be_made_before_the_upgrade_without_a_tpm() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let approver = Approver::new();
    let policy = Policy::approved(approver.authority(), reference(), Vec::new()).unwrap();
    let made = root.make_mac_key(&policy.digest()).unwrap();
    let value = heirloom_tpm::pcr::extended(&[0; 32], [&[3; 32]]);
    let coming = Step::registers(&[Register { index: 8, value }]).unwrap();
    let approval = approver.approve(Policy::all(vec![coming]).unwrap(), &reference());
    let opening = Opening::Approved { policy: &policy, approval: &approval };
    assert_eq!(refusal(root.mac(&made, opening, MESSAGE)), NOT_APPROVED);
    tpm.extend(8, &[3; 32]).unwrap();
    assert!(opens(root.mac(&made, opening, MESSAGE)));
}

#[test]
fn only_the_word_of_this_authority_for_this_purpose_opens() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let (approver, other) = (Approver::new(), Approver::new());
    let policy = Policy::approved(approver.authority(), reference(), Vec::new()).unwrap();
    let made = root.make_mac_key(&policy.digest()).unwrap();
    let used = |policy: &Policy, approval| {
        root.mac(&made, Opening::Approved { policy, approval }, MESSAGE)
    };
    let good = approver.approve(as_booted(&tpm), &reference());
    assert!(opens(used(&policy, &good)));

    let foreign = other.approve(as_booted(&tpm), &reference());
    assert_eq!(foreign.verify(&approver.authority(), &reference()), None);
    // TPM_RC_SIGNATURE, about the second parameter.
    assert_eq!(refusal(used(&policy, &foreign)), 0x2db);
    let foreign_policy = Policy::approved(other.authority(), reference(), Vec::new()).unwrap();
    assert_eq!(refusal(used(&foreign_policy, &foreign)), POLICY_FAIL);

    let purpose = PolicyReference::new(b"another purpose").unwrap();
    let elsewhere = approver.approve(as_booted(&tpm), &purpose);
    assert_eq!(elsewhere.verify(&approver.authority(), &reference()), None);
    assert_eq!(refusal(used(&policy, &elsewhere)), 0x2db);

    let mut changed = good.clone();
    changed.signature[40] ^= 1;
    assert_eq!(changed.verify(&approver.authority(), &reference()), None);
    assert_eq!(refusal(used(&policy, &changed)), 0x2db);

    let plain = as_booted(&tpm);
    assert_eq!(refusal(root.mac(&made, Opening::Plain(&plain), MESSAGE)), POLICY_FAIL);
    assert_eq!(refusal(root.mac(&made, Opening::Plain(&policy), MESSAGE)), POLICY_FAIL);
}

#[test]
fn an_older_state_does_not_open_once_the_counter_moved_on() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let public = CounterPublic::new(INDEX, Incrementer::Owner).unwrap();
    let counter = Counter::define(&root, public, None).unwrap();
    let approver = Approver::new();
    let approval = approver.approve(as_booted(&tpm), &reference());
    let policy = |value| {
        let step = Step::Counter { counter: public, comparison: Comparison::Equal, value };
        Policy::approved(approver.authority(), reference(), vec![step]).unwrap()
    };
    let old = policy(counter.read(&root).unwrap());
    let made = root.make_mac_key(&old.digest()).unwrap();
    let opening = Opening::Approved { policy: &old, approval: &approval };
    assert!(opens(root.mac(&made, opening, MESSAGE)));
    // The next key is made before the old one ends.
    let new = policy(counter.read(&root).unwrap() + 1);
    let next = root.make_mac_key(&new.digest()).unwrap();
    let new_opening = Opening::Approved { policy: &new, approval: &approval };
    assert_eq!(refusal(root.mac(&next, new_opening, MESSAGE)), POLICY);
    counter.increment(&root, None).unwrap();
    assert_eq!(refusal(root.mac(&made, opening, MESSAGE)), POLICY);
    assert!(opens(root.mac(&next, new_opening, MESSAGE)));
    // The registers still count.
    tpm.extend(8, &[1; 32]).unwrap();
    assert_eq!(refusal(root.mac(&next, new_opening, MESSAGE)), NOT_APPROVED);
}

#[test]
fn digests_of_policies_are_those_of_the_tpm() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let public = CounterPublic::new(INDEX, Incrementer::Owner).unwrap();
    let value = Counter::define(&root, public, None).unwrap().read(&root).unwrap();
    for registers in [vec![0], vec![8, 0, 15], (0..24).collect()] {
        let registers = tpm.registers(Selection::new(registers).unwrap()).unwrap();
        let registers = Step::registers(&registers).unwrap();
        for comparison in [Comparison::Equal, Comparison::AtMost, Comparison::AtLeast] {
            let counter = Step::Counter { counter: public, comparison, value };
            let policy = Policy::all(vec![registers.clone(), counter]).unwrap();
            assert_eq!(trial(&tpm, &policy).unwrap(), policy.digest());
        }
    }
}

#[test]
fn counters_are_compared_as_the_policy_says() {
    let Some(world) = World::new() else { return };
    let tpm = world.tpm();
    let root = StorageRoot::open(&tpm).unwrap();
    let public = CounterPublic::new(INDEX, Incrementer::Owner).unwrap();
    let value = Counter::define(&root, public, None).unwrap().read(&root).unwrap();
    for (comparison, below, at, above) in [
        (Comparison::Equal, false, true, false),
        (Comparison::AtMost, false, true, true),
        (Comparison::AtLeast, true, true, false),
    ] {
        for (value, holds) in [(value - 1, below), (value, at), (value + 1, above)] {
            let step = Step::Counter { counter: public, comparison, value };
            let policy = Policy::all(vec![step]).unwrap();
            let made = root.make_mac_key(&policy.digest()).unwrap();
            let opened = root.mac(&made, Opening::Plain(&policy), MESSAGE);
            if holds {
                assert!(opens(opened), "{comparison:?}");
            } else {
                assert_eq!(refusal(opened), POLICY, "{comparison:?}");
            }
        }
    }
}

#[test]
fn every_part_of_a_policy_is_in_its_digest() {
    let point = |last| [[4; 64].as_slice(), &[last]].concat();
    let authority = |last| Authority::from_sec1(&point(last)).unwrap();
    let owner = CounterPublic::new(INDEX, Incrementer::Owner).unwrap();
    let next = CounterPublic::new(INDEX + 1, Incrementer::Owner).unwrap();
    let ruled = Incrementer::Policy(PolicyDigest::new([1; 32]));
    let ruled = CounterPublic::new(INDEX, ruled).unwrap();
    let counter = |counter, comparison, value| Step::Counter { counter, comparison, value };
    let register =
        |index, value| Step::registers(&[Register { index, value: [value; 32] }]).unwrap();
    let step = || register(1, 1);
    let other = PolicyReference::new(b"another purpose").unwrap();
    let approved = |last, reference| Policy::approved(authority(last), reference, vec![step()]);
    let all = |steps| Policy::all(steps);
    let policies = [
        all(vec![step()]),
        all(vec![register(2, 1)]),
        all(vec![register(1, 2)]),
        all(vec![counter(owner, Comparison::Equal, 1)]),
        all(vec![counter(owner, Comparison::AtMost, 1)]),
        all(vec![counter(owner, Comparison::Equal, 2)]),
        all(vec![counter(next, Comparison::Equal, 1)]),
        all(vec![counter(ruled, Comparison::Equal, 1)]),
        all(vec![step(), counter(owner, Comparison::Equal, 1)]),
        all(vec![counter(owner, Comparison::Equal, 1), step()]),
        approved(1, reference()),
        approved(2, reference()),
        approved(1, other),
    ];
    let digests: std::collections::BTreeSet<_> =
        policies.iter().map(|policy| policy.as_ref().unwrap().digest()).collect();
    assert_eq!(digests.len(), policies.len());
    assert_eq!(Policy::all(Vec::new()), None);
    assert_eq!(Policy::all(vec![step(); 9]), None);
    assert_eq!(Step::registers(&[]), None);
    let twice = Register { index: 1, value: [1; 32] };
    assert_eq!(Step::registers(&[twice, twice]), None);
    assert_eq!(PolicyReference::new(&[0; 65]), None);
}
