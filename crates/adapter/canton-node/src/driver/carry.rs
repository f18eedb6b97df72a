//! Contracts: out of the source, into the target, and compared.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use heirloom_canton::acs::{ActiveContract, FrameReader};
use heirloom_canton::contract_id::ContractId;
use heirloom_model::causes::with_causes;
use heirloom_model::digest::{ContractSetDigest, PlanDigest, SnapshotDigest};
use heirloom_model::participant::{
    ContractSetHasher, Exported, LedgerOffset, Reconciled, Rewritten, SnapshotHasher,
};
use heirloom_model::party::{Namespace, ParticipantId, PartyId, SynchronizerId};
use heirloom_participant::custodian::key::KeyUsage;
use heirloom_store::atomic;
use heirloom_upgrade::port::{DriverError, Imported, ParticipantCall};

use crate::driver::fault::{
    contracts_error, custodian_error, io_error, node_error, store_error, unexpected,
};
use crate::driver::roster::{self, Comparison, Extra, Gathering, Record, Records, Sorted};
use crate::driver::work::{Work, is_there, keep};
use crate::driver::{Driver, Keeping, enroll, quiet, supply, users};
use crate::node::{ExportRequest, ImportRequest, Place, Visit};

/// The end of a ledger in digits.
const OFFSET_DIGITS_MAX: usize = 20;

/// What was last seen of a plan's contracts on its target. It holds for as long as the target's
/// ledger ends where it did.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    plan: PlanDigest,
    ledger_end: u64,
    found: Found,
}

/// What the target shows of the plan's new parties.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Contracts of the plan.
    pub(crate) imported: Imported,
    /// Others.
    extra: Extra,
}

/// Takes a snapshot of the source, which is off.
pub(crate) fn export(
    driver: &Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    ledger_end: LedgerOffset,
) -> Result<Exported, DriverError> {
    let path = work.source_snapshot();
    still(driver, ledger_end)?;
    // Written before there is a snapshot: whatever is exported was exported at this end.
    keep(&work.source_end(), ledger_end.to_string().as_bytes())?;
    if !is_there(&path)? {
        supply::expect_parties(driver, task)?;
        let wanted = ExportRequest {
            parties: task.moved.parties.iter().cloned().collect(),
            synchronizer: None,
            ledger_end: ledger_end.0,
            // Rewriting changes the names of synchronizers, where its result is verified.
            renames: BTreeMap::new(),
        };
        driver.source.export(&wanted, &path).map_err(contracts_error)?;
        still(driver, ledger_end)?;
    }
    let (snapshot, contracts) = read_snapshot(&path, |_| Ok(()))?;
    Ok(Exported { ledger_end, snapshot, contracts })
}

/// The source has done nothing since the snapshot was taken: what it did would be lost, or there
/// twice.
fn still_as_exported(driver: &Driver, work: &Work) -> Result<(), DriverError> {
    let path = work.source_end();
    let text = atomic::read(&path, OFFSET_DIGITS_MAX).map_err(store_error)?;
    let noted = std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok());
    let ledger_end = noted.ok_or_else(|| DriverError::Corrupt {
        what: path.display().to_string(),
        reason: "it is not the end of a ledger".to_owned(),
    })?;
    still(driver, LedgerOffset(ledger_end))
}

/// The source is off, and its ledger ends where it did.
fn still(driver: &Driver, ledger_end: LedgerOffset) -> Result<(), DriverError> {
    let found = driver.source.ledger_end().map_err(node_error)?;
    unexpected("end of the source's ledger at", &ledger_end, &LedgerOffset(found))?;
    // Connected, it may go on at any moment: nothing goes on here before somebody takes it off.
    quiet::expect_off(&driver.source)
}

