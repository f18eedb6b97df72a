//! The command line as it is written. The comments here are the help.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::command;
use crate::output::Color;

/// Keeps key material alive through every change of the thing that holds it.
///
/// Offline first: whatever needs no running service works on files. Data goes to standard output,
/// everything else to standard error. Exit codes: 0 done, 1 failed or wrong input, 2 usage,
/// 3 refused, 4 incomplete (safe to run again), 5 corrupt durable data, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "heirloom", version, propagate_version = true, disable_help_subcommand = true)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(flatten)]
    pub(crate) measured: Measured,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  heirloom init net --anchor anchor.der
  heirloom registry serve --network net/network.toml --log net/registry.log
  heirloom policy sign policy.toml --key policy-1.key --out policy
  heirloom upgrade start --to keeper-2.0.0 --key operator-1.key
  heirloom plan approve --plan DIGEST --key operator-2.key
  heirloom upgrade watch
  heirloom custody show";

/// What every command understands.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Global {
    /// Write JSON: one object, or one object per line for streams
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Never ask anything
    #[arg(long, global = true)]
    pub(crate) no_input: bool,
}

/// What a platform says to the code that it launches, in front of everything else. People never
/// write it.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Measured {
    /// Socket of the platform that launched this process.
    #[arg(long, hide = true)]
    pub(crate) platform: Option<PathBuf>,
    /// Where the platform left the manifest; the platform is asked instead.
    #[arg(long, hide = true)]
    pub(crate) manifest_fd: Option<i32>,
}

/// Nouns.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a network: keys, first root, log, in a new directory
    Init(command::init::Args),
    /// Keys that sign statements
    #[command(subcommand)]
    Signer(command::signer::Command),
    /// Who may sign what
    #[command(subcommand)]
    Root(command::root::Command),
    /// Which nodes exist
    #[command(subcommand)]
    Fleet(command::fleet::Command),
    /// Measured code
    #[command(subcommand)]
    Release(command::release::Command),
    /// Which code may hold keys, give them to whom, and serve whom
    #[command(subcommand)]
    Policy(command::policy::Command),
    /// The network's clock
    #[command(subcommand)]
    Epoch(command::epoch::Command),
    /// What manufacturers say about platforms
    #[command(subcommand)]
    Endorsements(command::endorsements::Command),
    /// Generations of a domain's keyring
    #[command(subcommand)]
    Generation(command::generation::Command),
    /// What will be done, by whom, behind which gates
    #[command(subcommand)]
    Plan(command::plan::Command),
    /// A plan under way
    #[command(subcommand)]
    Upgrade(command::upgrade::Command),
    /// One node
    #[command(subcommand)]
    Node(command::node::Command),
    /// Machines, the seats on them, and procedures that concern one of them
    #[command(subcommand)]
    Host(command::host::Command),
    /// What one agent has done
    #[command(subcommand)]
    Journal(command::journal::Command),
    /// Who holds which keyring, and who has proven it
    #[command(subcommand)]
    Custody(command::custody::Command),
    /// What attesters say about themselves
    #[command(subcommand)]
    Evidence(command::evidence::Command),
    /// The log of signed statements
    #[command(subcommand)]
    Registry(command::registry::Command),
    /// The agent of one node
    #[command(subcommand)]
    Agent(command::agent::Command),
    /// Ledger participants that move to another key store
    #[command(subcommand)]
    Participant(command::participant::Command),
    /// Key stores of ledger participants
    #[command(subcommand)]
    Custodian(command::custodian::Command),
    /// The reference ledger: a service whose nodes accept only their own kind
    Ledger(command::ledger::Args),
    /// Keys of applications
    #[command(subcommand)]
    Key(command::key::Command),
    /// Write a completion script for a shell
    Completions(command::manual::CompletionsArgs),
    /// Write a manual page
    Man(command::manual::ManArgs),
    /// Write a page of the reference
    #[command(hide = true)]
    Reference(command::manual::ReferenceArgs),
}
