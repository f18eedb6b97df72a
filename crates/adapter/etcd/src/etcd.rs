//! A cluster, its endpoints and how one call finds a member that answers.

/// An etcd cluster. Clones share connections.
#[derive(Clone, Debug)]
pub struct Etcd {
    endpoints: Vec<String>,
}

/// Why there is no cluster to call.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EtcdError {
    /// No endpoint is given.
    #[error("an etcd cluster has at least one endpoint")]
    NoEndpoint,
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

impl Etcd {
    /// A cluster with these client endpoints: `http://host:port`. Nothing is called yet.
    pub fn new(endpoints: &[String]) -> Result<Self, EtcdError> {
        if endpoints.is_empty() {
            return Err(EtcdError::NoEndpoint);
        }
        Ok(Self { endpoints: endpoints.to_vec() })
    }

    /// Where its members are.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }
}