/// Sends the rewritten snapshot into the target, which is off, as far as it is not there.
pub(crate) fn import(
    driver: &mut Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    rewritten: &Rewritten,
) -> Result<(), DriverError> {
    if !work.is_safeguarded()? {
        let what = "the copy of the target's store".to_owned();
        return Err(DriverError::Missing { what });
    }
    if work.is_purged()? {
        let what =
            format!("plan {} was taken back: nothing is imported for it any more", task.plan);
        return Err(DriverError::Refused(what));
    }
    still_as_exported(driver, work)?;
    ensure_roster(work, rewritten)?;
    let path = work.target_snapshot();
    let (snapshot, contracts) = read_snapshot(&path, |_| Ok(()))?;
    unexpected("snapshot", &rewritten.snapshot, &snapshot)?;
    unexpected("contracts:", &rewritten.contracts, &contracts)?;
    let target = driver.expect_target(task)?;
    quiet::pass_time(driver, &target)?;
    quiet::take_off(&driver.target)?;
    if is_all(driver, task, work, &target, rewritten)? {
        return Ok(());
    }
    // Written before anything is sent: an import may go on after its caller is gone.
    work.mark_import_begun()?;
    let plan = task.plan.to_string();
    for synchronizer in driver.destinations() {
        let wanted = ImportRequest {
            file: path.clone(),
            synchronizer,
            prefix: format!("heirloom-{}", plan.get(..16).unwrap_or(&plan)),
        };
        driver.target.import(&wanted).map_err(contracts_error)?;
    }
    // The server drops contracts of other synchronizers in silence: only counting shows it.
    driver.seen = None;
    if is_all(driver, task, work, &target, rewritten)? {
        return Ok(());
    }
    let found = driver.seen.as_ref().map_or(0, |seen| seen.found.imported.contracts);
    Err(DriverError::Unexpected {
        expected: format!("{} contracts on the target", rewritten.contracts),
        found: format!("{found} of them"),
    })
}

fn is_all(
    driver: &mut Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    target: &ParticipantId,
    rewritten: &Rewritten,
) -> Result<bool, DriverError> {
    let found = present(driver, task, work, target)?;
    let Some(Found { imported, extra }) = found else { return Ok(false) };
    expect_no_extra(&extra, target)?;
    Ok(imported.contracts == rewritten.contracts && imported.ids == rewritten.ids)
}

/// Whatever the new parties have on the target came with the plan.
pub(crate) fn expect_no_extra(extra: &Extra, target: &ParticipantId) -> Result<(), DriverError> {
    let Some(first) = &extra.first else { return Ok(()) };
    Err(DriverError::Unexpected {
        expected: format!("no contracts of the plan's parties on {target} but those of the plan"),
        found: format!(
            "{} others, the first is {first}: find out who made them, archive them there and keep \
             applications off the target, or call the plan off and take an empty participant",
            extra.count
        ),
    })
}

/// The new names of the plan's parties that the target hosts.
pub(crate) fn new_parties(
    driver: &Driver,
    task: ParticipantCall<'_>,
    target: &ParticipantId,
) -> Result<BTreeSet<PartyId>, DriverError> {
    let wanted = task.moved.parties.iter().map(|party| supply::new_name(party, target));
    let wanted = wanted.collect::<Result<BTreeSet<_>, _>>()?;
    let known = driver.target.parties().map_err(node_error)?;
    let known = known.into_iter().filter(|entry| entry.is_local).map(|entry| entry.party);
    Ok(known.filter(|party| wanted.contains(party)).collect())
}

/// The contracts of the plan that are active on the target; none if that cannot be told. That
/// there are none cannot be told while an import may still bring some.
pub(crate) fn imported(
    driver: &mut Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    target: &ParticipantId,
) -> Result<Option<Imported>, DriverError> {
    let found = present(driver, task, work, target)?.map(|found| found.imported);
    let may_come = work.is_import_begun()? && !work.is_purged()?;
    Ok(found.filter(|found| found.contracts > 0 || !may_come))
}

