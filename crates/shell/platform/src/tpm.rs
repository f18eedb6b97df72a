//! A machine with a TPM: making it, approving its hosts, enrolling it, serving it.

use std::path::Path;

use heirloom_launcher::files;
use heirloom_launcher::users::{AgentGroup, BundleUsers, UserRange, leave_other_groups};
use heirloom_model::digest::HostAuthority;
use heirloom_model::identifier::HostId;
use heirloom_model::wire;
use heirloom_tpm::authority::Authority;
use heirloom_tpm::machine::address::TpmAddress;
use heirloom_tpm::machine::approved::{Admitted, ApprovalRecords};
use heirloom_tpm::machine::enrolment::{self, EnrolmentAnswer, EnrolmentChallenge};
use heirloom_tpm::machine::error::MachineError;
use heirloom_tpm::machine::setup::{self, AuthorityKey, Earlier};
use heirloom_tpm::machine::state::{CertificateChain, HostApproval, HostRequest, MachineRecord};
use pem::Pem;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::error::PlatformdError;
use crate::machine::serve_as;

/// A P-256 key in PEM has some 250 bytes.
const KEY_BYTES_MAX: usize = 4 * 1024;
const PRIVATE: &str = "PRIVATE KEY";
const AUTHORITY: &str = "HEIRLOOM TPM AUTHORITY";

/// Makes the key of an authority, and writes beside it what machines are made with. Neither takes
/// the place of another authority's. The key comes last, so that no key is without the other half.
pub fn generate_authority(key: &Path, public: &Path) -> Result<HostAuthority, PlatformdError> {
    files::refuse_present(key)?;
    files::refuse_present(public)?;
    let der = AuthorityKey::generate()?;
    let authority = AuthorityKey::from_pkcs8(&der)?.authority()?;
    let text = pem::encode(&Pem::new(AUTHORITY, authority.to_sec1().to_vec()));
    files::create(public, text.as_bytes())?;
    let private = Pem::new(PRIVATE, der.to_vec());
    files::create(key, Zeroizing::new(pem::encode(&private)).as_bytes())?;
    drop(Zeroizing::new(private.into_contents()));
    Ok(authority.id())
}

/// Makes a machine in a directory that has none.
pub fn init(
    state: &Path,
    tpm: &TpmAddress,
    host: HostId,
    authority: &Path,
) -> Result<MachineRecord, PlatformdError> {
    let sec1 = read_pem(authority, AUTHORITY)?;
    let authority = Authority::from_sec1(&sec1).ok_or(MachineError::NotAnAuthority)?;
    Ok(setup::init(state, &tpm.connect()?, host, &authority)?)
}

/// Writes what the authority is asked to approve: the host as it runs now.
pub fn request(state: &Path, tpm: &TpmAddress, out: &Path) -> Result<HostRequest, PlatformdError> {
    let request = setup::request(state, &tpm.connect()?)?;
    files::replace(out, &wire::encode(&request))?;
    Ok(request)
}

/// Approves a host, and says which. What is approved is on record beside the key before anybody
/// gets the approval.
pub fn approve(
    key_file: &Path,
    request: &Path,
    earlier: Earlier,
    out: &Path,
) -> Result<Admitted, PlatformdError> {
    let key = AuthorityKey::from_pkcs8(&read_pem(key_file, PRIVATE)?)?;
    let request: HostRequest = files::read_value(request)?;
    let admitted = ApprovalRecords::beside(key_file).admit(request, earlier)?;
    let approval = key.approve(&admitted)?;
    files::replace(out, &wire::encode(&approval))?;
    Ok(admitted)
}

/// Installs an approval of the host that runs now.
pub fn install_approval(
    state: &Path,
    tpm: &TpmAddress,
    approval: &Path,
) -> Result<(), PlatformdError> {
    let approval: HostApproval = files::read_value(approval)?;
    Ok(setup::install(state, &tpm.connect()?, &approval)?)
}

/// Installs an approval of the host that will run after the next start.
pub fn stage_approval(
    state: &Path,
    tpm: &TpmAddress,
    approval: &Path,
) -> Result<(), PlatformdError> {
    let approval: HostApproval = files::read_value(approval)?;
    Ok(setup::stage(state, &tpm.connect()?, &approval)?)
}

