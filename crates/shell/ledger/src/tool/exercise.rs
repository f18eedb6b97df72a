//! Tries a node through its side door: each test by its name.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use heirloom_ledger::amount::Amount;
use heirloom_ledger::output::{OutputId, PaymentPath};
use heirloom_ledger::transaction::Transaction;
use heirloom_model::evidence::Evidence;
use heirloom_model::identifier::{NodeId, TestName};
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_model::service::Height;
use heirloom_model::signature::PublicKey;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_registry::port::LogStore;
use heirloom_registry_shell::client::RegistryClient;
use serde_json::json;

use crate::command::Exercise;
use crate::configuration;
use crate::http::clients::evidence_for_clients;
use crate::tool::node_client::{CallError, Known, NodeClient};
use crate::tool::outcome::{ToolError, done, line};
use crate::wallet::{Coin, Order, Wallet, any};

/// How long one test may take.
const TEST_TIME: Duration = Duration::from_secs(30);
/// What is paid each time.
const PAID: Amount = Amount(1);
/// What a coin has at least that a test spends: what tests paid before is left alone.
const ENOUGH: u64 = 1_000;
/// How often another coin is tried when somebody else spends the same.
const TRIES_MAX: usize = 16;
/// Batches of log entries that are read.
const BATCHES_MAX: usize = 100_000;

/// The tests that there are.
pub const TESTS: [&str; 7] = [
    "cross-private",
    "cross-public",
    "double-spend-refused",
    "expired-tombstone-refused",
    "old-output-spendable",
    "self-private",
    "self-public",
];

/// Who tries what.
struct Trial {
    node: NodeClient,
    known: Known,
    wallets: Vec<Wallet>,
    /// Where the ledger ended when the node loaded it.
    loaded: Height,
}

/// Tries a node through its side door.
pub fn exercise(asked: &Exercise) -> Result<(), ToolError> {
    let unknown = |test: &&TestName| !TESTS.contains(&test.as_str());
    if let Some(test) = asked.test.iter().find(unknown) {
        return Err(ToolError::Refused(format!("there is no test {test}: there are {TESTS:?}")));
    }
    let file = configuration::read_file(&asked.configuration)?;
    let beside = asked.configuration.parent().map(PathBuf::from).unwrap_or_default();
    let named = file.wallets.as_ref().map(|wallets| beside.join(wallets));
    let directory = asked.wallets.clone().or(named);
    let directory = directory.ok_or_else(|| {
        ToolError::Usage("neither an argument nor the configuration names wallets".to_owned())
    })?;
    let node = NodeClient::new(&asked.door);
    let known = node.info()?;
    let digest = file.to_configuration()?.digest().to_string();
    if known.said.configuration != digest {
        return Err(ToolError::Refused("the node has another configuration".to_owned()));
    }
    expect_attested(asked, &known)?;
    let loaded = node.admin()?["loaded"]["height"].as_u64().unwrap_or(0);
    let wallets = Wallet::read_all(&directory, "try-")?;
    if wallets.len() < 2 {
        return Err(ToolError::Usage("two wallets try-... are needed".to_owned()));
    }
    let trial = Trial { node, known, wallets, loaded: Height(loaded) };
    for test in &asked.test {
        let begun = Instant::now();
        trial.run(test.as_str())?;
        let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        line(&json!({ "test": test.as_str(), "ok": true, "ms": ms }));
    }
    let names: Vec<&str> = asked.test.iter().map(TestName::as_str).collect();
    done(&json!({ "tests": names }));
    Ok(())
}

/// The node's evidence names its keys, and the policy in force names its code.
fn expect_attested(asked: &Exercise, known: &Known) -> Result<(), ToolError> {
    let refused = |reason: &str| ToolError::Refused(reason.to_owned());
    if known.network != asked.network {
        return Err(refused("the node belongs to another network"));
    }
    let registry = RegistryClient::new(&asked.registry);
    let mut network = NetworkState::new(asked.network);
    for _ in 0..BATCHES_MAX {
        let from = network.position().length;
        let entries = registry.read(from, LOG_ENTRIES_MAX);
        let entries = entries.map_err(|error| ToolError::TryAgain(error.to_string()))?;
        if entries.is_empty() {
            break;
        }
        for entry in entries {
            let applied = network.apply(&entry);
            drop(applied.map_err(|error| ToolError::Refused(error.to_string()))?);
        }
    }
    let node: NodeId = known.said.node.parse().map_err(|_| refused("the node's name is none"))?;
    let evidence = hex::decode(&known.said.evidence).ok();
    let evidence = evidence.and_then(|bytes| wire::decode::<Evidence>(&bytes).ok());
    let evidence = evidence.ok_or_else(|| refused("the node shows no evidence"))?;
    let data =
        evidence_for_clients(&known.network, &node, &known.instance, &known.view, &known.door);
    let result = network.appraise_in(&asked.domain, &evidence, &data);
    let result = result.map_err(|error| ToolError::Refused(error.to_string()))?;
    if result.measurement().to_string() != known.said.measurement {
        return Err(refused("the node's evidence names other code than it says"));
    }
    let policy = network.policy(&asked.domain).ok_or_else(|| refused("there is no policy"))?;
    let measurement = result.measurement();
    if !policy.applications.iter().any(|rule| rule.measurement == measurement) {
        return Err(refused("the policy in force does not name the node's code"));
    }
    Ok(())
}

