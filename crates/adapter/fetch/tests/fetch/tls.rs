//! Mirrors over https, with certificate authorities made here.

use std::path::PathBuf;
use std::sync::Arc;

use heirloom_fetch::error::{FetchError, MirrorError};
use heirloom_fetch::fetch::{Fetched, fetch_within};
use heirloom_fetch::mirror::{Authorities, Mirror};
use heirloom_fetch::progress::Unwatched;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::server::{Server, answer, serve};
use crate::world::{PATIENCE, World, content, only, release};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A server for this host name or address.
    fn server(&self, name: &str) -> Server {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);
        Server::accepting(
            Box::new(move |stream| {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                Ok(Box::new(StreamOwned::new(connection, stream)))
            }),
            Box::new(|asked, stream| serve(&content(), asked, stream)),
        )
    }

    fn file(&self, world: &World) -> PathBuf {
        let path = world.path("authorities.pem");
        std::fs::write(&path, &self.pem).unwrap();
        path
    }
}

fn fetch(world: &World, base: &str, authorities: &Authorities) -> Result<Fetched, FetchError> {
    let mirrors = [Mirror::parse(base, authorities).unwrap()];
    let release = release(&[("binary", &content())]);
    fetch_within(&PATIENCE, &release, &mirrors, &world.staging(), &mut Unwatched)
}

#[test]
fn a_mirror_over_https_is_believed_if_the_configured_authority_vouches_for_it() {
    let world = World::new();
    let own = Authority::new();
    let server = own.server("127.0.0.1");
    fetch(&world, &server.secure_base(), &Authorities::File(own.file(&world))).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
}

#[test]
fn a_mirror_that_nobody_known_vouches_for_is_not_even_asked() {
    let world = World::new();
    let (own, other) = (Authority::new(), Authority::new());
    let authorities = Authorities::File(own.file(&world));
    for server in [other.server("127.0.0.1"), own.server("releases.example")] {
        let error = only(fetch(&world, &server.secure_base(), &authorities).unwrap_err());
        assert!(matches!(error, MirrorError::Untrusted { .. }), "{error}");
        assert_eq!(server.asked(), []);
    }
}

#[test]
fn a_mirror_over_https_never_becomes_one_over_http() {
    let world = World::new();
    let own = Authority::new();
    let plain = Server::start(|_, stream| answer(stream, "200 OK", &[], &content()));
    let authorities = Authorities::File(own.file(&world));
    let error = only(fetch(&world, &plain.secure_base(), &authorities).unwrap_err());
    let refused = matches!(error, MirrorError::Untrusted { .. } | MirrorError::Unreachable { .. });
    assert!(refused, "{error}");
    assert_eq!(world.staged("binary"), None);
}

#[test]
fn a_file_of_authorities_must_have_one_and_nothing_that_nobody_understands() {
    let world = World::new();
    let path = world.path("authorities.pem");
    let own = Authority::new();
    let cut = own.pem.lines().take(4).collect::<Vec<_>>().join("\n");
    for content in [None, Some(""), Some("no certificate"), Some(cut.as_str())] {
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let authorities = Authorities::File(path.clone());
        let error = only(fetch(&world, "https://127.0.0.1:9", &authorities).unwrap_err());
        assert!(matches!(error, MirrorError::Authorities { .. }), "{content:?}: {error}");
    }
}
