//! The terms of a flag day as people write them. Every field is written down; there are no
//! defaults.

use std::path::Path;

use heirloom_model::digest::{ConfigurationDigest, ReleaseDigest};
use heirloom_model::identifier::{ApplicationId, MigrationName, ReleaseName, TestName};
use heirloom_model::release::Release;
use heirloom_model::service::{KeyCustody, KeyTerm, ProgramTerm, SchemaVersion, Terms};
use heirloom_registry::network::NetworkState;
use serde::Deserialize;

use crate::code::Code;
use crate::command::plan_make;
use crate::diagnostic::Diagnostic;
use crate::input;
use crate::view_service;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TermsInput {
    application: String,
    from: String,
    to: String,
    program: String,
    configuration_from: String,
    configuration_to: String,
    schema_from: u32,
    schema_to: u32,
    migrations: Vec<String>,
    tests: Vec<String>,
    quiet_ms: u64,
    watch_ms: u64,
    errors_max: u64,
    clients_min: u32,
    key: Vec<KeyInput>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyInput {
    key: String,
    custody: String,
}

/// What a terms file says, in the words of one network.
pub(crate) struct Agreed {
    pub(crate) application: ApplicationId,
    pub(crate) from: ReleaseDigest,
    pub(crate) to: ReleaseDigest,
    pub(crate) terms: Terms,
}

/// Reads terms, and looks their releases up in the log.
pub(crate) fn parse(path: &Path, state: &NetworkState) -> Result<Agreed, Diagnostic> {
    let found: TermsInput = input::read(path)?;
    let from = plan_make::release(&found.from, state)?;
    let to = plan_make::release(&found.to, state)?;
    let file: ReleaseName = input::value("program", &found.program)?;
    let program = |digest: &ReleaseDigest| {
        let release = state.release(digest).ok_or_else(|| {
            Diagnostic::new(Code::LogNothing, format!("the log has no release {digest}"))
        })?;
        program_of(release, &file)
    };
    let terms = Terms {
        from: program(&from)?,
        to: program(&to)?,
        configuration_from: configuration("configuration_from", &found.configuration_from)?,
        configuration_to: configuration("configuration_to", &found.configuration_to)?,
        schema_from: SchemaVersion(found.schema_from),
        schema_to: SchemaVersion(found.schema_to),
        migrations: in_order::<MigrationName>("migrations", &found.migrations)?,
        tests: in_order::<TestName>("tests", &found.tests)?,
        keys: keys(&found.key)?,
        quiet_milliseconds: found.quiet_ms,
        watch_milliseconds: found.watch_ms,
        errors_max: found.errors_max,
        clients_min: found.clients_min,
    };
    Ok(Agreed { application: input::value("application", &found.application)?, from, to, terms })
}

fn program_of(release: &Release, file: &ReleaseName) -> Result<ProgramTerm, Diagnostic> {
    let artifact = release.artifacts.iter().find(|artifact| artifact.name == *file);
    let artifact = artifact.ok_or_else(|| {
        let message = format!("release {} has no file {file}", release.name);
        Diagnostic::new(Code::InputValue, message)
            .hint("`program` is the name of the program's file in both bundles")
    })?;
    Ok(ProgramTerm { release: release.name.clone(), program: artifact.digest })
}

fn configuration(field: &str, text: &str) -> Result<ConfigurationDigest, Diagnostic> {
    input::value(field, text)
}

/// Values whose order means something.
fn in_order<T>(field: &str, texts: &[String]) -> Result<Vec<T>, Diagnostic>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    texts.iter().map(|text| input::value(field, text)).collect()
}

fn keys(found: &[KeyInput]) -> Result<Vec<KeyTerm>, Diagnostic> {
    let known = [KeyCustody::Keyring, KeyCustody::PerBoot];
    let one = |input: &KeyInput| {
        let custody = known.into_iter().find(|it| view_service::custody(*it) == input.custody);
        let custody = custody.ok_or_else(|| {
            Diagnostic::new(Code::InputValue, "the field key.custody has a bad value")
                .cause(format!("{:?} is not one of: keyring, per-boot", input.custody))
        })?;
        Ok(KeyTerm { key: input::value("key.key", &input.key)?, custody })
    };
    let keys = found.iter().map(one).collect::<Result<Vec<_>, Diagnostic>>()?;
    input::sorted("key", keys, |key| key.key.clone())
}
