//! Keeping what this process knows to itself: secrets of machines, and keys of those who approve
//! and certify.

use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};

use crate::error::PlatformdError;

/// From now on nobody but root reads this process by a debugger or under `/proc`, and it leaves no
/// core dump. Before anything secret is read.
pub fn seclude() -> Result<(), PlatformdError> {
    set_dumpable(false).map_err(PlatformdError::Seclusion)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(PlatformdError::Seclusion)
}
