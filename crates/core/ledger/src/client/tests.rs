use super::*;
use crate::limit::{ANSWER_OUTPUTS_MAX, INPUTS_MAX, OUTPUTS_MAX};
use crate::output::{Commitment, Output, SealedHint};
use crate::transaction::{Input, Payment};
use crate::world::{NETWORK, World, key};

#[test]
fn messages_have_one_size_whatever_they_say() {
    let few = ClientRequest { protocol: 1, ask: Ask::Node };
    let more = ClientRequest { protocol: 1, ask: Ask::Submit(Box::new(World::pay(1, 2))) };
    for request in [few, more] {
        let bytes = pad(&request);
        assert_eq!(bytes.len(), REQUEST_BYTES);
        assert_eq!(unpad::<ClientRequest>(&bytes), Ok(request));
    }
    let none = Answer::View(ViewAnswer::default());
    let found = FoundOutput {
        output: OutputId::new([1; 32]),
        amount: Amount(u64::MAX),
        blinding: Blinding::new([2; 32]),
        height: Height(u64::MAX),
    };
    let next = Some(ScanPosition { height: Height(u64::MAX), place: u32::MAX });
    let all = Answer::View(ViewAnswer { outputs: vec![found; ANSWER_OUTPUTS_MAX], next });
    for answer in [none, all] {
        let bytes = pad(&answer);
        assert_eq!(bytes.len(), ANSWER_BYTES);
        assert_eq!(unpad::<Answer>(&bytes), Ok(answer));
    }
}

#[test]
fn the_largest_transaction_fits() {
    let input = |byte| Input {
        output: OutputId::new([byte; 32]),
        owner: key(byte).public_key(),
        blinding: Some(Blinding::new([3; 32])),
    };
    let output = Output::Private {
        commitment: Commitment::new([4; 32]),
        hint: SealedHint::new([5; 112]),
        amount: Amount(u64::MAX),
    };
    let payment = Payment {
        network: NETWORK,
        inputs: (0..16).map(input).collect(),
        outputs: vec![output; OUTPUTS_MAX],
        fee: Amount(u64::MAX),
        tombstone: Height(u64::MAX),
        nonce: u64::MAX,
    };
    let keys: Vec<_> = (0..16).map(key).collect();
    let transaction = payment.sign(&keys.iter().collect::<Vec<_>>());
    assert_eq!(transaction.signatures.len(), INPUTS_MAX);
    let request = ClientRequest { protocol: 1, ask: Ask::Submit(Box::new(transaction)) };
    assert_eq!(unpad::<ClientRequest>(&pad(&request)), Ok(request));
}

#[test]
fn what_is_not_exactly_one_message_is_refused() {
    let good = pad(&ClientRequest { protocol: 1, ask: Ask::Node });
    let refused = |bytes: &[u8]| unpad::<ClientRequest>(bytes).is_err();
    assert!(!refused(&good));
    assert!(refused(&good[1..]), "shorter");
    assert!(refused(&[good.as_slice(), &[0]].concat()), "longer");
    for (place, byte) in [(REQUEST_BYTES - 1, 1), (3, good[3] + 1), (0, 0xff), (4, 0xff)] {
        let mut bytes = good.clone();
        bytes[place] = byte;
        assert!(refused(&bytes), "byte {place}");
    }
}

#[test]
fn only_the_owner_asks_one_instance_what_is_its_own() {
    let (instance, from) = (key(9).public_key(), ScanPosition { height: Height(3), place: 1 });
    let request = ViewRequest::sign(NETWORK, instance, from, &key(1));
    let checked = request.check(&NETWORK, &instance).unwrap();
    assert_eq!((checked.owner(), checked.from()), (key(1).public_key(), from));
    assert!(request.check(&NetworkId::new([2; 32]), &instance).is_err());
    assert!(request.check(&NETWORK, &key(8).public_key()).is_err());
    let other_owner = ViewRequest { owner: key(2).public_key(), ..request };
    assert!(other_owner.check(&NETWORK, &instance).is_err());
    let other_place = ViewRequest { from: ScanPosition::default(), ..request };
    assert!(other_place.check(&NETWORK, &instance).is_err());
}
