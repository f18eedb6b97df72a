//! One participant, and how it is called.
//!
//! A call that changes something is made once; reading is tried some times. Every call has a
//! deadline, every answer a size.

mod call;
mod contracts;
mod keys;
mod packages;
mod parties;
mod sequencers;
mod status;
mod synchronizers;
mod topology;
mod users;

pub mod config;

pub use call::Port;
pub use contracts::{ActiveContract, ContractsError, ExportRequest, ImportRequest, Visit};
pub use keys::{KeyEntry, KeyMaterial};
pub use packages::DarEntry;
pub use parties::PartyEntry;
pub use status::{Shape, Standing, SynchronizerState, Waiting};
pub use synchronizers::{Connection, Registration};
pub use topology::{Hosting, Place};
pub use users::{UserEntry, UserRight};

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::runtime::Runtime;
use tonic::transport::Channel;

use crate::node::config::{Deadlines, NodeConfig, OpenError};

/// Calls run on the caller's thread; these threads move bytes.
const THREADS: usize = 1;

/// A participant. Clones share connections.
///
/// It has a runtime of its own, so it is called from threads that may wait, and from no
/// asynchronous code.
#[derive(Clone)]
pub struct Node {
    shared: Arc<Shared>,
}

struct Shared {
    /// There until this is dropped.
    runtime: Option<Runtime>,
    name: String,
    admin: Side,
    ledger: Side,
    deadlines: Deadlines,
}

/// One of its two interfaces.
struct Side {
    channel: Channel,
    /// The file of its bearer token, read for every call: tokens are short-lived.
    token: Option<PathBuf>,
}

impl Node {
    /// Prepares calls; none is made yet.
    pub fn open(config: &NodeConfig) -> Result<Self, OpenError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .enable_all()
            .thread_name("participant")
            .build()
            .map_err(|error| OpenError::Runtime { reason: error.to_string() })?;
        let deadlines = config.deadlines;
        let (admin, ledger) = {
            // A channel needs a runtime around it when it is made.
            let _inside = runtime.enter();
            let side = |endpoint: &config::Endpoint| -> Result<Side, OpenError> {
                let channel = endpoint.channel(&deadlines)?;
                Ok(Side { channel, token: endpoint.token.clone() })
            };
            (side(&config.admin)?, side(&config.ledger)?)
        };
        let (runtime, name) = (Some(runtime), config.name.clone());
        Ok(Self { shared: Arc::new(Shared { runtime, name, admin, ledger, deadlines }) })
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        &self.shared.name
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({})", self.shared.name)
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
