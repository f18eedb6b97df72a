//! Secrets that only this TPM gives out, and only under a policy.

use heirloom_model::secret::Secret;

use crate::call::{Authorisation, Call};
use crate::code::CommandCode;
use crate::error::TpmError;
use crate::key::{Object, Sensitive, StorageRoot};
use crate::limit::SEALED_OBJECT_BYTES_MAX;
use crate::policy::{Opening, PolicyDigest};
use crate::public::{PublicArea, PublicKey, Template};
use crate::session::Session;
use crate::wire::{Reader, Writer};

/// A sealed secret as it is kept in a file. Nothing in it is secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SealedSecret {
    area: PublicArea,
    private: Vec<u8>,
}

impl SealedSecret {
    /// Both parts: `TPM2B_PUBLIC`, then `TPM2B_PRIVATE`.
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::new().sized(self.area.as_bytes()).sized(&self.private).to_vec()
    }

    /// Takes both parts apart. Whether the TPM opens them is another question.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TpmError> {
        let mut reader = Reader::new("a sealed secret", bytes);
        if bytes.len() > SEALED_OBJECT_BYTES_MAX {
            return Err(reader.corrupt("it is longer than any sealed secret"));
        }
        let area = PublicArea::parse(reader.sized()?)?;
        let private = reader.sized()?.to_vec();
        if area.key() != &PublicKey::Sealed {
            return Err(reader.corrupt("it is a key"));
        }
        reader.end()?;
        Ok(Self { area, private })
    }

    /// The digest of the policy under which it opens; none if it was not sealed by us.
    pub fn policy(&self) -> Option<PolicyDigest> {
        self.area.policy().try_into().ok().map(PolicyDigest::new)
    }
}

impl StorageRoot<'_> {
    /// Seals a secret. It crosses the bus encrypted.
    pub fn seal(
        &self,
        secret: &Secret<32>,
        policy: &PolicyDigest,
    ) -> Result<SealedSecret, TpmError> {
        let template = Template::sealed(policy.as_bytes());
        let (area, private) =
            secret.expose(|bytes| self.create(&template, Sensitive::Secret(bytes)))?;
        Ok(SealedSecret { area, private })
    }

    /// Opens a sealed secret. It crosses the bus encrypted.
    ///
    /// Conditions that do not hold are [`TpmError::Refused`]: a counter that moved on with
    /// `TPM_RC_POLICY`, registers with `TPM_RC_POLICY_FAIL`, or with `TPM_RC_VALUE` where an
    /// approval names others. A secret that was changed, or is of another TPM, is refused with
    /// `TPM_RC_INTEGRITY`.
    pub fn unseal(
        &self,
        sealed: &SealedSecret,
        opening: Opening<'_>,
    ) -> Result<Secret<32>, TpmError> {
        let object = Object::load(self, sealed.area.clone(), &sealed.private)?;
        let mut session = Session::policy(self)?;
        opening.satisfy(&session)?;
        let call = Call::new(CommandCode::Unseal, Writer::new())
            .about([object.target()])
            .with_secret_answer()
            .ending_session();
        let authorisations = vec![Authorisation::Session(&mut session, &[])];
        let answer = self.tpm().run(call, authorisations)?;
        let mut reader = answer.reader();
        let secret = Secret::from_slice(reader.sized()?)
            .ok_or_else(|| reader.corrupt("it has another length than what we seal"))?;
        reader.end()?;
        Ok(secret)
    }
}
