//! Mistakes in a policy that are allowed and hurt.
//!
//! The registry refuses policies that mean nothing. This finds those that mean something else
//! than their author thinks. Most come from the direction of edges: an edge stands in the rule
//! of the code that gives, and the code that receives needs a rule of its own.

mod appraisal;

use std::collections::BTreeSet;

use heirloom_model::appraisal::{AcceptedAdvisory, TcbGrace};
use heirloom_model::counter::{SecurityVersion, Serial, Time};
use heirloom_model::identifier::{ApplicationId, FailureDomain, ReleaseName};
use heirloom_model::measurement::{Measurement, TeeKind};
use heirloom_model::policy::{HolderRole, Policy, Sharing, TcbLevel};
use heirloom_model::release::{Release, ReleaseKind};
use heirloom_registry::network::NetworkState;
use heirloom_registry::verified::Verified;

use crate::checker::Severity;

/// What a policy is judged against. Everything is optional knowledge: what is not known is not
/// judged.
#[derive(Clone, Debug, Default)]
pub struct LintContext<'a> {
    /// The policy that it replaces.
    pub previous: Option<&'a Policy>,
    /// The network's releases.
    pub releases: Vec<&'a Release>,
    /// The failure domain of each node of the domain.
    pub failure_domains: Vec<&'a FailureDomain>,
    /// The network's time.
    pub now: Option<Time>,
}

/// A policy that expires sooner than this is hard to replace in time: thirty days.
pub const NOT_AFTER_SECONDS_MIN: u64 = 30 * 24 * 60 * 60;
/// Evidence of serving sessions older than this says little: a day.
pub const SESSION_SECONDS_MAX: u64 = 24 * 60 * 60;
/// Grace longer than this hides that collateral is not renewed: thirty days.
pub const GRACE_SECONDS_MAX: u64 = 30 * 24 * 60 * 60;

