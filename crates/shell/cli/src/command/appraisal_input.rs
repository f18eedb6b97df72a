//! Appraisal rules as people write them: a table for each kind of evidence that is accepted.
//!
//! Every field of a table is written down. What nobody looks at is the word "skip", never a field
//! that is left out, and a kind without a table is not accepted.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use heirloom_model::appraisal::{
    AcceptedAdvisory, AliasCheck, GraceEnd, NitroRule, PcrRule, Reference, RevocationDemand, Smt,
    SnpGeneration, SnpMinimum, SnpRule, TcbGrace, TdxRule, TpmRule, VekKind, VtpmRule,
};
use heirloom_model::evidence::BOOT_REGISTERS;
use heirloom_model::measurement::{Register32, Register48};
use heirloom_model::policy::{AppraisalPolicy, PlatformRule, TcbLevel};
use serde::Deserialize;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::view_appraisal::{alias_check, generation, revocation, smt, tcb_level, vek};
use crate::{input, view_appraisal};

/// The `[appraisal]` table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AppraisalInput {
    platforms: Scope,
    tcb: Vec<String>,
    advisories_accepted: Vec<AdvisoryInput>,
    tcb_evaluation_min: u32,
    tcb_grace: Vec<GraceInput>,
    collateral_grace_seconds: u64,
    tdx: Option<TdxInput>,
    snp: Option<SnpInput>,
    nitro: Option<NitroInput>,
    tpm: Option<TpmInput>,
    vtpm: Option<VtpmInput>,
}