/// What the new parties have on the target; none if that cannot be told apart.
fn present(
    driver: &mut Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    target: &ParticipantId,
) -> Result<Option<Found>, DriverError> {
    let ledger_end = driver.target.ledger_end().map_err(node_error)?;
    let is_known = |seen: &&Seen| seen.plan == task.plan && seen.ledger_end == ledger_end;
    if let Some(seen) = driver.seen.as_ref().filter(is_known) {
        return Ok(Some(seen.found.clone()));
    }
    let imported = Imported { contracts: 0, ids: ContractSetHasher::default().finish() };
    let nothing = Found { imported, extra: Extra::default() };
    let parties = new_parties(driver, task, target)?;
    if parties.is_empty() {
        return Ok(Some(nothing));
    }
    let mut is_empty = true;
    let found = gather(driver, work, &parties, ledger_end, |_| {
        is_empty = false;
        true
    })?;
    let found = if is_empty {
        nothing
    } else if is_there(&work.roster())? {
        let Comparison { found, ids, extra, .. } = compare(work, found, |_| Ok(()))?;
        Found { imported: Imported { contracts: found, ids }, extra }
    } else {
        // There are contracts, and what the plan would import is not known here.
        return Ok(None);
    };
    driver.seen = Some(Seen { plan: task.plan, ledger_end, found: found.clone() });
    Ok(Some(found))
}

/// Contracts that the target shows, sorted.
pub(crate) fn gather(
    driver: &Driver,
    work: &Work,
    parties: &BTreeSet<PartyId>,
    ledger_end: u64,
    mut is_wanted: impl FnMut(&SynchronizerId) -> bool,
) -> Result<Sorted, DriverError> {
    let mut gathering = Gathering::new(work.folder(), "target");
    driver.target.visit_contracts::<DriverError>(
        parties,
        ledger_end,
        false,
        |visit| match visit {
            Visit::Active(found) if is_wanted(&found.synchronizer) => {
                gathering.push(Record::new(&found.id, &found.signatories, &found.observers)?)
            }
            Visit::Active(_) | Visit::Incomplete => Ok(()),
        },
    )?;
    gathering.sorted()
}

pub(crate) fn compare(
    work: &Work,
    found: Sorted,
    both: impl FnMut(&Record) -> Result<(), DriverError>,
) -> Result<Comparison, DriverError> {
    roster::compare(Records::open(&work.roster())?, found, both)
}

/// Compares what the target shows with the rewritten snapshot, and lets the custodian sign.
pub(crate) fn reconcile(
    driver: &mut Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    target: &ParticipantId,
    rewritten: &Rewritten,
) -> Result<Reconciled, DriverError> {
    still_as_exported(driver, work)?;
    ensure_roster(work, rewritten)?;
    let ledger_end = driver.target.ledger_end().map_err(node_error)?;
    let parties = new_parties(driver, task, target)?;
    let found = gather(driver, work, &parties, ledger_end, |_| true)?;
    let comparison = compare(work, found, |_| Ok(()))?;
    let differs = |contract: &ContractId, found: &str| DriverError::Unexpected {
        expected: format!("contract {contract} of the snapshot on the target"),
        found: found.to_owned(),
    };
    if let Some(contract) = &comparison.missing {
        return Err(differs(contract, "it is not active"));
    }
    if let Some(contract) = &comparison.differing {
        return Err(differs(contract, "it has other stakeholders"));
    }
    expect_no_extra(&comparison.extra, target)?;
    unexpected("contracts:", &rewritten.contracts, &comparison.found)?;
    unexpected("ids", &rewritten.ids, &comparison.ids)?;
    let signer = signer(driver, task, target)?;
    // The last look before the plan commits.
    users::expect_as_noted(driver, work)?;
    still_as_exported(driver, work)?;
    Ok(Reconciled {
        contracts: comparison.found,
        ids: comparison.ids,
        signer,
        ledger_end: LedgerOffset(ledger_end),
    })
}

