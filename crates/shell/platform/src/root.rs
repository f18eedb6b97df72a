//! The development manufacturer's directory.

use std::path::Path;

use heirloom_emulated::state::{HostDirectory, RootDirectory};
use heirloom_launcher::files;
use heirloom_launcher::randomness::system_randomness;
use heirloom_model::counter::Time;
use heirloom_model::evidence::{Endorsements, TrustAnchor};
use heirloom_model::sealed::CpuSvn;
use heirloom_model::wire;

use crate::error::PlatformdError;

/// How much earlier than now a manufacturer or CA dates what it issues, since not all clocks agree.
const ISSUED_EARLIER_SECONDS: u64 = 60 * 60;

/// Founds a manufacturer.
pub fn provision(directory: &Path, now: Time) -> Result<TrustAnchor, PlatformdError> {
    let root = RootDirectory::create(directory, issued_at(now), &mut system_randomness())?;
    Ok(root.root().anchor())
}

/// Writes the manufacturer's trust anchor, encoded.
pub fn write_anchor(directory: &Path, out: &Path) -> Result<TrustAnchor, PlatformdError> {
    let anchor = RootDirectory::open(directory)?.root().anchor();
    files::replace(out, &wire::encode(&anchor))?;
    Ok(anchor)
}

/// Writes current collateral, encoded as endorsements, good for 30 days.
pub fn write_collateral(
    directory: &Path,
    out: &Path,
    now: Time,
) -> Result<Endorsements, PlatformdError> {
    let endorsements = RootDirectory::open(directory)?.root().endorsements(issued_at(now));
    files::replace(out, &wire::encode(&endorsements))?;
    Ok(endorsements)
}

/// Revokes the certificate of a machine. Collateral written from now on says so.
pub fn revoke(directory: &Path, state: &Path, now: Time) -> Result<(), PlatformdError> {
    let host = HostDirectory::open(state)?;
    Ok(RootDirectory::open(directory)?.revoke(&host.record().certificate, now)?)
}

/// Announces that machines below a CPUSVN are out of date. Collateral written from now on says so.
pub fn require(directory: &Path, cpu_svn: CpuSvn, now: Time) -> Result<(), PlatformdError> {
    Ok(RootDirectory::open(directory)?.require(cpu_svn, issued_at(now))?)
}

/// When what is issued now begins to count.
pub(crate) fn issued_at(now: Time) -> Time {
    Time(now.0.saturating_sub(ISSUED_EARLIER_SECONDS))
}
