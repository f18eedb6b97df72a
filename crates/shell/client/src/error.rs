//! Why an application did not get its key.

use std::collections::BTreeMap;
use std::time::Instant;

use heirloom_keeper::handshake::NotAHolder;
use heirloom_keeper::port::PlatformError;
use heirloom_model::identifier::NodeId;
use heirloom_model::log::BrokenChain;
use heirloom_model::protocol::PeerRefusal;
use heirloom_registry::port::ReadError;
use heirloom_session::error::SessionError;

/// Why an application did not get its key.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A holder said no. Another one would say the same; the reason names the policy.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nobody answered before the deadline. Asking again is safe.
    #[error("no holder answered in time: {0}")]
    Unanswered(Box<Unanswered>),
    /// The own platform did not do its part.
    #[error("the own platform did not do its part")]
    Platform(#[from] PlatformError),
}

/// An answer that is no key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("node {node} refuses the key: {reason}")]
pub struct Refused {
    /// Who refused.
    pub node: NodeId,
    /// Why.
    pub reason: PeerRefusal,
}

/// What was known when the time ran out.
#[derive(Debug)]
pub struct Unanswered {
    /// What would have been needed next.
    pub waiting_for: WaitingFor,
    /// What last went wrong with each holder. That the time ran out while it was asked again does
    /// not replace an earlier reason.
    pub failures: BTreeMap<NodeId, AttemptError>,
    /// What last went wrong with the registry, if it is not well now.
    pub registry: Option<FollowError>,
}

/// What a client waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WaitingFor {
    /// The log, up to a policy of the domain.
    Policy,
    /// An exclusive domain's next active holder: between two of them nobody answers.
    Activation,
    /// Anybody who might hold the domain's keys.
    Holders,
    /// An answer from one of them.
    Answer,
}

/// Why one holder did not give an answer that counts. Another one may.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// There is no session with it, or it ended.
    #[error(transparent)]
    Session(SessionError),
    /// The policy in force does not let it hold keys.
    #[error(transparent)]
    NotAHolder(NotAHolder),
    /// It might serve when it was asked, and not any more when its answer came. The answer was
    /// thrown away.
    #[error("its answer came too late: {0}")]
    NoLonger(NotAHolder),
    /// It is not serving, lags behind the log, or wants newer evidence.
    #[error(transparent)]
    NotNow(PeerRefusal),
    /// It answered something that was not asked.
    #[error("the answer is not what was asked for")]
    WrongAnswer,
}

impl AttemptError {
    /// Whether nothing is known but that the caller's own time was over.
    pub(crate) fn is_our_deadline(&self, deadline: Instant) -> bool {
        matches!(self, Self::Session(SessionError::Timeout)) && Instant::now() >= deadline
    }

    /// Whether the session is as good as before: the holder may serve in a moment.
    pub(crate) fn leaves_session(&self) -> bool {
        match self {
            Self::NotNow(PeerRefusal::NotServing { .. })
            | Self::NotAHolder(NotAHolder::NotActive { .. }) => true,
            // Where a batch was left in the middle, other answers may still be on their way.
            Self::NoLonger(_)
            | Self::Session(_)
            | Self::NotAHolder(_)
            | Self::NotNow(_)
            | Self::WrongAnswer => false,
        }
    }
}

/// Why the log is not followed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FollowError {
    /// The registry did not give entries or addresses.
    #[error(transparent)]
    Registry(#[from] ReadError),
    /// The registry shows another history than before.
    #[error("the registry shows another history than before: {0}")]
    OtherHistory(#[from] BrokenChain),
}

impl std::fmt::Display for Unanswered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.waiting_for {
            WaitingFor::Policy => "the log names no policy of the domain yet",
            WaitingFor::Activation => "the domain has no active holder now",
            WaitingFor::Holders => "no holder is present",
            WaitingFor::Answer => "holders are present",
        })?;
        for (node, failure) in &self.failures {
            write!(f, "; {node}: {failure}")?;
            let mut cause = std::error::Error::source(failure);
            while let Some(error) = cause {
                write!(f, ": {error}")?;
                cause = error.source();
            }
        }
        if let Some(registry) = &self.registry {
            write!(f, "; registry: {registry}")?;
        }
        Ok(())
    }
}
