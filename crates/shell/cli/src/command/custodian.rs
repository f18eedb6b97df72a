//! `heirloom custodian`: key stores of ledger participants, asked before they are relied on.

use std::path::PathBuf;

use heirloom_canton::fingerprint::Fingerprint;
use heirloom_custodians::config::Config;
use heirloom_participant::custodian::Custodian;
use heirloom_participant::custodian::assess::{Outcome, Verdict};
use heirloom_participant::custodian::check::{self, Checked, CheckedKey};
use heirloom_participant::custodian::key::{KeyScheme, KeyUsage, Label, Operation};
use heirloom_participant::custodian::probe::{Difference, Trial};
use serde_json::{Value, json};

use crate::custodian_error as error;
use crate::diagnostic::Diagnostic;
use crate::output::{Report, columns, table};

/// Verbs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Ask a custodian what it can do, compare that with what is known about its kind, and say
    /// which keys of a participant it can hold
    Check(Check),
    /// List its keys, with their state and the names that a ledger gives them
    Keys(Keys),
}

/// What to check.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The custodian's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Make one key of each scheme and use it: these keys stay, cost money in a cloud, and nothing
    /// here deletes them; the prefix begins their labels
    #[arg(long, value_name = "PREFIX")]
    make_keys_that_stay: Option<Label>,
}

