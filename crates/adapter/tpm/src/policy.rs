//! Policies: under which conditions a TPM uses a key. Digests of policies are pure.

use crate::authority::{Approval, Authority, PolicyReference};
use crate::call::{Authorisation, Call};
use crate::client::Tpm;
use crate::code::CommandCode;
use crate::counter::CounterPublic;
use crate::crypto::sha256;
use crate::error::TpmError;
use crate::key::Object;
use crate::limit::POLICY_STEPS_MAX;
use crate::pcr::{Register, Selection, registers_digest};
use crate::session::Session;
use crate::structure::{ALG_ECDSA, ALG_SHA256, OWNER, TAG_VERIFIED, Target};
use crate::wire::Writer;

/// The digest of a policy, which an object carries.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct PolicyDigest([u8; 32]);

impl PolicyDigest {
    /// A digest from elsewhere.
    pub fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// As the TPM compares it.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// One condition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// A counter stands so.
    Counter {
        /// The counter.
        counter: CounterPublic,
        /// How it is compared.
        comparison: Comparison,
        /// With what.
        value: u64,
    },
    /// Registers have the values with this digest.
    Registers {
        /// Which.
        selection: Selection,
        /// See [`registers_digest`].
        digest: [u8; 32],
    },
}

impl Step {
    /// These registers have these values; none if there are none, or one that does not exist.
    pub fn registers(registers: &[Register]) -> Option<Self> {
        let mut sorted = registers.to_vec();
        sorted.sort_unstable();
        let selection = Selection::new(sorted.iter().map(|register| register.index))?;
        let distinct = usize::try_from(selection.mask().count_ones()).ok()? == sorted.len();
        distinct.then(|| Self::Registers { selection, digest: registers_digest(&sorted) })
    }

    /// The digest after this condition (part 3, 23.7 and 23.9).
    fn extend(&self, digest: [u8; 32]) -> [u8; 32] {
        match self {
            Self::Counter { counter, comparison, value } => {
                let operation = comparison.code().to_be_bytes();
                let arguments = sha256(&[&value.to_be_bytes(), &[0; 2], &operation]);
                let command = CommandCode::PolicyNv.code().to_be_bytes();
                sha256(&[&digest, &command, &arguments, counter.name().as_bytes()])
            }
            Self::Registers { selection, digest: values } => {
                let command = CommandCode::PolicyPcr.code().to_be_bytes();
                let selected = selection.write(Writer::new());
                sha256(&[&digest, &command, selected.as_slice(), values])
            }
        }
    }

    fn satisfy(&self, session: &Session<'_>) -> Result<(), TpmError> {
        match self {
            Self::Counter { counter, comparison, value } => {
                let parameters = Writer::new().sized(&value.to_be_bytes()).u16(0);
                let call = Call::new(CommandCode::PolicyNv, parameters.u16(comparison.code()))
                    .about([counter.target(), counter.target(), session.target()]);
                session.tpm().run(call, vec![Authorisation::Empty]).map(drop)
            }
            // The TPM takes the values that its registers have: if they are others, the digest of
            // the session is another, and what it opens refuses it.
            Self::Registers { selection, .. } => {
                let parameters = selection.write(Writer::new().sized(&[]));
                let call = Call::new(CommandCode::PolicyPcr, parameters).about([session.target()]);
                session.tpm().run(call, Vec::new()).map(drop)
            }
        }
    }
}

/// How a counter is compared (`TPM_EO`, unsigned).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Comparison {
    /// The counter has this value.
    Equal,
    /// The counter has this value or a smaller one.
    AtMost,
    /// The counter has this value or a larger one.
    AtLeast,
}

impl Comparison {
    fn code(self) -> u16 {
        match self {
            Self::Equal => 0x0000,
            Self::AtLeast => 0x0007,
            Self::AtMost => 0x0009,
        }
    }
}

/// Conditions that must hold together, in this order. The first may be the word of an authority.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Policy {
    approved_by: Option<(Authority, PolicyReference)>,
    steps: Vec<Step>,
}

impl Policy {
    /// All of these conditions: one to [`POLICY_STEPS_MAX`].
    pub fn all(steps: Vec<Step>) -> Option<Self> {
        let fits = (1..=POLICY_STEPS_MAX).contains(&steps.len());
        fits.then_some(Self { approved_by: None, steps })
    }

    /// Any policy that the authority approved for this purpose, and then all of these conditions:
    /// none to [`POLICY_STEPS_MAX`].
    pub fn approved(
        authority: Authority,
        reference: PolicyReference,
        steps: Vec<Step>,
    ) -> Option<Self> {
        let fits = steps.len() <= POLICY_STEPS_MAX;
        fits.then_some(Self { approved_by: Some((authority, reference)), steps })
    }

