//! The server, and how it starts and stops.

use std::future::IntoFuture;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use heirloom_model::causes::with_causes;
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::NetworkId;
use heirloom_model::limit::LOG_ENTRIES_MAX;
use heirloom_model::log::BrokenChain;
use heirloom_registry::network::{Applied, NetworkState};
use heirloom_registry::port::{LogStore, PresenceTable, ReadError};
use heirloom_registry::refusal::Refusal;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::handler::{Followed, Service, router};
use crate::presence::MemoryTable;

/// How long requests may still run after the server was asked to stop.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a server that follows others may go on after it was asked to stop.
const FOLLOW_SLICE: Duration = Duration::from_secs(2);
/// Before a log that could not be read is read again.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// A registry that has its address and its log, and serves once [`Server::run`] is called.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    address: SocketAddr,
    service: Arc<Service>,
    stop: watch::Sender<bool>,
    writers: Writers,
}

/// A log and a presence table that other servers use too.
pub struct Shared {
    /// The log.
    pub log: Box<dyn LogStore>,
    /// Where nodes can be reached.
    pub presence: Box<dyn PresenceTable>,
}

/// Who appends to the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Writers {
    /// This server.
    One,
    /// Other servers too: what they append has to be followed.
    Many,
}

/// Asks a server to stop. Clones ask the same server.
#[derive(Clone, Debug)]
pub struct Stopper(watch::Sender<bool>);

