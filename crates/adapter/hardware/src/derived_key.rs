//! What SEV-SNP seals with: keys that the firmware derives for a guest (AMD 56860, `MSG_KEY_REQ`).
//!
//! **To exactly this measurement.** The mask has every field that the message version knows,
//! MEASUREMENT among them. Without it a newer image could derive the keys of an older one, which
//! only means something if a signed identity block protects family, image and version; hosts fill
//! these in as they like otherwise. It would also make whoever signs identity blocks a silent
//! holder of every key. So keepers seal as on SGX, and other code gets keys by being handed them.
//!
//! Guest version and firmware version go in as recorded, and the firmware gives the keys of lower
//! ones: what was sealed before an update of the firmware opens after it.
//!
//! The root is the chip's key. With a VLEK, keys are still rooted in the chip, but reports do not
//! name it: a file that was moved to another machine is told apart only by not opening.

use heirloom_attest::snp::Report;
use heirloom_keeper::port::PlatformError;
use heirloom_model::context;
use heirloom_model::digest::Nonce;
use heirloom_model::sealed::{CpuSvn, SnpSealRecipe};
use heirloom_model::secret::Secret;
use zeroize::Zeroizing;

use crate::derive;

/// Bytes of `struct snp_derived_key_req`.
pub const DERIVED_KEY_REQUEST_BYTES: usize = 32;
/// Bytes of `struct snp_derived_key_resp`.
pub const DERIVED_KEY_RESPONSE_BYTES: usize = 64;

/// The device that passes requests for derived keys to the firmware.
pub trait GuestDevice: Send + Sync {
    /// Passes one request on. What comes back is the firmware's message, status and key.
    fn derived_key(
        &self,
        message_version: u8,
        request: &[u8; DERIVED_KEY_REQUEST_BYTES],
    ) -> Result<Zeroizing<[u8; DERIVED_KEY_RESPONSE_BYTES]>, PlatformError>;
}

/// The version of the message whose meaning [`FIELDS`] has. Version 2 has a field more, and a
/// default that changed between versions would be another key.
const MESSAGE_VERSION: u8 = 1;
/// The chip's key as root. The other root belongs to a migration agent.
const ROOT_CHIP: u32 = 0;
/// `GUEST_FIELD_SELECT`: policy, image, family, measurement, guest version, firmware version.
const FIELDS: u64 = 0b11_1111;

/// What to seal with now.
pub(crate) fn recipe(report: Report<'_>, key_id: Nonce) -> SnpSealRecipe {
    SnpSealRecipe {
        message_version: u32::from(MESSAGE_VERSION),
        root: ROOT_CHIP,
        fields: FIELDS,
        vmpl: report.vmpl(),
        guest_svn: report.guest_svn(),
        tcb: u64::from_le_bytes(report.committed_tcb()),
        key_id,
    }
}

/// The seal key of a recipe, for the guest that `report` is about.
pub(crate) fn seal_key(
    device: &dyn GuestDevice,
    report: Report<'_>,
    recipe: &SnpSealRecipe,
) -> Result<Secret<16>, PlatformError> {
    refuse_foreign(recipe)?;
    refuse_higher(report, recipe)?;
    let response = device.derived_key(MESSAGE_VERSION, &request(recipe))?;
    let (status, rest) = response.split_first_chunk::<4>().expect("a response is longer");
    let status = u32::from_le_bytes(*status);
    if status != 0 {
        return Err(PlatformError::Corrupt(format!(
            "the firmware gave no key for a recipe that it should know (status {status:#x})"
        )));
    }
    // Status, then 28 reserved bytes, then the key.
    let (_, key) = rest.split_at(28);
    if key.iter().all(|byte| *byte == 0) {
        return Err(PlatformError::Corrupt("the firmware gave a key of zeros".to_owned()));
    }
    Ok(derive::seal_key(key, context::SNP_SEAL, &recipe.key_id))
}

/// Security version of the machine, in the room that all platforms have for theirs.
pub(crate) fn cpu_svn(tcb: [u8; 8]) -> CpuSvn {
    let mut bytes = [0; CpuSvn::BYTES];
    bytes.iter_mut().zip(tcb).for_each(|(to, from)| *to = from);
    CpuSvn::new(bytes)
}

/// Recipes that this code never made are not asked for: others could have the same key.
fn refuse_foreign(recipe: &SnpSealRecipe) -> Result<(), PlatformError> {
    if recipe.message_version != u32::from(MESSAGE_VERSION) {
        return Err(PlatformError::Unsupported("a key request of another message version than 1"));
    }
    if recipe.root != ROOT_CHIP {
        return Err(PlatformError::Unsupported("a key that a migration agent also has"));
    }
    if recipe.fields != FIELDS {
        return Err(PlatformError::Unsupported("a key that other code could derive too"));
    }
    Ok(())
}

/// The firmware would refuse these too, without saying which.
fn refuse_higher(report: Report<'_>, recipe: &SnpSealRecipe) -> Result<(), PlatformError> {
    if recipe.guest_svn > report.guest_svn() {
        let short = |svn: u32| u16::try_from(svn).unwrap_or(u16::MAX);
        let (asked, own) = (short(recipe.guest_svn), short(report.guest_svn()));
        return Err(PlatformError::IsvSvnTooHigh { asked, own });
    }
    let (asked, own) = (recipe.tcb.to_le_bytes(), report.committed_tcb());
    if asked.iter().zip(own).any(|(asked, own)| *asked > own) {
        let (asked, own) = (cpu_svn(asked), cpu_svn(own));
        return Err(PlatformError::CpuSvnTooHigh { asked, own });
    }
    if recipe.vmpl < report.vmpl() {
        return Err(PlatformError::OtherCircumstances(format!(
            "it was sealed at privilege level {}, and the guest runs at {} now",
            recipe.vmpl,
            report.vmpl()
        )));
    }
    Ok(())
}

/// `struct snp_derived_key_req`: root, reserved, fields, privilege level, guest version, firmware
/// version.
fn request(recipe: &SnpSealRecipe) -> [u8; DERIVED_KEY_REQUEST_BYTES] {
    let mut request = [0; DERIVED_KEY_REQUEST_BYTES];
    let fields = [
        &recipe.root.to_le_bytes()[..],
        &[0; 4],
        &recipe.fields.to_le_bytes(),
        &recipe.vmpl.to_le_bytes(),
        &recipe.guest_svn.to_le_bytes(),
        &recipe.tcb.to_le_bytes(),
    ]
    .concat();
    request.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    request
}
