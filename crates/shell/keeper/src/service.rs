//! What an agent may ask, carried out one after the other.
//!
//! Locks, in this order: the directory, then the keeper. Whoever changes durable state holds the
//! directory the whole time and the keeper only for moments, so that keys are served while files
//! are flushed.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use heirloom_keeper::handover::DonorSession;
use heirloom_keeper::handshake::Peer;
use heirloom_keeper::intent::{Intent, StoredFile};
use heirloom_keeper::keeper::Keeper;
use heirloom_keeper::keeper::error::KeeperError;
use heirloom_keeper::port::{Platform, StoreError};
use heirloom_model::admin::{AdminRefusal, AdminRequest, AdminResponse, KeeperStatus, Ticket};
use heirloom_model::digest::Nonce;
use heirloom_model::domain::{ActivationCause, LogPosition, PlanStep};
use heirloom_model::log::LogEntry;
use heirloom_model::policy::Sharing;
use heirloom_model::protocol::{PeerRequest, PeerResponse};
use heirloom_registry::network::NetworkState;
use heirloom_session::context::{SessionContext, Trust};
use heirloom_session::tls::Identity;

use crate::clock;
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
    /// Where peers and applications reach it.
    address: SocketAddr,
}

impl Service {
    /// A keeper that was started from the files of this directory, and listens at this address.
    pub fn new(
        keeper: Keeper,
        platform: SharedPlatform,
        directory: StateDirectory,
        address: SocketAddr,
    ) -> Self {
        let identity = Identity::new(Arc::clone(keeper.instance()));
        let (keeper, directory) = (RwLock::new(keeper), Mutex::new(directory));
        Self { keeper, directory, platform, identity, address }
    }

