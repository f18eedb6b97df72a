//! What the log says about a flag day, for people and for programs.

use std::fmt::Write as _;

use heirloom_model::counter::{Epoch, LogIndex};
use heirloom_model::identifier::NodeId;
use heirloom_model::plan::{Action, ServiceAction, Step};
use heirloom_model::service::{Standing, Tip};
use heirloom_registry::network::NetworkState;
use heirloom_registry::plan::{PlanState, PlanStatus};
use serde_json::{Value, json};

use crate::command::upgrade::CalledOff;
use crate::output::{columns, table};
use crate::view_service;

/// What the report says.
pub(crate) struct Told<'a> {
    found: &'a PlanState,
    state: &'a NetworkState,
    /// A node, and whom it saw as attested peers.
    matrix: Vec<(NodeId, Vec<NodeId>)>,
    frozen: Option<Tip>,
    /// The end of each ledger at its last word.
    tips: Vec<(NodeId, Tip)>,
    fork: Option<(NodeId, Tip)>,
    blocks: Vec<Block>,
}

/// Steps of one kind that follow each other.
struct Block {
    action: &'static str,
    back: bool,
    steps: usize,
    /// When each of them that has a result got it.
    done: Vec<(LogIndex, Option<Epoch>)>,
    /// Where the ledgers end that the services stated, each once.
    tips: Vec<Tip>,
}

impl Block {
    fn first(&self) -> Option<(LogIndex, Option<Epoch>)> {
        self.done.iter().min().copied()
    }

    fn last(&self) -> Option<(LogIndex, Option<Epoch>)> {
        self.done.iter().max().copied()
    }

    fn json(&self) -> Value {
        let moment = |at: Option<(LogIndex, Option<Epoch>)>| {
            at.map(
                |(index, epoch)| json!({ "index": index.0, "epoch": epoch.map(|epoch| epoch.0) }),
            )
        };
        json!({
            "action": self.action,
            "way_back": self.back,
            "steps": self.steps,
            "done": self.done.len(),
            "first": moment(self.first()),
            "last": moment(self.last()),
            "tips": self.tips.iter().map(view_service::tip).collect::<Vec<_>>(),
        })
    }

    fn row(&self) -> Vec<String> {
        let action = if self.back { format!("back: {}", self.action) } else { self.action.into() };
        let span = |from: Option<u64>, to: Option<u64>| match (from, to) {
            (Some(from), Some(to)) if from == to => from.to_string(),
            (Some(from), Some(to)) => format!("{from} to {to}"),
            _ => String::new(),
        };
        let (first, last) = (self.first(), self.last());
        let entry = |at: Option<(LogIndex, Option<Epoch>)>| at.map(|(index, _)| index.0);
        let epoch = |at: Option<(LogIndex, Option<Epoch>)>| at?.1.map(|epoch| epoch.0);
        let tip = match self.tips.as_slice() {
            [] => String::new(),
            [one] => short(one),
            many => format!("{} different", many.len()),
        };
        vec![
            action,
            format!("{} of {}", self.done.len(), self.steps),
            span(entry(first), entry(last)),
            span(epoch(first), epoch(last)),
            tip,
        ]
    }
}

/// Enough of a tip to see a difference.
fn short(tip: &Tip) -> String {
    let id = tip.id.to_string();
    format!("{} {}", tip.height, id.get(..12).unwrap_or(&id))
}

impl<'a> Told<'a> {
    /// Reads it out of the log.
    pub(crate) fn of(found: &'a PlanState, state: &'a NetworkState) -> Self {
        let plan = found.plan();
        let mut matrix: Vec<(NodeId, Vec<NodeId>)> = Vec::new();
        let mut tips: Vec<(NodeId, Tip)> = Vec::new();
        let mut fork = None;
        for (step, said) in steps(found).filter_map(|(step, _)| Some((step, said(found, step)?))) {
            if matches!(step.action, Action::Service(ServiceAction::Join(_))) {
                let peers = said.peers.iter().map(|peer| peer.node.clone()).collect();
                matrix.push((step.node.clone(), peers));
            }
            if let Some(other) = said.fork {
                fork = Some((step.node.clone(), other));
            }
            if let Some(tip) = said.tip {
                tips.retain(|(known, _)| *known != step.node);
                tips.push((step.node.clone(), tip));
            }
        }
        tips.sort();
        let frozen = plan.nodes.iter().find_map(|node| found.frozen_tip(node));
        Self { found, state, matrix, frozen, tips, fork, blocks: blocks(found) }
    }

