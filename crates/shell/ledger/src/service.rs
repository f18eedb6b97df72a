//! A node with its ledger: what all its threads share.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use heirloom_keeper::handshake::Peer;
use heirloom_keeper::port::PlatformError;
use heirloom_model::digest::BlockId;
use heirloom_model::evidence::{Evidence, ReportData};
use heirloom_model::identifier::NodeId;
use heirloom_model::service::{Admission, Height, ServiceStatus, Tip, Writing};
use heirloom_session::context::SessionContext;
use heirloom_session::tls::Identity;
use openraft::EntryPayload;
use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use tokio::runtime::Handle;

use crate::chain::Chain;
use crate::instance::Instance;
use crate::limit::{EVIDENCE_TIME, REFUSALS_MAX};
use crate::log::event;
use crate::peer::admission::PeerRefusal;
use crate::peer::link::Links;
use crate::peer::living::{Living, Present};
use crate::peer::message::Greeting;
use crate::raft::types::{Entry, LedgerRaft, Raft};
use crate::raft::votes::Votes;

/// A node with its ledger.
pub struct Service {
    instance: Arc<Instance>,
    chain: Arc<Chain>,
    runtime: Handle,
    consensus: OnceLock<(Raft, Votes)>,
    links: OnceLock<Arc<Links>>,
    living: Living,
    is_over: Arc<AtomicBool>,
    door: Mutex<Door>,
    refusals: Mutex<Refusals>,
    /// Held to read while a message of consensus is added to the log: nothing comes in between
    /// while a freeze looks whether all of the log is in the ledger.
    adding: RwLock<()>,
    /// Evidence for clients, and when it was made.
    evidence: Mutex<Option<(Instant, Evidence)>>,
    /// Answers to clients that were an error of this node, since clients were let in.
    pub errors: AtomicU64,
    /// Answers to clients that the node is closed.
    pub closed: AtomicU64,
}

struct Door {
    admission: Admission,
    open_since: Option<Instant>,
}

/// What a peer says about its ledger.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PeerPosition {
    /// Where it ends.
    pub tip: Tip,
    /// What is not settled there: what waits for a block, and what of the log is not applied.
    pub pending: u64,
}

/// What consensus answers whoever leads.
type Followed = Result<AppendEntriesResponse<u64>, RaftError<u64>>;

/// Who was refused as a peer.
#[derive(Default)]
struct Refusals {
    by_code: BTreeMap<&'static str, u64>,
    last: VecDeque<String>,
    /// What was said last about each name: peers try again and again.
    said: BTreeMap<NodeId, &'static str>,
}

/// Whose request it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Entrance {
    /// Of a client, through the proxy.
    Front,
    /// Of the operator's tests, through the side door.
    Side,
}

impl Service {
    /// A node that takes nobody's work yet.
    pub fn new(
        instance: Arc<Instance>,
        chain: Arc<Chain>,
        runtime: Handle,
        is_over: Arc<AtomicBool>,
    ) -> Self {
        Self {
            instance,
            chain,
            runtime,
            consensus: OnceLock::new(),
            links: OnceLock::new(),
            living: Living::default(),
            is_over,
            door: Mutex::new(Door { admission: Admission::Closed, open_since: None }),
            refusals: Mutex::default(),
            adding: RwLock::default(),
            evidence: Mutex::default(),
            errors: AtomicU64::new(0),
            closed: AtomicU64::new(0),
        }
    }

    /// Connects it to its peers and to consensus; once.
    pub fn set_links(&self, links: Arc<Links>) {
        // Only the start of the process calls this.
        self.links.set(links).ok();
    }

    /// Gives it consensus, and the log of it; once.
    pub fn set_raft(&self, raft: Raft, votes: Votes) {
        // Only the start of the process calls this.
        self.consensus.set((raft, votes)).ok();
    }

    /// Consensus, once it is there.
    pub fn raft(&self) -> Option<&Raft> {
        self.consensus.get().map(|(raft, _)| raft)
    }

    /// Takes entries of the log, by a message of whoever leads; none if that would break this
    /// node's promise to append nothing.
    pub(crate) fn follow(
        &self,
        raft: &Raft,
        message: AppendEntriesRequest<LedgerRaft>,
    ) -> Option<Followed> {
        let _adding = self.adding.read().unwrap_or_else(PoisonError::into_inner);
        if !self.may_add(&message.entries) {
            return None;
        }
        Some(self.runtime.block_on(raft.append_entries(message)))
    }

