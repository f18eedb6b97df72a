//! What is wrong with a node although its agent goes on, in sentences for its operator.

use std::collections::BTreeMap;

use heirloom_model::admin::KeeperStatus;
use heirloom_model::counter::Time;
use heirloom_model::domain::LogPosition;
use heirloom_model::measurement::Measurement;
use heirloom_model::protocol::ServingState;
use heirloom_registry::network::NetworkState;
use heirloom_upgrade::port::{Observation, ServiceObservation};

/// Clocks of machines may differ by so much before anybody is told.
const CLOCK_SECONDS_MAX: u64 = 300;

/// One refusal may be a race with another entry of the log.
const REFUSALS_TOLD: u32 = 3;

/// Refusals in a row: that many say that nothing of this node counts, however well it looks.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    count: u32,
    last: String,
}

impl Refusals {
    /// A tick was refused, for this reason; or it was not, and something counted.
    pub(crate) fn note(&mut self, refusal: Option<String>) {
        match refusal {
            Some(reason) => (self.count, self.last) = (self.count.saturating_add(1), reason),
            None => self.count = 0,
        }
    }

    /// What there is to be told.
    pub(crate) fn warning(&self) -> Option<String> {
        let reason = &self.last;
        (self.count >= REFUSALS_TOLD).then(|| {
            format!("this node gets nothing done, it is refused again and again: {reason}")
        })
    }
}

/// What is wrong. `old_log` is what the registry shows if that is not what was followed;
/// `processes` has names for instances that do not answer, as far as the platform gives them.
pub(crate) fn of(
    state: &NetworkState,
    observed: Option<&Observation>,
    now: Time,
    old_log: Option<LogPosition>,
    processes: &BTreeMap<Measurement, String>,
) -> Vec<String> {
    let general = [
        old_log.map(|shown| history(state.position(), shown)),
        state.now().and_then(|network| clock(network, now)),
    ];
    let of_each = observed.into_iter().flat_map(|seen| {
        let running = seen.running.values().filter_map(|status| instance(state, status));
        let silent = seen.silent.iter().map(|code| silent(code, processes.get(code)));
        running.chain(silent).chain(seen.service.iter().flat_map(service))
    });
    general.into_iter().flatten().chain(of_each).collect()
}

/// What is wrong with an instance that answers.
fn instance(state: &NetworkState, status: &KeeperStatus) -> Option<String> {
    if let Some(reason) = &status.unreadable {
        let name = status.role.name();
        return Some(format!(
            "the {name} cannot read its state and keeps it as it is: {reason}; see the runbook on \
             unreadable state"
        ));
    }
    if let Some(reason) = &status.uncounted {
        return Some(format!(
            "the platform's counter can be neither read nor raised, so the {} does nothing until it \
             can: {reason}; see the runbook on machines with a TPM",
            status.role.name()
        ));
    }
    if let Some(gap) = &status.behind {
        return Some(format!(
            "the {} runs over an old directory: {gap}; put the newest one back, or start with an \
             empty one and let another holder give the keyring; see the runbook on machines with a \
             TPM",
            status.role.name()
        ));
    }
    let is_planned = state.active_plan(&status.domain).is_some();
    (status.state == ServingState::Superseded && !is_planned).then(|| {
        format!(
            "another instance took the place of {}, which still runs: if nobody planned that, a \
             copy of its state was started elsewhere",
            status.instance
        )
    })
}

/// What is wrong with the service.
fn service(seen: &ServiceObservation) -> Vec<String> {
    let fork = seen.running.as_ref().and_then(|status| status.fork.as_ref());
    let fork = fork.map(|fork| {
        format!(
            "a peer of the service has another block at height {}: two histories were written",
            fork.height
        )
    });
    let silent = seen.silent.iter().map(|code| format!("the service {code} does not answer"));
    let unseen = seen.installed.is_some() && seen.edge.is_none();
    let edge = unseen.then(|| "the proxy in front of the service does not answer".to_owned());
    fork.into_iter().chain(silent).chain(edge).collect()
}

