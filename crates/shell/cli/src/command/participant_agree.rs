//! `heirloom participant agree`: an operator consents to the party map of a plan.

use std::path::PathBuf;

use heirloom_model::digest::PlanDigest;
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::OperatorId;
use heirloom_model::participant::MapAgreement;
use heirloom_model::signature::PublicKey;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanState;
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::plan;
use crate::command::upgrade;
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::key;
use crate::ledger::{self, Access, LogArgs};
use crate::output::{self, Report, columns};

/// Who agrees to which plan's map.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Digest of the plan
    #[arg(long, value_name = "DIGEST")]
    plan: PlanDigest,
    /// Operator's key file; without it the map is shown only
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The operator as the fleet calls it; by default the one whose key it is
    #[arg(long, value_name = "OPERATOR")]
    operator: Option<OperatorId>,
    #[command(flatten)]
    log: LogArgs,
}

/// Shows the map, and agrees to it.
pub(crate) fn run(args: &Args, context: Context) -> Result<Report, Diagnostic> {
    let key = args.key.as_deref().map(key::read).transpose()?;
    let access = if key.is_some() { Access::Append } else { Access::Read };
    let mut ledger = args.log.open(access)?;
    if plan::in_log(&args.plan, &ledger.state)?.participant.is_none() {
        let message = format!("plan {} moves no participant", args.plan);
        return Err(Diagnostic::new(Code::PlanRefused, message)
            .instead("name the plan of a migration: `heirloom participant status` shows it"));
    }
    let found = upgrade::latest(&ledger, Some(args.plan), None)?;
    let map = found.settled_map().map_err(|step| {
        let message = format!("the party map of plan {} is not settled", args.plan);
        Diagnostic::new(Code::ParticipantNoMap, message)
            .cause(format!("step {step} is not done: a node has not stated its new names"))
    })?;
    let (mut text, moves) = shown(found);
    output::line(&mut text, format_args!("\ndigest {map}"));
    let mut json = json!({
        "plan": args.plan.to_string(),
        "map": map.to_string(),
        "moves": moves,
        "operator": Value::Null,
        "index": Value::Null,
    });
    let Some(key) = key else {
        output::line(&mut text, format_args!("not agreed: give --key to agree to it"));
        return Ok(Report::new("participant.agree", json, text));
    };
    let operator = operator(args, found, &ledger.state, key.public_key())?;
    // The log says the same; nobody should be asked to confirm what it would refuse.
    ledger
        .state
        .speaks_for(&operator, key.public_key())
        .map_err(|refusal| ledger::refused(&refusal))?;
    context.confirm(
        &format!("{text}\n{operator} agrees to these names. That cannot be taken back."),
        "agree",
    )?;
    let agreement = MapAgreement {
        network: ledger.state.network(),
        plan: args.plan,
        operator: operator.clone(),
        map,
    };
    let at = ledger.append(&Envelope::signed(&agreement, [&key]))?;
    output::line(&mut text, format_args!("{operator} agreed, log entry {at}"));
    if let Value::Object(fields) = &mut json {
        fields.insert("operator".to_owned(), operator.to_string().into());
        fields.insert("index".to_owned(), at.0.into());
    }
    Ok(Report::new("participant.agree", json, text))
}

fn shown(found: &PlanState) -> (String, Vec<Value>) {
    let parts = found.party_map().map(|(_, parts)| parts).unwrap_or_default();
    let (mut rows, mut moves) = (Vec::new(), Vec::new());
    for (node, part) in &parts {
        for moved in part {
            rows.push(vec![node.to_string(), moved.from.to_string(), moved.to.to_string()]);
            moves.push(json!({
                "node": node.to_string(),
                "from": moved.from.to_string(),
                "to": moved.to.to_string(),
            }));
        }
    }
    (columns(&["node", "party", "new name"], &rows), moves)
}

/// Who agrees: the one that was named, the one whose key it is, or the only one who has not.
fn operator(
    args: &Args,
    found: &PlanState,
    state: &NetworkState,
    key: PublicKey,
) -> Result<OperatorId, Diagnostic> {
    if let Some(operator) = &args.operator {
        return Ok(operator.clone());
    }
    let open = state.disagreeing(found);
    if let Some(own) = open.iter().find(|operator| state.speaks_for(operator, key).is_ok()) {
        return Ok(own.clone());
    }
    let names: Vec<String> = open.iter().map(ToString::to_string).collect();
    match (open.first(), open.len()) {
        (Some(only), 1) => Ok(only.clone()),
        (None, _) => {
            let message = "every operator of the plan has agreed";
            Err(Diagnostic::new(Code::InputMissing, message)
                .instead("nothing is left to agree to: look at `heirloom participant status`"))
        }
        _ => {
            let message = format!("these have not agreed: {}", names.join(", "));
            Err(Diagnostic::new(Code::InputMissing, message).hint("name one with --operator"))
        }
    }
}
