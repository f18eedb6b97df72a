//! The ledger's tool, without agents and services: killed at each durable operation on a ledger
//! that has stopped, and run again until it says that it has done what it was asked.
//!
//! Before each run the ledger is looked at. What such a look shows must be true after every kill:
//! the tip never changes, a snapshot that is listed is whole, and the ledger is either the one
//! before or the one after.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::events::Source;
use super::phase::KILLS_MAX;
use super::table::{Coverage, Outcome, Table};
use crate::lab::service::{PROGRAM, copy};
use crate::lab::{Lab, text, until, write};

/// The phase's name.
pub(crate) const TITLE: &str = "ledger-tool";
/// Blocks of the ledger.
const BLOCKS: &str = "200";
/// How long one verb may take, with all kills.
const VERB_TIMEOUT: Duration = Duration::from_mins(3);
const SCHEMA_BEFORE: u64 = 2;
const SCHEMA_AFTER: u64 = 3;

/// What the tool is asked for, in order.
const VERBS: [&str; 4] = ["snapshot", "migrate", "revert", "migrate"];

/// A ledger that has stopped.
struct Stopped {
    data: PathBuf,
    plan: String,
    height: String,
    id: String,
}

/// Plays the phase.
pub(crate) fn run(lab: &Lab, table: &mut Table) -> Result<()> {
    let stopped = Stopped::prepare(lab)?;
    for (round, verb) in VERBS.into_iter().enumerate() {
        let source = Source {
            phase: TITLE,
            role: "tool",
            node: format!("{verb}, {}", round + 1),
            file: lab.path(&format!("tool-{round}.events")),
        };
        let done = stopped.run(lab, (round, verb), &source);
        let mut rows = source.rows_at_the_end(done.is_ok());
        if let Err(Wrong::Forked(_)) = &done {
            for row in &mut rows {
                row.outcome = Outcome::Forked;
            }
        }
        let (operations, struck) = source.coverage();
        super::say(&format!("   {verb}: {} kills at {struck} of {operations}", rows.len()));
        table.cover(vec![Coverage {
            phase: TITLE,
            process: format!("tool of {}", source.node),
            operations,
            struck,
        }]);
        table.add(rows);
        match done {
            Ok(()) if !source.is_exhausted() => {}
            Ok(()) => anyhow::bail!("{verb} had more operations than {KILLS_MAX} kills"),
            Err(Wrong::Forked(why) | Wrong::Stuck(why)) => {
                return Err(why.context(format!("{verb} under kills")));
            }
        }
    }
    Ok(())
}

/// What is wrong after kills.
enum Wrong {
    /// The ledger is, or was said to be, another.
    Forked(anyhow::Error),
    /// The tool does not come to its end.
    Stuck(anyhow::Error),
}

impl Stopped {
    fn prepare(lab: &Lab) -> Result<Self> {
        let network = crate::lab::network::domain();
        let words = ["prepare", "--out", "ledger", "--network", &network, "--blocks", BLOCKS];
        let made = lab.ledger(&words)?;
        let id = text(&made, "/done/tip/id")?.to_owned();
        let data = lab.path("tool/data");
        fs::create_dir(lab.path("tool"))?;
        copy(&lab.path("ledger/data"), &data)?;
        Ok(Self { data, plan: "a7".repeat(32), height: BLOCKS.to_owned(), id })
    }

    /// Runs one verb under the supervisor until it is done.
    fn run(&self, lab: &Lab, (round, verb): (usize, &str), source: &Source) -> Result<(), Wrong> {
        let looks = lab.path(&format!("tool-{round}.looks"));
        let ended = self.supervise(lab, (round, verb), source, &looks);
        let seen = fs::read_to_string(&looks).unwrap_or_default();
        for look in seen.lines() {
            let may = (round == 0, Some(verb));
            self.judge(look, may).map_err(|why| Wrong::Forked(why.context(look.to_owned())))?;
        }
        ended.map_err(Wrong::Stuck)?;
        self.judge_end(lab, verb).map_err(Wrong::Forked)
    }

