//! Making a machine, and approving the hosts that may open its secret.
//!
//! A machine is made once, by an explicit act: never at start. Its authority is a P-256 key that
//! is kept elsewhere, since Ed25519 is not a TPM's. It approves hosts by their registers: one
//! approval for each host that may run, the next one before an update. An approval may retire all
//! earlier ones, so that nobody opens the secret with a host that has known holes.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use heirloom_keeper::kmac::kmac256;
use heirloom_launcher::daemon::{DaemonError, MachineLock};
use heirloom_launcher::files::{self, FileError};
use heirloom_model::evidence::PcrValue;
use heirloom_model::identifier::HostId;
use heirloom_model::secret::Secret;
use heirloom_model::{context, wire};
use zeroize::Zeroizing;

use super::approvals::Approvals;
use super::approved::Admitted;
use super::counters::{CounterKeys, Counters};
use super::error::MachineError;
use super::state::{
    BEGAN, HostApproval, HostRequest, MachineRecord, RECORD, TABLE_INDEX, approvals, freshness,
    host_policy, reference, secret_policy,
};
use super::{spki, value_of};
use crate::authority::{Authority, approval_message};
use crate::client::Tpm;
use crate::code::ResponseCode;
use crate::counter::Counter;
use crate::error::TpmError;
use crate::key::{ATTESTATION_KEY_HANDLE, AttestationKey, StorageRoot};
use crate::limit::APPROVALS_AHEAD_MAX;
use crate::note::Note;
use crate::pcr::Selection;
use crate::policy::Opening;

/// The key with which an authority approves hosts. It does not print.
pub struct AuthorityKey(EcdsaKeyPair);

/// Whether an approval lets earlier ones hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Earlier {
    /// They hold beside it.
    Hold,
    /// They never open the secret again, once this one was installed.
    Retired,
}

impl AuthorityKey {
    /// A new key, as PKCS#8 in DER.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, MachineError> {
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map(|document| Zeroizing::new(document.as_ref().to_vec()))
            .map_err(|_| MachineError::NotAnAuthority)
    }

    /// Reads a key from PKCS#8 in DER.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, MachineError> {
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
            .map(Self)
            .map_err(|_| MachineError::NotAnAuthority)
    }

    /// Whom machines trust.
    pub fn authority(&self) -> Result<Authority, MachineError> {
        Authority::from_sec1(self.0.public_key().as_ref()).ok_or(MachineError::NotAnAuthority)
    }

    /// Approves a host for its machine, which is on record.
    pub fn approve(&self, admitted: &Admitted) -> Result<HostApproval, MachineError> {
        let (request, counter) = (admitted.request(), admitted.counter());
        let policy = host_policy(&request.registers, counter)?;
        let message = approval_message(&policy.digest(), &reference(&request.platform));
        let signature = self
            .0
            .sign(&SystemRandom::new(), &message)
            .map_err(|_| MachineError::NotAnAuthority)?;
        let registers = request.registers.clone();
        Ok(HostApproval { registers, counter, signature: signature.as_ref().to_vec() })
    }
}

/// Makes a machine in a directory that has none: the key that its secret comes from, and what
/// counts in its TPM. No host is approved yet, and so nobody can know the secret; what depends on
/// it is made by the first [`install`].
pub fn init(
    state: &Path,
    tpm: &Tpm,
    host: HostId,
    authority: &Authority,
) -> Result<MachineRecord, MachineError> {
    files::create_private_directory(state)?;
    let _lock = take(state)?;
    files::refuse_present(&state.join(RECORD))?;
    tpm.startup()?;
    begin(state, tpm)?;
    let platform = spki::platform(tpm)?;
    let root = StorageRoot::open(tpm)?;
    Counter::define(&root, approvals(), None)?;
    let founded = Counter::define(&root, freshness(), None)?.read(&root)?;
    let key = root.make_mac_key(&secret_policy(authority, &platform).digest())?.to_bytes();
    let record = MachineRecord {
        host,
        platform,
        storage_root: root.name().as_bytes().to_vec(),
        authority: authority.to_sec1().to_vec(),
        key,
        founded,
    };
    // A machine is there from here on.
    files::create(&state.join(RECORD), &wire::encode(&record))?;
    // From now on a record that is missing is one that was lost.
    files::remove(&state.join(BEGAN))?;
    Ok(record)
}

/// Notes durably that a machine is being made, before anything is made in the TPM. Counters that
/// are there without this note are another machine's, or those of one whose directory was lost:
/// whoever took them over would make what that machine has sealed unreadable for ever.
fn begin(state: &Path, tpm: &Tpm) -> Result<(), MachineError> {
    let mark = state.join(BEGAN);
    match files::refuse_present(&mark) {
        Err(FileError::Exists { .. }) => return Ok(()),
        other => other?,
    }
    for public in [approvals(), freshness()] {
        let index = public.index();
        match Counter::open(tpm, public) {
            Err(TpmError::Missing(_)) => {}
            Ok(_) | Err(TpmError::Corrupt { .. }) => return Err(MachineError::TpmTaken { index }),
            Err(error) => return Err(error.into()),
        }
    }
    if AttestationKey::is_taken(tpm)? {
        return Err(MachineError::TpmTaken { index: ATTESTATION_KEY_HANDLE });
    }
    if Note::is_taken(tpm, TABLE_INDEX)? {
        return Err(MachineError::TpmTaken { index: TABLE_INDEX });
    }
    Ok(files::create(&mark, b"began\n")?)
}

