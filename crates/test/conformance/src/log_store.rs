//! What every [`LogStore`] must do.

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use heirloom_model::counter::{Epoch, LogIndex, Serial, Time};
use heirloom_model::digest::{DigestOf, NetworkId};
use heirloom_model::domain::{EpochStart, LogPosition};
use heirloom_model::envelope::Envelope;
use heirloom_model::evidence::TrustAnchor;
use heirloom_model::limit::ENVELOPE_BYTES_MAX;
use heirloom_model::log::LogEntry;
use heirloom_model::root::{Role, RoleKeys, Root};
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_model::wire;
use heirloom_registry::port::{AppendError, LogStore};

/// A store under test, together with whatever keeps it alive.
pub trait Fixture {
    /// The store.
    type Store: LogStore;

    /// A store with an empty log. It may judge what it is given: the suite appends statements
    /// that count in this network.
    fn create(network: NetworkId) -> Self;

    /// The store.
    fn store(&self) -> &Self::Store;

    /// Stops the store, as far as it can be stopped, and opens it again.
    #[must_use]
    fn restart(self) -> Self;
}

/// Runs the whole suite. Panics with the first promise that is broken.
pub fn run<F: Fixture>() {
    an_empty_log_has_nothing_to_read::<F>();
    entries_are_chained_and_survive_a_restart::<F>();
    an_entry_never_takes_the_place_of_another::<F>();
    batches_are_bounded_and_without_a_gap::<F>();
    a_watch_ends_with_the_entry_or_with_its_time::<F>();
    of_those_who_append_at_one_place_one_succeeds::<F>();
    what_is_too_large_is_refused::<F>();
}

/// How long a watch that must be woken may take. It is far beyond what any store needs, so that
/// a slow machine does not fail the suite.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a watch that must run out takes.
const MOMENT: Duration = Duration::from_millis(20);

/// The statements of one small network, in order.
struct Statements {
    key: SigningKey,
    root: Vec<u8>,
    network: NetworkId,
}

impl Statements {
    fn new() -> Self {
        let key = SigningKey::from_seed(Secret::new([7; 32]));
        let keys = vec![key.public_key()];
        let role = |role| RoleKeys { role, keys: keys.clone(), threshold: 1 };
        let root = Root {
            network: None,
            serial: Serial(1),
            roles: Role::ALL.into_iter().map(role).collect(),
            anchors: vec![TrustAnchor::SgxDcap(vec![1])],
            not_after: Time(u64::MAX),
        };
        let root = Envelope::signed(&root, [&key]);
        let network = NetworkId::of(root.payload.as_slice());
        Self { key, root: wire::encode(&root), network }
    }

    /// The statement that counts as entry `index`.
    fn at(&self, index: u64) -> Vec<u8> {
        let Some(epoch) = Some(index).filter(|index| *index > 0).map(Epoch) else {
            return self.root.clone();
        };
        let start = EpochStart { network: self.network, epoch, time: Time(index) };
        wire::encode(&Envelope::signed(&start, [&self.key]))
    }

    /// A store with `length` of them.
    fn store<F: Fixture>(&self, length: u64) -> F {
        let fixture = F::create(self.network);
        for index in 0..length {
            let appended = fixture.store().append(LogIndex(index), &self.at(index));
            appended.expect("the next statement is appended");
        }
        fixture
    }
}

fn an_empty_log_has_nothing_to_read<F: Fixture>() {
    let fixture: F = Statements::new().store(0);
    let store = fixture.store();
    assert_eq!(store.head(), Ok(LogPosition::START));
    assert_eq!(store.read(LogIndex(0), 10), Ok(Vec::new()));
    assert_eq!(store.read(LogIndex(5), 10), Ok(Vec::new()));
}

