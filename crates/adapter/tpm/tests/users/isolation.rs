//! What launched code cannot reach, and that it is its user that keeps it away.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use crate::users::GROUP;
use crate::world::{AGENT, World, status};

const DENIED: &str = "PermissionDenied";
const STAY: &str = "stay";

#[test]
fn code_has_a_user_of_its_own_and_nothing_else() {
    let Some(mut world) = World::new() else { return };
    let stay = [STAY.to_owned()];
    let (one, _) = world.launched("keeper-1", &stay);
    let (again, _) = world.launched("keeper-1", &stay);
    let (other, _) = world.launched("keeper-2", &stay);
    let user = |process| status(process, "Uid");
    assert_eq!(user(one.process), "1900000000 1900000000 1900000000 1900000000");
    assert_eq!(user(again.process), user(one.process), "the same code");
    assert_eq!(user(other.process), "1900000001 1900000001 1900000001 1900000001");
    for process in [one.process, again.process, other.process] {
        assert_eq!(status(process, "Gid"), format!("{GROUP} {GROUP} {GROUP} {GROUP}"));
        assert_eq!(status(process, "Groups"), "");
        assert_eq!(status(process, "NoNewPrivs"), "1");
        assert_eq!(status(process, "Umask"), "0007");
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(status(process, set), "0000000000000000", "{set}");
        }
    }
    // The launcher and what else runs in this process stay what they are.
    let own = std::process::id();
    assert_eq!((status(own, "Uid"), status(own, "NoNewPrivs")), ("0 0 0 0".into(), "0".into()));
    world.stop();

    // Users outlive the launcher.
    world.start().unwrap();
    let (other_again, _) = world.launched("keeper-2", &stay);
    assert_eq!(user(other_again.process), "1900000001 1900000001 1900000001 1900000001");
}

#[test]
fn code_reaches_neither_tpm_nor_launcher_nor_other_code() {
    let Some(mut world) = World::new() else { return };
    let (other, _) = world.launched("keeper-2", &[STAY.to_owned()]);
    let (own_kind, _) = world.launched("keeper-1", &[STAY.to_owned()]);
    let tpm = world.swtpm.socket().display().to_string();
    let attempts = [
        format!("connect={tpm}"),
        format!("list={}", world.text("machine")),
        format!("read={}", world.text("machine/tpm-machine")),
        format!("read={}", world.text("machine/bundle-users")),
        format!("read={}", world.text("tpm/state/tpm2-00.permall")),
        format!("memory={}", std::process::id()),
        format!("memory={}", other.process),
        format!("read=/proc/{}/environ", std::process::id()),
        format!("read=/proc/{}/environ", other.process),
    ];
    let (_, went) = world.launched("keeper-1", &attempts);
    assert_eq!(went, vec![DENIED; attempts.len()], "{attempts:?}");

    // The attempts are good ones: it may do what it may.
    let may = [
        format!("connect={}", world.text("platform")),
        "identity".to_owned(),
        format!("list={}", world.text("shared")),
        // Of its own user: a system may forbid to trace that too, and not this.
        format!("read=/proc/{}/environ", own_kind.process),
    ];
    let (_, went) = world.launched("keeper-1", &may);
    assert_eq!(went, vec!["done"; may.len()], "{may:?}");
    // A TPM serves one connection: the launcher may have it.
    assert_eq!(world.other(0, 0, &attempts[1..]), vec!["done"; attempts.len() - 1], "as root");
}

#[test]
fn no_user_of_code_launches_whatever_it_runs() {
    let Some(mut world) = World::new() else { return };
    let bundle = world.bundle("keeper-2").display().to_string();
    let launch = format!("launch={bundle},{}", world.text("shared/log"));
    let attempts = [launch.clone(), format!("child={launch}"), "child=identity".to_owned()];
    let (_, went) = world.launched("keeper-1", &attempts);
    assert!(went[0].contains("a measured process may not ask this"), "{went:?}");
    assert!(went[1].contains("only the host's agent may ask this"), "{went:?}");
    assert!(went[2].contains("did not launch this process"), "{went:?}");
    assert!(!world.path("shared/log").exists());
}

#[test]
fn the_agent_is_whoever_has_its_group_and_may_do_no_more_through_the_launcher() {
    let Some(mut world) = World::new() else { return };
    let bundle = world.bundle("keeper-1").display().to_string();
    let with_log = |log: String| [format!("launch={bundle},{log}")];
    let log = with_log(world.text("agent/log"));
    let stranger = world.other(AGENT, AGENT, &log);
    assert!(stranger[0].contains("cannot be reached"), "{stranger:?}");
    assert_eq!(world.other(AGENT, GROUP, &log), ["done"]);
    let made = fs::metadata(world.path("agent/log")).unwrap();
    assert_eq!((made.uid(), made.gid(), made.mode() & 0o777), (AGENT, GROUP, 0o600));

    // A launcher that is root opens nothing that its agent may not.
    fs::create_dir(world.path("roots")).unwrap();
    let refused = world.other(AGENT, GROUP, &with_log(world.text("roots/log")));
    assert!(refused[0].contains("was not started"), "{refused:?}");
    assert!(!world.path("roots/log").exists());
    fs::rename(world.path("keeper-1"), world.path("machine/bundle")).unwrap();
    let hidden = format!("launch={},{}", world.text("machine/bundle"), world.text("agent/log"));
    let refused = world.other(AGENT, GROUP, &[hidden]);
    assert!(refused[0].contains("the bundle is refused"), "{refused:?}");
}