/// Why a server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The text is no address.
    #[error("{listen:?} is not an address to listen on")]
    NoAddress {
        /// The text.
        listen: String,
    },
    /// Another process listens there.
    #[error("{address} is in use by another process")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The system does not let this user listen there.
    #[error("no permission to listen on {address}")]
    Refused {
        /// The address.
        address: SocketAddr,
    },
    /// This machine does not have the address.
    #[error("this machine does not have the address {address}")]
    AddressNotHere {
        /// The address.
        address: SocketAddr,
    },
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// The log is not one chain.
    #[error("the log is not one chain")]
    Chain(#[from] BrokenChain),
    /// The log begins with another root.
    #[error("the log belongs to another network than {network}")]
    OtherNetwork {
        /// The network that was asked for.
        network: NetworkId,
    },
    /// Anything else that the system said.
    #[error("cannot serve")]
    Failed(#[source] io::Error),
}

/// Serves a log of its own until `shutdown` is ready. `ready` is told the address before the first
/// request.
pub fn run(
    log: impl LogStore + 'static,
    network: NetworkId,
    listen: &str,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    Server::bind(log, network, resolve(listen)?)?.run_until(ready, shutdown)
}

/// Serves a log beside other servers until `shutdown` is ready, in the same way.
pub fn run_shared(
    shared: Shared,
    network: NetworkId,
    listen: &str,
    ready: impl FnOnce(SocketAddr),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    Server::bind_shared(shared, network, resolve(listen)?)?.run_until(ready, shutdown)
}

fn resolve(listen: &str) -> Result<SocketAddr, ServeError> {
    let no_address = || ServeError::NoAddress { listen: listen.to_owned() };
    let mut addresses = listen.to_socket_addrs().map_err(|_| no_address())?;
    addresses.next().ok_or_else(no_address)
}

impl Server {
    /// Takes the address, and follows the log to its end. Port 0 is any free port. Nobody else
    /// appends to the log.
    pub fn bind(
        log: impl LogStore + 'static,
        network: NetworkId,
        listen: SocketAddr,
    ) -> Result<Self, ServeError> {
        let presence = Box::new(MemoryTable::default());
        Self::start(Shared { log: Box::new(log), presence }, Writers::One, network, listen)
    }

    /// Takes the address, and follows a log to which other servers append too. It keeps nothing
    /// that they do not have: any number of them may come and go.
    pub fn bind_shared(
        shared: Shared,
        network: NetworkId,
        listen: SocketAddr,
    ) -> Result<Self, ServeError> {
        Self::start(shared, Writers::Many, network, listen)
    }

    fn start(
        shared: Shared,
        writers: Writers,
        network: NetworkId,
        listen: SocketAddr,
    ) -> Result<Self, ServeError> {
        let Shared { log, presence } = shared;
        let (state, unreadable) = follow(&*log, network)?;
        if let Some(unreadable) = unreadable {
            tracing::warn!("{unreadable}");
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("registry")
            .build()
            .map_err(ServeError::Failed)?;
        let bound = runtime.block_on(TcpListener::bind(listen));
        let listener = bound.map_err(|error| bind_error(listen, error))?;
        let address = listener.local_addr().map_err(ServeError::Failed)?;
        let (followed, _) = watch::channel(Followed { position: state.position(), lost: None });
        let (stop, stopping) = watch::channel(false);
        let state = Mutex::new(state);
        let service = Arc::new(Service { log, state, followed, stopping, presence });
        Ok(Self { runtime, listener, address, service, stop, writers })
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A handle that stops it.
    pub fn stopper(&self) -> Stopper {
        Stopper(self.stop.clone())
    }

    fn run_until(
        self,
        ready: impl FnOnce(SocketAddr),
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), ServeError> {
        ready(self.address());
        let stopper = self.stopper();
        self.runtime.spawn(async move {
            shutdown.await;
            stopper.stop();
        });
        self.run()
    }

    /// Serves until it is asked to stop. Requests that run then may end.
    pub fn run(self) -> Result<(), ServeError> {
        let Self { runtime, listener, service, stop, writers, .. } = self;
        if writers == Writers::Many {
            let service = Arc::clone(&service);
            // It ends some seconds after this server. Nobody waits for it: it only reads.
            let following = thread::Builder::new().name("registry-follow".to_owned());
            let following = following.spawn(move || follow_others(&service));
            drop(following.map_err(ServeError::Failed)?);
        }
        let (mut asked, mut late) = (stop.subscribe(), stop.subscribe());
        let served = runtime.block_on(async move {
            // An error means that nobody can ask any more, which is asking.
            let stopping = async move { drop(asked.wait_for(|stop| *stop).await) };
            let serving = axum::serve(listener, router(service)).with_graceful_shutdown(stopping);
            let overdue = async move {
                drop(late.wait_for(|stop| *stop).await);
                tokio::time::sleep(STOP_TIME_MAX).await;
            };
            tokio::select! {
                served = serving.into_future() => served,
                () = overdue => Ok(()),
            }
        });
        runtime.shutdown_timeout(STOP_TIME_MAX);
        served.map_err(ServeError::Failed)
    }
}

impl Stopper {
    /// Asks. Asking twice is the same as asking once.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Folds the whole log. A log that does not begin with the network's root is the wrong file.
///
/// No registry appends what it cannot read. The first entry that this one cannot read therefore
/// comes from another release, and is told: everybody's state lacks what it says.
fn follow(
    log: &dyn LogStore,
    network: NetworkId,
) -> Result<(NetworkState, Option<String>), ServeError> {
    let mut state = NetworkState::new(network);
    let mut unreadable = None;
    loop {
        let entries = log.read(state.position().length, LOG_ENTRIES_MAX)?;
        if entries.is_empty() {
            return Ok((state, unreadable));
        }
        for entry in entries {
            let applied = state.apply(&entry)?;
            if entry.index == LogIndex(0) && matches!(applied, Applied::Refused(_)) {
                return Err(ServeError::OtherNetwork { network });
            }
            if let Applied::Refused(refusal @ Refusal::Malformed(_)) = applied {
                unreadable.get_or_insert_with(|| {
                    let (index, reason) = (entry.index, with_causes(&refusal));
                    format!(
                        "entry {index} counts for nobody; did another release write it? {reason}"
                    )
                });
            }
        }
    }
}

/// Follows what other servers append, until this one stops.
fn follow_others(service: &Service) {
    // Nobody can ask any more once the server is gone, which is asking.
    let stopping = || *service.stopping.borrow() || service.stopping.has_changed().is_err();
    while !stopping() {
        let from = service.followed.borrow().position.length;
        let seen = service.log.watch(from, FOLLOW_SLICE).and_then(|head| {
            if head.length <= from {
                return Ok(());
            }
            service.catch_up(&mut service.state.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let lost = seen.err();
        if let Some(error) = &lost {
            tracing::warn!("{error}");
            thread::sleep(FOLLOW_PAUSE);
        }
        service.followed.send_if_modified(|followed| {
            let changed = followed.lost != lost;
            followed.lost = lost;
            changed
        });
    }
}

fn bind_error(address: SocketAddr, error: io::Error) -> ServeError {
    match error.kind() {
        io::ErrorKind::AddrInUse => ServeError::AddressInUse { address },
        io::ErrorKind::PermissionDenied => ServeError::Refused { address },
        io::ErrorKind::AddrNotAvailable => ServeError::AddressNotHere { address },
        _ => ServeError::Failed(error),
    }
}

#[cfg(test)]
mod tests {
    use heirloom_model::counter::Serial;
    use heirloom_model::wire;
    use heirloom_store::log_file::LogFile;
    use heirloom_testkit::ceremony::{Ceremony, Code};

    use super::*;

    #[test]
    fn a_log_that_another_release_wrote_is_told_apart_from_one_with_refused_statements() {
        let directory = tempfile::tempdir().unwrap();
        let log = LogFile::create(&directory.path().join("log")).unwrap();
        let ceremony = Ceremony::new(&[1; 32]);
        let append = |index, bytes: &[u8]| log.append(LogIndex(index), bytes).map(drop).unwrap();
        append(0, &wire::encode(&ceremony.root()));
        // A statement that this release reads, and refuses: the network has no nodes yet.
        let policy = ceremony.policy_of(Serial(9), &[Code::named("keeper", 1)], &[]);
        append(1, &wire::encode(&ceremony.policy(&policy)));
        let (state, unreadable) = follow(&log, ceremony.network).unwrap();
        assert_eq!((state.position().length, unreadable), (LogIndex(2), None));
        // The same policy without its last field, as a release before would have written it.
        let mut older = ceremony.policy(&policy);
        *older.payload.first_mut().unwrap() -= 1;
        older.payload.pop();
        older.signatures.clear();
        ceremony.policy_keys.iter().take(2).for_each(|key| older.sign(key));
        append(2, &wire::encode(&older));
        append(3, b"nothing at all");
        let (state, unreadable) = follow(&log, ceremony.network).unwrap();
        let unreadable = unreadable.unwrap();
        assert_eq!(state.position().length, LogIndex(4));
        assert!(unreadable.starts_with("entry 2 counts for nobody"), "{unreadable}");
        assert!(unreadable.contains("did another release write it?"), "{unreadable}");
        assert!(unreadable.contains("policy cannot be decoded"), "{unreadable}");
    }
}
