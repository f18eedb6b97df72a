//! Seal keys that only what was read at the start has.
//!
//! Our launcher measures a manifest with the code. Nobody here can check that whoever built an
//! enclave or an image did: the file may lie where a host can replace it. So what the manifest
//! says goes into every seal key, too. The same code that was given a manifest of another network
//! opens nothing that it sealed for this one, and is as good as a new machine to both.

use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity, Sealing};
use heirloom_model::context;
use heirloom_model::digest::{CounterName, Nonce, sha256};
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::sealed::SealRecipe;
use heirloom_model::secret::Secret;

use crate::derive;

/// A platform as code sees it that read exactly these bytes at its start.
pub struct Bound {
    platform: Box<dyn Platform + Send + Sync>,
    read: Nonce,
}

impl Bound {
    /// Binds the seal keys of a platform to these bytes.
    pub fn to(platform: Box<dyn Platform + Send + Sync>, bytes: &[u8]) -> Self {
        Self { platform, read: Nonce::new(sha256(&[bytes])) }
    }
}

impl Platform for Bound {
    fn identity(&self) -> Result<PlatformIdentity, PlatformError> {
        self.platform.identity()
    }

    fn sealing(&self) -> Result<Sealing, PlatformError> {
        self.platform.sealing()
    }

    fn seal_recipe(&self, key_id: Nonce) -> Result<SealRecipe, PlatformError> {
        self.platform.seal_recipe(key_id)
    }

    fn seal_key(&self, recipe: &SealRecipe) -> Result<Secret<16>, PlatformError> {
        let key = self.platform.seal_key(recipe)?;
        Ok(key.expose(|key| derive::seal_key(key, context::MANIFEST_SEAL, &self.read)))
    }

    fn evidence(&self, report_data: &ReportData) -> Result<Evidence, PlatformError> {
        self.platform.evidence(report_data)
    }

    fn report_target(&self) -> Result<ReportTarget, PlatformError> {
        self.platform.report_target()
    }

    fn report(
        &self,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, PlatformError> {
        self.platform.report(target, report_data)
    }

    fn verify_report(&self, report: &LocalReport) -> Result<(), PlatformError> {
        self.platform.verify_report(report)
    }

    fn counter(&self, name: &CounterName) -> Result<u64, PlatformError> {
        self.platform.counter(name)
    }

    fn raise(&self, name: &CounterName, to: u64) -> Result<(), PlatformError> {
        self.platform.raise(name, to)
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), PlatformError> {
        self.platform.random(bytes)
    }
}
