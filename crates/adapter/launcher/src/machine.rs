//! What the launcher needs from the machine below it.

use heirloom_keeper::port::{PlatformIdentity, Sealing};
use heirloom_model::digest::{CounterName, Nonce};
use heirloom_model::evidence::{Evidence, LocalReport, ReportData, ReportTarget};
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::sealed::{CpuSvn, SealRecipe};
use heirloom_model::secret::Secret;

use crate::protocol::{HostInfo, Lack, Refusal};
use crate::report::Secs;

/// One machine, seen from its launcher.
///
/// The launcher says who asks: a process that it measured, launched, and recognised at this very
/// request. The machine believes it. What a machine does not have it refuses as
/// [`Refusal::Unsupported`].
pub trait Machine: Send + Sync {
    /// What kind of measurement the launcher's digest of a bundle is here. The same bundle has
    /// another one on another kind of machine, so that a policy that names one admits no other.
    fn measurement(&self, code: MrEnclave) -> Measurement;

    /// Who some code on this machine is.
    fn identity(&self, secs: &Secs) -> Result<PlatformIdentity, Refusal>;

    /// What sealing on this machine survives.
    fn sealing(&self) -> Sealing;

    /// With what some code seals now.
    fn seal_recipe(&self, secs: &Secs, key_id: Nonce) -> Result<SealRecipe, Refusal>;

    /// The seal key of a recipe for some code.
    fn seal_key(&self, secs: &Secs, recipe: &SealRecipe) -> Result<Secret<16>, Refusal>;

    /// Evidence about some code.
    fn evidence(&self, secs: &Secs, report_data: &ReportData) -> Result<Evidence, Refusal>;

    /// A report of some code for other code on this machine.
    fn report(
        &self,
        secs: &Secs,
        target: &ReportTarget,
        report_data: &ReportData,
    ) -> Result<LocalReport, Refusal>;

    /// Checks that a report was made on this machine for some code.
    fn verify_report(&self, secs: &Secs, report: &LocalReport) -> Result<(), Refusal>;

    /// Where reports to some code go.
    fn report_target(&self, secs: &Secs) -> Result<ReportTarget, Refusal> {
        Ok(secs.target_info().to_bytes())
    }

    /// Where a counter stands that only this code on this machine can raise; nobody can lower it.
    fn counter(&self, _secs: &Secs, _name: &CounterName) -> Result<u64, Refusal> {
        Err(Refusal::Unsupported(Lack::Counter))
    }

    /// Raises such a counter. It stands there durably when this returns. A counter that stands
    /// there or higher stays as it is.
    fn raise(&self, _secs: &Secs, _name: &CounterName, _to: u64) -> Result<(), Refusal> {
        Err(Refusal::Unsupported(Lack::Counter))
    }

    /// About the machine.
    fn host_info(&self) -> Result<HostInfo, Refusal>;

    /// Loads the next microcode; says where the machine stands now.
    fn update_microcode(&self) -> Result<CpuSvn, Refusal> {
        Err(Refusal::Unsupported(Lack::Microcode))
    }
}
