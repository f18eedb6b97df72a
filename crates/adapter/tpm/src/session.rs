//! Sessions: authorisations that do not show their value, conditions, and encryption.
//!
//! A salted session has a key that only we and the TPM know, because the salt is shared with the
//! storage root. Whoever listens on the bus learns neither secrets nor authorisation values, and
//! whoever changes a response is found out. A session is removed from the TPM when it is dropped.

use zeroize::Zeroizing;

use crate::call::Call;
use crate::client::Tpm;
use crate::code::CommandCode;
use crate::crypto::{DIGEST, Derived, kdfa, random, share};
use crate::error::TpmError;
use crate::key::StorageRoot;
use crate::structure::{ALG_AES, ALG_CFB, ALG_NULL, ALG_SHA256, NULL, Target};
use crate::wire::Writer;

/// A session of a TPM.
pub(crate) struct Session<'tpm> {
    tpm: &'tpm Tpm,
    handle: u32,
    kind: Kind,
    key: Option<Derived>,
    nonce: Vec<u8>,
    new_value: Option<Zeroizing<Vec<u8>>>,
    ended: bool,
}

/// What a session is for (`TPM_SE`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Authorisation values, without showing them.
    Authorisation,
    /// Conditions.
    Policy,
    /// The digest of conditions that need not hold.
    Trial,
}

impl<'tpm> Session<'tpm> {
    /// An authorisation session that encrypts.
    pub(crate) fn salted(root: &StorageRoot<'tpm>) -> Result<Self, TpmError> {
        Self::start(root.tpm(), Kind::Authorisation, Some(root))
    }

    /// An authorisation session that does not encrypt, and needs no root.
    pub(crate) fn plain(tpm: &'tpm Tpm) -> Result<Self, TpmError> {
        Self::start(tpm, Kind::Authorisation, None)
    }

    /// A policy session that encrypts.
    pub(crate) fn policy(root: &StorageRoot<'tpm>) -> Result<Self, TpmError> {
        Self::start(root.tpm(), Kind::Policy, Some(root))
    }

    /// A session that computes what a policy's digest would be.
    pub(crate) fn trial(tpm: &'tpm Tpm) -> Result<Self, TpmError> {
        Self::start(tpm, Kind::Trial, None)
    }

    fn start(
        tpm: &'tpm Tpm,
        kind: Kind,
        salt: Option<&StorageRoot<'tpm>>,
    ) -> Result<Self, TpmError> {
        let own_nonce: [u8; DIGEST] = random();
        let (salt_key, shared, encrypted) = match salt {
            Some(root) => {
                let point = root.point()?;
                let (shared, encrypted) = share(&point, "SECRET").ok_or(TpmError::Corrupt {
                    subject: "the storage root",
                    what: "it is no point of the curve",
                })?;
                (root.target(), Some(shared), encrypted)
            }
            None => (Target::bare(NULL), None, Vec::new()),
        };
        let parameters = Writer::new().sized(&own_nonce).sized(&encrypted);
        let parameters = parameters.u8(match kind {
            Kind::Authorisation => 0,
            Kind::Policy => 1,
            Kind::Trial => 3,
        });
        let parameters = if shared.is_some() {
            parameters.u16(ALG_AES).u16(128).u16(ALG_CFB)
        } else {
            parameters.u16(ALG_NULL)
        };
        let call = Call::new(CommandCode::StartAuthSession, parameters.u16(ALG_SHA256));
        let call = call.about([salt_key, Target::bare(NULL)]).answering_handle();
        let answer = tpm.run(call, Vec::new())?;
        // From here on the session exists, and is removed if its answer cannot be understood.
        let mut session = Self {
            tpm,
            handle: answer.handle,
            kind,
            key: None,
            nonce: Vec::new(),
            new_value: None,
            ended: false,
        };
        let mut reader = answer.reader();
        session.nonce = reader.sized_array::<DIGEST>()?.to_vec();
        reader.end()?;
        session.key = shared.map(|salt| kdfa(&*salt, "ATH", &session.nonce, &own_nonce));
        Ok(session)
    }

    /// The digest of the conditions so far.
    pub(crate) fn policy_digest(&self) -> Result<[u8; DIGEST], TpmError> {
        let call = Call::new(CommandCode::PolicyGetDigest, Writer::new()).about([self.target()]);
        let answer = self.tpm.run(call, Vec::new())?;
        let mut reader = answer.reader();
        let digest = reader.sized_array()?;
        reader.end()?;
        Ok(digest)
    }

    pub(crate) fn tpm(&self) -> &'tpm Tpm {
        self.tpm
    }

    pub(crate) fn handle(&self) -> u32 {
        self.handle
    }

    pub(crate) fn target(&self) -> Target {
        Target::bare(self.handle)
    }

    pub(crate) fn nonce(&self) -> &[u8] {
        &self.nonce
    }

    /// What a command is authenticated with; none if there is nothing that only we know.
    ///
    /// Policy sessions do not prove authorisation values: none of our policies asks for one.
    pub(crate) fn command_key(&self, auth: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match self.kind {
            Kind::Authorisation => Some(self.joined(auth)),
            Kind::Policy | Kind::Trial => self.key.is_some().then(|| self.joined(&[])),
        }
    }

    /// What a response is authenticated with.
    pub(crate) fn answer_key(&self, auth: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        match &self.new_value {
            Some(new) => self.command_key(new),
            None => self.command_key(auth),
        }
    }

    /// The next command changes the authorisation value of what it is about to this one.
    pub(crate) fn expect_new_value(&mut self, value: Zeroizing<Vec<u8>>) {
        self.new_value = Some(value);
    }

    /// The key of one encrypted parameter (part 1, 21.3).
    pub(crate) fn parameter_key(&self, auth: &[u8], newer: &[u8], older: &[u8]) -> Derived {
        assert!(self.key.is_some(), "only salted sessions encrypt");
        kdfa(&self.joined(auth), "CFB", newer, older)
    }

    /// Takes over the nonce of a response.
    pub(crate) fn advance(&mut self, nonce: &[u8], ended: bool) {
        self.nonce = nonce.to_vec();
        self.ended = ended;
    }

    /// Session key and authorisation value, whose trailing zeros do not count (part 1, 17.6.4.3).
    fn joined(&self, auth: &[u8]) -> Zeroizing<Vec<u8>> {
        let end = auth.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let mut joined = Zeroizing::new(Vec::with_capacity(2 * DIGEST));
        joined.extend_from_slice(self.key.as_ref().map_or(&[], |key| key.as_slice()));
        joined.extend_from_slice(&auth[..end]);
        joined
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !self.ended {
            // A TPM that does not answer does not keep sessions for long: the next client that
            // has it for itself removes leftovers.
            drop(self.tpm.flush(self.handle));
        }
    }
}
