//! The emulated CPU: EGETKEY and EREPORT over fuse keys that enclaves cannot read.
//!
//! Every key is AES-CMAC under the fuse key over the key's dependencies, in the order of the SDM's
//! key derivation table (volume 3D, 38.16 and EGETKEY). The bytes differ from Intel's, which are
//! not published; what depends on what does not.

use aes::Aes128;
use cmac::{Cmac, KeyInit, Mac};
use heirloom_launcher::secret_memory::MachineMemory;
use heirloom_model::evidence::ReportData;
use heirloom_model::sealed::{CpuSvn, SealPolicy, SgxSealRecipe};
use heirloom_model::secret::Secret;
use zeroize::Zeroize;

use crate::ecdsa::{EcdsaKey, derive};
use heirloom_launcher::report::{
    FLAG_DEBUG, FLAG_INIT, Report, ReportBody, Secs, TargetInfo, take,
};

/// The fuses of one CPU: 16 bytes that derive enclave keys, 32 that identify it to its
/// manufacturer.
pub const FUSE_BYTES: usize = 48;

/// The secrets that are burnt into one CPU.
pub struct FuseKeys(Box<dyn MachineMemory<FUSE_BYTES>>);

impl FuseKeys {
    /// Takes over fuses in whatever memory keeps them.
    pub fn new(memory: Box<dyn MachineMemory<FUSE_BYTES>>) -> Self {
        Self(memory)
    }

    /// The fuses of a simulated machine.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let mut fuses = [0; FUSE_BYTES];
        let (sealing, provisioning) = fuses.split_at_mut(16);
        let half: [u8; 16] = take(&derive(seed, "sealing fuses", &[]), 0);
        sealing.copy_from_slice(&half);
        provisioning.copy_from_slice(&derive(seed, "provisioning fuses", &[]));
        Self(Box::new(Secret::new(fuses)))
    }

    /// Platform provisioning identifier: names the CPU to its manufacturer.
    pub fn ppid(&self) -> [u8; 16] {
        let digest = self.provisioning(|secret| derive(secret, "ppid", &[]));
        take(&digest, 0)
    }

    /// The key that the manufacturer certifies for the quoting enclave.
    pub(crate) fn pck(&self) -> EcdsaKey {
        self.provisioning(|secret| EcdsaKey::derive(secret, "provisioning certification key"))
    }

    /// The public half of the key that the manufacturer certifies.
    pub fn pck_public(&self) -> [u8; 64] {
        self.pck().public_raw()
    }

    /// The key that signs quotes.
    pub(crate) fn attestation_key(&self) -> EcdsaKey {
        self.provisioning(|secret| EcdsaKey::derive(secret, "attestation key"))
    }

    fn provisioning<R>(&self, use_secret: impl FnOnce(&[u8; 32]) -> R) -> R {
        self.lend(|fuses| {
            let mut secret = take::<32>(fuses, 16);
            let result = use_secret(&secret);
            secret.zeroize();
            result
        })
    }

    fn cmac(&self, message: &[u8]) -> Secret<16> {
        self.lend(|fuses| {
            let mut key = take::<16>(fuses, 0);
            let made = cmac(&key, message);
            key.zeroize();
            Secret::new(made)
        })
    }

    fn lend<R>(&self, use_fuses: impl FnOnce(&[u8; FUSE_BYTES]) -> R) -> R {
        let mut once = Some(use_fuses);
        let mut result = None;
        self.0.lend(&mut |fuses| {
            if let Some(use_fuses) = once.take() {
                result = Some(use_fuses(fuses));
            }
        });
        result.expect("fuse memory lends its content")
    }
}

/// One CPU at one security version.
pub struct Cpu {
    fuses: FuseKeys,
    svn: CpuSvn,
    owner_epoch: [u8; 16],
}

/// Why EGETKEY gave no key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// `SGX_INVALID_ISVSVN`.
    #[error("the request's ISVSVN {asked} is above the enclave's own {own}")]
    InvalidIsvSvn {
        /// In the request.
        asked: u16,
        /// Of the enclave.
        own: u16,
    },
    /// `SGX_INVALID_CPUSVN`.
    #[error("the request's CPUSVN {asked} is above the CPU's {own}")]
    InvalidCpuSvn {
        /// In the request.
        asked: CpuSvn,
        /// Of the CPU.
        own: CpuSvn,
    },
    /// The recipe is for another kind of platform.
    #[error("the recipe is for another kind of platform")]
    OtherRecipe,
}

/// The report does not come from an enclave on this CPU, or is not addressed to this enclave.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the report was not made on this CPU for this enclave")]
pub struct ForeignReport;

/// The CPUSVN cannot grow any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the first component of the CPUSVN is at its end")]
pub struct CpuSvnExhausted;

/// What a report says, after its MAC was checked. Only [`Cpu::verify_report`] makes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VerifiedReport {
    body: ReportBody,
}

impl VerifiedReport {
    /// What it says.
    pub fn body(&self) -> &ReportBody {
        &self.body
    }
}

