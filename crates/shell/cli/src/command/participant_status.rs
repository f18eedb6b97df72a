//! `heirloom participant status`: where a migration stands, and what both participants say.

use std::path::PathBuf;

use heirloom_agent::participant::config::Config;
use heirloom_model::digest::PlanDigest;
use heirloom_model::participant::ParticipantMove;
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::PlanState;
use heirloom_upgrade::port::{
    Link, ParticipantCall, ParticipantDriver as _, ParticipantObservation, Restart,
    ServerObservation,
};
use serde_json::{Value, json};

use crate::code::Code;
use crate::command::upgrade::{self, View};
use crate::diagnostic::Diagnostic;
use crate::ledger::{Access, Ledger, LogArgs};
use crate::output::{self, Report, table};
use crate::{participant_setup, view_participant};

/// Which plan.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Configuration of a node: its participants and its custodian are looked at too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Digest of the plan; by default the latest of the node's domain
    #[arg(long, value_name = "DIGEST", required_unless_present = "config")]
    plan: Option<PlanDigest>,
    /// The network: its id, or its `network.toml`; by default what the configuration says
    #[arg(long, value_name = "ID|FILE")]
    network: Option<String>,
    /// Address of the registry; by default what the configuration or `network.toml` says
    #[arg(long, value_name = "URL")]
    registry: Option<String>,
    /// The log in a file, instead of a registry: works offline
    #[arg(long, value_name = "FILE", conflicts_with = "registry")]
    log: Option<PathBuf>,
}

/// Shows.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let config = args.config.as_deref().map(participant_setup::read).transpose()?;
    let ledger = open(args, config.as_ref())?;
    let domain = match &config {
        Some(config) => ledger.state.node(&config.node).map(|node| node.domain),
        None => None,
    };
    let found = upgrade::latest(&ledger, args.plan, domain)?;
    let Some(change) = &found.plan().participant else {
        let message = format!("plan {} moves no participant", found.digest());
        return Err(Diagnostic::new(Code::PlanRefused, message)
            .instead("`heirloom upgrade status` shows where other plans stand"));
    };
    let view = View::of(found, &ledger.state);
    let mut text = view.text();
    text.push_str(&stated_text(found, &ledger.state));
    let mut json = view.json();
    let moved = config.as_ref().and_then(|config| change.move_of(&config.node));
    let live = match (&config, moved) {
        (Some(config), Some(moved)) => Some(look(config, found.digest(), moved)),
        _ => None,
    };
    if let Some(live) = &live {
        text.push_str(&live_text(live));
    }
    if let (Value::Object(fields), Value::Object(more)) =
        (&mut json, stated_json(found, &ledger.state))
    {
        fields.extend(more);
        fields.insert("participants".to_owned(), live.as_ref().map_or(Value::Null, live_json));
    }
    Ok(Report::new("participant.status", json, text))
}

fn open(args: &Args, config: Option<&Config>) -> Result<Ledger, Diagnostic> {
    let of_config = config.map(|config| (config.network.to_string(), config.registry.clone()));
    let (network, registry) = match of_config {
        Some((network, registry)) => (network, Some(registry)),
        None => ("network.toml".to_owned(), None),
    };
    let network = args.network.clone().unwrap_or(network);
    let registry = args.registry.clone().or(registry.filter(|_| args.log.is_none()));
    LogArgs::of(network, registry, args.log.clone()).open(Access::Read)
}

/// What nodes stated and operators agreed to.
fn stated_json(found: &PlanState, state: &NetworkState) -> Value {
    let standings: Vec<Value> = found
        .participant_standings()
        .map(|(step, seen)| {
            json!({
                "step": step.0,
                "node": seen.standing().node.to_string(),
                "index": seen.at().0,
                "facts": view_participant::stated(&seen.standing().facts),
            })
        })
        .collect();
    let agreements: Vec<Value> = found
        .agreements()
        .iter()
        .map(|(operator, seen)| {
            json!({
                "operator": operator.to_string(),
                "map": seen.agreement().map.to_string(),
                "index": seen.at().0,
            })
        })
        .collect();
    let open: Vec<String> = state.disagreeing(found).iter().map(ToString::to_string).collect();
    json!({
        "standings": standings,
        "map": found.party_map().map(|(digest, _)| digest.to_string()),
        "agreements": agreements,
        "not_agreed": open,
    })
}

