//! What a machine with a TPM keeps in its directory. Nothing in it is secret.

use std::path::Path;

use heirloom_launcher::files::{self, FileError};
use heirloom_model::digest::sha256;
use heirloom_model::evidence::{BOOT_REGISTERS, Certificate, PcrValue};
use heirloom_model::identifier::{HostId, PlatformId};
use heirloom_model::{context, wire};
use minicbor::{Decode, Encode};

use crate::authority::{Approval, Authority, PolicyReference};
use crate::client::Tpm;
use crate::counter::{CounterPublic, Incrementer};
use crate::error::TpmError;
use crate::key::{AttestationKey, StorageRoot};
use crate::mac_key::MacKey;
use crate::machine::error::MachineError;
use crate::pcr::Register;
use crate::policy::{Comparison, Policy, Step};
use crate::structure::Name;

/// File name of the record: a machine is there if this is.
pub const RECORD: &str = "tpm-machine";
/// File that says that a machine is being made.
pub const BEGAN: &str = "tpm-init-began";
/// File name of the certificates of the attestation key.
pub const CERTIFICATES: &str = "tpm-certificates";
/// The counter that retires approvals.
pub const APPROVALS_INDEX: u32 = 0x0180_4801;
/// The counter that keeps the machine's counters fresh.
pub const COUNTERS_INDEX: u32 = 0x0180_4802;
/// The note of which table of counters is the one that counts.
pub const TABLE_INDEX: u32 = 0x0180_4803;

/// What is known about a machine besides its secret.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct MachineRecord {
    /// The machine's name.
    #[n(0)]
    pub host: HostId,
    /// The machine, as appraisal names it: by its endorsement key.
    #[n(1)]
    pub platform: PlatformId,
    /// Name of the storage root: who shows another key between us and the TPM is found out.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub storage_root: Vec<u8>,
    /// Who approves hosts of this machine: a P-256 point.
    #[n(3)]
    #[cbor(with = "minicbor::bytes")]
    pub authority: Vec<u8>,
    /// The key that the machine's secret comes from: the TPM made it, and uses it only for an
    /// approved host.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub key: Vec<u8>,
    /// Where the counter that keeps the machine's counters fresh stood when the machine was made:
    /// while it stands there, nothing was ever counted. The machine's secret depends on it.
    #[n(5)]
    pub founded: u64,
}

/// A host that an authority approved for one machine.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct HostApproval {
    /// The registers of the host.
    #[n(0)]
    pub registers: Vec<PcrValue>,
    /// It holds while the machine's counter of approvals stands here or lower.
    #[n(1)]
    pub counter: u64,
    /// The authority's signature.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub signature: Vec<u8>,
}

/// A host that asks to be approved.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct HostRequest {
    /// The machine.
    #[n(0)]
    pub platform: PlatformId,
    /// Its name, for people.
    #[n(1)]
    pub host: HostId,
    /// The registers that it has now.
    #[n(2)]
    pub registers: Vec<PcrValue>,
    /// Where the machine's counter of approvals stands.
    #[n(3)]
    pub counter: u64,
}

/// The certificates of the attestation key.
#[derive(Clone, Debug, Decode, Encode, Eq, PartialEq)]
pub struct CertificateChain {
    /// That of the key, then those of its issuers below the anchor.
    #[n(0)]
    pub certificates: Vec<Certificate>,
}

impl MachineRecord {
    /// Reads the record of a machine.
    pub fn read(state: &Path) -> Result<Self, MachineError> {
        match files::read_value(&state.join(RECORD)) {
            Err(FileError::Missing { .. }) => {
                Err(MachineError::NotInitialised { path: state.to_owned() })
            }
            read => Ok(read?),
        }
    }

