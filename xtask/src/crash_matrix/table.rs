//! What came of each kill, and the table of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

/// What came of one kill.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Outcome {
    /// The process came back, and there was nothing to do again.
    Serving,
    /// The process came back, and went on with what was interrupted.
    Resumed,
    /// The process did not come back, or the phase did not come to its end.
    Stuck,
    /// Two instances of an exclusive domain answered at the same time.
    Double,
    /// A generation, a key or a block is not what it was.
    Lost,
    /// The ledgers of a service do not end alike.
    Forked,
    /// A payment was made twice.
    Doubled,
}

/// One kill.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// During which phase.
    pub(crate) phase: &'static str,
    /// Which process.
    pub(crate) process: String,
    /// At which operation.
    pub(crate) operation: String,
    /// On which file.
    pub(crate) file: String,
    /// The last record of the node's journal.
    pub(crate) stage: String,
    /// Before or after it.
    pub(crate) when: String,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// All kills.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    vanished: Vec<String>,
    /// How many operations there were, and how many of them were struck.
    coverage: Vec<Coverage>,
}

/// How many operations a phase had, and at how many of them somebody was killed.
#[derive(Clone, Debug)]
pub(crate) struct Coverage {
    /// During which phase.
    pub(crate) phase: &'static str,
    /// Which process.
    pub(crate) process: String,
    /// Operations that differ.
    pub(crate) operations: usize,
    /// Of them, those where somebody was killed.
    pub(crate) struck: usize,
}

/// Kills that are shown as one line: process, operation, file, when.
type Line<'r> = (&'r str, &'r str, &'r str, &'r str, &'r str);

/// How often each outcome.
#[derive(Clone, Copy, Debug, Default)]
struct Counts([usize; 7]);

impl Counts {
    fn count(&mut self, outcome: Outcome) {
        let [serving, resumed, stuck, double, lost, forked, doubled] = &mut self.0;
        *match outcome {
            Outcome::Serving => serving,
            Outcome::Resumed => resumed,
            Outcome::Stuck => stuck,
            Outcome::Double => double,
            Outcome::Lost => lost,
            Outcome::Forked => forked,
            Outcome::Doubled => doubled,
        } += 1;
    }
}

impl Row {
    /// The whole of it, on one line.
    fn story(&self) -> String {
        let Self { phase, process, operation, file, stage, when, outcome } = self;
        let outcome = format!("{outcome:?}").to_lowercase();
        format!("{outcome}: {phase}, {process}, killed {when} {operation} {file}, stage {stage}")
    }
}

impl Table {
    /// Adds the kills of a phase.
    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    /// Adds sealed files that were seen once and then no more.
    pub(crate) fn vanished(&mut self, vanished: Vec<String>) {
        self.vanished.extend(vanished);
    }

    /// Adds how much of a phase was struck.
    pub(crate) fn cover(&mut self, coverage: Vec<Coverage>) {
        self.coverage.extend(coverage);
    }

    /// Whether nobody got stuck, nothing was lost, and nobody answered beside another.
    pub(crate) fn is_clean(&self) -> bool {
        let Counts([_, _, bad @ ..]) = self.total();
        bad == [0; 5] && self.vanished.is_empty() && !self.rows.is_empty()
    }

