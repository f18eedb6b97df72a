//! Why a command was not carried out.

use std::path::PathBuf;

use heirloom_emulated::machine::BindError;
use heirloom_emulated::state::StateError;
use heirloom_launcher::bundle::BundleError;
use heirloom_launcher::daemon::DaemonError;
use heirloom_launcher::files::FileError;
use heirloom_launcher::signer::SigningKeyError;
use heirloom_launcher::users::UsersError;
use heirloom_tpm::machine::error::MachineError;

use crate::attestation_ca::CertifyError;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlatformdError {
    /// The daemon of a machine did not do what it was asked.
    #[error("the machine did not do it")]
    Asked(#[source] heirloom_launcher::client::ClientError),
    /// A bundle could not be signed or is refused.
    #[error("the bundle cannot be used")]
    Bundle(#[from] BundleError),
    /// The daemon did not start.
    #[error("the platform cannot be served")]
    Serve(#[from] BindError),
    /// The daemon had to end.
    #[error("the platform had to end")]
    Daemon(#[from] DaemonError),
    /// A file could not be read or written.
    #[error("a file cannot be used")]
    File(#[from] FileError),
    /// A key is no enclave signing key, or was not made.
    #[error("the enclave signing key cannot be used")]
    Key(#[from] SigningKeyError),
    /// A machine with a TPM could not be used.
    #[error("the machine cannot be used")]
    Machine(#[from] MachineError),
    /// A machine with a TPM is not served.
    #[error("the platform cannot be served")]
    ServeTpm(#[from] heirloom_tpm::machine::BindError),
    /// Nobody said which users launched code may have.
    #[error(
        "a TPM isolates nothing, so each bundle runs under a user of its own: give \
         `--bundle-users FIRST-LAST`, numbers of users that belong to nobody, as in \
         1900000000-1900000255"
    )]
    NoBundleUsers,
    /// Nobody said which group the agent has.
    #[error(
        "bundles and the host's agent meet in the agent's group: give `--agent-group GROUP`, and \
         run the agent with it"
    )]
    NoAgentGroup,
    /// The users cannot be given to launched code.
    #[error("bundles cannot have users of their own")]
    Users(#[from] UsersError),
    /// The TPM cannot be reached.
    #[error("the TPM cannot be used")]
    Tpm(#[from] heirloom_tpm::error::TpmError),
    /// A file is not PEM of the expected kind.
    #[error("{path} has no PEM block {what}: is it the other half of a key, or another file?")]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// The attestation CA did not certify a key.
    #[error("the attestation key is not certified")]
    Certify(#[from] CertifyError),
    /// A relative path cannot be completed.
    #[error("the current directory is not known")]
    Path(#[source] std::io::Error),
    /// Signals cannot be received, so the daemon could not end in order.
    #[error("signals cannot be received")]
    Signals(#[source] std::io::Error),
    /// The process cannot keep its memory to itself.
    #[error("the memory of this process cannot be protected from others")]
    Seclusion(#[source] nix::Error),
    /// A directory of the manufacturer or of a machine could not be used.
    #[error("the directory cannot be used")]
    State(#[from] StateError),
}

impl PlatformdError {
    /// Where to read on, if there is more to say than the message does.
    pub fn runbook(&self) -> Option<&'static str> {
        match self {
            Self::Machine(error)
            | Self::ServeTpm(heirloom_tpm::machine::BindError::Machine(error)) => error.runbook(),
            _ => None,
        }
    }

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
