//! A cluster, its endpoints and how one call finds a member that answers.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use etcd_client::{
    AlarmAction, AlarmType, Client, ConnectOptions, Error, GetOptions, GetResponse, ResponseHeader,
    Txn, TxnResponse,
};
use heirloom_registry::port::{AppendError, ReadError};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, timeout};

/// All attempts of one call together. Twice the time in which a cluster elects a leader.
pub const CALL_TIME_MAX: Duration = Duration::from_secs(8);
/// One attempt at one member. A member that was paused does not answer at all; one that waits
/// for a leader has none to ask.
const ATTEMPT_TIME_MAX: Duration = Duration::from_secs(2);
/// The transaction that appends, which is tried once. etcd itself gives up after 5 to 7 seconds.
pub(crate) const COMMIT_TIME_MAX: Duration = Duration::from_secs(7);
/// Between two rounds through all members, so that a cluster without a leader is not flooded.
const ROUND_PAUSE: Duration = Duration::from_millis(50);
/// Questions whether a cluster is full, until it is believed that it was only busy: one second.
const ALARM_QUESTIONS_MAX: usize = 20;
/// Members of the largest cluster that anybody should run are 7; addresses can be more.
pub const ENDPOINTS_MAX: usize = 16;
/// A connection on which nothing comes back for so long is given up.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(3));
/// A member in the same data centre accepts at once, or is gone.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);
/// Calls run on the caller's thread; these threads move bytes.
const THREADS: usize = 1;

/// An etcd cluster. Clones share connections.
///
/// It has a runtime of its own, so it is called from threads that may wait, and from no
/// asynchronous code.
#[derive(Clone)]
pub struct Etcd {
    shared: Arc<Shared>,
}

struct Shared {
    /// There until this is dropped.
    runtime: Option<Runtime>,
    members: Vec<Member>,
    /// The member that answered last.
    preferred: AtomicUsize,
    /// The cluster that answered first. Two clusters would be two logs.
    cluster: OnceLock<u64>,
}

struct Member {
    endpoint: String,
    client: Client,
}

/// Why there is no cluster to call.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EtcdError {
    /// No endpoint is given.
    #[error("an etcd cluster has at least one endpoint")]
    NoEndpoint,
    /// More endpoints than a cluster has.
    #[error("{found} endpoints are more than the {limit} allowed")]
    TooMany {
        /// Endpoints given.
        found: usize,
        /// Endpoints allowed.
        limit: usize,
    },
    /// The text names no member.
    #[error("{endpoint:?} is not the address of an etcd member: {reason}")]
    Endpoint {
        /// The text.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gives this process no threads.
    #[error("cannot start a runtime: {reason}")]
    Runtime {
        /// What the system said.
        reason: String,
    },
}

/// Why a member did not do what it was asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// What is stored, or the answer, contradicts itself.
    Corrupt(String),
    /// No space, or too many requests. It may have been done all the same.
    Exhausted(String),
    /// The member will not do it.
    Refused(String),
    /// No answer, or none that says whether it was done.
    Unanswered(String),
}

