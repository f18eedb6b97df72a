//! Work on all cores whose results come in the order of the input.
//!
//! Batch `i` goes to worker `i` modulo their number, and results are taken from the workers in the
//! same turn. So the order is that of the input however fast anybody is, the first error in that
//! order is the one that is reported, and no more batches are in memory than the channels hold.

use std::num::NonZeroUsize;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use crate::error::SnapshotError;

/// Batches that wait for a worker, and results that wait to be taken, each.
const WAITING_MAX: usize = 1;

/// How many workers this machine has use for.
pub(crate) fn all_cores() -> NonZeroUsize {
    thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Runs `produce` on a thread, `work` on `workers` threads and `consume` on this one.
pub(crate) fn run<B: Send, R: Send>(
    workers: NonZeroUsize,
    mut produce: impl FnMut() -> Result<Option<B>, SnapshotError> + Send,
    work: impl Fn(B) -> Result<R, SnapshotError> + Sync,
    mut consume: impl FnMut(R) -> Result<(), SnapshotError>,
) -> Result<(), SnapshotError> {
    thread::scope(|scope| {
        let mut batches = Vec::new();
        let mut results = Vec::new();
        for _ in 0..workers.get() {
            let (to_worker, from_producer) = sync_channel(WAITING_MAX);
            let (to_consumer, from_worker) = sync_channel(WAITING_MAX);
            let work = &work;
            scope.spawn(move || work_through(&from_producer, &to_consumer, work));
            batches.push(to_worker);
            results.push(from_worker);
        }
        scope.spawn(move || {
            for to_worker in batches.iter().cycle() {
                let item = produce().transpose();
                let last = !matches!(item, Some(Ok(_)));
                // Nobody takes it: the consumer has stopped because of an error.
                let Some(item) = item else { return };
                if to_worker.send(item).is_err() || last {
                    return;
                }
            }
        });
        for from_worker in results.iter().cycle() {
            // The turn of a worker that has ended: there was nothing left for it.
            let Ok(result) = from_worker.recv() else { return Ok(()) };
            consume(result?)?;
        }
        Ok(())
    })
}

fn work_through<B, R>(
    batches: &Receiver<Result<B, SnapshotError>>,
    results: &SyncSender<Result<R, SnapshotError>>,
    work: impl Fn(B) -> Result<R, SnapshotError>,
) {
    while let Ok(batch) = batches.recv() {
        if results.send(batch.and_then(&work)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_numbers(workers: usize, fails_at: Option<u32>) -> (Vec<u32>, bool) {
        let mut next = 0;
        let mut found = Vec::new();
        let result = run(
            NonZeroUsize::new(workers).unwrap(),
            || {
                next += 1;
                Ok((next <= 1_000).then_some(next))
            },
            |number: u32| {
                if Some(number) == fails_at { Err(SnapshotError::Cancelled) } else { Ok(number) }
            },
            |number| {
                found.push(number);
                Ok(())
            },
        );
        (found, result.is_ok())
    }

    #[test]
    fn results_come_in_the_order_of_the_input_up_to_the_first_error() {
        for workers in 1..5 {
            assert_eq!(run_numbers(workers, None), ((1..=1_000).collect(), true));
            assert_eq!(run_numbers(workers, Some(7)), ((1..7).collect(), false));
        }
    }
}