/// Under whom a machine runs what it launches, as its operator said it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Accounts {
    /// Users that belong to nobody.
    pub users: Option<UserRange>,
    /// The group of the host's agent.
    pub group: Option<AgentGroup>,
}

impl Accounts {
    /// Finds that these users and this group can be given.
    fn check(self) -> Result<BundleUsers, PlatformdError> {
        let users = self.users.ok_or(PlatformdError::NoBundleUsers)?;
        let group = self.group.ok_or(PlatformdError::NoAgentGroup)?;
        Ok(BundleUsers::new(users, group)?)
    }
}

/// Serves the machine until SIGTERM. Each code that it launches has a user of its own.
pub fn serve(
    state: &Path,
    tpm: &TpmAddress,
    socket: &Path,
    accounts: Accounts,
) -> Result<(), PlatformdError> {
    let users = accounts.check()?;
    leave_other_groups()?;
    serve_as(|| Ok(heirloom_tpm::machine::bind(state, tpm.connect()?, socket, users)?))
}

/// Writes what the attestation CA needs to know.
pub fn enrol_request(state: &Path, tpm: &TpmAddress, out: &Path) -> Result<(), PlatformdError> {
    let request = enrolment::request(state, &tpm.connect()?)?;
    Ok(files::replace(out, &wire::encode(&request))?)
}

/// Answers the attestation CA's challenge.
pub fn enrol_answer(
    state: &Path,
    tpm: &TpmAddress,
    challenge: &Path,
    out: &Path,
) -> Result<(), PlatformdError> {
    let challenge: EnrolmentChallenge = files::read_value(challenge)?;
    let answer: EnrolmentAnswer = enrolment::answer(state, &tpm.connect()?, &challenge)?;
    Ok(files::replace(out, &Zeroizing::new(wire::encode(&answer)))?)
}

/// Installs the certificate of the attestation key.
pub fn enrol_install(
    state: &Path,
    tpm: &TpmAddress,
    certificates: &Path,
) -> Result<(), PlatformdError> {
    let chain: CertificateChain = files::read_value(certificates)?;
    Ok(enrolment::install(state, &tpm.connect()?, &chain)?)
}

/// An authority as JSON: what appraisal policies name.
pub fn describe_authority(authority: &HostAuthority) -> Value {
    json!({ "schema": "heirloom.tpm-authority.v1", "authority": authority.to_string() })
}

/// A machine as JSON, for scripts.
pub fn describe(record: &MachineRecord) -> Result<Value, PlatformdError> {
    Ok(json!({
        "schema": "heirloom.tpm-machine.v1",
        "host": record.host.as_str(),
        "platform": record.platform.to_string(),
        "authority": record.authority()?.id().to_string(),
    }))
}

/// A host that asks to be approved, as JSON.
pub fn describe_request(request: &HostRequest) -> Value {
    let registers: Vec<Value> = request
        .registers
        .iter()
        .map(|one| json!({ "pcr": one.index, "value": one.value.to_string() }))
        .collect();
    json!({
        "schema": "heirloom.tpm-request.v1",
        "host": request.host.as_str(),
        "platform": request.platform.to_string(),
        "counter": request.counter,
        "registers": registers,
    })
}

/// What was approved, as JSON: for people, who compare it with what the host should be.
pub fn describe_admitted(admitted: &Admitted) -> Value {
    let changed: Vec<Value> = admitted
        .changed()
        .map(|one| json!({ "pcr": one.index, "value": one.value.to_string() }))
        .collect();
    let mut described = describe_request(admitted.request());
    described["approved_counter"] = json!(admitted.counter());
    described["approved_before"] = json!(admitted.before().map(|before| before.counter));
    described["changed"] = json!(changed);
    described
}

/// What is between the lines of a file, wiped when dropped: it may be a key.
fn read_pem(path: &Path, tag: &'static str) -> Result<Zeroizing<Vec<u8>>, PlatformdError> {
    let text = files::read_text(path, KEY_BYTES_MAX)?;
    let not_pem = || PlatformdError::NotPem { path: path.to_owned(), what: tag };
    let parsed = pem::parse(text.as_bytes()).map_err(|_| not_pem())?;
    let is_it = parsed.tag() == tag;
    let contents = Zeroizing::new(parsed.into_contents());
    if is_it { Ok(contents) } else { Err(not_pem()) }
}
