//! One participant while it runs: its store, keys, packages and synchronizers.
//!
//! * [`keys`], [`identity`]: who it is.
//! * [`synchronizers`], [`link`]: what it is connected to.
//! * [`packages`], [`parties`]: what it takes, and whom it hosts.
//! * [`contracts`], [`submit`], [`confirm`]: the ledger.

pub mod confirm;
pub mod contracts;
pub mod error;
pub mod fault;
pub mod identity;
pub mod keys;
pub mod link;
pub mod packages;
pub mod parties;
pub mod submit;
pub mod synchronizers;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use heirloom_canton::dar::types::Packages;
use heirloom_custodians::config::Config;
use heirloom_model::causes::with_causes;
use heirloom_model::participant::CustodianKind;
use heirloom_model::party::{ParticipantId, SynchronizerId};
use heirloom_participant::custodian::Custodian;

use crate::configuration::{Identity, ParticipantSettings};
use crate::log::event;
use crate::node::error::NodeError;
use crate::node::fault::FaultState;
use crate::node::link::Link;
use crate::record::{IdentityRecord, PositionRecord};
use crate::store::{Store, Table};
use crate::topology::Topology;

/// Where the identity is written.
const IDENTITY_KEY: &[u8] = b"identity";
/// Where the ledger end is written.
pub(crate) const LEDGER_END_KEY: &[u8] = b"ledger-end";

/// What is known of a synchronizer, connected or not.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// What it has accepted.
    pub topology: Topology,
    /// How far its log was followed.
    pub position: PositionRecord,
}

/// One participant while it runs.
pub struct Node {
    settings: ParticipantSettings,
    store: Store,
    custodian: Mutex<Box<dyn Custodian>>,
    provider: CustodianKind,
    identity: RwLock<Option<ParticipantId>>,
    authorized: Mutex<Topology>,
    known: Mutex<BTreeMap<SynchronizerId, Known>>,
    packages: RwLock<Packages>,
    links: Mutex<BTreeMap<String, Arc<Link>>>,
    /// Held while the set of links changes, and by repair, which needs that there are none.
    connectivity: tokio::sync::Mutex<()>,
    faults: FaultState,
    started: Instant,
}

impl Node {
    /// Opens a participant. Nothing is connected yet.
    pub fn open(settings: ParticipantSettings) -> Result<Arc<Self>, NodeError> {
        let config = Config::read(&settings.custodian)?;
        let custodian = config.open()?;
        Self::with_custodian(settings, custodian)
    }

    /// Opens a participant whose keys are here.
    pub fn with_custodian(
        settings: ParticipantSettings,
        custodian: Box<dyn Custodian>,
    ) -> Result<Arc<Self>, NodeError> {
        let store = Store::open(&settings.data)?;
        let found: Option<IdentityRecord> = store.read()?.one(Table::Meta, IDENTITY_KEY)?;
        let identity = found.map(|found| found.participant.parse()).transpose()?;
        let description = custodian.describe();
        let node = Self {
            store,
            provider: description.kind,
            custodian: Mutex::new(custodian),
            identity: RwLock::new(identity),
            authorized: Mutex::default(),
            known: Mutex::default(),
            packages: RwLock::default(),
            links: Mutex::default(),
            connectivity: tokio::sync::Mutex::default(),
            faults: FaultState::new(settings.faults.clone()),
            started: Instant::now(),
            settings,
        };
        node.load_packages()?;
        node.load_authorized()?;
        node.load_known()?;
        if node.settings.identity == Identity::Automatic {
            node.initialise()?;
        }
        if let Some(id) = node.id() {
            event("participant", id);
        }
        Ok(Arc::new(node))
    }

    /// Connects what connects by itself. What cannot be reached is said and tried no more.
    pub async fn connect_automatically(self: &Arc<Self>) {
        if self.id().is_none() {
            return;
        }
        match self.reconnect_all().await {
            Ok(failed) => {
                for (alias, error) in failed {
                    event("not-connected", format_args!("{alias}: {}", with_causes(&error)));
                }
            }
            Err(error) => event("not-connected", with_causes(&error)),
        }
    }

    /// What it was told.
    pub fn settings(&self) -> &ParticipantSettings {
        &self.settings
    }

    /// Its store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Who it is, if it is somebody yet.
    pub fn id(&self) -> Option<ParticipantId> {
        self.identity.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who it is; an error before it is somebody.
    pub fn required_id(&self) -> Result<ParticipantId, NodeError> {
        self.id().ok_or(NodeError::NotInitialized)
    }

    /// Whether its keys are in a key management service, and not in files of its own.
    pub fn has_kms(&self) -> bool {
        self.provider != CustodianKind::Software
    }

    /// What goes wrong on purpose.
    pub fn faults(&self) -> &FaultState {
        &self.faults
    }

    /// Since when it runs.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The last offset.
    pub fn ledger_end(&self) -> Result<u64, NodeError> {
        Ok(self.store.read()?.one(Table::Meta, LEDGER_END_KEY)?.unwrap_or(0))
    }

    /// Its packages.
    pub fn packages(&self) -> RwLockReadGuard<'_, Packages> {
        self.packages.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at what a synchronizer has accepted, as far as it was followed.
    pub fn with_known<T>(
        &self,
        synchronizer: &SynchronizerId,
        look: impl FnOnce(&Known) -> T,
    ) -> Option<T> {
        lock(&self.known).get(synchronizer).map(look)
    }

    /// Looks at what this node has signed for every synchronizer.
    pub fn with_authorized<T>(&self, look: impl FnOnce(&Topology) -> T) -> T {
        look(&lock(&self.authorized))
    }
}

pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is changed after it is durable: a panic in between ends one call, and what
    // is there is still true.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
