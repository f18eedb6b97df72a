//! The log store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{
    Compare, CompareOp, GetOptions, GetResponse, KeyValue, Txn, TxnOp, TxnOpResponse, TxnResponse,
    WatchOptions,
};
use heirloom_model::counter::LogIndex;
use heirloom_model::digest::{LogHash, NetworkId};
use heirloom_model::domain::LogPosition;
use heirloom_model::limit::{ENVELOPE_BYTES_MAX, LOG_BATCH_BYTES_MAX, LOG_ENTRIES_MAX};
use heirloom_model::log::LogEntry;
use heirloom_model::wire;
use heirloom_registry::port::{AppendError, LogStore, ReadError};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::etcd::{Etcd, Fault};
use crate::layout::{
    Body, Head, Keys, PAGE_ENTRIES, PART_BYTES_MAX, PARTS_MAX, PartDigest, Record, digest,
};

/// Others may append between two looks at the end of the log, but not for ever.
const LOOKS_MAX: usize = 64;
/// A watch looks at the log itself so often: a member that was cut off from the others and does
/// not know it yet tells its watchers nothing.
const WATCH_SLICE: Duration = Duration::from_secs(4);
/// Before a watch that failed is begun again.
const WATCH_PAUSE: Duration = Duration::from_millis(100);

/// The log of one network on a cluster.
///
/// Any number of processes may append and read; etcd decides who was first.
#[derive(Debug)]
pub struct EtcdLog {
    etcd: Etcd,
    keys: Keys,
    /// The longest log that was seen. It never becomes shorter.
    known: Mutex<LogPosition>,
}

/// The end of the log, as one member knew it when every other knew no more.
struct Tip {
    head: LogPosition,
    /// etcd's revision then.
    revision: i64,
    member: usize,
}

impl EtcdLog {
    /// The log of this network. Nothing is called yet.
    pub fn new(etcd: Etcd, network: NetworkId) -> Self {
        Self { etcd, keys: Keys::new(&network), known: Mutex::new(LogPosition::START) }
    }

