//! A ledger in memory, for tests.

use std::collections::BTreeMap;

use heirloom_model::counter::Time;
use heirloom_model::digest::NetworkId;
use heirloom_model::secret::Secret;
use heirloom_model::service::Height;
use heirloom_model::signature::SigningKey;

use crate::amount::Amount;
use crate::block::Block;
use crate::chain::{CheckedBlock, build_block, check_block, first_block};
use crate::check::{Invalid, ValidTransaction, check_transaction};
use crate::configuration::{Allocation, Configuration};
use crate::output::{Output, OutputId};
use crate::state::{OutputStatus, Parent, State, Unreadable};
use crate::transaction::{Input, Payment, Transaction};

pub(crate) const NETWORK: NetworkId = NetworkId::new([1; 32]);

pub(crate) fn key(byte: u8) -> SigningKey {
    SigningKey::from_seed(Secret::new([byte; 32]))
}

/// Four accounts, with 1000 each.
pub(crate) fn configuration() -> Configuration {
    let allocation = |byte| Allocation { owner: key(byte).public_key(), amount: Amount(1000) };
    Configuration {
        name: "test network".to_owned(),
        minimum_fee: Amount(2),
        tombstone_distance_max: 10,
        block_payments_max: 4,
        block_interval_milliseconds: 100,
        allocations: (1..=4).map(allocation).collect(),
        client_protocol_min: 1,
    }
}

pub(crate) struct World {
    pub(crate) parent: Parent,
    pub(crate) outputs: BTreeMap<OutputId, (Output, bool)>,
    pub(crate) fees: Amount,
    pub(crate) broken: bool,
}

impl State for World {
    fn parent(&self) -> Result<Parent, Unreadable> {
        Ok(self.parent)
    }

    fn output_status(&self, id: &OutputId) -> Result<OutputStatus, Unreadable> {
        if self.broken {
            return Err(Unreadable { reason: "broken".to_owned() });
        }
        Ok(match self.outputs.get(id) {
            None => OutputStatus::Unknown,
            Some((_, true)) => OutputStatus::Spent,
            Some((output, false)) => OutputStatus::Unspent(*output),
        })
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let first = first_block(NETWORK, &configuration());
        let parent = Parent { network: NETWORK, tip: first.tip(), time: Time(0) };
        let mut world = Self { parent, outputs: BTreeMap::new(), fees: Amount(0), broken: false };
        world.apply(&first);
        world
    }

    pub(crate) fn apply(&mut self, block: &CheckedBlock) {
        self.parent.tip = block.tip();
        self.parent.time = block.block().time;
        for id in &block.changes().spent {
            let output = self.outputs.get_mut(id).expect("it was checked");
            assert!(!output.1, "nothing is spent twice");
            output.1 = true;
        }
        for (id, record) in &block.changes().created {
            assert_eq!(self.outputs.insert(*id, (record.output, false)), None);
        }
        self.fees = self.fees.plus(block.changes().fees).unwrap();
    }

    /// What can be spent, and what was paid as fees.
    pub(crate) fn total(&self) -> Amount {
        let unspent = self.outputs.values().filter(|(_, spent)| !spent);
        let unspent = Amount::sum(unspent.map(|(output, _)| output.amount())).unwrap();
        unspent.plus(self.fees).unwrap()
    }

    /// The first allocation of an account.
    pub(crate) fn allocation(account: u8) -> OutputId {
        OutputId::of_allocation(&NETWORK, u32::from(account) - 1)
    }

    /// Pays 10 from one account to another, with a fee of 2.
    pub(crate) fn payment(from: u8, to: u8) -> Payment {
        let owner = key(from).public_key();
        Payment {
            network: NETWORK,
            inputs: vec![Input { output: Self::allocation(from), owner, blinding: None }],
            outputs: vec![
                Output::public(key(to).public_key(), Amount(10)),
                Output::public(owner, Amount(988)),
            ],
            fee: Amount(2),
            tombstone: Height(5),
            nonce: 0,
        }
    }

    pub(crate) fn pay(from: u8, to: u8) -> Transaction {
        Self::payment(from, to).sign(&[&key(from)])
    }

    pub(crate) fn check_transaction(
        &self,
        transaction: Transaction,
    ) -> Result<ValidTransaction, Invalid> {
        check_transaction(transaction, Height(self.parent.tip.height.0 + 1), &configuration(), self)
    }

    pub(crate) fn build(&self, transactions: Vec<ValidTransaction>) -> Block {
        build_block(&self.parent, &configuration(), transactions, Time(7))
    }

    pub(crate) fn check(&self, block: Block) -> Result<CheckedBlock, crate::chain::BlockFault> {
        check_block(block, &self.parent, &configuration(), self)
    }
}
