//! A policy as people write it. Every field is written down; there are no defaults.

use std::path::Path;

use heirloom_model::counter::{SecurityVersion, Serial};
use heirloom_model::digest::{NetworkId, PlanDigest};
use heirloom_model::measurement::Measurement;
use heirloom_model::policy::{
    ApplicationRule, HolderRole, HolderRule, KeyScope, Policy, Sharing, UpdateMode,
};
use serde::Deserialize;

use crate::code::Code;
use crate::command::appraisal_input::{self, AppraisalInput, Scope};
use crate::diagnostic::Diagnostic;
use crate::input::{self, other_word};
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
        appraisal: appraisal_input::appraisal(&found.appraisal)?,
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