    fn known(&self) -> MutexGuard<'_, LogPosition> {
        // It is replaced at once or not at all.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, head: LogPosition) {
        let mut known = self.known();
        if head.length > known.length {
            *known = head;
        }
    }

    /// The end of the log, in agreement with its last entry.
    async fn tip(&self) -> Result<Tip, Fault> {
        let known = *self.known();
        let mut guess = known;
        for _ in 0..LOOKS_MAX {
            let last = LogIndex(guess.length.0.saturating_sub(1));
            let and_beyond = GetOptions::new().with_range(self.keys.entries_end()).with_limit(2);
            let txn = Txn::new()
                .when([self.head_is(&guess)])
                .and_then([TxnOp::get(self.keys.entry(last), Some(and_beyond))])
                .or_else([TxnOp::get(self.keys.head(), None)]);
            let (member, answer) = self.etcd.repeat(&txn).await?;
            let found = only(&answer)?;
            if answer.succeeded() {
                self.check_last(&guess, found.kvs())?;
                self.learn(guess);
                let revision = revision(&answer);
                return Ok(Tip { head: guess, revision, member });
            }
            guess = head_in(found.kvs())?;
            continues(&known, &guess)?;
        }
        Err(Fault::Unanswered("others append without a pause".to_owned()))
    }

    fn head_is(&self, position: &LogPosition) -> Compare {
        let key = self.keys.head();
        if *position == LogPosition::START {
            return Compare::version(key, CompareOp::Equal, 0);
        }
        Compare::value(key, CompareOp::Equal, wire::encode(&Head(*position)))
    }

    /// Whether the entries from the last one on are exactly the one that the head names.
    fn check_last(&self, head: &LogPosition, found: &[KeyValue]) -> Result<(), Fault> {
        let Some(last) = head.length.0.checked_sub(1).map(LogIndex) else {
            return match found {
                [] => Ok(()),
                _ => Err(Fault::Corrupt("there are entries, but no head".to_owned())),
            };
        };
        match found {
            [entry] if entry.key() == self.keys.entry(last).as_bytes() => {
                let record = decode_record(last, entry)?;
                if record.hash != head.head {
                    let reason = format!("the head names another entry {last} than there is");
                    return Err(Fault::Corrupt(reason));
                }
                Ok(())
            }
            [] => Err(Fault::Corrupt(format!("entry {last} is missing"))),
            _ => Err(Fault::Corrupt(format!("after entry {last}, the last, there is another"))),
        }
    }

    async fn append_entry(
        &self,
        expected: LogIndex,
        envelope: &[u8],
    ) -> Result<LogPosition, AppendError> {
        let tip = self.tip().await?;
        let head = tip.head;
        if head.length != expected {
            return Err(AppendError::Conflict { head });
        }
        let entry = LogEntry::following(&head, envelope.to_vec());
        let next = head
            .advance(&entry)
            .map_err(|broken| AppendError::Full { reason: broken.to_string() })?;
        let body = Body::of(envelope);
        let mut conditions = vec![
            self.head_is(&head),
            // An entry is written once.
            Compare::create_revision(self.keys.entry(expected), CompareOp::Equal, 0),
        ];
        for (digest, part) in parts(&body, envelope) {
            self.store_part(&digest, part).await?;
            conditions.push(Compare::version(self.keys.part(&digest), CompareOp::Greater, 0));
        }
        let record = Record { previous: head.head, hash: next.head, body };
        let txn = Txn::new().when(conditions).and_then([
            TxnOp::put(self.keys.entry(expected), wire::encode(&record), None),
            TxnOp::put(self.keys.head(), wire::encode(&Head(next)), None),
        ]);
        match self.etcd.commit(tip.member, &txn).await {
            Ok(answer) if answer.succeeded() => {
                self.learn(next);
                Ok(next)
            }
            // A condition did not hold: nothing was written, and now it is asked why.
            Ok(_) => match self.tip().await? {
                Tip { head: now, .. } if now != head => Err(AppendError::Conflict { head: now }),
                _ => Err(AppendError::Unreachable {
                    reason: "parts of the statement were removed while it was appended".to_owned(),
                }),
            },
            Err(Fault::Unanswered(reason)) => Err(AppendError::Unknown { reason }),
            Err(Fault::Exhausted(reason)) => self.exhausted(&head, next, reason).await,
            Err(fault) => Err(fault.into()),
        }
    }

    /// What became of a transaction that etcd answered with "no space": it may say so after it
    /// has written. It writes nothing after it has answered, so the log tells.
    async fn exhausted(
        &self,
        before: &LogPosition,
        next: LogPosition,
        reason: String,
    ) -> Result<LogPosition, AppendError> {
        let unknown = |_| AppendError::Unknown { reason: reason.clone() };
        let now = self.tip().await.map_err(unknown)?.head;
        if now == next {
            return Ok(next);
        }
        if now != *before {
            let entries = self.read_entries(before.length, 1).await.map_err(unknown)?;
            return match entries.first() {
                Some(entry) if entry.hash() == next.head => Ok(next),
                _ => Err(AppendError::Conflict { head: now }),
            };
        }
        Err(self.no_space(reason).await)
    }

    /// Sorts "no space for long" from "too much at once". Nothing was appended.
    async fn no_space(&self, reason: String) -> AppendError {
        match self.etcd.is_full().await {
            Ok(true) => AppendError::Full { reason },
            Ok(false) | Err(_) => AppendError::Unreachable { reason },
        }
    }

    /// Writes a part unless it is there. Whoever writes it twice, or stops before the entry is
    /// written, changes nothing for anybody.
    async fn store_part(&self, digest: &PartDigest, part: &[u8]) -> Result<(), AppendError> {
        let key = self.keys.part(digest);
        let txn = Txn::new()
            .when([Compare::version(&*key, CompareOp::Equal, 0)])
            .and_then([TxnOp::put(&*key, part, None)])
            .or_else([TxnOp::get(&*key, None)]);
        let answer = match self.etcd.repeat(&txn).await {
            Ok((_, answer)) => answer,
            Err(Fault::Exhausted(reason)) => return Err(self.no_space(reason).await),
            Err(fault) => return Err(fault.into()),
        };
        if answer.succeeded() {
            return Ok(());
        }
        match only(&answer)?.kvs() {
            [found] if found.value() == part => Ok(()),
            _ => Err(Fault::Corrupt(format!("part {digest} is not what it is called")).into()),
        }
    }

    async fn read_entries(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, Fault> {
        let mut entries: Vec<LogEntry> = Vec::new();
        let mut bytes = 0_usize;
        let mut before = None;
        let max = max.min(LOG_ENTRIES_MAX);
        while entries.len() < max {
            let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
            let Some(start) = from.0.checked_add(count).map(LogIndex) else { break };
            let left = u64::try_from(max - entries.len()).unwrap_or(u64::MAX);
            let page = self.page(start, left.min(PAGE_ENTRIES), before).await?;
            if page.is_empty() {
                break;
            }
            for (index, record) in page {
                bytes = bytes.saturating_add(record.body.length());
                // One entry always fits, or a reader would wait for ever.
                if bytes > LOG_BATCH_BYTES_MAX && !entries.is_empty() {
                    return Ok(entries);
                }
                before = Some(record.hash);
                entries.push(self.entry(index, record).await?);
            }
        }
        Ok(entries)
    }

    /// Records from `start` on, at most `count`: one chain with the record before them, with
    /// `before` if that is known, and with the head if they are the last.
    async fn page(
        &self,
        start: LogIndex,
        count: u64,
        before: Option<LogHash>,
    ) -> Result<Vec<(LogIndex, Record)>, Fault> {
        let known = *self.known();
        // The entry before tells what the first one must follow.
        let first = start.0.saturating_sub(1);
        let limit = i64::try_from(count + (start.0 - first)).unwrap_or(i64::MAX);
        let range = GetOptions::new().with_range(self.keys.entries_end()).with_limit(limit);
        let txn = Txn::new().and_then([
            TxnOp::get(self.keys.head(), None),
            TxnOp::get(self.keys.entry(LogIndex(first)), Some(range)),
        ]);
        let (_, answer) = self.etcd.repeat(&txn).await?;
        let [head, found] = two(&answer)?;
        let head = head_in(head.kvs())?;
        continues(&known, &head)?;
        let end = head.length.0.min(start.0.saturating_add(count));
        let expected = end.saturating_sub(first);
        if found.kvs().len() as u64 != expected {
            let found = found.kvs().len();
            let reason = format!(
                "of {length} entries, {expected} must stand at {first}, and {found} do",
                length = head.length
            );
            return Err(Fault::Corrupt(reason));
        }
        let mut records = Vec::new();
        let mut previous = if first == 0 { Some(LogHash::new([0; 32])) } else { None };
        for (index, entry) in (first..end).map(LogIndex).zip(found.kvs()) {
            let record = decode_record(index, entry)?;
            let follows = previous.is_none_or(|hash| hash == record.previous);
            if entry.key() != self.keys.entry(index).as_bytes() || !follows {
                let reason = format!("entry {index} does not follow the entries before it");
                return Err(Fault::Corrupt(reason));
            }
            previous = Some(record.hash);
            if index.next() == Some(head.length) && record.hash != head.head {
                let reason = format!("the head names another entry {index} than there is");
                return Err(Fault::Corrupt(reason));
            }
            if index >= start {
                records.push((index, record));
            }
        }
        match (before, records.first()) {
            (Some(hash), Some((index, record))) if record.previous != hash => {
                Err(Fault::Corrupt(format!("the entry before {index} was replaced")))
            }
            _ => Ok(records),
        }
    }

    /// The entry of a record, with all its bytes.
    async fn entry(&self, index: LogIndex, record: Record) -> Result<LogEntry, Fault> {
        let corrupt = |what: fmt::Arguments<'_>| Fault::Corrupt(format!("entry {index}: {what}"));
        let envelope = match record.body {
            Body::Inline { envelope } => envelope,
            Body::Parts { length, digests } => {
                let limit = ENVELOPE_BYTES_MAX as u64;
                if length > limit || digests.len() > PARTS_MAX {
                    return Err(corrupt(format_args!("{length} bytes are too many")));
                }
                let mut envelope = Vec::new();
                for digest in &digests {
                    envelope.extend_from_slice(&self.part(index, digest).await?);
                }
                if envelope.len() as u64 != length {
                    let found = envelope.len();
                    return Err(corrupt(format_args!("its parts have {found} of {length} bytes")));
                }
                envelope
            }
        };
        let entry = LogEntry { index, previous: record.previous, envelope };
        if entry.hash() != record.hash {
            return Err(corrupt(format_args!("it is not what was written")));
        }
        Ok(entry)
    }

    async fn part(&self, index: LogIndex, expected: &PartDigest) -> Result<Vec<u8>, Fault> {
        let (_, answer) = self.etcd.get(&self.keys.part(expected), &GetOptions::new()).await?;
        match answer.kvs() {
            [part] if part.value().len() <= PART_BYTES_MAX && digest(part.value()) == *expected => {
                Ok(part.value().to_vec())
            }
            [] => Err(Fault::Corrupt(format!("entry {index}: part {expected} is missing"))),
            _ => Err(Fault::Corrupt(format!("entry {index}: part {expected} was changed"))),
        }
    }

    async fn watch_head(
        &self,
        from: LogIndex,
        timeout: Duration,
    ) -> Result<LogPosition, ReadError> {
        let now = Instant::now();
        // A time beyond all clocks is as good as for ever.
        let deadline = now.checked_add(timeout).unwrap_or(now + Duration::from_hours(24 * 365));
        loop {
            let tip = self.tip().await?;
            let now = Instant::now();
            if tip.head.length > from || now >= deadline {
                return Ok(tip.head);
            }
            let until = deadline.min(now + WATCH_SLICE);
            // The time is over, or something happened; both are looked at in the same way.
            if let Ok(false) = timeout_at(until, self.changed(&tip)).await {
                sleep_until(until.min(Instant::now() + WATCH_PAUSE)).await;
            }
            if Instant::now() >= deadline {
                return Ok(self.newer(tip.head));
            }
        }
    }

    /// This position, or a longer one that another thread has learnt.
    fn newer(&self, head: LogPosition) -> LogPosition {
        let known = *self.known();
        if known.length > head.length { known } else { head }
    }

    /// Ready with true once the head has changed since the tip, and with false if the member
    /// cannot say so any more.
    async fn changed(&self, tip: &Tip) -> bool {
        let options = WatchOptions::new().with_start_revision(tip.revision.saturating_add(1));
        let mut client = self.etcd.client(tip.member);
        let Ok(mut stream) = client.watch(self.keys.head(), Some(options)).await else {
            return false;
        };
        while let Ok(Some(message)) = stream.message().await {
            if !message.events().is_empty() {
                return true;
            }
            if message.canceled() {
                return false;
            }
        }
        false
    }
}

