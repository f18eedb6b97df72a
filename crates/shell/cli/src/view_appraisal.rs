//! Appraisal rules and anchors as JSON, in the words in which people write them.
//!
//! Nothing is left out: a claim that nobody looks at is shown as "skip", and a kind of evidence
//! that is not accepted says so.

use heirloom_attest::result::{AnchorClass, Tcb};
use heirloom_model::appraisal::{
    AcceptedAdvisory, AliasCheck, GraceEnd, NitroRule, PcrRule, Reference, RevocationDemand, Smt,
    SnpGeneration, SnpMinimum, SnpRule, TcbGrace, TdxRule, TpmRule, VekKind,
};
use heirloom_model::evidence::TrustAnchor;
use heirloom_model::measurement::{Register32, Register48};
use heirloom_model::policy::{AppraisalPolicy, PlatformRule, TcbLevel};
use serde_json::{Map, Value, json};

use crate::command::appraisal_input::DAY_SECONDS;
use crate::time;

/// The word for a claim that nobody looks at.
const SKIP: &str = "skip";
/// The word for a digest of nothing, which is zero.
pub(crate) const NONE: &str = "none";
/// What stands in the place of the rule of a kind without one.
const NOT_ACCEPTED: &str = "not accepted";

/// All rules.
pub(crate) fn appraisal(policy: &AppraisalPolicy) -> Value {
    let platforms = match &policy.platforms {
        PlatformRule::Any => Value::from("any"),
        PlatformRule::Only(platforms) => platforms.iter().map(ToString::to_string).collect(),
    };
    let advisory =
        |found: &AcceptedAdvisory| json!({ "id": found.id, "until": time::show(found.until) });
    let advisories: Vec<Value> = policy.advisories_accepted.iter().map(advisory).collect();
    let levels: Vec<&str> = policy.tcb.iter().map(|level| tcb_level(*level)).collect();
    let accepted = |rule: Option<Value>| rule.unwrap_or_else(|| NOT_ACCEPTED.into());
    json!({
        "platforms": platforms,
        "tcb": levels,
        "advisories_accepted": advisories,
        "tcb_evaluation_min": policy.tcb_evaluation_min,
        "tcb_grace": policy.tcb_grace.iter().map(grace).collect::<Vec<_>>(),
        "collateral_grace_seconds": policy.collateral_grace_seconds,
        "tdx": accepted(policy.tdx.as_ref().map(tdx)),
        "snp": accepted(policy.snp.as_ref().map(snp)),
        "nitro": accepted(policy.nitro.as_ref().map(nitro)),
        "tpm": accepted(policy.tpm.as_ref().map(tpm)),
        "vtpm": accepted(policy.vtpm.as_ref().map(|rule| {
            json!({ "measured": rule.measured, "pcr": registers(&rule.registers) })
        })),
    })
}

fn grace(grace: &TcbGrace) -> Value {
    let level = tcb_level(grace.level);
    match grace.until {
        GraceEnd::Date(until) => json!({ "level": level, "until": time::show(until) }),
        GraceEnd::AfterTcbDate(seconds) => {
            json!({ "level": level, "days_after_tcb_date": seconds / DAY_SECONDS })
        }
    }
}

fn tdx(rule: &TdxRule) -> Value {
    json!({
        "module": reference(&rule.module, ToString::to_string),
        "attributes": reference(&rule.attributes, |bits| format!("{bits:#x}")),
        "xfam": reference(&rule.xfam, |bits| format!("{bits:#x}")),
        "service_td": reference(&rule.service_td, or_none),
    })
}

fn snp(rule: &SnpRule) -> Value {
    let minimum = |least: &SnpMinimum| {
        json!({
            "generation": generation(least.generation),
            "fmc": least.fmc,
            "bootloader": least.bootloader,
            "tee": least.tee,
            "snp": least.snp,
            "microcode": least.microcode,
        })
    };
    let minima: Vec<Value> = rule.tcb_min.iter().map(minimum).collect();
    let keys: Vec<&str> = rule.keys.iter().map(|kind| vek(*kind)).collect();
    json!({
        "tcb_min": minima,
        "keys": keys,
        "vmpl_max": rule.vmpl_max,
        "id_key": reference(&rule.id_key, or_none),
        "author_key": reference(&rule.author_key, or_none),
        "host_data": reference(&rule.host_data, |found: &Register32| {
            let is_zero = found.as_bytes().iter().all(|byte| *byte == 0);
            if is_zero { NONE.to_owned() } else { found.to_string() }
        }),
        "smt": smt(rule.smt),
        "revocation": revocation(rule.revocation),
        "alias_check": alias_check(rule.alias_check),
        "unknown_info": format!("{:#x}", rule.unknown_info),
    })
}

