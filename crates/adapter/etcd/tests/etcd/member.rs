//! Members that are killed or paused while others append.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_registry::port::{AppendError, LogStore};

use crate::fixture::{World, append_surely, assert_kept, read_all};

const WRITERS: usize = 2;
const STATEMENTS: usize = 30;
/// A watch ends long before.
const PATIENCE: Duration = Duration::from_mins(2);

/// Appends from some threads while `trouble` happens, which is told each entry that was
/// acknowledged. Returns all of them.
fn append_during(
    world: &mut World,
    trouble: impl FnOnce(&mut World, &mut dyn FnMut(usize)),
) -> BTreeMap<LogIndex, Vec<u8>> {
    let (tell, told): (Sender<(LogIndex, Vec<u8>)>, Receiver<_>) = channel();
    let logs: Vec<_> = (0..WRITERS).map(|_| world.log()).collect();
    let mut acknowledged = BTreeMap::new();
    thread::scope(|scope| {
        for (writer, log) in logs.iter().enumerate() {
            let tell = tell.clone();
            scope.spawn(move || {
                for number in 0..STATEMENTS {
                    let envelope = format!("statement {number} of {writer}").into_bytes();
                    let place = append_surely(log, &envelope);
                    tell.send((place, envelope)).unwrap();
                }
            });
        }
        drop(tell);
        let mut wait_for = |count: usize| {
            for (place, envelope) in told.iter().take(count) {
                let before = acknowledged.insert(place, envelope);
                assert_eq!(before, None, "two were told that they are entry {place}");
            }
        };
        trouble(world, &mut wait_for);
        wait_for(usize::MAX);
    });
    assert_eq!(acknowledged.len(), WRITERS * STATEMENTS);
    acknowledged
}

/// Every member has everything, and nothing twice.
fn assert_all_have(world: &mut World, acknowledged: &BTreeMap<LogIndex, Vec<u8>>) {
    world.cluster.wait_for_all().unwrap();
    let all = read_all(&world.log());
    assert_eq!(all.len(), acknowledged.len(), "nobody else has appended");
    for member in 0..world.cluster.endpoints().len() {
        let log = world.log_of(member);
        assert_kept(&log, acknowledged);
        assert_eq!(read_all(&log), all, "member {member}");
    }
}

#[test]
fn nothing_is_lost_or_doubled_when_members_are_killed() {
    let Some(mut world) = World::start(3) else { return };
    let acknowledged = append_during(&mut world, |world, wait_for| {
        wait_for(5);
        let leader = world.cluster.leader().unwrap();
        let follower = (leader + 1) % 3;
        world.cluster.kill(follower);
        wait_for(10);
        world.cluster.restart(follower).unwrap();
        wait_for(5);
        let leader = world.cluster.leader().unwrap();
        world.cluster.kill(leader);
        wait_for(10);
        world.cluster.restart(leader).unwrap();
        wait_for(5);
        // All at once: what was acknowledged is on disks.
        world.cluster.restart_all().unwrap();
    });
    assert_all_have(&mut world, &acknowledged);
}

#[test]
fn nothing_is_lost_or_doubled_when_members_are_paused() {
    let Some(mut world) = World::start(3) else { return };
    let acknowledged = append_during(&mut world, |world, wait_for| {
        wait_for(5);
        let leader = world.cluster.leader().unwrap();
        // It will believe that it leads when it goes on.
        world.cluster.pause(leader);
        wait_for(10);
        world.cluster.resume(leader);
        wait_for(5);
        let leader = world.cluster.leader().unwrap();
        world.cluster.pause((leader + 1) % 3);
        wait_for(5);
        world.cluster.resume((leader + 1) % 3);
    });
    assert_all_have(&mut world, &acknowledged);
}

#[test]
fn one_of_three_takes_nothing_alone() {
    let Some(world) = World::start(3) else { return };
    let log = world.log();
    log.append(LogIndex(0), b"first").unwrap();
    let leader = world.cluster.leader().unwrap();
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for other in others {
        world.cluster.pause(other);
    }
    let refused = log.append(LogIndex(1), b"second");
    let honest =
        matches!(refused, Err(AppendError::Unreachable { .. } | AppendError::Unknown { .. }));
    assert!(honest, "{refused:?}");
    for other in others {
        world.cluster.resume(other);
    }
    assert_eq!(append_surely(&log, b"second"), LogIndex(1));
    assert_eq!(read_all(&log).len(), 2);
}

#[test]
fn a_watch_survives_the_member_that_it_watches() {
    let Some(mut world) = World::start(3) else { return };
    let (watched, log) = (world.log(), world.log());
    log.append(LogIndex(0), b"first").unwrap();
    // A watcher begins at the first endpoint. All members die in turn, and it hears of each entry.
    for (place, member) in (1..).map(LogIndex).zip(0..3) {
        thread::scope(|scope| {
            let watcher = scope.spawn(|| watched.watch(place, PATIENCE));
            world.cluster.kill(member);
            assert_eq!(append_surely(&log, &[u8::try_from(member).unwrap()]), place);
            assert_eq!(watcher.join().unwrap().unwrap().length, place.next().unwrap());
        });
        world.cluster.restart(member).unwrap();
    }
}
