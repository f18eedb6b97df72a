//! What a node answers clients and operators, over HTTP/1.1.
//!
//! * [`clients`]: transactions, receipts, accounts, blocks, and what only the client may read.
//! * [`message`]: what is in requests and answers.
//! * [`operators`]: health, metrics, and everything that the node knows about itself; only at the
//!   side door.

pub mod clients;
mod connection;
pub mod message;
pub mod operators;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;

use crate::http::connection::Counted;
use crate::http::message::Failure;
use crate::limit::{CLIENT_CONNECTIONS_MAX, CLIENT_IDLE_MAX, REQUEST_BYTES_MAX, REQUESTS_MAX};
use crate::log::event;
use crate::service::{Entrance, Service};

/// What every request works on.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) service: Arc<Service>,
    pub(crate) entrance: Entrance,
    room: Arc<Semaphore>,
}

/// Serves requests that come in through one listener, until the runtime ends.
pub fn serve(
    service: &Arc<Service>,
    listener: TcpListener,
    entrance: Entrance,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    let router = router(Shared { service: Arc::clone(service), entrance, room });
    let runtime = service.runtime();
    let listener = {
        let _entered = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        Counted::new(listener, CLIENT_CONNECTIONS_MAX, CLIENT_IDLE_MAX)
    };
    runtime.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            event("not-serving", error);
        }
    });
    Ok(())
}

fn router(shared: Shared) -> Router {
    let clients = Router::new()
        .route("/v1/transactions", post(clients::submit))
        .route("/v1/transactions/{id}", get(clients::receipt))
        .route("/v1/tip", get(clients::tip))
        .route("/v1/info", get(clients::info))
        .route("/v1/accounts/{owner}/outputs", get(clients::account))
        .route("/v1/blocks/{height}", get(clients::block))
        .route("/v1/view", post(clients::view))
        .layer(from_fn_with_state(shared.clone(), admitted));
    let operators = match shared.entrance {
        Entrance::Front => Router::new(),
        Entrance::Side => Router::new()
            .route("/metrics", get(operators::metrics))
            .route("/admin", get(operators::admin)),
    };
    clients
        .merge(operators)
        .route("/healthz", get(operators::health))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .with_state(shared)
}

/// Turns away what is not admitted, and counts what clients see of this node's own errors.
async fn admitted(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let service = &shared.service;
    if !service.admits(shared.entrance) {
        service.closed.fetch_add(1, Ordering::Relaxed);
        return Failure::Closed.into_response();
    }
    let response = match shared.room.try_acquire() {
        Ok(_room) => next.run(request).await,
        Err(_) => Failure::Busy.into_response(),
    };
    let is_closed = response.headers().contains_key(message::CLOSED_HEADER);
    if response.status() >= StatusCode::INTERNAL_SERVER_ERROR && !is_closed {
        service.errors.fetch_add(1, Ordering::Relaxed);
    }
    response
}
