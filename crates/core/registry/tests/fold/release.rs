//! Releases.

use heirloom_model::counter::Time;
use heirloom_model::digest::NetworkId;
use heirloom_model::envelope::Envelope;
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::root::Role;

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
