//! The log, its followers, and who confirms what.
//!
//! One submission is decided at a time. Whoever must confirm has seen every entry before it is
//! asked, so the answers of all are about the same state.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heirloom_canton_node::wire::protocol::SignedTopologyTransaction;
use heirloom_model::party::ParticipantId;
use minicbor::{Decode, Encode};
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};

use crate::clock::now_micros;
use crate::configuration::SynchronizerSettings;
use crate::crypto;
use crate::log::event;
use crate::store::{Store, StoreError, Table};
use crate::synchronizer::admission::{self, SubmissionRefusal};
use crate::synchronizer::wire::{Accepted, Ballot, Entry, Parameters, Proposal, SignedSubmission};
use crate::topology::{self, Assessed, Demands, Topology, TopologyRefusal};

/// Where the parameters are written.
const PARAMETERS_KEY: &[u8] = b"parameters";

/// Why something does not come to stand in the log.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The store does not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing was proposed.
    #[error("the request proposes nothing")]
    Nothing,
    /// The bytes are no signed topology transaction.
    #[error("the topology transaction cannot be read: {0}")]
    Malformed(prost::DecodeError),
    /// The topology transaction is refused.
    #[error("the synchronizer refuses the topology transaction")]
    Topology(#[from] TopologyRefusal),
    /// The transaction is refused.
    #[error("the synchronizer refuses the transaction")]
    Submission(#[from] SubmissionRefusal),
    /// Somebody who must confirm says no.
    #[error("{participant} does not confirm: {refusal}")]
    Rejected {
        /// Who.
        participant: String,
        /// Why.
        refusal: String,
    },
    /// Somebody who must confirm says nothing.
    #[error("{participant} must confirm and does not answer")]
    NoConfirmation {
        /// Who.
        participant: String,
    },
}

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store does not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is the log of another synchronizer, or of this one with other parameters.
    #[error("the store is that of {found}, and the configuration says {configured}")]
    OtherParameters {
        /// What the store has.
        found: String,
        /// What the configuration has.
        configured: String,
    },
    /// An entry contradicts what stands before it.
    #[error("entry {position} of the log is damaged: {reason}")]
    Corrupt {
        /// Where.
        position: u64,
        /// Why.
        reason: String,
    },
}

/// An entry as it is stored.
#[derive(Clone, Debug, Decode, Encode, PartialEq)]
struct Stored {
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    entry: Vec<u8>,
}

struct State {
    topology: Topology,
    last_time_micros: i64,
}

/// Who is asked, and where the answer goes: why not, or nothing.
type Asked = (ParticipantId, oneshot::Sender<Option<String>>);

/// The synchronizer's log while it runs.
pub struct Sequencer {
    parameters: Parameters,
    demands: Demands,
    confirmation: Duration,
    store: Store,
    state: Mutex<State>,
    head: watch::Sender<u64>,
    followers: Mutex<BTreeMap<ParticipantId, mpsc::Sender<Ballot>>>,
    ballots: Mutex<BTreeMap<u64, Asked>>,
    next_ballot: AtomicU64,
    turn: tokio::sync::Mutex<()>,
}

