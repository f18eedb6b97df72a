//! `heirloom plan show`: explains a plan.

use heirloom_model::plan::Plan;
use serde_json::{Value, json};

use crate::command::plan;
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, LogArgs};
use crate::output::{self, Report};
use crate::view;

/// Which plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan: its file, or its digest if it is in the log
    plan: String,
    #[command(flatten)]
    log: LogArgs,
}

/// Explains.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let ledger = args.log.open(Access::Read)?;
    let plan = plan::find(&args.plan, &ledger.state)?;
    let mut text = String::new();
    for step in &plan.steps {
        output::line(&mut text, format_args!("{} {} {}", step.id, step.node, step.action.name()));
    }
    Ok(Report::new("plan", json!({ "plan": view::plan(&plan), "steps": steps(&plan) }), text))
}

/// The plan in one sentence.
pub(crate) fn sentence(plan: &Plan) -> String {
    format!(
        "a {} upgrade of {} nodes from {} to {}",
        plan.strategy.name(),
        plan.nodes.len(),
        plan.from.measurement,
        plan.to.measurement
    )
}

fn steps(plan: &Plan) -> Vec<Value> {
    let back = plan.rollback.iter().map(|back| (&back.step, Some(back.undoes.0)));
    plan.steps
        .iter()
        .map(|step| (step, None))
        .chain(back)
        .map(|(step, undoes)| {
            json!({
                "id": step.id.0,
                "node": step.node.to_string(),
                "wave": step.wave,
                "action": step.action.name(),
                "gates": step.gates.iter().map(|gate| format!("{gate:?}")).collect::<Vec<_>>(),
                "undoes": undoes,
            })
        })
        .collect()
}
