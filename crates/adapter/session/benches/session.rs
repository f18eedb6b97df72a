//! How many sessions a core opens, and how many requests a kept session answers.
//!
//! Both ends run on the machine that measures: the numbers of one end are better.

#[path = "../src/session/tests/world.rs"]
mod world;

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use heirloom_emulated::host::EmulatedEnclave;
use heirloom_model::protocol::{KeyKind, KeyPart, KeyPeriod, KeyRequest, PeerRequest};
use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use heirloom_session::channel::Channel;
use heirloom_session::context::SessionContext;
use heirloom_session::limit::{HANDSHAKE_TIME_MAX, PIPELINE_MAX};
use heirloom_session::session::{Session, accept, connect};
use heirloom_session::tls::Identity;

use world::{APPLICATION, KEEPER, World};

fn identity(seed: u8) -> Identity {
    Identity::new(Arc::new(SigningKey::from_seed(Secret::new([seed; 32]))))
}

fn context<'a>(world: &'a World, platform: &'a EmulatedEnclave) -> SessionContext<'a> {
    SessionContext { network: world.network, domain: world.domain, platform, trust: &world.state }
}

fn request() -> PeerRequest {
    PeerRequest::Key(KeyRequest {
        application: "wallet".parse().expect("this is a name"),
        key: "signing".parse().expect("this is a name"),
        kind: KeyKind::Ed25519,
        period: KeyPeriod::Newest,
        part: KeyPart::Private,
    })
}

/// Answers every request with itself until the other side closes.
fn echo(mut session: Session<UnixStream>) {
    while let Ok(request) = session.receive::<PeerRequest>() {
        session.queue(&request).expect("the other side reads");
        while let Some(request) = session.receive_ready::<PeerRequest>().expect("it is a request") {
            session.queue(&request).expect("the other side reads");
        }
        session.flush().expect("the other side reads");
    }
}

fn handshakes(criterion: &mut Criterion) {
    let world = World::new();
    let (app, keeper) = (world.launch(2, APPLICATION), world.launch(1, KEEPER));
    let (app_key, keeper_key) = (identity(2), identity(1));
    let mut group = criterion.benchmark_group("handshake");
    group.bench_function("TLS only", |bencher| {
        bencher.iter(|| {
            let (initiator, responder) = UnixStream::pair().expect("sockets are not used up");
            let deadline = Instant::now() + HANDSHAKE_TIME_MAX;
            thread::scope(|scope| {
                scope.spawn(|| Channel::respond(responder, &keeper_key, deadline).map(drop));
                Channel::initiate(initiator, &app_key, deadline).map(drop).expect("it is accepted");
            });
        });
    });
    group.bench_function("attested", |bencher| {
        bencher.iter(|| {
            let (initiator, responder) = UnixStream::pair().expect("sockets are not used up");
            thread::scope(|scope| {
                scope.spawn(|| accept(responder, &keeper_key, &context(&world, &keeper)).map(drop));
                connect(initiator, &app_key, &context(&world, &app))
                    .map(drop)
                    .expect("it is accepted");
            });
        });
    });
    group.finish();
}

fn requests(criterion: &mut Criterion) {
    let world = World::new();
    let (app, keeper) = (world.launch(2, APPLICATION), world.launch(1, KEEPER));
    let (initiator, responder) = UnixStream::pair().expect("sockets are not used up");
    let mut group = criterion.benchmark_group("requests");
    thread::scope(|scope| {
        scope.spawn(|| {
            let accepted = accept(responder, &identity(1), &context(&world, &keeper));
            echo(accepted.expect("the application is accepted"));
        });
        let connected = connect(initiator, &identity(2), &context(&world, &app));
        let mut session = connected.expect("the keeper is accepted");
        for depth in [1, PIPELINE_MAX] {
            group.throughput(Throughput::Elements(u64::try_from(depth).expect("it is small")));
            group.bench_function(format!("{depth} at once"), |bencher| {
                bencher.iter(|| {
                    for _ in 0..depth {
                        session.queue(&request()).expect("the keeper reads");
                    }
                    for _ in 0..depth {
                        session.receive::<PeerRequest>().expect("the keeper answers");
                    }
                });
            });
        }
        session.close();
    });
    group.finish();
}

criterion_group!(benches, handshakes, requests);
criterion_main!(benches);
