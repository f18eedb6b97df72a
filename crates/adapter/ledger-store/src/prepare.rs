//! Large valid ledgers for rehearsals and measurements.

use std::path::Path;

use heirloom_ledger::amount::Amount;
use heirloom_ledger::block::BlockMetadata;
use heirloom_ledger::chain::{CheckedBlock, build_block, check_block};
use heirloom_ledger::check::check_transaction;
use heirloom_ledger::configuration::Configuration;
use heirloom_ledger::hint::ViewPublic;
use heirloom_ledger::output::{Blinding, Output, OutputId, OutputRecord};
use heirloom_ledger::state::State;
use heirloom_ledger::transaction::{Input, Payment};
use heirloom_model::counter::Time;
use heirloom_model::digest::{NetworkId, sha256};
use heirloom_model::identifier::NodeId;
use heirloom_model::measurement::Measurement;
use heirloom_model::secret::Secret;
use heirloom_model::service::{Height, SchemaVersion, Tip};
use heirloom_model::signature::{PublicKey, SigningKey};

use crate::database::Database;
use crate::error::{JobError, LedgerError};
use crate::ledger::create_with;
use crate::records::{Head, Writer};

/// Blocks in one transaction of the database.
const BATCH_BLOCKS: u64 = 4_096;
/// Every so many blocks have a payment; the others are empty, as most blocks of a young network.
const PAYMENT_EVERY: u64 = 8;
/// What is paid each time.
const PAID: Amount = Amount(1);

/// What a prepared ledger is made of.
pub struct Prepared<'a> {
    /// The network.
    pub network: NetworkId,
    /// What its nodes have configured. One of the allocations should belong to the faucet.
    pub configuration: &'a Configuration,
    /// The layout.
    pub schema: SchemaVersion,
    /// How many blocks, the first one included.
    pub blocks: u64,
    /// Who pays.
    pub faucet: &'a SigningKey,
    /// Who is paid privately, every other time: the view key of the network, if it is known.
    pub view: Option<ViewPublic>,
    /// The node that is said to have proposed the blocks.
    pub node: NodeId,
    /// The code that is said to have run there.
    pub measurement: Measurement,
    /// The key that signs the blocks.
    pub instance: &'a SigningKey,
}

/// Makes a valid ledger with so many blocks: each is checked by the rules, and signed.
///
/// The same arguments make the same ledger, on every node.
pub fn prepare(
    data: &Path,
    prepared: &Prepared<'_>,
    progress: &mut dyn FnMut(Height),
) -> Result<Tip, JobError> {
    let mut tip = None;
    let (network, schema) = (prepared.network, prepared.schema);
    let filled = create_with(data, network, prepared.configuration, schema, &mut |database| {
        let mut purse = Purse::open(database, prepared)?;
        loop {
            let now = database.tip()?;
            progress(now.height);
            if now.height.0 >= prepared.blocks {
                tip = Some(now);
                return Ok(());
            }
            database.write(|writer| batch(writer, prepared, &mut purse))?;
        }
    });
    filled?;
    tip.ok_or_else(|| JobError::refused("nothing was prepared"))
}

/// What the faucet has left.
struct Purse(Option<(OutputId, Amount)>);

impl Purse {
    fn open(database: &Database, prepared: &Prepared<'_>) -> Result<Self, LedgerError> {
        let owner = prepared.faucet.public_key();
        let first = database.block(Height(1))?;
        let allocations = first.map(|first| first.block.allocations).unwrap_or_default();
        let found = (0..).zip(&allocations).find_map(|(index, output)| match output {
            Output::Public { owner: found, amount } if *found == owner => {
                Some((OutputId::of_allocation(&prepared.network, index), *amount))
            }
            Output::Public { .. } | Output::Private { .. } => None,
        });
        Ok(Self(found))
    }
}

fn batch(
    writer: &mut Writer<'_, '_, '_>,
    prepared: &Prepared<'_>,
    purse: &mut Purse,
) -> Result<(), LedgerError> {
    let mut head = writer.view().head()?;
    let end = prepared.blocks.min(head.tip.height.0.saturating_add(BATCH_BLOCKS));
    while head.tip.height.0 < end {
        let block = next_block(writer, &head, prepared, purse)?;
        let node = prepared.node.clone();
        let metadata =
            BlockMetadata::sign(&block.id(), node, prepared.measurement, prepared.instance);
        head = writer.append(&head, &block, Some(&metadata))?;
    }
    Ok(())
}

fn next_block(
    writer: &Writer<'_, '_, '_>,
    head: &Head,
    prepared: &Prepared<'_>,
    purse: &mut Purse,
) -> Result<CheckedBlock, LedgerError> {
    let view = writer.view();
    let corrupt = |reason: String| LedgerError::corrupt(writer.path, "prepared block", reason);
    let parent = view.parent().map_err(|error| corrupt(error.to_string()))?;
    let height = Height(head.tip.height.0.saturating_add(1));
    let configuration = prepared.configuration;
    let mut transactions = Vec::new();
    if height.0.is_multiple_of(PAYMENT_EVERY)
        && let Some(payment) = payment(height, prepared, purse)
    {
        let signed = payment.sign(&[prepared.faucet]);
        let valid = check_transaction(signed, height, configuration, &view);
        transactions.push(valid.map_err(|error| corrupt(error.to_string()))?);
    }
    let block = build_block(&parent, configuration, transactions, Time(height.0));
    let checked = check_block(block, &parent, configuration, &view);
    let checked = checked.map_err(|error| corrupt(error.to_string()))?;
    if let Some((id, OutputRecord { output, .. })) = checked.changes().created.last() {
        *purse = Purse(Some((*id, output.amount())));
    }
    Ok(checked)
}

/// The next payment, while the faucet has enough for it. Its last output is what is left.
fn payment(height: Height, prepared: &Prepared<'_>, purse: &Purse) -> Option<Payment> {
    let (output, amount) = purse.0?;
    let fee = prepared.configuration.minimum_fee;
    let left = amount.minus(PAID)?.minus(fee).filter(|left| *left > Amount(0))?;
    let faucet = prepared.faucet.public_key();
    let distance = prepared.configuration.tombstone_distance_max;
    Some(Payment {
        network: prepared.network,
        inputs: vec![Input { output, owner: faucet, blinding: None }],
        outputs: vec![paid(height, prepared)?, Output::public(faucet, left)],
        fee,
        tombstone: Height(height.0.saturating_add(distance)),
        nonce: height.0,
    })
}

fn paid(height: Height, prepared: &Prepared<'_>) -> Option<Output> {
    let derived = |what: &[u8]| sha256(&[b"prepared ledger", what, &height.0.to_be_bytes()]);
    let owner = PublicKey::new(derived(b"owner"));
    match prepared.view {
        Some(view) if height.0.is_multiple_of(2 * PAYMENT_EVERY) => {
            // Nobody needs to hide these payments, so what is random elsewhere is derived here.
            let ephemeral = Secret::new(derived(b"ephemeral"));
            let blinding = Blinding::new(derived(b"blinding"));
            Output::private(owner, PAID, &view, blinding, &ephemeral).ok()
        }
        Some(_) | None => Some(Output::public(owner, PAID)),
    }
}

#[cfg(test)]
mod tests;
