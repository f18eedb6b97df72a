use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::{Measurement, MrEnclave};
use proptest::prelude::*;

use super::*;
use crate::block::BlockMetadata;
use crate::transaction::{Input, Payment};
use crate::world::{NETWORK, World, configuration, key};

fn with(change: impl FnOnce(&mut Block)) -> BlockFault {
    let world = World::new();
    let valid = world.check_transaction(World::pay(1, 2)).unwrap();
    let mut block = world.build(vec![valid]);
    assert!(world.check(block.clone()).is_ok());
    change(&mut block);
    world.check(block).expect_err("it must not count")
}

#[test]
fn each_field_of_a_block_is_checked() {
    assert_eq!(with(|b| b.version = 2), BlockFault::Version { found: 2 });
    let found = NetworkId::new([9; 32]);
    assert_eq!(with(|b| b.network = found), BlockFault::Network { expected: NETWORK, found });
    let (expected, found) = (Height(2), Height(3));
    assert_eq!(with(|b| b.height = found), BlockFault::Height { expected, found });
    let (expected, found) = (World::new().parent.tip.id, BlockId::new([9; 32]));
    assert_eq!(with(|b| b.parent = found), BlockFault::Parent { expected, found });
    let money = crate::output::Output::public(key(1).public_key(), Amount(1));
    assert_eq!(with(|b| b.allocations.push(money)), BlockFault::Allocations);
    let many = with(|b| b.transactions = vec![b.transactions[0].clone(); 5]);
    assert_eq!(many, BlockFault::TooLarge { what: "transactions", found: 5, limit: 4 });
    let twice = with(|b| b.transactions.push(b.transactions[0].clone()));
    assert_eq!(twice, BlockFault::DoubleSpend { output: World::allocation(1) });
    let late = with(|b| b.transactions[0].payment.tombstone = Height(1));
    let BlockFault::Transaction { index: 0, reason } = late else { panic!("{late:?}") };
    assert_eq!(*reason, Invalid::Tombstone { tombstone: Height(1), height: Height(2) });
}

#[test]
fn time_does_not_go_back() {
    let mut world = World::new();
    world.parent.time = Time(100);
    let block = world.build(Vec::new());
    assert_eq!(block.time, Time(100), "a clock that is late makes a block of its parent's time");
    let early = Block { time: Time(99), ..block };
    let fault = BlockFault::Time { parent: Time(100), found: Time(99) };
    assert_eq!(world.check(early), Err(fault));
}

#[test]
fn what_a_block_makes_no_transaction_of_it_spends() {
    let world = World::new();
    let first = World::pay(1, 2);
    let (output, made) = first.created()[0];
    let second = Payment {
        inputs: vec![Input { output, owner: key(2).public_key(), blinding: None }],
        outputs: vec![crate::output::Output::public(key(2).public_key(), Amount(8))],
        ..World::payment(2, 2)
    };
    assert_eq!(made.amount(), Amount(10));
    let mut block = world.build(vec![world.check_transaction(first).unwrap()]);
    block.transactions.push(second.sign(&[&key(2)]));
    for _ in 0..2 {
        block.transactions.reverse();
        let fault = world.check(block.clone()).expect_err("it must not count");
        let BlockFault::Transaction { reason, .. } = fault else { panic!("{fault:?}") };
        assert_eq!(*reason, Invalid::NoSuchOutput { output });
    }
}

#[test]
fn storage_that_does_not_answer_is_no_fault_of_the_block() {
    let mut world = World::new();
    let block = world.build(vec![world.check_transaction(World::pay(1, 2)).unwrap()]);
    world.broken = true;
    assert!(matches!(world.check(block), Err(BlockFault::Unreadable(_))));
}

#[test]
fn a_block_has_no_more_than_it_may() {
    let world = World::new();
    let mut valid: Vec<_> =
        (1..=4).map(|from| world.check_transaction(World::pay(from, 1)).unwrap()).collect();
    let other = Payment { nonce: 1, ..World::payment(1, 3) }.sign(&[&key(1)]);
    valid.insert(1, world.check_transaction(other).unwrap());
    let block = world.build(valid.clone());
    assert_eq!(block.transactions.len(), 4, "the second one spends what the first one does");
    assert!(world.check(block).is_ok());
    let few = Configuration { block_payments_max: 1, ..configuration() };
    assert_eq!(build_block(&world.parent, &few, valid, Time(1)).transactions.len(), 1);
}