/// One mistake.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LintFinding {
    /// The serial does not follow.
    #[error("serial {found} does not follow serial {previous}")]
    SerialNotNext {
        /// The policy that it replaces.
        previous: Serial,
        /// Its own.
        found: Serial,
    },
    /// A giver names code that has no rule.
    #[error("{from} gives to {to}, which has no rule of its own: it will receive nothing")]
    ReceiverWithoutRule {
        /// The giver.
        from: Measurement,
        /// The receiver.
        to: Measurement,
    },
    /// Nothing gives to new code, but it names old code itself.
    #[error(
        "{new} names {old}, but an edge stands in the rule of the code that gives: as it is, \
         {new} cannot receive from {old}"
    )]
    EdgeOnWrongSide {
        /// The new code.
        new: Measurement,
        /// The code that it should receive from.
        old: Measurement,
    },
    /// Nobody but itself gives to it.
    #[error(
        "nobody else gives to {0}: it can copy only from itself, and a new release has nothing"
    )]
    OnlyItself(Measurement),
    /// The way forward without the way back.
    #[error("{from} gives to {to}, but not the other way round: an abort could not catch up")]
    NoWayBack {
        /// The old code.
        from: Measurement,
        /// The new code.
        to: Measurement,
    },
    /// Code that gave or held loses its rights without a plan.
    #[error(
        "{0} may not hold any more, and the policy completes no plan: its holders stop at once"
    )]
    WithdrawnWithoutPlan(Measurement),
    /// Newer code gives to older code that could be vulnerable.
    #[error("{measurement} may hold at security version {now}, before it was {before}")]
    SecurityVersionLowered {
        /// The code.
        measurement: Measurement,
        /// Before.
        before: SecurityVersion,
        /// Now.
        now: SecurityVersion,
    },
    /// A rule demands more than its release has.
    #[error("{release} has security version {found}, and its rule demands {required}")]
    SecurityVersionUnreachable {
        /// The release.
        release: ReleaseName,
        /// What it has.
        found: SecurityVersion,
        /// What the rule demands.
        required: SecurityVersion,
    },
    /// No release of its role launches to it.
    #[error("no release of the role that its rule gives it launches to {0}")]
    HolderWithoutRelease(Measurement),
    /// The release that launches to it is for something else.
    #[error("{measurement} has a rule as {}, and {release} is a release of kind {}", .role.name(), .kind.name())]
    OtherKind {
        /// The code.
        measurement: Measurement,
        /// What its rule says.
        role: HolderRole,
        /// The release that launches to it.
        release: ReleaseName,
        /// What that release is for.
        kind: ReleaseKind,
    },
    /// An upgrader that cannot carry anything.
    #[error("upgrader {measurement} {lacks}: it carries nothing from one keeper to another")]
    UpgraderWithoutEdges {
        /// The upgrader.
        measurement: Measurement,
        /// What it lacks.
        lacks: UpgraderLacks,
    },
    /// A keeper gives to another one directly although an upgrader stands between them.
    #[error(
        "{from} gives to {to} directly, past the upgrader {via} that stands between them: without \
         that edge the keyring would go by way of the upgrader only"
    )]
    BypassesUpgrader {
        /// The giver.
        from: Measurement,
        /// The upgrader.
        via: Measurement,
        /// The receiver.
        to: Measurement,
    },
    /// No application release launches to it.
    #[error("no release launches to {measurement} of {application}")]
    ApplicationWithoutRelease {
        /// The application.
        application: ApplicationId,
        /// Its code.
        measurement: Measurement,
    },
    /// An application could ask before and cannot any more.
    #[error("{application} loses its keys: no measurement of it is named any more")]
    ApplicationMissing {
        /// The application.
        application: ApplicationId,
    },
    /// An application measurement that could ask before cannot any more.
    #[error("{measurement} of {application} loses its keys")]
    ApplicationWithdrawn {
        /// The application.
        application: ApplicationId,
        /// Its code.
        measurement: Measurement,
    },
    /// Two versions of one application may not ask for the same keys.
    #[error(
        "{first} and {second} of {application} may ask for different keys: a service that moves \
         from one to the other would lose some"
    )]
    ApplicationKeysDiffer {
        /// The application.
        application: ApplicationId,
        /// One version of its code.
        first: Measurement,
        /// Another one.
        second: Measurement,
    },
    /// Code that is no older than what may ask, and may not ask.
    #[error(
        "no rule names {measurement}, to which application release {release} launches: it gets no \
         keys, and no flag day leads to it"
    )]
    ReleaseUnnamed {
        /// The release.
        release: ReleaseName,
        /// Its code.
        measurement: Measurement,
    },
    /// One code may hold and ask.
    #[error(
        "{0} may hold the keyring and ask for keys: applications and keepers are different code"
    )]
    HolderIsApplication(Measurement),
    /// Fewer failure domains than needed.
    #[error(
        "{needed} proven holders are demanded outside a node under change, and the fleet has {found} failure domains"
    )]
    HoldersMinTooHigh {
        /// By policy.
        needed: u32,
        /// In the fleet.
        found: usize,
    },
    /// One is enough.
    #[error(
        "one proven holder is enough: a single failure during an upgrade leaves only quarantined copies"
    )]
    HoldersMinOne,
    /// An exclusive domain has one holder.
    #[error(
        "the domain is exclusive and {needed} proven holders are demanded: no plan can be made"
    )]
    ExclusiveNeedsOne {
        /// By policy.
        needed: u32,
    },
    /// An upgrader gives up its copy at once.
    #[error(
        "an upgrader gives up its copy as soon as the new keeper has proven: nothing is left on \
         the same host if that keeper fails soon after"
    )]
    ForgetsAtOnce,
    /// It is lower than it was.
    #[error("fewer proven holders are demanded than before: {now} instead of {before}")]
    HoldersMinLowered {
        /// Before.
        before: u32,
        /// Now.
        now: u32,
    },
    /// It has expired, or will soon.
    #[error("it expires at {not_after}, and it is {now}")]
    ExpiresSoon {
        /// Its end.
        not_after: Time,
        /// The network's time.
        now: Time,
    },
    /// Firmware may be old.
    #[error("platforms with old firmware are accepted ({0:?})")]
    OutOfDateAccepted(TcbLevel),
    /// Firmware may be old for a while.
    #[error("platforms of level {:?} are accepted for a while", .0.level)]
    LevelForAWhile(TcbGrace),
    /// An advisory is accepted.
    #[error("advisory {} is accepted wherever it applies, until {}", .0.id, .0.until)]
    AdvisoryAccepted(AcceptedAdvisory),
    /// Any machine.
    #[error("any machine may attest: quotes can be forged by whoever owns one board")]
    AnyPlatform,
    /// No floor under the manufacturer's data.
    #[error("TCB data of any age is accepted: the lowest evaluation data number is 0")]
    NoEvaluationFloor,
    /// The floor sank.
    #[error("the lowest evaluation data number sinks from {before} to {now}")]
    EvaluationFloorLowered {
        /// Before.
        before: u32,
        /// Now.
        now: u32,
    },
    /// Expired collateral for long.
    #[error("expired collateral is used for {seconds} seconds")]
    LongGrace {
        /// How long.
        seconds: u64,
    },
    /// Code of a kind whose evidence is not accepted.
    #[error(
        "the policy names {measurement} and accepts no evidence of {kind}: that code gets nothing"
    )]
    KindWithoutRule {
        /// The code.
        measurement: Measurement,
        /// The kind that has no rule.
        kind: TeeKind,
    },
    /// Nothing that a TPM says about its machine is looked at.
    #[error(
        "no register of a TPM is looked at: a machine that booted anything else is believed about \
         what it launched"
    )]
    RegistersSkipped,
    /// Every machine with a TPM, for as long as its certificate lasts.
    #[error(
        "no list of revoked attestation keys of TPMs is demanded, and the policy lists no machines: \
         one that is given up may be believed until its certificate ends"
    )]
    TpmOfAnyMachine,
    /// A list of machines, and keys that name none.
    #[error(
        "keys of a provider (VLEK) name no machine, and the policy lists machines: nothing that \
         such a key signs is accepted"
    )]
    KeyOfNoMachine,
    /// Something that matters is not looked at.
    #[error("nobody looks at the {claim} of {kind}")]
    ClaimSkipped {
        /// Of which kind.
        kind: TeeKind,
        /// What.
        claim: &'static str,
    },
    /// A revoked key of a machine may go unnoticed.
    #[error("no list of revoked keys of SEV-SNP is demanded: a revoked one may go unnoticed")]
    RevocationNotDemanded,
    /// Old evidence for long.
    #[error("sessions are served on evidence of up to {seconds} seconds")]
    LongSessions {
        /// How long.
        seconds: u64,
    },
}

