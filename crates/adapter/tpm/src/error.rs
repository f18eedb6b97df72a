//! Why the TPM did not do it.

use std::path::PathBuf;

use crate::code::{CommandCode, ResponseCode};
use crate::transport::TransportError;

/// Why the TPM did not do it. The six kinds ask for six different things: see each.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TpmError {
    /// It is not there. Somebody must make it first.
    #[error("{0} is missing")]
    Missing(Absent),
    /// What came back cannot be understood or contradicts itself. Nothing may be built on it.
    #[error("{subject} cannot be understood: {what}")]
    Corrupt {
        /// What was read.
        subject: &'static str,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Something else is in a place of ours. It is never replaced.
    #[error("the object 0x{handle:08x} of the TPM is not ours: {what}")]
    Foreign {
        /// Where it is.
        handle: u32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The TPM said no. Nothing has changed.
    #[error("the TPM refuses {command}: {code}")]
    Refused {
        /// What was asked.
        command: CommandCode,
        /// Its reason.
        code: ResponseCode,
    },
    /// The TPM was not asked.
    #[error("the TPM cannot be reached: {reason}")]
    Unreachable {
        /// What the system said.
        reason: String,
    },
    /// The TPM was asked and gave no answer: whether it did anything must be looked at.
    #[error("the TPM did not answer {command}, which may have been carried out: {reason}")]
    Unknown {
        /// What was asked.
        command: CommandCode,
        /// What the system said.
        reason: String,
    },
}

/// What a TPM may not have.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Absent {
    /// The TPM itself.
    #[error("the TPM at {0}")]
    Device(PathBuf),
    /// An index of non-volatile memory.
    #[error("the index 0x{0:08x} of the TPM's memory")]
    Index(u32),
    /// A permanent object.
    #[error("the object 0x{0:08x} of the TPM")]
    Object(u32),
    /// The SHA-256 bank of registers.
    #[error("a SHA-256 register of the TPM")]
    Register,
}

impl TpmError {
    /// The reason of a refusal, without the number of the parameter that it is about: what the
    /// constants of [`ResponseCode`] are compared with.
    pub fn refusal(&self) -> Option<u32> {
        match self {
            Self::Refused { code, .. } => Some(code.base()),
            _ => None,
        }
    }

    pub(crate) fn of_transport(command: CommandCode, error: TransportError) -> Self {
        match error {
            TransportError::Missing { path } => Self::Missing(Absent::Device(path)),
            TransportError::Unreachable { reason } => Self::Unreachable { reason },
            TransportError::Unknown { reason } => Self::Unknown { command, reason },
            TransportError::Corrupt { what } => Self::Corrupt { subject: "an answer", what },
        }
    }
}
