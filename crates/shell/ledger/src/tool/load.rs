//! Keeps paying through public addresses, and says at the end what became of every payment.
//!
//! A payment that was not answered is handed in again as it is, never anew: nobody can pay twice
//! in this way, whatever was lost on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use heirloom_ledger::amount::Amount;
use heirloom_ledger::output::PaymentPath;
use heirloom_ledger::transaction::{Transaction, TransactionId};
use heirloom_model::service::Height;
use heirloom_store::atomic;
use serde_json::{Value, json};

use crate::command::{End, Load};
use crate::http::message::TipMessage;
use crate::tool::node_client::{CallError, Known, NodeClient};
use crate::tool::outcome::{ToolError, done};
use crate::wallet::{Coin, Order, Wallet, WalletError};

/// How often the report is written at least.
const REPORT_EVERY: Duration = Duration::from_millis(200);
/// How long one payment may take altogether: a flag day lies in between.
const PAYMENT_TIME: Duration = Duration::from_mins(15);
/// How long to wait until all ledgers end alike.
const AGREE_TIME: Duration = Duration::from_mins(2);
/// How long to rest after an address did not answer.
const REST: Duration = Duration::from_millis(50);
/// How long one look for a receipt waits.
const RECEIPT_WAIT: Duration = Duration::from_secs(1);
/// How long the nodes may take to answer for the first time.
const START_TIME: Duration = Duration::from_mins(1);
/// Times that a receipt is asked for before the transaction is handed in again.
const RECEIPTS_MAX: usize = 3;

/// One who pays.
struct Payer {
    wallet: Wallet,
    coins: Vec<Coin>,
}

/// What happened so far.
#[derive(Default)]
struct Tally {
    submitted: u64,
    refused: u64,
    closed: u64,
    unreachable: u64,
    accepted: BTreeSet<TransactionId>,
    settled: BTreeMap<TransactionId, u64>,
    /// When payments were confirmed, and whether somebody was turned away since the one before.
    window: Window,
}

/// The longest time between two confirmed payments in which somebody was turned away.
#[derive(Default)]
struct Window {
    last: Option<(Instant, u64)>,
    turned_away: bool,
    longest: Option<(Duration, u64, u64)>,
}

impl Window {
    fn turned_away(&mut self) {
        self.turned_away = true;
    }

    fn confirmed(&mut self) {
        let now = (Instant::now(), unix_ms());
        if let (Some((at, before)), true) = (self.last, self.turned_away) {
            let gap = now.0.duration_since(at);
            if self.longest.is_none_or(|(longest, ..)| gap > longest) {
                self.longest = Some((gap, before, now.1));
            }
        }
        self.turned_away = false;
        self.last = Some(now);
    }
}

/// Everything that paying needs.
struct Run<'a> {
    edges: Vec<NodeClient>,
    known: Known,
    payers: Vec<Payer>,
    tally: Tally,
    report: &'a Path,
    end: &'a End,
    begun_at: u64,
    written: Option<Instant>,
}

/// Keeps paying.
pub fn load(asked: &Load) -> Result<(), ToolError> {
    let edges: Vec<NodeClient> = asked.edge.iter().map(|edge| NodeClient::new(edge)).collect();
    let wallets = Wallet::read_all(&asked.wallets, "pay-")?;
    if wallets.len() < 2 {
        return Err(ToolError::Usage("two wallets pay-... are needed".to_owned()));
    }
    let first = edges.first().ok_or_else(|| ToolError::Usage("no address".to_owned()))?;
    let known = first_answer(|| first.info())?;
    let payers = wallets.into_iter().map(|wallet| {
        let coins = first_answer(|| first.coins(&wallet))?;
        let coins = coins.into_iter().map(|(coin, _)| coin).collect();
        Ok(Payer { wallet, coins })
    });
    let payers = payers.collect::<Result<Vec<_>, ToolError>>()?;
    let begun_at = known.said.tip.height;
    let mut run = Run {
        edges,
        known,
        payers,
        tally: Tally::default(),
        report: &asked.report,
        end: &asked.end,
        begun_at,
        written: None,
    };
    let mut number = 0_usize;
    while !run.is_over() {
        run.pay(number)?;
        number = number.wrapping_add(1);
        std::thread::park_timeout(Duration::from_millis(asked.pause_ms));
    }
    let report = run.verify()?;
    let is_flawless = report["payments_lost"] == 0 && report["payments_doubled"] == 0;
    if !is_flawless {
        return Err(ToolError::Refused(format!("payments were lost or doubled: {report}")));
    }
    done(&report);
    Ok(())
}