impl LogStore for EtcdLog {
    fn append(&self, expected: LogIndex, envelope: &[u8]) -> Result<LogPosition, AppendError> {
        let (found, limit) = (envelope.len(), ENVELOPE_BYTES_MAX);
        if found > limit {
            return Err(AppendError::TooLarge { found, limit });
        }
        self.etcd.wait(self.append_entry(expected, envelope))
    }

    fn head(&self) -> Result<LogPosition, ReadError> {
        Ok(self.etcd.wait(self.tip())?.head)
    }

    fn read(&self, from: LogIndex, max: usize) -> Result<Vec<LogEntry>, ReadError> {
        Ok(self.etcd.wait(self.read_entries(from, max))?)
    }

    fn watch(&self, from: LogIndex, timeout: Duration) -> Result<LogPosition, ReadError> {
        self.etcd.wait(self.watch_head(from, timeout))
    }
}

/// The different parts of an envelope. Equal ones are kept once.
fn parts<'e>(body: &Body, envelope: &'e [u8]) -> BTreeMap<PartDigest, &'e [u8]> {
    match body {
        Body::Inline { .. } => BTreeMap::new(),
        Body::Parts { digests, .. } => {
            digests.iter().copied().zip(envelope.chunks(PART_BYTES_MAX)).collect()
        }
    }
}