fn entries_are_chained_and_survive_a_restart<F: Fixture>() {
    let statements = Statements::new();
    let fixture = F::create(statements.network);
    let mut position = LogPosition::START;
    let mut written: Vec<LogEntry> = Vec::new();
    for index in 0..4 {
        let entry = LogEntry::following(&position, statements.at(index));
        position = position.advance(&entry).expect("an entry follows its position");
        let appended = fixture.store().append(entry.index, &entry.envelope);
        assert_eq!(appended, Ok(position), "append returns the position after the entry");
        written.push(entry);
    }
    let fixture = fixture.restart();
    assert_eq!(fixture.store().head(), Ok(position));
    assert_eq!(fixture.store().read(LogIndex(0), 10), Ok(written));
}

fn an_entry_never_takes_the_place_of_another<F: Fixture>() {
    let statements = Statements::new();
    let fixture: F = statements.store(3);
    let store = fixture.store();
    let head = store.head().expect("the log has a head");
    for expected in [0, 2, 4, u64::MAX] {
        let refused = store.append(LogIndex(expected), &statements.at(3));
        assert_eq!(refused, Err(AppendError::Conflict { head }), "at {expected}");
    }
    assert_eq!(store.head(), Ok(head), "a conflict changes nothing");
}

fn batches_are_bounded_and_without_a_gap<F: Fixture>() {
    let statements = Statements::new();
    let fixture: F = statements.store(5);
    let read = |from: u64, max: usize| {
        let entries = fixture.store().read(LogIndex(from), max).expect("the log is readable");
        entries.iter().map(|entry| entry.index.0).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 2), [0, 1]);
    assert_eq!(read(3, 9), [3, 4]);
    assert_eq!(read(5, 9), [0_u64; 0]);
    assert_eq!(read(2, 0), [0_u64; 0]);
    assert_eq!(read(u64::MAX, 9), [0_u64; 0]);
}

fn a_watch_ends_with_the_entry_or_with_its_time<F: Fixture>() {
    let statements = Statements::new();
    let fixture: F = statements.store(1);
    let store = fixture.store();
    let head = store.head().expect("the log has a head");
    assert_eq!(store.watch(LogIndex(0), PATIENCE), Ok(head), "what is there needs no waiting");
    assert_eq!(store.watch(LogIndex(1), MOMENT), Ok(head), "time runs out without an entry");
    thread::scope(|scope| {
        let watcher = scope.spawn(|| store.watch(LogIndex(1), PATIENCE));
        let appended = store.append(LogIndex(1), &statements.at(1)).expect("it is the next");
        let seen = watcher.join().expect("a watch does not panic");
        assert_eq!(seen, Ok(appended));
    });
}

fn of_those_who_append_at_one_place_one_succeeds<F: Fixture>() {
    const WRITERS: usize = 4;
    let statements = Statements::new();
    let fixture: F = statements.store(1);
    let store = fixture.store();
    for index in 1..6 {
        let statement = statements.at(index);
        let together = Barrier::new(WRITERS);
        let succeeded = thread::scope(|scope| {
            let writer = || {
                together.wait();
                store.append(LogIndex(index), &statement)
            };
            let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(writer)).collect();
            let results = writers.into_iter().map(|it| it.join().expect("no append panics"));
            let conflict = |error: &AppendError| matches!(error, AppendError::Conflict { .. });
            results
                .filter(|result| match result {
                    Ok(_) => true,
                    Err(error) => {
                        assert!(conflict(error), "losing is a conflict, not {error}");
                        false
                    }
                })
                .count()
        });
        assert_eq!(succeeded, 1, "at entry {index}");
    }
    let mut position = LogPosition::START;
    for entry in store.read(LogIndex(0), 10).expect("the log is readable") {
        position = position.advance(&entry).expect("the log is one chain");
    }
    assert_eq!(position.length, LogIndex(6));
}

fn what_is_too_large_is_refused<F: Fixture>() {
    let fixture: F = Statements::new().store(1);
    let found = ENVELOPE_BYTES_MAX.saturating_add(1);
    let refused = fixture.store().append(LogIndex(1), &vec![0; found]);
    assert_eq!(refused, Err(AppendError::TooLarge { found, limit: ENVELOPE_BYTES_MAX }));
}