/// Shows that the key of the target's namespace can be used.
fn signer(
    driver: &Driver,
    task: ParticipantCall<'_>,
    target: &ParticipantId,
) -> Result<Namespace, DriverError> {
    let wanted = driver.settings.keys.iter().find(|key| key.usage == KeyUsage::Namespace);
    let wanted = wanted.expect("the settings have one key for each use");
    let namespace = target.namespace();
    let Keeping::Custodian(custodian) = &driver.keeping else {
        // Nobody but the target has the key: what it signed with it is there.
        let keys = driver.target.keys().map_err(node_error)?;
        let has = keys.iter().any(|key| {
            key.custodian_id.is_none() && key.material.fingerprint().to_namespace() == namespace
        });
        let roots = driver.target.delegations(&Place::Own, &namespace).map_err(node_error)?;
        if has && roots.iter().any(|root| root.to_namespace() == namespace) {
            return Ok(namespace);
        }
        let what = format!("key of namespace {namespace} at {}", driver.target.name());
        return Err(DriverError::Missing { what });
    };
    let found = custodian.find(&wanted.label).map_err(|error| custodian_error(&error))?;
    let missing =
        || DriverError::Missing { what: format!("key {} of the custodian", wanted.label) };
    let handle = found.ok_or_else(missing)?;
    let fingerprint = enroll::fingerprint(custodian.as_ref(), &handle)?;
    unexpected("namespace", &namespace, &fingerprint.to_namespace())?;
    let algorithm = handle.scheme.algorithm().ok_or_else(|| {
        DriverError::Refused(format!("{} signs nothing that is known here", handle.scheme))
    })?;
    let message = format!("heirloom reconciles {target} for plan {}", task.plan);
    // It was verified with the public key before it came back.
    custodian
        .sign(&handle, algorithm, message.as_bytes())
        .map_err(|error| custodian_error(&error))?;
    Ok(namespace)
}

/// Makes sure that the roster is that of the snapshot that was stated.
pub(crate) fn ensure_roster(work: &Work, rewritten: &Rewritten) -> Result<(), DriverError> {
    let path = work.roster();
    if is_there(&path)? {
        let mut hasher = ContractSetHasher::default();
        for record in Records::open(&path)? {
            let ascending = hasher.push(record?.id());
            ascending.map_err(|error| DriverError::Corrupt {
                what: path.display().to_string(),
                reason: error.to_string(),
            })?;
        }
        let count = hasher.count();
        unexpected("contracts of the roster:", &rewritten.contracts, &count)?;
        return unexpected("ids of the roster", &rewritten.ids, &hasher.finish());
    }
    let (count, ids) = build_roster(work)?;
    unexpected("contracts of the snapshot:", &rewritten.contracts, &count)?;
    unexpected("ids of the snapshot", &rewritten.ids, &ids)
}

/// Writes ids and stakeholders of the rewritten snapshot.
pub(crate) fn build_roster(work: &Work) -> Result<(u64, ContractSetDigest), DriverError> {
    let mut gathering = Gathering::new(work.folder(), "roster");
    let path = work.target_snapshot();
    read_snapshot(&path, |entry| {
        let contract = entry.contract().map_err(|error| corrupt(&path, &error))?;
        let names = |parties: &BTreeSet<heirloom_canton::name::Party>| {
            parties.iter().map(ToString::to_string).collect()
        };
        let (signatories, observers) = (names(&contract.signatories), names(&contract.observers));
        gathering.push(Record::new(&contract.contract_id, &signatories, &observers)?)
    })?;
    roster::write(gathering.sorted()?, &work.roster())
}

fn corrupt(path: &Path, error: &dyn std::error::Error) -> DriverError {
    DriverError::Corrupt { what: path.display().to_string(), reason: with_causes(error) }
}

/// Reads a snapshot once, entry by entry; returns its digest and how many there are.
pub(crate) fn read_snapshot(
    path: &Path,
    mut each: impl FnMut(&ActiveContract) -> Result<(), DriverError>,
) -> Result<(SnapshotDigest, u64), DriverError> {
    let file = File::open(path).map_err(|error| io_error(path, &error))?;
    let hasher = SnapshotHasher::default();
    let digesting = Digesting { input: MultiGzDecoder::new(BufReader::new(file)), hasher };
    let mut frames = FrameReader::new(BufReader::new(digesting));
    let mut count = 0_u64;
    for frame in frames.by_ref() {
        let frame = frame.map_err(|error| corrupt(path, &error))?;
        let entry = ActiveContract::decode(&frame).map_err(|error| corrupt(path, &error))?;
        each(&entry)?;
        count = count.saturating_add(1);
    }
    Ok((frames.into_inner().into_inner().hasher.finish(), count))
}

/// Digests what goes through.
struct Digesting<R> {
    input: R,
    hasher: SnapshotHasher,
}

impl<R: Read> Read for Digesting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.input.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
