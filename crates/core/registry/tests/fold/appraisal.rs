//! Rules about evidence in policies.

use heirloom_model::appraisal::{
    AcceptedAdvisory, AliasCheck, GraceEnd, NitroRule, PcrRule, Reference, RevocationDemand, Smt,
    SnpGeneration, SnpMinimum, SnpRule, TcbGrace, TdxRule, TpmRule, VekKind, VtpmRule,
};
use heirloom_model::counter::Time;
use heirloom_model::digest::HostAuthority;
use heirloom_model::measurement::{Register32, Register48};
use heirloom_model::policy::{AppraisalPolicy, Policy, TcbLevel};
use heirloom_model::root::Role;

use crate::world::{World, check, signed};

fn long(values: &[u8]) -> Reference<Register48> {
    Reference::Match(values.iter().map(|value| Register48::new([*value; 48])).collect())
}

fn short(values: &[u8]) -> Reference<Register32> {
    Reference::Match(values.iter().map(|value| Register32::new([*value; 32])).collect())
}

fn registers(indices: impl IntoIterator<Item = u8>) -> Vec<PcrRule> {
    indices.into_iter().map(|index| PcrRule { index, value: short(&[0, index + 1]) }).collect()
}

fn minimum(generation: SnpGeneration) -> SnpMinimum {
    SnpMinimum { generation, fmc: 0, bootloader: 1, tee: 0, snp: 2, microcode: 3 }
}

/// A rule for each kind, in which every list has two values.
fn ruled(policy: &mut Policy) {
    policy.appraisal.tdx = Some(TdxRule {
        module: long(&[1, 2]),
        attributes: Reference::Match(vec![0x1000_0000, 0x5000_0000]),
        xfam: Reference::Match(vec![0x3, 0xe7]),
        service_td: long(&[0, 1]),
    });
    policy.appraisal.snp = Some(SnpRule {
        tcb_min: [SnpGeneration::Milan, SnpGeneration::Genoa, SnpGeneration::Turin]
            .map(minimum)
            .to_vec(),
        keys: vec![VekKind::Vcek, VekKind::Vlek],
        vmpl_max: 3,
        id_key: long(&[0, 1]),
        author_key: long(&[0, 1]),
        host_data: short(&[0, 1]),
        smt: Smt::Accepted,
        revocation: RevocationDemand::Demanded,
        alias_check: AliasCheck::Demanded,
        unknown_info: 0x40,
    });
    policy.appraisal.nitro =
        Some(NitroRule { pcr3: long(&[1, 2]), pcr4: long(&[1, 2]), pcr8: long(&[1, 2]) });
    policy.appraisal.tpm = Some(TpmRule {
        registers: registers(0..16),
        revocation: RevocationDemand::Demanded,
        authorities: authorities(&[1, 2]),
    });
    let measured = vec![4, 9];
    let others = (0..16).filter(|index| !measured.contains(index));
    policy.appraisal.vtpm = Some(VtpmRule { registers: registers(others), measured });
}

fn authorities(values: &[u8]) -> Reference<HostAuthority> {
    Reference::Match(values.iter().map(|value| HostAuthority::new([*value; 32])).collect())
}

type Row = (&'static str, &'static str, fn(&mut Policy));

/// Each change alone makes the policy mean nothing.
fn refuses(rows: &[Row]) {
    let mut world = World::equipped();
    let mut policy = world.policy();
    ruled(&mut policy);
    check(&mut world, &policy, |policy| signed(policy, Role::Policy), rows);
    world.accept(&signed(&policy, Role::Policy));
}

fn of(policy: &mut Policy) -> &mut AppraisalPolicy {
    &mut policy.appraisal
}

fn tdx(policy: &mut Policy) -> &mut TdxRule {
    of(policy).tdx.as_mut().unwrap()
}

fn snp(policy: &mut Policy) -> &mut SnpRule {
    of(policy).snp.as_mut().unwrap()
}

fn nitro(policy: &mut Policy) -> &mut NitroRule {
    of(policy).nitro.as_mut().unwrap()
}

fn tpm(policy: &mut Policy) -> &mut Vec<PcrRule> {
    &mut of(policy).tpm.as_mut().unwrap().registers
}

fn vtpm(policy: &mut Policy) -> &mut VtpmRule {
    of(policy).vtpm.as_mut().unwrap()
}

