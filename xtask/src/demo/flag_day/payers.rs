//! Clients that keep paying through the proxies, and what became of every payment.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::lab::service::PROGRAM;
use crate::lab::{Lab, SharedLab, until, write};

/// How long a few payments may take.
const PAY_TIMEOUT: Duration = Duration::from_mins(3);
/// How long the last look at all ledgers may take.
const VERIFY_TIMEOUT: Duration = Duration::from_mins(3);
const REPORT: &str = "payments.json";
const END: &str = "payments.end";

/// Clients under way.
pub(super) struct Payers {
    lab: SharedLab,
}

impl Payers {
    /// Starts a program that pays through every node's proxy.
    pub(super) fn start(lab: &SharedLab) -> Result<Self> {
        let mut words: Vec<String> =
            ["load", "--wallets", "ledger/wallets", "--report", REPORT].map(str::to_owned).to_vec();
        words.extend(["--until-file".to_owned(), END.to_owned()]);
        for node in &lab.nodes {
            let edge = format!("http://127.0.0.1:{}", node.service.edge);
            words.extend(["--edge".to_owned(), edge]);
        }
        lab.start("payers", lab.program(PROGRAM).args(words))?;
        Ok(Self { lab: lab.clone() })
    }

    fn accepted(&self) -> u64 {
        let report = read(&self.lab).ok();
        let number = report.and_then(|report| report.get("payments_accepted")?.as_u64());
        number.unwrap_or(0)
    }

    /// Waits until so many payments were accepted.
    pub(super) fn await_some(&self, count: u64) -> Result<()> {
        until("payments", PAY_TIMEOUT, || self.accepted() >= count)
    }

    /// Waits until so many more payments were accepted.
    pub(super) fn await_more(&self, count: u64) -> Result<()> {
        let before = self.accepted();
        self.await_some(before.saturating_add(count))
    }

    /// Ends the clients; they look for every payment in every ledger before they are gone.
    pub(super) fn finish(self) -> Result<Value> {
        let lab = &*self.lab;
        write(&lab.path(END), "")?;
        let verified = || {
            read(lab)
                .is_ok_and(|report| report.get("verified").and_then(Value::as_bool) == Some(true))
        };
        until("the last look at every payment", VERIFY_TIMEOUT, verified)?;
        read(lab)
    }
}

fn read(lab: &Lab) -> Result<Value> {
    let bytes = std::fs::read(lab.path(REPORT)).context("the clients have said nothing yet")?;
    Ok(serde_json::from_slice(&bytes)?)
}
