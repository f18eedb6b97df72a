//! `heirloom participant preflight`: both participants are looked at, and nothing is changed.

use std::collections::BTreeSet;

use heirloom_model::envelope::Envelope;
use heirloom_model::identifier::{NodeId, OperatorId};
use heirloom_model::participant::{ParticipantSurvey, RemarkWeight, SurveyFindings};
use heirloom_model::party::ParticipantId;
use heirloom_participant::map::PartyMap;
use heirloom_participant::preflight::{Ground, findings};
use serde_json::{Value, json};

use crate::diagnostic::Diagnostic;
use crate::exit::Exit;
use crate::ledger::Access;
use crate::output::{self, Report, columns, table};
use crate::participant_setup::{self, Configured, Setup, driver_error};
use crate::{key, view_participant};

/// Which node.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    configured: Configured,
    /// Sign what was found with the key of the node's agent, and publish it: plans are made of it
    #[arg(long)]
    publish: bool,
}

/// Names for people that are shown. JSON has all of them.
const NAMES_SHOWN: usize = 20;

/// Looks, and publishes what was found if that is wished.
pub(crate) fn run(args: &Args) -> Result<Report, Diagnostic> {
    let config = args.configured.read()?;
    let driver = participant_setup::driver(&config)?;
    let (found, ground) = driver.look().map_err(|error| driver_error(&error))?;
    drop(driver);
    let names = participant_setup::predicted(&config, &found)?;
    let published = if args.publish {
        let mut setup = args.configured.open(Access::Append)?;
        Some(publish(&mut setup, found.clone())?)
    } else {
        None
    };
    let mut text = summary(&found, &participant_setup::keeper(&config));
    text.push_str(&remarks_text(&found, &ground));
    let partners = partners(args, &found);
    text.push_str(&partners_text(&partners));
    text.push_str(&names_text(names.as_ref()));
    if let Some(at) = published {
        output::line(&mut text, format_args!("\npublished as log entry {at}"));
    }
    let json = json!({
        "node": config.node.to_string(),
        "found": view_participant::findings(&found),
        "findings": remarks_json(&found, &ground),
        "partners": partners.iter().map(Partner::json).collect::<Vec<_>>(),
        "predicted": names_json(names.as_ref()),
        "index": published,
    });
    let blocked = found.blocks().next().is_some();
    let exit = if blocked { Exit::Refused } else { Exit::Done };
    Ok(Report::new("participant.preflight", json, text).exit(exit))
}

fn publish(setup: &mut Setup, found: SurveyFindings) -> Result<u64, Diagnostic> {
    let key = key::read(&setup.config.key_file)?;
    let survey = ParticipantSurvey {
        network: setup.config.network,
        domain: setup.node()?.domain,
        node: setup.config.node.clone(),
        found,
    };
    Ok(setup.ledger.append(&Envelope::signed(&survey, [&key]))?.0)
}

/// Who must take part, because a party of his stands in contracts.
struct Partner {
    participant: ParticipantId,
    /// The operator and the node, if the log knows them.
    known: Option<(OperatorId, NodeId)>,
}

impl Partner {
    fn json(&self) -> Value {
        let known = self.known.as_ref();
        json!({
            "participant": self.participant.to_string(),
            "operator": known.map(|(operator, _)| operator.to_string()),
            "node": known.map(|(_, node)| node.to_string()),
        })
    }
}

/// Everybody else who hosts a party of these contracts. Who that is, is in the log: whoever
/// published a preflight. A log that does not answer takes nothing away from what was found.
fn partners(args: &Args, found: &SurveyFindings) -> Vec<Partner> {
    let hosts: BTreeSet<&ParticipantId> =
        found.foreign.iter().flat_map(|foreign| &foreign.hosts).collect();
    if hosts.is_empty() {
        return Vec::new();
    }
    let setup = args.configured.open(Access::Read).ok();
    let known = |participant: &ParticipantId| {
        let state = &setup.as_ref()?.ledger.state;
        let mut surveys = state.surveys();
        let (node, _) = surveys.find(|(_, seen)| seen.survey().found.source == *participant)?;
        Some((state.node(node)?.operator.clone(), node.clone()))
    };
    let partner = |participant: &ParticipantId| Partner {
        participant: participant.clone(),
        known: known(participant),
    };
    hosts.into_iter().map(partner).collect()
}

