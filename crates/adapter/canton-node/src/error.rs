//! Why a participant did not do what it was asked.

use std::error::Error;
use std::fmt;

use tonic::{Code, Status};

use crate::wire::codec::Unreadable;

/// A failed call. Which of the kinds it is decides what the caller may do next.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NodeError {
    /// The participant answered that there is no such thing.
    #[error("{node} has no {what}")]
    Missing {
        /// Which participant.
        node: String,
        /// What was asked for.
        what: String,
    },
    /// The answer contradicts itself, or cannot be read.
    #[error("{call} at {node}: the answer is corrupt: {why}")]
    Corrupt {
        /// Which participant.
        node: String,
        /// What was asked.
        call: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The participant says no; nothing was changed. Asked again it says the same.
    #[error("{node} refused {call}: {why}")]
    Refused {
        /// Which participant.
        node: String,
        /// What was asked.
        call: &'static str,
        /// How it says no.
        cause: Refusal,
        /// Its words.
        why: String,
    },
    /// Nobody answered, and nothing was changed.
    #[error("{node} cannot be reached for {call}: {why}")]
    Unreachable {
        /// Which participant.
        node: String,
        /// What was asked.
        call: &'static str,
        /// What happened.
        why: String,
    },
    /// The request went out, and whether it was carried out is not known. Look before asking
    /// again.
    #[error("it is unknown whether {node} did {call}: {why}")]
    Unknown {
        /// Which participant.
        node: String,
        /// What was asked.
        call: &'static str,
        /// What happened.
        why: String,
    },
}

/// In which way a participant says no.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Refusal {
    /// It does not know the call, or does not offer it in this release.
    Unimplemented,
    /// The caller is not allowed to.
    Permission,
    /// The request is wrong.
    Argument,
    /// Not in the state in which it is.
    State,
    /// It exists already.
    Exists,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unimplemented => "unimplemented",
            Self::Permission => "permission",
            Self::Argument => "argument",
            Self::State => "state",
            Self::Exists => "exists",
        })
    }
}

/// Whether a call changes something: then silence is not harmless.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Effect {
    /// It may be asked as often as one likes.
    Reads,
    /// It may have happened.
    Changes,
}

/// The longest text of a server that is repeated.
const WORDS_CHARACTERS_MAX: usize = 600;

impl NodeError {
    /// What a failed call means.
    pub(crate) fn of(node: &str, call: &'static str, effect: Effect, status: &Status) -> Self {
        let node = node.to_owned();
        let why: String = status.message().chars().take(WORDS_CHARACTERS_MAX).collect();
        let refused = |cause| Self::Refused { node: node.clone(), call, cause, why: why.clone() };
        if is_connect(status) {
            return Self::Unreachable { node, call, why };
        }
        match status.code() {
            Code::NotFound => Self::Missing { node, what: why },
            Code::InvalidArgument => refused(Refusal::Argument),
            Code::FailedPrecondition => refused(Refusal::State),
            Code::AlreadyExists => refused(Refusal::Exists),
            Code::PermissionDenied => refused(Refusal::Permission),
            // A token that just ended, or a server whose keys to check it are not there yet. It
            // looked at nothing else, so nothing was changed.
            Code::Unauthenticated => {
                let why = format!("{}: {why}", status.code());
                Self::Unreachable { node, call, why }
            }
            Code::Unimplemented => refused(Refusal::Unimplemented),
            Code::DataLoss | Code::OutOfRange => Self::Corrupt { node, call, why },
            // What tonic says of bytes that it cannot read. The call itself was answered, but
            // for one that changes something the answer is what would have said so.
            Code::Internal if effect == Effect::Reads && is_unreadable(status) => {
                Self::Corrupt { node, call, why }
            }
            // Too many calls at once are fewer in a moment.
            Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Aborted
            | Code::ResourceExhausted
                if effect == Effect::Reads =>
            {
                Self::Unreachable { node, call, why }
            }
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::Internal
            | Code::ResourceExhausted
            | Code::Unavailable => {
                let why = format!("{}: {why}", status.code());
                Self::Unknown { node, call, why }
            }
        }
    }

    /// Silence for so long.
    pub(crate) fn silent(
        node: &str,
        call: &'static str,
        effect: Effect,
        time: std::time::Duration,
    ) -> Self {
        let (node, why) = (node.to_owned(), format!("no answer within {time:?}"));
        match effect {
            Effect::Reads => Self::Unreachable { node, call, why },
            Effect::Changes => Self::Unknown { node, call, why },
        }
    }
}

/// Whether not even a connection was made.
fn is_connect(status: &Status) -> bool {
    is_caused_by::<tonic::ConnectError>(status)
}

/// Whether this side made the status, because it could not read what came. No server can say so.
fn is_unreadable(status: &Status) -> bool {
    is_caused_by::<Unreadable>(status)
}

fn is_caused_by<E: Error + 'static>(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(cause) = next {
        if cause.is::<E>() {
            return true;
        }
        next = cause.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_corrupt_and_a_server_that_says_so_is_not_believed() {
        let words = "failed to decode Protobuf message: invalid wire type";
        let said = Status::internal(words);
        let error = NodeError::of("node", "Call", Effect::Reads, &said);
        assert!(matches!(error, NodeError::Unknown { .. }), "{error:?}");
        let mut made_here = Status::internal(words);
        made_here.set_source(Arc::new(Unreadable));
        let error = NodeError::of("node", "Call", Effect::Reads, &made_here);
        assert!(matches!(error, NodeError::Corrupt { .. }), "{error:?}");
        // The answer would have said whether it happened.
        let error = NodeError::of("node", "Call", Effect::Changes, &made_here);
        assert!(matches!(error, NodeError::Unknown { .. }), "{error:?}");
    }

    #[test]
    fn a_server_that_has_too_much_to_do_is_asked_again() {
        for code in [Code::ResourceExhausted, Code::Unauthenticated] {
            let error = NodeError::of("node", "Call", Effect::Reads, &Status::new(code, "later"));
            assert!(matches!(error, NodeError::Unreachable { .. }), "{error:?}");
        }
    }
}