    fn supervise(
        &self,
        lab: &Lab,
        (round, verb): (usize, &str),
        source: &Source,
        looks: &std::path::Path,
    ) -> Result<()> {
        let Self { data, plan, height, id } = self;
        let program = lab.program_path(PROGRAM);
        let (data, program) = (data.display(), program.display());
        let state = lab.path("distribution.json").display().to_string();
        let more = match verb {
            "snapshot" => format!("--state {state}"),
            "migrate" => {
                format!("--schema-to {SCHEMA_AFTER} --migration height-of-transaction")
            }
            _ => String::new(),
        };
        let script = lab.path(&format!("tool-{round}.sh"));
        // The look is a process of its own, which is not killed.
        write(
            &script,
            &format!(
                "#!/bin/sh\n{program} inspect --data {data} --state {state} >>{} 2>&1\n\
                 exec {program} {verb} --data {data} --plan {plan} --height {height} --tip {id} \
                 {more}\n",
                looks.display()
            ),
        )?;
        let log = fs::File::create(lab.path(&format!("tool-{round}.log")))?;
        let mut command = lab.program("heirloom-crash");
        command.args(["run", "--role", "agent", "--within"]).arg(&self.data);
        command.arg("--log").arg(&source.file);
        command.args(["--kills-max", &KILLS_MAX.to_string()]);
        command.args(["--", "/bin/sh"]).arg(&script);
        let mut child =
            command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).spawn()?;
        let mut status = None;
        let waited = until(verb, VERB_TIMEOUT, || {
            status = child.try_wait().ok().flatten();
            status.is_some()
        });
        if waited.is_err() {
            // What it traces ends with it.
            child.kill()?;
            child.wait()?;
        }
        waited?;
        ensure!(status.is_some_and(|status| status.success()), "the tool gave up");
        Ok(())
    }

    /// What a look may show while a verb is carried out.
    fn judge(&self, look: &str, (is_first, verb): (bool, Option<&str>)) -> Result<()> {
        let seen: Value = serde_json::from_str(look).context("the ledger cannot be looked at")?;
        let done = seen.get("done").context("the ledger cannot be looked at")?;
        let number = |value: &Value, name: &str| value.pointer(name).and_then(Value::as_u64);
        let is_tip = |tip: &Value| {
            number(tip, "/height").map(|height| height.to_string()).as_ref() == Some(&self.height)
                && tip.get("id").and_then(Value::as_str) == Some(&self.id)
        };
        ensure!(done.get("tip").is_some_and(is_tip), "the tip is another");
        ensure!(done.get("held") == Some(&Value::Null), "nobody holds the ledger");
        let snapshots = done.get("snapshots").and_then(Value::as_object).context("no snapshots")?;
        ensure!(snapshots.iter().all(|(plan, tip)| *plan == self.plan && is_tip(tip)), "snapshot");
        ensure!(is_first || !snapshots.is_empty(), "the snapshot is gone");
        let migrated = done.get("migrated").and_then(Value::as_str);
        let schema = number(done, "/schema");
        let expected = if migrated.is_some() { SCHEMA_AFTER } else { SCHEMA_BEFORE };
        ensure!(schema == Some(expected), "the schema is not that of the ledger in place");
        ensure!(migrated.is_none_or(|plan| plan == self.plan), "the plan is another");
        ensure!(verb != Some("snapshot") || migrated.is_none(), "a snapshot migrates nothing");
        Ok(())
    }

    /// What must be when a verb has been carried out.
    fn judge_end(&self, lab: &Lab, verb: &str) -> Result<()> {
        let data = self.data.display().to_string();
        let seen = lab.ledger(&["inspect", "--data", &data])?;
        self.judge(&seen.to_string(), (false, None))?;
        let is_migrated = seen.pointer("/done/migrated").is_some_and(Value::is_string);
        ensure!(is_migrated == (verb == "migrate"), "{verb} was not carried out");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_look_that_shows_one_thing_that_is_not_so_is_refused() {
        let stopped = Stopped {
            data: PathBuf::new(),
            plan: "a7".to_owned(),
            height: "200".to_owned(),
            id: "20".to_owned(),
        };
        let tip = json!({ "height": 200, "id": "20" });
        let good = json!({ "done": {
            "tip": tip, "schema": 3, "migrated": "a7", "snapshots": { "a7": tip }, "held": null,
        } });
        let during = (false, Some("migrate"));
        assert!(stopped.judge(&good.to_string(), during).is_ok());
        for (pointer, wrong) in [
            ("/done/tip/height", json!(199)),
            ("/done/tip/id", json!("21")),
            ("/done/schema", json!(2)),
            ("/done/migrated", json!("a8")),
            ("/done/migrated", json!(null)),
            ("/done/snapshots", json!({})),
            ("/done/snapshots/a7/height", json!(199)),
            ("/done/held", json!("pid 1")),
        ] {
            let mut look = good.clone();
            *look.pointer_mut(pointer).unwrap() = wrong;
            assert!(stopped.judge(&look.to_string(), during).is_err(), "{pointer}");
        }
        assert!(stopped.judge(&good.to_string(), (true, Some("snapshot"))).is_err());
        assert!(stopped.judge("the ledger is not there", during).is_err());
    }
}
