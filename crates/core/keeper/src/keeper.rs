//! The keeper's state machine.
//!
//! It holds what it unsealed, created or received, and what the log says. Nothing else. Which
//! state it is in is computed from these two each time, so that no order of events can leave it
//! in a state that its facts do not bear out.
//!
//! Rules that every method keeps:
//!
//! * What must survive is durable before it counts: methods that add something return an
//!   [`Intent`], and [`Keeper::complete`] takes effect only in exchange for a receipt.
//! * Absent is never read as new. A keeper without files is empty, and becomes a holder only by
//!   what the log orders: creating one ordered generation, or receiving what is committed.
//! * An exclusive domain never has two active holders: only the instance that the log names
//!   serves, and its keyring moves only by a handover.
//! * Unreadable key material is never overwritten. A keeper that found some writes no key file
//!   at all until its files are quarantined and it starts again.
//! * Sealing gives no freshness: the newest log position, policy and generation are witnessed in
//!   sealed files, and a log that is shorter than that, or another one, is refused. Where the
//!   platform counts, older files are refused too. Whoever takes away the witness with everything
//!   else gets an empty keeper, which asks its peers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use heirloom_model::admin::{KeeperStatus, Unreadable};
use heirloom_model::counter::{Epoch, Generation, Moment, SecurityVersion, Serial};
use heirloom_model::digest::{NetworkId, Nonce};
use heirloom_model::domain::{HoldingOrigin, LogPosition, PlanStep};
use heirloom_model::identifier::{DomainId, NodeId};
use heirloom_model::policy::{HolderRole, Policy, Sharing};
use heirloom_model::protocol::ServingState;
use heirloom_model::sealed::Witness;
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_registry::domain::{Committed, DomainState};
use heirloom_registry::network::NetworkState;

use crate::file::{FileName, Kind};
use crate::handshake::{is_expired, permit_holder};
use crate::intent::{Durable, Intent, Released, StoredFile};
use crate::keyring::{Batch, Coverage, Gap, Keyring};
use crate::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use crate::sealing::Home;

mod counter;
pub mod error;
mod exclusive;
mod follow;
mod forget;
mod generation;
mod hand_over;
mod load;
pub mod replicate;
mod reseal;
mod serve;
mod status;

use self::counter::Counting;
use self::error::KeeperError;
use self::exclusive::Attendance;

/// What a keeper is told when it starts. Network, domain and role come from the measured manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeeperConfig {
    /// Its network.
    pub network: NetworkId,
    /// Whose keys it holds.
    pub domain: DomainId,
    /// Where it runs. Not measured: only the fleet decides what a node may do.
    pub node: NodeId,
    /// What it does with the keyring. The policy must say the same.
    pub role: HolderRole,
}

/// Why a keeper does not start. Bad sealed state is not among the reasons: that is a state.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StartError {
    /// The platform did not do its part.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// There are more files than a keyring can have.
    #[error("{found} files are more than the {limit} allowed")]
    TooManyFiles {
        /// How many there are.
        found: usize,
        /// How many may be.
        limit: usize,
    },
}

/// One running keeper.
///
/// Methods that return an [`Intent`] are called one after the other: the next one only after the
/// last intent was completed or dropped. Everything else may be called meanwhile.
pub struct Keeper {
    config: KeeperConfig,
    identity: PlatformIdentity,
    instance: Arc<SigningKey>,
    network: NetworkState,
    keyring: Keyring,
    /// What the keyring has of what is committed; none if nothing is.
    coverage: Option<Coverage>,
    proposals: BTreeMap<Nonce, Proposal>,
    origin: HoldingOrigin,
    unreadable: Option<Unreadable>,
    /// The newest witness that opened or was written, with its sequence number.
    witness: Option<(u64, Witness)>,
    /// The root in force where that witness stands, once the log was followed so far.
    witnessed_root: Serial,
    /// The log that was fed is another one than the one that the witness saw.
    forked: Forked,
    admission: Admission,
    /// Sequence numbers of witness files that may exist.
    witness_files: BTreeSet<u64>,
    /// Files that durable ones have made worthless.
    stale: BTreeSet<String>,
    /// Files that were sealed at lower security versions than the present ones.
    older: BTreeSet<String>,
    sequence: u64,
    /// Where the platform's counter of witnesses stands.
    counting: Counting,
    /// What sealing here survives.
    sealing: Sealing,
    /// Which generation was the newest committed one when each of the last epochs began.
    epochs: BTreeMap<Epoch, Option<Generation>>,
    attendance: Attendance,
    /// The step by which this instance said that it serves no more. Never taken back.
    suspended: Option<PlanStep>,
    /// Whether the log ever named this instance as the active holder.
    was_active: bool,
    served: AtomicU64,
    refused: AtomicU64,
}

