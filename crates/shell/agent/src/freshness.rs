//! How fresh the status is: what could not be looked at again is not shown as it is now.

use std::time::{Duration, Instant};

use heirloom_model::limit::ATTENDANCE_MILLISECONDS;
use serde_json::{Value, json};

/// How long an observation is shown as current. An active holder that nobody attends to ends
/// serving after as long: a status must not tell for longer that it serves.
pub const CURRENT_MAX: Duration = Duration::from_millis(ATTENDANCE_MILLISECONDS);

/// When the node and the log were seen last, and why not since then.
#[derive(Clone, Debug, Default)]
pub struct Freshness {
    seen: Option<Instant>,
    blind: Option<String>,
    followed: Option<Instant>,
    unread: Option<String>,
}

impl Freshness {
    /// The node was observed then.
    pub fn saw(&mut self, at: Instant) {
        self.seen = Some(at);
        self.blind = None;
    }

    /// The node cannot be observed.
    pub fn is_blind(&mut self, reason: String) {
        self.blind = Some(reason);
    }

    /// The log was read to its end then.
    pub fn followed(&mut self, at: Instant) {
        self.followed = Some(at);
        self.unread = None;
    }

    /// The log cannot be used.
    pub fn lost_log(&mut self, reason: String) {
        self.unread = Some(reason);
    }

    /// What is not known now, in sentences for operators.
    pub fn warnings(&self, now: Instant) -> Vec<String> {
        self.node(now).into_iter().chain(self.log(now)).collect()
    }

    /// A status as far as it can be shown now; null if nobody has looked yet.
    pub fn show(&self, mut status: Value, now: Instant) -> Value {
        let found = self.warnings(now);
        let is_unknown = self.node(now).is_some();
        if status.is_null() && is_unknown {
            status = json!({ "keymanager": {}, "heirloom": {} });
        }
        let Some(own) = status.get_mut("heirloom") else { return status };
        if self.unread.is_some() {
            own["log_behind"] = Value::Null;
        }
        let mut warnings: Vec<Value> = found.into_iter().map(Value::from).collect();
        if let Some(others) = own.get_mut("warnings").and_then(Value::as_array_mut) {
            warnings.append(others);
        }
        own["warnings"] = warnings.into();
        if is_unknown {
            own["state"] = "unknown".into();
            own["running"] = Value::Null;
            let seats = own.get_mut("seats").and_then(Value::as_array_mut);
            for seat in seats.into_iter().flatten() {
                seat["state"] = "unknown".into();
            }
            status["keymanager"]["status"] = "unknown".into();
            if let Some(service) = status["heirloom"].get_mut("service") {
                service["state"] = "unknown".into();
            }
        }
        status
    }

    /// Why it is not known how the node is.
    fn node(&self, now: Instant) -> Option<String> {
        let age = self.seen.map(|at| now.saturating_duration_since(at));
        match (&self.blind, age) {
            (None, None) => None,
            (None, Some(age)) => (age > CURRENT_MAX).then(|| {
                format!(
                    "it is unknown how the node is: it was last seen {} ago, and its agent has \
                     been busy since",
                    seconds(age)
                )
            }),
            (Some(reason), Some(age)) => Some(format!(
                "it is unknown how the node is: it was last seen {} ago; {reason}",
                seconds(age)
            )),
            (Some(reason), None) => Some(format!(
                "it is unknown how the node is: its agent has not seen it yet; {reason}"
            )),
        }
    }

    /// Why it is not known what the log says.
    fn log(&self, now: Instant) -> Option<String> {
        let reason = self.unread.as_ref()?;
        Some(match self.followed {
            Some(at) => {
                let age = now.saturating_duration_since(at);
                format!("the log was last followed {} ago; {reason}", seconds(age))
            }
            None => format!("the log was not followed yet; {reason}"),
        })
    }
}

fn seconds(age: Duration) -> String {
    format!("{}.{} s", age.as_secs(), age.subsec_millis() / 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready() -> Value {
        json!({
            "keymanager": { "status": "ready" },
            "heirloom": {
                "state": "ready", "running": true, "log_behind": 0, "warnings": ["a clock"],
                "seats": [{ "state": "ready" }],
            },
        })
    }

    fn is_unknown(shown: &Value) -> bool {
        let own = &shown["heirloom"];
        let words = [&own["state"], &own["seats"][0]["state"], &shown["keymanager"]["status"]];
        assert!(words.iter().all(|word| *word == words[0]), "{shown}");
        assert_eq!(words[0] == "unknown", own["running"].is_null(), "{shown}");
        words[0] == "unknown"
    }

    #[test]
    fn an_observation_is_current_until_it_is_too_old_or_the_next_one_fails() {
        let start = Instant::now();
        let mut fresh = Freshness::default();
        assert_eq!(fresh.show(Value::Null, start), Value::Null, "nobody has looked yet");
        fresh.saw(start);
        assert_eq!(fresh.show(ready(), start + CURRENT_MAX), ready());
        let late = fresh.show(ready(), start + CURRENT_MAX + Duration::from_millis(1));
        assert!(is_unknown(&late));
        let told = late["heirloom"]["warnings"].as_array().unwrap();
        assert!(told[0].as_str().unwrap().contains("2.0 s ago"), "{told:?}");
        assert_eq!(told[1], "a clock", "the others stay");
        fresh.is_blind("no platform".to_owned());
        let blind = fresh.show(ready(), start);
        assert!(is_unknown(&blind));
        let told = blind["heirloom"]["warnings"][0].as_str().unwrap();
        assert!(told.contains("0.0 s ago") && told.contains("no platform"), "{told}");
        assert_eq!(blind["heirloom"]["log_behind"], 0, "the log is another matter");
        fresh.saw(start);
        assert_eq!(fresh.show(ready(), start), ready());
    }

    #[test]
    fn a_node_that_was_never_seen_is_unknown_and_says_why() {
        let mut fresh = Freshness::default();
        fresh.is_blind("no platform".to_owned());
        let shown = fresh.show(Value::Null, Instant::now());
        assert_eq!(shown["heirloom"]["state"], "unknown");
        assert!(shown["heirloom"]["warnings"][0].as_str().unwrap().contains("no platform"));
    }

    #[test]
    fn without_a_log_the_node_is_known_and_how_far_it_is_behind_is_not() {
        let start = Instant::now();
        let mut fresh = Freshness::default();
        fresh.saw(start);
        fresh.followed(start);
        fresh.lost_log("no registry".to_owned());
        let shown = fresh.show(ready(), start + Duration::from_millis(1500));
        assert!(!is_unknown(&shown));
        assert_eq!(shown["heirloom"]["log_behind"], Value::Null);
        let told = shown["heirloom"]["warnings"][0].as_str().unwrap();
        assert_eq!(told, "the log was last followed 1.5 s ago; no registry");
        fresh.followed(start);
        assert_eq!(fresh.show(ready(), start), ready());
    }
}
