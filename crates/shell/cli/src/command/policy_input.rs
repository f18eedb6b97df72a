//! A policy as people write it. Every field is written down; there are no defaults.

use std::path::Path;

use heirloom_model::appraisal::AcceptedAdvisory;
use heirloom_model::counter::{SecurityVersion, Serial};
use heirloom_model::digest::{NetworkId, PlanDigest};
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::{
    ApplicationRule, AppraisalPolicy, HolderRole, HolderRule, KeyScope, PlatformRule, Policy,
    Sharing, TcbLevel, UpdateMode,
};
use serde::Deserialize;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::input;
use crate::view;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyInput {
    domain: String,
    serial: u64,
    sharing: String,
    holders_min: u32,
    session_seconds_max: u64,
    ephemeral_epochs: u32,
    forget_after_epochs: u32,
    update: String,
    not_after: String,
    holder: Vec<HolderInput>,
    #[serde(default)]
    application: Vec<ApplicationInput>,
    appraisal: AppraisalInput,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HolderInput {
    measurement: Option<String>,
    /// Read only to be refused: a signer is never enough to hold a key.
    signer: Option<toml::Value>,
    security_version: u64,
    role: String,
    gives_to: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplicationInput {
    application: String,
    measurement: Option<String>,
    /// Read only to be refused: peers are accepted by measurement, never by who signed them.
    signer: Option<toml::Value>,
    security_version: u64,
    keys: Scope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppraisalInput {
    platforms: Scope,
    tcb: Vec<String>,
    advisories_accepted: Vec<AdvisoryInput>,
    tcb_evaluation_min: u32,
    collateral_grace_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdvisoryInput {
    id: String,
    until: String,
}

/// A word that means all, said aloud, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Scope {
    Word(String),
    List(Vec<String>),
}

/// Reads a policy.
pub(crate) fn parse(
    path: &Path,
    network: NetworkId,
    completes: Option<PlanDigest>,
) -> Result<Policy, Diagnostic> {
    let found: PolicyInput = input::read(path)?;
    let holders = found.holder.iter().map(holder).collect::<Result<Vec<_>, _>>()?;
    let applications = found.application.iter().map(application).collect::<Result<Vec<_>, _>>()?;
    Ok(Policy {
        network,
        domain: input::value("domain", &found.domain)?,
        serial: Serial(found.serial),
        sharing: sharing(&found.sharing)?,
        holders_min: found.holders_min,
        holders: input::sorted("holder", holders, |rule| rule.measurement)?,
        applications: input::sorted("application", applications, |rule| {
            (rule.application.clone(), rule.measurement)
        })?,
        appraisal: appraisal(&found.appraisal)?,
        session_seconds_max: found.session_seconds_max,
        ephemeral_epochs: found.ephemeral_epochs,
        not_after: input::time("not_after", &found.not_after)?,
        completes,
        forget_after_epochs: found.forget_after_epochs,
        update: update(&found.update)?,
    })
}

fn holder(found: &HolderInput) -> Result<HolderRule, Diagnostic> {
    let measurement = match (&found.signer, &found.measurement) {
        (None, Some(text)) => measurement("holder.measurement", text)?,
        (Some(_), _) => return Err(names_signer("holder.signer")),
        (None, None) => {
            let message = "a holder has no measurement";
            return Err(Diagnostic::new(Code::InputMalformed, message));
        }
    };
    let gives_to = found
        .gives_to
        .iter()
        .map(|text| self::measurement("holder.gives_to", text))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(HolderRule {
        measurement,
        security_version: SecurityVersion(found.security_version),
        gives_to: input::sorted("holder.gives_to", gives_to, |to| *to)?,
        role: role(&found.role)?,
    })
}

/// A measurement, and nothing that only looks like one.
fn measurement(field: &str, text: &str) -> Result<Measurement, Diagnostic> {
    if text.starts_with("signer:") || text.starts_with("mrsigner:") {
        return Err(names_signer(field));
    }
    input::value(field, text)
}

fn names_signer(field: &str) -> Diagnostic {
    Diagnostic::new(Code::InputSigner, format!("the field {field} names a signer"))
}

fn application(found: &ApplicationInput) -> Result<ApplicationRule, Diagnostic> {
    let measurement = match (&found.signer, &found.measurement) {
        (None, Some(text)) => measurement("application.measurement", text)?,
        (Some(_), _) => return Err(names_signer("application.signer")),
        (None, None) => {
            let message = "an application has no measurement";
            return Err(Diagnostic::new(Code::InputMalformed, message));
        }
    };
    let keys = match &found.keys {
        Scope::Word(word) if word == "all" => KeyScope::All,
        Scope::Word(word) => return Err(other_word("application.keys", word, &["all"])),
        Scope::List(keys) => KeyScope::Only(input::values("application.keys", keys)?),
    };
    Ok(ApplicationRule {
        application: input::value("application", &found.application)?,
        measurement,
        security_version: SecurityVersion(found.security_version),
        keys,
    })
}

fn appraisal(found: &AppraisalInput) -> Result<AppraisalPolicy, Diagnostic> {
    let platforms = match &found.platforms {
        Scope::Word(word) if word == "any" => PlatformRule::Any,
        Scope::Word(word) => return Err(other_word("appraisal.platforms", word, &["any"])),
        Scope::List(known) => PlatformRule::Only(input::values("appraisal.platforms", known)?),
    };
    let tcb = found.tcb.iter().map(|word| tcb_level(word)).collect::<Result<Vec<_>, _>>()?;
    let advisory = |found: &AdvisoryInput| {
        let until = input::time("appraisal.advisories_accepted.until", &found.until)?;
        Ok(AcceptedAdvisory { id: found.id.clone(), until })
    };
    let advisories =
        found.advisories_accepted.iter().map(advisory).collect::<Result<Vec<_>, Diagnostic>>()?;
    Ok(AppraisalPolicy {
        platforms,
        tcb: input::sorted("appraisal.tcb", tcb, |level| *level)?,
        advisories_accepted: input::sorted(
            "appraisal.advisories_accepted",
            advisories,
            |found: &AcceptedAdvisory| found.id.clone(),
        )?,
        tcb_evaluation_min: found.tcb_evaluation_min,
        collateral_grace_seconds: found.collateral_grace_seconds,
        tdx: None,
        snp: None,
        nitro: None,
        tpm: None,
        vtpm: None,
    })
}

fn sharing(word: &str) -> Result<Sharing, Diagnostic> {
    match word {
        "replicated" => Ok(Sharing::Replicated),
        "exclusive" => Ok(Sharing::Exclusive),
        _ => Err(other_word("sharing", word, &["replicated", "exclusive"])),
    }
}

fn update(word: &str) -> Result<UpdateMode, Diagnostic> {
    let known = [UpdateMode::Ask, UpdateMode::Auto];
    let found = known.into_iter().find(|mode| view::update(*mode) == word);
    found.ok_or_else(|| other_word("update", word, &known.map(view::update)))
}

fn role(word: &str) -> Result<HolderRole, Diagnostic> {
    let known = [HolderRole::Keeper, HolderRole::Upgrader];
    let found = known.into_iter().find(|role| role.name() == word);
    found.ok_or_else(|| other_word("holder.role", word, &known.map(HolderRole::name)))
}

/// Every level that a policy can accept. Revoked is not among them.
const TCB_LEVELS: [TcbLevel; 8] = [
    TcbLevel::UpToDate,
    TcbLevel::SwHardeningNeeded,
    TcbLevel::ConfigurationNeeded,
    TcbLevel::ConfigurationAndSwHardeningNeeded,
    TcbLevel::OutOfDate,
    TcbLevel::OutOfDateConfigurationNeeded,
    TcbLevel::RelaunchAdvised,
    TcbLevel::RelaunchAdvisedConfigurationNeeded,
];

fn tcb_level(word: &str) -> Result<TcbLevel, Diagnostic> {
    let found = TCB_LEVELS.into_iter().find(|level| view::tcb_level(*level) == word);
    found.ok_or_else(|| other_word("appraisal.tcb", word, &TCB_LEVELS.map(view::tcb_level)))
}

fn other_word(field: &str, word: &str, known: &[&str]) -> Diagnostic {
    let message = format!("the field {field} has a bad value");
    let known = known.join(", ");
    Diagnostic::new(Code::InputValue, message).cause(format!("{word:?} is not one of: {known}"))
}

/// Appraisal rules alone, for `heirloom evidence appraise`.
pub(crate) fn parse_appraisal(path: &Path) -> Result<AppraisalPolicy, Diagnostic> {
    appraisal(&input::read(path)?)
}