fn silent(code: &Measurement, process: Option<&String>) -> String {
    match process {
        Some(process) => format!("{process} of {code} exists and does not answer its agent"),
        None => format!("the process of {code} exists and does not answer its agent"),
    }
}

fn history(followed: LogPosition, shown: LogPosition) -> String {
    let (followed, shown) = (followed.length, shown.length);
    if shown < followed {
        format!(
            "the registry shows an old log: {shown} entries, where {followed} were followed \
             before; nothing goes on until it shows the newest one"
        )
    } else {
        format!(
            "the registry shows another history of {shown} entries than was followed; nothing \
             goes on until it shows the right one"
        )
    }
}

/// Nothing is decided by a host's clock, but its journal and its logs would tell wrong times.
fn clock(network: Time, now: Time) -> Option<String> {
    let behind = network.0.saturating_sub(now.0);
    (behind > CLOCK_SECONDS_MAX).then(|| {
        format!(
            "the clock of this host is wrong: it is at least {behind} seconds behind the newest \
             epoch; set it, or the journal tells wrong times"
        )
    })
}

#[cfg(test)]
mod tests {
    use heirloom_model::counter::LogIndex;
    use heirloom_model::digest::{LogHash, NetworkId};

    use super::*;

    #[test]
    fn a_clock_behind_the_newest_epoch_is_wrong() {
        let epoch = Time(1_000_000);
        assert_eq!(clock(epoch, Time(2_000_000)), None);
        assert_eq!(clock(epoch, Time(1_000_000 - CLOCK_SECONDS_MAX)), None);
        let told = clock(epoch, Time(1_000_000 - CLOCK_SECONDS_MAX - 1)).unwrap();
        assert!(told.contains("301 seconds behind"), "{told}");
    }

    #[test]
    fn an_old_log_and_another_history_are_told_apart() {
        let state = NetworkState::new(NetworkId::new([1; 32]));
        let none = BTreeMap::new();
        assert_eq!(of(&state, None, Time(0), None, &none), Vec::<String>::new());
        let at = |length| LogPosition { length: LogIndex(length), head: LogHash::new([2; 32]) };
        assert!(history(at(9), at(7)).contains("an old log: 7 entries, where 9"));
        assert!(history(at(9), at(9)).contains("another history of 9 entries"));
        assert_eq!(of(&state, None, Time(0), Some(at(0)), &none).len(), 1);
    }

    #[test]
    fn a_process_that_does_not_answer_is_told() {
        let state = NetworkState::new(NetworkId::new([1; 32]));
        let code = Measurement::Sgx(heirloom_model::measurement::MrEnclave::new([7; 32]));
        let (mut observed, none) = (Observation::default(), BTreeMap::new());
        assert_eq!(of(&state, Some(&observed), Time(0), None, &none), Vec::<String>::new());
        observed.silent.insert(code);
        let told = of(&state, Some(&observed), Time(0), None, &none);
        assert!(told[0].contains(&code.to_string()), "{told:?}");
        let processes = BTreeMap::from([(code, "process 41 (node-1.07070707)".to_owned())]);
        let told = of(&state, Some(&observed), Time(0), None, &processes);
        assert!(told[0].starts_with("process 41 (node-1.07070707) of sgx:0707"), "{told:?}");
    }

    #[test]
    fn refusals_in_a_row_are_told_until_something_counts() {
        let mut refusals = Refusals::default();
        for _ in 1..REFUSALS_TOLD {
            refusals.note(Some("a certificate is revoked".to_owned()));
            assert_eq!(refusals.warning(), None);
        }
        refusals.note(Some("a certificate is revoked".to_owned()));
        let told = refusals.warning().unwrap();
        assert!(told.ends_with("again and again: a certificate is revoked"), "{told}");
        refusals.note(None);
        assert_eq!(refusals.warning(), None);
    }
}