#[test]
fn a_rule_for_tdx_means_something() {
    refuses(&[
        ("no module, meant as any", "shape", |it| tdx(it).module = long(&[])),
        ("modules out of order", "shape", |it| tdx(it).module = long(&[2, 1])),
        ("a module of nobody", "shape", |it| tdx(it).module = long(&[0, 1])),
        ("no attributes, meant as any", "shape", |it| {
            tdx(it).attributes = Reference::Match(Vec::new());
        }),
        ("attributes twice", "shape", |it| tdx(it).attributes = Reference::Match(vec![2, 2])),
        ("attributes with debug", "shape", |it| {
            tdx(it).attributes = Reference::Match(vec![0x1000_0001]);
        }),
        ("no features, meant as any", "shape", |it| tdx(it).xfam = Reference::Match(Vec::new())),
        ("features out of order", "shape", |it| tdx(it).xfam = Reference::Match(vec![2, 1])),
        ("no service domain, meant as any", "shape", |it| tdx(it).service_td = long(&[])),
        ("a service domain twice", "shape", |it| tdx(it).service_td = long(&[1, 1])),
    ]);
}

#[test]
fn a_rule_for_snp_means_something() {
    refuses(&[
        ("no generation", "shape", |it| snp(it).tcb_min.clear()),
        ("generations out of order", "shape", |it| snp(it).tcb_min.reverse()),
        ("a generation twice", "shape", |it| {
            snp(it).tcb_min.insert(1, minimum(SnpGeneration::Milan));
        }),
        ("a component that Milan has not", "shape", |it| snp(it).tcb_min[0].fmc = 1),
        ("a component that Genoa has not", "shape", |it| snp(it).tcb_min[1].fmc = 1),
        ("no key", "shape", |it| snp(it).keys.clear()),
        ("keys out of order", "shape", |it| snp(it).keys.reverse()),
        ("a level that no guest has", "shape", |it| snp(it).vmpl_max = 4),
        ("no identity key, meant as any", "shape", |it| snp(it).id_key = long(&[])),
        ("identity keys out of order", "shape", |it| snp(it).id_key = long(&[2, 1])),
        ("no author key, meant as any", "shape", |it| snp(it).author_key = long(&[])),
        ("an author key twice", "shape", |it| snp(it).author_key = long(&[1, 1])),
        ("no host data, meant as any", "shape", |it| snp(it).host_data = short(&[])),
        ("host data out of order", "shape", |it| snp(it).host_data = short(&[2, 1])),
        ("a known property named as unknown", "shape", |it| snp(it).unknown_info = 0x20),
    ]);
    // The one generation that has it.
    let mut world = World::equipped();
    let mut policy = world.policy();
    ruled(&mut policy);
    snp(&mut policy).tcb_min[2].fmc = 1;
    world.accept(&signed(&policy, Role::Policy));
}

#[test]
fn a_rule_for_nitro_means_something() {
    refuses(&[
        ("no role, meant as any", "shape", |it| nitro(it).pcr3 = long(&[])),
        ("roles out of order", "shape", |it| nitro(it).pcr3 = long(&[2, 1])),
        ("no parent, meant as any", "shape", |it| nitro(it).pcr4 = long(&[])),
        ("a parent twice", "shape", |it| nitro(it).pcr4 = long(&[1, 1])),
        ("no signer, meant as any", "shape", |it| nitro(it).pcr8 = long(&[])),
        ("signers out of order", "shape", |it| nitro(it).pcr8 = long(&[2, 1])),
    ]);
}

#[test]
fn a_rule_for_a_tpm_says_something_about_every_register() {
    refuses(&[
        ("a register left out", "shape", |it| drop(tpm(it).remove(7))),
        ("the last register left out", "shape", |it| drop(tpm(it).pop())),
        ("a register twice", "shape", |it| tpm(it)[7].index = 8),
        ("registers out of order", "shape", |it| tpm(it).swap(7, 8)),
        ("a register that is not quoted", "shape", |it| {
            tpm(it).push(PcrRule { index: 16, value: Reference::Skip });
        }),
        ("no value, meant as any", "shape", |it| tpm(it)[7].value = short(&[])),
        ("values out of order", "shape", |it| tpm(it)[7].value = short(&[2, 1])),
        ("no authority, meant as any", "shape", |it| {
            of(it).tpm.as_mut().unwrap().authorities = authorities(&[]);
        }),
        ("authorities out of order", "shape", |it| {
            of(it).tpm.as_mut().unwrap().authorities = authorities(&[2, 1]);
        }),
        ("nothing measured at all", "shape", |it| {
            for rule in tpm(it) {
                rule.value = short(&[0]);
            }
        }),
    ]);
    // One register that nobody looks at is not nothing.
    let mut world = World::equipped();
    let mut policy = world.policy();
    ruled(&mut policy);
    for rule in tpm(&mut policy) {
        rule.value = short(&[0]);
    }
    tpm(&mut policy)[0].value = Reference::Skip;
    world.accept(&signed(&policy, Role::Policy));
}

