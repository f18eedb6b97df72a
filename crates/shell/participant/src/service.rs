//! The services of a participant: what comes in is read, what the node says goes out.

pub mod administration;
pub mod connectivity;
pub mod ledger;
pub mod older;
pub mod operator;
pub mod repair;
pub mod status;
pub mod topology;
pub mod vault;

use std::sync::Arc;

use heirloom_model::causes::with_causes;
use heirloom_participant::custodian::FailureKind;
use tonic::{Response, Status};

use crate::node::Node;
use crate::node::error::NodeError;

/// All services of one node.
#[derive(Clone)]
pub struct Services {
    node: Arc<Node>,
}

impl Services {
    /// Of this node.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node }
    }

    fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Does something that waits for files or keys.
    async fn on<T: Send + 'static>(
        &self,
        call: &'static str,
        act: impl FnOnce(&Arc<Node>) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        self.may_begin(call)?;
        let node = Arc::clone(&self.node);
        let acted = tokio::task::spawn_blocking(move || act(&node)).await;
        let acted = acted.map_err(|error| Status::internal(error.to_string()))?;
        self.answered(call, acted)
    }

    /// Does something that waits for others. It is carried out also if the caller goes away.
    async fn with<T, F>(
        &self,
        call: &'static str,
        act: impl FnOnce(Arc<Node>) -> F,
    ) -> Result<Response<T>, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, NodeError>> + Send + 'static,
    {
        self.may_begin(call)?;
        let acted = tokio::spawn(act(Arc::clone(&self.node))).await;
        let acted = acted.map_err(|error| Status::internal(error.to_string()))?;
        self.answered(call, acted)
    }

    /// An error only if the configuration asks for one.
    fn may_begin(&self, call: &'static str) -> Result<(), Status> {
        if self.node.faults().is_unavailable(call) {
            return Err(Status::unavailable("the configuration asks for this failure"));
        }
        Ok(())
    }

    fn answered<T>(
        &self,
        call: &'static str,
        acted: Result<T, NodeError>,
    ) -> Result<Response<T>, Status> {
        let done = acted.map_err(|error| status_of(&error))?;
        if self.node.faults().is_answer_lost(call) {
            return Err(Status::unavailable("the configuration asks for this lost answer"));
        }
        Ok(Response::new(done))
    }
}

/// What a caller is told.
pub fn status_of(error: &NodeError) -> Status {
    let message = with_causes(error);
    match error {
        NodeError::Store(_) | NodeError::Config(_) | NodeError::OtherKey { .. } => {
            Status::internal(message)
        }
        NodeError::Custodian(error) => match error.kind() {
            FailureKind::Missing => Status::not_found(message),
            FailureKind::Corrupt => Status::data_loss(message),
            FailureKind::Refused => Status::failed_precondition(message),
            FailureKind::Unreachable => Status::unavailable(message),
            FailureKind::Unknown => Status::unknown(message),
            FailureKind::Unsupported => Status::unimplemented(message),
        },
        NodeError::Key(_)
        | NodeError::Crypto(_)
        | NodeError::Name(_)
        | NodeError::Value(_)
        | NodeError::Invalid(_) => Status::invalid_argument(message),
        NodeError::Topology(_)
        | NodeError::Repair(_)
        | NodeError::Contract(_)
        | NodeError::NotInitialized
        | NodeError::KeysWithoutStore { .. }
        | NodeError::Refused(_)
        | NodeError::Rejected(_) => Status::failed_precondition(message),
        NodeError::Missing(_) => Status::not_found(message),
        NodeError::Exists(_) => Status::already_exists(message),
        NodeError::Unreachable(_) => Status::unavailable(message),
        NodeError::Unknown(_) => Status::unknown(message),
        NodeError::Unsupported(_) => Status::unimplemented(message),
    }
}

/// One page of a list, and where the next one begins: behind the last name of this one.
fn page<T>(all: Vec<T>, token: &str, size: i32, name: impl Fn(&T) -> &str) -> (Vec<T>, String) {
    let size = usize::try_from(size).ok().filter(|size| *size > 0);
    let size = size.unwrap_or(crate::limit::PAGE_MAX).min(crate::limit::PAGE_MAX);
    let mut rest: Vec<T> = all.into_iter().filter(|one| name(one) > token).collect();
    if rest.len() <= size {
        return (rest, String::new());
    }
    rest.truncate(size);
    let next = rest.last().map(|last| name(last).to_owned()).unwrap_or_default();
    (rest, next)
}