/// What an upgrader lacks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UpgraderLacks {
    /// No keeper's rule names it.
    #[error("receives from no keeper")]
    Giver,
    /// Its own rule names no keeper.
    #[error("gives to no keeper")]
    Receiver,
}

impl LintFinding {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SerialNotNext { .. } => "L-101",
            Self::ReceiverWithoutRule { .. } => "L-201",
            Self::EdgeOnWrongSide { .. } => "L-202",
            Self::OnlyItself(_) => "L-203",
            Self::NoWayBack { .. } => "L-204",
            Self::WithdrawnWithoutPlan(_) => "L-205",
            Self::SecurityVersionLowered { .. } => "L-206",
            Self::SecurityVersionUnreachable { .. } => "L-207",
            Self::HolderWithoutRelease(_) => "L-208",
            Self::OtherKind { .. } => "L-209",
            Self::UpgraderWithoutEdges { .. } => "L-210",
            Self::BypassesUpgrader { .. } => "L-211",
            Self::ApplicationWithoutRelease { .. } => "L-301",
            Self::ApplicationMissing { .. } => "L-302",
            Self::ApplicationWithdrawn { .. } => "L-303",
            Self::HolderIsApplication(_) => "L-304",
            Self::ApplicationKeysDiffer { .. } => "L-305",
            Self::ReleaseUnnamed { .. } => "L-306",
            Self::HoldersMinTooHigh { .. } => "L-401",
            Self::HoldersMinOne => "L-402",
            Self::HoldersMinLowered { .. } => "L-403",
            Self::ExpiresSoon { .. } => "L-404",
            Self::ExclusiveNeedsOne { .. } => "L-405",
            Self::ForgetsAtOnce => "L-406",
            Self::OutOfDateAccepted(_) => "L-501",
            Self::AdvisoryAccepted(_) => "L-502",
            Self::AnyPlatform => "L-503",
            Self::NoEvaluationFloor => "L-504",
            Self::EvaluationFloorLowered { .. } => "L-505",
            Self::LongGrace { .. } => "L-506",
            Self::LongSessions { .. } => "L-507",
            Self::KindWithoutRule { .. } => "L-508",
            Self::RegistersSkipped => "L-509",
            Self::KeyOfNoMachine => "L-510",
            Self::ClaimSkipped { .. } => "L-511",
            Self::RevocationNotDemanded => "L-512",
            Self::TpmOfAnyMachine => "L-513",
            Self::LevelForAWhile(_) => "L-514",
        }
    }

    /// Errors do not do what their author wants; warnings do, and are weak.
    pub fn severity(&self) -> Severity {
        match self {
            Self::SerialNotNext { .. }
            | Self::ReceiverWithoutRule { .. }
            | Self::EdgeOnWrongSide { .. }
            | Self::OnlyItself(_)
            | Self::NoWayBack { .. }
            | Self::WithdrawnWithoutPlan(_)
            | Self::SecurityVersionUnreachable { .. }
            | Self::ApplicationMissing { .. }
            | Self::HolderIsApplication(_)
            | Self::OtherKind { .. }
            | Self::UpgraderWithoutEdges { .. }
            | Self::ExclusiveNeedsOne { .. }
            | Self::KindWithoutRule { .. }
            | Self::KeyOfNoMachine
            | Self::HoldersMinTooHigh { .. } => Severity::Error,
            Self::SecurityVersionLowered { .. }
            | Self::HolderWithoutRelease(_)
            | Self::ApplicationWithoutRelease { .. }
            | Self::ApplicationWithdrawn { .. }
            | Self::ApplicationKeysDiffer { .. }
            | Self::ReleaseUnnamed { .. }
            | Self::HoldersMinOne
            | Self::BypassesUpgrader { .. }
            | Self::ForgetsAtOnce
            | Self::HoldersMinLowered { .. }
            | Self::ExpiresSoon { .. }
            | Self::OutOfDateAccepted(_)
            | Self::LevelForAWhile(_)
            | Self::AdvisoryAccepted(_)
            | Self::AnyPlatform
            | Self::NoEvaluationFloor
            | Self::EvaluationFloorLowered { .. }
            | Self::LongGrace { .. }
            | Self::RegistersSkipped
            | Self::ClaimSkipped { .. }
            | Self::RevocationNotDemanded
            | Self::TpmOfAnyMachine
            | Self::LongSessions { .. } => Severity::Warning,
        }
    }
}