/// What the authority is asked to approve: the host as it runs now.
pub fn request(state: &Path, tpm: &Tpm) -> Result<HostRequest, MachineError> {
    tpm.startup()?;
    let record = MachineRecord::read(state)?;
    let root = record.root(tpm)?;
    let counter = Counter::open(tpm, approvals())?.read(&root)?;
    let registers = registers(tpm)?;
    Ok(HostRequest { platform: record.platform, host: record.host.clone(), registers, counter })
}

/// Installs an approval of the host that runs now, after it opened the secret once; then retires
/// earlier ones, if it says so. The first one also makes what depends on the secret. An approval
/// for a host that will run only after a restart is installed by [`stage`].
///
/// Nobody else has the machine meanwhile: not while it is served.
pub fn install(state: &Path, tpm: &Tpm, approval: &HostApproval) -> Result<(), MachineError> {
    // What is not there is said before anything is made there.
    let record = MachineRecord::read(state)?;
    let lock = take(state)?;
    tpm.startup()?;
    let root = record.root(tpm)?;
    expect_next(&root, approval)?;
    let secret = open(&record, &root, approval)?;
    complete(state, &record, &root, &secret)?;
    Approvals::place(state, approval)?;
    retire(&root, approval.counter, &lock)
}

/// Makes what depends on the machine's secret: its attestation key, and its table of counters. Once:
/// what is there stays, and a table that was lost is never made again, because the TPM has counted.
///
/// The attestation key is first. It answers only to the right secret, so that a record that was
/// changed, and gives another one, is found out before it replaces anything.
fn complete(
    state: &Path,
    record: &MachineRecord,
    root: &StorageRoot<'_>,
    secret: &Secret<32>,
) -> Result<(), MachineError> {
    match attestation_key(root, attestation_value(secret)) {
        Err(MachineError::NotCompleted) => {
            AttestationKey::make(root, attestation_value(secret))?.prove()?;
        }
        found => found?.prove()?,
    }
    let keys = CounterKeys::derive(|purpose| derived(secret, purpose));
    Counters::new(state, keys).create(root, record.founded)
}

/// The machine's attestation key, for whoever has the value of it.
pub(super) fn attestation_key<'root, 'tpm>(
    root: &'root StorageRoot<'tpm>,
    value: Secret<32>,
) -> Result<AttestationKey<'root, 'tpm>, MachineError> {
    match AttestationKey::open(root, value) {
        Err(TpmError::Missing(_)) => Err(MachineError::NotCompleted),
        found => Ok(found?),
    }
}

/// What authorises the use of the attestation key, out of the machine's secret.
pub(super) fn attestation_value(secret: &Secret<32>) -> Secret<32> {
    Secret::new(*derived(secret, context::TPM_ATTESTATION_KEY))
}

/// A key that belongs to the machine and a purpose.
fn derived(secret: &Secret<32>, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    secret.expose(|secret| kmac256::<32>(secret, &[], purpose))
}

/// Adds one, and sees that it was added: whoever sits on the way to the TPM can say that it was.
pub(super) fn count(
    counter: &Counter<'_>,
    root: &StorageRoot<'_>,
    expected: u64,
) -> Result<(), MachineError> {
    counter.increment(root, None)?;
    let found = counter.read(root)?;
    if found == expected { Ok(()) } else { Err(MachineError::NotCounted { expected, found }) }
}

/// Refuses an approval that the counter cannot come up to: it could never be retired.
fn expect_next(root: &StorageRoot<'_>, approval: &HostApproval) -> Result<(), MachineError> {
    expect_reached(Counter::open(root.tpm(), approvals())?.read(root)?, approval.counter)
}

fn expect_reached(stands: u64, approved: u64) -> Result<(), MachineError> {
    if approved > stands.saturating_add(APPROVALS_AHEAD_MAX) {
        return Err(MachineError::ApprovalAhead { approved, stands });
    }
    Ok(())
}

/// Puts an approval of another host beside that of the one that runs now, for after the next
/// start. Signature and count are verified here; whether the host is that one, only the TPM can
/// say. It changes one file and nothing in the TPM, also while the machine is served.
pub fn stage(state: &Path, tpm: &Tpm, approval: &HostApproval) -> Result<(), MachineError> {
    tpm.startup()?;
    let record = MachineRecord::read(state)?;
    expect_next(&record.root(tpm)?, approval)?;
    let signed = approval.to_approval()?;
    if signed.verify(&record.authority()?, &reference(&record.platform)).is_none() {
        return Err(MachineError::ApprovalForged);
    }
    Ok(Approvals::stage(state, approval)?)
}