    /// Carries out one request of the agent. [`AdminRequest::Shutdown`] is for the caller.
    pub fn admin(&self, request: &AdminRequest) -> AdminResponse {
        let done = |()| AdminResponse::Done;
        let answer = match request {
            AdminRequest::Follow { entries, attended } => self.follow(entries, *attended),
            AdminRequest::Attend => {
                Ok(AdminResponse::Ticket(self.keeper_mut().attend(clock::now())))
            }
            AdminRequest::Status => Ok(AdminResponse::Status(Box::new(self.status()))),
            AdminRequest::Register => self.register().map(AdminResponse::Statement),
            AdminRequest::Probe => self.probe().map(done),
            AdminRequest::Prove { challenge } => {
                self.prove(*challenge).map(AdminResponse::Statement)
            }
            AdminRequest::CreateGeneration { order } => {
                self.create_generation(*order).map(AdminResponse::Statement)
            }
            AdminRequest::ReceiveGeneration { order, sources } => {
                self.receive_generation(*order, sources).map(AdminResponse::Statement)
            }
            AdminRequest::Replicate { sources } => self.replicate(sources).map(done),
            AdminRequest::HandOver { step, source } => self.hand_over(*step, source).map(done),
            AdminRequest::Suspend(step) => self.suspend(*step).map(AdminResponse::Statement),
            AdminRequest::Activate(cause) => self.activate(*cause).map(AdminResponse::Statement),
            AdminRequest::Forget(step) => self.forget(*step).map(done),
            AdminRequest::Reseal => self.reseal().map(done),
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

    /// Answers one request of a session. Takes the keeper for the moment of one derivation; what
    /// the keeper is in that very moment decides.
    pub fn converse(
        &self,
        peer: &Peer,
        donor: &mut DonorSession,
        request: &PeerRequest,
    ) -> PeerResponse {
        let keeper = self.keeper();
        keeper.converse(self.platform(), peer, donor, request, clock::now())
    }

    /// Whether keys that were derived a moment ago may still leave. In an exclusive domain they
    /// may not once this instance has suspended itself, or has not been attended for too long:
    /// another one may be serving.
    pub fn may_send_keys(&self) -> bool {
        let keeper = self.keeper();
        let domain = keeper.config().domain;
        let policy = keeper.network().policy(&domain);
        match policy.map(|policy| policy.sharing) {
            Some(Sharing::Replicated) => true,
            Some(Sharing::Exclusive) => keeper.state_at(clock::now()).answers(),
            None => false,
        }
    }

    /// What the keeper says about itself, and where it is.
    pub fn status(&self) -> KeeperStatus {
        let status = self.keeper().status(clock::now());
        KeeperStatus { address: self.address.to_string(), ..status }
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

    fn follow(
        &self,
        entries: &[LogEntry],
        attended: Option<Ticket>,
    ) -> Result<AdminResponse, AdminRefusal> {
        let mut directory = self.quiesce();
        let before = self.keeper().state_at(clock::now());
        // Also without entries: what could not be written the last time is written now.
        let mut position = self.follow_some(&mut directory, &[], None)?;
        let mut rest = entries;
        while rest.len() > ENTRIES_PER_LOCK_MAX {
            let (some, after) = rest.split_at(ENTRIES_PER_LOCK_MAX);
            self.follow_some(&mut directory, some, None)?;
            rest = after;
        }
        // Only who has followed everything has seen the end of the log.
        if !rest.is_empty() || attended.is_some() {
            position = self.follow_some(&mut directory, rest, attended)?;
        }
        let after = self.keeper().state_at(clock::now());
        if before != after {
            event("state", after);
        }
        Ok(AdminResponse::Position(position))
    }

    fn follow_some(
        &self,
        directory: &mut StateDirectory,
        entries: &[LogEntry],
        attended: Option<Ticket>,
    ) -> Result<LogPosition, AdminRefusal> {
        let mut keeper = self.keeper_mut();
        let intent = keeper.follow(self.platform(), entries, attended, clock::now())?;
        drop(keeper);
        let position = self.carry_out(directory, intent)?;
        self.keeper_mut().count_witness(self.platform()).map_err(KeeperError::from)?;
        Ok(position)
    }

    fn register(&self) -> Result<Vec<u8>, AdminRefusal> {
        Ok(self.keeper().register(self.platform())?)
    }

    fn probe(&self) -> Result<(), AdminRefusal> {
        let directory = self.quiesce();
        let files = load(&directory)?;
        Ok(self.keeper().probe(self.platform(), &files)?)
    }

    fn prove(&self, challenge: Nonce) -> Result<Vec<u8>, AdminRefusal> {
        let directory = self.quiesce();
        let files = load(&directory)?;
        Ok(self.keeper().prove(self.platform(), challenge, &files)?)
    }

    fn create_generation(&self, order: Nonce) -> Result<Vec<u8>, AdminRefusal> {
        let mut directory = self.quiesce();
        let intent = self.keeper().create_generation(self.platform(), order)?;
        self.carry_out(&mut directory, intent)
    }

    /// From here on no answer is made, whatever becomes of the statement. Sessions that have an
    /// answer in hand look once more before they send it.
    fn suspend(&self, step: PlanStep) -> Result<Vec<u8>, AdminRefusal> {
        let statement = self.keeper_mut().suspend(self.platform(), step)?;
        event("suspended", step.plan);
        Ok(statement)
    }

    fn activate(&self, cause: ActivationCause) -> Result<Vec<u8>, AdminRefusal> {
        Ok(self.keeper().activate(self.platform(), cause)?)
    }

    /// Files that come back after a power failure were not given up, nor were those that an
    /// interrupted write left: they are removed, and the directory is flushed, before memory is
    /// wiped and anybody is told.
    fn forget(&self, step: PlanStep) -> Result<(), AdminRefusal> {
        let mut directory = self.quiesce();
        let files = load(&directory)?;
        let intent = self.keeper().forget(step, &files)?;
        let receipt = intent.persist(&mut *directory).map_err(|error| storage(&error))?;
        directory.remove_unfinished().map_err(|error| storage(&error))?;
        directory.flush().map_err(|error| storage(&error))?;
        self.keeper_mut().complete(intent, receipt);
        event("forgotten", step.plan);
        Ok(())
    }

    fn reseal(&self) -> Result<(), AdminRefusal> {
        let mut directory = self.quiesce();
        let files = load(&directory)?;
        let intent = self.keeper().reseal(self.platform(), &files)?;
        let count = intent.writes().len();
        self.carry_out(&mut directory, intent)?;
        event("resealed", count);
        Ok(())
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