/// Judges a policy that is about to be signed against the log.
pub fn lint(policy: &Policy, state: &NetworkState) -> Vec<LintFinding> {
    let context = LintContext {
        previous: state.policy(&policy.domain).map(Verified::get),
        releases: state.releases().map(|(_, release)| release.get()).collect(),
        failure_domains: state.nodes_of(policy.domain).map(|node| &node.failure_domain).collect(),
        now: state.now(),
    };
    lint_policy(policy, &context)
}

/// Judges a policy.
pub fn lint_policy(policy: &Policy, context: &LintContext<'_>) -> Vec<LintFinding> {
    let mut findings = Vec::new();
    edges(policy, context, &mut findings);
    upgraders(policy, &mut findings);
    holders(policy, context, &mut findings);
    applications(policy, context, &mut findings);
    services(policy, context, &mut findings);
    numbers(policy, context, &mut findings);
    appraisal::appraisal(policy, context, &mut findings);
    findings
}

fn is_upgrader(policy: &Policy, measurement: &Measurement) -> bool {
    policy.holder(measurement).is_some_and(|rule| rule.role == HolderRole::Upgrader)
}

/// Code that carries a keyring from one keeper to the next.
fn upgraders(policy: &Policy, findings: &mut Vec<LintFinding>) {
    let keepers = || policy.holders.iter().filter(|rule| rule.role == HolderRole::Keeper);
    let carriers = || policy.holders.iter().filter(|rule| rule.role == HolderRole::Upgrader);
    for carrier in carriers() {
        let measurement = carrier.measurement;
        let mut without = |lacks| {
            findings.push(LintFinding::UpgraderWithoutEdges { measurement, lacks });
        };
        if !keepers().any(|keeper| keeper.gives_to.contains(&measurement)) {
            without(UpgraderLacks::Giver);
        }
        if !keepers().any(|keeper| carrier.gives_to.contains(&keeper.measurement)) {
            without(UpgraderLacks::Receiver);
        }
    }
    for giver in keepers() {
        for receiver in keepers().filter(|to| giver.gives_to.contains(&to.measurement)) {
            let between = carriers().find(|carrier| {
                giver.gives_to.contains(&carrier.measurement)
                    && carrier.gives_to.contains(&receiver.measurement)
            });
            if let Some(carrier) = between.filter(|_| giver.measurement != receiver.measurement) {
                let (from, to) = (giver.measurement, receiver.measurement);
                let bypass = LintFinding::BypassesUpgrader { from, via: carrier.measurement, to };
                findings.push(bypass);
            }
        }
    }
    if carriers().next().is_some() && policy.forget_after_epochs == 0 {
        findings.push(LintFinding::ForgetsAtOnce);
    }
}

