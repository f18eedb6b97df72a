//! Keys in the hands of an application.

use std::time::Instant;

use heirloom_keeper::derive::{KeyDigest, key_check};
use heirloom_model::counter::{Generation, Serial};
use heirloom_model::measurement::Measurement;
use heirloom_model::protocol::{KeyAnswer, KeyKind, KeyPart, KeyPeriod, KeyRequest, PublicPart};
use heirloom_model::secret::Secret;
use heirloom_model::signature::PublicKey;

/// A derived key. The secret is wiped when it is dropped.
pub struct Key {
    generation: Generation,
    policy: Serial,
    secret: Option<Secret<32>>,
    public: Option<PublicPart>,
    holder: Holder,
    received: Instant,
}

/// Who answered, as its evidence for the session showed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Holder {
    /// Identity key of the instance.
    pub instance: PublicKey,
    /// Its code.
    pub measurement: Measurement,
}

impl Key {
    /// The key in an answer that has just arrived, if the answer fits the request.
    pub(crate) fn from_answer(
        request: &KeyRequest,
        answer: &KeyAnswer,
        holder: Holder,
    ) -> Option<Self> {
        let received = Instant::now();
        let generation_fits = match request.period {
            KeyPeriod::Generation(asked) => asked == answer.generation,
            KeyPeriod::Newest | KeyPeriod::Epoch(_) => true,
        };
        let secret_fits = answer.secret.is_some() == (request.part == KeyPart::Private);
        let public_bytes = answer.public.as_ref().map(|public| public.0.len());
        if !generation_fits || !secret_fits || public_bytes != public_bytes_of(request.kind) {
            return None;
        }
        let secret =
            answer.secret.as_ref().map(|secret| secret.expose(|bytes| Secret::new(*bytes)));
        let (generation, policy) = (answer.generation, answer.policy);
        let public = answer.public.clone();
        Some(Self { generation, policy, secret, public, holder, received })
    }

    /// Who answered.
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// When the answer arrived.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// The generation that it was derived from.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The policy that permitted it.
    pub fn policy(&self) -> Serial {
        self.policy
    }

    /// The secret half, if it was asked for.
    pub fn secret(&self) -> Option<&Secret<32>> {
        self.secret.as_ref()
    }

    /// The public half, for kinds that have one.
    pub fn public(&self) -> Option<&[u8]> {
        self.public.as_ref().map(|public| public.0.as_slice())
    }

    /// A digest by which two parties can compare the secret half without showing it.
    pub fn check(&self) -> Option<KeyDigest> {
        self.secret.as_ref().map(|secret| secret.expose(key_check))
    }
}

fn public_bytes_of(kind: KeyKind) -> Option<usize> {
    match kind {
        KeyKind::Symmetric => None,
        KeyKind::X25519 | KeyKind::Ed25519 => Some(32),
        KeyKind::P256 | KeyKind::Secp256k1 => Some(33),
    }
}