#[test]
fn metadata_belong_to_one_block_and_to_what_they_say() {
    let node: NodeId = "n1".parse().unwrap();
    let code = |byte| Measurement::Sgx(MrEnclave::new([byte; 32]));
    let id = BlockId::new([1; 32]);
    let metadata = BlockMetadata::sign(&id, node, code(1), &key(1));
    assert!(metadata.check(&id).is_ok());
    assert!(metadata.check(&BlockId::new([2; 32])).is_err());
    let changed = [
        BlockMetadata { node: "n2".parse().unwrap(), ..metadata.clone() },
        BlockMetadata { measurement: code(2), ..metadata.clone() },
        BlockMetadata { instance: key(2).public_key(), ..metadata.clone() },
    ];
    assert!(changed.iter().all(|metadata| metadata.check(&id).is_err()));
}

#[test]
fn a_configuration_says_what_the_first_block_is() {
    let id = |configuration: &Configuration| Block::first(NETWORK, configuration).id();
    let mut other = configuration();
    other.allocations[0].amount = Amount(999);
    assert_ne!(id(&other), id(&configuration()));
    assert_ne!(other.digest(), configuration().digest());
    assert_ne!(Block::first(NetworkId::new([2; 32]), &configuration()).id(), id(&configuration()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whoever pays whom, with blocks that are reordered: nothing is made or lost, and what is
    /// refused in one order is refused in every order.
    #[test]
    fn sums_are_kept_and_order_does_not_matter(
        rounds in prop::collection::vec(
            prop::collection::vec((1..5_u8, 1..5_u8, 0..3_usize, 1..1000_u64, 0..2_u64), 1..5),
            1..5,
        ),
    ) {
        let mut world = World::new();
        for round in rounds {
            let mut valid = Vec::new();
            for (from, to, pick, amount, nonce) in round {
                let Some(payment) = spend(&world, (from, to, pick, amount, nonce)) else { continue };
                valid.extend(world.check_transaction(payment.sign(&[&key(from)])));
            }
            let mut all = world.build(Vec::new());
            all.transactions = valid.iter().map(|v| v.transaction().clone()).collect();
            let straight = world.check(all.clone()).is_ok();
            all.transactions.reverse();
            prop_assert_eq!(world.check(all.clone()).is_ok(), straight);
            let inputs = all.transactions.iter().map(|t| t.payment.inputs[0].output);
            let distinct: BTreeSet<_> = inputs.collect();
            prop_assert_eq!(straight, distinct.len() == all.transactions.len());
            let block = world.check(world.build(valid)).unwrap();
            prop_assert_eq!(block.changes().spent.len(), distinct.len());
            world.apply(&block);
            prop_assert_eq!(world.total(), Amount(4000));
        }
    }
}

/// A payment out of one of an account's outputs, if it has so many and enough.
fn spend(world: &World, choice: (u8, u8, usize, u64, u64)) -> Option<Payment> {
    use crate::output::Output;
    let (from, to, pick, amount, nonce) = choice;
    let owner = key(from).public_key();
    let mine = |(_, (output, spent)): &(&OutputId, &(Output, bool))| {
        !spent && matches!(output, Output::Public { owner: found, .. } if *found == owner)
    };
    let (id, (output, _)) = world.outputs.iter().filter(mine).nth(pick)?;
    let left = output.amount().minus(Amount(amount))?.minus(Amount(2))?;
    let mut outputs = vec![Output::public(key(to).public_key(), Amount(amount))];
    if left > Amount(0) {
        outputs.push(Output::public(owner, left));
    }
    let inputs = vec![Input { output: *id, owner, blinding: None }];
    let tombstone = Height(world.parent.tip.height.0 + 1);
    Some(Payment { network: NETWORK, inputs, outputs, fee: Amount(2), tombstone, nonce })
}
