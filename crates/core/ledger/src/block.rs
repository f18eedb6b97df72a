//! Blocks, and who proposed them.

use heirloom_model::counter::Time;
use heirloom_model::digest::{BlockId, NetworkId, sha256};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::service::{Height, Tip};
use heirloom_model::signature::{PublicKey, Signature, SigningKey};
use heirloom_model::wire;
use minicbor::{Decode, Encode};

use crate::configuration::Configuration;
use crate::context;
use crate::limit::{BLOCK_BYTES_MAX, METADATA_BYTES_MAX};
use crate::output::Output;
use crate::transaction::Transaction;

/// The one version of the rules by which blocks count.
pub const BLOCK_VERSION: u32 = 1;

/// A block.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct Block {
    /// The version of the rules; does not depend on the schema of any database.
    #[n(0)]
    pub version: u32,
    /// The network.
    #[n(1)]
    pub network: NetworkId,
    /// Its place. The first block has height 1.
    #[n(2)]
    pub height: Height,
    /// The block before; all zero for the first.
    #[n(3)]
    pub parent: BlockId,
    /// When its proposer says that it was made; never earlier than its parent.
    #[n(4)]
    pub time: Time,
    /// What the network starts with: only in the first block.
    #[n(5)]
    pub allocations: Vec<Output>,
    /// What counts from now on.
    #[n(6)]
    pub transactions: Vec<Transaction>,
}

/// Who proposed a block. Outside of its id: every node has the same block, and may learn of it
/// from another one.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct BlockMetadata {
    /// The node.
    #[n(0)]
    pub node: NodeId,
    /// The code that ran there: a flag day shows in the ledger as a change between two blocks.
    #[n(1)]
    pub measurement: Measurement,
    /// The key of the instance, which its evidence names. New with each start.
    #[n(2)]
    pub instance: PublicKey,
    /// Its signature over the id of the block, and the fields above.
    #[n(3)]
    pub signature: Signature,
}

/// The metadata do not belong to the block.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the signature of instance {instance} over block {block} does not verify")]
pub struct BadMetadata {
    /// The block.
    pub block: BlockId,
    /// Who is said to have proposed it.
    pub instance: PublicKey,
}

impl Block {
    /// The first block of a network: it follows from the configuration, so nobody proposes it.
    pub fn first(network: NetworkId, configuration: &Configuration) -> Self {
        let allocation = |allocation: &crate::configuration::Allocation| Output::Public {
            owner: allocation.owner,
            amount: allocation.amount,
        };
        Self {
            version: BLOCK_VERSION,
            network,
            height: Height(1),
            parent: BlockId::new([0; 32]),
            time: Time(0),
            allocations: configuration.allocations.iter().map(allocation).collect(),
            transactions: Vec::new(),
        }
    }

    /// Its id, and through the parent that of everything before.
    pub fn id(&self) -> BlockId {
        let bytes = minicbor::to_vec(self).expect("encoding into memory cannot fail");
        BlockId::new(sha256(&[context::BLOCK, &bytes]))
    }

    /// The tip of a ledger that ends with it.
    pub fn tip(&self) -> Tip {
        Tip { height: self.height, id: self.id() }
    }
}

impl BlockMetadata {
    /// Signs a block as its proposer.
    pub fn sign(block: &BlockId, node: NodeId, measurement: Measurement, key: &SigningKey) -> Self {
        let instance = key.public_key();
        let signature = key.sign(&message(block, &node, &measurement, &instance)).signature;
        Self { node, measurement, instance, signature }
    }

    /// Checks that they belong to the block with this id.
    pub fn check(&self, block: &BlockId) -> Result<(), BadMetadata> {
        let message = message(block, &self.node, &self.measurement, &self.instance);
        self.instance
            .verify_bytes(&message, &self.signature)
            .map_err(|_| BadMetadata { block: *block, instance: self.instance })
    }
}

fn message(
    block: &BlockId,
    node: &NodeId,
    measurement: &Measurement,
    instance: &PublicKey,
) -> Vec<u8> {
    let signed = minicbor::to_vec((block, node, measurement, instance));
    let signed = signed.expect("encoding into memory cannot fail");
    [context::METADATA, &signed].concat()
}

wire! {
    Block: "block", BLOCK_BYTES_MAX;
    BlockMetadata: "block metadata", METADATA_BYTES_MAX;
}
