//! Start, wait, stop.

use std::collections::BTreeSet;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use heirloom_keeper::port::PlatformError;
use heirloom_ledger::configuration::Configuration;
use heirloom_ledger_store::error::{LedgerError, OpenError};
use heirloom_ledger_store::ledger::Ledger;
use heirloom_model::digest::NetworkId;
use heirloom_model::identifier::{ApplicationId, DomainId, NodeId};
use heirloom_model::measurement::Measurement;
use heirloom_model::service::{SchemaVersion, Tip, Writing};
use heirloom_registry::port::LogStore;
use heirloom_store::atomic;
use tokio::runtime::Runtime;

use crate::chain::Chain;
use crate::command::PeerAddress;
use crate::control::{self, Subject};
use crate::follow::follow;
use crate::http;
use crate::instance::{Instance, SharedPlatform};
use crate::keys::{ViewKeys, wait_for_view};
use crate::limit::{CONTROL_CONNECTIONS_MAX, PEER_SESSIONS_MAX, STOP_TIME_MAX};
use crate::log::event;
use crate::peer::admission::OwnSide;
use crate::peer::link::Links;
use crate::peer::listener;
use crate::propose;
use crate::raft::votes::{Before, Votes, VotesError};
use crate::service::{Entrance, Service};
use heirloom_session::connections::Connections;

/// What a node is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its network.
    pub network: NetworkId,
    /// The domain whose keys it uses.
    pub domain: DomainId,
    /// Whose keys it uses.
    pub application: ApplicationId,
    /// Its name.
    pub node: NodeId,
    /// What peers must have configured alike.
    pub configuration: Configuration,
    /// The agent's socket.
    pub control: PathBuf,
    /// Everything that code which is only tried does not have.
    pub place: Option<Place>,
}

/// Where a node has its ledger, and where it is reached.
#[derive(Clone, Debug)]
pub struct Place {
    /// The ledger's directory.
    pub data: PathBuf,
    /// Votes and log of this measurement.
    pub votes: PathBuf,
    /// The schema that this release serves.
    pub schema: SchemaVersion,
    /// How it begins.
    pub begin: Begin,
    /// Where clients come in.
    pub client_listen: SocketAddr,
    /// Where peers come in.
    pub peer_listen: SocketAddr,
    /// The side door.
    pub door_listen: SocketAddr,
    /// The other nodes.
    pub peers: Vec<PeerAddress>,
}

/// How a node begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Begin {
    /// Wherever its ledger ends.
    Anywhere,
    /// Only with a ledger that ends here.
    At(Tip),
    /// As one that has promised to append nothing: frozen from the first moment on, and only with
    /// a ledger that ends here.
    Frozen(Tip),
}

/// What the surroundings lend a node.
pub struct Surroundings {
    /// Its platform.
    pub platform: SharedPlatform,
    /// The registry's log.
    pub log: Arc<dyn LogStore>,
    /// Where the view key comes from.
    pub keys: Box<dyn ViewKeys>,
}

