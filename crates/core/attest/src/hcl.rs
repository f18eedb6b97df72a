//! What Azure's paravisor leaves in the virtual TPM of a confidential machine: the machine's own
//! report, and runtime data whose digest the report carries ("Azure confidential VM guest
//! attestation", HCL report).
//!
//! The runtime data names the attestation key of the virtual TPM. So the chip vouches for the
//! report, the report for the runtime data, and these for the key that signs quotes: no other CA is
//! needed, and the virtual TPM is as good as the paravisor that the launch digest covers.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use heirloom_model::digest::sha256;
use heirloom_model::evidence::ReportData;
use serde_json::Value;

use crate::snp::{Report, SnpClaims};
use crate::tpm::{AttestationKey, TpmError};

/// The NV index of the report has this size at most.
const REPORT_BYTES_MAX: usize = 8 * 1024;
/// `HCLA`, then version, size, type of request, status and reserved words.
const HEADER_BYTES: usize = 32;
const SIGNATURE: [u8; 4] = *b"HCLA";
/// Room for the report of any machine; a TDX report is shorter.
const HARDWARE_BYTES: usize = Report::BYTES;
const TD_REPORT_BYTES: usize = 1024;
/// Size, version, type of report, hash, and size of the runtime data.
const RUNTIME_HEADER_BYTES: usize = 20;
const TYPE_SNP: u32 = 2;
const TYPE_TDX: u32 = 4;
const HASH_SHA256: u32 = 1;
/// The name of the attestation key in the runtime data.
const ATTESTATION_KEY: &str = "HCLAkPub";
/// Keys in the runtime data: attestation key and endorsement key.
const KEYS_MAX: usize = 16;

/// Why such a report was refused. One variant per reason.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HclError {
    /// The bytes are not such a report.
    #[error("the paravisor's report is malformed: {fault}")]
    Malformed {
        /// What is wrong with them.
        fault: &'static str,
    },
    /// The report of a kind of machine that this release does not know.
    #[error("machine reports of type {found} are not supported")]
    UnsupportedMachine {
        /// In the report.
        found: u32,
    },
    /// The digest is of an algorithm that this release does not know.
    #[error("runtime data hashed by algorithm {found} are not supported")]
    UnsupportedHash {
        /// In the report.
        found: u32,
    },
    /// The verified report of the machine is another one.
    #[error("the verified report is not the one in the paravisor's report")]
    OtherReport,
    /// The report was asked for by what the paravisor runs, which can ask for any report data.
    #[error("the machine's report is of privilege level {found}, the paravisor's is of level 0")]
    PrivilegeLevel {
        /// In the report.
        found: u32,
    },
    /// The machine's report does not vouch for the runtime data.
    #[error("the machine's report is not about this runtime data")]
    RuntimeData,
    /// The runtime data does not name one attestation key.
    #[error("the runtime data names no attestation key: {fault}")]
    NoKey {
        /// Why not.
        fault: &'static str,
    },
    /// The attestation key is not usable.
    #[error("the attestation key is unusable: {error}")]
    Key {
        /// Why not.
        error: TpmError,
    },
}

impl HclError {
    /// Its stable code.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "malformed-paravisor-report",
            Self::UnsupportedMachine { .. } => "unsupported-machine-report",
            Self::UnsupportedHash { .. } => "unsupported-hash",
            Self::OtherReport => "other-report",
            Self::PrivilegeLevel { .. } => "paravisor-privilege",
            Self::RuntimeData => "runtime-data",
            Self::NoKey { .. } => "missing-attestation-key",
            Self::Key { error } => error.reason(),
        }
    }
}

/// A paravisor's report, taken apart. Nothing in it is verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HclReport<'a> {
    hardware: Hardware<'a>,
    runtime: &'a [u8],
}

