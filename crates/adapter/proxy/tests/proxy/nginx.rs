//! What is special about nginx.

use std::fs;
use std::process::Command;
use std::time::Duration;

use heirloom_proxy::edge::EdgeAdmission::{Closed, Open};
use heirloom_proxy::edge::{Edge, EdgeError};
use heirloom_proxy::nginx::{CLOSED, NginxEdge, OPEN};
use heirloom_proxy::template;
use nix::sys::signal::Signal;

use crate::client::{Client, status};
use crate::world::{Kind, World, admission, until_state};

fn written(world: &World) -> String {
    fs::read_to_string(world.fence()).unwrap()
}

#[test]
fn a_broken_configuration_is_refused_and_the_old_fence_stays() {
    let Some(world) = World::start(Kind::Nginx) else { return };
    let mut edge = world.edge();
    let path = world.service.directory.join("nginx.conf");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("listen", "lisen")).unwrap();
    let refused = edge.close().unwrap_err();
    assert!(matches!(refused, EdgeError::Refused { .. }), "{refused:?}");
    assert!(refused.to_string().contains("unknown directive \"lisen\""), "{refused}");
    assert_eq!(written(&world), OPEN);
    assert_eq!(admission(&mut *edge), Open);
    assert_eq!(status(world.service.client_port), 200);
    fs::write(&path, good).unwrap();
    edge.close().unwrap();
    assert_eq!(status(world.service.client_port), 503);
}

#[test]
fn a_pid_file_that_names_another_process_is_refused() {
    let Some(world) = World::start(Kind::Nginx) else { return };
    let Some(other) = World::start(Kind::Nginx) else { return };
    let pid_file = world.service.directory.join("nginx.pid");
    let mut edge = world.edge();
    // Ourselves, and an nginx that is not this one: a signal would go to the wrong place.
    for pid in [std::process::id(), other.proxy_pid()] {
        fs::write(&pid_file, pid.to_string()).unwrap();
        for result in [edge.observe().map(|_state| ()), edge.close(), edge.open()] {
            assert!(matches!(result, Err(EdgeError::Refused { .. })), "{result:?}");
        }
        assert_eq!(written(&world), OPEN);
    }
    fs::write(&pid_file, "nobody").unwrap();
    let unexpected = edge.observe();
    assert!(matches!(unexpected, Err(EdgeError::Unexpected { .. })), "{unexpected:?}");
    fs::write(&pid_file, world.proxy_pid().to_string()).unwrap();
    edge.close().unwrap();
}

#[test]
fn a_caller_that_was_killed_before_the_reload_has_closed_nothing_yet() {
    let Some(world) = World::start(Kind::Nginx) else { return };
    let mut edge = world.edge();
    // What such a caller leaves, and one that was killed while it wrote.
    fs::write(world.fence(), CLOSED).unwrap();
    fs::write(world.service.directory.join(".fence.conf.new"), &CLOSED[..40]).unwrap();
    assert_eq!(admission(&mut *edge), Open, "the running nginx has not read it");
    assert_eq!(status(world.service.client_port), 200);
    edge.close().unwrap();
    assert_eq!(status(world.service.client_port), 503);
    assert_eq!(admission(&mut *edge), Closed);
    // The same on the way back.
    fs::write(world.fence(), OPEN).unwrap();
    assert_eq!(admission(&mut *edge), Closed);
    edge.open().unwrap();
    assert_eq!(admission(&mut *edge), Open);
}

#[test]
fn whoever_connected_before_and_asks_late_is_counted_until_gone() {
    let Some(world) = World::start(Kind::Nginx) else { return };
    let mut edge = world.edge();
    let mut early = Client::connect(world.service.client_port);
    // An answer on a later connection: nginx accepts in turn, so the first one is accepted too.
    until_state(&mut *edge, Open, 0);
    edge.close().unwrap();
    let held = edge.observe().unwrap();
    match early.fetch("/") {
        // The old worker had it: it lets this one in, and has said that there may be one.
        Some(head) if head.status == 200 => assert_eq!(held.connections, 1),
        // A new worker took it, or the old one had not accepted it.
        other => assert!(other.is_none_or(|head| head.status == 503)),
    }
    drop(early);
    until_state(&mut *edge, Closed, 0);
}

#[test]
fn a_fence_that_is_missing_or_not_included_is_told() {
    let Some(mut world) = World::prepare(Kind::Nginx) else { return };
    let path = world.service.directory.join("nginx.conf");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replace("include ", "# include ")).unwrap();
    world.start_proxy();
    let mut edge = world.edge();
    for result in [edge.observe().map(|_state| ()), edge.close(), edge.open()] {
        assert!(matches!(result, Err(EdgeError::Unexpected { .. })), "{result:?}");
    }
    fs::write(&path, good).unwrap();
    world.reload_by_somebody_else();
    edge.close().unwrap();
    fs::remove_file(world.fence()).unwrap();
    for result in [edge.close(), edge.open()] {
        assert!(matches!(result, Err(EdgeError::Missing { .. })), "{result:?}");
    }
    // What runs is not what is written, and what runs counts.
    assert_eq!(admission(&mut *edge), Closed);
}

#[test]
fn an_nginx_that_was_closed_while_it_did_not_run_starts_closed() {
    let Some(mut world) = World::prepare(Kind::Nginx) else { return };
    let mut edge = world.edge();
    let unreachable = edge.close();
    assert!(matches!(unreachable, Err(EdgeError::Unreachable { .. })), "{unreachable:?}");
    let unreachable = edge.open();
    assert!(matches!(unreachable, Err(EdgeError::Unreachable { .. })), "{unreachable:?}");
    assert_eq!(written(&world), CLOSED, "nobody is let in by what did not answer");
    world.start_proxy();
    assert_eq!(admission(&mut *edge), Closed);
    assert_eq!(status(world.service.client_port), 503);
}

#[test]
fn a_check_that_cannot_run_changes_nothing() {
    let Some(world) = World::start(Kind::Nginx) else { return };
    let mut options = template::nginx_options(&world.service);
    options.program = "/nonexistent/nginx".into();
    let missing = NginxEdge::new(options).close();
    assert!(matches!(missing, Err(EdgeError::Missing { .. })), "{missing:?}");
    assert_eq!(written(&world), OPEN);
    assert_eq!(status(world.service.client_port), 200);
}

#[test]
fn a_check_that_does_not_end_is_unknown_and_changes_nothing() {
    let Some(world) = World::start(Kind::Nginx) else { return };
    // Whoever opens it waits for somebody who writes.
    let pipe = world.service.directory.join("endless.conf");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut options = template::nginx_options(&world.service);
    (options.configuration, options.timeout) = (pipe, Duration::from_millis(500));
    let late = NginxEdge::new(options).close();
    assert!(
        matches!(&late, Err(EdgeError::Unreachable { what, .. }) if what.contains("check")),
        "{late:?}"
    );
    assert_eq!(written(&world), OPEN);
    assert_eq!(status(world.service.client_port), 200);
    world.edge().close().unwrap();
}

#[test]
fn a_reload_that_takes_too_long_is_unknown_and_may_be_repeated() {
    let Some(world) = World::start(Kind::Nginx) else { return };
    world.signal(Signal::SIGSTOP);
    let late = world.edge_that_waits(Duration::from_secs(3)).close();
    world.signal(Signal::SIGCONT);
    assert!(
        matches!(&late, Err(EdgeError::Unreachable { reason, .. }) if reason.contains("reload")),
        "{late:?}"
    );
    world.edge().close().unwrap();
    assert_eq!(status(world.service.client_port), 503);
}