impl Trial {
    fn run(&self, test: &str) -> Result<(), ToolError> {
        let (Some(one), Some(other)) = self.pair() else {
            return Err(ToolError::Usage("two wallets are needed".to_owned()));
        };
        match test {
            "self-public" => self.pay_and_find(one, one, PaymentPath::Public),
            "self-private" => self.pay_and_find(one, one, PaymentPath::Private),
            "cross-public" => self.pay_and_find(one, other, PaymentPath::Public),
            "cross-private" => self.pay_and_find(one, other, PaymentPath::Private),
            "double-spend-refused" => self.double_spend(one, other),
            "expired-tombstone-refused" => self.expired(one, other),
            "old-output-spendable" => self
                .pay(one, other.owner(), PaymentPath::Public, |height| height <= self.loaded)
                .map(drop),
            _ => Err(ToolError::Refused(format!("there is no test {test}"))),
        }
    }

    /// Two different wallets, at random: nodes that are tried at the same time take others.
    fn pair(&self) -> (Option<&Wallet>, Option<&Wallet>) {
        let one = any(&self.wallets);
        let other = self.wallets.iter().find(|it| one.is_none_or(|one| one.owner() != it.owner()));
        (one, other)
    }

    fn order(&self, to: PublicKey, path: PaymentPath, tombstone: Height) -> Order {
        Order {
            network: self.known.network,
            to,
            amount: PAID,
            path,
            view: self.known.view,
            fee: Amount(self.known.said.minimum_fee),
            tombstone,
        }
    }

    fn tombstone(&self) -> Result<Height, ToolError> {
        let distance = self.known.said.tombstone_distance_max.min(100);
        Ok(Height(self.node.tip()?.height.saturating_add(distance)))
    }

    /// A coin of a wallet, at random, that is surely enough for a payment and its fee.
    fn coin(&self, from: &Wallet, takes: impl Fn(Height) -> bool) -> Result<Coin, ToolError> {
        let needed = PAID.0.saturating_add(self.known.said.minimum_fee).max(ENOUGH);
        let coins = self.node.coins(from)?.into_iter();
        let coins: Vec<Coin> = coins
            .filter(|(coin, height)| takes(*height) && coin.amount.0 >= needed)
            .map(|(coin, _)| coin)
            .collect();
        any(&coins).copied().ok_or_else(|| {
            ToolError::Refused(format!("{} has nothing that this test can spend", from.name))
        })
    }

    /// Pays, and waits until the payment counts. Coins that somebody else spends are left alone.
    fn pay(
        &self,
        from: &Wallet,
        to: PublicKey,
        path: PaymentPath,
        takes: impl Fn(Height) -> bool,
    ) -> Result<Transaction, ToolError> {
        for _ in 0..TRIES_MAX {
            let coin = self.coin(from, &takes)?;
            let transaction = from.pay(&coin, &self.order(to, path, self.tombstone()?))?;
            match self.node.submit(&transaction) {
                Ok(_) => {}
                Err(CallError::Refused { error, .. }) if error == "spent" => continue,
                Err(error) => return Err(error.into()),
            }
            if self.settles(&transaction)? {
                return Ok(transaction);
            }
        }
        Err(ToolError::TryAgain("every coin that was tried was spent by somebody else".to_owned()))
    }

    /// Waits until a transaction counts; says whether it still can.
    fn settles(&self, transaction: &Transaction) -> Result<bool, ToolError> {
        let (id, deadline) = (transaction.id(), Instant::now() + TEST_TIME);
        while Instant::now() < deadline {
            let receipt = self.node.receipt(&id, Duration::from_secs(1))?;
            match receipt.status.as_str() {
                "settled" => return Ok(true),
                "unknown" => return Ok(false),
                _ => {}
            }
        }
        // It still can be: a network that is busy or has no leader is no reason to call a plan off.
        Err(ToolError::TryAgain(format!("transaction {id} was taken and is in no block yet")))
    }

    fn pay_and_find(&self, from: &Wallet, to: &Wallet, path: PaymentPath) -> Result<(), ToolError> {
        let paid = OutputId::of(&self.pay(from, to.owner(), path, |_| true)?.id(), 0);
        let is_found = match path {
            PaymentPath::Public => self.node.coins(to)?.iter().any(|(coin, _)| coin.output == paid),
            PaymentPath::Private => {
                let found = self.node.private_coins(to, &self.known)?;
                found.iter().any(|found| found.output == paid && found.amount == PAID)
            }
        };
        if is_found {
            return Ok(());
        }
        Err(ToolError::Refused(format!("{} was paid and does not find it", to.name)))
    }

    fn double_spend(&self, from: &Wallet, to: &Wallet) -> Result<(), ToolError> {
        let first = self.pay(from, to.owner(), PaymentPath::Public, |_| true)?;
        let spent = first.payment.inputs.first().map(|input| input.output);
        let output = spent.ok_or_else(|| ToolError::Refused("nothing was spent".to_owned()))?;
        let made = first.payment.outputs.iter().map(|output| output.amount().0);
        let amount = Amount(made.sum::<u64>().saturating_add(first.payment.fee.0));
        let coin = Coin { output, amount, blinding: None };
        let order = self.order(to.owner(), PaymentPath::Public, self.tombstone()?);
        let again = from.pay(&coin, &order)?;
        expect_refused(self.node.submit(&again), "spent")
    }

    fn expired(&self, from: &Wallet, to: &Wallet) -> Result<(), ToolError> {
        let coin = self.coin(from, |_| true)?;
        // The last block in which it counts is there already.
        let past = Height(self.node.tip()?.height);
        let late = from.pay(&coin, &self.order(to.owner(), PaymentPath::Public, past))?;
        expect_refused(self.node.submit(&late), "invalid")
    }
}

fn expect_refused<T>(answer: Result<T, CallError>, expected: &str) -> Result<(), ToolError> {
    match answer {
        Err(CallError::Refused { error, .. }) if error == expected => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(ToolError::Refused(format!("a transaction was taken that is {expected}"))),
    }
}
