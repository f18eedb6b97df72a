//! Flag days: rehearsals, consent taken back, and the report of an event.

use std::path::PathBuf;

use heirloom_model::digest::PlanDigest;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::DomainId;
use heirloom_model::service::{Rehearsal, Revocation};
use heirloom_registry::plan::PlanStatus;
use serde_json::json;

use crate::code::Code;
use crate::command::flag_day_report::Told;
use crate::command::{plan, upgrade};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::key;
use crate::ledger::{Access, LogArgs};
use crate::output::Report;
use crate::view_service;

/// Which rehearsal, and who says so.
#[derive(Debug, clap::Args)]
pub(crate) struct RehearseArgs {
    /// The test network: its id, or its `network.toml`
    #[arg(long, value_name = "ID|FILE")]
    test_network: String,
    /// Address of the test network's registry; by default what its `network.toml` says
    #[arg(long, value_name = "URL")]
    test_registry: Option<String>,
    /// The test network's log in a file, instead of a registry
    #[arg(long, value_name = "FILE", conflicts_with = "test_registry")]
    test_log: Option<PathBuf>,
    /// The test network's domain; by default its only one
    #[arg(long, value_name = "ID")]
    test_domain: Option<DomainId>,
    /// The plan that was finished there; by default the latest
    #[arg(long, value_name = "DIGEST")]
    plan: Option<PlanDigest>,
    /// Operator's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

/// Whose consent to which plan is taken back.
#[derive(Debug, clap::Args)]
pub(crate) struct RevokeArgs {
    /// Digest of the plan
    #[arg(long, value_name = "DIGEST")]
    plan: PlanDigest,
    /// Operator's key file
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    log: LogArgs,
}

/// Which event.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// Digest of the plan; by default the latest of the domain
    #[arg(long, value_name = "DIGEST")]
    plan: Option<PlanDigest>,
    /// The domain; by default the only one
    #[arg(long, value_name = "ID")]
    domain: Option<DomainId>,
    #[command(flatten)]
    log: LogArgs,
}

/// Looks at a test network's log, and records what was rehearsed there.
pub(crate) fn rehearse(args: &RehearseArgs) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    let (registry, log) = (args.test_registry.clone(), args.test_log.clone());
    let test = LogArgs::of(args.test_network.clone(), registry, log).open(Access::Read)?;
    let found = upgrade::latest(&test, args.plan, args.test_domain)?;
    let refused = |message: String| Diagnostic::new(Code::PlanRefused, message);
    let mut ledger = args.log.open(Access::Append)?;
    if ledger.state.network() == test.state.network() {
        let message = "a network is no rehearsal for itself".to_owned();
        return Err(refused(message).hint("name the test network with --test-network"));
    }
    let Some(change) = &found.plan().service else {
        return Err(refused(format!("plan {} is no flag day", found.digest())));
    };
    if found.status() != PlanStatus::Finished {
        let message = format!("plan {} on the test network is {}", found.digest(), found.status());
        return Err(refused(message).hint("only a plan that was finished is a rehearsal"));
    }
    let rehearsal = Rehearsal {
        network: ledger.state.network(),
        terms: change.terms.digest(),
        rehearsed_on: test.state.network(),
        plan: *found.digest(),
        seen: test.state.position(),
    };
    let at = ledger.append(&Envelope::signed(&rehearsal, [&key]))?;
    let text = format!(
        "terms {} were carried out on network {}; recorded as log entry {at}\n",
        rehearsal.terms, rehearsal.rehearsed_on
    );
    let mut json = view_service::rehearsal(&rehearsal);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("index".to_owned(), at.0.into());
    }
    Ok(Report::new("upgrade.rehearsed", json, text))
}

/// Takes an operator's consent back.
pub(crate) fn revoke(args: &RevokeArgs, context: Context) -> Result<Report, Diagnostic> {
    let key = key::read(&args.key)?;
    let mut ledger = args.log.open(Access::Append)?;
    plan::in_log(&args.plan, &ledger.state)?;
    let digest = args.plan.to_string();
    context.confirm(&format!("This takes your consent to plan {digest} back."), "revoke")?;
    let revocation = Revocation { network: ledger.state.network(), plan: args.plan };
    let at = ledger.append(&Envelope::signed(&revocation, [&key]))?;
    let status = ledger.state.plan(&args.plan).map_or("unknown", |plan| plan.status().name());
    let text = format!("consent to plan {digest} taken back, log entry {at}; it is {status}\n");
    let json = json!({ "plan": digest, "index": at.0, "status": status });
    Ok(Report::new("upgrade.revoked", json, text))
}

/// What the log says about a flag day, from its proposal to its end.
pub(crate) fn report(args: &ReportArgs) -> Result<Report, Diagnostic> {
    let ledger = args.log.open(Access::Read)?;
    let found = upgrade::latest(&ledger, args.plan, args.domain)?;
    if found.plan().service.is_none() {
        let message = format!("plan {} is no flag day", found.digest());
        return Err(Diagnostic::new(Code::PlanRefused, message)
            .hint("`heirloom upgrade status` shows where other plans stand"));
    }
    let told = Told::of(found, &ledger.state);
    let exit = if told.saw_fork() { Exit::Refused } else { Exit::Done };
    Ok(Report::new("upgrade.report", told.json(), told.text()).exit(exit))
}
