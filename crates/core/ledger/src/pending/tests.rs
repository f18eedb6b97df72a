use super::*;
use crate::transaction::Payment;
use crate::world::{World, key};

fn valid(world: &World, from: u8, change: impl FnOnce(&mut Payment)) -> ValidTransaction {
    let mut payment = World::payment(from, 1);
    change(&mut payment);
    world.check_transaction(payment.sign(&[&key(from)])).unwrap()
}

#[test]
fn transactions_wait_in_the_order_in_which_they_came_once_and_without_conflict() {
    let world = World::new();
    let mut pending = Pending::new(2);
    let (three, one) = (valid(&world, 3, |_| ()), valid(&world, 1, |_| ()));
    pending.insert(three.clone()).unwrap();
    assert_eq!(pending.insert(three.clone()), Err(NotQueued::Duplicate));
    let rival = valid(&world, 3, |payment| payment.nonce = 1);
    let conflict = NotQueued::Conflict { output: World::allocation(3), other: three.id() };
    assert_eq!(pending.insert(rival.clone()), Err(conflict));
    pending.insert(one.clone()).unwrap();
    assert_eq!(pending.insert(valid(&world, 2, |_| ())), Err(NotQueued::Full { limit: 2 }));
    assert_eq!(pending.first(9), [three.clone(), one]);
    assert_eq!(pending.first(1), std::slice::from_ref(&three));
    pending.remove(&three.id());
    pending.insert(rival).unwrap();
    assert_eq!(pending.len(), 2);
    assert_eq!(pending.clear().len(), 2);
    assert!(pending.is_empty());
    pending.insert(three).unwrap();
}

#[test]
fn what_is_in_a_block_is_forgotten_with_what_it_beats() {
    let world = World::new();
    let mut pending = Pending::default();
    let (one, two) = (valid(&world, 1, |_| ()), valid(&world, 2, |_| ()));
    let rival = valid(&world, 2, |payment| payment.nonce = 1);
    let three = valid(&world, 3, |_| ());
    for transaction in [&one, &two, &three] {
        pending.insert(transaction.clone()).unwrap();
    }
    let block = world.check(world.build(vec![one, rival])).unwrap();
    assert_eq!(pending.settle(&block), [two.id()]);
    assert_eq!(pending.first(9), [three]);
    assert!(!pending.contains(&two.id()));
}

#[test]
fn what_is_past_its_tombstone_is_forgotten() {
    let world = World::new();
    let mut pending = Pending::default();
    let early = valid(&world, 1, |payment| payment.tombstone = Height(4));
    let late = valid(&world, 2, |payment| payment.tombstone = Height(5));
    pending.insert(early.clone()).unwrap();
    pending.insert(late.clone()).unwrap();
    assert_eq!(pending.expire(Height(4)), []);
    assert_eq!(pending.expire(Height(5)), [early.id()]);
    assert_eq!(pending.first(9), [late]);
}