fn head_in(found: &[KeyValue]) -> Result<LogPosition, Fault> {
    let Some(head) = found.first() else { return Ok(LogPosition::START) };
    let Head(head) = wire::decode(head.value()).map_err(|error| corrupt(&error))?;
    if head.length == LogIndex(0) {
        return Err(Fault::Corrupt("the head of an empty log is not absent".to_owned()));
    }
    Ok(head)
}

fn decode_record(index: LogIndex, entry: &KeyValue) -> Result<Record, Fault> {
    wire::decode(entry.value()).map_err(|error| Fault::Corrupt(format!("entry {index}: {error}")))
}

/// Refuses a log that has become shorter, or another one.
fn continues(known: &LogPosition, found: &LogPosition) -> Result<(), Fault> {
    if found.length < known.length || (found.length == known.length && found != known) {
        let (found, known) = (found.length, known.length);
        let reason = format!("it had {known} entries, and is now another log with {found}");
        return Err(Fault::Corrupt(reason));
    }
    Ok(())
}

fn revision(answer: &TxnResponse) -> i64 {
    answer.header().map_or(0, etcd_client::ResponseHeader::revision)
}

/// The answer to the one read of a transaction.
fn only(answer: &TxnResponse) -> Result<GetResponse, Fault> {
    let mut answers = answer.op_responses();
    match (answers.pop(), answers.pop()) {
        (Some(TxnOpResponse::Get(found)), None) => Ok(found),
        _ => Err(Fault::Corrupt("etcd did not answer what it was asked".to_owned())),
    }
}

/// The answers to the two reads of a transaction.
fn two(answer: &TxnResponse) -> Result<[GetResponse; 2], Fault> {
    let mut answers = answer.op_responses();
    match (answers.pop(), answers.pop(), answers.pop()) {
        (Some(TxnOpResponse::Get(second)), Some(TxnOpResponse::Get(first)), None) => {
            Ok([first, second])
        }
        _ => Err(Fault::Corrupt("etcd did not answer what it was asked".to_owned())),
    }
}

fn corrupt(error: &wire::WireError) -> Fault {
    Fault::Corrupt(error.to_string())
}
