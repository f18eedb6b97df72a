//! How much a mirror may send, and how slowly.

use std::time::Duration;

pub use heirloom_model::limit::ARTIFACT_BYTES_MAX;

/// Mirrors of one release. Each is tried once for each file.
pub const MIRRORS_MAX: usize = 16;
/// How often one mirror is asked to go on with one file after its connection was cut. Each time
/// it must have sent something.
pub const RESUMES_MAX: u32 = 8;
/// Files that were set aside because they were corrupt, for each file of a release. The oldest
/// makes room: nothing but their damage is of interest.
pub const CORRUPT_MAX: u32 = 3;
/// The largest file of certificate authorities: what distributions ship has 250 kB.
pub const AUTHORITIES_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The header of an answer: a file server needs some hundred bytes.
pub(crate) const HEADER_BYTES_MAX: usize = 16 * 1024;
/// What is read at once.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// How long a mirror is waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until the next byte of an answer or a file.
    pub silence: Duration,
    /// The time in which at least `window_bytes` must arrive.
    pub window: Duration,
    /// What must arrive in each window.
    pub window_bytes: u64,
    /// For one file from one mirror, however fast.
    pub file: Duration,
}

impl Default for Patience {
    /// For operators with a slow line: 2 kB in a second, and the largest file within a day.
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            window: Duration::from_secs(30),
            window_bytes: 64 * 1024,
            file: Duration::from_hours(24),
        }
    }
}
