//! Releases.

use heirloom_model::counter::Time;
use heirloom_model::digest::NetworkId;
use heirloom_model::envelope::Envelope;
use heirloom_model::limit::{ARTIFACT_BYTES_MAX, RELEASE_BYTES_MAX};
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::release::Release;
use heirloom_model::root::Role;
use heirloom_model::wire;
use heirloom_registry::refusal::Refusal;

use crate::world::{OLD, World, check, name, role_keys, signed};

#[test]
fn a_release_says_what_it_is() {
    let mut world = World::begun();
    let release = world.release("keeper-1", OLD);
    check(
        &mut world,
        &release,
        |release| signed(release, Role::Release),
        &[
            ("another network", "other-network", |it| it.network = NetworkId::new([1; 32])),
            ("expired", "expired", |it| it.not_after = Time(1)),
            ("no measurement", "shape", |it| it.measurements.clear()),
            ("a zero measurement", "shape", |it| {
                it.measurements = vec![Measurement::Sgx(MrEnclave::new([0; 32]))];
            }),
            ("a measurement twice", "shape", |it| it.measurements.push(OLD)),
            ("no artifacts", "shape", |it| it.artifacts.clear()),
            ("an artifact twice", "shape", |it| {
                let artifact = it.artifacts[0].clone();
                it.artifacts.push(artifact);
            }),
            ("artifacts out of order", "shape", |it| {
                let mut artifact = it.artifacts[0].clone();
                artifact.name = name("a");
                it.artifacts.push(artifact);
            }),
        ],
    );
    let one = Envelope::signed(&release, &role_keys(Role::Release)[..1]);
    assert_eq!(world.code(&one), "threshold-not-met");
    assert_eq!(world.code(&signed(&release, Role::Operator)), "unknown-signer");
    world.accept(&signed(&release, Role::Release));
    assert_eq!(world.state.release(&release.digest()).unwrap().get(), &release);
    assert_eq!(world.state.releases_with(OLD).count(), 1);
}

#[test]
fn a_name_is_given_once() {
    let mut world = World::begun();
    let mut release = world.release("keeper-1", OLD);
    world.accept(&signed(&release, Role::Release));
    assert_eq!(world.code(&signed(&release, Role::Release)), "name-taken");
    release.artifacts[0].size = 2;
    assert_eq!(world.code(&signed(&release, Role::Release)), "name-taken");
    release.name = name("keeper-2");
    assert_eq!(world.code(&signed(&release, Role::Release)), "accepted");
}

/// A release of files of these sizes.
fn sized(world: &World, sizes: &[u64]) -> Release {
    let mut release = world.release("keeper-1", OLD);
    let file = release.artifacts.remove(0);
    for (number, size) in sizes.iter().enumerate() {
        let mut file = file.clone();
        (file.name, file.size) = (name(&format!("file-{number}")), *size);
        release.artifacts.push(file);
    }
    release
}

/// The field that is refused; none if the release counts.
fn refused(world: &mut World, sizes: &[u64]) -> Option<&'static str> {
    let envelope = signed(&sized(world, sizes), Role::Release);
    match world.state.judge(&wire::encode(&envelope)) {
        Ok(_) => None,
        Err(Refusal::Shape { field, .. }) => Some(field),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_release_is_no_larger_than_agents_have_room_for() {
    let mut world = World::begun();
    let each = Some("release.artifacts.size");
    assert_eq!(refused(&mut world, &[ARTIFACT_BYTES_MAX]), None);
    assert_eq!(refused(&mut world, &[ARTIFACT_BYTES_MAX + 1]), each);
    assert_eq!(refused(&mut world, &[1, u64::MAX]), each, "a sum that does not fit is no accident");
    assert_eq!(RELEASE_BYTES_MAX, 4 * ARTIFACT_BYTES_MAX);
    let whole = [ARTIFACT_BYTES_MAX; 4];
    assert_eq!(refused(&mut world, &whole), None);
    assert_eq!(refused(&mut world, &[&whole[..], &[1]].concat()), Some("release.artifacts"));
    assert_eq!(sized(&world, &[1, u64::MAX]).bytes(), u64::MAX);
}