/// The machine's secret for the one who serves it. An approval that was staged, and opened it, takes
/// its place; then earlier ones are retired, if it says so.
pub(super) fn unseal(
    state: &Path,
    record: &MachineRecord,
    tpm: &Tpm,
    lock: &MachineLock,
) -> Result<Secret<32>, MachineError> {
    let root = record.root(tpm)?;
    let (secret, by) = opened(state, record, &root)?;
    Approvals::place(state, &by)?;
    retire(&root, by.counter, lock)?;
    expect_completed(record, &root)?;
    Ok(secret)
}

/// The machine's secret for whoever changes nothing, as those do who enrol it while it is served.
pub(super) fn peek(
    state: &Path,
    record: &MachineRecord,
    tpm: &Tpm,
) -> Result<Secret<32>, MachineError> {
    let root = record.root(tpm)?;
    let (secret, _) = opened(state, record, &root)?;
    expect_completed(record, &root)?;
    Ok(secret)
}

/// The machine's secret, if the host is an approved one, and the approval that opened it: the one in
/// place, or else the staged one.
fn opened(
    state: &Path,
    record: &MachineRecord,
    root: &StorageRoot<'_>,
) -> Result<(Secret<32>, HostApproval), MachineError> {
    let Approvals { current, staged } = Approvals::read(state)?;
    let refused = match current {
        None => MachineError::NotApproved,
        Some(current) => match open(record, root, &current) {
            Ok(secret) => return Ok((secret, current)),
            // Nothing else than another host is a reason to try another host's approval.
            Err(refused) if is_about_the_host(&refused) => refused,
            Err(error) => return Err(error),
        },
    };
    let Some(staged) = staged else { return Err(refused) };
    match open(record, root, &staged) {
        Ok(secret) => Ok((secret, staged)),
        // It is neither host: what is said is about the one that should run.
        Err(error) if is_about_the_host(&error) => Err(refused),
        Err(error) => Err(error),
    }
}

fn is_about_the_host(error: &MachineError) -> bool {
    matches!(error, MachineError::HostChanged { .. } | MachineError::ApprovalRetired)
}

/// Where nothing was ever counted, there is nothing that could be served.
fn expect_completed(record: &MachineRecord, root: &StorageRoot<'_>) -> Result<(), MachineError> {
    let counted = Counter::open(root.tpm(), freshness())?.read(root)?;
    if counted == record.founded { Err(MachineError::NotCompleted) } else { Ok(()) }
}

/// Counts up to an approval that opened and is in place, if it retires earlier ones and a crash or a
/// restart came before that. It may be several steps: those between were approved and never
/// installed. Whoever wrote it into the directory himself comes by here too.
///
/// Who counts has the machine: two at once would count twice.
fn retire(root: &StorageRoot<'_>, approved: u64, _: &MachineLock) -> Result<(), MachineError> {
    let counter = Counter::open(root.tpm(), approvals())?;
    let stands = counter.read(root)?;
    expect_reached(stands, approved)?;
    (stands.saturating_add(1)..=approved).try_for_each(|next| count(&counter, root, next))
}

/// The machine, for a command that changes it in its TPM.
fn take(state: &Path) -> Result<MachineLock, MachineError> {
    MachineLock::take(state).map_err(|error| match error {
        DaemonError::AlreadyServed { path } => MachineError::InUse { path },
        other => MachineError::Lock(other),
    })
}

fn open(
    record: &MachineRecord,
    root: &StorageRoot<'_>,
    approval: &HostApproval,
) -> Result<Secret<32>, MachineError> {
    let authority = record.authority()?;
    let signed = approval.to_approval()?;
    // Said here, so that what the TPM refuses afterwards is about the host.
    if signed.verify(&authority, &reference(&record.platform)).is_none() {
        return Err(MachineError::ApprovalForged);
    }
    let policy = secret_policy(&authority, &record.platform);
    let opening = Opening::Approved { policy: &policy, approval: &signed };
    let message = [context::TPM_MACHINE_SECRET, &record.founded.to_be_bytes()].concat();
    root.mac(&record.key()?, opening, &message)
        .map_err(|error| explain(error, root.tpm(), approval))
}

/// What a refusal of the TPM means.
fn explain(error: TpmError, tpm: &Tpm, approval: &HostApproval) -> MachineError {
    match error.refusal() {
        Some(ResponseCode::POLICY) => MachineError::ApprovalRetired,
        Some(ResponseCode::INTEGRITY) => {
            MachineError::KeyPlanted { what: "this TPM does not know it" }
        }
        Some(ResponseCode::POLICY_FAIL | ResponseCode::VALUE) => {
            let Ok(now) = registers(tpm) else { return error.into() };
            let differs = |one: &&PcrValue| !now.contains(one);
            let registers: Vec<u8> =
                approval.registers.iter().filter(differs).map(|one| one.index).collect();
            if registers.is_empty() {
                return error.into();
            }
            MachineError::HostChanged { registers }
        }
        _ => error.into(),
    }
}

fn registers(tpm: &Tpm) -> Result<Vec<PcrValue>, MachineError> {
    Ok(tpm.registers(Selection::boot())?.iter().map(value_of).collect())
}
