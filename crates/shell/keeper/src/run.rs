//! Start, wait, stop.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use heirloom_keeper::keeper::{Keeper, KeeperConfig, StartError};

use crate::directory::{DirectoryError, StateDirectory};
use crate::door::{Agent, Door, Listener};
use crate::limit::{ADMIN_CONNECTIONS_MAX, SESSIONS_MAX};
use crate::log::event;
use crate::service::{Service, SharedPlatform};
use crate::{admin, peers};
use heirloom_session::connections::Connections;

/// What a keeper's process needs to know.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Network, domain, node and role.
    pub config: KeeperConfig,
    /// Directory for sealed files.
    pub state: PathBuf,
    /// Where the agent comes in.
    pub admin: Door,
    /// Address for peers and applications.
    pub listen: SocketAddr,
}

/// Why a keeper ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The platform is gone: nothing can be sealed or proven any more.
    PlatformEnded,
    /// The agent asked for it.
    Shutdown,
    /// A signal asked for it.
    Signal,
}

/// Why a keeper does not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The core does not start.
    #[error(transparent)]
    Start(#[from] StartError),
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
}

/// A keeper that runs. Dropping it leaves its threads running; [`Self::stop`] ends them.
pub struct Running {
    service: Arc<Service>,
    sessions: Arc<Connections<TcpStream>>,
    agents: Arc<Connections<Agent>>,
    address: SocketAddr,
    admin: Door,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    end: (Sender<End>, Receiver<End>),
}

/// Starts a keeper in this process.
pub fn start(settings: Settings, platform: SharedPlatform) -> Result<Running, RunError> {
    let directory = StateDirectory::open(&settings.state)?;
    let files = directory.load()?;
    let keeper = Keeper::start(settings.config, &*platform, &files)?;
    drop(files);
    event("started", format_args!("{} {}", keeper.identity().measurement, keeper.state()));
    let peers_socket = TcpListener::bind(settings.listen)
        .map_err(|source| RunError::Socket { socket: settings.listen.to_string(), source })?;
    let cannot_open = |source| RunError::Socket { socket: settings.admin.to_string(), source };
    let address = peers_socket.local_addr().map_err(cannot_open)?;
    let admin_socket = settings.admin.open().map_err(cannot_open)?;
    let mut running = Running {
        service: Arc::new(Service::new(keeper, platform, directory, address)),
        sessions: Arc::new(Connections::new(SESSIONS_MAX)),
        agents: Arc::new(Connections::new(ADMIN_CONNECTIONS_MAX)),
        address,
        admin: settings.admin.clone(),
        is_over: Arc::default(),
        threads: Vec::new(),
        end: channel(),
    };
    running.listen(peers_socket, admin_socket).map_err(RunError::Thread)?;
    Ok(running)
}

impl Running {
    /// Where peers and applications reach it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What an agent would ask, without a socket.
    pub fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// Whoever has it can end the keeper.
    pub fn end(&self) -> Sender<End> {
        self.end.0.clone()
    }

    /// Waits until somebody ends it.
    pub fn wait(&self) -> End {
        // The sender is in the same value: the channel cannot be closed.
        self.end.1.recv().unwrap_or(End::Shutdown)
    }

    /// Ends sessions and listeners in order. What is being written is written first.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::Release);
        // Listeners look whether it is over when somebody comes.
        TcpStream::connect(self.address).ok();
        self.admin.knock();
        for thread in self.threads {
            // A listener that panicked has ended as well.
            thread.join().ok();
        }
        self.sessions.shut_down();
        self.agents.shut_down();
        // Threads that are still busy end when they notice; from now on they can write nothing.
        self.service.quiesce().close();
        self.admin.remove();
    }

    fn listen(&mut self, peers: TcpListener, admin: Listener) -> io::Result<()> {
        let over = |is_over: &Arc<AtomicBool>| {
            let is_over = Arc::clone(is_over);
            move || is_over.load(Ordering::Acquire)
        };
        let (service, is_over) = (Arc::clone(&self.service), over(&self.is_over));
        let connections = Arc::clone(&self.sessions);
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        self.threads.push(
            named("peers").spawn(move || peers::listen(&peers, &service, &connections, is_over))?,
        );
        let (service, is_over) = (Arc::clone(&self.service), over(&self.is_over));
        let (connections, end) = (Arc::clone(&self.agents), self.end.0.clone());
        self.threads.push(
            named("admin")
                .spawn(move || admin::listen(&admin, &service, &connections, &end, is_over))?,
        );
        Ok(())
    }
}
