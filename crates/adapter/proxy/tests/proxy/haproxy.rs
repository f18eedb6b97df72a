//! What is special about HAProxy.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use heirloom_proxy::edge::EdgeAdmission::{Closed, Open};
use heirloom_proxy::edge::{Edge, EdgeError};
use heirloom_proxy::haproxy::HaProxyEdge;
use heirloom_proxy::template;

use crate::client::{Client, status};
use crate::upstream::SLOW_BYTES;
use crate::world::{Kind, World, admission, until, until_state};

fn say(world: &World, command: &str) -> String {
    let socket = template::haproxy_options(&world.service).master_socket;
    // The master does not listen while it starts itself, for the first time or again.
    let mut connected = None;
    until("the master listens", || {
        connected = UnixStream::connect(&socket).ok();
        connected.is_some()
    });
    let mut stream = connected.unwrap();
    stream.write_all(format!("{command}\n").as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    // It may break off for the same reason.
    let _read = stream.read_to_string(&mut answer);
    answer
}

fn replace(world: &World, from: &str, to: &str) {
    let path = world.service.directory.join("haproxy.cfg");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from));
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_proxy_that_does_not_load_the_state_file_forgets_and_is_closed_again() {
    let Some(mut world) = World::prepare(Kind::HaProxy) else { return };
    replace(&world, "    load-server-state-from-file global\n", "");
    world.start_proxy();
    let mut edge = world.edge();
    edge.close().unwrap();
    assert_eq!(admission(&mut *edge), Closed);
    world.reload_by_somebody_else();
    until_state(&mut *edge, Open, 0);
    assert_eq!(status(world.service.client_port), 200);
    edge.close().unwrap();
    assert_eq!(status(world.service.client_port), 503);
    assert_eq!(admission(&mut *edge), Closed);
}

#[test]
fn a_reload_through_the_master_keeps_the_fence_and_the_running_request() {
    let Some(world) = World::start(Kind::HaProxy) else { return };
    let mut edge = world.edge();
    let mut slow = Client::connect(world.service.client_port);
    slow.ask("/slow").unwrap();
    edge.close().unwrap();
    say(&world, "reload");
    until("an old worker", || say(&world, "show proc").contains("# old workers"));
    until_state(&mut *edge, Closed, 1);
    assert_eq!(status(world.service.client_port), 503);
    world.upstream.release();
    slow.read(SLOW_BYTES);
    until_state(&mut *edge, Closed, 0);
}

#[test]
fn a_caller_that_was_killed_between_socket_and_file_left_no_riddle() {
    let Some(world) = World::start(Kind::HaProxy) else { return };
    let mut edge = world.edge();
    say(&world, "@1 set server service/node state drain");
    assert_eq!(admission(&mut *edge), Closed);
    assert_eq!(fs::read_to_string(world.fence()).unwrap(), "");
    // The second half is done now: a reload keeps it.
    edge.close().unwrap();
    world.reload_by_somebody_else();
    until_state(&mut *edge, Closed, 0);
    say(&world, "@1 set server service/node state ready");
    assert_eq!(admission(&mut *edge), Open);
    edge.open().unwrap();
    world.reload_by_somebody_else();
    until_state(&mut *edge, Open, 0);
}

#[test]
fn servers_that_somebody_else_took_out_stay_out() {
    let Some(mut world) = World::prepare(Kind::HaProxy) else { return };
    let port = world.service.upstream_port;
    let server = format!("    server node 127.0.0.1:{port}\n");
    let two = format!("{server}    server spare 127.0.0.1:{port}\n");
    replace(&world, &format!("global\n{server}"), &format!("global\n{two}"));
    world.start_proxy();
    let mut edge = world.edge();
    say(&world, "@1 set server service/spare state maint");
    edge.close().unwrap();
    edge.open().unwrap();
    let states = say(&world, "@1 show servers state service");
    assert!(states.contains("spare 127.0.0.1 0 1 "), "{states}");
    assert_eq!(status(world.service.client_port), 200);
    // One of two that is let in is an open edge.
    say(&world, "@1 set server service/spare state ready");
    edge.close().unwrap();
    say(&world, "@1 set server service/spare state ready");
    assert_eq!(admission(&mut *edge), Open);
    edge.close().unwrap();
    assert_eq!(status(world.service.client_port), 503);
    edge.open().unwrap();
    // Nothing is left that could be opened.
    for name in ["node", "spare"] {
        say(&world, &format!("@1 set server service/{name} state maint"));
    }
    assert_eq!(admission(&mut *edge), Closed);
    let refused = edge.open();
    assert!(matches!(refused, Err(EdgeError::Refused { .. })), "{refused:?}");
}

