//! The table of users, and when a machine is not served.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use heirloom_launcher::client::ClientError;
use heirloom_launcher::protocol::{LaunchRequest, Refusal, WireMode};
use heirloom_launcher::users::{AgentGroup, BundleUsers, TABLE, UserRange, UsersError};
use heirloom_tpm::machine::BindError;

use crate::users::GROUP;
use crate::world::World;

fn users_error(world: &mut World) -> UsersError {
    match world.start() {
        Err(BindError::Users(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(()) => panic!("it is served"),
    }
}

#[test]
fn a_machine_whose_table_or_directory_is_not_right_is_not_served() {
    let Some(mut world) = World::new() else { return };
    world.launched("keeper-1", &[]);
    world.stop();
    let table = world.path("machine").join(TABLE);
    let whole = fs::read(&table).unwrap();
    let mut damaged = whole.clone();
    damaged[20] ^= 1;
    fs::write(&table, damaged).unwrap();
    assert!(matches!(users_error(&mut world), UsersError::Corrupt { .. }));
    fs::write(&table, &whole).unwrap();

    let ours = world.users;
    let elsewhere = UserRange::new(1_900_000_001, 1_900_000_016).unwrap();
    world.users = BundleUsers::new(elsewhere, AgentGroup(GROUP)).unwrap();
    let refused = users_error(&mut world);
    assert!(matches!(refused, UsersError::OutOfRange { user: 1_900_000_000, .. }), "{refused}");
    world.users = ours;

    let mode = |mode| fs::set_permissions(world.path("machine"), fs::Permissions::from_mode(mode));
    mode(0o710).unwrap();
    assert!(matches!(users_error(&mut world), UsersError::OpenDirectory { .. }));
    fs::set_permissions(world.path("machine"), fs::Permissions::from_mode(0o700)).unwrap();
    world.start().unwrap();
}

#[test]
fn code_without_a_user_is_not_launched() {
    let Some(mut world) = World::new() else { return };
    world.stop();
    let sixteen = UserRange::new(1_900_000_000, 1_900_000_015).unwrap();
    world.users = BundleUsers::new(sixteen, AgentGroup(GROUP)).unwrap();
    world.start().unwrap();
    let request = |world: &World, number: u32| LaunchRequest {
        bundle: world.bundle(&format!("keeper-{number}")).display().to_string(),
        arguments: Vec::new(),
        log: world.text("log"),
        mode: WireMode::Production,
        label: "keeper".to_owned(),
    };
    for number in 1..=16 {
        world.launch(request(&world, number)).unwrap();
    }
    let refused = world.launch(request(&world, 17)).unwrap_err();
    assert_eq!(refused, ClientError::Refused(Refusal::UsersExhausted { users: 16 }));
    world.launch(request(&world, 16)).unwrap();
}

#[test]
fn users_and_groups_of_somebody_are_refused() {
    if crate::users::bundle_users().is_none() {
        return;
    }
    let free = UserRange::new(1_900_000_000, 1_900_000_015).unwrap();
    let group = |number| BundleUsers::new(free, AgentGroup(number));
    assert!(matches!(group(0), Err(UsersError::Reserved { number: 0 })));
    // `daemon` and others have these everywhere.
    let system = UserRange::new(1, 16).unwrap();
    let refused = BundleUsers::new(system, AgentGroup(GROUP));
    assert!(matches!(refused, Err(UsersError::Taken { .. })), "{refused:?}");
}