fn first_answer<T>(ask: impl Fn() -> Result<T, CallError>) -> Result<T, ToolError> {
    let deadline = Instant::now() + START_TIME;
    loop {
        match ask() {
            Ok(answer) => return Ok(answer),
            Err(CallError::Closed | CallError::Busy | CallError::Unreachable(_))
                if Instant::now() < deadline =>
            {
                std::thread::park_timeout(REST);
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl Run<'_> {
    fn is_over(&self) -> bool {
        self.end.payments.is_some_and(|limit| self.tally.submitted >= limit)
            || self.end.until_file.as_ref().is_some_and(|file| file.exists())
    }

    /// One payment, to the end: public and private, to oneself and to others, in turn.
    fn pay(&mut self, number: usize) -> Result<(), ToolError> {
        let count = self.payers.len();
        let from = number.checked_rem(count).unwrap_or(0);
        let is_cross = number.checked_rem(4).is_some_and(|rest| rest >= 2);
        let to = if is_cross { from.wrapping_add(1).checked_rem(count).unwrap_or(0) } else { from };
        let path =
            if number.is_multiple_of(2) { PaymentPath::Public } else { PaymentPath::Private };
        let edge = number.checked_rem(self.edges.len()).unwrap_or(0);
        let order = Order {
            network: self.known.network,
            to: self.payers.get(to).map(|payer| payer.wallet.owner()).ok_or_else(nobody)?,
            amount: Amount(1),
            path,
            view: self.known.view,
            fee: Amount(self.known.said.minimum_fee),
            tombstone: Height(self.height().saturating_add(self.known.said.tombstone_distance_max)),
        };
        let payer = self.payers.get_mut(from).ok_or_else(nobody)?;
        if payer.coins.is_empty() {
            return Err(ToolError::Refused(format!("{} has nothing left", payer.wallet.name)));
        }
        let coin = payer.coins.remove(0);
        let transaction = match payer.wallet.pay(&coin, &order) {
            Ok(transaction) => transaction,
            // The coin is used up.
            Err(WalletError::TooLittle { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.tally.submitted = self.tally.submitted.saturating_add(1);
        if self.settle(&transaction, edge)? {
            let change = transaction.created();
            let rest = change.get(1).map(|(id, output)| (*id, output.amount()));
            if let (Some((output, amount)), Some(payer)) = (rest, self.payers.get_mut(from)) {
                payer.coins.push(Coin { output, amount, blinding: None });
            }
        }
        Ok(())
    }

    fn height(&self) -> u64 {
        let settled = self.tally.settled.values().max().copied();
        settled.unwrap_or(self.begun_at)
    }

    /// Hands a transaction in, again and again as it is, until it counts or is refused.
    fn settle(&mut self, transaction: &Transaction, first: usize) -> Result<bool, ToolError> {
        let (id, deadline) = (transaction.id(), Instant::now() + PAYMENT_TIME);
        let mut edge = first;
        while Instant::now() < deadline {
            self.write_now_and_then()?;
            let node = self.edges.get(edge).cloned().ok_or_else(nobody)?;
            match node.submit(transaction) {
                Ok(_) => {
                    self.tally.accepted.insert(id);
                    if self.await_receipt(&id, edge)? {
                        return Ok(true);
                    }
                }
                Err(CallError::Refused { .. }) => {
                    // It may have been taken before, and be in a block by now.
                    if self.await_receipt(&id, edge)? {
                        return Ok(true);
                    }
                    self.tally.refused = self.tally.refused.saturating_add(1);
                    return Ok(false);
                }
                Err(error) => self.turned_away(&error),
            }
            edge = edge.wrapping_add(1).checked_rem(self.edges.len()).unwrap_or(0);
            std::thread::park_timeout(REST);
        }
        self.tally.refused = self.tally.refused.saturating_add(1);
        Ok(false)
    }

    /// Waits for the receipt at the next address: another node says that the payment counts.
    fn await_receipt(&mut self, id: &TransactionId, submitted: usize) -> Result<bool, ToolError> {
        let mut edge = submitted;
        for _ in 0..RECEIPTS_MAX {
            edge = edge.wrapping_add(1).checked_rem(self.edges.len()).unwrap_or(0);
            let node = self.edges.get(edge).cloned().ok_or_else(nobody)?;
            match node.receipt(id, RECEIPT_WAIT) {
                Ok(receipt) => {
                    if let Some(height) = receipt.height {
                        self.tally.accepted.insert(*id);
                        self.tally.settled.insert(*id, height);
                        self.tally.window.confirmed();
                        return Ok(true);
                    }
                }
                Err(error) => {
                    self.turned_away(&error);
                    std::thread::park_timeout(REST);
                }
            }
            self.write_now_and_then()?;
        }
        Ok(false)
    }

    fn turned_away(&mut self, error: &CallError) {
        let tally = &mut self.tally;
        match error {
            CallError::Closed | CallError::Busy => tally.closed = tally.closed.saturating_add(1),
            CallError::Malformed(_) | CallError::Refused { .. } | CallError::Unreachable(_) => {
                tally.unreachable = tally.unreachable.saturating_add(1);
            }
        }
        tally.window.turned_away();
    }

    fn write_now_and_then(&mut self) -> Result<(), ToolError> {
        if self.written.is_some_and(|written| written.elapsed() < REPORT_EVERY) {
            return Ok(());
        }
        self.written = Some(Instant::now());
        self.write(&self.describe(None))
    }

    fn write(&self, report: &Value) -> Result<(), ToolError> {
        let text = format!("{report:#}\n");
        Ok(atomic::write(self.report, text.as_bytes()).map_err(WalletError::from)?)
    }

    fn describe(&self, verified: Option<&Verified>) -> Value {
        let tally = &self.tally;
        let (gap, before, after) = match tally.window.longest {
            Some((gap, before, after)) => (Some(ms(gap)), Some(before), Some(after)),
            None => (None, None, None),
        };
        json!({
            "schema": "heirloom.ledger-load.v1",
            "verified": verified.is_some(),
            "payments_submitted": tally.submitted,
            "payments_accepted": tally.accepted.len(),
            "payments_confirmed": tally.settled.len(),
            "payments_refused": tally.refused,
            "payments_lost": verified.map(|verified| verified.lost),
            "payments_doubled": verified.map(|verified| verified.doubled),
            "refused_while_closed": tally.closed,
            "unreachable": tally.unreachable,
            "closed_window_ms": gap,
            "last_before_ms": before,
            "first_after_ms": after,
            "tips": verified.map(|verified| {
                let tips = verified.tips.iter();
                tips.map(|tip| json!({ "height": tip.height, "id": tip.id })).collect::<Vec<_>>()
            }),
        })
    }

    /// Looks in the ledger of every node for every payment that was taken.
    fn verify(&mut self) -> Result<Value, ToolError> {
        let tips = self.agree()?;
        let (mut lost, mut doubled) = (BTreeSet::new(), BTreeSet::new());
        for (edge, tip) in self.edges.iter().zip(&tips) {
            let mut count: BTreeMap<TransactionId, u64> = BTreeMap::new();
            for height in self.begun_at.saturating_add(1)..=tip.height {
                let block = first_answer(|| edge.block(height))?;
                for id in block.transactions {
                    if let Ok(id) = id.parse::<TransactionId>() {
                        let count = count.entry(id).or_default();
                        *count = count.saturating_add(1);
                    }
                }
            }
            for id in &self.tally.accepted {
                match count.get(id) {
                    None => drop(lost.insert(*id)),
                    Some(1) => {}
                    Some(_) => drop(doubled.insert(*id)),
                }
            }
        }
        let verified = Verified { lost: lost.len(), doubled: doubled.len(), tips };
        let report = self.describe(Some(&verified));
        self.write(&report)?;
        Ok(report)
    }

    /// Waits until all ledgers end alike.
    fn agree(&self) -> Result<Vec<TipMessage>, ToolError> {
        let deadline = Instant::now() + AGREE_TIME;
        loop {
            let tips = self.edges.iter().map(|edge| first_answer(|| edge.tip()));
            let tips = tips.collect::<Result<Vec<_>, _>>()?;
            let is_one = tips.windows(2).all(|pair| matches!(pair, [one, other] if one == other));
            if is_one {
                return Ok(tips);
            }
            if Instant::now() > deadline {
                return Err(ToolError::Refused(format!("ledgers do not end alike: {tips:?}")));
            }
            std::thread::park_timeout(REST);
        }
    }
}

/// What was found in the ledgers.
struct Verified {
    lost: usize,
    doubled: usize,
    tips: Vec<TipMessage>,
}

fn nobody() -> ToolError {
    ToolError::Usage("there is nobody to pay".to_owned())
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_closed_only_when_somebody_was_turned_away() {
        let mut window = Window::default();
        window.confirmed();
        window.confirmed();
        assert!(window.longest.is_none());
        window.turned_away();
        window.confirmed();
        let (gap, before, after) = window.longest.unwrap();
        assert!(gap <= Duration::from_mins(1) && before <= after);
        assert!(!window.turned_away);
    }
}
