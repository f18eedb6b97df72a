//! What can be wrong on this machine.

use std::os::unix::fs::PermissionsExt;

use heirloom_fetch::error::FetchError;

use crate::world::{World, content, directory, other_content};

#[test]
fn a_full_disk_is_told_apart_and_no_other_mirror_is_asked() {
    let world = World::new();
    world.put("note", b"");
    // This device takes no byte, like a disk that is full.
    std::os::unix::fs::symlink("/dev/full", world.staging().join(".binary.part")).unwrap();
    let good = directory(&world.path("mirror"), &content());
    let error = world.fetch(&[&good, &good]).unwrap_err();
    assert!(matches!(error, FetchError::Full { .. }), "{error}");
    assert!(world.staging().join(".binary.part").is_symlink(), "the part stays");
}

#[test]
fn a_staged_file_that_is_corrupt_is_set_aside_and_fetched_again() {
    let world = World::new();
    let good = directory(&world.path("mirror"), &content());
    world.put("binary", &other_content());
    world.fetch(&[&good]).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
    assert_eq!(world.staged(".binary.corrupt.0"), Some(other_content()));
    for damage in [&b"a"[..], b"b", b"c"] {
        world.put("binary", damage);
        world.fetch(&[&good]).unwrap();
    }
    assert_eq!(world.staged(".binary.corrupt.0").unwrap(), b"c", "the newest");
    assert_eq!(world.staged(".binary.corrupt.2").unwrap(), b"a", "the oldest that is kept");
    assert_eq!(world.staged(".binary.corrupt.3"), None);
    for _ in 0..4 {
        std::fs::remove_file(world.staging().join("binary")).unwrap();
        std::fs::create_dir(world.staging().join("binary")).unwrap();
        world.fetch(&[&good]).unwrap();
        assert_eq!(world.staged("binary"), Some(content()), "even a directory is no obstacle");
    }
}

#[test]
fn a_part_that_is_too_long_is_begun_again() {
    let world = World::new();
    let good = directory(&world.path("mirror"), &content());
    world.put(".binary.part", &vec![7; 400_001]);
    world.fetch(&[&good]).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
}

#[test]
fn a_part_that_is_whole_and_wrong_is_begun_again() {
    let world = World::new();
    let good = directory(&world.path("mirror"), &content());
    world.put(".binary.part", &other_content());
    world.fetch(&[&good]).unwrap();
    assert_eq!(world.staged("binary"), Some(content()));
}

#[test]
fn what_is_fetched_belongs_to_its_owner() {
    let world = World::new();
    let good = directory(&world.path("mirror"), &content());
    world.fetch(&[&good]).unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(world.staging()), 0o700);
    assert_eq!(mode(world.staging().join("binary")), 0o600);
}

#[test]
fn a_staging_directory_that_cannot_be_made_is_this_machine_s_fault() {
    let world = World::new();
    std::fs::write(world.staging(), b"a file").unwrap();
    let error = world.fetch(&["/nowhere"]).unwrap_err();
    assert!(matches!(error, FetchError::Storage { .. }), "{error}");
}