impl Etcd {
    /// A cluster with these client endpoints: `http://host:port`. Nothing is called yet.
    pub fn new(endpoints: &[String]) -> Result<Self, EtcdError> {
        let (found, limit) = (endpoints.len(), ENDPOINTS_MAX);
        if endpoints.is_empty() {
            return Err(EtcdError::NoEndpoint);
        }
        if found > limit {
            return Err(EtcdError::TooMany { found, limit });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .thread_name("etcd")
            .build()
            .map_err(|error| EtcdError::Runtime { reason: error.to_string() })?;
        let connect = |endpoint: &String| {
            let wrong = |reason| EtcdError::Endpoint { endpoint: endpoint.to_owned(), reason };
            // The log is public and signed. Whoever must not reach the cluster is kept off by the
            // network that it is in.
            let host = endpoint
                .strip_prefix("http://")
                .ok_or_else(|| wrong("it does not begin with http://".to_owned()))?;
            if host
                .trim_end_matches('/')
                .rsplit_once(':')
                .is_none_or(|(_, port)| port.parse::<u16>().is_err())
            {
                return Err(wrong("it does not end with a port".to_owned()));
            }
            let options = ConnectOptions::new()
                .with_connect_timeout(CONNECT_TIME_MAX)
                .with_keep_alive(KEEP_ALIVE.0, KEEP_ALIVE.1)
                .with_keep_alive_while_idle(false)
                .with_require_leader(true);
            let client = runtime.block_on(Client::connect([endpoint], Some(options)));
            let client = client.map_err(|error| wrong(error.to_string()))?;
            Ok(Member { endpoint: endpoint.to_owned(), client })
        };
        let members = endpoints.iter().map(connect).collect::<Result<_, _>>()?;
        let (preferred, cluster) = (AtomicUsize::new(0), OnceLock::new());
        let shared = Shared { runtime: Some(runtime), members, preferred, cluster };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where its members are.
    pub fn endpoints(&self) -> impl Iterator<Item = &str> {
        self.shared.members.iter().map(|member| &*member.endpoint)
    }

    /// Carries out a call on the caller's thread.
    pub(crate) fn wait<T>(&self, call: impl Future<Output = T>) -> T {
        let runtime = self.shared.runtime.as_ref().expect("the runtime ends with the last clone");
        runtime.block_on(call)
    }

    /// Asks one member after the other until one answers, and says which. Only for what may
    /// happen twice.
    pub(crate) async fn ask<T: Answer, F>(
        &self,
        call: impl Fn(Client) -> F,
    ) -> Result<(usize, T), Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + CALL_TIME_MAX;
        let count = self.shared.members.len();
        let mut first = self.shared.preferred.load(Ordering::Relaxed);
        loop {
            let mut last = None;
            for member in (first..first + count).map(|number| number % count) {
                let left = deadline.saturating_duration_since(Instant::now());
                match self.once(member, left.min(ATTEMPT_TIME_MAX), &call).await {
                    Ok(answer) => {
                        self.shared.preferred.store(member, Ordering::Relaxed);
                        return Ok((member, answer));
                    }
                    Err(fault) => last = Some(fault),
                }
                if Instant::now() >= deadline {
                    break;
                }
            }
            let fault = last.expect("a cluster has a member");
            let over = Instant::now() + ROUND_PAUSE >= deadline;
            if over || !matches!(fault, Fault::Unanswered(_)) {
                return Err(fault);
            }
            sleep(ROUND_PAUSE).await;
            first = self.shared.preferred.load(Ordering::Relaxed);
        }
    }

    /// Asks one member once.
    pub(crate) async fn once<T: Answer, F>(
        &self,
        member: usize,
        time: Duration,
        call: &impl Fn(Client) -> F,
    ) -> Result<T, Fault>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let Member { endpoint, client } = &self.shared.members[member];
        let answered = timeout(time, call(client.clone())).await;
        let silent = |_| Fault::Unanswered(format!("{endpoint} did not answer within {time:?}"));
        let answer = answered.map_err(silent)?.map_err(|error| Fault::of(endpoint, &error))?;
        // Answers about alarms do not say from which cluster they come.
        let cluster = answer.head().map(ResponseHeader::cluster_id).filter(|id| *id != 0);
        if let Some(cluster) = cluster {
            let known = *self.shared.cluster.get_or_init(|| cluster);
            if known != cluster {
                let reason = format!("{endpoint} belongs to cluster {cluster:x}, not to {known:x}");
                return Err(Fault::Corrupt(reason));
            }
        }
        Ok(answer)
    }

    /// Reads keys, at least as new as anything that was written before.
    pub(crate) async fn get(
        &self,
        key: &str,
        options: &GetOptions,
    ) -> Result<(usize, GetResponse), Fault> {
        self.ask(|mut client| async move { client.get(key, Some(options.clone())).await }).await
    }

