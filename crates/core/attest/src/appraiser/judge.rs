//! What is judged alike, whatever made the evidence.

use std::fmt;

use heirloom_model::appraisal::{Reference, RevocationDemand};
use heirloom_model::counter::Time;
use heirloom_model::evidence::{BOOT_REGISTERS, PcrValue, ReportData};
use heirloom_model::policy::{AppraisalPolicy, PlatformRule};

use crate::account::{Step, Trail};
use crate::error::AppraiseError;
use crate::result::Host;
use crate::revocation::Demand;

/// What the caller of an appraisal asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) expected: &'a ReportData,
    pub(super) policy: &'a AppraisalPolicy,
    pub(super) now: Time,
}

impl Question<'_> {
    /// Evidence counts for exactly the report data that was asked for.
    pub(super) fn report_data(
        &self,
        found: &ReportData,
        trail: &mut Trail,
    ) -> Result<(), AppraiseError> {
        let outcome = if found == self.expected {
            Ok(())
        } else {
            let (expected, found) = (Box::new(*self.expected), Box::new(*found));
            Err(AppraiseError::ReportDataMismatch { expected, found })
        };
        trail.check(Step::ReportData, outcome, |()| format!("{found}, as expected"))
    }

    /// What is asked of lists of revoked keys.
    pub(super) fn demand(&self, rule: RevocationDemand) -> Demand {
        Demand { rule, grace_seconds: self.policy.collateral_grace_seconds, now: self.now }
    }

    /// A list of platforms admits who is named in it, and nobody who has no name.
    pub(super) fn host(&self, host: Host, trail: &mut Trail) -> Result<(), AppraiseError> {
        let listed = match &self.policy.platforms {
            PlatformRule::Any => {
                trail.skip(Step::Platform, || match host {
                    Host::Known(platform) => format!("any platform may attest: {platform}"),
                    Host::Unknown => "any platform may attest: unknown host".to_owned(),
                });
                return Ok(());
            }
            PlatformRule::Only(listed) => listed,
        };
        let outcome = match host {
            Host::Known(platform) if listed.contains(&platform) => Ok(platform),
            Host::Known(platform) => Err(AppraiseError::PlatformNotListed { platform }),
            Host::Unknown => Err(AppraiseError::HostUnknown),
        };
        trail.check(Step::Platform, outcome, |platform| format!("{platform} is listed"))?;
        Ok(())
    }

    /// Advisories are accepted by name and until a date. Answers when the first one ends.
    pub(super) fn advisories(
        &self,
        found: &[String],
        trail: &mut Trail,
    ) -> Result<Time, AppraiseError> {
        let accepted = |advisory: &String| {
            let all = &self.policy.advisories_accepted;
            let Some(known) = all.iter().find(|known| known.id == *advisory) else {
                return Err(AppraiseError::AdvisoryNotAccepted { advisory: advisory.clone() });
            };
            let (advisory, until) = (advisory.clone(), known.until);
            if self.now > until {
                return Err(AppraiseError::AdvisoryNoLongerAccepted { advisory, until });
            }
            Ok(until.after(1))
        };
        let ends = found.iter().map(accepted).collect::<Result<Vec<_>, _>>();
        let ends = ends.map(|ends| ends.into_iter().min().unwrap_or(Time(u64::MAX)));
        trail.check(Step::Advisories, ends, |until| match found {
            [] => "none apply".to_owned(),
            some => format!("{} accepted until {until}", some.join(", ")),
        })
    }
}

/// Compares one claim with its reference values.
pub(super) fn reference<T: PartialEq>(
    trail: &mut Trail,
    (step, claim): (Step, &'static str),
    reference: &Reference<T>,
    found: &T,
    show: impl Fn(&T) -> String,
) -> Result<(), AppraiseError> {
    if matches!(reference, Reference::Skip) {
        trail.skip(step, || show(found));
        return Ok(());
    }
    let outcome = if reference.accepts(found) {
        Ok(())
    } else {
        Err(AppraiseError::ReferenceMismatch { claim, found: show(found) })
    };
    trail.check(step, outcome, |()| show(found))
}

/// What a policy says about one kind, or that it says nothing.
pub(super) fn rule<'a, T>(
    trail: &mut Trail,
    kind: heirloom_model::measurement::TeeKind,
    rule: Option<&'a T>,
) -> Result<&'a T, AppraiseError> {
    let found = rule.ok_or(AppraiseError::KindNotAccepted { kind });
    trail.check(Step::Kind, found, |_| format!("the policy has a rule for {kind}"))
}

/// A value of a register, or a number in words.
pub(super) fn text<T: fmt::Display>(found: &T) -> String {
    found.to_string()
}

/// Quoted registers must be 0 to 15, in order, and somebody must have measured something.
pub(super) fn quoted(registers: &[PcrValue]) -> Result<(), AppraiseError> {
    if !registers.iter().map(|register| register.index).eq(BOOT_REGISTERS) {
        return Err(AppraiseError::RegistersIncomplete);
    }
    if registers.iter().all(|register| register.value.as_bytes().iter().all(|byte| *byte == 0)) {
        return Err(AppraiseError::ZeroRegisters);
    }
    Ok(())
}