    /// The digest that an object under this policy carries.
    pub fn digest(&self) -> PolicyDigest {
        let start = match &self.approved_by {
            // What the authority approved is forgotten: its word stands in for it (part 3, 23.16).
            Some((authority, reference)) => {
                let command = CommandCode::PolicyAuthorize.code().to_be_bytes();
                let name = authority.name();
                let authorised = sha256(&[&[0; 32], &command, name.as_bytes()]);
                sha256(&[&authorised, reference.as_bytes()])
            }
            None => [0; 32],
        };
        PolicyDigest(self.steps.iter().fold(start, |digest, step| step.extend(digest)))
    }

    /// The conditions, without the authority.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// How a policy is satisfied.
#[derive(Clone, Copy, Debug)]
pub enum Opening<'call> {
    /// By its conditions.
    Plain(&'call Policy),
    /// By an approved policy first: for [`Policy::approved`].
    Approved {
        /// The policy of the object.
        policy: &'call Policy,
        /// What the authority approved.
        approval: &'call Approval,
    },
}

impl Opening<'_> {
    /// Satisfies the conditions in a session, or finds out which one does not hold.
    pub(crate) fn satisfy(self, session: &Session<'_>) -> Result<(), TpmError> {
        let policy = match self {
            Self::Plain(policy) => policy,
            Self::Approved { policy, approval } => {
                approval.policy.steps.iter().try_for_each(|step| step.satisfy(session))?;
                if let Some((authority, reference)) = &policy.approved_by {
                    authorise(session, authority, reference, approval)?;
                }
                policy
            }
        };
        policy.steps.iter().try_for_each(|step| step.satisfy(session))
    }
}

/// Shows the TPM that the authority approved what the session has satisfied so far.
fn authorise(
    session: &Session<'_>,
    authority: &Authority,
    reference: &PolicyReference,
    approval: &Approval,
) -> Result<(), TpmError> {
    let approved = approval.policy.digest();
    let signed = sha256(&[approved.as_bytes(), reference.as_bytes()]);
    let ticket = verify_signature(session.tpm(), authority, &signed, &approval.signature)?;
    let parameters = Writer::new()
        .sized(approved.as_bytes())
        .sized(reference.as_bytes())
        .sized(authority.name().as_bytes())
        .bytes(&ticket);
    let call = Call::new(CommandCode::PolicyAuthorize, parameters).about([session.target()]);
    session.tpm().run(call, Vec::new()).map(drop)
}

/// Lets the TPM verify a signature, and takes its ticket (`TPMT_TK_VERIFIED`).
fn verify_signature(
    tpm: &Tpm,
    authority: &Authority,
    digest: &[u8; 32],
    signature: &[u8; 64],
) -> Result<Vec<u8>, TpmError> {
    let key = load_authority(tpm, authority)?;
    let (first, second) = signature.split_at(32);
    let parameters = Writer::new().sized(digest).u16(ALG_ECDSA).u16(ALG_SHA256);
    let parameters = parameters.sized(first).sized(second);
    let call = Call::new(CommandCode::VerifySignature, parameters).about([key.target()]);
    let answer = tpm.run(call, Vec::new())?;
    let mut reader = answer.reader();
    let ticket = reader.rest().to_vec();
    reader.expect_u16(TAG_VERIFIED, "it is no ticket")?;
    let (_hierarchy, _authentication) = (reader.u32()?, reader.sized()?);
    reader.end()?;
    Ok(ticket)
}

/// Tickets are of the hierarchy of the key, and those of none are worth nothing: hence the owner's.
fn load_authority<'tpm>(tpm: &'tpm Tpm, authority: &Authority) -> Result<Object<'tpm>, TpmError> {
    let area = authority.public();
    let parameters = Writer::new().u16(0).sized(area.as_bytes()).u32(OWNER);
    let call = Call::new(CommandCode::LoadExternal, parameters).answering_handle();
    let answer = tpm.run(call, Vec::new())?;
    Object::loaded(tpm, answer.handle, |_| {
        let mut reader = answer.reader();
        if reader.sized()? != area.name().as_bytes() {
            return Err(reader.corrupt("its name is not that of the authority"));
        }
        reader.end()?;
        Ok(area)
    })
}

/// The digest that the TPM itself computes for conditions that hold now: what tests compare with.
pub fn trial(tpm: &Tpm, policy: &Policy) -> Result<PolicyDigest, TpmError> {
    let session = Session::trial(tpm)?;
    policy.steps.iter().try_for_each(|step| step.satisfy(&session))?;
    session.policy_digest().map(PolicyDigest)
}

impl CounterPublic {
    fn target(&self) -> Target {
        Target::named(self.index(), self.name())
    }
}
