//! `heirloom generation`: genesis and rotation.

use std::path::PathBuf;

use heirloom_model::counter::{Epoch, Generation};
use heirloom_model::digest::Nonce;
use heirloom_model::domain::GenerationOrder;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;
use serde_json::json;

use crate::code::Code;
use crate::command::publish;
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, LogArgs};
use crate::output::Report;
use crate::statement::{self, SignArgs};
use crate::{file, key};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Order one node to create the next generation of a domain's keyring
    ///
    /// Generation 0 is genesis: it makes the domain's first key, and nothing else ever does.
    Order(Order),
    /// Add a signature to an order
    Sign(SignArgs),
    /// Publish an order
    Publish(publish::Args),
}

/// What to order.
#[derive(Debug, clap::Args)]
pub(crate) struct Order {
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    /// Who creates the generation
    #[arg(long, value_name = "NODE")]
    node: NodeId,
    /// Make the domain's very first key
    #[arg(long)]
    genesis: bool,
    /// For how many epochs from now the order can be carried out
    #[arg(long, value_name = "N", default_value_t = 10)]
    epochs: u64,
    /// Operator's key file; repeat it to sign with several keys
    #[arg(long = "key", value_name = "FILE", required = true)]
    keys: Vec<PathBuf>,
    /// Write a statement file, for others to sign, instead of publishing
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command, context: Context) -> Result<Report, Diagnostic> {
    match command {
        Command::Order(args) => order(args, context),
        Command::Sign(args) => statement::sign::<GenerationOrder>(args, |path| {
            let message = format!("{} is not a generation order", path.display());
            Err(Diagnostic::new(Code::StatementMalformed, message)
                .hint("make one with `heirloom generation order --out FILE`"))
        }),
        Command::Publish(args) => publish::run(args, StatementKind::GenerationOrder),
    }
}

fn order(args: &Order, context: Context) -> Result<Report, Diagnostic> {
    let keys = key::read_all(&args.keys)?;
    let access = if args.out.is_some() { Access::Read } else { Access::Append };
    let mut ledger = args.log.open(access)?;
    let domain = ledger.domain(args.domain)?;
    let generation = next(&ledger, &domain, args.genesis)?;
    if generation == Generation(0) {
        let what = format!("This makes the very first key of domain {domain}.");
        context.confirm(&what, "genesis")?;
    }
    let mut nonce = [0; 32];
    key::random(&mut nonce);
    let order = GenerationOrder {
        network: ledger.state.network(),
        domain,
        generation,
        node: args.node.clone(),
        not_after: Epoch(ledger.state.epoch().0.saturating_add(args.epochs)),
        nonce: Nonce::new(nonce),
    };
    let envelope = Envelope::signed(&order, &keys);
    if let Some(out) = &args.out {
        file::create(out, &wire::encode(&envelope))?;
        return statement::signed(&envelope, out);
    }
    let at = ledger.append(&envelope)?;
    let node = &args.node;
    let text = format!("generation {generation} ordered from {node}, log entry {at}\n");
    let json = json!({
        "domain": domain.to_string(),
        "generation": generation.0,
        "node": node.to_string(),
        "nonce": order.nonce.to_string(),
        "index": at.0,
    });
    Ok(Report::new("generation.order", json, text))
}

/// The next generation. Genesis is said aloud, and never by mistake.
fn next(
    ledger: &crate::ledger::Ledger,
    domain: &DomainId,
    genesis: bool,
) -> Result<Generation, Diagnostic> {
    let committed = ledger.state.domain(domain).and_then(|known| known.committed());
    match (committed, genesis) {
        (None, true) => Ok(Generation(0)),
        (None, false) => {
            let message = "the domain has no key yet: this would make its very first one";
            Err(Diagnostic::new(Code::GenerationGenesis, message)
                .hint("say --genesis if that is what you want"))
        }
        (Some(committed), true) => {
            let message = format!(
                "the domain has generation {} already: genesis is over",
                committed.generation
            );
            Err(Diagnostic::new(Code::GenerationGenesis, message)
                .hint("leave --genesis out to rotate"))
        }
        (Some(committed), false) => committed
            .generation
            .next()
            .ok_or_else(|| Diagnostic::new(Code::InputValue, "no generation is left")),
    }
}