    /// The storage root, if it is the one that the machine was made with.
    pub fn root<'tpm>(&self, tpm: &'tpm Tpm) -> Result<StorageRoot<'tpm>, MachineError> {
        let root = StorageRoot::open(tpm)?;
        let noted = Name::from_bytes(&self.storage_root).ok_or(MachineError::OtherTpm)?;
        if root.name() == noted { Ok(root) } else { Err(MachineError::OtherTpm) }
    }

    /// Who approves hosts.
    pub fn authority(&self) -> Result<Authority, MachineError> {
        Authority::from_sec1(&self.authority).ok_or(MachineError::NotAnAuthority)
    }

    /// The key of the machine's secret, if it is one that a TPM made itself under the policy of
    /// this record's authority for this machine. Whoever can write here could put another one in
    /// its place, which he knows.
    pub fn key(&self) -> Result<MacKey, MachineError> {
        let policy = secret_policy(&self.authority()?, &self.platform).digest();
        MacKey::from_bytes(&self.key, &policy).map_err(|error| match error {
            TpmError::Corrupt { what, .. } => MachineError::KeyPlanted { what },
            other => other.into(),
        })
    }
}

impl HostApproval {
    /// The approval as the TPM checks it.
    pub fn to_approval(&self) -> Result<Approval, MachineError> {
        let policy = host_policy(&self.registers, self.counter)?;
        let signature = self.signature.as_slice().try_into();
        Ok(Approval { policy, signature: signature.map_err(|_| MachineError::ApprovalForged)? })
    }
}

impl CertificateChain {
    /// Reads the certificates, which are there once the machine is enrolled.
    pub fn read(state: &Path) -> Result<Self, MachineError> {
        match files::read_value(&state.join(CERTIFICATES)) {
            Err(FileError::Missing { .. }) => Err(MachineError::NotCertified),
            read => Ok(read?),
        }
    }

    /// Refuses certificates about another key: evidence with them would convince nobody. Who
    /// issued them is for those who appraise.
    pub fn expect_about(&self, key: &AttestationKey<'_, '_>) -> Result<(), MachineError> {
        let point = key.point()?.to_sec1();
        let leaf = self.certificates.first().ok_or(MachineError::NotCertified)?;
        if leaf.0.windows(point.len()).any(|window| window == point) {
            return Ok(());
        }
        Err(MachineError::OtherKeyCertified)
    }
}

/// What an authority approves: a host with these registers, until approvals up to this count are
/// retired.
pub fn host_policy(registers: &[PcrValue], counter: u64) -> Result<Policy, MachineError> {
    // A host that leaves a register out would be approved whatever it has there.
    let is_whole = registers.iter().map(|register| register.index).eq(BOOT_REGISTERS);
    if !is_whole {
        return Err(MachineError::NotAHost);
    }
    let registers: Vec<Register> = registers
        .iter()
        .map(|register| Register { index: register.index, value: *register.value.as_bytes() })
        .collect();
    let step = Step::registers(&registers).ok_or(MachineError::ApprovalForged)?;
    let counter =
        Step::Counter { counter: approvals(), comparison: Comparison::AtMost, value: counter };
    Ok(Policy::all(vec![step, counter]).expect("two conditions are neither none nor too many"))
}

/// For which machine an approval is.
pub fn reference(platform: &PlatformId) -> PolicyReference {
    let digest = sha256(&[context::TPM_APPROVAL, platform.as_bytes()]);
    PolicyReference::new(&digest).expect("a digest is short")
}

/// The policy of a machine's secret: any host that the authority approved for this machine.
pub fn secret_policy(authority: &Authority, platform: &PlatformId) -> Policy {
    Policy::approved(*authority, reference(platform), Vec::new())
        .expect("no further conditions are not too many")
}

/// The counter that retires approvals.
pub fn approvals() -> CounterPublic {
    CounterPublic::new(APPROVALS_INDEX, Incrementer::Owner).expect("the index is an owner's")
}

/// The counter that keeps the machine's counters fresh. Whoever owns the TPM can raise it, and so
/// stop the machine; nobody can lower it.
pub fn freshness() -> CounterPublic {
    CounterPublic::new(COUNTERS_INDEX, Incrementer::Owner).expect("the index is an owner's")
}

wire! {
    MachineRecord: "record of a machine with a TPM", 4 * 1024;
    HostApproval: "approval of a host", 4 * 1024;
    HostRequest: "request to approve a host", 4 * 1024;
    CertificateChain: "certificates of an attestation key", 32 * 1024;
}
