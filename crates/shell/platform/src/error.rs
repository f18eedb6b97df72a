//! Why a command was not carried out.

use heirloom_emulated::bundle::BundleError;
use heirloom_emulated::daemon::DaemonError;
use heirloom_emulated::files::FileError;
use heirloom_emulated::signer::SigningKeyError;
use heirloom_emulated::state::StateError;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlatformdError {
    /// The daemon of a machine did not do what it was asked.
    #[error("the machine did not do it")]
    Asked(#[source] heirloom_emulated::client::ClientError),
    /// A bundle could not be signed or is refused.
    #[error("the bundle cannot be used")]
    Bundle(#[from] BundleError),
    /// The daemon did not start or had to end.
    #[error("the platform cannot be served")]
    Daemon(#[from] DaemonError),
    /// A file could not be read or written.
    #[error("a file cannot be used")]
    File(#[from] FileError),
    /// A key is no enclave signing key, or was not made.
    #[error("the enclave signing key cannot be used")]
    Key(#[from] SigningKeyError),
    /// A relative path cannot be completed.
    #[error("the current directory is not known")]
    Path(#[source] std::io::Error),
    /// Signals cannot be received, so the daemon could not end in order.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    /// A directory of the manufacturer or of a machine could not be used.
    #[error("the directory cannot be used")]
    State(#[from] StateError),
}

impl PlatformdError {
    /// The message with all its causes, for people. A cause that only repeats what was said is
    /// left out.
    pub fn with_causes(&self) -> String {
        let mut lines = vec![self.to_string()];
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let message = error.to_string();
            if lines.last() != Some(&message) {
                lines.push(message);
            }
            cause = error.source();
        }
        lines.join(": ")
    }
}
