//! `heirloom plan create`: plan, let the checker look at it, write it down.

use std::path::PathBuf;

use heirloom_model::counter::{Epoch, Serial};
use heirloom_model::digest::{Nonce, ReleaseDigest};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{DomainId, ReleaseName};
use heirloom_model::plan::{Plan, Proposal};
use heirloom_model::release::ReleaseKind;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_upgrade::checker;
use heirloom_upgrade::planner::{self, PlanError, PlanReport, PlanRequest, WaveSize};
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::plan::{findings_json, findings_text, is_sound};
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::{self, Report, table};
use crate::{file, key};

/// What to plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Wish {
    /// How to arrange the steps
    #[arg(long, value_enum, default_value = "rolling")]
    strategy: Strategy,
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    /// Release that runs now, by name or digest; by default the one that registered
    #[arg(long, value_name = "RELEASE")]
    from: Option<String>,
    /// Release that shall run, by name or digest
    #[arg(long, value_name = "RELEASE")]
    to: String,
    /// How many nodes change together, at most: `half`, `one`, or a number
    #[arg(long, value_name = "SIZE", default_value = "half", value_parser = wave_size)]
    wave_size: WaveSize,
    /// After the first wave nothing goes on before this epoch
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
    let (plan, report) = make(&args.wish, &ledger)?;
    file::create(&args.out, &wire::encode(&plan))?;
    let index = match &proposer {
        Some(key) => Some(ledger.append(&proposal(&plan, key))?),
        None => None,
    };
    let (mut json, mut text) = show(&plan, &report);
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

/// Plans, and lets the checker look at the plan. A plan with faults never leaves this function.
pub(crate) fn make(wish: &Wish, ledger: &Ledger) -> Result<(Plan, PlanReport), Diagnostic> {
    let Strategy::Rolling = wish.strategy;
    let domain = ledger.domain(wish.domain)?;
    let state = &ledger.state;
    let mut nonce = [0; 32];
    key::random(&mut nonce);
    let published =
        state.domain(&domain).map_or(Serial(0), heirloom_registry::domain::DomainState::published);
    let withdraw = published.next();
    let request = PlanRequest {
        domain,
        from: match &wish.from {
            Some(given) => release(given, state)?,
            None => running(&domain, state)?,
        },
        to: release(&wish.to, state)?,
        wave_size: wish.wave_size,
        upgrade_epoch: wish.upgrade_epoch,
        not_after: Epoch(state.epoch().0.saturating_add(wish.epochs)),
        nonce: Nonce::new(nonce),
        withdraw: withdraw
            .ok_or_else(|| Diagnostic::new(Code::InputValue, "no policy serial is left"))?,
    };
    let (plan, report) = planner::plan(&request, state).map_err(|error| refused(&error))?;
    let findings = checker::check(&plan, state);
    if !is_sound(&findings) {
        let message = "the checker found faults in the plan that was made; it was discarded";
        return Err(Diagnostic::new(Code::PlanFindings, message)
            .cause(findings_text(&findings).trim_end())
            .cause(findings_json(&findings).to_string())
            .hint("this is a fault of the planner or of the checker: please report it"));
    }
    for note in &report.notes {
        output::note(&note.to_string());
    }
    for finding in &findings {
        output::note(&finding.to_string());
    }
    Ok((plan, report))
}

/// A plan as a proposal of one operator.
pub(crate) fn proposal(plan: &Plan, key: &heirloom_model::signature::SigningKey) -> Envelope {
    let proposal = Proposal { network: plan.network, plan: wire::encode(plan) };
    Envelope::signed(&proposal, [key])
}

/// What was decided.
pub(crate) fn show(plan: &Plan, report: &PlanReport) -> (Value, String) {
    let waves: Vec<Vec<String>> =
        report.waves.iter().map(|wave| wave.iter().map(ToString::to_string).collect()).collect();
    let mut rows = vec![
        ("plan", plan.digest().to_string()),
        ("from", plan.from.measurement.to_string()),
        ("to", plan.to.measurement.to_string()),
        ("steps", format!("{}, and {} on the way back", report.steps, report.rollback_steps)),
        ("no return", format!("from step {}", plan.point_of_no_return)),
        ("holders", format!("at least {} proven outside every wave", report.need)),
    ];
    for wave in &waves {
        rows.push(("wave", wave.join(" ")));
    }
    let json = json!({
        "plan": plan.digest().to_string(),
        "domain": plan.domain.to_string(),
        "strategy": plan.strategy.name(),
        "from": plan.from.measurement.to_string(),
        "to": plan.to.measurement.to_string(),
        "waves": waves,
        "holders_min": report.need,
        "steps": report.steps,
        "rollback_steps": report.rollback_steps,
        "point_of_no_return": plan.point_of_no_return.0,
        "bytes": report.bytes,
        "withdraw_policy": plan.policy.next().map(|serial| serial.0),
        "not_after": plan.not_after.0,
        "notes": report.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    (json, table(&rows))
}

fn refused(error: &PlanError) -> Diagnostic {
    Diagnostic::new(Code::PlanRefused, "there is no safe plan").because(error).hint(error.hint())
}

/// A release by digest or name.
fn release(given: &str, state: &NetworkState) -> Result<ReleaseDigest, Diagnostic> {
    if let Ok(digest) = given.parse() {
        return Ok(digest);
    }
    let name: ReleaseName = crate::input::value("release", given)?;
    let mut found = state.releases().filter(|(_, release)| release.name == name);
    found.next().map(|(digest, _)| *digest).ok_or_else(|| {
        Diagnostic::new(Code::LogNothing, format!("the log has no release named {name}"))
    })
}

/// The one release that the domain's nodes registered with last.
fn running(domain: &DomainId, state: &NetworkState) -> Result<ReleaseDigest, Diagnostic> {
    let known = state.domain(domain);
    let mut found: Vec<ReleaseDigest> = state
        .nodes_of(*domain)
        .filter_map(|node| known?.registration(&node.node))
        .flat_map(|seen| state.releases_with(seen.result().measurement()))
        .filter(|release| release.kind == ReleaseKind::Keeper)
        .map(|release| release.digest())
        .collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let message = "no node of the domain registered with a known release";
            Err(Diagnostic::new(Code::LogNothing, message).hint("name the release with --from"))
        }
        _ => {
            let message = "the nodes of the domain registered with more than one release";
            Err(Diagnostic::new(Code::InputMissing, message).hint("name the release with --from"))
        }
    }
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
