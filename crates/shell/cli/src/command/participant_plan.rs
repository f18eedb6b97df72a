//! `heirloom participant plan`: which ways there are, and the plan of the one that is carried out.

use std::path::PathBuf;

use heirloom_model::identifier::NodeId;
use heirloom_model::plan::Plan;
use heirloom_model::wire;
use heirloom_participant::map::PartyMap;
use heirloom_participant::ways::{self, Assessment, Recommendation, Way};
use heirloom_upgrade::checker;
use heirloom_upgrade::explain::participant::explain;
use heirloom_upgrade::planner::migration::{
    self, MigrationError, MigrationReport, MigrationRequest,
};
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::participant_preflight::{names_json, names_text};
use crate::command::plan::{findings_json, findings_text, is_sound};
use crate::command::plan_create::When;
use crate::command::plan_make;
use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::ledger::Access;
use crate::output::{self, Report, columns};
use crate::participant_setup::{self, Configured, Setup, driver_error};
use crate::{file, key};

/// What to plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    configured: Configured,
    /// Another node of the domain whose participant moves by the same plan; once for each
    #[arg(long = "with", value_name = "NODE")]
    others: Vec<NodeId>,
    /// The epoch in which the window opens, or `+N` from now: no source is disconnected before
    #[arg(long, value_name = "EPOCH", default_value = "+0")]
    opens: When,
    /// The last epoch before the plan is called off by itself, or `+N` from now; by default it
    /// keeps a quarter of its epochs for the way back, and at most 64
    #[arg(long, value_name = "EPOCH")]
    abort_after: Option<When>,
    /// For how many epochs from now steps may start
    #[arg(long, value_name = "N", default_value_t = 1000)]
    epochs: u64,
    /// Operator's key file: proposes the plan
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Write the plan to a file too
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Looks at both participants, says which ways there are, and plans.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let key = args.key.as_deref().map(key::read).transpose()?;
    let access = if key.is_some() { Access::Append } else { Access::Read };
    let mut setup = args.configured.open(access)?;
    let driver = participant_setup::driver(&setup.config)?;
    let (found, ground) = driver.look().map_err(|error| driver_error(&error))?;
    drop(driver);
    let assessed = ways::assess(&ground);
    let recommended = ways::recommend(&ground, &assessed);
    let mut text = ways_text(&assessed, recommended);
    let mut json = json!({
        "ways": assessed.iter().map(way_json).collect::<Vec<_>>(),
        "recommended": recommended.way.map(Way::name),
        "because": recommended.because,
        "plan": Value::Null,
    });
    let possible = |found: &&Assessment| found.way == Way::Rewrite && found.is_possible();
    if !assessed.iter().any(|found| possible(&found)) {
        text.push_str(
            "\nno plan: contracts cannot be rewritten before the obstacles are removed\n",
        );
        return Ok(Report::new("participant.plan", json, text).exit(Exit::Refused));
    }
    let names = participant_setup::predicted(&setup.config, &found)?;
    let (plan, report) = decide(args, &setup)?;
    if let Some(out) = &args.out {
        file::create(out, &wire::encode(&plan))?;
    }
    let story = explain(&plan, &setup.ledger.state).map_err(|error| {
        Diagnostic::new(Code::LogNothing, "the plan cannot be explained by this log")
            .because(&error)
    })?;
    output::line(&mut text, format_args!("\nplan {}\n{story}", plan.digest()));
    text.push_str(&names_text(names.as_ref()));
    for note in &report.notes {
        output::line(&mut text, format_args!("note: {note}"));
    }
    let index = match key {
        Some(key) => Some(setup.ledger.append(&plan_make::proposal(&plan, &key))?.0),
        None => None,
    };
    text.push_str(&next_text(&plan, &report, index));
    fill(&mut json, &plan, &report, names.as_ref(), index);
    Ok(Report::new("participant.plan", json, text))
}

