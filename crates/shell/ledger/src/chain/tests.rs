use heirloom_ledger::amount::Amount;
use heirloom_ledger::configuration::Allocation;
use heirloom_ledger::hint::ViewPublic;
use heirloom_ledger::output::PaymentPath;
use heirloom_model::digest::NetworkId;
use heirloom_model::measurement::MrEnclave;

use super::*;
use crate::wallet::{Coin, Order, Wallet};

const NETWORK: NetworkId = NetworkId::new([1; 32]);
const HAS: Amount = Amount(100);

struct World {
    chain: Chain,
    wallet: Wallet,
    _directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let wallet = Wallet::generate("one").unwrap();
        let configuration = Configuration {
            name: "test".to_owned(),
            minimum_fee: Amount(1),
            tombstone_distance_max: 100,
            block_payments_max: 10,
            block_interval_milliseconds: 20,
            allocations: vec![Allocation { owner: wallet.owner(), amount: HAS }; 3],
            client_protocol_min: 1,
        };
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let ledger = Ledger::create(&data, NETWORK, &configuration, SchemaVersion(2)).unwrap();
        let chain = Chain::new(ledger, configuration, Writing::Active).unwrap();
        Self { chain, wallet, _directory: directory }
    }

    /// Spends one of the allocations.
    fn submit(&self, allocation: u32) -> TransactionId {
        let output = OutputId::of_allocation(&NETWORK, allocation);
        let order = Order {
            network: NETWORK,
            to: self.wallet.owner(),
            amount: Amount(5),
            path: PaymentPath::Public,
            view: ViewPublic::new([9; 32]),
            fee: Amount(1),
            tombstone: Height(50),
        };
        let coin = Coin { output, amount: HAS, blinding: None };
        self.chain.submit(self.wallet.pay(&coin, &order).unwrap()).unwrap()
    }

    fn send(&self, block: Block) -> Vec<u8> {
        let measurement = Measurement::Sgx(MrEnclave::new([2; 32]));
        let node = "n1".parse().unwrap();
        let metadata = BlockMetadata::sign(&block.id(), node, measurement, self.wallet.key());
        wire::encode(&SentBlock { block, metadata: Some(metadata) })
    }

    fn build(&self, chosen: Chosen) -> Vec<u8> {
        self.send(self.chain.build(chosen).unwrap())
    }

    /// A block at the end whose payment the block before has settled: as a node would propose
    /// that chose and looked for the end at two moments.
    fn settled_again(&self) -> Vec<u8> {
        self.submit(0);
        let first = self.chain.choose().unwrap();
        let transactions = first.transactions.clone();
        assert_eq!(self.chain.apply(&self.build(first)).unwrap(), Outcome::Applied);
        let parent = self.chain.ledger.parent().unwrap();
        self.build(Chosen { parent, transactions })
    }
}

#[test]
fn a_block_of_what_was_settled_meanwhile_is_overtaken() {
    let world = World::new();
    let paid = world.submit(0);
    let other = world.chain.choose().unwrap();
    world.submit(1);
    let one = world.chain.choose().unwrap();
    assert_eq!(world.chain.apply(&world.build(one)).unwrap(), Outcome::Applied);
    assert!(world.chain.choose().is_none(), "what is settled waits no more");
    let tip = world.chain.tip();
    // What was chosen before the block was appended names the end that it was chosen after.
    assert_eq!(other.parent.tip.height, Height(1));
    assert_eq!(world.chain.apply(&world.build(other)).unwrap(), Outcome::Overtaken);
    assert_eq!(world.chain.tip(), tip);
    assert!(matches!(world.chain.fate(&paid).unwrap(), Fate::Settled(_)));
}

#[test]
fn an_agreed_block_that_spends_again_has_no_effect_and_the_ledger_goes_on() {
    let world = World::new();
    let again = world.settled_again();
    let tip = world.chain.tip();
    assert_eq!(world.chain.apply(&again).unwrap(), Outcome::Overtaken);
    assert_eq!((world.chain.tip(), world.chain.is_broken()), (tip, false));
    let paid = world.submit(1);
    let next = world.chain.choose().unwrap();
    assert_eq!(world.chain.apply(&world.build(next)).unwrap(), Outcome::Applied);
    assert!(matches!(world.chain.fate(&paid).unwrap(), Fate::Settled(_)));
    // The log may be applied again, after a start.
    assert_eq!(world.chain.apply(&again).unwrap(), Outcome::Overtaken);
    assert!(!world.chain.is_broken());
}

#[test]
fn a_block_that_a_peer_has_and_that_spends_again_is_a_fork() {
    let world = World::new();
    let again = world.settled_again();
    assert!(matches!(world.chain.adopt(&again), Err(ApplyError::Broken(_))));
    assert!(world.chain.is_broken());
    assert!(world.chain.status().fork.is_some());
}

#[test]
fn an_agreed_block_that_breaks_another_rule_stops_the_node() {
    let world = World::new();
    world.submit(0);
    let mut block = world.chain.build(world.chain.choose().unwrap()).unwrap();
    block.version += 1;
    assert!(matches!(world.chain.apply(&world.send(block)), Err(ApplyError::Broken(_))));
    assert!(world.chain.is_broken());
}