fn stated_text(found: &PlanState, state: &NetworkState) -> String {
    let mut text = String::new();
    for node in &found.plan().nodes {
        let mut rows = vec![("node", node.to_string())];
        if let Some(enrolled) = found.enrolled(node) {
            rows.push(("target", format!("{}, keys in {}", enrolled.target, enrolled.custodian)));
        }
        if let Some(moves) = found.allocated(node) {
            let parties = match moves.len() {
                1 => "1 party".to_owned(),
                several => format!("{several} parties"),
            };
            rows.push(("new names", parties));
        }
        if let Some(end) = found.quiesced(node) {
            rows.push(("source", format!("quiet, its ledger ends at {end}")));
        }
        if let Some(exported) = found.exported(node) {
            let (contracts, digest) = (exported.contracts, exported.snapshot);
            rows.push(("exported", format!("{contracts} contracts, digest {digest}")));
        }
        if let Some(rewritten) = found.rewritten(node) {
            let (contracts, ids) = (rewritten.contracts, rewritten.ids);
            rows.push(("rewritten", format!("{contracts} contracts, ids {ids}")));
        }
        if let Some(reconciled) = found.reconciled(node) {
            let (contracts, ids) = (reconciled.contracts, reconciled.ids);
            rows.push(("on the target", format!("{contracts} contracts, ids {ids}")));
        }
        text.push('\n');
        text.push_str(&table(&rows));
    }
    let open: Vec<String> = state.disagreeing(found).iter().map(ToString::to_string).collect();
    if let Some((digest, _)) = found.party_map() {
        output::line(&mut text, format_args!("\nparty map {digest}"));
        if !open.is_empty() {
            output::line(&mut text, format_args!("not agreed by: {}", open.join(", ")));
        }
    }
    text
}

/// What the participants of one node look like, or why that is not known.
type Live = Result<ParticipantObservation, String>;

fn look(config: &Config, plan: &PlanDigest, moved: &ParticipantMove) -> Live {
    let mut driver =
        config.driver().map_err(|error| heirloom_model::causes::with_causes(&error))?;
    let task = ParticipantCall { plan: *plan, moved };
    driver.observe(task).map_err(|error| heirloom_model::causes::with_causes(&error))
}

fn server_json(server: Option<&ServerObservation>) -> Value {
    let Some(server) = server else { return Value::Null };
    let synchronizers: Vec<Value> = server
        .synchronizers
        .iter()
        .map(|(synchronizer, connection)| {
            json!({
                "synchronizer": synchronizer.to_string(),
                "connected": connection.link == Link::Connected,
                "connects_after_restart": connection.restart == Restart::Automatic,
            })
        })
        .collect();
    json!({
        "participant": server.participant.as_ref().map(ToString::to_string),
        "version": server.version.to_string(),
        "parties": server.parties.len(),
        "ledger_end": server.ledger_end.map(|end| end.0),
        "synchronizers": synchronizers,
    })
}

fn live_json(live: &Live) -> Value {
    match live {
        Ok(seen) => json!({
            "source": server_json(seen.source.as_ref()),
            "target": server_json(seen.target.as_ref()),
            "lacking_packages": seen.work.lacking,
            "safeguarded": seen.work.safeguarded,
            "imported": seen.work.imported.map(|imported| {
                json!({ "contracts": imported.contracts, "ids": imported.ids.to_string() })
            }),
            "under_way": seen.under_way,
            "error": Value::Null,
        }),
        Err(why) => json!({ "source": Value::Null, "target": Value::Null, "error": why }),
    }
}

fn live_text(live: &Live) -> String {
    let seen = match live {
        Ok(seen) => seen,
        Err(why) => return format!("\nthe participants were not seen: {why}\n"),
    };
    let say = |server: Option<&ServerObservation>| match server {
        None => "does not answer".to_owned(),
        Some(server) => {
            let name = server.participant.as_ref().map_or("no name yet", |name| name.as_str());
            let on = server.synchronizers.values().filter(|it| it.link == Link::Connected).count();
            let all = server.synchronizers.len();
            format!("{name}, connected to {on} of {all} synchronizers")
        }
    };
    let mut rows =
        vec![("source now", say(seen.source.as_ref())), ("target now", say(seen.target.as_ref()))];
    if let Some(imported) = seen.work.imported {
        rows.push(("imported", format!("{} contracts of this plan", imported.contracts)));
    }
    rows.extend(seen.under_way.clone().map(|what| ("under way", what)));
    format!("\n{}", table(&rows))
}
