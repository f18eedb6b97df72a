//! How long nobody can pay on a flag day, beside what that takes at least.
//!
//! It is the demonstration with five operators, run as a program of its own; the floor is measured
//! by it too, with the same ledgers and under the same load.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::bench::{Figure, say};

/// Plays the demonstration, and reads its summary.
pub(crate) fn measure() -> Result<Figure> {
    say("Playing a flag day of five operators.");
    let own = std::env::current_exe().context("this program has no path")?;
    let output =
        Command::new(own).args(["demo", "flag-day", "--json"]).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the flag day failed ({})", output.status);
    let text = String::from_utf8(output.stdout).context("a summary is text")?;
    let last = text.lines().last().context("the demonstration has a summary")?;
    figure(&serde_json::from_str(last).context("a summary is JSON")?)
}

fn figure(summary: &Value) -> Result<Figure> {
    let number = |name: &str| {
        let found = summary.pointer(name).and_then(Value::as_f64);
        found.with_context(|| format!("the summary has no {name}"))
    };
    let (window, floor) = (number("/closed_window_ms")?, number("/floor_ms")?);
    Ok(Figure {
        name: "flag-day".to_owned(),
        what: "closed window of a flag day, from the last payment to the first".to_owned(),
        unit: "ms".to_owned(),
        found: window,
        floor: Some(floor),
        ratio: Some(window / floor),
        target: None,
        note: format!(
            "{} nodes with a ledger of {:.0} MB each; the floor: all services started at once \
             {:.0} ms, every ledger copied twice {:.0} ms, tests {:.0} ms; {:.0} payments \
             accepted, {:.0} lost; in the development profile",
            number("/nodes")?,
            number("/floor/ledger_bytes")? / 1e6,
            number("/floor/process_starts_ms")?,
            number("/floor/two_copies_of_every_ledger_ms")?,
            number("/floor/tests_ms")?,
            number("/payments_accepted")?,
            number("/payments_lost")?,
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_window_stands_beside_its_floor() {
        let summary = json!({
            "nodes": 5, "closed_window_ms": 6_000.0, "floor_ms": 4_000.0,
            "payments_accepted": 100, "payments_lost": 0,
            "floor": {
                "process_starts_ms": 1.0, "two_copies_of_every_ledger_ms": 2.0, "tests_ms": 3.0,
                "ledger_bytes": 1_000_000,
            },
        });
        let figure = figure(&summary).unwrap();
        assert_eq!((figure.found, figure.ratio), (6_000.0, Some(1.5)));
        assert!(super::figure(&json!({ "closed_window_ms": 1.0 })).is_err());
    }
}
