//! What a migration came to: figures of each run, their sum, and whether they are what was claimed.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::super::{in_words, say};

/// The sum of all runs.
pub(super) fn summarize(runs: &[Value], operators: usize, wall: Duration) -> Value {
    let sum = |field: &str| -> u64 {
        runs.iter().filter_map(|run| run.get(field).and_then(Value::as_u64)).sum()
    };
    let all = |field: &str| {
        !runs.is_empty()
            && runs.iter().all(|run| run.get(field).and_then(Value::as_bool) == Some(true))
    };
    json!({
        "strategy": "migration",
        "operators": operators,
        "contracts": sum("contracts"),
        "contracts_expected": sum("contracts_expected"),
        "contracts_shared": sum("contracts_shared"),
        "shared_equal": all("shared_equal"),
        "refused_alone": runs.iter().all(names_who_must_agree),
        "ids_reproduced_before": sum("ids_reproduced_before"),
        "ids_verified_after": sum("ids_verified_after"),
        "lost": sum("lost"),
        "round_trip_identical": all("round_trip_identical"),
        "kms_sign_verified": all("sign_verified"),
        "kills": sum("kills"),
        "runs": runs,
        "wall_seconds": rounded(wall.as_secs_f64()),
    })
}

/// Shows it to people.
pub(super) fn explain(summary: &Value) {
    say("\nWhat happened");
    let fields = [
        ("operators", "operators"),
        ("contracts", "contracts"),
        ("contracts of two operators", "contracts_shared"),
        ("their copies are equal", "shared_equal"),
        ("alone it is refused, by name", "refused_alone"),
        ("ids reproduced before", "ids_reproduced_before"),
        ("ids verified after", "ids_verified_after"),
        ("contracts lost", "lost"),
        ("identical after the round trip", "round_trip_identical"),
        ("every KMS signed, verified", "kms_sign_verified"),
        ("processes killed meanwhile", "kills"),
    ];
    for (label, field) in fields {
        let value = summary.get(field).map(in_words).unwrap_or_default();
        say(&format!("   {label:<34}{value}"));
    }
}

/// Fails unless it is what this demonstration claims.
pub(super) fn judge(summary: &Value) -> Result<()> {
    let number = |field: &str| summary.get(field).and_then(Value::as_u64);
    let contracts = number("contracts");
    ensure!(contracts > Some(0), "there are no contracts: {summary}");
    for field in ["contracts_expected", "ids_reproduced_before", "ids_verified_after"] {
        ensure!(number(field) == contracts, "{field} is not every contract: {summary}");
    }
    ensure!(number("lost") == Some(0), "contracts were lost: {summary}");
    let is_joint = number("operators") > Some(1);
    ensure!(is_joint == (number("contracts_shared") > Some(0)), "nobody shares: {summary}");
    let refused = summary.get("refused_alone").and_then(Value::as_bool);
    ensure!(!is_joint || refused == Some(true), "somebody could move alone: {summary}");
    for field in ["shared_equal", "round_trip_identical", "kms_sign_verified"] {
        let found = summary.get(field).and_then(Value::as_bool);
        ensure!(found == Some(true), "{field} is false: {summary}");
    }
    Ok(())
}

/// Whether a plan without the other operator was refused by his name, there and back.
fn names_who_must_agree(run: &Value) -> bool {
    let named = run.get("must_agree").and_then(Value::as_array);
    named.is_some_and(|named| !named.is_empty() && named.iter().all(Value::is_string))
}

/// Seconds, for people.
pub(super) fn rounded(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Value {
        json!({
            "contracts": 6, "contracts_expected": 6, "contracts_shared": 2, "shared_equal": true,
            "ids_reproduced_before": 6, "ids_verified_after": 6, "lost": 0,
            "round_trip_identical": true, "sign_verified": true, "kills": 0,
            "must_agree": ["operator-2", "operator-2"],
        })
    }

    #[test]
    fn a_summary_with_one_figure_that_is_not_so_is_refused() {
        let judged = |run: &Value, operators| {
            judge(&summarize(std::slice::from_ref(run), operators, Duration::ZERO))
        };
        judged(&run(), 2).unwrap();
        assert!(judged(&run(), 1).is_err());
        let alone = json!({"contracts_shared": 0, "must_agree": [null, null]});
        let mut one = run();
        one.as_object_mut().unwrap().extend(alone.as_object().unwrap().clone());
        judged(&one, 1).unwrap();
        for (field, wrong) in [
            ("contracts", json!(5)),
            ("contracts_expected", json!(7)),
            ("contracts_shared", json!(0)),
            ("shared_equal", json!(false)),
            ("ids_reproduced_before", json!(5)),
            ("ids_verified_after", json!(5)),
            ("lost", json!(1)),
            ("round_trip_identical", json!(false)),
            ("sign_verified", json!(false)),
            ("must_agree", json!(["operator-2", null])),
        ] {
            let mut changed = run();
            changed[field] = wrong;
            assert!(judged(&changed, 2).is_err(), "{field}");
        }
    }
}
