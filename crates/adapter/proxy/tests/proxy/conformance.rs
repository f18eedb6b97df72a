//! What every fence must do, whatever the proxy.

use std::fs;
use std::process::Command;
use std::time::Duration;

use heirloom_proxy::edge::EdgeAdmission::{Closed, Open};
use heirloom_proxy::edge::EdgeError;

use crate::client::{Client, head, status};
use crate::upstream::{FIRST_BYTES, SLOW_BYTES};
use crate::world::{Kind, World, admission, until_state};

fn both(test: fn(World)) {
    for kind in [Kind::Nginx, Kind::HaProxy] {
        if let Some(world) = World::start(kind) {
            test(world);
        }
    }
}

#[test]
fn a_closed_edge_lets_nobody_in_but_at_the_side_door() {
    both(|world| {
        let mut edge = world.edge();
        until_state(&mut *edge, Open, 0);
        assert_eq!(status(world.service.client_port), 200);
        let arrived = world.upstream.requests();
        // Twice: closing what is closed is no error.
        for _ in 0..2 {
            edge.close().unwrap();
            let refused = head(world.service.client_port);
            assert_eq!((refused.status, refused.retry_after.as_deref()), (503, Some("30")));
            until_state(&mut *edge, Closed, 0);
        }
        assert_eq!(world.upstream.requests(), arrived, "nothing came through");
        assert_eq!(status(world.service.side_door_port), 200);
        assert_eq!(world.upstream.requests(), arrived + 1);
        for _ in 0..2 {
            edge.open().unwrap();
            assert_eq!(status(world.service.client_port), 200);
            assert_eq!(admission(&mut *edge), Open);
        }
    });
}

#[test]
fn a_running_request_ends_with_all_of_its_bytes_while_new_ones_are_refused() {
    both(|world| {
        let mut edge = world.edge();
        let mut slow = Client::connect(world.service.client_port);
        assert_eq!(slow.ask("/slow").unwrap().length, SLOW_BYTES);
        slow.read(FIRST_BYTES);
        edge.close().unwrap();
        until_state(&mut *edge, Closed, 1);
        assert_eq!(status(world.service.client_port), 503);
        assert_eq!(edge.observe().unwrap().connections, 1, "it still runs");
        world.upstream.release();
        let rest = slow.read(SLOW_BYTES - FIRST_BYTES);
        assert!(rest.iter().all(|byte| *byte == b'x'));
        until_state(&mut *edge, Closed, 0);
        edge.open().unwrap();
        assert_eq!(status(world.service.client_port), 200);
    });
}

#[test]
fn a_request_is_counted_while_the_edge_is_open() {
    both(|world| {
        let mut edge = world.edge();
        let mut slow = Client::connect(world.service.client_port);
        slow.ask("/slow").unwrap();
        until_state(&mut *edge, Open, 1);
        world.upstream.release();
        slow.read(SLOW_BYTES);
        until_state(&mut *edge, Open, 0);
    });
}

#[test]
fn a_connection_that_is_kept_is_no_way_in() {
    both(|world| {
        let mut edge = world.edge();
        let mut kept = Client::connect(world.service.client_port);
        assert_eq!(kept.fetch("/").unwrap().status, 200);
        let arrived = world.upstream.requests();
        edge.close().unwrap();
        // The old worker of nginx has closed it, HAProxy answers on it.
        assert_eq!(kept.fetch("/").map_or(503, |head| head.status), 503);
        let mut kept = Client::connect(world.service.client_port);
        assert_eq!(kept.fetch("/").unwrap().status, 503);
        assert_eq!(kept.fetch("/").unwrap().status, 503);
        assert_eq!(world.upstream.requests(), arrived);
        until_state(&mut *edge, Closed, 0);
    });
}

