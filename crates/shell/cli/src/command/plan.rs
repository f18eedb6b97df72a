//! `heirloom plan`: what will be done, by whom, behind which gates.

use std::path::{Path, PathBuf};

use heirloom_model::counter::Epoch;
use heirloom_model::digest::PlanDigest;
use heirloom_model::envelope::Envelope;
use heirloom_model::limit::ENVELOPE_BYTES_MAX;
use heirloom_model::plan::{Approval, Plan, Proposal};
use heirloom_model::statement::StatementKind;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_upgrade::checker::{self, Finding, Severity};
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::{plan_create, plan_show};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::ledger::{Access, LogArgs};
use crate::output::{self, Report};
use crate::{file, key};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Plan an upgrade and write the plan to a file; nothing is changed
    Create(Box<plan_create::Args>),
    /// Explain a plan: what happens, in which order, who holds which keys meanwhile
    Show(plan_show::Args),
    /// Let the independent checker look for faults in a plan
    Check(Check),
    /// Approve exactly one plan, by its digest
    Approve(Approve),
}

/// Which plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The plan: its file, or its digest if it is in the log
    plan: String,
    #[command(flatten)]
    log: LogArgs,
}

/// Which plan, and who approves.
#[derive(Debug, clap::Args)]
pub(crate) struct Approve {
    /// Digest of the plan
    #[arg(long, value_name = "DIGEST")]
    plan: PlanDigest,
    /// File of the plan that was read; its digest must be the one that is approved
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Operator's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The last epoch in which the approval counts; by default the plan's last one
    #[arg(long, value_name = "EPOCH")]
    not_after: Option<Epoch>,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs a verb.
pub(crate) fn run(command: &Command, context: Context) -> Result<Report, Diagnostic> {
    match command {
        Command::Create(args) => plan_create::run(args),
        Command::Show(args) => plan_show::run(args),
        Command::Check(args) => check(args),
        Command::Approve(args) => approve(args, context),
    }
}

/// Reads a plan from a file: a plan, or a proposal statement.
pub(crate) fn read_file(path: &Path) -> Result<Plan, Diagnostic> {
    let bytes = file::read(path, ENVELOPE_BYTES_MAX)?;
    let proposed = wire::decode::<Envelope>(&bytes)
        .ok()
        .filter(|envelope| envelope.kind == StatementKind::Proposal)
        .and_then(|envelope| envelope.unverified::<Proposal>().ok());
    let encoded = proposed.map_or(bytes, |proposal| proposal.plan);
    wire::decode(&encoded).map_err(|error| {
        let message = format!("{} is not a plan", path.display());
        Diagnostic::new(Code::PlanMalformed, message).because(&error)
    })
}

/// A plan by its digest from the log, or from a file.
pub(crate) fn find(given: &str, state: &NetworkState) -> Result<Plan, Diagnostic> {
    match given.parse::<PlanDigest>() {
        Ok(digest) => in_log(&digest, state),
        Err(_) => read_file(Path::new(given)),
    }
}

/// A plan by its digest from the log.
pub(crate) fn in_log(digest: &PlanDigest, state: &NetworkState) -> Result<Plan, Diagnostic> {
    let found = state.plan(digest).ok_or_else(|| {
        Diagnostic::new(Code::PlanUnknown, format!("the log has no plan {digest}"))
    })?;
    Ok(found.plan().clone())
}

/// Findings as JSON.
pub(crate) fn findings_json(findings: &[Finding]) -> Value {
    findings
        .iter()
        .map(|finding| {
            json!({
                "code": finding.code(),
                "severity": finding.severity().name(),
                "step": finding.step.map(|step| step.0),
                "message": finding.fault.to_string(),
                "cause": std::error::Error::source(&finding.fault).map(ToString::to_string),
            })
        })
        .collect()
}

/// Findings as lines.
pub(crate) fn findings_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        let severity = finding.severity().name();
        match std::error::Error::source(&finding.fault) {
            Some(cause) => output::line(&mut text, format_args!("{severity} {finding}: {cause}")),
            None => output::line(&mut text, format_args!("{severity} {finding}")),
        }
    }
    text
}

/// Whether nothing speaks against approving.
pub(crate) fn is_sound(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.severity() == Severity::Warning)
}

fn check(args: &Check) -> Result<Report, Diagnostic> {
    let ledger = args.log.open(Access::Read)?;
    let plan = find(&args.plan, &ledger.state)?;
    let findings = checker::check(&plan, &ledger.state);
    let is_sound = is_sound(&findings);
    let mut text = findings_text(&findings);
    if findings.is_empty() {
        text = format!("plan {}: the checker found nothing\n", plan.digest());
    }
    let json = json!({
        "plan": plan.digest().to_string(),
        "sound": is_sound,
        "findings": findings_json(&findings),
    });
    let exit = if is_sound { Exit::Done } else { Exit::Refused };
    Ok(Report::new("plan.check", json, text).exit(exit))
}

fn approve(args: &Approve, context: Context) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    if let Some(path) = &args.file {
        let found = read_file(path)?.digest();
        if found != args.plan {
            let message = format!("{} is plan {found}, not {}", path.display(), args.plan);
            return Err(Diagnostic::new(Code::PlanDigest, message));
        }
    }
    let mut ledger = args.log.open(Access::Append)?;
    let plan = in_log(&args.plan, &ledger.state)?;
    let findings = checker::check(&plan, &ledger.state);
    if !is_sound(&findings) {
        let message = "the checker found faults in this plan; it was not approved";
        return Err(
            Diagnostic::new(Code::PlanFindings, message).cause(findings_text(&findings).trim_end())
        );
    }
    let digest = args.plan.to_string();
    let what = format!("You approve plan {digest}: {}.", plan_show::sentence(&plan));
    context.confirm(&what, digest.get(..8).unwrap_or(&digest))?;
    let approval = Approval {
        network: ledger.state.network(),
        plan: args.plan,
        not_after: args.not_after.unwrap_or(plan.not_after),
    };
    let at = ledger.append(&Envelope::signed(&approval, [&key]))?;
    let status = ledger.state.plan(&args.plan).map_or("unknown", |plan| plan.status().name());
    let text =
        format!("plan {digest} approved by {}, log entry {at}; it is {status}\n", key.public_key());
    let json = json!({
        "plan": digest,
        "operator": key.public_key().to_string(),
        "not_after": approval.not_after.0,
        "index": at.0,
        "status": status,
    });
    Ok(Report::new("plan.approved", json, text))
}