/// Plans, and lets the checker look at the plan. A plan with faults never leaves this function.
fn decide(args: &Args, setup: &Setup) -> Result<(Plan, MigrationReport), Diagnostic> {
    let state = &setup.ledger.state;
    let node = setup.node()?;
    let now = state.epoch();
    let mut nodes = vec![setup.config.node.clone()];
    nodes.extend(args.others.iter().cloned());
    let request = MigrationRequest {
        domain: node.domain,
        nodes,
        operator: node.operator.clone(),
        opens: args.opens.epoch(now),
        abort_after: args.abort_after.map(|when| when.epoch(now)),
        not_after: plan_make::last_epoch(state, args.epochs),
        nonce: plan_make::nonce(),
    };
    let (plan, report) = migration::plan(&request, state).map_err(|error| refused(&error))?;
    let findings = checker::check(&plan, state);
    if !is_sound(&findings) {
        let message = "the checker found faults in the plan that was made; it was discarded";
        return Err(Diagnostic::new(Code::PlanFindings, message)
            .cause(findings_text(&findings).trim_end())
            .cause(findings_json(&findings).to_string())
            .hint("this is a fault of the planner or of the checker: please report it"));
    }
    for finding in &findings {
        output::note(&finding.to_string());
    }
    Ok((plan, report))
}

fn refused(error: &MigrationError) -> Diagnostic {
    let diagnostic = Diagnostic::new(Code::PlanRefused, "there is no safe plan").because(error);
    match error {
        MigrationError::NotSurveyed(_) | MigrationError::SurveyOld { .. } => diagnostic
            .hint("on that node: `heirloom participant preflight --config FILE --publish`"),
        _ => diagnostic.hint(error.hint()),
    }
}

fn way_json(found: &Assessment) -> Value {
    json!({
        "way": found.way.name(),
        "summary": found.way.summary(),
        "possible": found.is_possible(),
        "obstacles": found.obstacles,
        "loses": found.way.loses(),
        "keeps": found.way.keeps(),
    })
}

fn ways_text(assessed: &[Assessment], recommended: Recommendation) -> String {
    let rows: Vec<Vec<String>> = assessed
        .iter()
        .map(|found| {
            let possible = if found.is_possible() { "possible" } else { "blocked" };
            vec![found.way.to_string(), possible.to_owned(), found.way.summary().to_owned()]
        })
        .collect();
    let mut text = columns(&["way", "here", "what it does"], &rows);
    for found in assessed {
        output::line(&mut text, format_args!("\n{}", found.way));
        for obstacle in &found.obstacles {
            output::line(&mut text, format_args!("  blocked: {obstacle}"));
        }
        for lost in found.way.loses() {
            output::line(&mut text, format_args!("  loses: {lost}"));
        }
        output::line(&mut text, format_args!("  keeps: {}", found.way.keeps().join(", ")));
    }
    let way = recommended.way.map_or("none", Way::name);
    output::line(&mut text, format_args!("\nrecommended: {way}; {}", recommended.because));
    text
}

fn next_text(plan: &Plan, report: &MigrationReport, index: Option<u64>) -> String {
    let digest = plan.digest();
    let Some(index) = index else {
        return "\nnot proposed: give --key to propose it\n".to_owned();
    };
    let mut text = format!(
        "\nproposed as log entry {index}; nothing happens before enough operators approve it:\n  \
         heirloom plan approve --plan {digest} --key FILE\n"
    );
    for operator in &report.consents {
        output::line(
            &mut text,
            format_args!(
                "once the parties have their new names, {operator} agrees to them:\n  heirloom \
                 participant agree --plan {digest} --operator {operator} --key FILE"
            ),
        );
    }
    text.push_str("on each node:\n  heirloom participant migrate --config FILE\n");
    text
}

fn fill(
    json: &mut Value,
    plan: &Plan,
    report: &MigrationReport,
    names: Option<&PartyMap>,
    index: Option<u64>,
) {
    let Value::Object(fields) = json else { return };
    let nodes: Vec<String> = plan.nodes.iter().map(ToString::to_string).collect();
    let consents: Vec<String> = report.consents.iter().map(ToString::to_string).collect();
    let notes: Vec<String> = report.notes.iter().map(ToString::to_string).collect();
    let more = [
        ("plan", plan.digest().to_string().into()),
        ("domain", plan.domain.to_string().into()),
        ("nodes", nodes.into()),
        ("steps", report.steps.into()),
        ("rollback_steps", report.rollback_steps.into()),
        ("point_of_no_return", report.point_of_no_return.0.into()),
        ("closes", report.closes.0.into()),
        ("opens", report.opens.0.into()),
        ("consents", consents.into()),
        ("notes", notes.into()),
        ("predicted", names_json(names)),
        ("index", index.into()),
    ];
    fields.extend(more.map(|(name, value): (&str, Value)| (name.to_owned(), value)));
}
