//! Releases.

use heirloom_model::envelope::Envelope;
use heirloom_model::limit::{ARTIFACT_BYTES_MAX, ARTIFACTS_MAX, RELEASE_BYTES_MAX};
use heirloom_model::measurement::Measurement;
use heirloom_model::release::Release;
use heirloom_model::root::Role;

use super::{Change, not_expired, same_network};
use crate::network::NetworkState;
use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, not_empty, require};
use crate::verified::{Verified, verify};

/// Releases that one network remembers: one a day for a quarter of a century.
pub(crate) const RELEASES_MAX: usize = 10_000;
/// Measurements of one release: one per kind of platform.
const MEASUREMENTS_MAX: usize = 16;

pub(crate) fn examine(state: &NetworkState, envelope: &Envelope) -> Result<Change, Refusal> {
    let release: Verified<Release> = verify(envelope, &[state.quorum(Role::Release)?])?;
    same_network(state, release.network)?;
    not_expired(state, "release", release.not_after)?;
    not_empty("release.measurements", &release.measurements)?;
    ascending("release.measurements", &release.measurements, MEASUREMENTS_MAX, |found| *found)?;
    let zero = release.measurements.iter().any(Measurement::is_zero);
    require(!zero, "release.measurements", Fault::Zero)?;
    not_empty("release.artifacts", &release.artifacts)?;
    ascending("release.artifacts", &release.artifacts, ARTIFACTS_MAX, |file| file.name.clone())?;
    // Agents keep so much room for what they download.
    let fits = release.artifacts.iter().all(|file| file.size <= ARTIFACT_BYTES_MAX);
    require(fits, "release.artifacts.size", Fault::OutOfRange)?;
    require(release.bytes() <= RELEASE_BYTES_MAX, "release.artifacts", Fault::OutOfRange)?;
    if state.releases.values().any(|known| known.name == release.name) {
        return Err(Refusal::NameTaken { name: release.name.clone() });
    }
    if state.releases.len() >= RELEASES_MAX {
        return Err(Refusal::Limit { what: "releases", limit: RELEASES_MAX });
    }
    Ok(Change::Release(release))
}
