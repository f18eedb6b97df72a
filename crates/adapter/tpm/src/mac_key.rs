//! A key for HMAC that this TPM made itself, never shows, and uses only under a policy.
//!
//! Nobody ever knew it: so whoever derives secrets from it knows that nobody planted them. A
//! secret that is only sealed says nothing about who knew it before.

use heirloom_model::secret::Secret;

use crate::call::{Authorisation, Call};
use crate::code::CommandCode;
use crate::error::TpmError;
use crate::key::{Object, Sensitive, StorageRoot};
use crate::limit::MAC_KEY_BYTES_MAX;
use crate::policy::{Opening, PolicyDigest};
use crate::public::{PublicArea, Template};
use crate::session::Session;
use crate::structure::ALG_NULL;
use crate::wire::{Reader, Writer};

/// A key for HMAC with SHA-256, as it is kept in a file. Nothing in it is secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MacKey {
    area: PublicArea,
    private: Vec<u8>,
}

impl MacKey {
    /// Both parts: `TPM2B_PUBLIC`, then `TPM2B_PRIVATE`.
    pub fn to_bytes(&self) -> Vec<u8> {
        Writer::new().sized(self.area.as_bytes()).sized(&self.private).to_vec()
    }

    /// Takes both parts apart, and refuses everything that is not a key which its TPM made itself,
    /// under this policy. Which TPM that is, loading it says.
    ///
    /// A TPM lets no other object have these attributes: what comes from outside never leaves
    /// `fixedTPM` set, and what holds data from outside never `sensitiveDataOrigin`.
    pub fn from_bytes(bytes: &[u8], policy: &PolicyDigest) -> Result<Self, TpmError> {
        let mut reader = Reader::new("a key that the TPM made", bytes);
        if bytes.len() > MAC_KEY_BYTES_MAX {
            return Err(reader.corrupt("it is longer than any such key"));
        }
        let area = PublicArea::parse(reader.sized()?)?;
        let private = reader.sized()?.to_vec();
        if area.policy() != policy.as_bytes() {
            return Err(reader.corrupt("it is under another policy"));
        }
        if !area.is_made_from(&Template::mac_key(policy.as_bytes())) {
            return Err(reader.corrupt("it has other attributes: somebody may know it"));
        }
        reader.end()?;
        Ok(Self { area, private })
    }
}

impl StorageRoot<'_> {
    /// Lets the TPM make a key.
    pub fn make_mac_key(&self, policy: &PolicyDigest) -> Result<MacKey, TpmError> {
        let template = Template::mac_key(policy.as_bytes());
        let (area, private) = self.create(&template, Sensitive::Own)?;
        Ok(MacKey { area, private })
    }

    /// HMAC of a message under a key. It crosses the bus encrypted.
    ///
    /// Conditions that do not hold are [`TpmError::Refused`]: a counter that moved on with
    /// `TPM_RC_POLICY`, registers with `TPM_RC_POLICY_FAIL`, or with `TPM_RC_VALUE` where an
    /// approval names others. A key that was changed, or is of another TPM, is refused with
    /// `TPM_RC_INTEGRITY`.
    pub fn mac(
        &self,
        key: &MacKey,
        opening: Opening<'_>,
        message: &[u8],
    ) -> Result<Secret<32>, TpmError> {
        let object = Object::load(self, key.area.clone(), &key.private)?;
        let mut session = Session::policy(self)?;
        opening.satisfy(&session)?;
        let call = Call::new(CommandCode::Hmac, Writer::new().sized(message).u16(ALG_NULL))
            .about([object.target()])
            .with_secret_answer()
            .ending_session();
        let authorisations = vec![Authorisation::Session(&mut session, &[])];
        let answer = self.tpm().run(call, authorisations)?;
        let mut reader = answer.reader();
        let mac = Secret::from_slice(reader.sized()?)
            .ok_or_else(|| reader.corrupt("it has another length than a digest"))?;
        reader.end()?;
        Ok(mac)
    }
}