fn nitro(rule: &NitroRule) -> Value {
    json!({
        "pcr3": reference(&rule.pcr3, or_none),
        "pcr4": reference(&rule.pcr4, or_none),
        "pcr8": reference(&rule.pcr8, or_none),
    })
}

fn tpm(rule: &TpmRule) -> Value {
    json!({
        "authorities": reference(&rule.authorities, ToString::to_string),
        "pcr": registers(&rule.registers),
        "revocation": revocation(rule.revocation),
    })
}

/// By index, with two digits so that they stand in their order.
fn registers(rules: &[PcrRule]) -> Value {
    let rules = rules
        .iter()
        .map(|rule| (format!("{:02}", rule.index), reference(&rule.value, ToString::to_string)));
    Value::Object(rules.collect::<Map<_, _>>())
}

fn reference<T>(reference: &Reference<T>, show: impl Fn(&T) -> String) -> Value {
    match reference {
        Reference::Match(values) => values.iter().map(show).collect(),
        Reference::Skip => SKIP.into(),
    }
}

fn or_none(found: &Register48) -> String {
    let is_zero = found.as_bytes().iter().all(|byte| *byte == 0);
    if is_zero { NONE.to_owned() } else { found.to_string() }
}

/// A trust anchor: whose word it is about, and whether it is a manufacturer's.
pub(crate) fn anchor(anchor: &TrustAnchor) -> Value {
    let id = anchor.id();
    json!({
        "id": id.to_string(),
        "kind": anchor_kind(anchor),
        "class": AnchorClass::of(&id).name(),
    })
}

/// The word for what an anchor vouches for.
pub(crate) fn anchor_kind(anchor: &TrustAnchor) -> &'static str {
    match anchor {
        TrustAnchor::SgxDcap(_) => "sgx",
        TrustAnchor::Snp(_) => "snp",
        TrustAnchor::Nitro(_) => "nitro",
        TrustAnchor::Tpm(_) => "tpm",
    }
}

/// The words for what is known about a machine's firmware.
pub(crate) fn tcb(tcb: Tcb) -> String {
    match tcb {
        Tcb::Intel(level) => tcb_level(level).to_owned(),
        other => other.to_string(),
    }
}

/// The word for a TCB level.
pub(crate) fn tcb_level(level: TcbLevel) -> &'static str {
    match level {
        TcbLevel::UpToDate => "up-to-date",
        TcbLevel::SwHardeningNeeded => "sw-hardening-needed",
        TcbLevel::ConfigurationNeeded => "configuration-needed",
        TcbLevel::ConfigurationAndSwHardeningNeeded => "configuration-and-sw-hardening-needed",
        TcbLevel::OutOfDate => "out-of-date",
        TcbLevel::OutOfDateConfigurationNeeded => "out-of-date-configuration-needed",
        TcbLevel::RelaunchAdvised => "relaunch-advised",
        TcbLevel::RelaunchAdvisedConfigurationNeeded => "relaunch-advised-configuration-needed",
    }
}

/// The word for a generation of SEV-SNP machines.
pub(crate) fn generation(generation: SnpGeneration) -> &'static str {
    match generation {
        SnpGeneration::Milan => "milan",
        SnpGeneration::Genoa => "genoa",
        SnpGeneration::Turin => "turin",
    }
}

/// The word for a kind of key that signs SEV-SNP reports.
pub(crate) fn vek(kind: VekKind) -> &'static str {
    match kind {
        VekKind::Vcek => "vcek",
        VekKind::Vlek => "vlek",
    }
}

/// The word for whether hyper-threading is accepted.
pub(crate) fn smt(smt: Smt) -> &'static str {
    match smt {
        Smt::Refused => "refused",
        Smt::Accepted => "accepted",
    }
}

/// The word for whether machines must have looked for aliases of their memory.
pub(crate) fn alias_check(check: AliasCheck) -> &'static str {
    match check {
        AliasCheck::Demanded => "demanded",
        AliasCheck::Skipped => SKIP,
    }
}

/// The word for whether a list of revoked keys is demanded.
pub(crate) fn revocation(revocation: RevocationDemand) -> &'static str {
    match revocation {
        RevocationDemand::Demanded => "demanded",
        RevocationDemand::IfPresent => "if-present",
    }
}