fn partners_text(partners: &[Partner]) -> String {
    let mut text = String::new();
    for Partner { participant, known } in partners {
        match known {
            Some((operator, node)) => output::line(
                &mut text,
                format_args!(
                    "{participant} is run by {operator}: plan with `--with {node}`, and \
                     {operator} agrees to the party map"
                ),
            ),
            None => output::line(
                &mut text,
                format_args!(
                    "who runs {participant} is not in the log yet: its node publishes a preflight \
                     first, and is then named by `--with NODE`"
                ),
            ),
        }
    }
    text
}

fn summary(found: &SurveyFindings, keeper: &str) -> String {
    let target = match &found.target {
        Some(target) => format!("{target}, version {}", found.target_version),
        None => format!("no name yet, version {}", found.target_version),
    };
    let moving = found.movable().count();
    table(&[
        ("source", format!("{}, version {}", found.source, found.source_version)),
        ("target", target),
        ("custodian", format!("{}: {keeper}", found.custodian)),
        ("contracts", found.contracts.to_string()),
        ("parties", format!("{} hosted, of which {moving} move", found.parties.len())),
        ("parties of others", found.foreign.len().to_string()),
        ("packages", found.packages.to_string()),
        ("ledger end", found.ledger_end.to_string()),
    ])
}

/// Each finding with its code, and what the survey says beyond them.
fn remarks_json(found: &SurveyFindings, ground: &Ground) -> Value {
    let known = findings(ground);
    let remarks = found.remarks.iter().map(|remark| {
        match known.iter().find(|finding| finding.remark() == *remark) {
            Some(finding) => json!({
                "code": finding.code.text(),
                "weight": finding.weight.name(),
                "what": finding.what,
                "remedy": finding.remedy,
            }),
            None => json!({
                "code": Value::Null,
                "weight": remark.weight.name(),
                "what": remark.text,
                "remedy": Value::Null,
            }),
        }
    });
    remarks.collect()
}

fn remarks_text(found: &SurveyFindings, ground: &Ground) -> String {
    let known = findings(ground);
    let mut text = "\n".to_owned();
    for remark in &found.remarks {
        let weight = remark.weight.name();
        match known.iter().find(|finding| finding.remark() == *remark) {
            Some(finding) => {
                let (code, what) = (finding.code.text(), &finding.what);
                output::line(&mut text, format_args!("{weight} {code}: {what}"));
                output::line(&mut text, format_args!("  to do: {}", finding.remedy));
            }
            None => output::line(&mut text, format_args!("{weight}: {}", remark.text)),
        }
    }
    let blocks = found.remarks.iter().any(|remark| remark.weight == RemarkWeight::Blocks);
    let verdict = if blocks { "nothing can be planned before that is put right" } else { "ready" };
    output::line(&mut text, format_args!("{verdict}"));
    text
}

/// The names that parties are going to have, as JSON.
pub(crate) fn names_json(names: Option<&PartyMap>) -> Value {
    names.map_or(Value::Null, |map| {
        let moves: Vec<Value> = map
            .moves()
            .map(|(from, to)| json!({ "from": from.to_string(), "to": to.to_string() }))
            .collect();
        json!({ "map": map.digest().to_string(), "moves": moves })
    })
}

/// The names that parties are going to have, for people.
pub(crate) fn names_text(names: Option<&PartyMap>) -> String {
    let Some(map) = names else {
        return "\nnew names: not known before the namespace key of the target is made\n"
            .to_owned();
    };
    let rows: Vec<Vec<String>> = map
        .moves()
        .take(NAMES_SHOWN)
        .map(|(from, to)| vec![from.to_string(), to.to_string()])
        .collect();
    let mut text = format!("\n{}", columns(&["party", "new name"], &rows));
    let hidden = map.len().saturating_sub(NAMES_SHOWN);
    if hidden > 0 {
        output::line(&mut text, format_args!("and {hidden} more, which --json shows"));
    }
    text
}
