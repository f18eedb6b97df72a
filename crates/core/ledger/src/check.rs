//! Whether a transaction counts.

use std::collections::BTreeSet;

use heirloom_model::digest::NetworkId;
use heirloom_model::service::Height;
use heirloom_model::signature::PublicKey;
use heirloom_model::wire;

use crate::amount::Amount;
use crate::configuration::Configuration;
use crate::limit::{INPUTS_MAX, OUTPUTS_MAX, TRANSACTION_BYTES_MAX};
use crate::output::{Commitment, Output, OutputId};
use crate::state::{OutputStatus, Parent, State, Unreadable};
use crate::transaction::{Input, Transaction, TransactionId, message};

/// A transaction that counts in the block for which it was checked. Only [`check_transaction`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ValidTransaction {
    id: TransactionId,
    transaction: Transaction,
}

/// Why a transaction does not count.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// It was made for another network.
    #[error("it is for network {found}, not for {expected}")]
    Network {
        /// This network.
        expected: NetworkId,
        /// The one that it names.
        found: NetworkId,
    },
    /// It is larger than allowed, in one of several ways.
    #[error("{what}: {found}, more than the {limit} allowed")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much of it.
        found: usize,
        /// How much may be.
        limit: usize,
    },
    /// It spends nothing or makes nothing.
    #[error("it has no {what}")]
    Empty {
        /// What it has none of.
        what: &'static str,
    },
    /// Something that has one order has another one, or is there twice.
    #[error("its {what} are not sorted, or one is there twice")]
    Unsorted {
        /// What is not sorted.
        what: &'static str,
    },
    /// Its last block has passed.
    #[error("it counts up to block {tombstone}, and the next one is {height}")]
    Tombstone {
        /// The last block in which it would count.
        tombstone: Height,
        /// The block for which it was to be checked.
        height: Height,
    },
    /// Its last block is too far away.
    #[error("it counts up to block {tombstone}, later than {latest}")]
    TombstoneTooFar {
        /// The last block in which it would count.
        tombstone: Height,
        /// The last one that is allowed now.
        latest: Height,
    },
    /// The fee is too small.
    #[error("the fee of {found} is less than {minimum}")]
    Fee {
        /// What it pays.
        found: Amount,
        /// What it must pay.
        minimum: Amount,
    },
    /// It makes an output of nothing.
    #[error("output {index} has no amount")]
    NoAmount {
        /// Which.
        index: usize,
    },
    /// It spends what does not exist.
    #[error("there is no output {output}")]
    NoSuchOutput {
        /// The output.
        output: OutputId,
    },
    /// It spends what is spent.
    #[error("output {output} is spent")]
    AlreadySpent {
        /// The output.
        output: OutputId,
    },
    /// It spends what belongs to somebody else.
    #[error("output {output} does not belong to {owner}")]
    NotOwner {
        /// The output.
        output: OutputId,
        /// Who claims it.
        owner: PublicKey,
    },
    /// What it spends is not what it makes and pays.
    #[error("it spends {spent}, but makes {made} and pays {fee}")]
    Unbalanced {
        /// What it spends.
        spent: Amount,
        /// What it makes.
        made: Amount,
        /// What it pays.
        fee: Amount,
    },
    /// Amounts do not fit in 64 bits.
    #[error("its amounts are more than there is")]
    Overflow,
    /// Not exactly the owners signed.
    #[error("it is not signed by exactly the owners of what it spends")]
    Signers,
    /// A signature does not verify.
    #[error("the signature by {key} does not verify")]
    Signature {
        /// Who is said to have signed.
        key: PublicKey,
    },
    /// Nothing is known: storage does not answer.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl ValidTransaction {
    /// Its id.
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// The transaction.
    pub fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    /// Gives the transaction out of the hand that checked it.
    pub fn into_transaction(self) -> Transaction {
        self.transaction
    }
}

/// Checks a transaction for the block at `height`, against everything before that block.
pub fn check_transaction(
    transaction: Transaction,
    height: Height,
    configuration: &Configuration,
    state: &impl State,
) -> Result<ValidTransaction, Invalid> {
    let parent = state.parent()?;
    check_transaction_after(transaction, height, configuration, &parent, state)
}

