//! One thread with a runtime of its own, so that callers need none and may have one.

use std::pin::Pin;
use std::sync::mpsc;
use std::thread;

use heirloom_participant::custodian::CustodianError;
use tokio::runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The way to that thread. The thread ends when this is dropped.
pub(super) struct Bridge {
    // Callers wait for the answer, so no more requests wait here than there are callers.
    requests: UnboundedSender<Request>,
    place: String,
}

impl Bridge {
    pub(super) fn new(place: &str) -> Result<Self, CustodianError> {
        let place = place.to_owned();
        let failed = |error: std::io::Error| CustodianError::Unreachable {
            place: place.clone(),
            why: format!("no thread for its requests: {error}"),
        };
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (requests, mut received) = unbounded_channel::<Request>();
        let serve = async move {
            while let Some(request) = received.recv().await {
                request.await;
            }
        };
        let thread = thread::Builder::new().name("custodian".to_owned());
        // Not joined: a request that hangs must not keep the process from ending.
        drop(thread.spawn(move || runtime.block_on(serve)).map_err(failed)?);
        Ok(Self { requests, place })
    }

    /// Waits for an answer.
    pub(super) fn run<R: Send + 'static>(
        &self,
        request: impl Future<Output = R> + Send + 'static,
    ) -> Result<R, CustodianError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let request = Box::pin(async move {
            // Nobody waits any more only if the caller's thread is gone.
            drop(answer.send(request.await));
        });
        let sent = self.requests.send(request).is_ok();
        let answer = if sent { answered.recv().ok() } else { None };
        answer.ok_or_else(|| CustodianError::Unknown {
            place: self.place.clone(),
            what: "what was asked".to_owned(),
            why: "the thread of its requests ended".to_owned(),
        })
    }
}
