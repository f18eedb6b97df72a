//! Credential activation: a TPM shows that two keys live in it.
//!
//! A certification authority encrypts a secret for an endorsement key and the name of an
//! attestation key. Only the TPM that has both gives the secret out.

use heirloom_model::secret::SecretBytes;

use crate::call::{Authorisation, Call};
use crate::code::CommandCode;
use crate::error::TpmError;
use crate::key::{AttestationKey, EndorsementKey};
use crate::session::Session;
use crate::structure::{ENDORSEMENT, Target};
use crate::wire::Writer;

/// A secret for one pair of keys, as `TPM2_MakeCredential` makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credential {
    /// The encrypted secret with its authentication (the content of `TPM2B_ID_OBJECT`).
    pub identity: Vec<u8>,
    /// The seed for it, for the endorsement key (the content of `TPM2B_ENCRYPTED_SECRET`).
    pub seed: Vec<u8>,
}

impl AttestationKey<'_, '_> {
    /// Opens a credential for this key and an endorsement key of the same TPM. The secret crosses
    /// the bus encrypted.
    pub fn activate(
        &self,
        endorsement: &EndorsementKey<'_>,
        credential: &Credential,
    ) -> Result<SecretBytes, TpmError> {
        let mut session = Session::policy(self.root())?;
        allow_endorsement(&session)?;
        let parameters = Writer::new().sized(&credential.identity).sized(&credential.seed);
        let call = Call::new(CommandCode::ActivateCredential, parameters)
            .about([self.target(), endorsement.target()])
            .with_secret_answer()
            .ending_session();
        let answer = self.run(call, vec![Authorisation::Session(&mut session, &[])])?;
        let mut reader = answer.reader();
        let secret = SecretBytes::new(reader.sized()?.to_vec());
        reader.end()?;
        Ok(secret)
    }
}

/// Satisfies the policy of endorsement keys: the empty authorisation of their hierarchy.
fn allow_endorsement(session: &Session<'_>) -> Result<(), TpmError> {
    let parameters = Writer::new().sized(&[]).sized(&[]).sized(&[]).u32(0);
    let call = Call::new(CommandCode::PolicySecret, parameters)
        .about([Target::bare(ENDORSEMENT), session.target()]);
    session.tpm().run(call, vec![Authorisation::Empty]).map(drop)
}