#[test]
fn rows_of_other_backends_in_the_state_file_stay() {
    let Some(world) = World::start(Kind::HaProxy) else { return };
    let all = say(&world, "@1 show servers state");
    fs::write(world.fence(), &all).unwrap();
    let row = all.lines().find(|line| line.contains(" side-door ")).unwrap();
    let mut edge = world.edge();
    edge.close().unwrap();
    let written = fs::read_to_string(world.fence()).unwrap();
    assert!(written.lines().any(|line| line == row), "{written}");
}

#[test]
fn whoever_connected_before_a_reload_and_asks_after_closing_is_refused() {
    let Some(world) = World::start(Kind::HaProxy) else { return };
    let mut edge = world.edge();
    let mut slow = Client::connect(world.service.client_port);
    slow.ask("/slow").unwrap();
    let mut early = Client::connect(world.service.client_port);
    world.reload_by_somebody_else();
    edge.close().unwrap();
    let arrived = world.upstream.requests();
    assert_eq!(early.fetch("/").map_or(503, |head| head.status), 503);
    world.upstream.release();
    slow.read(SLOW_BYTES);
    assert_eq!(slow.fetch("/").map_or(503, |head| head.status), 503);
    assert_eq!(world.upstream.requests(), arrived);
    until_state(&mut *edge, Closed, 0);
}

#[test]
fn a_backend_that_is_not_there_is_missing() {
    let Some(world) = World::start(Kind::HaProxy) else { return };
    let mut options = template::haproxy_options(&world.service);
    options.backend = "nothing".to_owned();
    let mut edge = HaProxyEdge::new(options);
    for result in [edge.observe().map(|_state| ()), edge.close(), edge.open()] {
        assert!(matches!(result, Err(EdgeError::Missing { .. })), "{result:?}");
    }
}

#[test]
fn a_request_that_waits_for_a_server_is_counted_until_it_is_refused() {
    let Some(mut world) = World::prepare(Kind::HaProxy) else { return };
    let server = format!("server node 127.0.0.1:{}", world.service.upstream_port);
    replace(&world, &format!("global\n    {server}"), &format!("global\n    {server} maxconn 1"));
    world.start_proxy();
    let mut edge = world.edge();
    let mut first = Client::connect(world.service.client_port);
    first.ask("/slow").unwrap();
    let mut second = Client::connect(world.service.client_port);
    let waiting = std::thread::spawn(move || second.fetch("/").unwrap().status);
    until_state(&mut *edge, Open, 2);
    let arrived = world.upstream.requests();
    edge.close().unwrap();
    assert_eq!(edge.observe().unwrap().connections, 2);
    world.upstream.release();
    first.read(SLOW_BYTES);
    // It has never reached the service, which would have closed the door behind it.
    assert_eq!(waiting.join().unwrap(), 503);
    assert_eq!(world.upstream.requests(), arrived);
    until_state(&mut *edge, Closed, 0);
}

#[test]
fn servers_that_do_not_change_in_time_are_unknown_and_may_be_told_again() {
    let Some(world) = World::start(Kind::HaProxy) else { return };
    let mut options = template::haproxy_options(&world.service);
    let real = options.master_socket.clone();
    options.master_socket = world.service.directory.join("deaf.sock");
    let deaf = UnixListener::bind(&options.master_socket).unwrap();
    // It passes on every question, and takes every command without doing it. It ends with the
    // test.
    std::thread::spawn(move || {
        for stream in deaf.incoming() {
            let (mut stream, mut command) = (stream.unwrap(), String::new());
            stream.read_to_string(&mut command).unwrap();
            let mut answer = "\n".to_owned();
            if !command.contains("set server") {
                // The master takes few connections at a time: on a busy machine it refuses one.
                let mut master = loop {
                    match UnixStream::connect(&real) {
                        Ok(master) => break master,
                        Err(_) => std::thread::sleep(Duration::from_millis(5)),
                    }
                };
                master.write_all(command.as_bytes()).unwrap();
                master.shutdown(Shutdown::Write).unwrap();
                answer.clear();
                master.read_to_string(&mut answer).unwrap();
            }
            // Whoever asked may have gone.
            let _sent = stream.write_all(answer.as_bytes());
        }
    });
    options.timeout = Duration::from_secs(3);
    let late = HaProxyEdge::new(options).close();
    assert!(
        matches!(&late, Err(EdgeError::Unreachable { reason, .. }) if reason.contains("servers")),
        "{late:?}"
    );
    assert_eq!(status(world.service.client_port), 200);
    world.edge().close().unwrap();
    assert_eq!(status(world.service.client_port), 503);
}
