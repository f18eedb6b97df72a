//! `heirloom plan show`: explains a plan.

use heirloom_model::plan::{KeyringGround, Placement, Plan};
use heirloom_upgrade::calendar::End;
use heirloom_upgrade::explain::text::{Detail, render};
use heirloom_upgrade::explain::{Copies, Explanation, explain, participant};
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::plan;
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, LogArgs};
use crate::output::{self, Report};
use crate::{time, view};

/// Which plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The plan: its file, or its digest if it is in the log
    plan: String,
    /// How long an epoch lasts, to compare epochs with dates in the expiry calendar
    #[arg(long, value_name = "SECONDS")]
    epoch_seconds: Option<u64>,
    /// Tell everything that a step needs, the copies before and after each step, and every step of
    /// the way back
    #[arg(long)]
    steps: bool,
    #[command(flatten)]
    log: LogArgs,
}

/// Explains.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let ledger = args.log.open(Access::Read)?;
    let plan = plan::find(&args.plan, &ledger.state)?;
    let unexplained = |error| {
        Diagnostic::new(Code::LogNothing, "the plan cannot be explained by this log")
            .because(&error)
    };
    if plan.participant.is_some() {
        let told = participant::explain(&plan, &ledger.state).map_err(unexplained)?;
        let json = json!({
            "plan": crate::view::plan(&plan),
            "summary": told.summary,
            "warnings": told.warnings,
            "lost": told.lost,
        });
        return Ok(Report::new("plan", json, format!("plan {}\n{told}", plan.digest())));
    }
    let told = explain(&plan, &ledger.state, args.epoch_seconds).map_err(unexplained)?;
    let mut text = String::new();
    output::line(&mut text, format_args!("plan {}\n", plan.digest()));
    let detail = if args.steps { Detail::Everything } else { Detail::Outline };
    text.push_str(&render(&told, detail, time::show));
    if !args.steps {
        output::line(&mut text, format_args!("\neverything about every step: --steps"));
    }
    Ok(Report::new("plan", json(&plan, &told), text))
}

/// The plan in one sentence.
pub(crate) fn sentence(plan: &Plan) -> String {
    if let Some(change) = &plan.service {
        let what = if change.changes_code() { "a flag day" } else { "a rolling restart" };
        return format!(
            "{what} of service {} on {} nodes from {} ({}) to {} ({}), terms {}",
            change.application,
            plan.nodes.len(),
            change.terms.from.release,
            change.from.measurement,
            change.terms.to.release,
            change.to.measurement,
            change.terms.digest()
        );
    }
    match &plan.keyring {
        Some(kept) => format!(
            "a {} upgrade of {} nodes {}",
            plan.strategy.name(),
            plan.nodes.len(),
            edges(kept)
        ),
        None => format!(
            "a {} of {} participants to other key stores",
            plan.strategy.name(),
            plan.nodes.len()
        ),
    }
}

/// Every edge that an approval opens, one for each kind of platform.
fn edges(kept: &KeyringGround) -> String {
    let edge = |(from, to): (Placement, Placement)| {
        format!("from {} to {}", from.measurement, to.measurement)
    };
    kept.pairs().map(edge).collect::<Vec<_>>().join(", and ")
}

fn json(plan: &Plan, told: &Explanation) -> Value {
    let copies = |copies: &Copies| {
        json!({
            "old": copies.old,
            "new": copies.new,
            "unproven": copies.unproven,
            "sealed": copies.sealed,
            "failure_domains": copies.failure_domains,
        })
    };
    let steps: Vec<Value> = told
        .steps
        .iter()
        .map(|row| {
            json!({
                "id": row.step.0,
                "wave": row.wave,
                "node": row.node.to_string(),
                "action": row.action,
                "gates": row.gates,
                "before": copies(&row.before),
                "after": copies(&row.after),
            })
        })
        .collect();
    let rollback: Vec<Value> = told
        .rollback
        .iter()
        .map(|row| {
            json!({
                "id": row.step.0,
                "node": row.node.to_string(),
                "action": row.action,
                "gates": row.gates,
                "undoes": row.undoes.0,
            })
        })
        .collect();
    let calendar: Vec<Value> = told
        .calendar
        .iter()
        .map(|entry| {
            json!({
                "what": entry.what.to_string(),
                "end": match entry.end {
                    End::Time(end) => time::show(end),
                    End::Epoch(_) => entry.end.to_string(),
                },
                "verdict": entry.verdict.name(),
            })
        })
        .collect();
    json!({
        "plan": view::plan(plan),
        "summary": told.summary,
        "warnings": told.warnings,
        "steps": steps,
        "rollback": rollback,
        "point_of_no_return": told.point_of_no_return.0,
        "expiry": calendar,
    })
}

#[cfg(test)]
mod tests {
    use heirloom_model::counter::{Generation, Serial};
    use heirloom_model::digest::{Checksum, ReleaseDigest};
    use heirloom_model::measurement::{LaunchedCode, Measurement, MrEnclave};
    use heirloom_model::plan::CodePair;

    use super::*;

    #[test]
    fn who_approves_reads_every_edge() {
        let sgx = |byte| Measurement::Sgx(MrEnclave::new([byte; 32]));
        let tpm = |byte| Measurement::Tpm(LaunchedCode::new([byte; 32]));
        let at = |measurement| Placement { release: ReleaseDigest::new([0; 32]), measurement };
        let mut kept = KeyringGround {
            from: at(sgx(1)),
            to: at(sgx(2)),
            via: None,
            policy: Serial(1),
            generation: Generation(0),
            checksum: Checksum::new([0; 32]),
            holders_min: 1,
            others: Vec::new(),
        };
        let first = format!("from {} to {}", sgx(1), sgx(2));
        assert_eq!(edges(&kept), first);
        kept.others.push(CodePair { from: tpm(1), to: tpm(2) });
        assert_eq!(edges(&kept), format!("{first}, and from {} to {}", tpm(1), tpm(2)));
    }
}
