//! `heirloom plan create`: plan, let the checker look at it, write it down.

use std::path::PathBuf;

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::wire;
use heirloom_registry::activity::Activity;
use heirloom_registry::domain::DomainState;
use heirloom_upgrade::planner::{Arrangement, PlanRequest, WaveSize};

use crate::code::Code;
use crate::command::plan_make;
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::{self, Report};
use crate::{file, key};

/// What to plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Wish {
    /// How to arrange the steps: `rolling` or `handover`
    #[arg(long, value_enum, default_value = "rolling")]
    strategy: Strategy,
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    /// Release that runs now, by name or digest; by default the one that holds
    #[arg(long, value_name = "RELEASE")]
    from: Option<String>,
    /// Release that shall run, by name or digest
    #[arg(long, value_name = "RELEASE")]
    to: String,
    /// Handover: the node; by default the active one, or the only one
    #[arg(long, value_name = "NODE")]
    node: Option<NodeId>,
    /// Handover: the upgrader's release, by name or digest
    #[arg(long, value_name = "RELEASE", required_if_eq("strategy", "handover"))]
    via: Option<String>,
    /// Serial of the policy that completes the plan: rolling always has one, by default the next;
    /// a handover only if it is given
    #[arg(long, value_name = "SERIAL")]
    withdraw: Option<Serial>,
    /// Rolling: how many nodes change together, at most: `half`, `one`, or a number; by default
    /// `half`
    #[arg(long, value_name = "SIZE", value_parser = wave_size)]
    wave_size: Option<WaveSize>,
    /// Rolling: after the first wave nothing goes on before this epoch
    #[arg(long, value_name = "EPOCH")]
    upgrade_epoch: Option<Epoch>,
    /// For how many epochs from now steps may start
    #[arg(long, value_name = "N", default_value_t = 1000)]
    epochs: u64,
}

/// How to arrange the steps.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
enum Strategy {
    /// Many replicas, one wave after the other
    Rolling,
    /// One node, from the old release through an upgrader to the new one
    Handover,
}

/// What to plan, and where to write it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    wish: Wish,
    /// File to write the plan to
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Propose the plan at once, signed by this operator's key file
    #[arg(long, value_name = "FILE")]
    propose: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

/// Plans and writes.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let proposer = args.propose.as_deref().map(key::read).transpose()?;
    let access = if proposer.is_some() { Access::Append } else { Access::Read };
    let mut ledger = args.log.open(access)?;
    let (plan, report) = plan_make::decide(&args.wish.request(&ledger)?, &ledger.state)?;
    file::create(&args.out, &wire::encode(&plan))?;
    let index = match &proposer {
        Some(key) => Some(ledger.append(&plan_make::proposal(&plan, key))?),
        None => None,
    };
    let (mut json, mut text) = plan_make::show(&plan, &report);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("file".to_owned(), args.out.display().to_string().into());
        fields.insert("index".to_owned(), index.map(|index| index.0).into());
    }
    match index {
        Some(at) => output::line(
            &mut text,
            format_args!(
                "\nproposed as log entry {at}; approve it with\n  heirloom plan approve --plan {} --key FILE",
                plan.digest()
            ),
        ),
        None => output::line(
            &mut text,
            format_args!(
                "\nread it with `heirloom plan show {0}`, check it with `heirloom plan check {0}`",
                args.out.display()
            ),
        ),
    }
    Ok(Report::new("plan.created", json, text))
}

impl Wish {
    /// What the planner is asked for, as the log shows the domain.
    pub(crate) fn request(&self, ledger: &Ledger) -> Result<PlanRequest, Diagnostic> {
        let domain = ledger.domain(self.domain)?;
        let state = &ledger.state;
        let arrangement = match self.strategy {
            Strategy::Rolling => self.rolling(state.domain(&domain))?,
            Strategy::Handover => self.handover(&domain, ledger)?,
        };
        let from = match (&self.from, &arrangement) {
            (Some(release), _) => plan_make::release(release, state)?,
            (None, Arrangement::Handover { node, .. }) => {
                plan_make::running(&domain, [node], state)?
            }
            (None, _) => {
                let nodes = state.nodes_of(domain).map(|node| &node.node);
                plan_make::running(&domain, nodes, state)?
            }
        };
        Ok(PlanRequest {
            domain,
            from,
            to: plan_make::release(&self.to, state)?,
            not_after: plan_make::last_epoch(state, self.epochs),
            nonce: plan_make::nonce(),
            arrangement,
        })
    }

    fn rolling(&self, domain: Option<&DomainState>) -> Result<Arrangement, Diagnostic> {
        if self.node.is_some() || self.via.is_some() {
            return Err(belongs("--node and --via", "--strategy handover"));
        }
        let published = domain.map_or(Serial(0), DomainState::published);
        let withdraw = self.withdraw.or_else(|| published.next());
        Ok(Arrangement::Rolling {
            wave_size: self.wave_size.unwrap_or_default(),
            upgrade_epoch: self.upgrade_epoch,
            withdraw: withdraw
                .ok_or_else(|| Diagnostic::new(Code::InputValue, "no policy serial is left"))?,
        })
    }

    fn handover(&self, domain: &DomainId, ledger: &Ledger) -> Result<Arrangement, Diagnostic> {
        if self.wave_size.is_some() || self.upgrade_epoch.is_some() {
            return Err(belongs("--wave-size and --upgrade-epoch", "--strategy rolling"));
        }
        let missing = || Diagnostic::new(Code::InputMissing, "no upgrader was named");
        let via = self.via.as_deref().ok_or_else(|| missing().hint("give --via RELEASE"))?;
        let node = match &self.node {
            Some(node) => node.clone(),
            None => only_node(domain, ledger)?,
        };
        let via = plan_make::release(via, &ledger.state)?;
        Ok(Arrangement::Handover { node, via, withdraw: self.withdraw })
    }
}

/// The node of the active holder, or the domain's only node.
fn only_node(domain: &DomainId, ledger: &Ledger) -> Result<NodeId, Diagnostic> {
    let known = ledger.state.domain(domain);
    if let Some(active) = known.map(DomainState::activity).and_then(Activity::active) {
        return Ok(active.node().clone());
    }
    let mut nodes = ledger.state.nodes_of(*domain);
    match (nodes.next(), nodes.next()) {
        (Some(node), None) => Ok(node.node.clone()),
        (None, _) => Err(Diagnostic::new(Code::LogNothing, "the domain has no node")),
        (Some(_), Some(_)) => {
            let message = "the domain has more than one node";
            Err(Diagnostic::new(Code::InputMissing, message).hint("name one with --node"))
        }
    }
}

fn belongs(options: &str, strategy: &str) -> Diagnostic {
    Diagnostic::new(Code::InputValue, format!("{options} belong to {strategy}"))
}

fn wave_size(text: &str) -> Result<WaveSize, String> {
    match text {
        "half" => Ok(WaveSize::Half),
        "one" => Ok(WaveSize::OneByOne),
        _ => match text.parse() {
            Ok(count @ 1..) => Ok(WaveSize::Count(count)),
            _ => Err(format!("{text:?} is not `half`, `one` or a number above 0")),
        },
    }
}
