//! What keeps a step of the service from being done, said in the agent's log whenever it changes.
//!
//! Such a step is tried again and again, and that is no error of anybody. When it never comes to
//! an end, the log is what tells why.

use heirloom_model::plan::StepId;
use heirloom_upgrade::gate::Waiting;

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Stalls(Option<(StepId, String)>);

impl Stalls {
    /// What keeps the step that is under way, if that was not said last.
    pub(crate) fn news<'w>(&mut self, waiting: &'w [Waiting]) -> Option<(StepId, &'w str)> {
        let (step, reason) = waiting.iter().find_map(|waiting| match waiting {
            Waiting::Service { step, reason } => Some((*step, reason.as_str())),
            _ => None,
        })?;
        let next = Some((step, without_figures(reason)));
        if self.0 == next {
            return None;
        }
        self.0 = next;
        Some((step, reason))
    }
}

/// A reason without what only counts on.
fn without_figures(reason: &str) -> String {
    let says = |word: &&str| word.contains(char::is_alphabetic);
    reason.split_whitespace().filter(says).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(step: u32, reason: &str) -> [Waiting; 2] {
        let other = Waiting::Effect { step: StepId(9) };
        [other, Waiting::Service { step: StepId(step), reason: reason.to_owned() }]
    }

    #[test]
    fn a_reason_is_said_when_it_changes_and_not_while_it_only_counts_on() {
        let mut stalls = Stalls::default();
        let mut told = |step, reason: &str| stalls.news(&waiting(step, reason)).is_some();
        assert!(told(1, "quiet for 10 of 500 ms"));
        assert!(!told(1, "quiet for 260 of 500 ms"));
        assert!(told(1, "node-2 has not said lately where its ledger ends"));
        assert!(told(1, "node-3 has not said lately where its ledger ends"));
        assert!(!told(1, "node-3 has not said lately where its ledger ends"));
        assert!(told(2, "node-3 has not said lately where its ledger ends"));
        assert!(told(2, "quiet for 10 of 500 ms"));
        assert_eq!(stalls.news(&[]), None);
        let again = waiting(2, "the service starts");
        assert_eq!(stalls.news(&again), Some((StepId(2), "the service starts")));
    }
}