/// The direction mistakes.
fn edges(policy: &Policy, context: &LintContext<'_>, findings: &mut Vec<LintFinding>) {
    let is_new = |measurement: &Measurement| {
        context.previous.is_none_or(|previous| previous.holder(measurement).is_none())
    };
    // What goes to an upgrader never comes back: an abort leaves the old keeper as it was.
    let carries = |measurement: &Measurement| is_upgrader(policy, measurement);
    for rule in &policy.holders {
        let from = rule.measurement;
        for to in rule.gives_to.iter().filter(|to| **to != from) {
            if policy.holder(to).is_none() {
                findings.push(LintFinding::ReceiverWithoutRule { from, to: *to });
            } else if !policy.names_edge(to, &from) && !carries(&from) && !carries(to) {
                let wrong_side = context.previous.is_some() && is_new(&from) && !is_new(to);
                findings.push(if wrong_side {
                    LintFinding::EdgeOnWrongSide { new: from, old: *to }
                } else {
                    LintFinding::NoWayBack { from, to: *to }
                });
            }
        }
    }
    if policy.holders.len() < 2 {
        return;
    }
    for rule in &policy.holders {
        let measurement = rule.measurement;
        let others = policy.holders.iter().filter(|other| other.measurement != measurement);
        let receives = others.clone().any(|other| other.gives_to.contains(&measurement));
        // Code that held before keeps what it has; new code starts with nothing.
        if !receives && context.previous.is_some() && is_new(&measurement) {
            findings.push(LintFinding::OnlyItself(measurement));
        }
    }
}

fn holders(policy: &Policy, context: &LintContext<'_>, findings: &mut Vec<LintFinding>) {
    for rule in &policy.holders {
        let measurement = rule.measurement;
        let mut named =
            context.releases.iter().filter(|release| release.measurements.contains(&measurement));
        let fits = |release: &&&Release| release.kind.role() == Some(rule.role);
        match named.clone().find(fits) {
            None if context.releases.is_empty() => {}
            None => findings.push(named.next().map_or(
                LintFinding::HolderWithoutRelease(measurement),
                |release| {
                    let (release, kind) = (release.name.clone(), release.kind);
                    LintFinding::OtherKind { measurement, role: rule.role, release, kind }
                },
            )),
            Some(release) if release.security_version < rule.security_version => {
                findings.push(LintFinding::SecurityVersionUnreachable {
                    release: release.name.clone(),
                    found: release.security_version,
                    required: rule.security_version,
                });
            }
            Some(_) => {}
        }
        if policy.applications.iter().any(|asks| asks.measurement == measurement) {
            findings.push(LintFinding::HolderIsApplication(measurement));
        }
    }
    for before in context.previous.iter().flat_map(|previous| &previous.holders) {
        let measurement = before.measurement;
        match policy.holder(&measurement) {
            None if policy.completes.is_none() => {
                findings.push(LintFinding::WithdrawnWithoutPlan(measurement));
            }
            Some(now) if now.security_version < before.security_version => {
                let (before, now) = (before.security_version, now.security_version);
                let lowered = LintFinding::SecurityVersionLowered { measurement, before, now };
                findings.push(lowered);
            }
            None | Some(_) => {}
        }
    }
}

fn applications(policy: &Policy, context: &LintContext<'_>, findings: &mut Vec<LintFinding>) {
    for rule in &policy.applications {
        let named = |release: &&&Release| release.measurements.contains(&rule.measurement);
        if !context.releases.is_empty() && context.releases.iter().find(named).is_none() {
            let (application, measurement) = (rule.application.clone(), rule.measurement);
            findings.push(LintFinding::ApplicationWithoutRelease { application, measurement });
        }
    }
    let mut missing = BTreeSet::new();
    for before in context.previous.iter().flat_map(|previous| &previous.applications) {
        let same = policy.applications.iter().filter(|now| now.application == before.application);
        let application = before.application.clone();
        if same.clone().next().is_none() {
            missing.insert(application);
        } else if !same.clone().any(|now| now.measurement == before.measurement) {
            let measurement = before.measurement;
            findings.push(LintFinding::ApplicationWithdrawn { application, measurement });
        }
    }
    let lost =
        missing.into_iter().map(|application| LintFinding::ApplicationMissing { application });
    findings.extend(lost);
}

