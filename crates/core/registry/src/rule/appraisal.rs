//! Rules about evidence: what they must say, and what they cannot mean.

use heirloom_model::appraisal::{
    NitroRule, PLATFORM_INFO, PcrRule, Reference, SnpGeneration, SnpRule, TdxRule, TpmRule,
    VtpmRule,
};
use heirloom_model::evidence::BOOT_REGISTERS;
use heirloom_model::limit::{PLATFORMS_MAX, POLICY_RULES_MAX};
use heirloom_model::measurement::{Register32, Register48};
use heirloom_model::policy::{AppraisalPolicy, PlatformRule, TcbLevel};

use crate::refusal::{Fault, Refusal};
use crate::shape::{ascending, not_empty, require};

/// The least privileged level of an SEV-SNP guest.
const VMPL_MAX: u8 = 3;
/// The attribute of a trust domain that lets the host look into it (Intel TDX Module ABI, table
/// 3.23). It is refused whatever a policy says.
const TD_DEBUG: u64 = 1;

pub(super) fn check_shape(policy: &AppraisalPolicy) -> Result<(), Refusal> {
    if let PlatformRule::Only(platforms) = &policy.platforms {
        not_empty("policy.appraisal.platforms", platforms)?;
        ascending("policy.appraisal.platforms", platforms, PLATFORMS_MAX, |found| *found)?;
    }
    not_empty("policy.appraisal.tcb", &policy.tcb)?;
    ascending("policy.appraisal.tcb", &policy.tcb, POLICY_RULES_MAX, |level| *level)?;
    let advisories = &policy.advisories_accepted;
    let field = "policy.appraisal.advisories_accepted";
    ascending(field, advisories, POLICY_RULES_MAX, |found| found.id.clone())?;
    require(advisories.iter().all(|found| !found.id.is_empty()), field, Fault::Empty)?;
    graces(policy)?;
    policy.tdx.as_ref().map_or(Ok(()), tdx)?;
    policy.snp.as_ref().map_or(Ok(()), snp)?;
    policy.nitro.as_ref().map_or(Ok(()), nitro)?;
    policy.tpm.as_ref().map_or(Ok(()), tpm)?;
    policy.vtpm.as_ref().map_or(Ok(()), vtpm)
}

/// A level is accepted for a while or for good, and nothing is granted to one that lacks nothing.
fn graces(policy: &AppraisalPolicy) -> Result<(), Refusal> {
    let (field, graces) = ("policy.appraisal.tcb_grace", &policy.tcb_grace);
    ascending(field, graces, POLICY_RULES_MAX, |grace| grace.level)?;
    let lacking = graces.iter().all(|grace| grace.level != TcbLevel::UpToDate);
    require(lacking, field, Fault::OutOfRange)?;
    let for_a_while = graces.iter().all(|grace| !policy.tcb.contains(&grace.level));
    require(for_a_while, field, Fault::Unexpected)
}

fn tdx(rule: &TdxRule) -> Result<(), Refusal> {
    reference("policy.appraisal.tdx.module", &rule.module)?;
    // A trust domain always has a module, so zero would be nobody's.
    let is_zero = |module: &Register48| module.as_bytes().iter().all(|byte| *byte == 0);
    require(!any(&rule.module, is_zero), "policy.appraisal.tdx.module", Fault::Zero)?;
    let field = "policy.appraisal.tdx.attributes";
    reference(field, &rule.attributes)?;
    require(!any(&rule.attributes, |bits| bits & TD_DEBUG != 0), field, Fault::OutOfRange)?;
    reference("policy.appraisal.tdx.xfam", &rule.xfam)?;
    reference("policy.appraisal.tdx.service_td", &rule.service_td)
}

fn snp(rule: &SnpRule) -> Result<(), Refusal> {
    let field = "policy.appraisal.snp.tcb_min";
    not_empty(field, &rule.tcb_min)?;
    ascending(field, &rule.tcb_min, POLICY_RULES_MAX, |least| least.generation)?;
    // Machines before Turin have no FMC, so none of them would ever reach a minimum above zero.
    let possible =
        rule.tcb_min.iter().all(|least| least.generation >= SnpGeneration::Turin || least.fmc == 0);
    require(possible, "policy.appraisal.snp.tcb_min.fmc", Fault::OutOfRange)?;
    not_empty("policy.appraisal.snp.keys", &rule.keys)?;
    ascending("policy.appraisal.snp.keys", &rule.keys, POLICY_RULES_MAX, |kind| *kind)?;
    require(rule.vmpl_max <= VMPL_MAX, "policy.appraisal.snp.vmpl_max", Fault::OutOfRange)?;
    reference("policy.appraisal.snp.id_key", &rule.id_key)?;
    reference("policy.appraisal.snp.author_key", &rule.author_key)?;
    reference("policy.appraisal.snp.host_data", &rule.host_data)?;
    // What is known has rules of its own.
    let only_unknown = rule.unknown_info & PLATFORM_INFO == 0;
    require(only_unknown, "policy.appraisal.snp.unknown_info", Fault::OutOfRange)
}

fn nitro(rule: &NitroRule) -> Result<(), Refusal> {
    reference("policy.appraisal.nitro.pcr3", &rule.pcr3)?;
    reference("policy.appraisal.nitro.pcr4", &rule.pcr4)?;
    reference("policy.appraisal.nitro.pcr8", &rule.pcr8)
}

fn tpm(rule: &TpmRule) -> Result<(), Refusal> {
    registers("policy.appraisal.tpm.registers", &rule.registers, &[])?;
    reference("policy.appraisal.tpm.authorities", &rule.authorities)
}

fn vtpm(rule: &VtpmRule) -> Result<(), Refusal> {
    let field = "policy.appraisal.vtpm.measured";
    not_empty(field, &rule.measured)?;
    ascending(field, &rule.measured, BOOT_REGISTERS.len(), |index| *index)?;
    let known = rule.measured.iter().all(|index| BOOT_REGISTERS.contains(index));
    require(known, field, Fault::OutOfRange)?;
    registers("policy.appraisal.vtpm.registers", &rule.registers, &rule.measured)
}

/// Each of PCR 0 to 15 that is not measured, exactly once and in order.
fn registers(field: &'static str, rules: &[PcrRule], measured: &[u8]) -> Result<(), Refusal> {
    let others = BOOT_REGISTERS.filter(|index| !measured.contains(index));
    require(rules.iter().map(|rule| rule.index).eq(others), field, Fault::Unexpected)?;
    for rule in rules {
        reference(field, &rule.value)?;
    }
    // Registers that are all zero measured nothing, and are refused whatever a policy says.
    let is_zero = |value: &Register32| value.as_bytes().iter().all(|byte| *byte == 0);
    let only_zero = |rule: &PcrRule| match &rule.value {
        Reference::Match(values) => values.iter().all(is_zero),
        Reference::Skip => false,
    };
    let possible = !measured.is_empty() || !rules.iter().all(only_zero);
    require(possible, field, Fault::Zero)
}

/// Values are sorted, and there is one: nobody looking is a word.
fn reference<T: Ord + Clone>(field: &'static str, reference: &Reference<T>) -> Result<(), Refusal> {
    match reference {
        Reference::Match(values) => {
            not_empty(field, values)?;
            ascending(field, values, POLICY_RULES_MAX, Clone::clone)
        }
        Reference::Skip => Ok(()),
    }
}

fn any<T>(reference: &Reference<T>, is: impl Fn(&T) -> bool) -> bool {
    match reference {
        Reference::Match(values) => values.iter().any(is),
        Reference::Skip => false,
    }
}
