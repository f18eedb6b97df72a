//! Named limits of sessions, with their reasons.

use std::time::Duration;

/// From the first byte to an accepted peer. A handshake takes milliseconds; a platform may need a
/// second for evidence.
pub const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// How long one read or write may wait unless the session says otherwise.
pub const PATIENCE_DEFAULT: Duration = Duration::from_secs(30);

/// Queued bytes that are sent without waiting for a flush: four full TLS records.
pub const QUEUE_BYTES_MAX: usize = 64 * 1024;

/// How many requests a side may send before it reads the first answer. Requests and answers of a
/// key have less than 400 bytes, so that 128 of them fit into the smallest buffers of a socket and
/// two sides that both write never wait for each other.
pub const PIPELINE_MAX: usize = 128;

/// Ciphertext that is read at once: two full TLS records.
pub(crate) const READ_BYTES: usize = 36 * 1024;

/// Addresses of one name that are tried.
pub(crate) const ADDRESSES_MAX: usize = 8;

/// The least time that is given to a system call, so that a deadline that is almost over does not
/// read as "wait for ever".
pub(crate) const WAIT_MIN: Duration = Duration::from_millis(1);