/// What would stand in the way when a service moves from one version to the next.
fn services(policy: &Policy, context: &LintContext<'_>, findings: &mut Vec<LintFinding>) {
    let same = policy.applications.chunk_by(|left, right| left.application == right.application);
    for rules in same {
        let Some((first, others)) = rules.split_first() else { continue };
        for other in others.iter().filter(|other| other.keys != first.keys) {
            findings.push(LintFinding::ApplicationKeysDiffer {
                application: first.application.clone(),
                first: first.measurement,
                second: other.measurement,
            });
        }
    }
    let named = |measurement: &Measurement| {
        policy.applications.iter().any(|rule| rule.measurement == *measurement)
    };
    let asks = |release: &&&Release| release.kind == ReleaseKind::Application;
    let (served, others): (Vec<&Release>, Vec<&Release>) = context
        .releases
        .iter()
        .filter(asks)
        .copied()
        .partition(|release| release.measurements.iter().any(named));
    // Older code that lost its rights is not what anybody moves to.
    let Some(newest) = served.iter().map(|release| release.security_version).max() else { return };
    let withdrawn = |measurement: &Measurement| {
        let before = context.previous.iter().flat_map(|previous| &previous.applications);
        before.into_iter().any(|rule| rule.measurement == *measurement)
    };
    for release in others.into_iter().filter(|release| release.security_version >= newest) {
        let expired = context.now.is_some_and(|now| now > release.not_after);
        for measurement in &release.measurements {
            if !expired && !withdrawn(measurement) {
                let (release, measurement) = (release.name.clone(), *measurement);
                findings.push(LintFinding::ReleaseUnnamed { release, measurement });
            }
        }
    }
}

fn numbers(policy: &Policy, context: &LintContext<'_>, findings: &mut Vec<LintFinding>) {
    if let Some(previous) = context.previous {
        if previous.serial.next() != Some(policy.serial) {
            let (previous, found) = (previous.serial, policy.serial);
            findings.push(LintFinding::SerialNotNext { previous, found });
        }
        if policy.holders_min < previous.holders_min {
            let (before, now) = (previous.holders_min, policy.holders_min);
            findings.push(LintFinding::HoldersMinLowered { before, now });
        }
    }
    holders_min(policy, context, findings);
    let not_after = policy.not_after;
    if let Some(now) = context.now.filter(|now| now.after(NOT_AFTER_SECONDS_MIN) > not_after) {
        findings.push(LintFinding::ExpiresSoon { not_after, now });
    }
    if policy.session_seconds_max > SESSION_SECONDS_MAX {
        findings.push(LintFinding::LongSessions { seconds: policy.session_seconds_max });
    }
}

fn holders_min(policy: &Policy, context: &LintContext<'_>, findings: &mut Vec<LintFinding>) {
    let needed = policy.holders_min;
    let exclusive = policy.sharing == Sharing::Exclusive;
    match (exclusive, needed) {
        (true, 2..) => findings.push(LintFinding::ExclusiveNeedsOne { needed }),
        (false, 0 | 1) => findings.push(LintFinding::HoldersMinOne),
        (true, 0 | 1) | (false, 2..) => {}
    }
    let found: BTreeSet<_> = context.failure_domains.iter().collect();
    let found = found.len();
    let carried = policy.holders.iter().any(|rule| rule.role == HolderRole::Upgrader);
    // One node is under change, so its failure domain may be away. A handover keeps one proven
    // holder on the node itself, and that is enough where one is enough.
    let stays = needed <= 1 && (exclusive || carried);
    let possible = if stays { found } else { found.saturating_sub(1) };
    let enough = usize::try_from(needed).is_ok_and(|needed| needed <= possible);
    if found > 0 && !enough && !(exclusive && needed > 1) {
        findings.push(LintFinding::HoldersMinTooHigh { needed, found });
    }
}