/// Whether the log is the one that the keeper followed before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Forked {
    No,
    Yes,
}

/// Whether new requests are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Admission {
    Open,
    Draining,
}

/// A generation that is not committed yet.
pub(crate) struct Proposal {
    pub(crate) generation: Generation,
    pub(crate) secret: Secret<32>,
    pub(crate) previous: heirloom_model::digest::Checksum,
}

/// What takes effect in memory when an intent is durable.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) batches: Vec<Batch>,
    pub(crate) proposal: Option<(Nonce, Proposal)>,
    pub(crate) promoted: Vec<Nonce>,
    pub(crate) witness: Option<(u64, Witness)>,
    pub(crate) stale: Vec<String>,
    pub(crate) identity: Option<PlatformIdentity>,
    pub(crate) memory: Memory,
}

/// What becomes of the secrets in memory.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Memory {
    #[default]
    Kept,
    Wiped,
}

fn home(config: &KeeperConfig) -> Home<'_> {
    Home { domain: &config.domain, node: &config.node }
}

impl Keeper {
    /// Starts with whatever is on disk, and a fresh identity key.
    ///
    /// Files that cannot be opened do not stop the start, nor does a counter that cannot be read:
    /// [`Self::state`] says so. A debug platform's files are not even tried.
    pub fn start(
        config: KeeperConfig,
        platform: &dyn Platform,
        files: &[StoredFile],
    ) -> Result<Self, StartError> {
        let found = files.len();
        if found > load::FILES_MAX {
            return Err(StartError::TooManyFiles { found, limit: load::FILES_MAX });
        }
        let identity = platform.identity()?;
        let files = if identity.debug { &[] } else { files };
        let loaded = load::load(platform, &identity, home(&config), files)?;
        let counting = counter::read(platform, &config);
        let sealing = platform.sealing()?;
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        platform.random(seed.as_mut_slice())?;
        Ok(Self {
            network: NetworkState::new(config.network),
            config,
            identity,
            instance: Arc::new(SigningKey::from_seed(Secret::new(*seed))),
            keyring: loaded.keyring,
            coverage: None,
            proposals: loaded.proposals,
            origin: HoldingOrigin::Recovered,
            unreadable: loaded.unreadable,
            witness: loaded.witness,
            witnessed_root: Serial(0),
            forked: Forked::No,
            admission: Admission::Open,
            witness_files: loaded.witness_files,
            stale: BTreeSet::new(),
            older: loaded.older,
            sequence: loaded.sequence,
            counting,
            sealing,
            epochs: BTreeMap::new(),
            attendance: Attendance::default(),
            suspended: None,
            was_active: false,
            served: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// Trades an intent and the receipt that its files are durable for its answer. Only now does
    /// it take effect.
    pub fn complete<T>(&mut self, intent: Intent<T>, receipt: Durable) -> T {
        let Released { change, written, removed, answer } = intent.release(receipt);
        self.stale.extend(change.stale);
        for name in &written {
            self.older.remove(name);
        }
        for name in removed {
            self.older.remove(&name);
            if let Kind::Sealed(FileName::Witness { sequence }) = FileName::classify(&name) {
                self.witness_files.remove(&sequence);
            }
            self.stale.remove(&name);
        }
        if let Some(identity) = change.identity {
            self.identity = identity;
        }
        if change.memory == Memory::Wiped {
            self.keyring = Keyring::new(self.config.domain);
            self.proposals.clear();
            self.origin = HoldingOrigin::Received;
        }
        for batch in change.batches {
            self.sequence = self.sequence.saturating_add(1);
            self.origin = HoldingOrigin::Received;
            self.admit(batch);
        }
        for order in change.promoted {
            self.proposals.remove(&order);
        }
        if let Some((order, proposal)) = change.proposal {
            // Two secrets for one order would be one too many: one intent at a time.
            assert!(!self.proposals.contains_key(&order), "an order is carried out once");
            self.sequence = self.sequence.saturating_add(1);
            self.proposals.insert(order, proposal);
        }
        if let Some((sequence, witness)) = change.witness {
            self.witness_files.insert(sequence);
            self.witness = Some((sequence, witness));
            self.witnessed_root = self.root_serial();
        }
        self.refresh();
        answer
    }

    /// Lets running requests end and takes no new ones. May be repeated.
    pub fn drain(&mut self) {
        self.admission = Admission::Draining;
    }

    /// Takes requests again. May be repeated.
    pub fn resume(&mut self) {
        self.admission = Admission::Open;
    }

    /// What the keeper is doing, computed from what it has and what the log says.
    ///
    /// While the log is still being fed and has not reached what was witnessed before, the state
    /// is [`ServingState::RolledBack`]: from inside nobody can tell a log that is still coming
    /// from one that was cut off.
    ///
    /// In an exclusive domain the state depends on the time: this is the state at the latest
    /// moment that the keeper was told.
    pub fn state(&self) -> ServingState {
        self.state_at(self.attendance.now())
    }

    /// What the keeper is doing at this moment, if it is not told anything until then.
    pub fn state_at(&self, now: Moment) -> ServingState {
        if self.unreadable.is_some() {
            return ServingState::Unreadable;
        }
        if self.counting.failure().is_some() {
            return ServingState::Uncounted;
        }
        if self.position() == LogPosition::START {
            return ServingState::Starting;
        }
        if self.is_rolled_back() {
            return ServingState::RolledBack;
        }
        let Some(policy) = self.network.policy(&self.config.domain) else {
            return ServingState::Starting;
        };
        if !self.is_permitted(policy) {
            return ServingState::Withdrawn;
        }
        match self.coverage {
            Some(Coverage::Complete) => self.holding_state(policy.sharing, now),
            Some(Coverage::Missing(_)) if self.keyring.newest().is_some() => {
                ServingState::Replicating
            }
            Some(Coverage::Missing(_)) | None => ServingState::Empty,
        }
    }

    /// The state of a keeper that holds everything.
    fn holding_state(&self, sharing: Sharing, now: Moment) -> ServingState {
        match (self.config.role, sharing, self.admission) {
            (HolderRole::Upgrader, _, _) => ServingState::Carrying,
            (HolderRole::Keeper, Sharing::Exclusive, _) => self.exclusive_state(now),
            (HolderRole::Keeper, Sharing::Replicated, Admission::Open) => ServingState::Ready,
            (HolderRole::Keeper, Sharing::Replicated, Admission::Draining) => {
                ServingState::Draining
            }
        }
    }

    /// What the keeper says about itself at this moment. The address is empty: the core does not
    /// know where it can be reached.
    pub fn status(&self, now: Moment) -> KeeperStatus {
        status::status(self, now)
    }

    /// What it was told when it started.
    pub fn config(&self) -> &KeeperConfig {
        &self.config
    }

    /// Who the platform said we are.
    pub fn identity(&self) -> &PlatformIdentity {
        &self.identity
    }

    /// The identity key of this instance. It authenticates sessions and signs statements.
    pub fn instance(&self) -> &Arc<SigningKey> {
        &self.instance
    }

    /// What the log says, as far as it was followed.
    pub fn network(&self) -> &NetworkState {
        &self.network
    }

    /// As [`Self::network`], to appraise evidence with: appraisal remembers what it did. Entries
    /// come only through [`Self::follow`].
    pub fn network_for_appraisal(&mut self) -> &mut NetworkState {
        &mut self.network
    }

    /// How far the log was followed.
    pub fn position(&self) -> LogPosition {
        self.network.position()
    }

    /// Whose files are its own.
    fn home(&self) -> Home<'_> {
        home(&self.config)
    }

    fn domain_state(&self) -> Option<&DomainState> {
        self.network.domain(&self.config.domain)
    }

    fn committed(&self) -> Option<&Committed> {
        self.domain_state()?.committed()
    }

    /// The policy that decides now, if there is one and it has not expired.
    fn policy(&self) -> Result<&Policy, KeeperError> {
        self.network
            .policy(&self.config.domain)
            .map(heirloom_registry::verified::Verified::get)
            .filter(|policy| !is_expired(policy, &self.network))
            .ok_or_else(|| KeeperError::State { state: self.state() })
    }

    /// Whether the domain may have several active holders; none before a policy.
    fn sharing(&self) -> Option<Sharing> {
        self.network.policy(&self.config.domain).map(|policy| policy.sharing)
    }

    fn policy_serial(&self) -> Serial {
        self.network.policy(&self.config.domain).map_or(Serial(0), |policy| policy.serial)
    }

    fn root_serial(&self) -> Serial {
        self.network.root().map_or(Serial(0), |root| root.serial)
    }

    fn security_version(&self) -> SecurityVersion {
        SecurityVersion(u64::from(self.identity.isv_svn))
    }

    /// Whether a policy lets this code hold keys now, in its role.
    fn is_permitted(&self, policy: &Policy) -> bool {
        !self.identity.debug
            && !is_expired(policy, &self.network)
            && permit_holder(policy, &self.identity.measurement, self.security_version())
                .is_ok_and(|holder| holder.role() == self.config.role)
    }

    fn is_rolled_back(&self) -> bool {
        let seen = self.witness.map_or(LogPosition::START.length, |(_, seen)| seen.position.length);
        let committed = self.committed().map(|committed| committed.generation);
        self.forked == Forked::Yes
            || self.witness_gap().is_some()
            || self.position().length < seen
            || self.keyring.newest() > committed
    }

    fn gap(&self) -> Option<Gap> {
        match self.coverage {
            Some(Coverage::Missing(gap)) => Some(gap),
            Some(Coverage::Complete) | None => None,
        }
    }

    fn admit(&mut self, batch: Batch) {
        if self.keyring.insert(batch).is_err() {
            self.unreadable = Some(self.broken_chain());
        }
    }

    /// Compares what is in hand with what the log committed.
    fn refresh(&mut self) {
        let Some(committed) = self.committed().copied() else {
            self.coverage = None;
            return;
        };
        let coverage = self.keyring.coverage(committed.generation, committed.checksum);
        self.coverage = coverage.ok();
        if self.coverage.is_none() {
            let reason = self.broken_chain();
            self.unreadable.get_or_insert(reason);
        }
    }

    fn broken_chain(&self) -> Unreadable {
        Unreadable::BrokenChain { newest: self.keyring.newest().unwrap_or_default() }
    }

    /// Refuses unless this code was measured for this role.
    fn expect_role(&self, needed: HolderRole) -> Result<(), KeeperError> {
        let role = self.config.role;
        if role == needed { Ok(()) } else { Err(KeeperError::Role { role }) }
    }

    /// Refuses with a reason unless this code, on this platform, may write key files now.
    fn expect_writable(&self) -> Result<(), KeeperError> {
        if self.identity.debug {
            return Err(KeeperError::Debug);
        }
        if let Some(unreadable) = &self.unreadable {
            return Err(KeeperError::Unreadable(unreadable.clone()));
        }
        Ok(())
    }
}
