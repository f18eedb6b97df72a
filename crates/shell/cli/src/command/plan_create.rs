//! `heirloom plan create`: plan, let the checker look at it, write it down.

use std::path::PathBuf;

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::wire;
use heirloom_registry::activity::Activity;
use heirloom_registry::domain::DomainState;
use heirloom_registry::network::NetworkState;
use heirloom_upgrade::planner::{Arrangement, FlagDayRequest, PlanRequest, WaveSize};

use crate::code::Code;
use crate::command::{plan_make, terms_input};
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::{self, Report};
use crate::{file, key};

/// What to plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Wish {
    /// How to arrange the steps: `rolling`, `handover` or `flag-day`
    #[arg(long, value_enum, default_value = "rolling")]
    strategy: Strategy,
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    /// Release that runs now, by name or digest; by default the one that holds
    #[arg(long, value_name = "RELEASE")]
    from: Option<String>,
    /// Release that shall run, by name or digest; in a flag day the terms say it
    #[arg(
        long,
        value_name = "RELEASE",
        required_if_eq_any([("strategy", "rolling"), ("strategy", "handover")])
    )]
    to: Option<String>,
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
    #[command(flatten)]
    flag_day: FlagDayWish,
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
    /// The service of every node at once
    FlagDay,
}

/// What only a flag day has.
#[derive(Debug, clap::Args)]
struct FlagDayWish {
    /// Flag day: file with the terms
    #[arg(long, value_name = "FILE", required_if_eq("strategy", "flag-day"))]
    terms: Option<PathBuf>,
    /// Flag day: the epoch in which the window opens, or `+N` from now
    #[arg(long, value_name = "EPOCH", required_if_eq("strategy", "flag-day"))]
    opens: Option<When>,
    /// Flag day: the last epoch before the plan is called off by itself, or `+N` from now
    #[arg(long, value_name = "EPOCH", required_if_eq("strategy", "flag-day"))]
    abort_after: Option<When>,
    /// Flag day: how many operators must have recorded a rehearsal of these terms; 0 means none
    #[arg(long, value_name = "N", required_if_eq("strategy", "flag-day"))]
    rehearsals: Option<u32>,
    /// Flag day: nodes that open together, `a,b,c`, once for each stage; by default the first
    /// node, then the others
    #[arg(long, value_name = "NODES", value_parser = stage)]
    stage: Vec<Stage>,
}

/// An epoch, or a number of epochs from now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    At(u64),
    In(u64),
}

impl When {
    /// The epoch, as seen from now.
    pub(crate) fn epoch(self, now: Epoch) -> Epoch {
        match self {
            Self::At(epoch) => Epoch(epoch),
            Self::In(epochs) => Epoch(now.0.saturating_add(epochs)),
        }
    }
}

impl std::str::FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (from_now, number) = match text.strip_prefix('+') {
            Some(number) => (true, number),
            None => (false, text),
        };
        let number = number.parse().map_err(|_| format!("{text:?} is not an epoch, nor `+N`"))?;
        Ok(if from_now { Self::In(number) } else { Self::At(number) })
    }
}

/// Nodes whose clients are let in together.
#[derive(Clone, Debug)]
struct Stage(Vec<NodeId>);

fn stage(text: &str) -> Result<Stage, String> {
    let node = |name: &str| name.parse::<NodeId>().map_err(|error| error.to_string());
    text.split(',').map(node).collect::<Result<_, _>>().map(Stage)
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

impl FlagDayWish {
    /// Whether none of it was given.
    fn is_empty(&self) -> bool {
        let Self { terms, opens, abort_after, rehearsals, stage } = self;
        terms.is_none()
            && opens.is_none()
            && abort_after.is_none()
            && rehearsals.is_none()
            && stage.is_empty()
    }
}

impl Wish {
    /// What the planner is asked for, as the log shows the domain.
    pub(crate) fn request(&self, ledger: &Ledger) -> Result<PlanRequest, Diagnostic> {
        if !matches!(self.strategy, Strategy::FlagDay) && !self.flag_day.is_empty() {
            let options = "--terms, --opens, --abort-after, --rehearsals and --stage";
            return Err(belongs(options, "--strategy flag-day"));
        }
        let domain = ledger.domain(self.domain)?;
        let state = &ledger.state;
        let arrangement = match self.strategy {
            Strategy::Rolling => self.rolling(state.domain(&domain))?,
            Strategy::Handover => self.handover(&domain, ledger)?,
            Strategy::FlagDay => self.flag_day(state)?,
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
        let to = match &self.to {
            Some(release) => plan_make::release(release, state)?,
            // Keepers stay as they are.
            None => from,
        };
        Ok(PlanRequest {
            domain,
            from,
            to,
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

    fn flag_day(&self, state: &NetworkState) -> Result<Arrangement, Diagnostic> {
        if self.node.is_some() || self.via.is_some() {
            return Err(belongs("--node and --via", "--strategy handover"));
        }
        if self.wave_size.is_some() || self.upgrade_epoch.is_some() {
            return Err(belongs("--wave-size and --upgrade-epoch", "--strategy rolling"));
        }
        if self.to.is_some() || self.from.is_some() {
            let message = "in a flag day the terms name the releases";
            return Err(Diagnostic::new(Code::InputValue, message)
                .hint("leave --from and --to out, and write them into the terms"));
        }
        let missing = |what: &str| {
            let message = format!("a flag day needs {what}");
            Diagnostic::new(Code::InputMissing, message)
        };
        let FlagDayWish { terms, opens, abort_after, rehearsals, stage } = &self.flag_day;
        let agreed =
            terms_input::parse(terms.as_deref().ok_or_else(|| missing("--terms"))?, state)?;
        let now = state.epoch();
        Ok(Arrangement::FlagDay(FlagDayRequest {
            application: agreed.application,
            from: agreed.from,
            to: agreed.to,
            terms: agreed.terms,
            opens: opens.ok_or_else(|| missing("--opens"))?.epoch(now),
            abort_after: abort_after.ok_or_else(|| missing("--abort-after"))?.epoch(now),
            rehearsals: rehearsals.ok_or_else(|| missing("--rehearsals"))?,
            stages: stage.iter().map(|Stage(nodes)| nodes.clone()).collect(),
            withdraw: self.withdraw,
        }))
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