/// A word that means all or nothing, said aloud, or a list.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Scope {
    /// The word.
    Word(String),
    /// The list.
    List(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdvisoryInput {
    id: String,
    until: String,
}

/// One of the two ends is written down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GraceInput {
    level: String,
    until: Option<String>,
    days_after_tcb_date: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TdxInput {
    module: Scope,
    attributes: Scope,
    xfam: Scope,
    service_td: Scope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SnpInput {
    tcb_min: Vec<MinimumInput>,
    keys: Vec<String>,
    vmpl_max: u8,
    id_key: Scope,
    author_key: Scope,
    host_data: Scope,
    smt: String,
    revocation: String,
    alias_check: String,
    unknown_info: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MinimumInput {
    generation: String,
    fmc: u8,
    bootloader: u8,
    tee: u8,
    snp: u8,
    microcode: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NitroInput {
    pcr3: Scope,
    pcr4: Scope,
    pcr8: Scope,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TpmInput {
    revocation: String,
    authorities: Scope,
    pcr: BTreeMap<String, Scope>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VtpmInput {
    measured: Vec<u8>,
    pcr: BTreeMap<String, Scope>,
}

/// Reads appraisal rules alone, for `heirloom evidence appraise`.
pub(crate) fn read(path: &Path) -> Result<AppraisalPolicy, Diagnostic> {
    appraisal(&input::read(path)?)
}

/// The rules that a table says.
pub(crate) fn appraisal(found: &AppraisalInput) -> Result<AppraisalPolicy, Diagnostic> {
    let platforms = match &found.platforms {
        Scope::Word(word) if word == "any" => PlatformRule::Any,
        Scope::Word(word) => return Err(input::other_word("appraisal.platforms", word, &["any"])),
        Scope::List(known) => PlatformRule::Only(input::values("appraisal.platforms", known)?),
    };
    let tcb = words("appraisal.tcb", &found.tcb, &TCB_LEVELS, tcb_level)?;
    let advisories =
        found.advisories_accepted.iter().map(advisory).collect::<Result<Vec<_>, Diagnostic>>()?;
    let graces = found.tcb_grace.iter().map(grace).collect::<Result<Vec<_>, Diagnostic>>()?;
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
        tdx: found.tdx.as_ref().map(tdx).transpose()?,
        snp: found.snp.as_ref().map(snp).transpose()?,
        nitro: found.nitro.as_ref().map(nitro).transpose()?,
        tpm: found.tpm.as_ref().map(tpm).transpose()?,
        vtpm: found.vtpm.as_ref().map(vtpm).transpose()?,
        tcb_grace: input::sorted("appraisal.tcb_grace", graces, |grace| grace.level)?,
    })
}

fn advisory(found: &AdvisoryInput) -> Result<AcceptedAdvisory, Diagnostic> {
    let until = input::time("appraisal.advisories_accepted.until", &found.until)?;
    Ok(AcceptedAdvisory { id: found.id.clone(), until })
}

fn grace(found: &GraceInput) -> Result<TcbGrace, Diagnostic> {
    let level = word("appraisal.tcb_grace.level", &found.level, &TCB_LEVELS, tcb_level)?;
    let until = match (&found.until, found.days_after_tcb_date) {
        (Some(day), None) => GraceEnd::Date(input::time("appraisal.tcb_grace.until", day)?),
        (None, Some(days)) => GraceEnd::AfterTcbDate(u64::from(days) * DAY_SECONDS),
        (Some(_), Some(_)) | (None, None) => {
            let message = "the field appraisal.tcb_grace does not have exactly one end";
            return Err(Diagnostic::new(Code::InputValue, message)
                .hint("write either until or days_after_tcb_date"));
        }
    };
    Ok(TcbGrace { level, until })
}

/// Seconds of a day.
pub(crate) const DAY_SECONDS: u64 = 24 * 60 * 60;

fn tdx(found: &TdxInput) -> Result<TdxRule, Diagnostic> {
    Ok(TdxRule {
        module: reference("appraisal.tdx.module", &found.module, input::value)?,
        attributes: reference("appraisal.tdx.attributes", &found.attributes, bits)?,
        xfam: reference("appraisal.tdx.xfam", &found.xfam, bits)?,
        service_td: reference("appraisal.tdx.service_td", &found.service_td, register)?,
    })
}

fn snp(found: &SnpInput) -> Result<SnpRule, Diagnostic> {
    let minima = found.tcb_min.iter().map(minimum).collect::<Result<Vec<_>, _>>()?;
    let keys = words("appraisal.snp.keys", &found.keys, &[VekKind::Vcek, VekKind::Vlek], vek)?;
    let threads = [Smt::Refused, Smt::Accepted];
    let checks = [AliasCheck::Demanded, AliasCheck::Skipped];
    Ok(SnpRule {
        tcb_min: input::sorted("appraisal.snp.tcb_min", minima, |least| least.generation)?,
        keys: input::sorted("appraisal.snp.keys", keys, |kind| *kind)?,
        vmpl_max: found.vmpl_max,
        id_key: reference("appraisal.snp.id_key", &found.id_key, register)?,
        author_key: reference("appraisal.snp.author_key", &found.author_key, register)?,
        host_data: reference("appraisal.snp.host_data", &found.host_data, data)?,
        smt: word("appraisal.snp.smt", &found.smt, &threads, smt)?,
        revocation: lists("appraisal.snp.revocation", &found.revocation)?,
        alias_check: word("appraisal.snp.alias_check", &found.alias_check, &checks, alias_check)?,
        unknown_info: bits("appraisal.snp.unknown_info", &found.unknown_info)?,
    })
}

/// Whether a list of revoked keys is demanded.
fn lists(field: &str, found: &str) -> Result<RevocationDemand, Diagnostic> {
    word(field, found, &[RevocationDemand::Demanded, RevocationDemand::IfPresent], revocation)
}

fn minimum(found: &MinimumInput) -> Result<SnpMinimum, Diagnostic> {
    let all = [SnpGeneration::Milan, SnpGeneration::Genoa, SnpGeneration::Turin];
    let field = "appraisal.snp.tcb_min.generation";
    Ok(SnpMinimum {
        generation: word(field, &found.generation, &all, generation)?,
        fmc: found.fmc,
        bootloader: found.bootloader,
        tee: found.tee,
        snp: found.snp,
        microcode: found.microcode,
    })
}

fn nitro(found: &NitroInput) -> Result<NitroRule, Diagnostic> {
    Ok(NitroRule {
        pcr3: reference("appraisal.nitro.pcr3", &found.pcr3, register)?,
        pcr4: reference("appraisal.nitro.pcr4", &found.pcr4, register)?,
        pcr8: reference("appraisal.nitro.pcr8", &found.pcr8, register)?,
    })
}

fn tpm(found: &TpmInput) -> Result<TpmRule, Diagnostic> {
    Ok(TpmRule {
        registers: registers("appraisal.tpm.pcr", &found.pcr, &[])?,
        revocation: lists("appraisal.tpm.revocation", &found.revocation)?,
        authorities: reference("appraisal.tpm.authorities", &found.authorities, input::value)?,
    })
}

fn vtpm(found: &VtpmInput) -> Result<VtpmRule, Diagnostic> {
    let measured = input::sorted("appraisal.vtpm.measured", found.measured.clone(), |pcr| *pcr)?;
    let registers = registers("appraisal.vtpm.pcr", &found.pcr, &measured)?;
    Ok(VtpmRule { measured, registers })
}

/// Each of PCR 0 to 15 exactly once, but for those that are measured: one by one, or from one to
/// another where nobody looks at them.
fn registers(
    field: &str,
    found: &BTreeMap<String, Scope>,
    measured: &[u8],
) -> Result<Vec<PcrRule>, Diagnostic> {
    let mut rules = Vec::new();
    for (key, values) in found {
        let field = format!("{field}.{key}");
        let (first, last) = range(&field, key)?;
        let value = reference(&field, values, input::value::<Register32>)?;
        if first != last && value != Reference::Skip {
            let message = format!("the field {field} says values for several registers");
            return Err(Diagnostic::new(Code::InputValue, message)
                .hint("registers have values one by one; only \"skip\" is said for several"));
        }
        rules.extend((first..=last).map(|index| PcrRule { index, value: value.clone() }));
    }
    let rules = input::sorted(field, rules, |rule| rule.index)?;
    for index in BOOT_REGISTERS {
        let is_ruled = rules.iter().any(|rule| rule.index == index);
        match (is_ruled, measured.contains(&index)) {
            (false, false) => {
                let message = format!("the field {field} says nothing about PCR {index}");
                return Err(Diagnostic::new(Code::InputMissing, message)
                    .hint("write its values down, or \"skip\" if nobody looks at it"));
            }
            (true, true) => {
                let message = format!("PCR {index} is measured and has a rule in {field} too");
                return Err(Diagnostic::new(Code::InputDuplicate, message));
            }
            (true, false) | (false, true) => {}
        }
    }
    Ok(rules)
}

/// `7`, or `8-15`.
fn range(field: &str, key: &str) -> Result<(u8, u8), Diagnostic> {
    let (first, last) = key.split_once('-').unwrap_or((key, key));
    let number = |text: &str| text.parse().ok().filter(|index| BOOT_REGISTERS.contains(index));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Ok((first, last)),
        _ => {
            let message = format!("the field {field} is not one of PCR 0 to 15");
            Err(Diagnostic::new(Code::InputValue, message))
        }
    }
}

/// A list of values, sorted, or the word "skip".
fn reference<T: Clone + Ord>(
    field: &str,
    found: &Scope,
    parse: impl Fn(&str, &str) -> Result<T, Diagnostic>,
) -> Result<Reference<T>, Diagnostic> {
    match found {
        Scope::Word(word) if word == "skip" => Ok(Reference::Skip),
        Scope::Word(word) => Err(input::other_word(field, word, &["skip", "a list of values"])),
        Scope::List(texts) => {
            let values = texts.iter().map(|text| parse(field, text));
            let values = values.collect::<Result<Vec<_>, _>>()?;
            Ok(Reference::Match(input::sorted(field, values, Clone::clone)?))
        }
    }
}

/// A number whose bits mean something, as `0x` and digits.
fn bits(field: &str, text: &str) -> Result<u64, Diagnostic> {
    let digits = text.strip_prefix("0x").filter(|digits| !digits.starts_with('+'));
    digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()).ok_or_else(|| {
        let message = format!("the field {field} has a bad value");
        Diagnostic::new(Code::InputValue, message)
            .cause(format!("{text:?} is not 0x and at most 16 hexadecimal digits"))
    })
}

/// A digest, or the word for zero.
fn register(field: &str, text: &str) -> Result<Register48, Diagnostic> {
    or_none(field, text, Register48::new([0; 48]))
}

fn data(field: &str, text: &str) -> Result<Register32, Diagnostic> {
    or_none(field, text, Register32::new([0; 32]))
}

fn or_none<T: FromStr<Err: Display>>(field: &str, text: &str, zero: T) -> Result<T, Diagnostic> {
    if text == view_appraisal::NONE { Ok(zero) } else { input::value(field, text) }
}

fn words<T: Copy>(
    field: &str,
    found: &[String],
    known: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<Vec<T>, Diagnostic> {
    found.iter().map(|text| word(field, text, known, &name)).collect()
}

/// One of the words that there are for a field.
fn word<T: Copy>(
    field: &str,
    found: &str,
    known: &[T],
    name: impl Fn(T) -> &'static str,
) -> Result<T, Diagnostic> {
    known.iter().copied().find(|value| name(*value) == found).ok_or_else(|| {
        let known: Vec<_> = known.iter().map(|value| name(*value)).collect();
        input::other_word(field, found, &known)
    })
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
