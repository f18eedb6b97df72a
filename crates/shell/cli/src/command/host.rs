//! `heirloom host`: machines, the seats on them, and procedures that concern one of them.

use std::path::PathBuf;

use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_upgrade::planner::{Arrangement, PlanRequest};

use crate::command::{host_show, plan_make};
use crate::diagnostic::Diagnostic;
use crate::key;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::Report;

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List nodes with their hosts, and what runs on them as far as the log shows
    List(host_show::List),
    /// Show the seats of one node: old, upgrader, new, and what each is doing
    ///
    /// Without `--agent` it shows what the log says. With it, also what runs there now, what is
    /// staged, and what the agent waits for.
    Show(host_show::Show),
    /// Plan to seal everything on a node again, after a microcode or firmware update
    Reseal(Reseal),
    /// Plan to move a keyring to the same release on another node
    Move(Move),
}

/// Who proposes the plan, and for how long it may run.
#[derive(Debug, clap::Args)]
struct Proposer {
    /// Operator's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Write the plan to a file too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    /// Release that runs, by name or digest; by default the one that holds
    #[arg(long, value_name = "RELEASE")]
    release: Option<String>,
    /// For how many epochs from now steps may start
    #[arg(long, value_name = "N", default_value_t = 1000)]
    epochs: u64,
    #[command(flatten)]
    log: LogArgs,
}

/// What to seal again.
#[derive(Debug, clap::Args)]
pub(crate) struct Reseal {
    /// The node
    #[arg(long, value_name = "NODE")]
    node: NodeId,
    #[command(flatten)]
    proposer: Proposer,
}

/// What to move, and where to.
#[derive(Debug, clap::Args)]
pub(crate) struct Move {
    /// The node that holds
    #[arg(long, value_name = "NODE")]
    from: NodeId,
    /// The node that shall hold, on another host
    #[arg(long, value_name = "NODE")]
    to: NodeId,
    #[command(flatten)]
    proposer: Proposer,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    match command {
        Command::List(args) => host_show::list(args),
        Command::Show(args) => host_show::show(args),
        Command::Reseal(args) => {
            let arrangement = Arrangement::Reseal { node: args.node.clone() };
            start(&args.proposer, &args.node, arrangement)
        }
        Command::Move(args) => {
            let (from_node, to_node) = (args.from.clone(), args.to.clone());
            start(&args.proposer, &args.from, Arrangement::Move { from_node, to_node })
        }
    }
}

/// Plans around the release that runs on a node, and proposes the plan.
fn start(
    proposer: &Proposer,
    node: &NodeId,
    arrangement: Arrangement,
) -> Result<Report, Diagnostic> {
    let key = key::read(&proposer.key)?;
    let mut ledger = proposer.log.open(Access::Append)?;
    let request = request(proposer, node, arrangement, &ledger)?;
    plan_make::start(&request, &mut ledger, &key, proposer.out.as_deref())
}

fn request(
    proposer: &Proposer,
    node: &NodeId,
    arrangement: Arrangement,
    ledger: &Ledger,
) -> Result<PlanRequest, Diagnostic> {
    let domain = ledger.domain(proposer.domain)?;
    let state = &ledger.state;
    let release = match &proposer.release {
        Some(release) => plan_make::release(release, state)?,
        None => plan_make::running(&domain, [node], state)?,
    };
    Ok(PlanRequest {
        domain,
        from: release,
        to: release,
        not_after: plan_make::last_epoch(state, proposer.epochs),
        nonce: plan_make::nonce(),
        arrangement,
    })
}
