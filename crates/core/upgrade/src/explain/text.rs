//! The text of an explanation, for a terminal or a file.

use std::fmt::{self, Write as _};

use heirloom_model::counter::Time;

use super::service::Phase;
use super::words::names;
use super::{BackRow, Diversity, Explanation, Row};
use crate::calendar::{End, Verdict};

/// How much is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Detail {
    /// Every forward step; copies where they change; gates that wait for more than steps; the
    /// way back node by node.
    Outline,
    /// Every step of both ways, with all of its gates and copies.
    Everything,
}

/// Makes the text. How times are written is the caller's custom.
pub fn render(
    explanation: &Explanation,
    detail: Detail,
    write_time: impl Fn(Time) -> String,
) -> String {
    let mut text = String::new();
    for told in &explanation.summary {
        line(&mut text, format_args!("{told}"));
    }
    for told in &explanation.warnings {
        line(&mut text, format_args!("! {told}"));
    }
    holders(&mut text, explanation);
    phases(&mut text, explanation);
    match detail {
        Detail::Outline => {
            outline(&mut text, explanation);
            back_by_node(&mut text, &explanation.rollback);
        }
        Detail::Everything => {
            every_step(&mut text, explanation);
            every_step_back(&mut text, &explanation.rollback);
        }
    }
    calendar(&mut text, explanation, write_time);
    text
}

fn line(text: &mut String, told: fmt::Arguments<'_>) {
    writeln!(text, "{told}").expect("writing into memory cannot fail");
}

fn holders(text: &mut String, explanation: &Explanation) {
    let Diversity { nodes, failure_domains, hosts, operators, platforms } = explanation.diversity;
    line(
        text,
        format_args!(
            "\nholders: {nodes} nodes, {failure_domains} failure domains, {hosts} hosts, \
             {operators} operators, {platforms} platforms"
        ),
    );
    for wave in &explanation.waves {
        let (count, members) = (wave.nodes.len(), names(&wave.nodes));
        let outside = wave.failure_domains_outside;
        line(
            text,
            format_args!(
                "wave {}: {count} nodes ({members}); {outside} failure domains keep a holder \
                 outside",
                wave.number
            ),
        );
    }
}

fn phases(text: &mut String, explanation: &Explanation) {
    if explanation.phases.is_empty() {
        return;
    }
    line(text, format_args!("\nthe service, phase by phase"));
    for phase in &explanation.phases {
        let Phase { first, last, what, after, abort, failure } = phase;
        if *first == explanation.point_of_no_return {
            line(text, format_args!("  ---- point of no return ----"));
        }
        let steps = if first == last {
            format!("step {first}")
        } else {
            format!("steps {first} to {last}")
        };
        line(text, format_args!("  {what:<9} {steps}: then {after}"));
        line(text, format_args!("            if called off: {abort}"));
        line(text, format_args!("            if it fails: {failure}"));
    }
}

fn point_of_no_return(text: &mut String, row: &Row, explanation: &Explanation) {
    if row.step == explanation.point_of_no_return {
        line(text, format_args!("  ---- point of no return ----"));
    }
}

fn outline(text: &mut String, explanation: &Explanation) {
    let Some(first) = explanation.steps.first() else { return };
    line(text, format_args!("\nsteps; before the first there are {}", first.before));
    let mut wave = None;
    for row in &explanation.steps {
        if wave != Some(row.wave) && !explanation.waves.is_empty() {
            match (wave, row.wave) {
                (None, 0) => line(text, format_args!("  before the first wave")),
                (Some(_), 0) => line(text, format_args!("  after the last wave")),
                (_, number) => line(text, format_args!("  wave {number}")),
            }
            wave = Some(row.wave);
        }
        point_of_no_return(text, row, explanation);
        line(text, format_args!("  {:>5}  {}  {}", row.step, row.node, row.action));
        // That one step comes after another goes without saying here.
        for gate in row.gates.iter().filter(|gate| !gate.ends_with(" done")) {
            line(text, format_args!("         needs {gate}"));
        }
        if row.after != row.before {
            line(text, format_args!("         then there are {}", row.after));
        }
    }
}

fn every_step(text: &mut String, explanation: &Explanation) {
    line(text, format_args!("\nsteps"));
    for row in &explanation.steps {
        point_of_no_return(text, row, explanation);
        let Row { step, wave, node, action, gates, before, after } = row;
        let group =
            if explanation.waves.is_empty() { String::new() } else { format!("wave {wave}  ") };
        line(text, format_args!("  {step:>5}  {group}{node}  {action}"));
        for gate in gates {
            line(text, format_args!("         needs  {gate}"));
        }
        line(text, format_args!("         before {before}"));
        if after != before {
            line(text, format_args!("         after  {after}"));
        }
    }
}

const WAY_BACK: &str = "the way back, if the plan is aborted before the point of no return";

fn back_by_node(text: &mut String, rows: &[BackRow]) {
    line(text, format_args!("\n{WAY_BACK}: what has begun on a node is undone"));
    for rows in rows.chunk_by(|left, right| left.node == right.node) {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { continue };
        line(text, format_args!("  {}  steps {} to {}", first.node, first.step, last.step));
    }
}

fn every_step_back(text: &mut String, rows: &[BackRow]) {
    line(text, format_args!("\n{WAY_BACK}"));
    for BackRow { step, node, action, gates, undoes } in rows {
        line(text, format_args!("  {step:>5}  {node}  {action} (if step {undoes} may have begun)"));
        for gate in gates {
            line(text, format_args!("         needs  {gate}"));
        }
    }
}

fn calendar(text: &mut String, explanation: &Explanation, write_time: impl Fn(Time) -> String) {
    let entries = &explanation.calendar;
    let width = entries.iter().map(|entry| entry.what.to_string().len()).max().unwrap_or(0);
    line(text, format_args!("\nexpiry"));
    for entry in entries {
        let (what, verdict) = (entry.what.to_string(), entry.verdict.name());
        let end = match entry.end {
            End::Time(time) => write_time(time),
            End::Epoch(_) => entry.end.to_string(),
        };
        match entry.verdict {
            Verdict::Unknown => line(text, format_args!("  {what:<width$}  {end}")),
            Verdict::Expired | Verdict::TooEarly | Verdict::Outlives => {
                line(text, format_args!("  {what:<width$}  {end}, {verdict}"));
            }
        }
    }
    if entries.iter().any(|entry| entry.verdict == Verdict::Unknown) {
        line(
            text,
            format_args!(
                "  dates are not compared with the plan's last epoch: how long an epoch takes \
                 was not said"
            ),
        );
    }
}