/// As [`check_transaction`], for a caller that knows what the block follows.
pub(crate) fn check_transaction_after(
    transaction: Transaction,
    height: Height,
    configuration: &Configuration,
    parent: &Parent,
    state: &impl State,
) -> Result<ValidTransaction, Invalid> {
    let (expected, found) = (parent.network, transaction.payment.network);
    if expected != found {
        return Err(Invalid::Network { expected, found });
    }
    check_shape(&transaction)?;
    check_terms(&transaction, height, configuration)?;
    check_balance(&transaction, state)?;
    let id = transaction.id();
    check_signatures(&transaction, &id)?;
    Ok(ValidTransaction { id, transaction })
}

fn check_shape(transaction: &Transaction) -> Result<(), Invalid> {
    let payment = &transaction.payment;
    let sizes = [
        ("inputs", payment.inputs.len(), INPUTS_MAX),
        ("outputs", payment.outputs.len(), OUTPUTS_MAX),
        ("signatures", transaction.signatures.len(), INPUTS_MAX),
    ];
    for (what, found, limit) in sizes {
        if found > limit {
            return Err(Invalid::TooLarge { what, found, limit });
        }
        if found == 0 {
            return Err(Invalid::Empty { what });
        }
    }
    let (found, limit) = (wire::encode(transaction).len(), TRANSACTION_BYTES_MAX);
    if found > limit {
        return Err(Invalid::TooLarge { what: "bytes", found, limit });
    }
    if !payment.inputs.is_sorted_by(|a, b| a.output < b.output) {
        return Err(Invalid::Unsorted { what: "inputs" });
    }
    if !transaction.signatures.is_sorted_by(|a, b| a.key < b.key) {
        return Err(Invalid::Unsorted { what: "signatures" });
    }
    let empty = payment.outputs.iter().position(|output| output.amount() == Amount(0));
    empty.map_or(Ok(()), |index| Err(Invalid::NoAmount { index }))
}

fn check_terms(
    transaction: &Transaction,
    height: Height,
    configuration: &Configuration,
) -> Result<(), Invalid> {
    let (tombstone, fee) = (transaction.payment.tombstone, transaction.payment.fee);
    if height > tombstone {
        return Err(Invalid::Tombstone { tombstone, height });
    }
    let latest = Height(height.0.saturating_add(configuration.tombstone_distance_max));
    if tombstone > latest {
        return Err(Invalid::TombstoneTooFar { tombstone, latest });
    }
    let minimum = configuration.minimum_fee;
    if fee < minimum {
        return Err(Invalid::Fee { found: fee, minimum });
    }
    Ok(())
}

fn check_balance(transaction: &Transaction, state: &impl State) -> Result<(), Invalid> {
    let payment = &transaction.payment;
    let mut spent = Amount(0);
    for input in &payment.inputs {
        let output = spendable(input, state)?;
        spent = spent.plus(output.amount()).ok_or(Invalid::Overflow)?;
    }
    let made = Amount::sum(payment.outputs.iter().map(Output::amount)).ok_or(Invalid::Overflow)?;
    let fee = payment.fee;
    if made.plus(fee).ok_or(Invalid::Overflow)? != spent {
        return Err(Invalid::Unbalanced { spent, made, fee });
    }
    Ok(())
}

fn spendable(input: &Input, state: &impl State) -> Result<Output, Invalid> {
    let id = input.output;
    let output = match state.output_status(&id)? {
        OutputStatus::Unknown => return Err(Invalid::NoSuchOutput { output: id }),
        OutputStatus::Spent => return Err(Invalid::AlreadySpent { output: id }),
        OutputStatus::Unspent(output) => output,
    };
    let owned = match (&output, &input.blinding) {
        (Output::Public { owner, .. }, None) => *owner == input.owner,
        (Output::Private { commitment, .. }, Some(blinding)) => {
            *commitment == Commitment::of(&input.owner, blinding)
        }
        (Output::Public { .. }, Some(_)) | (Output::Private { .. }, None) => false,
    };
    if !owned {
        return Err(Invalid::NotOwner { output: id, owner: input.owner });
    }
    Ok(output)
}

fn check_signatures(transaction: &Transaction, id: &TransactionId) -> Result<(), Invalid> {
    let owners: BTreeSet<PublicKey> =
        transaction.payment.inputs.iter().map(|input| input.owner).collect();
    if !transaction.signatures.iter().map(|signature| signature.key).eq(owners) {
        return Err(Invalid::Signers);
    }
    let message = message(id);
    for signature in &transaction.signatures {
        let key = signature.key;
        let verified = key.verify_bytes(&message, &signature.signature);
        verified.map_err(|_| Invalid::Signature { key })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
