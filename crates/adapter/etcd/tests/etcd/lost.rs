//! Answers and requests that are lost on the way.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use heirloom_model::counter::LogIndex;
use heirloom_model::limit::ENVELOPE_BYTES_MAX;
use heirloom_registry::port::{AppendError, LogStore, ReadError};

use crate::fixture::{World, append_surely, log_at, read_all};

/// When the line breaks, after a marked request was seen.
#[derive(Clone, Copy)]
enum Break {
    /// The request does not arrive.
    Before,
    /// The answer does not arrive.
    After,
}

const MARK: &[u8] = b"this is the statement whose fate is unknown";

/// A line to a member that breaks at every request that contains the mark.
fn line_to(endpoint: &str, when: Break) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("http://{}", listener.local_addr().unwrap());
    let member = endpoint.trim_start_matches("http://").to_owned();
    // It ends with the process of the test.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (near, far) = (stream.unwrap(), TcpStream::connect(&member).unwrap());
            thread::spawn(move || carry(&near, &far, when));
        }
    });
    line
}

fn carry(mut near: &TcpStream, mut far: &TcpStream, when: Break) {
    let mute = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| copy(far, near, &mute));
        let mut chunk = vec![0; 1 << 20];
        while let Ok(count @ 1..) = near.read(&mut chunk) {
            if chunk[..count].windows(MARK.len()).any(|window| window == MARK) {
                match when {
                    Break::Before => break,
                    // Nothing goes back from now on.
                    Break::After => mute.store(true, Ordering::SeqCst),
                }
            }
            if far.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        drop((near.shutdown(Shutdown::Both), far.shutdown(Shutdown::Both)));
    });
}

/// Copies until one end is closed. Once mute, it reads and says nothing.
fn copy(mut from: &TcpStream, mut to: &TcpStream, mute: &AtomicBool) {
    let mut chunk = vec![0; 1 << 16];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        if !mute.load(Ordering::SeqCst) && to.write_all(&chunk[..count]).is_err() {
            break;
        }
    }
}

#[test]
fn an_append_without_an_answer_is_unknown_and_a_look_tells() {
    let Some(world) = World::start(1) else { return };
    let (log, member) = (world.log(), &world.cluster.endpoints()[0]);
    log.append(LogIndex(0), b"first").unwrap();
    let late = log_at(&[line_to(member, Break::After)]);
    let unknown = late.append(LogIndex(1), MARK);
    assert!(matches!(unknown, Err(AppendError::Unknown { .. })), "{unknown:?}");
    assert_eq!(log.watch(LogIndex(1), Duration::from_mins(1)).unwrap().length, LogIndex(2));
    // It was appended. Once more at the same place is a conflict, and the log says with what.
    assert_eq!(append_surely(&log, b"another"), LogIndex(2));
    let again = late.append(LogIndex(1), MARK);
    assert!(matches!(again, Err(AppendError::Conflict { .. })), "{again:?}");
    assert_eq!(late.read(LogIndex(1), 1).unwrap()[0].envelope, MARK);
    // And here it was not: the request is lost.
    let lost = log_at(&[line_to(member, Break::Before)]);
    let unknown = lost.append(LogIndex(3), MARK);
    assert!(matches!(unknown, Err(AppendError::Unknown { .. })), "{unknown:?}");
    assert_eq!(log.read(LogIndex(3), 1), Ok(Vec::new()));
    assert_eq!(read_all(&log).len(), 3);
}

#[test]
fn an_upload_that_breaks_off_leaves_the_log_as_it_was() {
    let Some(world) = World::start(1) else { return };
    let (log, member) = (world.log(), &world.cluster.endpoints()[0]);
    let mut envelope = vec![7; 5 << 20];
    envelope[3 << 20..][..MARK.len()].copy_from_slice(MARK);
    let broken = log_at(&[line_to(member, Break::Before)]);
    let refused = broken.append(LogIndex(0), &envelope);
    assert!(matches!(refused, Err(AppendError::Unreachable { .. })), "{refused:?}");
    assert_eq!(read_all(&log), []);
    // Parts that are there already are as good as new.
    log.append(LogIndex(0), &envelope).unwrap();
    assert_eq!(read_all(&log)[0].envelope, envelope);
}

#[test]
fn the_largest_statement_is_kept_with_the_limits_that_etcd_has() {
    let Some(world) = World::start(1) else { return };
    let log = world.log();
    let number = |at: usize| u32::try_from(at / 4).unwrap().wrapping_mul(0x9e37_79b1);
    let envelope: Vec<u8> =
        (0..ENVELOPE_BYTES_MAX).map(|at| number(at).to_le_bytes()[at % 4]).collect();
    log.append(LogIndex(0), &envelope).unwrap();
    log.append(LogIndex(1), b"small").unwrap();
    log.append(LogIndex(2), &envelope).unwrap();
    let found = log.read(LogIndex(0), 9).unwrap();
    // Two of the largest are more than one answer carries.
    assert_eq!(found.len(), 2);
    assert!(found[0].envelope == envelope, "it came back changed");
    assert!(log.read(LogIndex(2), 9).unwrap()[0].envelope == envelope);
}

#[test]
fn a_member_that_is_not_there_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let log = log_at(&[endpoint]);
    let appended = log.append(LogIndex(0), b"x");
    assert!(matches!(appended, Err(AppendError::Unreachable { .. })), "{appended:?}");
    let head = log.head();
    assert!(matches!(head, Err(ReadError::Unreachable { .. })), "{head:?}");
}