impl Sequencer {
    /// Opens the log, and reads all of it.
    pub fn open(settings: &SynchronizerSettings) -> Result<Self, OpenError> {
        let parameters = Parameters {
            synchronizer_id: settings.id.to_string(),
            serial: 0,
            protocol_version: settings.protocol_version,
            signing_keys: settings.signing.iter().map(|s| crypto::signing_number(*s)).collect(),
            encryption_keys: settings
                .encryption
                .iter()
                .map(|scheme| crypto::encryption_number(*scheme))
                .collect(),
        };
        let store = Store::open(&settings.data)?;
        let found: Option<Stored> = store.read()?.one(Table::Meta, PARAMETERS_KEY)?;
        let expected = Stored { entry: parameters.encode_to_vec() };
        match found {
            None => store.write::<_, StoreError>(|write| {
                write.put(Table::Meta, PARAMETERS_KEY, &expected)
            })?,
            Some(found) if found == expected => {}
            Some(found) => {
                let found = Parameters::decode(found.entry.as_slice());
                let found = found.map_or_else(|_| "nothing known".to_owned(), |p| format!("{p:?}"));
                let configured = format!("{parameters:?}");
                return Err(OpenError::OtherParameters { found, configured });
            }
        }
        let demands = Demands {
            synchronizer: Some(settings.id.to_string()),
            signing: Some(settings.signing.clone()),
            encryption: Some(settings.encryption.clone()),
        };
        let (state, head) = replay(&store, &demands)?;
        Ok(Self {
            parameters,
            demands,
            confirmation: settings.confirmation,
            store,
            state: Mutex::new(state),
            head: watch::Sender::new(head),
            followers: Mutex::default(),
            ballots: Mutex::default(),
            next_ballot: AtomicU64::new(0),
            turn: tokio::sync::Mutex::default(),
        })
    }

