//! Wallets: keys of accounts, and the payments that they make. On the host; a node has none.

use std::path::{Path, PathBuf};

use heirloom_ledger::amount::Amount;
use heirloom_ledger::hint::{HintError, ViewPublic};
use heirloom_ledger::output::{Blinding, Output, OutputId, PaymentPath};
use heirloom_ledger::transaction::{Input, Payment, Transaction};
use heirloom_model::digest::{NetworkId, parse_hex};
use heirloom_model::secret::Secret;
use heirloom_model::service::Height;
use heirloom_model::signature::{PublicKey, SigningKey};
use heirloom_store::atomic;
use heirloom_store::error::StoreError;
use serde::{Deserialize, Serialize};

use crate::limit::WALLET_BYTES_MAX;

/// The name of the format.
const SCHEMA: &str = "heirloom.ledger-wallet.v1";
/// Wallets of one directory.
const WALLETS_MAX: usize = 256;

/// The key of one account.
pub struct Wallet {
    /// What people call it.
    pub name: String,
    key: SigningKey,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WalletFile {
    schema: String,
    name: String,
    seed: String,
}

/// Something that a wallet may spend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Coin {
    /// The output.
    pub output: OutputId,
    /// How much it is.
    pub amount: Amount,
    /// What hides its owner, if it is private.
    pub blinding: Option<Blinding>,
}

/// What a payment is about.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The network.
    pub network: NetworkId,
    /// Who is paid.
    pub to: PublicKey,
    /// How much.
    pub amount: Amount,
    /// How.
    pub path: PaymentPath,
    /// The key for hints of private payments.
    pub view: ViewPublic,
    /// What nobody gets.
    pub fee: Amount,
    /// The last block in which it counts.
    pub tombstone: Height,
}

/// Why there is no wallet or no payment.
#[derive(Debug, thiserror::Error)]
pub enum WalletError {
    /// The file cannot be read or written.
    #[error(transparent)]
    File(#[from] StoreError),
    /// The directory cannot be read.
    #[error("{path} cannot be read")]
    Directory {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is no wallet.
    #[error("{path} is no wallet: {reason}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The output is too small.
    #[error("the output has {found}, and {needed} is needed")]
    TooLittle {
        /// What it has.
        found: Amount,
        /// What is needed.
        needed: Amount,
    },
    /// The view key is none.
    #[error(transparent)]
    Hint(#[from] HintError),
    /// There are no random numbers.
    #[error("there are no random numbers")]
    Random,
}

impl Wallet {
    /// A new wallet.
    pub fn generate(name: &str) -> Result<Self, WalletError> {
        Ok(Self { name: name.to_owned(), key: SigningKey::from_seed(random()?) })
    }

    /// Reads a wallet.
    pub fn read(path: &Path) -> Result<Self, WalletError> {
        let malformed = |reason: String| WalletError::Malformed { path: path.to_owned(), reason };
        let bytes = atomic::read(path, WALLET_BYTES_MAX)?;
        let file: WalletFile =
            serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        if file.schema != SCHEMA {
            return Err(malformed(format!("its format is {:?}", file.schema)));
        }
        let seed = parse_hex("seed", &file.seed).map_err(|error| malformed(error.to_string()))?;
        Ok(Self { name: file.name, key: SigningKey::from_seed(Secret::new(seed)) })
    }

    /// Reads the wallets of a directory whose names begin so, in the order of their names.
    pub fn read_all(directory: &Path, prefix: &str) -> Result<Vec<Self>, WalletError> {
        let failed = |source| WalletError::Directory { path: directory.to_owned(), source };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(directory).map_err(failed)?.take(WALLETS_MAX) {
            let path = entry.map_err(failed)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(prefix) && path.extension().is_some_and(|kind| kind == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    /// Writes a wallet; one that is there is never overwritten.
    pub fn write(&self, directory: &Path) -> Result<(), WalletError> {
        let file = WalletFile {
            schema: SCHEMA.to_owned(),
            name: self.name.clone(),
            seed: self.key.expose_seed(|seed| hex::encode(seed)),
        };
        let text = serde_json::to_vec_pretty(&file).expect("a wallet has a text");
        Ok(atomic::create(&directory.join(format!("{}.json", self.name)), &text)?)
    }

    /// Whose outputs it may spend.
    pub fn owner(&self) -> PublicKey {
        self.key.public_key()
    }

    /// Its key.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// Pays with one coin. What is left comes back as the second output.
    pub fn pay(&self, coin: &Coin, order: &Order) -> Result<Transaction, WalletError> {
        let needed = order.amount.plus(order.fee).unwrap_or(Amount(u64::MAX));
        let too_little = WalletError::TooLittle { found: coin.amount, needed };
        let rest = coin.amount.minus(needed).ok_or(too_little)?;
        let paid = match order.path {
            PaymentPath::Public => Output::public(order.to, order.amount),
            PaymentPath::Private => {
                let blinding = Blinding::new(random()?.expose(|bytes| *bytes));
                Output::private(order.to, order.amount, &order.view, blinding, &random()?)?
            }
        };
        let mut outputs = vec![paid];
        if rest > Amount(0) {
            outputs.push(Output::public(self.owner(), rest));
        }
        let nonce = random()?.expose(|bytes| {
            let mut first = [0; 8];
            for (byte, from) in first.iter_mut().zip(bytes) {
                *byte = *from;
            }
            u64::from_be_bytes(first)
        });
        let input = Input { output: coin.output, owner: self.owner(), blinding: coin.blinding };
        let payment = Payment {
            network: order.network,
            inputs: vec![input],
            outputs,
            fee: order.fee,
            tombstone: order.tombstone,
            nonce,
        };
        Ok(payment.sign(&[&self.key]))
    }
}

/// Random bytes of the system.
pub fn random() -> Result<Secret<32>, WalletError> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| WalletError::Random)?;
    Ok(Secret::new(bytes))
}

/// One of several, at random; none of none.
pub fn any<T>(of: &[T]) -> Option<&T> {
    let bytes = random().ok()?.expose(|bytes| *bytes);
    let (first, _) = bytes.split_first_chunk::<4>()?;
    let number = usize::try_from(u32::from_be_bytes(*first)).ok()?;
    of.get(number.checked_rem(of.len())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wallet_survives_its_file_and_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let wallet = Wallet::generate("pay-1").unwrap();
        wallet.write(directory.path()).unwrap();
        assert!(wallet.write(directory.path()).is_err());
        let read = Wallet::read_all(directory.path(), "pay-").unwrap();
        assert_eq!((read.len(), read[0].owner()), (1, wallet.owner()));
        assert!(Wallet::read_all(directory.path(), "try-").unwrap().is_empty());
    }

    #[test]
    fn nobody_pays_more_than_a_coin_has() {
        let wallet = Wallet::generate("one").unwrap();
        let coin = Coin { output: OutputId::new([1; 32]), amount: Amount(10), blinding: None };
        let order = |amount| Order {
            network: NetworkId::new([1; 32]),
            to: wallet.owner(),
            amount: Amount(amount),
            path: PaymentPath::Public,
            view: ViewPublic::new([9; 32]),
            fee: Amount(1),
            tombstone: Height(5),
        };
        assert_eq!(wallet.pay(&coin, &order(8)).unwrap().payment.outputs.len(), 2);
        assert_eq!(wallet.pay(&coin, &order(9)).unwrap().payment.outputs.len(), 1);
        assert!(matches!(wallet.pay(&coin, &order(10)), Err(WalletError::TooLittle { .. })));
    }
}