/// Why a node ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The platform is gone: nothing can be proven any more.
    PlatformEnded,
    /// The agent asked for it.
    Shutdown,
    /// A signal asked for it.
    Signal,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The platform did not do its part.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// The ledger cannot be opened.
    #[error("the ledger cannot be opened")]
    Open(#[from] OpenError),
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Ledger(#[from] LedgerError),
    /// The ledger is not what was expected.
    #[error("the ledger ends at {found}, and {expected} is expected: this node refuses to serve")]
    OtherTip {
        /// Where it ends.
        found: Tip,
        /// Where it should end.
        expected: Tip,
    },
    /// It cannot be seen which copy of the ledger is in use.
    #[error("{path} cannot be read")]
    Live {
        /// The link.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Votes cannot be used.
    #[error("votes cannot be used")]
    Votes(#[from] VotesError),
    /// Two nodes have the same number, or a node is its own peer.
    #[error("the list of peers names {0} twice, or this very node")]
    Peers(NodeId),
    /// A socket cannot be opened.
    #[error("{socket} cannot be opened")]
    Socket {
        /// Which.
        socket: String,
        /// What the system said.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] io::Error),
    /// Consensus does not start.
    #[error("consensus does not start: {0}")]
    Consensus(String),
    /// It was told to end before it had begun.
    #[error("it was told to end before it had its keys")]
    Over,
}

/// A node that runs.
pub struct Running {
    subject: Subject,
    runtime: Option<Runtime>,
    is_over: Arc<AtomicBool>,
    control: PathBuf,
    peers: Option<(SocketAddr, Arc<Connections<TcpStream>>)>,
    /// Where clients and the side door are reached.
    addresses: Option<(SocketAddr, SocketAddr)>,
    agents: Arc<Connections<UnixStream>>,
    threads: Vec<JoinHandle<()>>,
    end: (Sender<End>, Receiver<End>),
}

/// Starts a node in this process.
pub fn start(settings: &Settings, around: Surroundings) -> Result<Running, RunError> {
    let is_over = Arc::new(AtomicBool::new(false));
    let own = own_side(settings, &around)?;
    // What must be looked at before anything is promised comes first.
    let opened = settings.place.as_ref().map(|place| open(place, settings, own.measurement));
    let opened = opened.transpose()?;
    let (followed, log_thread) =
        follow(settings.network, around.log, Arc::clone(&is_over)).map_err(RunError::Thread)?;
    let mut keys = around.keys;
    // Code is tried with its keys too: that they can be had is part of what is tried.
    let view = wait_for_view(&mut *keys, &|| is_over.load(Ordering::Acquire));
    let view = view.ok_or(RunError::Over)?;
    let instance = Instance::new(own, settings.domain, around.platform, followed, Some(view))?;
    let instance = Arc::new(instance);
    let mut running = Running {
        subject: Subject::Trial(Arc::clone(&instance)),
        runtime: None,
        is_over,
        control: settings.control.clone(),
        peers: None,
        addresses: None,
        agents: Arc::new(Connections::new(CONTROL_CONNECTIONS_MAX)),
        threads: vec![log_thread],
        end: channel(),
    };
    if let (Some(place), Some(opened)) = (&settings.place, opened) {
        running.serve(place, opened, instance)?;
    }
    running.answer_agent()?;
    event("started", format_args!("{} as {}", settings.node, settings.application));
    Ok(running)
}

fn own_side(settings: &Settings, around: &Surroundings) -> Result<OwnSide, RunError> {
    let mut peers = BTreeSet::new();
    for peer in settings.place.iter().flat_map(|place| &place.peers) {
        if peer.node == settings.node || !peers.insert(peer.node.clone()) {
            return Err(RunError::Peers(peer.node.clone()));
        }
    }
    Ok(OwnSide {
        node: settings.node.clone(),
        network: settings.network,
        application: settings.application.clone(),
        measurement: around.platform.identity()?.measurement,
        configuration: settings.configuration.digest(),
        peers,
    })
}

/// A ledger that is the expected one, and the votes of this measurement.
struct Opened {
    chain: Arc<Chain>,
    votes: Votes,
}

fn open(place: &Place, settings: &Settings, measurement: Measurement) -> Result<Opened, RunError> {
    let ledger = Ledger::open(&place.data, place.schema)?;
    let found = ledger.tip()?;
    match place.begin {
        Begin::At(expected) | Begin::Frozen(expected) if expected != found => {
            return Err(RunError::OtherTip { found, expected });
        }
        Begin::Anywhere | Begin::At(_) | Begin::Frozen(_) => {}
    }
    let votes = open_votes(place, measurement)?;
    let writing = match place.begin {
        Begin::Anywhere | Begin::At(_) => Writing::Active,
        Begin::Frozen(_) => Writing::Frozen,
    };
    let chain = Arc::new(Chain::new(ledger, settings.configuration.clone(), writing)?);
    Ok(Opened { chain, votes })
}

/// Opens the votes of this measurement for the copy of the ledger that is in use.
///
/// That the node has taken part with a copy is noted beside the copy itself. Votes that are missing
/// are then lost and not new, whoever took them away.
fn open_votes(place: &Place, measurement: Measurement) -> Result<Votes, RunError> {
    let note = place.data.join("live").join(format!("took-part-{measurement}"));
    let failed = |source| RunError::Live { path: note.clone(), source };
    let took_part = note.try_exists().map_err(failed)?;
    let before = if took_part { Before::TookPart } else { Before::Unknown };
    let votes = Votes::open(&place.votes.join(copy_of(&place.data)?), before)?;
    if !took_part {
        // Only now: the file is on disk, and from here on it is missed.
        atomic::write(&note, &[]).map_err(VotesError::from)?;
    }
    Ok(votes)
}

/// The name of the copy of the ledger that is in use. What nodes agreed on counts for that copy
/// alone: a plan that was called off leaves votes and blocks behind that must never come back,
/// and its next attempt has another copy. The way back has the old copy again, and its votes.
fn copy_of(data: &Path) -> Result<PathBuf, RunError> {
    let live = data.join("live");
    let target = std::fs::read_link(&live);
    let target = target.map_err(|source| RunError::Live { path: live.clone(), source })?;
    Ok(target.file_name().map_or_else(|| PathBuf::from("original"), PathBuf::from))
}

fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let failed = |source| RunError::Socket { socket: address.to_string(), source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

impl Running {
    fn serve(
        &mut self,
        place: &Place,
        opened: Opened,
        instance: Arc<Instance>,
    ) -> Result<(), RunError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(3)
            .enable_all()
            .build()
            .map_err(RunError::Thread)?;
        let Opened { chain, votes } = opened;
        let (peer_listener, peer_address) = bind(place.peer_listen)?;
        let (client_listener, client_address) = bind(place.client_listen)?;
        let (door_listener, door_address) = bind(place.door_listen)?;
        let handle = runtime.handle().clone();
        let over = Arc::clone(&self.is_over);
        let service = Arc::new(Service::new(instance, Arc::clone(&chain), handle, over));
        let (links, talking) = Links::start(&service, &place.peers).map_err(RunError::Thread)?;
        service.set_links(Arc::new(links));
        self.threads.extend(talking);
        let raft = propose::start_raft(&service, votes.clone(), &place.peers, peer_address);
        let raft = runtime.block_on(raft).map_err(RunError::Consensus)?;
        service.set_raft(raft, votes);
        propose::start_tasks(&service);
        let connections = Arc::new(Connections::new(PEER_SESSIONS_MAX));
        self.peers = Some((peer_address, Arc::clone(&connections)));
        let (serving, named) = (Arc::clone(&service), thread::Builder::new());
        self.threads.push(
            named
                .name("peers".to_owned())
                .spawn(move || listener::listen(&peer_listener, &serving, &connections))
                .map_err(RunError::Thread)?,
        );
        for (listener, entrance) in
            [(client_listener, Entrance::Front), (door_listener, Entrance::Side)]
        {
            http::serve(&service, listener, entrance).map_err(RunError::Thread)?;
        }
        self.addresses = Some((client_address, door_address));
        self.subject = Subject::Live(service);
        self.runtime = Some(runtime);
        Ok(())
    }

    fn answer_agent(&mut self) -> Result<(), RunError> {
        let failed =
            |source| RunError::Socket { socket: self.control.display().to_string(), source };
        let listener = control::bind(&self.control).map_err(failed)?;
        let (subject, agents) = (self.subject.clone(), Arc::clone(&self.agents));
        let (end, is_over) = (self.end.0.clone(), Arc::clone(&self.is_over));
        let spawned = thread::Builder::new().name("control".to_owned()).spawn(move || {
            let over = || is_over.load(Ordering::Acquire);
            control::listen(&listener, &subject, &agents, &end, over);
        });
        self.threads.push(spawned.map_err(RunError::Thread)?);
        Ok(())
    }

    /// Who answers the agent.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Where peers come in.
    pub fn peer_address(&self) -> Option<SocketAddr> {
        self.peers.as_ref().map(|(address, _)| *address)
    }

    /// Where clients come in, and the side door.
    pub fn addresses(&self) -> Option<(SocketAddr, SocketAddr)> {
        self.addresses
    }

    /// Whoever has it can end the node.
    pub fn end(&self) -> Sender<End> {
        self.end.0.clone()
    }

    /// Waits until somebody ends it.
    pub fn wait(&self) -> End {
        // The sender is in the same value: the channel cannot be closed.
        self.end.1.recv().unwrap_or(End::Shutdown)
    }

    /// Ends everything in order. What is being written is written first.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::Release);
        if let (Subject::Live(service), Some(runtime)) = (&self.subject, &self.runtime)
            && let Some(raft) = service.raft()
        {
            // A node that promised to append nothing may never finish what was agreed on since.
            let ended = async { tokio::time::timeout(STOP_TIME_MAX, raft.shutdown()).await };
            drop(runtime.block_on(ended));
        }
        // Listeners look whether it is over when somebody comes.
        UnixStream::connect(&self.control).ok();
        if let Some((address, connections)) = &self.peers {
            TcpStream::connect(address).ok();
            connections.shut_down();
        }
        self.agents.shut_down();
        for thread in self.threads {
            // A thread that panicked has ended as well.
            thread.join().ok();
        }
        if let Some(runtime) = self.runtime {
            runtime.shutdown_timeout(STOP_TIME_MAX);
        }
        std::fs::remove_file(&self.control).ok();
    }
}