/// KEYNAME in a key request (SDM volume 3D, 37.18.1).
const KEYNAME_REPORT: u16 = 3;
const KEYNAME_SEAL: u16 = 4;
/// Attributes that every seal key depends on, whatever the request's mask says (EGETKEY).
const FLAGS_ALWAYS: u64 = FLAG_INIT | FLAG_DEBUG;

impl Cpu {
    /// A CPU whose owner never changed its owner epoch.
    pub fn new(fuses: FuseKeys, cpu_svn: CpuSvn) -> Self {
        Self { fuses, svn: cpu_svn, owner_epoch: [0; 16] }
    }

    /// EGETKEY with KEYNAME = SEAL.
    pub fn seal_key(&self, secs: &Secs, recipe: &SgxSealRecipe) -> Result<Secret<16>, KeyError> {
        if recipe.isv_svn > secs.isv_svn {
            return Err(KeyError::InvalidIsvSvn { asked: recipe.isv_svn, own: secs.isv_svn });
        }
        if !not_above(&recipe.cpu_svn, &self.svn) {
            return Err(KeyError::InvalidCpuSvn { asked: recipe.cpu_svn, own: self.svn });
        }
        let (measurement, signer, policy) = match recipe.policy {
            SealPolicy::Measurement => (*secs.measurement.as_bytes(), [0; 32], 1_u16),
            SealPolicy::Signer => ([0; 32], *secs.signer.as_bytes(), 2),
        };
        let flags = secs.attributes.flags & (recipe.flags_mask | FLAGS_ALWAYS);
        Ok(self.fuses.cmac(
            &[
                &KEYNAME_SEAL.to_le_bytes()[..],
                &policy.to_le_bytes(),
                &self.owner_epoch,
                &recipe.isv_svn.to_le_bytes(),
                recipe.cpu_svn.as_bytes(),
                &secs.product_id.to_le_bytes(),
                &flags.to_le_bytes(),
                &(recipe.flags_mask | FLAGS_ALWAYS).to_le_bytes(),
                &(secs.attributes.xfrm & recipe.xfrm_mask).to_le_bytes(),
                &(secs.misc_select & recipe.misc_mask).to_le_bytes(),
                &measurement,
                &signer,
                recipe.key_id.as_bytes(),
            ]
            .concat(),
        ))
    }

    /// EGETKEY with KEYNAME = REPORT: the key with which `target` checks reports addressed to it.
    pub fn report_key(&self, target: &TargetInfo, key_id: &[u8; 32]) -> Secret<16> {
        self.fuses.cmac(
            &[
                &KEYNAME_REPORT.to_le_bytes()[..],
                &self.owner_epoch,
                self.svn.as_bytes(),
                &target.attributes.flags.to_le_bytes(),
                &target.attributes.xfrm.to_le_bytes(),
                &target.misc_select.to_le_bytes(),
                target.measurement.as_bytes(),
                key_id,
            ]
            .concat(),
        )
    }

    /// EREPORT: says to `target` who `secs` is.
    pub fn report(&self, secs: &Secs, target: &TargetInfo, report_data: &ReportData) -> Report {
        let body = ReportBody::new(secs, self.svn, report_data);
        // KEYID separates boots of a real CPU. This one does not reboot.
        let key_id = [0; 32];
        let mac = self.report_key(target, &key_id).expose(|key| cmac(key, body.as_bytes()));
        Report { body, key_id, mac }
    }

    /// What the enclave `secs` finds out about a report with its report key.
    pub fn verify_report(
        &self,
        secs: &Secs,
        report: &Report,
    ) -> Result<VerifiedReport, ForeignReport> {
        let key = self.report_key(&secs.target_info(), &report.key_id);
        let expected = key.expose(|key| cmac(key, report.body.as_bytes()));
        if subtle::ConstantTimeEq::ct_eq(&expected[..], &report.mac[..]).into() {
            return Ok(VerifiedReport { body: report.body });
        }
        Err(ForeignReport)
    }

    /// Loads the next microcode: the CPUSVN grows in its first component.
    pub fn update_microcode(&mut self) -> Result<CpuSvn, CpuSvnExhausted> {
        self.svn = next_cpu_svn(&self.svn).ok_or(CpuSvnExhausted)?;
        Ok(self.svn)
    }

    /// Where the CPU stands.
    pub fn cpu_svn(&self) -> CpuSvn {
        self.svn
    }

    /// The secrets, for the code that the manufacturer put into the machine.
    pub fn fuses(&self) -> &FuseKeys {
        &self.fuses
    }
}

/// The CPUSVN after one more microcode update.
pub fn next_cpu_svn(cpu_svn: &CpuSvn) -> Option<CpuSvn> {
    let mut bytes = *cpu_svn.as_bytes();
    let first = bytes.first_mut()?;
    *first = first.checked_add(1)?;
    Some(CpuSvn::new(bytes))
}

/// Whether no component of `asked` is above that of `own`.
fn not_above(asked: &CpuSvn, own: &CpuSvn) -> bool {
    asked.as_bytes().iter().zip(own.as_bytes()).all(|(asked, own)| asked <= own)
}

fn cmac(key: &[u8; 16], message: &[u8]) -> [u8; 16] {
    let mut mac = Cmac::<Aes128>::new_from_slice(key).expect("AES-128 keys have 16 bytes");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
