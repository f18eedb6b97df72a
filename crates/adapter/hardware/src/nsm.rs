//! Nitro: the security module of an enclave, `/dev/nsm`.
//!
//! The hypervisor answers; the parent instance neither sees nor changes what it says. An enclave
//! has no key of its own: nothing can be sealed, and a keyring lives as long as the enclave.

mod message;

use heirloom_attest::nitro::Document;
use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_model::digest::Nonce;
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::identifier::PlatformId;
use heirloom_model::measurement::{ImageMeasurement, Measurement, MrSigner, Register48};
use heirloom_model::sealed::{CpuSvn, SealRecipe};
use heirloom_model::secret::Secret;
use zeroize::Zeroize as _;

pub use self::message::Description;
use self::message::MessageError;
use crate::derive;
use crate::limit::{NSM_RANDOM_QUESTIONS_MAX, NSM_RESPONSE_BYTES_MAX};

/// The device that passes requests to the security module.
pub trait NsmDevice: Send + Sync {
    /// Passes one request on, in CBOR, and returns the answer.
    fn transact(&self, request: &[u8]) -> Result<Vec<u8>, PlatformError>;
}

/// The enclave that this process runs in.
pub struct Nsm {
    device: Box<dyn NsmDevice>,
    description: Description,
}

/// The one version of the interface that is known.
const VERSION: u16 = 1;
/// The one bank of registers that is known.
const DIGEST: &str = "SHA384";

impl Nsm {
    /// The enclave of this process.
    pub fn open(device: Box<dyn NsmDevice>) -> Result<Self, PlatformError> {
        let answer = transact(&*device, &message::describe())?;
        let description = message::description(&answer)?;
        if description.version_major != VERSION {
            return Err(PlatformError::Unsupported(
                "another version of the security module than 1",
            ));
        }
        if description.digest != DIGEST {
            return Err(PlatformError::Unsupported("another digest than SHA-384"));
        }
        Ok(Self { device, description })
    }

    /// What the module says about itself.
    pub fn description(&self) -> &Description {
        &self.description
    }

    fn register(&self, index: u16) -> Result<Register48, PlatformError> {
        let answer = transact(&*self.device, &message::describe_register(index))?;
        Ok(message::register(&answer)?)
    }

    /// Random bytes of the module, as many as it gives at once.
    fn some_random(&self) -> Result<Vec<u8>, PlatformError> {
        let answer = transact(&*self.device, &message::random_question())?;
        let random = message::random(&answer)?;
        if random.is_empty() {
            return Err(corrupt("it gave no random bytes"));
        }
        Ok(random)
    }
}

fn transact(device: &dyn NsmDevice, request: &[u8]) -> Result<Vec<u8>, PlatformError> {
    let answer = device.transact(request)?;
    if answer.len() > NSM_RESPONSE_BYTES_MAX {
        return Err(corrupt("its answer is longer than answers are"));
    }
    Ok(answer)
}

fn corrupt(what: &str) -> PlatformError {
    PlatformError::Corrupt(format!("security module: {what}"))
}

impl From<MessageError> for PlatformError {
    fn from(error: MessageError) -> Self {
        match error {
            // The module's own failure, which says nothing about the request.
            MessageError::Refused { ref code } if code == "InternalError" => {
                Self::Unreachable(format!("security module: {error}"))
            }
            _ => corrupt(&error.to_string()),
        }
    }
}

/// What enclaves do not have.
const NO_SEALING: &str =
    "sealing: a Nitro enclave has no key of its own; take the keyring from another holder";
const NO_LOCAL_REPORTS: &str = "local reports between Nitro enclaves";

impl Platform for Nsm {
    /// Registers 0 to 2 are the code. Enclaves in debug mode have zeros there.
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        let registers = [self.register(0)?, self.register(1)?, self.register(2)?];
        let is_zero = |register: &Register48| register.as_bytes().iter().all(|byte| *byte == 0);
        let module = &self.description.module_id;
        let instance = module.split_once("-enc").map_or(module.as_str(), |(instance, _)| instance);
        Ok(PlatformIdentity {
            measurement: Measurement::Nitro(ImageMeasurement::of(&registers)),
            signer: MrSigner::new([0; MrSigner::BYTES]),
            product_id: 0,
            isv_svn: 0,
            cpu_svn: CpuSvn::new([0; CpuSvn::BYTES]),
            debug: registers.iter().any(is_zero),
            platform: PlatformId::of_module(instance),
        })
    }

    fn sealing(&self) -> Result<Sealing, PlatformError> {
        Ok(Sealing::None)
    }

    fn seal_recipe(&self, _: Nonce) -> Result<SealRecipe, PlatformError> {
        Err(PlatformError::Unsupported(NO_SEALING))
    }

    fn seal_key(&self, _: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        Err(PlatformError::Unsupported(NO_SEALING))
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        let request = message::attestation(report_data.as_bytes());
        let document = message::document(&transact(&*self.device, &request)?)?;
        let parsed = Document::parse(&document).map_err(|error| corrupt(&error.to_string()))?;
        if parsed.user_data() != Some(report_data.as_bytes().as_slice()) {
            return Err(corrupt("its document answers another question"));
        }
        Ok(Evidence::Nitro(document))
    }

    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        Err(PlatformError::Unsupported(NO_LOCAL_REPORTS))
    }

    fn report(&self, _: &ReportTarget, _: &ReportData) -> Result<LocalReport, PlatformError> {
        Err(PlatformError::Unsupported(NO_LOCAL_REPORTS))
    }

    fn verify_report(&self, _: &LocalReport) -> Result<(), PlatformError> {
        Err(PlatformError::Unsupported(NO_LOCAL_REPORTS))
    }

    /// The system's bytes and the module's, combined: an enclave starts without any history that
    /// its kernel could have collected randomness from.
    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        derive::system_random(bytes)?;
        let mut rest = bytes;
        for _ in 0..NSM_RANDOM_QUESTIONS_MAX {
            if rest.is_empty() {
                return Ok(());
            }
            let mut random = self.some_random()?;
            let (now, later) = rest.split_at_mut(random.len().min(rest.len()));
            now.iter_mut().zip(&random).for_each(|(to, from)| *to ^= from);
            random.zeroize();
            rest = later;
        }
        if rest.is_empty() { Ok(()) } else { Err(corrupt("it gives too few random bytes")) }
    }
}
