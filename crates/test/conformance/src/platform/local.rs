//! Local reports: what one enclave says to another on the same CPU.
//!
//! The original is the one that is addressed, and other code is what speaks to it.

use heirloom_attest::local::appraise_local;
use heirloom_keeper::port::{Platform, PlatformError, PlatformIdentity};
use heirloom_model::counter::SecurityVersion;
use heirloom_model::evidence::{LocalReport, ReportData, ReportTarget};

use super::{Feature, Has as _, PlatformWorld, Variant};

const DATA: ReportData = ReportData::new([0xa5; ReportData::BYTES]);

pub(super) fn run<W: PlatformWorld>(mut factory: impl FnMut() -> W) {
    a_report_says_who_made_it_and_what_it_was_told_to_say(&mut factory());
    a_report_holds_for_every_instance_of_the_addressed_code_on_its_cpu(&mut factory());
    a_report_holds_for_nobody_else(&mut factory());
    a_report_of_another_cpu_is_refused(&mut factory());
    if factory().has(Feature::Microcode) {
        a_report_of_older_microcode_is_refused(&mut factory());
    }
    a_report_with_a_changed_byte_is_refused(&mut factory());
    a_report_for_another_target_is_refused(&mut factory());
}

fn target(enclave: &impl Platform) -> ReportTarget {
    enclave.report_target().expect("a measured process can be addressed")
}

fn report(speaker: &impl Platform, listener: &impl Platform) -> LocalReport {
    speaker.report(&target(listener), &DATA).expect("a measured process can report")
}

fn refused(listener: &impl Platform, report: &LocalReport, what: &str) {
    let found = listener.verify_report(report);
    assert_eq!(found, Err(PlatformError::ReportRefused), "{what}");
}

fn a_report_says_who_made_it_and_what_it_was_told_to_say(world: &mut impl PlatformWorld) {
    let listener = world.start(Variant::Original);
    for variant in [Variant::Original, Variant::OtherMeasurement, Variant::LowerSecurityVersion] {
        let speaker = world.start(variant);
        for data in [DATA, ReportData::new([0; ReportData::BYTES])] {
            let report = speaker.report(&target(&listener), &data);
            let report = report.expect("a measured process can report");
            let verify = |report: &LocalReport| listener.verify_report(report);
            let identity = speaker.identity().expect("a measured process has an identity");
            let kind = identity.measurement.kind();
            let found = appraise_local(kind, &report, &data, verify).expect("it was made for this");
            let PlatformIdentity { measurement, signer, product_id, isv_svn, cpu_svn, .. } =
                identity;
            assert_eq!(found.measurement(), measurement, "{variant:?}");
            assert_eq!(found.signer(), signer, "{variant:?}");
            assert_eq!(found.product_id(), product_id, "{variant:?}");
            assert_eq!(found.security_version(), SecurityVersion(u64::from(isv_svn)));
            assert_eq!(found.cpu_svn(), cpu_svn, "{variant:?}");
        }
    }
}

fn a_report_holds_for_every_instance_of_the_addressed_code_on_its_cpu(
    world: &mut impl PlatformWorld,
) {
    let listener = world.start(Variant::Original);
    let speaker = world.start(Variant::OtherMeasurement);
    let report = report(&speaker, &listener);
    assert_eq!(listener.verify_report(&report), Ok(()));
    assert_eq!(listener.verify_report(&report), Ok(()), "asked twice");
    let again = world.start(Variant::Original);
    assert_eq!(again.verify_report(&report), Ok(()), "another instance");
    assert_eq!(target(&again), target(&listener));
}

fn a_report_holds_for_nobody_else(world: &mut impl PlatformWorld) {
    let listener = world.start(Variant::Original);
    let speaker = world.start(Variant::OtherMeasurement);
    let report = report(&speaker, &listener);
    refused(&speaker, &report, "whoever made it");
    refused(&world.start(Variant::OtherCpu), &report, "the same code on another CPU");
    refused(&world.start(Variant::DebugTwin), &report, "the debug twin");
    if world.has(Feature::Microcode) {
        refused(&world.start(Variant::RolledBackCpu), &report, "the CPU before its update");
    }
}

fn a_report_of_another_cpu_is_refused(world: &mut impl PlatformWorld) {
    let listener = world.start(Variant::Original);
    let speaker = world.start(Variant::OtherCpu);
    // The very same code and the very same words: only the CPU differs.
    assert_eq!(target(&speaker), target(&listener));
    refused(&listener, &report(&speaker, &listener), "made on another CPU");
    assert_eq!(listener.verify_report(&report(&listener, &listener)), Ok(()));
}

fn a_report_of_older_microcode_is_refused(world: &mut impl PlatformWorld) {
    let listener = world.start(Variant::Original);
    let speaker = world.start(Variant::OtherMeasurement);
    let report = report(&speaker, &listener);
    assert_eq!(listener.verify_report(&report), Ok(()));
    world.update_microcode();
    refused(&world.start(Variant::Original), &report, "made before the update");
}

fn a_report_with_a_changed_byte_is_refused(world: &mut impl PlatformWorld) {
    let listener = world.start(Variant::Original);
    let speaker = world.start(Variant::OtherMeasurement);
    let report = report(&speaker, &listener);
    assert_eq!(listener.verify_report(&report), Ok(()));
    for at in 0..LocalReport::BYTES {
        let mut changed = *report.as_bytes();
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= 1;
        }
        refused(&listener, &LocalReport::new(changed), &format!("byte {at}"));
    }
}

fn a_report_for_another_target_is_refused(world: &mut impl PlatformWorld) {
    let listener = world.start(Variant::Original);
    let speaker = world.start(Variant::OtherMeasurement);
    for at in 0..ReportTarget::BYTES {
        let mut changed = *target(&listener).as_bytes();
        if let Some(byte) = changed.get_mut(at) {
            *byte ^= 1;
        }
        // A platform may refuse a target that cannot be one of its own.
        match speaker.report(&ReportTarget::new(changed), &DATA) {
            Ok(report) => refused(&listener, &report, &format!("byte {at} of the target")),
            Err(error) => assert!(matches!(error, PlatformError::Unsupported(_)), "{error}"),
        }
    }
}
