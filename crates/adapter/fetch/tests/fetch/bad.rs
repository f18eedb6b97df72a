//! Mirrors that are broken, slow or hostile.

use std::time::{Duration, Instant};

use heirloom_fetch::error::{FetchError, MirrorError};
use heirloom_fetch::fetch::fetch;
use heirloom_fetch::limit::ARTIFACT_BYTES_MAX;
use heirloom_fetch::progress::Unwatched;

use crate::server::{Server, answer, serve, serve_some};
use crate::world::{Seen, World, content, directory, other_content, release};

#[test]
fn a_missing_file_is_asked_of_the_next_mirror() {
    let world = World::new();
    let without =
        Server::start(|_, stream| answer(stream, "404 Not Found", &["Content-Length: 0"], b""));
    let with = Server::start(|asked, stream| serve(&content(), asked, stream));
    let mut seen = Seen::default();
    world.fetch_watched(&[&without.base(), "/nowhere", &with.base()], &mut seen).unwrap();
    assert_eq!(seen.failed, [without.base(), "/nowhere".to_owned()]);
    assert_eq!(world.staged("binary"), Some(content()));
}

#[test]
fn every_mirror_s_reason_is_told() {
    let world = World::new();
    let missing = Server::start(|_, stream| answer(stream, "404 Not Found", &[], b""));
    let broken = Server::start(|_, stream| answer(stream, "500 Oops", &[], b""));
    let small = directory(&world.path("small"), b"small");
    // Nobody listens on the discard port of this host.
    let mirrors = [&missing.base(), &broken.base(), &small, "http://127.0.0.1:9"];
    let error = world.fetch(&mirrors).unwrap_err();
    let FetchError::Unavailable { failures, .. } = &error else { panic!("{error}") };
    let reasons: Vec<&MirrorError> = failures.iter().map(|failure| &failure.error).collect();
    assert!(
        matches!(
            reasons[..],
            [
                MirrorError::Missing,
                MirrorError::Status(500),
                MirrorError::Size { expected: 400_000, found: 5 },
                MirrorError::Unreachable { .. },
            ]
        ),
        "{reasons:?}"
    );
    assert!(error.to_string().contains("its file has 5 bytes, the release says 400000"), "{error}");
    let none = world.fetch(&[]).unwrap_err();
    assert_eq!(none.to_string(), "no mirror gave binary: none is configured");
}

#[test]
fn a_file_of_another_size_is_refused_before_it_is_read() {
    let world = World::new();
    for length in [399_999, 400_001] {
        let header = format!("Content-Length: {length}");
        let server = Server::start(move |_, stream| answer(stream, "200 OK", &[&header], b""));
        let refused = world.refused(&server.base());
        let found = length;
        assert!(
            matches!(refused, MirrorError::Size { expected: 400_000, found: it } if it == found),
            "{refused}"
        );
    }
    world.put(".binary.part", &content()[..1000]);
    let grown = Server::start(|_, stream| {
        let range = "Content-Range: bytes 1000-400000/400001";
        answer(stream, "206 Partial Content", &[range], &content()[1000..])
    });
    let refused = world.refused(&grown.base());
    assert!(matches!(refused, MirrorError::Size { found: 400_001, .. }), "{refused}");
    assert_eq!(world.staged(".binary.part").unwrap().len(), 1000, "the beginning stays");
}

#[test]
fn a_body_without_end_is_left_after_one_byte_too_much() {
    let world = World::new();
    let server = Server::start(|_, stream| {
        answer(stream, "200 OK", &[], &content())?;
        loop {
            stream.write_all(&[0; 8192])?;
        }
    });
    let refused = world.refused(&server.base());
    assert!(matches!(refused, MirrorError::Endless { expected: 400_000 }), "{refused}");
    assert_eq!(world.staged(".binary.part").unwrap(), b"");
    assert_eq!(world.staged("binary"), None);
}

#[test]
fn nothing_is_ever_unpacked() {
    let world = World::new();
    for header in ["Content-Encoding: gzip", "Content-Encoding: br", "Transfer-Encoding: gzip"] {
        let server = Server::start(move |_, stream| {
            // Forty bytes that say that they are gzip.
            let body = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3][..], &[0; 30]].concat();
            answer(stream, "200 OK", &[header, "Content-Length: 40"], &body)
        });
        let refused = world.refused(&server.base());
        assert!(matches!(refused, MirrorError::Encoded { .. }), "{header}: {refused}");
    }
    let plain = Server::start(|_, stream| {
        answer(stream, "200 OK", &["Content-Encoding: identity"], &content())
    });
    world.fetch(&[&plain.base()]).unwrap();
}

#[test]
fn redirects_are_not_followed() {
    let world = World::new();
    let elsewhere = Server::start(|asked, stream| serve(&content(), asked, stream));
    let location = format!("Location: {}/keeper-2.0.0/binary", elsewhere.base());
    for status in ["301 Moved Permanently", "302 Found", "307 Temporary", "308 Permanent"] {
        let location = location.clone();
        let server = Server::start(move |_, stream| {
            answer(stream, status, &[&location, "Content-Length: 0"], b"")
        });
        let refused = world.refused(&server.base());
        assert!(matches!(refused, MirrorError::Redirected { .. }), "{status}: {refused}");
    }
    assert_eq!(elsewhere.asked(), []);
}