/// Whose keys.
#[derive(Debug, clap::Args)]
pub(crate) struct Keys {
    /// The custodian's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Runs a verb.
pub(crate) fn run(command: &Command) -> Result<Report, Diagnostic> {
    match command {
        Command::Check(args) => run_check(args),
        Command::Keys(args) => run_keys(args),
    }
}

fn run_check(args: &Check) -> Result<Report, Diagnostic> {
    let custodian = open(&args.config)?;
    let trial = match &args.make_keys_that_stay {
        None => Trial::AskOnly,
        Some(prefix) => Trial::MakeKeys { prefix: prefix.clone() },
    };
    let checked = check::check(custodian.as_ref(), &trial, None);
    let checked = checked.map_err(|failed| error::probe(&failed))?;
    Ok(Report::new("custodian.check", check_json(&checked), check_text(&checked)))
}

fn run_keys(args: &Keys) -> Result<Report, Diagnostic> {
    let custodian = open(&args.config)?;
    let keys = check::keys(custodian.as_ref()).map_err(|failed| error::custodian(&failed))?;
    let place = custodian.describe().place;
    let json = json!({ "place": place, "keys": keys.iter().map(key_json).collect::<Vec<_>>() });
    Ok(Report::new("custodian.keys", json, keys_text(&keys)))
}

fn open(config: &std::path::Path) -> Result<Box<dyn Custodian>, Diagnostic> {
    let opened = Config::read(config).and_then(|config| config.open());
    opened.map_err(|failed| error::config(&failed))
}

fn check_json(checked: &Checked) -> Value {
    let probe = &checked.probe;
    let pairs = |pairs: &std::collections::BTreeSet<(KeyScheme, Operation)>| -> Vec<Value> {
        let named = pairs.iter().map(|(scheme, operation)| {
            json!({ "scheme": scheme.as_str(), "operation": operation.as_str() })
        });
        named.collect()
    };
    let differences: Vec<Value> =
        checked.differences.iter().copied().map(difference_json).collect();
    let failed = probe
        .failed
        .iter()
        .map(|(scheme, error)| json!({ "scheme": scheme.as_str(), "error": error.to_string() }));
    let verdicts: Vec<Value> = checked.verdicts.iter().map(verdict_json).collect();
    json!({
        "kind": probe.description.kind.name(),
        "place": probe.description.place,
        "product": probe.abilities.product,
        "can": pairs(&probe.abilities.can),
        "open": pairs(&probe.abilities.open),
        "made": probe.made.iter().map(|key| key.label.as_str()).collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(),
        "differences": differences,
        "verdicts": verdicts,
        "keys": checked.keys.iter().map(key_json).collect::<Vec<_>>(),
    })
}

fn difference_json(difference: Difference) -> Value {
    let (word, scheme, operation) = difference_parts(difference);
    json!({ "found": word, "scheme": scheme.as_str(), "operation": operation.as_str() })
}

fn difference_parts(difference: Difference) -> (&'static str, KeyScheme, Operation) {
    match difference {
        Difference::CanAllTheSame { scheme, operation } => ("can", scheme, operation),
        Difference::CannotAfterAll { scheme, operation } => ("cannot", scheme, operation),
    }
}

fn verdict_json((usage, scheme, verdict): &(KeyUsage, KeyScheme, Verdict)) -> Value {
    let reasons = verdict.reasons.iter().map(|reason| {
        json!({
            "outcome": outcome(reason.outcome), "text": reason.text, "source": reason.source,
        })
    });
    json!({
        "usage": usage.as_str(), "scheme": scheme.as_str(), "outcome": outcome(verdict.outcome),
        "reasons": reasons.collect::<Vec<_>>(), "fix": verdict.fix,
    })
}

fn key_json(checked: &CheckedKey) -> Value {
    let CheckedKey { key, state, fingerprint } = checked;
    let state = state.as_ref().map_or_else(ToString::to_string, ToString::to_string);
    json!({
        "label": key.label.as_str(), "id": key.id.as_str(), "usage": key.usage.as_str(),
        "scheme": key.scheme.as_str(), "state": state,
        "fingerprint": fingerprint.as_ref().ok().map(Fingerprint::as_str),
    })
}

fn check_text(checked: &Checked) -> String {
    let probe = &checked.probe;
    let mut text = table(&[
        ("kind", probe.description.kind.to_string()),
        ("place", probe.description.place.clone()),
        ("product", probe.abilities.product.clone()),
    ]);
    let rows = checked.verdicts.iter().map(|row| verdict_row(checked, row));
    let rows: Vec<Vec<String>> = rows.collect();
    text.push('\n');
    text.push_str(&columns(&["USAGE", "SCHEME", "SAYS", "KNOWN", "WHY"], &rows));
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for difference in &checked.differences {
        let (word, scheme, operation) = difference_parts(*difference);
        say(format!("\nit {word} {operation} with {scheme}, and the table says otherwise"));
    }
    for (scheme, error) in &probe.failed {
        say(format!("\nthe trial of {scheme} failed: {error}"));
    }
    let open = probe.abilities.open.iter().any(|(_, operation)| *operation == Operation::Create);
    if open && probe.made.is_empty() {
        say("\nwhat stands as \"open\" is known only after a key was made, which stays".to_owned());
    }
    if !checked.keys.is_empty() {
        text.push('\n');
        text.push_str(&keys_text(&checked.keys));
    }
    text
}

fn verdict_row(
    checked: &Checked,
    (usage, scheme, verdict): &(KeyUsage, KeyScheme, Verdict),
) -> Vec<String> {
    let asked = (*scheme, scheme.operation());
    let abilities = &checked.probe.abilities;
    let says = if abilities.can.contains(&asked) {
        "can"
    } else if abilities.open.contains(&asked) {
        "open"
    } else {
        "cannot"
    };
    let why = verdict.fix.map(str::to_owned);
    let why = why.or_else(|| verdict.reasons.first().map(|reason| reason.text.clone()));
    vec![
        usage.to_string(),
        scheme.to_string(),
        says.to_owned(),
        outcome(verdict.outcome).to_owned(),
        why.unwrap_or_default(),
    ]
}

fn keys_text(keys: &[CheckedKey]) -> String {
    let row = |checked: &CheckedKey| {
        let CheckedKey { key, state, fingerprint } = checked;
        vec![
            key.label.to_string(),
            key.usage.to_string(),
            key.scheme.to_string(),
            state.as_ref().map_or_else(ToString::to_string, ToString::to_string),
            fingerprint.as_ref().map_or("-", |found| found.as_str()).to_owned(),
        ]
    };
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    columns(&["LABEL", "USAGE", "SCHEME", "STATE", "FINGERPRINT"], &rows)
}

fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Possible => "possible",
        Outcome::Uncertain => "uncertain",
        Outcome::Impossible => "impossible",
    }
}