/// The report of the machine itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Hardware<'a> {
    /// An SEV-SNP report.
    Snp(&'a [u8]),
    /// A TD report. It is made for one machine and proves nothing elsewhere before a quoting
    /// enclave has signed it.
    Tdx(&'a [u8]),
}

impl<'a> HclReport<'a> {
    /// Takes a report apart. The NV index may be longer than what is in it, by zeros.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, HclError> {
        if bytes.len() > REPORT_BYTES_MAX {
            return Err(malformed("it is too long"));
        }
        let mut rest = bytes;
        let header = take(&mut rest, HEADER_BYTES)?;
        if !header.starts_with(&SIGNATURE) {
            return Err(malformed("it does not begin with HCLA"));
        }
        let room = take(&mut rest, HARDWARE_BYTES)?;
        let mut runtime_header = take(&mut rest, RUNTIME_HEADER_BYTES)?;
        let _size = number(&mut runtime_header)?;
        let _version = number(&mut runtime_header)?;
        let kind = number(&mut runtime_header)?;
        let hash = number(&mut runtime_header)?;
        let length = number(&mut runtime_header)?;
        let length = usize::try_from(length).map_err(|_| malformed("a length is too large"))?;
        let runtime = take(&mut rest, length)?;
        if rest.iter().any(|byte| *byte != 0) {
            return Err(malformed("bytes follow the runtime data"));
        }
        if hash != HASH_SHA256 {
            return Err(HclError::UnsupportedHash { found: hash });
        }
        let hardware = match kind {
            TYPE_SNP => Hardware::Snp(room),
            TYPE_TDX => Hardware::Tdx(room.split_at(TD_REPORT_BYTES).0),
            found => return Err(HclError::UnsupportedMachine { found }),
        };
        Ok(Self { hardware, runtime })
    }

    /// The report of the machine itself.
    pub fn hardware(&self) -> Hardware<'a> {
        self.hardware
    }

    /// The runtime data: JSON.
    pub fn runtime(&self) -> &'a [u8] {
        self.runtime
    }
}

/// An attestation key of a virtual TPM for which the machine's verified report vouches.
///
/// Only [`bind`] makes one.
///
/// ```compile_fail
/// let forged = heirloom_attest::hcl::BoundKey {};
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BoundKey {
    key: AttestationKey,
}

impl BoundKey {
    /// The key.
    pub fn key(&self) -> &AttestationKey {
        &self.key
    }
}

/// Binds the attestation key in the runtime data to the machine's verified report.
///
/// Only the paravisor runs at level 0. Whatever a policy accepts, a report of another level was
/// asked for by the guest itself, which could name a key of its own in it.
pub fn bind(report: &HclReport<'_>, claims: &SnpClaims) -> Result<BoundKey, HclError> {
    if report.hardware != Hardware::Snp(claims.report().bytes()) {
        return Err(HclError::OtherReport);
    }
    let found = claims.report().vmpl();
    if found != 0 {
        return Err(HclError::PrivilegeLevel { found });
    }
    if !vouches(&claims.report().report_data(), report.runtime) {
        return Err(HclError::RuntimeData);
    }
    attestation_key(report.runtime).map(|key| BoundKey { key })
}

/// Whether report data is the digest of runtime data, and nothing else.
fn vouches(report_data: &ReportData, runtime: &[u8]) -> bool {
    let mut expected = [0; 64];
    expected.iter_mut().zip(sha256(&[runtime])).for_each(|(to, from)| *to = from);
    *report_data.as_bytes() == expected
}

/// The one RSA key of that name (RFC 7517).
fn attestation_key(runtime: &[u8]) -> Result<AttestationKey, HclError> {
    let no_key = |fault| HclError::NoKey { fault };
    let json: Value = serde_json::from_slice(runtime).map_err(|_| no_key("it is not JSON"))?;
    let keys = json.get("keys").and_then(Value::as_array).ok_or(no_key("it has no keys"))?;
    if keys.len() > KEYS_MAX {
        return Err(no_key("it has too many keys"));
    }
    let text = |key: &Value, name: &str| key.get(name).and_then(Value::as_str).map(str::to_owned);
    let mut named = keys.iter().filter(|key| text(key, "kid").as_deref() == Some(ATTESTATION_KEY));
    let (Some(key), None) = (named.next(), named.next()) else {
        return Err(no_key("there is not exactly one"));
    };
    // 65537 (RFC 7518 §6.3.1.2).
    if text(key, "kty").as_deref() != Some("RSA") || text(key, "e").as_deref() != Some("AQAB") {
        return Err(no_key("it is not an RSA key with the exponent 65537"));
    }
    let modulus = text(key, "n").and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    AttestationKey::from_modulus(&modulus.ok_or(no_key("the modulus is malformed"))?)
        .map_err(|error| HclError::Key { error })
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], HclError> {
    let (head, tail) = rest.split_at_checked(count).ok_or(malformed("it is truncated"))?;
    *rest = tail;
    Ok(head)
}

fn number(rest: &mut &[u8]) -> Result<u32, HclError> {
    let (head, tail) = rest.split_first_chunk().ok_or(malformed("it is truncated"))?;
    *rest = tail;
    Ok(u32::from_le_bytes(*head))
}

fn malformed(fault: &'static str) -> HclError {
    HclError::Malformed { fault }
}
