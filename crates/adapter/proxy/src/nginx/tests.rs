use super::*;

fn worker(pid: u32, started: u64) -> Process {
    let mut worker = process::find(std::process::id()).unwrap();
    (worker.pid, worker.started, worker.title) = (pid, started, WORKER_TITLE.to_owned());
    worker
}

#[test]
fn an_older_worker_that_has_not_answered_may_still_let_clients_in() {
    let (old, new, newer) = (worker(1, 100), worker(2, 1000), worker(3, 1001));
    let said = BTreeMap::from([(2, 1000)]);
    assert!(all_closed(&said, &[new.clone(), newer.clone()]));
    assert!(!all_closed(&said, &[old.clone(), new.clone(), newer.clone()]));
    // One that has stopped accepting lets nobody in.
    let mut ending = old.clone();
    ending.title = ENDING_TITLE.to_owned();
    assert!(all_closed(&said, &[ending, new.clone(), newer.clone()]));
    // One that was started again later has read no older file than those before it.
    let said = BTreeMap::from([(1, 100), (2, 1000)]);
    assert!(all_closed(&said, &[old, new, newer]));
    assert!(!all_closed(&BTreeMap::new(), &[]));
}

#[test]
fn the_two_texts_differ_and_counters_are_read() {
    assert_ne!(OPEN, CLOSED);
    let body = "Active connections: 3 \nReading: 1 Writing: 2 Waiting: 1 \n";
    assert_eq!((counter(body, "Reading:"), counter(body, "Writing:")), (Some(1), Some(2)));
    assert_eq!(counter(body, "Missing:"), None);
    assert_eq!(counter("Reading: many", "Reading:"), None);
}
