//! Why the change of a service cannot be planned.

use heirloom_custody::invariant::LossRisk;
use heirloom_model::counter::{Epoch, SecurityVersion, Serial};
use heirloom_model::digest::{ArtifactDigest, ReleaseDigest};
use heirloom_model::identifier::{ApplicationId, DomainId, KeyId, NodeId, ReleaseName};
use heirloom_model::measurement::Measurement;
use heirloom_model::service::SchemaVersion;

/// Why the change of a service cannot be planned.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ServiceError {
    /// A release is not for applications, or launches on no platform.
    #[error("release {0} is not an application's")]
    NotAnApplication(ReleaseDigest),
    /// The policy lets this code have no key of the application.
    #[error("policy serial {policy} does not name {measurement} for {application}")]
    Unnamed {
        /// The policy in force.
        policy: Serial,
        /// The application.
        application: ApplicationId,
        /// The code.
        measurement: Measurement,
    },
    /// The policy names the code and demands more of it.
    #[error(
        "policy serial {policy} demands security version {needed} of {measurement}, and its \
         release has {found}"
    )]
    SecurityVersionTooLow {
        /// The policy in force.
        policy: Serial,
        /// The code.
        measurement: Measurement,
        /// What the policy demands.
        needed: SecurityVersion,
        /// What the release has.
        found: SecurityVersion,
    },
    /// A long-lived key would not be given to one of the two versions.
    #[error("policy serial {policy} does not give key {key} to {measurement}")]
    KeyNotGiven {
        /// The policy in force.
        policy: Serial,
        /// The key.
        key: KeyId,
        /// The code.
        measurement: Measurement,
    },
    /// The terms are about another release.
    #[error("the terms name {found}, and the plan changes {expected}")]
    OtherRelease {
        /// The release of the plan.
        expected: ReleaseName,
        /// The release of the terms.
        found: ReleaseName,
    },
    /// The terms are about another program.
    #[error("program {program} of the terms is no file of release {release}")]
    OtherProgram {
        /// The release.
        release: ReleaseName,
        /// The program.
        program: ArtifactDigest,
    },
    /// The database would have to be taken back to a layout that it left.
    #[error("the schema would go down from {from} to {to}")]
    SchemaLower {
        /// Before.
        from: SchemaVersion,
        /// After.
        to: SchemaVersion,
    },
    /// The terms leave something out that they must say.
    #[error("the terms name no {0}")]
    TermsWithout(&'static str),
    /// The terms say something twice, or not in order.
    #[error("the terms list {what}: {name} is out of order or stands there twice")]
    TermsUnsorted {
        /// What.
        what: &'static str,
        /// The first one that is wrong.
        name: String,
    },
    /// Terms that a restart of the same code cannot carry out.
    #[error("both releases launch to {measurement}, and the terms change {what}")]
    RestartChanges {
        /// The code.
        measurement: Measurement,
        /// What the terms change.
        what: &'static str,
    },
    /// The plan would be called off before it can begin.
    #[error(
        "the plan would be called off after epoch {abort_after}, and it is {needed} or later when \
         its window opens"
    )]
    CalledOffTooEarly {
        /// The last epoch before it is called off.
        abort_after: Epoch,
        /// What it must at least be.
        needed: Epoch,
    },
    /// The stages are not what a window can be opened with.
    #[error("the nodes cannot open in these stages: {0}")]
    Stages(StageFault),
    /// Nobody runs the service.
    #[error("domain {0} has no node")]
    NoNodes(DomainId),
    /// Custody is not as the policy demands before anything begins.
    #[error(
        "{needed} failure domains must have a holder that can prove, before anything is closed"
    )]
    TooFewHolders {
        /// How many failure domains.
        needed: u32,
        /// What custody says.
        #[source]
        risk: LossRisk,
    },
}

/// What is wrong with the stages in which nodes open.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum StageFault {
    /// A node would stay closed.
    #[error("{0} is in none")]
    Missing(NodeId),
    /// A node would open twice.
    #[error("{0} is in two")]
    Twice(NodeId),
    /// A node is not of the domain.
    #[error("{0} is not a node of this domain")]
    Unknown(NodeId),
    /// A stage opens nothing.
    #[error("one is empty")]
    Empty,
}

impl ServiceError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotAnApplication(_) => "name a release of kind application",
            Self::Unnamed { .. } => {
                "publish a policy with a rule of this application for both measurements: the way \
                 back needs the old one"
            }
            Self::SecurityVersionTooLow { .. } => {
                "build the release with the security version that the policy demands"
            }
            Self::KeyNotGiven { .. } => {
                "publish a policy whose rules give every key of the keyring to both measurements"
            }
            Self::OtherRelease { .. } | Self::OtherProgram { .. } => {
                "write the terms for these two releases, or name the releases of the terms"
            }
            Self::SchemaLower { .. } => "go forward: build a release that serves the newer schema",
            Self::TermsWithout(_) | Self::TermsUnsorted { .. } => {
                "correct the terms, and rehearse them again: the rehearsal names their digest"
            }
            Self::RestartChanges { .. } => {
                "build a release with another measurement: what peers compare, and the database, \
                 change for all nodes at once, which is a flag day"
            }
            Self::CalledOffTooEarly { .. } => "ask for a later deadline, or an earlier window",
            Self::Stages(_) => "name every node of the domain once, or no stages at all",
            Self::NoNodes(_) => "publish a fleet with the nodes of this domain",
            Self::TooFewHolders { .. } => {
                "add keepers in more failure domains, or publish a policy that needs fewer holders"
            }
        }
    }
}
