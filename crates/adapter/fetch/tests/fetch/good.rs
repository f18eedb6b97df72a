//! Mirrors that mean well.

use heirloom_fetch::error::FetchError;
use heirloom_fetch::fetch::fetch;
use heirloom_fetch::progress::Unwatched;

use crate::server::{Server, answer, serve, serve_some};
use crate::world::{Seen, World, content, directory, mirror, release};

#[test]
fn a_release_is_fetched_from_a_server_and_never_twice() {
    let world = World::new();
    let server = Server::start(|asked, stream| serve(&content(), asked, stream));
    let mut seen = Seen::default();
    let fetched = world.fetch_watched(&[&server.base()], &mut seen).unwrap();
    assert_eq!(fetched.directory(), world.staging());
    assert_eq!(*fetched.release(), release(&[("binary", &content())]).digest());
    assert_eq!(world.staged("binary"), Some(content()));
    assert_eq!(world.staged(".binary.part"), None);
    assert_eq!(seen.received.last(), Some(&400_000));
    assert!(seen.received.is_sorted() && seen.received.len() > 2, "{:?}", seen.received);
    world.fetch(&[&server.base()]).unwrap();
    let asked = server.asked();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].path, "/files/keeper-2.0.0/binary");
    assert_eq!(asked[0].accepts.as_deref(), Some("identity"));
}

#[test]
fn a_release_of_several_files_is_fetched_from_a_directory() {
    let world = World::new();
    let text = directory(&world.path("mirror"), b"the binary");
    std::fs::write(world.path("mirror/keeper-2.0.0/empty"), b"").unwrap();
    std::fs::write(world.path("mirror/keeper-2.0.0/manifest"), b"the manifest").unwrap();
    let release =
        release(&[("binary", b"the binary"), ("empty", b""), ("manifest", b"the manifest")]);
    fetch(&release, &[mirror(&text)], &world.staging(), &mut Unwatched).unwrap();
    assert_eq!(world.staged("binary").unwrap(), b"the binary");
    assert_eq!(world.staged("empty").unwrap(), b"");
    assert_eq!(world.staged("manifest").unwrap(), b"the manifest");
}

#[test]
fn a_connection_that_is_cut_is_resumed_where_it_was_cut() {
    let world = World::new();
    let server = Server::start(|asked, stream| serve_some(&content(), asked, stream, 150_000));
    world.fetch(&[&server.base()]).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
    assert_eq!(server.offsets(), [None, Some(150_000), Some(300_000)]);
}

#[test]
fn what_one_mirror_began_the_next_one_continues() {
    let world = World::new();
    let first = Server::start(|asked, stream| match asked.from {
        None => serve_some(&content(), asked, stream, 150_000),
        Some(_) => answer(stream, "503 Service Unavailable", &[], b""),
    });
    let second = Server::start(|asked, stream| serve(&content(), asked, stream));
    let mut seen = Seen::default();
    world.fetch_watched(&[&first.base(), &second.base()], &mut seen).unwrap();
    assert_eq!(seen.failed, [first.base()]);
    assert_eq!(second.offsets(), [Some(150_000)]);
    let again = World::new();
    let third = directory(&again.path("mirror"), &content());
    again.fetch(&[&first.base(), &third]).unwrap();
    assert_eq!(again.staged("binary"), Some(content()));
}

#[test]
fn a_fetch_that_was_stopped_goes_on_in_the_next_one() {
    let world = World::new();
    let server = Server::start(|asked, stream| serve(&content(), asked, stream));
    let mut seen = Seen { ends_after: Some(2), ..Seen::default() };
    let stopped = world.fetch_watched(&[&server.base()], &mut seen).unwrap_err();
    assert!(matches!(stopped, FetchError::Stopped), "{stopped}");
    let there = world.staged(".binary.part").unwrap().len();
    assert_eq!(there as u64, *seen.received.last().unwrap());
    world.fetch(&[&server.base()]).unwrap();
    assert_eq!(server.offsets(), [None, Some(there)]);
}

#[test]
fn a_server_that_ignores_the_range_is_taken_from_the_beginning() {
    let world = World::new();
    world.put(".binary.part", &content()[..1000]);
    let server = Server::start(|_, stream| {
        answer(stream, "200 OK", &["Content-Length: 400000"], &content())
    });
    world.fetch(&[&server.base()]).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
    assert_eq!(server.offsets(), [Some(1000)]);
}

#[test]
fn a_file_that_was_complete_before_the_power_failed_is_not_fetched_again() {
    let world = World::new();
    world.put(".binary.part", &content());
    world.fetch(&[]).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
}

#[test]
fn a_file_without_a_length_is_taken_as_far_as_it_should_go() {
    let world = World::new();
    let server = Server::start(|_, stream| answer(stream, "200 OK", &[], &content()));
    world.fetch(&[&server.base()]).unwrap();
    let chunked = Server::start(|_, stream| {
        let body = content();
        let chunks = [&b"61a80\r\n"[..], &body, b"\r\n0\r\n\r\n"].concat();
        answer(stream, "200 OK", &["Transfer-Encoding: chunked"], &chunks)
    });
    let world = World::new();
    world.fetch(&[&chunked.base()]).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
}

#[test]
fn a_beginning_from_another_mirror_that_was_wrong_is_not_held_against_the_next_one() {
    let world = World::new();
    world.put(".binary.part", &[7; 1000]);
    let server = Server::start(|asked, stream| serve(&content(), asked, stream));
    world.fetch(&[&server.base()]).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
    assert_eq!(server.offsets(), [Some(1000), None]);
}