    /// Whether a service saw two histories.
    pub(crate) fn saw_fork(&self) -> bool {
        self.fork.is_some()
    }

    /// Whether every node saw every other one, and nobody else.
    fn matrix_is_full(&self) -> bool {
        let nodes = &self.found.plan().nodes;
        let full = |(node, seen): &(NodeId, Vec<NodeId>)| {
            nodes.iter().filter(|other| *other != node).eq(seen.iter())
        };
        self.matrix.len() == nodes.len() && self.matrix.iter().all(full)
    }

    fn rehearsals(&self) -> usize {
        let change = self.found.plan().service.as_ref();
        change.map_or(0, |change| self.state.rehearsals(&change.terms.digest()))
    }

    fn approved_by(&self) -> Vec<String> {
        self.found.approvals().keys().map(ToString::to_string).collect()
    }

    /// For programs.
    pub(crate) fn json(&self) -> Value {
        let plan = self.found.plan();
        let off = CalledOff::of(self.found);
        let of_node = |(node, tip): &(NodeId, Tip)| json!({ "node": node.to_string(), "tip": view_service::tip(tip) });
        let matrix = self.matrix.iter().map(|(node, seen)| {
            let seen: Vec<String> = seen.iter().map(ToString::to_string).collect();
            json!({ "node": node.to_string(), "peers": seen })
        });
        let done = steps(self.found).filter_map(|(step, _)| {
            Some(json!({
                "step": step.id.0,
                "action": step.action.name(),
                "node": step.node.to_string(),
                "index": self.found.done_at(step.id)?.0,
                "epoch": self.found.epoch_of(step.id).map(|epoch| epoch.0),
            }))
        });
        json!({
            "plan": self.found.digest().to_string(),
            "status": self.found.status().name(),
            "service": plan.service.as_ref().map(view_service::change),
            "approvals": self.found.approvals().len(),
            "approved_by": self.approved_by(),
            "rehearsals": self.rehearsals(),
            "frozen": self.frozen.as_ref().map(view_service::tip),
            "peer_matrix": matrix.collect::<Vec<_>>(),
            "peer_matrix_ok": self.matrix_is_full(),
            "tips": self.tips.iter().map(of_node).collect::<Vec<_>>(),
            "fork": self.fork.as_ref().map(of_node),
            "called_off_by": off.as_ref().map(|off| off.by.clone()),
            "called_off_for": off.as_ref().and_then(|off| off.reason.clone()),
            "called_off_at": off.as_ref().and_then(|off| off.at).map(|at| at.0),
            "rolled_back": self.found.status() == PlanStatus::RolledBack,
            "blocks": self.blocks.iter().map(Block::json).collect::<Vec<_>>(),
            "steps_done": done.collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = table(&self.rows());
        let rows: Vec<Vec<String>> = self.blocks.iter().map(Block::row).collect();
        let head = ["steps", "done", "log entries", "epochs", "ledgers end at"];
        let _written = write!(text, "\n{}", columns(&head, &rows));
        if !self.matrix.is_empty() {
            let verdict = if self.matrix_is_full() {
                "every node saw every other one, and nobody else"
            } else {
                "NOT every node saw exactly the others"
            };
            let _written = write!(text, "\nattested peers: {verdict}\n{}", self.grid());
        }
        if !self.tips.is_empty() {
            let row = |(node, tip): &(NodeId, Tip)| {
                vec![node.to_string(), tip.height.to_string(), tip.id.to_string()]
            };
            let rows: Vec<Vec<String>> = self.tips.iter().map(row).collect();
            let head = columns(&["node", "height", "block"], &rows);
            let _written = write!(text, "\nwhere each ledger ended at its last word\n{head}");
        }
        text
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("plan", self.found.digest().to_string()),
            ("status", self.found.status().name().to_owned()),
        ];
        rows.extend(self.approved_by().into_iter().map(|key| ("approved by", key)));
        rows.push(("rehearsals", self.rehearsals().to_string()));
        if let Some(change) = &self.found.plan().service {
            rows.push((
                "from",
                format!("{}  {}", change.terms.from.release, change.from.measurement),
            ));
            rows.push(("to", format!("{}  {}", change.terms.to.release, change.to.measurement)));
            rows.push(("terms", change.terms.digest().to_string()));
        }
        if let Some(tip) = &self.frozen {
            rows.push(("frozen at", tip.to_string()));
        }
        rows.extend(self.window().map(|window| ("closed", window)));
        rows.extend(CalledOff::of(self.found).map(|off| ("called off", off.text())));
        if let Some((node, tip)) = &self.fork {
            rows.push(("FORK", format!("{node} saw block {tip} of a peer, which is not its own")));
        }
        rows
    }

    /// From the first fence to the first opening. The log has epochs and no clock.
    fn window(&self) -> Option<String> {
        let fenced = self.blocks.iter().find(|block| block.action == "fence")?.first()?;
        let opened = self.blocks.iter().filter(|block| block.action == "open");
        let opened = opened.filter_map(Block::first).min();
        let moment = |(index, epoch): (LogIndex, Option<Epoch>)| match epoch {
            Some(epoch) => format!("log entry {index} in epoch {epoch}"),
            None => format!("log entry {index}"),
        };
        Some(match opened {
            Some(opened) => format!("from {} to {}", moment(fenced), moment(opened)),
            None => format!("since {}", moment(fenced)),
        })
    }

    /// The matrix as a table: a row sees a column.
    fn grid(&self) -> String {
        let nodes = &self.found.plan().nodes;
        let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        let mut heads = vec!["sees"];
        heads.extend(names.iter().map(String::as_str));
        let row = |(node, seen): &(NodeId, Vec<NodeId>)| {
            let cell = |other: &NodeId| match (other == node, seen.contains(other)) {
                (true, _) => "-".to_owned(),
                (false, true) => "yes".to_owned(),
                (false, false) => "NO".to_owned(),
            };
            std::iter::once(node.to_string()).chain(nodes.iter().map(cell)).collect()
        };
        columns(&heads, &self.matrix.iter().map(row).collect::<Vec<Vec<String>>>())
    }
}

/// Every step, in the order of the plan, and whether it belongs to the way back. Of the way back
/// only what an abort made necessary.
fn steps(found: &PlanState) -> impl Iterator<Item = (&Step, bool)> {
    let back = found.aborted().is_some().then(|| found.rollback_needed());
    let forward = found.plan().steps.iter().map(|step| (step, false));
    forward.chain(back.into_iter().flatten().map(|step| (step, true)))
}

/// Steps of one kind become one block. The way back goes node by node, so that its blocks are
/// collected by kind.
fn blocks(found: &PlanState) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (step, back) in steps(found) {
        let action = step.action.name();
        let known = if back {
            blocks.iter_mut().find(|block| block.back && block.action == action)
        } else {
            blocks.last_mut().filter(|block| block.action == action)
        };
        let tip = said(found, step).and_then(|said| said.tip);
        let done = found.done_at(step.id).map(|at| (at, found.epoch_of(step.id)));
        let Some(block) = known else {
            let (done, tips) = (done.into_iter().collect(), tip.into_iter().collect());
            blocks.push(Block { action, back, steps: 1, done, tips });
            continue;
        };
        block.steps = block.steps.saturating_add(1);
        block.done.extend(done);
        block.tips.extend(tip.filter(|tip| !block.tips.contains(tip)));
    }
    blocks
}

/// What the service of a step's node said at it.
fn said<'a>(found: &'a PlanState, step: &Step) -> Option<&'a Standing> {
    Some(found.standing(step.id)?.standing().get())
}
