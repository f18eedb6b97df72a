//! A network that fails between members: nobody sees a closed connection.

use std::thread;
use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_registry::port::{AppendError, LogStore, ReadError};

use crate::fixture::{World, append_surely, read_all};

const PATIENCE: Duration = Duration::from_mins(2);

#[test]
fn the_majority_goes_on_and_the_minority_catches_up() {
    let Some(mut world) = World::start(3) else { return };
    let log = world.log();
    log.append(LogIndex(0), b"first").unwrap();
    // The one that leads is cut off, and does not know it at first.
    let alone = world.cluster.leader().unwrap();
    let minority = world.log_of(alone);
    assert_eq!(minority.head().unwrap().length, LogIndex(1));
    world.cluster.cut(alone);
    let refused = minority.append(LogIndex(1), b"from the minority");
    let honest =
        matches!(refused, Err(AppendError::Unreachable { .. } | AppendError::Unknown { .. }));
    assert!(honest, "{refused:?}");
    let head = minority.head();
    assert!(matches!(head, Err(ReadError::Unreachable { .. })), "old news are no news: {head:?}");
    let majority: Vec<_> =
        (0..3).filter(|member| *member != alone).map(|member| world.log_of(member)).collect();
    for (number, log) in majority.iter().cycle().take(6).enumerate() {
        append_surely(log, format!("statement {number}").as_bytes());
    }
    // Through all endpoints, one of which is cut off.
    append_surely(&log, b"through all");
    let before = read_all(&majority[0]);
    assert_eq!(before.len(), 8, "nothing came from the minority");
    world.cluster.heal();
    world.cluster.wait_for_all().unwrap();
    assert_eq!(read_all(&minority), before);
    append_surely(&minority, b"from the minority");
    let after = read_all(&minority);
    assert_eq!(after.len(), 9, "what was refused stands there once");
    for log in &majority {
        assert_eq!(read_all(log), after);
    }
}

#[test]
fn a_watch_at_a_member_that_is_cut_off_hears_from_the_others() {
    let Some(world) = World::start(3) else { return };
    let (watched, log) = (world.log(), world.log());
    log.append(LogIndex(0), b"first").unwrap();
    // The first endpoint is the one that a watcher begins with.
    world.cluster.cut(0);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watched.watch(LogIndex(1), PATIENCE));
        assert_eq!(append_surely(&log, b"second"), LogIndex(1));
        assert_eq!(watcher.join().unwrap().unwrap().length, LogIndex(2));
    });
}

#[test]
fn without_a_majority_nothing_is_appended_until_the_network_heals() {
    let Some(mut world) = World::start(3) else { return };
    let log = world.log();
    log.append(LogIndex(0), b"first").unwrap();
    // Every member is alone.
    world.cluster.cut(0);
    world.cluster.cut(1);
    let refused = log.append(LogIndex(1), b"second");
    let honest =
        matches!(refused, Err(AppendError::Unreachable { .. } | AppendError::Unknown { .. }));
    assert!(honest, "{refused:?}");
    world.cluster.heal();
    world.cluster.wait_for_all().unwrap();
    assert_eq!(append_surely(&log, b"second"), LogIndex(1));
    for member in 0..3 {
        assert_eq!(read_all(&world.log_of(member)).len(), 2);
    }
}
