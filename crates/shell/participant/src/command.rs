//! The command line. Its doc comments are its help.

use std::path::PathBuf;

/// A reference participant, its synchronizer, and clients for demonstrations.
#[derive(Debug, clap::Parser)]
#[command(name = "heirloom-participant", version)]
pub struct Command {
    /// Say the outcome as one JSON object on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Serve one participant until SIGTERM.
    Serve(Serve),
    /// Serve the synchronizer until SIGTERM.
    Synchronizer(Serve),
    /// Register a synchronizer with a participant, and connect for the first time.
    Connect(Connect),
    /// Fill a participant with contracts that refer to each other.
    Load(Load),
    /// Create one contract and archive it again.
    Transact(Transact),
    /// Count the active contracts, and hash their blobs.
    Contracts(Ledger),
}

/// What a process is told.
#[derive(Clone, Debug, clap::Args)]
pub struct Serve {
    /// The configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Which synchronizer to connect to.
#[derive(Clone, Debug, clap::Args)]
pub struct Connect {
    /// The participant's admin API, such as `http://127.0.0.1:5002`.
    #[arg(long, value_name = "URL")]
    pub admin: String,
    /// The synchronizer, such as `http://127.0.0.1:5100`.
    #[arg(long, value_name = "URL")]
    pub synchronizer: String,
    /// What the participant calls it.
    #[arg(long, value_name = "NAME", default_value = "global")]
    pub alias: String,
}

/// What to load.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// The participant's admin API.
    #[arg(long, value_name = "URL")]
    pub admin: String,
    /// The participant's Ledger API.
    #[arg(long, value_name = "URL")]
    pub ledger: String,
    /// How many contracts there are afterwards. Running it again makes what is missing.
    #[arg(long, value_name = "NUMBER")]
    pub contracts: usize,
    /// Files of packages to upload too.
    #[arg(long, value_name = "FILE")]
    pub dar: Vec<PathBuf>,
    /// The parties; those that are missing are allocated.
    #[arg(long, value_name = "NAME", value_delimiter = ',', default_value = "alice,bob,carol")]
    pub parties: Vec<String>,
    /// Contracts in one transaction.
    #[arg(long, value_name = "NUMBER", default_value_t = 250)]
    pub batch: usize,
    /// A party of another participant that owns what is missing. Such contracts refer only to
    /// each other: the other participant has no copy of the rest.
    #[arg(long, value_name = "PARTY")]
    pub owner: Option<String>,
}

/// With whom to transact.
#[derive(Clone, Debug, clap::Args)]
pub struct Transact {
    /// The participant's Ledger API.
    #[arg(long, value_name = "URL")]
    pub ledger: String,
    /// The party that owns the contract, maybe of another participant; by default one of this one.
    #[arg(long, value_name = "PARTY")]
    pub owner: Option<String>,
}

/// Where to look.
#[derive(Clone, Debug, clap::Args)]
pub struct Ledger {
    /// The participant's Ledger API.
    #[arg(long, value_name = "URL")]
    pub ledger: String,
}
