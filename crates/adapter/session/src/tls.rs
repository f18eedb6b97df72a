//! How TLS is set up: one version, one key exchange, one cipher suite, one kind of key.
//!
//! Nothing is negotiated. Both ends are ours, so an alternative would only be something that an
//! attacker can choose.

use std::fmt;
use std::sync::Arc;

use heirloom_model::signature::{PublicKey, Signature, SigningKey};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ServerConfig};
use rustls::sign::{CertifiedKey, Signer, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    SignatureAlgorithm, SignatureScheme,
};

use crate::certificate;

/// The identity key of an instance, ready to authenticate sessions.
///
/// Cheap to clone: both configurations are made once and shared.
#[derive(Clone)]
pub struct Identity {
    key: PublicKey,
    connector: Arc<ClientConfig>,
    acceptor: Arc<ServerConfig>,
}

impl Identity {
    /// Takes the key of an instance, which may sign statements too: every signature of TLS begins
    /// with 64 spaces (RFC 8446 §4.4.3), and no statement's does.
    pub fn new(key: Arc<SigningKey>) -> Self {
        let public = key.public_key();
        let certificate = CertificateDer::from(certificate::make(&key));
        let certified = CertifiedKey::new(vec![certificate], Arc::new(TlsKey(key)));
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let provider = Arc::new(provider());
        Self {
            key: public,
            connector: Arc::new(connector(Arc::clone(&provider), Arc::clone(&certified))),
            acceptor: Arc::new(acceptor(provider, certified)),
        }
    }

    /// The public half of the key.
    pub fn public_key(&self) -> PublicKey {
        self.key
    }

    pub(crate) fn connector(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.connector)
    }

    pub(crate) fn acceptor(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.acceptor)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.key).finish()
    }
}

/// TLS asks a connecting side for a name. None is sent, and none is checked.
pub(crate) fn no_name() -> ServerName<'static> {
    ServerName::try_from("heirloom.invalid").expect("this is a DNS name")
}

/// `X25519MLKEM768` only: keyrings live longer than today's elliptic curves may, and who records
/// a session today must not read it then. The hybrid is at least as strong as X25519 alone.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![cipher_suite::TLS13_AES_256_GCM_SHA384],
        kx_groups: vec![kx_group::X25519MLKEM768],
        signature_verification_algorithms: WebPkiSupportedAlgorithms { all: &[], mapping: &[] },
        ..default_provider()
    }
}

fn connector(provider: Arc<CryptoProvider>, certified: Arc<SingleCertAndKey>) -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the one suite and the one group belong to TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(KeyOnly))
        .with_client_cert_resolver(certified);
    config.enable_sni = false;
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    config
}

fn acceptor(provider: Arc<CryptoProvider>, certified: Arc<SingleCertAndKey>) -> ServerConfig {
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the one suite and the one group belong to TLS 1.3")
        .with_client_cert_verifier(Arc::new(KeyOnly))
        .with_cert_resolver(certified);
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_tls13_tickets = 0;
    config.max_early_data_size = 0;
    config
}

/// Checks that the peer has the key that its certificate carries. Who has that key is the subject
/// of the evidence that follows.
#[derive(Debug)]
struct KeyOnly;

impl KeyOnly {
    fn certificate(
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
    ) -> Result<(), Error> {
        if !intermediates.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        certificate::key(certificate).map(|_| ()).ok_or(CertificateError::BadEncoding.into())
    }

    fn signature(
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = certificate::key(certificate).ok_or(CertificateError::BadEncoding)?;
        let signature = <[u8; Signature::BYTES]>::try_from(signed.signature())
            .map_err(|_| CertificateError::BadSignature)?;
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(CertificateError::BadSignature.into());
        }
        key.verify_bytes(message, &Signature::new(signature))
            .map_err(|_| CertificateError::BadSignature)?;
        Ok(HandshakeSignatureValid::assertion())
    }
}

impl ServerCertVerifier for KeyOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Self::certificate(end_entity, intermediates)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for KeyOnly {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Self::certificate(end_entity, intermediates)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::SupportedVersionsExtensionRequired.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Self::signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// An instance's key, as TLS sees it. It does not leave the [`SigningKey`].
struct TlsKey(Arc<SigningKey>);

impl fmt::Debug for TlsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TlsKey").field(&self.0.public_key()).finish()
    }
}

impl rustls::sign::SigningKey for TlsKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ED25519)
            .then(|| Box::new(Self(Arc::clone(&self.0))) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ED25519
    }
}

impl Signer for TlsKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.0.sign(message).signature.as_bytes().to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ED25519
    }
}

#[cfg(test)]
pub(crate) mod tests {
    //! Configurations that differ from ours in one thing.

    use heirloom_model::secret::Secret;
    use rustls::crypto::SupportedKxGroup;

    use super::*;

    /// What is different.
    #[derive(Clone, Copy)]
    pub(crate) enum Attack {
        None,
        NoCertificate,
        OtherForm,
        Chain,
        CertificateOfAnother,
        KeyExchange(&'static dyn SupportedKxGroup),
    }

    fn key(seed: u8) -> Arc<SigningKey> {
        Arc::new(SigningKey::from_seed(Secret::new([seed; 32])))
    }

    impl Attack {
        fn provider(self) -> Arc<CryptoProvider> {
            let mut provider = provider();
            if let Self::KeyExchange(group) = self {
                provider.kx_groups = vec![group];
            }
            Arc::new(provider)
        }

        fn certified(self) -> Arc<SingleCertAndKey> {
            let own = certificate::make(&key(2));
            let chain = match self {
                Self::OtherForm => vec![[own.as_slice(), &[0]].concat()],
                Self::Chain => vec![own, certificate::make(&key(3))],
                Self::CertificateOfAnother => vec![certificate::make(&key(3))],
                Self::None | Self::NoCertificate | Self::KeyExchange(_) => vec![own],
            };
            let chain = chain.into_iter().map(CertificateDer::from).collect();
            let certified = CertifiedKey::new(chain, Arc::new(TlsKey(key(2))));
            Arc::new(SingleCertAndKey::from(certified))
        }
    }

    pub(crate) fn connector(attack: Attack) -> ClientConfig {
        if matches!(attack, Attack::NoCertificate) {
            return ClientConfig::builder_with_provider(attack.provider())
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(KeyOnly))
                .with_no_client_auth();
        }
        super::connector(attack.provider(), attack.certified())
    }

    pub(crate) fn acceptor(attack: Attack) -> ServerConfig {
        super::acceptor(attack.provider(), attack.certified())
    }
}