#[test]
fn the_connection_of_a_running_request_is_no_way_in_afterwards() {
    both(|world| {
        let mut edge = world.edge();
        let mut slow = Client::connect(world.service.client_port);
        slow.ask("/slow").unwrap();
        edge.close().unwrap();
        let arrived = world.upstream.requests();
        world.upstream.release();
        slow.read(SLOW_BYTES);
        assert_eq!(slow.fetch("/").map_or(503, |head| head.status), 503);
        assert_eq!(world.upstream.requests(), arrived);
    });
}

#[test]
fn a_reload_by_somebody_else_keeps_what_was_said() {
    both(|world| {
        let mut edge = world.edge();
        edge.close().unwrap();
        world.reload_by_somebody_else();
        until_state(&mut *edge, Closed, 0);
        assert_eq!(status(world.service.client_port), 503);
        edge.open().unwrap();
        world.reload_by_somebody_else();
        until_state(&mut *edge, Open, 0);
        assert_eq!(status(world.service.client_port), 200);
    });
}

#[test]
fn a_restart_keeps_what_was_said() {
    both(|mut world| {
        let mut edge = world.edge();
        edge.close().unwrap();
        world.stop_proxy();
        world.start_proxy();
        assert_eq!(admission(&mut *edge), Closed);
        assert_eq!(status(world.service.client_port), 503);
        edge.open().unwrap();
        world.stop_proxy();
        world.start_proxy();
        assert_eq!(admission(&mut *edge), Open);
        assert_eq!(status(world.service.client_port), 200);
    });
}

#[test]
fn requests_in_an_old_worker_are_counted_after_a_reload() {
    both(|world| {
        let mut edge = world.edge();
        let mut slow = Client::connect(world.service.client_port);
        slow.ask("/slow").unwrap();
        world.reload_by_somebody_else();
        edge.close().unwrap();
        assert_eq!(edge.observe().unwrap().connections, 1);
        world.upstream.release();
        slow.read(SLOW_BYTES);
        until_state(&mut *edge, Closed, 0);
    });
}

#[test]
fn a_proxy_that_does_not_run_is_unreachable() {
    both(|mut world| {
        world.stop_proxy();
        // The socket of a proxy that was killed stays: somebody may still come to listen there.
        let mut edge = world.edge_that_waits(Duration::from_millis(100));
        let results = [edge.observe().map(|_state| ()), edge.open(), edge.close()];
        for result in results {
            assert!(matches!(result, Err(EdgeError::Unreachable { .. })), "{result:?}");
        }
    });
}

#[test]
fn a_file_that_somebody_else_has_written_is_left_alone() {
    both(|world| {
        let mut edge = world.edge();
        fs::write(world.fence(), "# mine\n").unwrap();
        for result in [edge.close(), edge.open()] {
            let corrupt = matches!(&result, Err(EdgeError::Corrupt { path, .. })
                if *path == world.fence());
            assert!(corrupt, "{result:?}");
        }
        assert_eq!(fs::read_to_string(world.fence()).unwrap(), "# mine\n");
    });
}

#[test]
fn a_full_disk_is_told_and_the_old_file_stays() {
    for kind in [Kind::Nginx, Kind::HaProxy] {
        let Some(mut world) = World::prepare(kind) else { continue };
        let Some(disk) = SmallDisk::mount(&world.service.directory) else { return };
        world.install();
        world.start_proxy();
        let mut edge = world.edge();
        let before = fs::read(world.fence()).unwrap();
        let filler = world.service.directory.join("filler");
        fs::write(&filler, vec![0; 2 << 20]).unwrap_err();
        let full = edge.close();
        assert!(matches!(full, Err(EdgeError::Full { .. })), "{full:?}");
        assert_eq!(fs::read(world.fence()).unwrap(), before);
        fs::remove_file(&filler).unwrap();
        edge.close().unwrap();
        assert_eq!(status(world.service.client_port), 503);
        drop((world, disk));
    }
}

/// A disk of a megabyte, for those who may mount one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: &std::path::Path) -> Option<Self> {
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path);
        if command.output().is_ok_and(|output| output.status.success()) {
            return Some(Self(path.to_owned()));
        }
        eprintln!("skipped: this user may not mount a small disk");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _unmounted = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
