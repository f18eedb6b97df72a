use heirloom_model::digest::NetworkId;
use heirloom_model::secret::Secret;
use heirloom_model::signature::{KeySignature, Signature};

use super::*;
use crate::hint::ViewSecret;
use crate::output::Blinding;
use crate::transaction::Payment;
use crate::world::{NETWORK, World, key};

/// Changes exactly one thing of a payment that counts, and signs what comes out.
fn with(change: impl FnOnce(&mut Payment)) -> Invalid {
    let mut payment = World::payment(1, 2);
    change(&mut payment);
    World::new().check_transaction(payment.sign(&[&key(1)])).expect_err("it must not count")
}

#[test]
fn a_payment_counts() {
    let valid = World::new().check_transaction(World::pay(1, 2)).unwrap();
    assert_eq!(valid.id(), World::pay(1, 2).id());
    assert_eq!(valid.into_transaction(), World::pay(1, 2));
}

#[test]
fn each_term_of_a_payment_is_checked() {
    let found = NetworkId::new([9; 32]);
    assert_eq!(with(|p| p.network = found), Invalid::Network { expected: NETWORK, found });
    assert_eq!(with(|p| p.inputs.clear()), Invalid::Empty { what: "inputs" });
    assert_eq!(with(|p| p.outputs.clear()), Invalid::Empty { what: "outputs" });
    let twice = with(|p| p.inputs.push(p.inputs[0]));
    assert_eq!(twice, Invalid::Unsorted { what: "inputs" });
    let many = with(|p| p.outputs = vec![p.outputs[0]; OUTPUTS_MAX + 1]);
    assert_eq!(many, Invalid::TooLarge { what: "outputs", found: 17, limit: OUTPUTS_MAX });
    let nothing = with(|p| p.outputs.push(Output::public(key(2).public_key(), Amount(0))));
    assert_eq!(nothing, Invalid::NoAmount { index: 2 });
    let (tombstone, height) = (Height(1), Height(2));
    assert_eq!(with(|p| p.tombstone = tombstone), Invalid::Tombstone { tombstone, height });
    let (tombstone, latest) = (Height(13), Height(12));
    let far = with(|p| p.tombstone = tombstone);
    assert_eq!(far, Invalid::TombstoneTooFar { tombstone, latest });
    let fee = with(|p| p.fee = Amount(1));
    assert_eq!(fee, Invalid::Fee { found: Amount(1), minimum: Amount(2) });
    let (spent, made) = (Amount(1000), Amount(998));
    let unbalanced = with(|p| p.fee = Amount(3));
    assert_eq!(unbalanced, Invalid::Unbalanced { spent, made, fee: Amount(3) });
    let overflow = with(|p| p.outputs.push(Output::public(key(2).public_key(), Amount(u64::MAX))));
    assert_eq!(overflow, Invalid::Overflow);
    let output = OutputId::new([9; 32]);
    assert_eq!(with(|p| p.inputs[0].output = output), Invalid::NoSuchOutput { output });
    let (output, owner) = (World::allocation(2), key(1).public_key());
    assert_eq!(with(|p| p.inputs[0].output = output), Invalid::NotOwner { output, owner });
    let blinding = Some(Blinding::new([0; 32]));
    let output = World::allocation(1);
    let blinded = with(|p| p.inputs[0].blinding = blinding);
    assert_eq!(blinded, Invalid::NotOwner { output, owner });
}

#[test]
fn the_last_block_is_that_of_the_tombstone() {
    for tombstone in [Height(2), Height(12)] {
        let payment = Payment { tombstone, ..World::payment(1, 2) };
        assert!(World::new().check_transaction(payment.sign(&[&key(1)])).is_ok(), "{tombstone}");
    }
}

#[test]
fn exactly_the_owners_sign() {
    let world = World::new();
    let refused =
        |transaction| world.check_transaction(transaction).expect_err("it must not count");
    assert_eq!(refused(World::payment(1, 2).sign(&[&key(2)])), Invalid::Signers);
    assert_eq!(refused(World::payment(1, 2).sign(&[&key(1), &key(2)])), Invalid::Signers);
    let unsigned = refused(World::payment(1, 2).sign(&[]));
    assert_eq!(unsigned, Invalid::Empty { what: "signatures" });
    let good = World::pay(1, 2);
    let owner = key(1).public_key();
    let mut other = good.clone();
    other.payment.nonce = 1;
    assert_eq!(refused(other), Invalid::Signature { key: owner });
    let mut other = good;
    other.signatures = vec![KeySignature { key: owner, signature: Signature::new([0; 64]) }];
    assert_eq!(refused(other), Invalid::Signature { key: owner });
}

#[test]
fn a_private_output_is_spent_by_who_shows_what_hides_it() {
    let mut world = World::new();
    let view = ViewSecret::new(Secret::new([5; 32])).public();
    let (blinding, owner) = (Blinding::new([6; 32]), key(2).public_key());
    let ephemeral = Secret::new([7; 32]);
    let private = Output::private(owner, Amount(10), &view, blinding, &ephemeral).unwrap();
    let mut payment = World::payment(1, 2);
    payment.outputs[0] = private;
    let paid = payment.sign(&[&key(1)]);
    let output = paid.created()[0].0;
    let block = world.check(world.build(vec![world.check_transaction(paid).unwrap()])).unwrap();
    world.apply(&block);
    let spend = |blinding, byte: u8| {
        let owner = key(byte).public_key();
        let payment = Payment {
            inputs: vec![Input { output, owner, blinding }],
            outputs: vec![Output::public(owner, Amount(8))],
            ..World::payment(2, 2)
        };
        payment.sign(&[&key(byte)])
    };
    let not_owner = |byte| Err(Invalid::NotOwner { output, owner: key(byte).public_key() });
    assert_eq!(world.check_transaction(spend(None, 2)), not_owner(2));
    assert_eq!(world.check_transaction(spend(Some(Blinding::new([0; 32])), 2)), not_owner(2));
    assert_eq!(world.check_transaction(spend(Some(blinding), 3)), not_owner(3));
    assert!(world.check_transaction(spend(Some(blinding), 2)).is_ok());
}

#[test]
fn what_cannot_be_read_is_not_said_to_be_invalid() {
    let world = World { broken: true, ..World::new() };
    let unreadable = world.check_transaction(World::pay(1, 2));
    assert!(matches!(unreadable, Err(Invalid::Unreadable(_))), "{unreadable:?}");
}
