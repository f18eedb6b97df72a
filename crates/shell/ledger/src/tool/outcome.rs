//! Lines on standard output, and how a tool ends.

use std::io::Write;

use heirloom_ledger_store::error::{JobError, LedgerError, OpenError};
use heirloom_model::causes::with_causes;
use heirloom_store::error::StoreError;
use serde_json::{Value, json};

use crate::configuration::ConfigurationError;
use crate::raft::votes::VotesError;
use crate::run::RunError;
use crate::tool::node_client::CallError;
use crate::wallet::WalletError;

/// How a program ends that does not do what it should. The numbers are the agent's to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum Ending {
    /// It was asked in a wrong way.
    Usage = 2,
    /// It must not do it, or found something else than was expected.
    Refused = 3,
    /// What is there is not what was written.
    Corrupt = 4,
    /// No space is left.
    Full = 5,
    /// What is needed is not there.
    Missing = 6,
    /// It may go well another time.
    TryAgain = 75,
}

/// Why a program does not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A change of a whole ledger did not happen.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A ledger was not opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A configuration cannot be used.
    #[error(transparent)]
    Configuration(#[from] ConfigurationError),
    /// A wallet cannot be used.
    #[error(transparent)]
    Wallet(#[from] WalletError),
    /// A node did not answer as it should.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A node does not start.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Something was expected and is otherwise.
    #[error("{0}")]
    Refused(String),
    /// The request makes no sense.
    #[error("{0}")]
    Usage(String),
    /// It may go well another time.
    #[error("{0}")]
    TryAgain(String),
}

impl ToolError {
    /// How the program ends.
    pub fn ending(&self) -> Ending {
        match self {
            Self::Job(error) => of_job(error),
            Self::Open(error) | Self::Run(RunError::Open(error)) => of_open(error),
            Self::Ledger(error) | Self::Run(RunError::Ledger(error)) => of_ledger(error),
            Self::Call(error) => match error {
                CallError::Refused { .. } | CallError::Malformed(_) => Ending::Refused,
                CallError::Busy | CallError::Closed | CallError::Unreachable(_) => Ending::TryAgain,
            },
            Self::Run(RunError::OtherTip { .. }) | Self::Refused(_) => Ending::Refused,
            Self::Run(RunError::Votes(VotesError::Corrupt { .. })) => Ending::Corrupt,
            Self::Run(RunError::Votes(VotesError::Missing { .. }))
            | Self::Configuration(ConfigurationError::Read(StoreError::Missing { .. })) => {
                Ending::Missing
            }
            Self::Configuration(_) | Self::Run(RunError::Peers(_)) | Self::Usage(_) => {
                Ending::Usage
            }
            Self::Wallet(_) => Ending::Missing,
            Self::Run(_) | Self::TryAgain(_) => Ending::TryAgain,
        }
    }
}

fn of_job(error: &JobError) -> Ending {
    match error {
        JobError::Missing { .. } => Ending::Missing,
        JobError::Corrupt { .. } => Ending::Corrupt,
        JobError::NoWay(_) | JobError::OtherTip { .. } | JobError::Refused { .. } => {
            Ending::Refused
        }
        JobError::Full { .. } => Ending::Full,
        JobError::Held { .. } | JobError::Io { .. } => Ending::TryAgain,
    }
}

fn of_open(error: &OpenError) -> Ending {
    match error {
        OpenError::Missing { .. } => Ending::Missing,
        OpenError::Configuration(_) | OpenError::Exists { .. } | OpenError::WrongSchema { .. } => {
            Ending::Refused
        }
        OpenError::Held { .. } => Ending::TryAgain,
        OpenError::Ledger(error) => of_ledger(error),
    }
}

fn of_ledger(error: &LedgerError) -> Ending {
    match error {
        LedgerError::Corrupt { .. } => Ending::Corrupt,
        LedgerError::Full { .. } => Ending::Full,
        LedgerError::Metadata(_)
        | LedgerError::NotInSchema { .. }
        | LedgerError::NotNext { .. }
        | LedgerError::OtherState { .. } => Ending::Refused,
        LedgerError::Io { .. } => Ending::TryAgain,
    }
}

/// Writes one line for programs.
pub fn line(value: &Value) {
    let mut out = std::io::stdout().lock();
    // Whoever closed standard output does not want to hear it.
    writeln!(out, "{value}").and_then(|()| out.flush()).ok();
}

/// Writes the last line of a tool that has done what it should.
pub fn done(value: &Value) {
    line(&json!({ "done": value }));
}

/// Says on standard error why a program ends.
pub fn failed(error: &ToolError) {
    crate::log::event("failed", with_causes(error));
}
