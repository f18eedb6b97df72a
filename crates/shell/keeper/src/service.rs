//! What an agent may ask, carried out one after the other.
//!
//! Locks, in this order: the directory, then the keeper. Whoever changes durable state holds the
//! directory the whole time and the keeper only for moments, so that keys are served while files
//! are flushed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use heirloom_keeper::handshake::Peer;
use heirloom_keeper::intent::{Intent, StoredFile};
use heirloom_keeper::keeper::Keeper;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_keeper::port::{Platform, StoreError};
use heirloom_model::admin::{AdminRefusal, AdminRequest, AdminResponse};
use heirloom_model::digest::Nonce;
use heirloom_model::domain::LogPosition;
use heirloom_model::log::LogEntry;
use heirloom_model::protocol::{PeerRequest, PeerResponse};
use heirloom_registry::network::NetworkState;
use heirloom_session::context::{SessionContext, Trust};
use heirloom_session::tls::Identity;

use crate::directory::{DirectoryError, StateDirectory};
use crate::limit::ENTRIES_PER_LOCK_MAX;
use crate::log::event;

/// A platform that threads share.
pub type SharedPlatform = Arc<dyn Platform + Send + Sync>;

/// One keeper with its platform and its directory.
pub struct Service {
    keeper: RwLock<Keeper>,
    directory: Mutex<StateDirectory>,
    platform: SharedPlatform,
    identity: Identity,
}

impl Service {
    /// A keeper that was started from the files of this directory.
    pub fn new(keeper: Keeper, platform: SharedPlatform, directory: StateDirectory) -> Self {
        let identity = Identity::new(Arc::clone(keeper.instance()));
        let (keeper, directory) = (RwLock::new(keeper), Mutex::new(directory));
        Self { keeper, directory, platform, identity }
    }

    /// Carries out one request of the agent. [`AdminRequest::Shutdown`] is for the caller.
    pub fn admin(&self, request: &AdminRequest) -> AdminResponse {
        let answer = match request {
            AdminRequest::Follow(entries) => self.follow(entries),
            AdminRequest::Status => Ok(AdminResponse::Status(Box::new(self.keeper().status()))),
            AdminRequest::Register => self.register(),
            AdminRequest::Probe => self.probe(),
            AdminRequest::Prove { challenge } => self.prove(*challenge),
            AdminRequest::CreateGeneration { order } => self.create_generation(*order),
            AdminRequest::ReceiveGeneration { order, sources } => {
                self.receive_generation(*order, sources).map(AdminResponse::Statement)
            }
            AdminRequest::Replicate { sources } => {
                self.replicate(sources).map(|()| AdminResponse::Done)
            }
            AdminRequest::Drain => {
                self.keeper_mut().drain();
                Ok(AdminResponse::Done)
            }
            AdminRequest::Resume => {
                self.keeper_mut().resume();
                Ok(AdminResponse::Done)
            }
            AdminRequest::Shutdown => Ok(AdminResponse::Done),
        };
        answer.unwrap_or_else(|refusal| {
            event("refused", &refusal);
            AdminResponse::Refused(refusal)
        })
    }

    /// Answers one request of a peer. Takes the keeper for the moment of one derivation.
    pub fn serve(&self, peer: &Peer, request: &PeerRequest) -> PeerResponse {
        self.keeper().serve(peer, request)
    }

    /// What a session about this keeper's domain needs to know.
    pub fn session_context(&self) -> SessionContext<'_> {
        let config = self.keeper().config().clone();
        SessionContext {
            network: config.network,
            domain: config.domain,
            platform: self.platform(),
            trust: self,
        }
    }

    /// The identity that authenticates sessions.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Waits until nothing is being written, and keeps it so until the guard is dropped.
    pub fn quiesce(&self) -> MutexGuard<'_, StateDirectory> {
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic inside the core is a bug and ends its thread; what is in memory was never ahead of
    /// what is on disk, so the others go on.
    pub(crate) fn keeper(&self) -> RwLockReadGuard<'_, Keeper> {
        self.keeper.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn platform(&self) -> &dyn Platform {
        &*self.platform
    }

    /// Makes an intent durable, and only then lets it take effect.
    pub(crate) fn carry_out<T>(
        &self,
        directory: &mut StateDirectory,
        intent: Intent<T>,
    ) -> Result<T, AdminRefusal> {
        let receipt = intent.persist(directory).map_err(|error| storage(&error))?;
        Ok(self.keeper_mut().complete(intent, receipt))
    }

    fn keeper_mut(&self) -> RwLockWriteGuard<'_, Keeper> {
        self.keeper.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, entries: &[LogEntry]) -> Result<AdminResponse, AdminRefusal> {
        let mut directory = self.quiesce();
        let before = self.keeper().state();
        // Also without entries: what could not be written the last time is written now.
        let mut position = self.follow_some(&mut directory, &[])?;
        for some in entries.chunks(ENTRIES_PER_LOCK_MAX) {
            position = self.follow_some(&mut directory, some)?;
        }
        let after = self.keeper().state();
        if before != after {
            event("state", after);
        }
        Ok(AdminResponse::Position(position))
    }

    fn follow_some(
        &self,
        directory: &mut StateDirectory,
        entries: &[LogEntry],
    ) -> Result<LogPosition, AdminRefusal> {
        let intent = self.keeper_mut().follow(self.platform(), entries)?;
        self.carry_out(directory, intent)
    }

    fn register(&self) -> Result<AdminResponse, AdminRefusal> {
        let statement = self.keeper().register(self.platform())?;
        Ok(AdminResponse::Statement(statement))
    }

    fn probe(&self) -> Result<AdminResponse, AdminRefusal> {
        let directory = self.quiesce();
        let files = load(&directory)?;
        self.keeper().probe(self.platform(), &files)?;
        Ok(AdminResponse::Done)
    }

    fn prove(&self, challenge: Nonce) -> Result<AdminResponse, AdminRefusal> {
        let directory = self.quiesce();
        let files = load(&directory)?;
        let statement = self.keeper().prove(self.platform(), challenge, &files)?;
        Ok(AdminResponse::Statement(statement))
    }

    fn create_generation(&self, order: Nonce) -> Result<AdminResponse, AdminRefusal> {
        let mut directory = self.quiesce();
        let intent = self.keeper().create_generation(self.platform(), order)?;
        self.carry_out(&mut directory, intent).map(AdminResponse::Statement)
    }
}

impl Trust for Service {
    fn look(&self, look: &mut dyn FnMut(&mut NetworkState)) {
        look(self.keeper_mut().network_for_appraisal());
    }
}

fn load(directory: &StateDirectory) -> Result<Vec<StoredFile>, AdminRefusal> {
    directory.load().map_err(|error: DirectoryError| {
        AdminRefusal::Storage(heirloom_model::causes::with_causes(&error))
    })
}

fn storage(error: &StoreError) -> AdminRefusal {
    AdminRefusal::Storage(error.to_string())
}

/// Turns a core's refusal into an agent's, for the modules beside this one.
pub(crate) fn refused(error: KeeperError) -> AdminRefusal {
    error.into()
}
