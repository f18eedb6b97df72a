//! Makes plans for every command that does: plans, lets the checker look, shows, proposes.

use std::path::Path;

use heirloom_model::counter::Epoch;
use heirloom_model::digest::{Nonce, ReleaseDigest};
use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{DomainId, NodeId, ReleaseName};
use heirloom_model::plan::{Plan, Proposal};
use heirloom_model::release::ReleaseKind;
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use heirloom_registry::network::NetworkState;
use heirloom_upgrade::checker;
use heirloom_upgrade::planner::{self, PlanError, PlanReport, PlanRequest};
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::plan::{findings_json, findings_text, is_sound};
use crate::command::seat;
use crate::diagnostic::Diagnostic;
use crate::ledger::Ledger;
use crate::output::{self, Report, table};
use crate::{file, key, view, view_service};

/// Plans, and lets the checker look at the plan. A plan with faults never leaves this function.
pub(crate) fn decide(
    request: &PlanRequest,
    state: &NetworkState,
) -> Result<(Plan, PlanReport), Diagnostic> {
    let (plan, report) = planner::plan(request, state).map_err(|error| refused(&error))?;
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

/// Plans, proposes the plan, and says what to do next.
pub(crate) fn start(
    request: &PlanRequest,
    ledger: &mut Ledger,
    key: &SigningKey,
    out: Option<&Path>,
) -> Result<Report, Diagnostic> {
    let (plan, report) = decide(request, &ledger.state)?;
    if let Some(out) = out {
        file::create(out, &wire::encode(&plan))?;
    }
    let at = ledger.append(&proposal(&plan, key))?;
    let (mut json, mut text) = show(&plan, &report);
    if let Some(fields) = json.as_object_mut() {
        fields.insert("index".to_owned(), at.0.into());
    }
    let digest = plan.digest();
    output::line(
        &mut text,
        format_args!(
            "\nproposed as log entry {at}; nothing happens before enough operators approve it:\n  \
         heirloom plan show {digest}\n  heirloom plan approve --plan {digest} --key FILE"
        ),
    );
    Ok(Report::new("upgrade.started", json, text))
}

/// A plan as a proposal of one operator.
pub(crate) fn proposal(plan: &Plan, key: &SigningKey) -> Envelope {
    let proposal = Proposal { network: plan.network, plan: wire::encode(plan) };
    Envelope::signed(&proposal, [key])
}

/// What was decided.
pub(crate) fn show(plan: &Plan, report: &PlanReport) -> (Value, String) {
    let waves: Vec<Vec<String>> =
        report.waves.iter().map(|wave| wave.iter().map(ToString::to_string).collect()).collect();
    let kept = plan.keyring.as_ref();
    let (from, to) = match (&plan.service, kept) {
        (Some(change), _) => (Some(change.from.measurement), Some(change.to.measurement)),
        (None, kept) => {
            (kept.map(|kept| kept.from.measurement), kept.map(|kept| kept.to.measurement))
        }
    };
    let via = kept.and_then(|kept| kept.via).map(|via| via.measurement);
    let mut rows =
        vec![("plan", plan.digest().to_string()), ("strategy", plan.strategy.name().to_owned())];
    for (what, code) in [("from", from), ("via", via), ("to", to)] {
        rows.extend(code.map(|code| (what, code.to_string())));
    }
    // Whoever approves the plan approves what it does on every kind of platform.
    for pair in kept.iter().flat_map(|kept| &kept.others) {
        rows.extend([("from", pair.from.to_string()), ("to", pair.to.to_string())]);
    }
    rows.extend([
        ("steps", format!("{}, and {} on the way back", report.steps, report.rollback_steps)),
        ("no return", format!("from step {}", plan.point_of_no_return)),
        ("downtime", report.downtime.to_string()),
        ("holders", format!("at least {} proven {}", report.need, outside(report))),
    ]);
    if let Some(change) = &plan.service {
        rows.push(("service", change.application.to_string()));
        rows.push(("terms", change.terms.digest().to_string()));
        rows.push(("window", format!("from epoch {}", change.opens)));
        rows.push(("abort", format!("by itself after epoch {}", change.abort_after)));
    }
    for wave in &waves {
        rows.push(("wave", wave.join(" ")));
    }
    let json = json!({
        "plan": plan.digest().to_string(),
        "domain": plan.domain.to_string(),
        "strategy": plan.strategy.name(),
        "from": from.map(|code| code.to_string()),
        "via": via.map(|code| code.to_string()),
        "to": to.map(|code| code.to_string()),
        "others": kept.map(view::others),
        "nodes": plan.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "waves": waves,
        "holders_min": report.need,
        "steps": report.steps,
        "rollback_steps": report.rollback_steps,
        "point_of_no_return": plan.point_of_no_return.0,
        "downtime": report.downtime.to_string(),
        "bytes": report.bytes,
        "withdraw_policy": seat::withdraws(plan).map(|serial| serial.0),
        "not_after": plan.not_after.0,
        "service": plan.service.as_ref().map(view_service::change),
        "notes": report.notes.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    (json, table(&rows))
}

/// Where the holders are that remain.
fn outside(report: &PlanReport) -> &'static str {
    if report.waves.is_empty() { "at every moment" } else { "outside every wave" }
}

fn refused(error: &PlanError) -> Diagnostic {
    Diagnostic::new(Code::PlanRefused, "there is no safe plan").because(error).hint(error.hint())
}

/// What makes a plan unique.
pub(crate) fn nonce() -> Nonce {
    let mut nonce = [0; 32];
    key::random(&mut nonce);
    Nonce::new(nonce)
}

/// The last epoch of a plan that may run for so many epochs from now.
pub(crate) fn last_epoch(state: &NetworkState, epochs: u64) -> Epoch {
    Epoch(state.epoch().0.saturating_add(epochs))
}

/// A release by digest or name.
pub(crate) fn release(given: &str, state: &NetworkState) -> Result<ReleaseDigest, Diagnostic> {
    if let Ok(digest) = given.parse() {
        return Ok(digest);
    }
    let name: ReleaseName = crate::input::value("release", given)?;
    let mut found = state.releases().filter(|(_, release)| release.name == name);
    found.next().map(|(digest, _)| *digest).ok_or_else(|| {
        Diagnostic::new(Code::LogNothing, format!("the log has no release named {name}"))
    })
}

/// The one keeper release that runs on these nodes, as far as the log shows.
pub(crate) fn running<'a>(
    domain: &DomainId,
    nodes: impl IntoIterator<Item = &'a NodeId>,
    state: &NetworkState,
) -> Result<ReleaseDigest, Diagnostic> {
    let known = state.domain(domain);
    let nodes = nodes.into_iter().map(|node| seat::in_fleet(node, state));
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
    let mut found: Vec<ReleaseDigest> = nodes
        .into_iter()
        .filter_map(|node| seat::runs_on(known?, state, node))
        .flat_map(|measurement| state.releases_with(measurement))
        .filter(|release| release.kind == ReleaseKind::Keeper)
        .map(|release| release.digest())
        .collect();
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [one] => Ok(*one),
        [] => {
            let message = "no node of the domain registered with a known release";
            Err(Diagnostic::new(Code::LogNothing, message).hint("name the release"))
        }
        _ => {
            let message = "the nodes of the domain run more than one release";
            Err(Diagnostic::new(Code::InputMissing, message).hint("name the release"))
        }
    }
}