    /// A node that promised to append nothing adds no block. It takes the blocks that it has once
    /// more: whoever leads sends them to find out where this log ends, and learns no other way
    /// what is agreed on.
    fn may_add(&self, entries: &[Entry]) -> bool {
        let Some((_, votes)) = self.consensus.get() else { return false };
        let adds_block = |entry: &Entry| {
            matches!(entry.payload, EntryPayload::Normal(_)) && !votes.holds(&entry.log_id)
        };
        !self.is_frozen() || !entries.iter().any(adds_block)
    }

    /// The sessions with peers, once they are there.
    pub fn links(&self) -> Option<&Arc<Links>> {
        self.links.get()
    }

    /// What this start has.
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The ledger.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Where tasks run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Whether the process ends.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Whether it has promised to append nothing.
    pub fn is_frozen(&self) -> bool {
        self.chain.status().writing == Writing::Frozen
    }

    /// How sessions are opened and judged.
    pub fn session_context(&self) -> SessionContext<'_> {
        self.instance.session_context()
    }

    /// The key of this start, for sessions.
    pub fn identity(&self) -> &Identity {
        self.instance.identity()
    }

    /// What it says to every peer.
    pub fn greeting(&self) -> Greeting {
        self.instance.greeting()
    }

    /// Decides whether the other end of a session is a peer, and remembers who was refused. It
    /// is seen as a peer until what is returned is dropped.
    pub(crate) fn judge(&self, peer: &Peer, said: &Greeting) -> Result<Present, PeerRefusal> {
        let accepted = self.instance.judge(peer, said);
        let entered = accepted.and_then(|accepted| self.living.enter(&accepted, *peer.key()));
        entered.inspect_err(|refusal| {
            let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let count = refusals.by_code.entry(refusal.code()).or_default();
            *count = count.saturating_add(1);
            if refusals.said.get(&said.node) == Some(&refusal.code()) {
                return;
            }
            event("peer-refused", format_args!("{}: {}: {refusal}", said.node, refusal.code()));
            if refusals.last.len() >= REFUSALS_MAX {
                refusals.last.pop_front();
                refusals.said.clear();
            }
            refusals.last.push_back(format!("{}: {refusal}", said.node));
            refusals.said.insert(said.node.clone(), refusal.code());
        })
    }

    /// How many peers were refused, by reason.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).by_code.clone()
    }

    /// The last peers that were refused, for people.
    pub fn refused_last(&self) -> Vec<String> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.last.iter().cloned().collect()
    }

    /// Whether a session still rests on what is in force.
    pub fn is_current(&self, peer: &Peer) -> bool {
        self.instance.is_current(peer)
    }

    /// Compares the own ledger with a peer's: where both have a block, it must be the same.
    /// `there` is what the peer has at the height of `own`.
    pub(crate) fn compared(
        &self,
        peer: &Present,
        own: Tip,
        theirs: PeerPosition,
        there: Option<BlockId>,
    ) {
        peer.says(theirs, Instant::now());
        if theirs.tip.height <= own.height {
            self.chain.compare(theirs.tip);
        } else if let Some(id) = there {
            self.chain.compare(Tip { height: own.height, id });
        }
        if self.chain.is_broken() {
            self.admit(Admission::Closed);
        }
    }

    /// The highest end of a ledger that a peer was heard of lately.
    pub fn highest_of_peers(&self) -> Height {
        let positions = self.positions_now();
        positions.values().map(|position| position.tip.height).max().unwrap_or_default()
    }

    /// What the peers that are there said about their ledgers a moment ago.
    pub fn positions_now(&self) -> BTreeMap<NodeId, PeerPosition> {
        self.living.positions(Instant::now())
    }

    /// Where this node is, for its peers.
    pub(crate) fn position(&self) -> PeerPosition {
        let unsettled = match self.not_applied() {
            Some((applied, last)) if applied == last => 0,
            Some((applied, last)) => {
                last.zip(applied).map_or(1, |(last, applied)| last.saturating_sub(applied).max(1))
            }
            None => 1,
        };
        let pending = self.chain.pending().saturating_add(unsettled);
        PeerPosition { tip: self.chain.tip(), pending }
    }

    /// Up to where the log is in the ledger, and where it ends; none before consensus has begun.
    fn not_applied(&self) -> Option<(Option<u64>, Option<u64>)> {
        let (raft, votes) = self.consensus.get()?;
        let applied = raft.metrics().borrow().last_applied.map(|applied| applied.index);
        Some((applied, votes.last_index()))
    }

    /// Takes this work from now on, and no other.
    pub fn admit(&self, admission: Admission) {
        let mut door = self.lock_door();
        if door.admission == admission {
            return;
        }
        event("admits", admission.name());
        door.admission = admission;
        door.open_since = (admission == Admission::Open).then(Instant::now);
        if admission == Admission::Open {
            self.errors.store(0, Ordering::Relaxed);
        }
    }

    /// Whose work it takes.
    pub fn admission(&self) -> Admission {
        if self.chain.is_broken() {
            return Admission::Closed;
        }
        self.lock_door().admission
    }

    /// Whether it takes work that comes in here.
    pub fn admits(&self, entrance: Entrance) -> bool {
        match (self.admission(), entrance) {
            (Admission::Open, _) | (Admission::SideDoor, Entrance::Side) => true,
            (Admission::Closed, _) | (Admission::SideDoor, Entrance::Front) => false,
        }
    }

    /// What keeps it from a freeze, besides its own ledger.
    pub fn not_caught_up(&self) -> Option<String> {
        if self.admission() != Admission::Closed {
            return Some("work is still admitted".to_owned());
        }
        // Also whoever leads has to be heard: who led before it went away is remembered for long.
        let positions = self.positions_now();
        let mut peers = self.instance.own().peers.iter();
        if let Some(silent) = peers.find(|peer| !positions.contains_key(*peer)) {
            return Some(format!("{silent} has not said lately where its ledger ends"));
        }
        let Some((applied, last)) = self.not_applied() else {
            return Some("consensus has not begun: what is agreed on is not known".to_owned());
        };
        if self.raft()?.metrics().borrow().current_leader.is_none() {
            return Some("nobody leads: what is agreed on is not known".to_owned());
        }
        if applied != last {
            return Some(format!("applied up to {applied:?} of {last:?} log entries"));
        }
        let own = self.chain.tip().height;
        let ahead = |position: &PeerPosition| position.tip.height > own || position.pending > 0;
        let (node, position) = positions.iter().find(|(_, position)| ahead(position))?;
        let (tip, pending) = (position.tip.height, position.pending);
        Some(format!("{node} has {tip} blocks, {pending} are not settled there; own {own}"))
    }

    /// Promises to append nothing, if everything has been quiet for so long.
    pub fn freeze(&self, quiet: Duration) -> Result<(), String> {
        let adding = self.adding.write().unwrap_or_else(PoisonError::into_inner);
        self.not_caught_up().map_or(Ok(()), Err)?;
        self.chain.freeze(quiet)?;
        drop(adding);
        event("frozen", self.chain.tip());
        Ok(())
    }

    /// Evidence for clients, made now and then.
    pub fn evidence(&self, data: &ReportData) -> Result<Evidence, PlatformError> {
        let mut kept = self.evidence.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, evidence)) = &*kept
            && at.elapsed() < EVIDENCE_TIME
        {
            return Ok(evidence.clone());
        }
        let made = self.instance.platform().evidence(data)?;
        *kept = Some((Instant::now(), made.clone()));
        Ok(made)
    }

    /// How it is.
    pub fn status(&self) -> ServiceStatus {
        let chain = self.chain.status();
        let admission = self.admission();
        let open = self.lock_door().open_since.map_or(Duration::ZERO, |since| since.elapsed());
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        ServiceStatus {
            schema: Some(chain.schema),
            loaded: Some(chain.loaded),
            tip: Some(chain.tip),
            writing: chain.writing,
            pending: chain.pending,
            admission,
            quiet_milliseconds: milliseconds(chain.quiet),
            peers: self.living.seen(),
            fork: chain.fork,
            errors: self.errors.load(Ordering::Relaxed),
            open_milliseconds: milliseconds(open),
            waits_for: self.waits_for(chain.broken),
            ..self.instance.status()
        }
    }

    fn waits_for(&self, broken: Option<String>) -> Option<String> {
        if broken.is_some() {
            return broken;
        }
        let Some(raft) = self.raft() else { return Some("consensus".to_owned()) };
        let links = self.links()?;
        let (seen, all) = (self.living.seen().len(), links.count());
        if raft.metrics().borrow().current_leader.is_none() {
            return Some(format!("a leader; {seen} of {all} peers are attested"));
        }
        None
    }

    fn lock_door(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
