//! What TLS refuses before anybody speaks. Each attack changes exactly one thing.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use heirloom_model::secret::Secret;
use heirloom_model::signature::SigningKey;
use rustls::client::ClientConfig;
use rustls::crypto::aws_lc_rs::kx_group;
use rustls::server::ServerConfig;
use rustls::{CertificateError, Error, PeerIncompatible};

use super::*;
use crate::tls::tests::{Attack, acceptor, connector};

fn identity(seed: u8) -> Identity {
    Identity::new(Arc::new(SigningKey::from_seed(Secret::new([seed; 32]))))
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

/// What the honest acceptor says to a client with another configuration.
fn acceptor_against(config: ClientConfig) -> Option<Error> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let tls = ClientConnection::new(Arc::new(config), no_name()).unwrap();
            let opened = Channel::open(tls.into(), theirs, SessionRole::Initiator, deadline());
            opened.and_then(|mut channel| channel.read_records()).ok();
        });
        tls_error(Channel::respond(ours, &identity(1), deadline()))
    })
}

/// What the honest connector says to a server with another configuration.
fn connector_against(config: ServerConfig) -> Option<Error> {
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let tls = ServerConnection::new(Arc::new(config)).unwrap();
            Channel::open(tls.into(), theirs, SessionRole::Responder, deadline()).ok();
        });
        tls_error(Channel::initiate(ours, &identity(1), deadline()))
    })
}

fn tls_error(opened: Result<Channel<UnixStream>, SessionError>) -> Option<Error> {
    match opened {
        Ok(_) => None,
        Err(SessionError::Tls(error)) => Some(error),
        Err(error) => panic!("not refused by TLS: {error:?}"),
    }
}

#[test]
fn a_peer_that_changes_nothing_is_accepted() {
    assert_eq!(acceptor_against(connector(Attack::None)), None);
    assert_eq!(connector_against(acceptor(Attack::None)), None);
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let refused = acceptor_against(connector(Attack::NoCertificate));
    assert_eq!(refused, Some(Error::NoCertificatesPresented));
}

#[test]
fn a_certificate_of_any_other_form_is_refused() {
    let refused = Some(Error::InvalidCertificate(CertificateError::BadEncoding));
    assert_eq!(acceptor_against(connector(Attack::OtherForm)), refused);
    assert_eq!(connector_against(acceptor(Attack::OtherForm)), refused);
}

#[test]
fn a_chain_of_certificates_is_refused() {
    let refused = Some(Error::InvalidCertificate(CertificateError::BadEncoding));
    assert_eq!(acceptor_against(connector(Attack::Chain)), refused);
    assert_eq!(connector_against(acceptor(Attack::Chain)), refused);
}

#[test]
fn a_certificate_whose_key_the_peer_does_not_have_is_refused() {
    let refused = Some(Error::InvalidCertificate(CertificateError::BadSignature));
    assert_eq!(acceptor_against(connector(Attack::CertificateOfAnother)), refused);
    assert_eq!(connector_against(acceptor(Attack::CertificateOfAnother)), refused);
}

#[test]
fn a_key_exchange_without_a_post_quantum_part_is_refused() {
    let attack = || Attack::KeyExchange(kx_group::X25519);
    let refused = Some(Error::PeerIncompatible(PeerIncompatible::NoKxGroupsInCommon));
    assert_eq!(acceptor_against(connector(attack())), refused);
    assert!(connector_against(acceptor(attack())).is_some());
}

/// A client hello of TLS 1.2 (RFC 5246 §7.4.1.2) that offers ECDHE, AES-GCM and Ed25519: all that
/// is wrong with it is its version.
const CLIENT_HELLO_TLS12: &[u8] = b"\x16\x03\x01\x00\x43\x01\x00\x00\x3f\x03\x03\
    \x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\
    \x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x20\
    \x00\x00\x02\xc0\x2c\x01\x00\x00\x14\
    \x00\x0a\x00\x04\x00\x02\x11\xec\
    \x00\x0d\x00\x08\x00\x06\x08\x07\x04\x03\x08\x04";

#[test]
fn a_client_of_tls_1_2_is_refused() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(CLIENT_HELLO_TLS12).unwrap();
    let error = tls_error(Channel::respond(ours, &identity(1), deadline()));
    let version = PeerIncompatible::SupportedVersionsExtensionRequired;
    assert_eq!(error, Some(Error::PeerIncompatible(version)));
    let mut alert = [0; 7];
    theirs.read_exact(&mut alert).unwrap();
    assert_eq!(alert, [21, 3, 3, 0, 2, 2, 70], "a fatal alert: protocol version");
}

/// A server hello that chooses TLS 1.2 (RFC 5246 §7.4.1.3).
const SERVER_HELLO_TLS12: &[u8] = b"\x16\x03\x03\x00\x2c\x02\x00\x00\x28\x03\x03\
    \x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10\
    \x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x20\
    \x00\xc0\x2c\x00\x00\x00";

#[test]
fn a_server_of_tls_1_2_is_refused() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.write_all(SERVER_HELLO_TLS12).unwrap();
    let error = tls_error(Channel::initiate(ours, &identity(1), deadline()));
    assert!(matches!(error, Some(Error::PeerIncompatible(_))), "{error:?}");
}

#[test]
fn both_ends_of_a_channel_and_nobody_else_know_its_exporter() {
    let exporters = || {
        let (ours, theirs) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let responder = scope
                .spawn(|| *Channel::respond(theirs, &identity(2), deadline()).unwrap().exporter());
            let initiator = Channel::initiate(ours, &identity(1), deadline()).unwrap();
            (*initiator.exporter(), responder.join().unwrap())
        })
    };
    let (first, second) = (exporters(), exporters());
    assert_eq!(first.0, first.1);
    assert_ne!(first.0, second.0);
}
