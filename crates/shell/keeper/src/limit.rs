//! Named limits of a keeper's process, with their reasons.

use std::time::Duration;

/// Sessions at the same time, one thread each. Beyond them a caller is turned away at once: it
/// has other keepers to ask.
pub const SESSIONS_MAX: usize = 512;
/// Connections of agents at the same time. There is one agent; tools look now and then.
pub const ADMIN_CONNECTIONS_MAX: usize = 16;
/// How long a session may be silent between two requests. Applications keep sessions open.
pub const SESSION_IDLE_MAX: Duration = Duration::from_mins(5);
/// How long an agent may be silent between two requests.
pub const ADMIN_IDLE_MAX: Duration = Duration::from_mins(5);
/// How long a source may take to be reached, or to answer once. Then the next one is asked.
pub const SOURCE_TIME_MAX: Duration = Duration::from_secs(10);
/// Sources that one request names.
pub const SOURCES_MAX: usize = 64;
/// Requests in one batch before answers are sent, so that no answer waits for long.
pub const REQUESTS_PER_FLUSH_MAX: usize = heirloom_session::limit::PIPELINE_MAX;
/// Bytes of one reason of one source in an answer.
pub const REASON_BYTES_MAX: usize = 512;
/// Times that a source may answer a question that was overtaken by the log.
pub const OVERTAKEN_MAX: usize = 8;
/// Log entries that are followed before keys are served again: each may carry evidence, whose
/// appraisal takes half a millisecond.
pub const ENTRIES_PER_LOCK_MAX: usize = 16;
/// Certificates that an operator hands in for a SEV-SNP machine: of its key and of the issuer.
pub const CERTIFICATES_MAX: usize = 2;
/// Bytes of one: real ones have 1 to 2 kB.
pub const CERTIFICATE_BYTES_MAX: usize = 8 * 1024;