#[test]
fn a_virtual_tpm_measures_some_registers_and_a_rule_judges_the_others() {
    refuses(&[
        ("no measured register", "shape", |it| {
            *vtpm(it) = VtpmRule { measured: Vec::new(), registers: registers(0..16) };
        }),
        ("measured registers out of order", "shape", |it| vtpm(it).measured.reverse()),
        ("a register measured twice", "shape", |it| vtpm(it).measured = vec![4, 4, 9]),
        ("a measured register that is not quoted", "shape", |it| vtpm(it).measured.push(16)),
        ("measured and judged", "shape", |it| vtpm(it).measured.push(10)),
        ("neither measured nor judged", "shape", |it| vtpm(it).measured.truncate(1)),
        ("a register left out", "shape", |it| drop(vtpm(it).registers.remove(3))),
        ("registers out of order", "shape", |it| vtpm(it).registers.swap(3, 4)),
        ("no value, meant as any", "shape", |it| vtpm(it).registers[3].value = short(&[])),
    ]);
}

#[test]
fn advisories_have_names() {
    refuses(&[
        ("an advisory without a name", "shape", |it| {
            let nameless = AcceptedAdvisory { id: String::new(), until: Time(1) };
            of(it).advisories_accepted = vec![nameless];
        }),
        ("advisories out of order", "shape", |it| {
            let named = |id: &str| AcceptedAdvisory { id: id.into(), until: Time(1) };
            of(it).advisories_accepted = vec![named("INTEL-SA-2"), named("INTEL-SA-1")];
        }),
    ]);
}

#[test]
fn a_kind_without_a_rule_and_a_claim_that_nobody_looks_at_are_shapes_too() {
    let mut world = World::equipped();
    let mut policy = world.policy();
    ruled(&mut policy);
    tdx(&mut policy).module = Reference::Skip;
    snp(&mut policy).host_data = Reference::Skip;
    nitro(&mut policy).pcr3 = Reference::Skip;
    vtpm(&mut policy).registers[0].value = Reference::Skip;
    world.accept(&signed(&policy, Role::Policy));
}

#[test]
fn a_level_is_accepted_for_a_while_or_for_good() {
    let until = GraceEnd::Date(Time(1));
    let grace = |levels: &[TcbLevel]| -> Vec<TcbGrace> {
        levels.iter().map(|level| TcbGrace { level: *level, until }).collect()
    };
    let rows: [(&str, Vec<TcbGrace>); 4] = [
        ("nothing to grant", grace(&[TcbLevel::UpToDate])),
        ("a level twice", grace(&[TcbLevel::OutOfDate, TcbLevel::OutOfDate])),
        ("out of order", grace(&[TcbLevel::RelaunchAdvised, TcbLevel::OutOfDate])),
        ("accepted anyway", grace(&[TcbLevel::OutOfDate])),
    ];
    let mut world = World::equipped();
    let mut policy = world.policy();
    ruled(&mut policy);
    for (what, graces) in rows {
        let mut changed = policy.clone();
        if what == "accepted anyway" {
            of(&mut changed).tcb = vec![TcbLevel::UpToDate, TcbLevel::OutOfDate];
        } else {
            of(&mut changed).tcb = vec![TcbLevel::SwHardeningNeeded];
        }
        of(&mut changed).tcb_grace = graces;
        assert_eq!(world.code(&signed(&changed, Role::Policy)), "shape", "{what}");
    }
    of(&mut policy).tcb = vec![TcbLevel::UpToDate];
    of(&mut policy).tcb_grace = grace(&[TcbLevel::OutOfDate, TcbLevel::RelaunchAdvised]);
    world.accept(&signed(&policy, Role::Policy));
}