    /// For people.
    pub(crate) fn text(&self, wall: Duration) -> String {
        let mut text = String::new();
        let mut line =
            |[phase, process, operation, file]: [&str; 4], when: &str, counts: [String; 7]| {
                let [serving, resumed, stuck, double, lost, forked, doubled] = counts;
                // Writing into text does not fail.
                let _written = writeln!(
                    text,
                    "{phase:<16} {process:<18} {operation:<9} {file:<44} {when:<7} \
                 {serving:>7} {resumed:>7} {stuck:>5} {double:>6} {lost:>4} \
                 {forked:>6} {doubled:>7}"
                );
            };
        let heads = ["serving", "resumed", "stuck", "double", "lost", "forked", "doubled"]
            .map(str::to_owned);
        line(["phase", "process", "operation", "file"], "killed", heads);
        for ((phase, process, operation, file, when), Counts(counts)) in self.lines() {
            line([phase, process, operation, file], when, counts.map(|count| count.to_string()));
        }
        line(["all", "", "", ""], "", self.total().0.map(|count| count.to_string()));
        for bad in self.bad() {
            let _written = writeln!(text, "{}", bad.story());
        }
        for vanished in &self.vanished {
            let _written = writeln!(text, "vanished: {vanished}");
        }
        for Coverage { phase, process, operations, struck } in &self.coverage {
            let _written = writeln!(
                text,
                "{phase}, {process}: {operations} operations, of which {struck} were struck"
            );
        }
        let _written = write!(text, "{} kills in {:.0} s", self.rows.len(), wall.as_secs_f64());
        text
    }

    /// For programs.
    pub(crate) fn json(&self, wall: Duration) -> Value {
        let named = |Counts([serving, resumed, stuck, double, lost, forked, doubled]): Counts| {
            json!({
                "serving": serving,
                "resumed": resumed,
                "stuck": stuck,
                "double_active": double,
                "lost": lost,
                "forked": forked,
                "doubled": doubled,
            })
        };
        let rows: Vec<Value> = self
            .lines()
            .into_iter()
            .map(|((phase, process, operation, file, when), counts)| {
                json!({
                    "phase": phase,
                    "process": process,
                    "operation": operation,
                    "file": file,
                    "killed": when,
                    "outcomes": named(counts),
                })
            })
            .collect();
        let coverage: Vec<Value> = self
            .coverage
            .iter()
            .map(|Coverage { phase, process, operations, struck }| {
                json!({
                    "phase": phase,
                    "process": process,
                    "operations": operations,
                    "struck": struck,
                })
            })
            .collect();
        let bad: Vec<String> = self.bad().map(Row::story).collect();
        json!({
            "schema": "heirloom.crash-matrix.v1",
            "rows": rows,
            "kills": self.rows.len(),
            "outcomes": named(self.total()),
            "bad": bad,
            "vanished": self.vanished,
            "coverage": coverage,
            "wall_seconds": (wall.as_secs_f64() * 1_000.0).round() / 1_000.0,
        })
    }

    fn bad(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.outcome >= Outcome::Stuck)
    }

    fn lines(&self) -> BTreeMap<Line<'_>, Counts> {
        let mut lines: BTreeMap<Line<'_>, Counts> = BTreeMap::new();
        for row in &self.rows {
            let Row { phase, process, operation, file, when, outcome, stage: _ } = row;
            lines.entry((phase, process, operation, file, when)).or_default().count(*outcome);
        }
        lines
    }

    fn total(&self) -> Counts {
        let mut total = Counts::default();
        for row in &self.rows {
            total.count(row.outcome);
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(outcome: Outcome) -> Row {
        Row {
            phase: "upgrade",
            process: "agent of node-1".to_owned(),
            operation: "fsync".to_owned(),
            file: "journal".to_owned(),
            stage: "started 1".to_owned(),
            when: "before".to_owned(),
            outcome,
        }
    }

    #[test]
    fn a_table_is_clean_only_if_somebody_was_killed_and_all_came_back() {
        let mut table = Table::default();
        assert!(!table.is_clean());
        table.add(vec![row(Outcome::Serving), row(Outcome::Resumed)]);
        assert!(table.is_clean());
        assert!(
            table
                .text(Duration::ZERO)
                .contains("before        1       1     0      0    0      0       0")
        );
        let bad = [Outcome::Stuck, Outcome::Double, Outcome::Lost];
        for bad in bad.into_iter().chain([Outcome::Forked, Outcome::Doubled]) {
            let mut table = Table::default();
            table.add(vec![row(Outcome::Serving), row(bad)]);
            assert!(!table.is_clean());
        }
        table.vanished(vec!["keyring-0-0 of node-1".to_owned()]);
        assert!(!table.is_clean());
    }
}