#[test]
fn a_file_with_another_content_is_thrown_away_and_the_next_mirror_is_asked() {
    let world = World::new();
    let bad = Server::start(|asked, stream| serve(&other_content(), asked, stream));
    let refused = world.refused(&bad.base());
    assert!(matches!(refused, MirrorError::Digest { .. }), "{refused}");
    assert_eq!(world.staged("binary"), None);
    assert_eq!(world.staged(".binary.part").unwrap(), b"");
    let good = directory(&world.path("mirror"), &content());
    world.fetch(&[&bad.base(), &good]).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
}

#[test]
fn a_server_that_continues_elsewhere_is_refused() {
    let world = World::new();
    world.put(".binary.part", &content()[..1000]);
    for (status, range) in [
        ("206 Partial Content", "Content-Range: bytes 999-399999/400000"),
        ("206 Partial Content", "Content-Range: bytes 1001-399999/400000"),
        ("206 Partial Content", "Content-Range: items 1000-399999/400000"),
        ("206 Partial Content", "X-Nothing: here"),
        ("416 Range Not Satisfiable", "Content-Range: bytes */500"),
    ] {
        let server = Server::start(move |_, stream| answer(stream, status, &[range], &content()));
        let refused = world.refused(&server.base());
        assert!(matches!(refused, MirrorError::Range { offset: 1000, .. }), "{range}: {refused}");
        assert_eq!(world.staged(".binary.part").unwrap().len(), 1000);
    }
}

#[test]
fn a_server_that_cuts_every_connection_is_left_after_some_tries() {
    let world = World::new();
    let server = Server::start(|asked, stream| serve_some(&content(), asked, stream, 10));
    let refused = world.refused(&server.base());
    assert!(matches!(refused, MirrorError::Cut { received: 90, .. }), "{refused}");
    assert_eq!(server.asked().len(), 9);
    let silent = Server::start(|asked, stream| serve_some(&content(), asked, stream, 0));
    let refused = world.refused(&silent.base());
    assert!(matches!(refused, MirrorError::Cut { received: 90, .. }), "{refused}");
    assert_eq!(silent.asked().len(), 1, "who sends nothing is not asked again");
}

#[test]
fn a_server_that_says_nothing_more_is_left() {
    let mut world = World::new();
    world.patience.silence = Duration::from_millis(100);
    let began = Instant::now();
    let mute = Server::start(|_, stream| wait_for_the_end(stream));
    let refused = world.refused(&mute.base());
    assert!(matches!(refused, MirrorError::Unreachable { .. }), "{refused}");
    let halting = Server::start(|asked, stream| {
        serve_some(&content(), asked, stream, 1000)?;
        stream.flush()?;
        wait_for_the_end(stream)
    });
    let refused = world.refused(&halting.base());
    assert!(matches!(refused, MirrorError::Slow { received: 1000, .. }), "{refused}");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_server_that_trickles_is_left() {
    let mut world = World::new();
    world.patience.window = Duration::from_millis(50);
    world.patience.window_bytes = 100_000;
    let trickling = Server::start(|asked, stream| {
        serve_some(&content(), asked, stream, 0)?;
        for byte in content() {
            stream.write_all(&[byte])?;
            stream.flush()?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    let refused = world.refused(&trickling.base());
    assert!(matches!(refused, MirrorError::Slow { .. }), "{refused}");
}

#[test]
fn what_a_directory_has_instead_of_a_file_is_not_opened() {
    let world = World::new();
    let text = directory(&world.path("mirror"), b"");
    let path = world.path("mirror/keeper-2.0.0/binary");
    std::fs::remove_file(&path).unwrap();
    let refused = world.refused(&text);
    assert!(matches!(refused, MirrorError::Missing), "{refused}");
    std::fs::create_dir(&path).unwrap();
    let refused = world.refused(&text);
    assert!(matches!(refused, MirrorError::NotAFile { .. }), "{refused}");
    std::fs::remove_dir(&path).unwrap();
    // Reading it would never end.
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    let refused = world.refused(&text);
    assert!(matches!(refused, MirrorError::NotAFile { .. }), "{refused}");
}

#[test]
fn a_release_that_cannot_be_fetched_is_refused_before_anybody_is_asked() {
    let world = World::new();
    let mut large = release(&[("binary", b"x")]);
    large.artifacts[0].size = ARTIFACT_BYTES_MAX + 1;
    let error = fetch(&large, &[], &world.staging(), &mut Unwatched).unwrap_err();
    assert!(matches!(error, FetchError::TooLarge { .. }), "{error}");
    let twice = release(&[("binary", b"x"), ("binary", b"y")]);
    let error = fetch(&twice, &[], &world.staging(), &mut Unwatched).unwrap_err();
    assert!(matches!(error, FetchError::Order { .. }), "{error}");
    assert!(!world.staging().exists());
}

/// Keeps the connection open until the client closes it.
fn wait_for_the_end(stream: &mut dyn crate::server::Stream) -> std::io::Result<()> {
    let mut end = [0; 1];
    while stream.read(&mut end)? > 0 {}
    Ok(())
}