    /// Carries out a transaction that may happen twice.
    pub(crate) async fn repeat(&self, txn: &Txn) -> Result<(usize, TxnResponse), Fault> {
        self.ask(|mut client| async move { client.txn(txn.clone()).await }).await
    }

    /// Carries out a transaction that must not happen twice.
    pub(crate) async fn commit(&self, member: usize, txn: &Txn) -> Result<TxnResponse, Fault> {
        let call = |mut client: Client| async move { client.txn(txn.clone()).await };
        self.once(member, COMMIT_TIME_MAX, &call).await
    }

    /// Whether the cluster takes nothing more because its quota is used up. Asked after a request
    /// that was refused for it: the alarm is raised just after the first of them.
    pub(crate) async fn is_full(&self) -> Result<bool, Fault> {
        let alarms = |mut client: Client| async move {
            client.alarm(AlarmAction::Get, AlarmType::Nospace, None).await
        };
        for _ in 0..ALARM_QUESTIONS_MAX {
            let (_, answer) = self.ask(alarms).await?;
            if answer.alarms().iter().any(|alarm| alarm.alarm() == AlarmType::Nospace) {
                return Ok(true);
            }
            sleep(ROUND_PAUSE).await;
        }
        Ok(false)
    }

    /// A client of one member, for streams.
    pub(crate) fn client(&self, member: usize) -> Client {
        self.shared.members[member].client.clone()
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.endpoints()).finish()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // The last clone may be dropped by asynchronous code, which must not wait for threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An answer, which says from which cluster it comes.
pub(crate) trait Answer {
    /// Its header.
    fn head(&self) -> Option<&ResponseHeader>;
}

macro_rules! answers {
    ($($answer:ty),+) => {$(
        impl Answer for $answer {
            fn head(&self) -> Option<&ResponseHeader> {
                self.header()
            }
        }
    )+};
}

answers!(
    GetResponse,
    TxnResponse,
    etcd_client::AlarmResponse,
    etcd_client::LeaseGrantResponse,
    etcd_client::LeaseRevokeResponse
);

/// The status codes of gRPC that mean more than "no answer".
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNIMPLEMENTED: i32 = 12;
    pub(super) const DATA_LOSS: i32 = 15;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

impl Fault {
    fn of(endpoint: &str, error: &Error) -> Self {
        let Error::GRpcStatus(status) = error else {
            return Self::Unanswered(format!("{endpoint}: {error}"));
        };
        let reason = format!("{endpoint}: {}", status.message());
        match i32::from(status.code()) {
            code::RESOURCE_EXHAUSTED => Self::Exhausted(reason),
            // No call here names a revision, so what is out of range is the size of an answer:
            // more than anybody who keeps to the layout has stored.
            code::OUT_OF_RANGE | code::DATA_LOSS => Self::Corrupt(reason),
            code::INVALID_ARGUMENT
            | code::PERMISSION_DENIED
            | code::FAILED_PRECONDITION
            | code::UNIMPLEMENTED
            | code::UNAUTHENTICATED => Self::Refused(reason),
            _ => Self::Unanswered(reason),
        }
    }
}

/// Of a call that changes nothing.
impl From<Fault> for ReadError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Corrupt(reason) => Self::Corrupt { reason },
            Fault::Refused(reason) => Self::Refused { reason },
            Fault::Exhausted(reason) | Fault::Unanswered(reason) => Self::Unreachable { reason },
        }
    }
}

/// Of a call before the one that appends.
impl From<Fault> for AppendError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Corrupt(reason) => Self::Corrupt { reason },
            Fault::Refused(reason) => Self::Refused { code: "store-refused".to_owned(), reason },
            Fault::Exhausted(reason) | Fault::Unanswered(reason) => Self::Unreachable { reason },
        }
    }
}