    /// What it is and demands.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How many entries there are, and how that goes on.
    pub fn head(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Puts a proposal into the log, and says where it stands.
    pub async fn submit(&self, proposal: Proposal) -> Result<u64, SubmitError> {
        let _turn = self.turn.lock().await;
        match proposal {
            Proposal::Topology(bytes) => self.submit_topology(bytes),
            Proposal::Transaction(signed) => self.submit_transaction(signed).await,
        }
    }

    fn submit_topology(&self, bytes: Vec<u8>) -> Result<u64, SubmitError> {
        let signed = SignedTopologyTransaction::decode(bytes.as_slice());
        let signed = signed.map_err(SubmitError::Malformed)?;
        let assessed = lock(&self.state).topology.assess(&signed, &self.demands)?;
        let next = match assessed {
            // Whoever asks again after a lost answer waits for the end of the log, which has it.
            Assessed::Known => return Ok(self.head.borrow().saturating_sub(1)),
            Assessed::New(next) => next,
        };
        let position = self.append(Accepted::Topology(bytes), Vec::new(), |topology, time| {
            let mut next = *next;
            next.time_micros = time;
            topology.accept(next);
        })?;
        event("topology", position);
        Ok(position)
    }

    async fn submit_transaction(&self, signed: SignedSubmission) -> Result<u64, SubmitError> {
        let synchronizer = &self.parameters.synchronizer_id;
        let admitted = admission::admit(&signed, synchronizer, &lock(&self.state).topology)?;
        let mut waiting = Vec::new();
        for participant in &admitted.confirming {
            let answer = self.ask(participant, &signed.submission).await;
            waiting.push((participant.clone(), answer));
        }
        let deadline = tokio::time::Instant::now() + self.confirmation;
        for (participant, answer) in waiting {
            let said = match answer {
                Some(answer) => tokio::time::timeout_at(deadline, answer).await,
                None => return Err(SubmitError::NoConfirmation { participant }),
            };
            match said {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(refusal))) => {
                    return Err(SubmitError::Rejected { participant, refusal });
                }
                Ok(Err(_)) | Err(_) => return Err(SubmitError::NoConfirmation { participant }),
            }
        }
        let accepted = Accepted::Transaction(signed.submission);
        self.append(accepted, admitted.informed.into_iter().collect(), |_, _| {})
    }

    /// Asks a participant. Nothing if it is not there.
    async fn ask(
        &self,
        participant: &str,
        submission: &[u8],
    ) -> Option<oneshot::Receiver<Option<String>>> {
        let participant: ParticipantId = participant.parse().ok()?;
        let follower = lock(&self.followers).get(&participant).cloned()?;
        let number = self.next_ballot.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.ballots).insert(number, (participant, sender));
        let ballot = Ballot { number, submission: submission.to_vec() };
        follower.send(ballot).await.ok()?;
        Some(answer)
    }

    /// What a participant thinks.
    pub fn vote(&self, participant: &ParticipantId, ballot: u64, refusal: Option<String>) {
        let mut ballots = lock(&self.ballots);
        let is_asked = ballots.get(&ballot).is_some_and(|(asked, _)| asked == participant);
        if is_asked && let Some((_, sender)) = ballots.remove(&ballot) {
            // Whoever asked may have given up.
            sender.send(refusal).ok();
        }
    }

    /// A participant is there and gets ballots. An earlier connection of it gets none any more.
    pub fn join(&self, participant: &ParticipantId, ballots: mpsc::Sender<Ballot>) {
        lock(&self.followers).insert(participant.clone(), ballots);
    }

    /// A participant's connection is gone, and with it every answer that it owes.
    pub fn leave(&self, participant: &ParticipantId, ballots: &mpsc::Sender<Ballot>) {
        let mut followers = lock(&self.followers);
        if followers.get(participant).is_some_and(|found| found.same_channel(ballots)) {
            followers.remove(participant);
            lock(&self.ballots).retain(|_, (asked, _)| asked != participant);
        }
    }

    /// How many participants are there.
    pub fn followers(&self) -> usize {
        lock(&self.followers).len()
    }

    /// Looks at what was accepted.
    pub fn with_topology<T>(&self, look: impl FnOnce(&Topology) -> T) -> T {
        look(&lock(&self.state).topology)
    }

    /// Entries from a position on, as a participant sees them.
    pub fn entries(
        &self,
        participant: &ParticipantId,
        from: u64,
        count: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let stored: Vec<(_, Stored)> =
            self.store.read()?.some(Table::Log, &from.to_be_bytes(), count)?;
        Ok(stored
            .into_iter()
            .map(|(_, stored)| {
                let mut entry = Entry::decode(stored.entry.as_slice()).unwrap_or_default();
                let is_informed = entry.informees.iter().any(|one| one == participant.as_str());
                if matches!(entry.accepted, Some(Accepted::Transaction(_))) && !is_informed {
                    entry.accepted = None;
                }
                entry.informees.clear();
                entry
            })
            .collect())
    }

    fn append(
        &self,
        accepted: Accepted,
        informees: Vec<String>,
        apply: impl FnOnce(&mut Topology, i64),
    ) -> Result<u64, SubmitError> {
        let mut state = lock(&self.state);
        let position = *self.head.borrow();
        // Two entries never have the same time, whatever the clock does.
        let time_micros = now_micros().max(state.last_time_micros.saturating_add(1));
        let entry = Entry { position, time_micros, accepted: Some(accepted), informees };
        let stored = Stored { entry: entry.encode_to_vec() };
        self.store.write::<_, StoreError>(|write| {
            write.put(Table::Log, &position.to_be_bytes(), &stored)
        })?;
        apply(&mut state.topology, time_micros);
        state.last_time_micros = time_micros;
        drop(state);
        self.head.send_replace(position + 1);
        Ok(position)
    }
}

fn replay(store: &Store, demands: &Demands) -> Result<(State, u64), OpenError> {
    let mut state = State { topology: Topology::default(), last_time_micros: 0 };
    let mut head = 0;
    let read = store.read()?;
    loop {
        let some: Vec<(Vec<u8>, Stored)> =
            read.some(Table::Log, &u64::to_be_bytes(head), crate::limit::READ_CONTRACTS)?;
        if some.is_empty() {
            return Ok((state, head));
        }
        for (key, stored) in some {
            let corrupt = |reason: String| OpenError::Corrupt { position: head, reason };
            let entry = Entry::decode(stored.entry.as_slice());
            let entry = entry.map_err(|error| corrupt(error.to_string()))?;
            if key != head.to_be_bytes() || entry.position != head {
                return Err(corrupt("it stands elsewhere".to_owned()));
            }
            if let Some(Accepted::Topology(bytes)) = &entry.accepted {
                let next = topology::read_next(&state.topology, bytes, demands, entry.time_micros);
                let next = next.map_err(|error| corrupt(error.to_string()))?;
                state.topology.accept(next);
            }
            state.last_time_micros = entry.time_micros;
            head += 1;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in between is a bug that ends the call; what is guarded is changed after it is
    // durable, so what is there is still true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
