//! The target's parties and packages.

use std::collections::{BTreeMap, BTreeSet};

use heirloom_canton::dar;
use heirloom_canton::types::PackageId;
use heirloom_model::causes::with_causes;
use heirloom_model::limit::DAR_BYTES_MAX;
use heirloom_model::participant::{PartyKind, PartyMove};
use heirloom_model::party::{ParticipantId, PartyId};
use heirloom_store::atomic;
use heirloom_store::error::StoreError;
use heirloom_upgrade::port::{DriverError, ParticipantCall};

use crate::driver::fault::{node_error, store_error};
use crate::driver::work::Work;
use crate::driver::{Driver, survey};
use crate::node::{DarEntry, Place};

/// What a party becomes.
pub(crate) fn new_name(party: &PartyId, target: &ParticipantId) -> Result<PartyId, DriverError> {
    party
        .moved_to(&target.namespace())
        .map_err(|error| DriverError::Refused(format!("{party} has no new name: {error}")))
}

/// Every party of the task under its new name, on every synchronizer.
pub(crate) fn allocate(
    driver: &Driver,
    task: ParticipantCall<'_>,
    target: &ParticipantId,
) -> Result<Vec<PartyMove>, DriverError> {
    expect_parties(driver, task)?;
    let annotations: BTreeMap<PartyId, BTreeMap<String, String>> = driver
        .source
        .parties()
        .map_err(node_error)?
        .into_iter()
        .map(|entry| (entry.party, entry.annotations))
        .collect();
    let moves = task
        .moved
        .parties
        .iter()
        .map(|from| Ok(PartyMove { from: from.clone(), to: new_name(from, target)? }))
        .collect::<Result<Vec<_>, DriverError>>()?;
    for synchronizer in driver.destinations() {
        let place = Place::Synchronizer(synchronizer.clone());
        let hosted = hosted_there(driver, &place, target)?;
        for one in moves.iter().filter(|one| !hosted.contains(&one.to)) {
            let none = BTreeMap::new();
            let notes = annotations.get(&one.from).unwrap_or(&none);
            let hint = one.from.identifier();
            let made = driver.target.allocate(hint, notes, &synchronizer).map_err(node_error)?;
            if made != one.to {
                let what = format!("{} made {made} instead of {}", driver.target.name(), one.to);
                let reason = "the name was predicted from its key".to_owned();
                return Err(DriverError::Corrupt { what, reason });
            }
        }
    }
    for synchronizer in driver.destinations() {
        let place = Place::Synchronizer(synchronizer.clone());
        let hosted = hosted_there(driver, &place, target)?;
        if let Some(one) = moves.iter().find(|one| !hosted.contains(&one.to)) {
            let what = format!("{} is not hosted on {synchronizer} yet", one.to);
            return Err(DriverError::Unknown(what));
        }
    }
    Ok(moves)
}

/// The parties that move must be those of the plan: one more, and its contracts would stay behind.
/// Nobody else may host them: whoever does keeps their contracts under the old names.
pub(crate) fn expect_parties(
    driver: &Driver,
    task: ParticipantCall<'_>,
) -> Result<(), DriverError> {
    let hosted = survey::hosted(&driver.source, &task.moved.source)?;
    let movable = hosted.iter().filter(|(_, kind)| **kind == PartyKind::Local);
    let movable: BTreeSet<&PartyId> = movable.map(|(party, _)| party).collect();
    let elsewhere = survey::elsewhere(&driver.source, &task.moved.source, &hosted)?;
    if let Some((party, hosts)) = elsewhere.first_key_value() {
        let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Err(DriverError::Unexpected {
            expected: format!("{party} on {} only", task.moved.source),
            found: format!("{party} on {hosts} too"),
        });
    }
    let planned: BTreeSet<&PartyId> = task.moved.parties.iter().collect();
    match movable.symmetric_difference(&planned).next() {
        None => Ok(()),
        Some(party) => Err(DriverError::Unexpected {
            expected: format!("{} parties of the plan", planned.len()),
            found: format!("{} parties; {party} is in one of the two only", movable.len()),
        }),
    }
}

fn hosted_there(
    driver: &Driver,
    place: &Place,
    target: &ParticipantId,
) -> Result<BTreeSet<PartyId>, DriverError> {
    let found = driver.target.hosted_by(place, target).map_err(node_error)?;
    Ok(found.into_iter().map(|hosting| hosting.party).collect())
}

/// The package files that the source has and did not bring along by itself.
fn files(driver: &Driver) -> Result<Vec<DarEntry>, DriverError> {
    let all = driver.source.dars().map_err(node_error)?;
    Ok(all.into_iter().filter(|entry| !entry.is_built_in()).collect())
}

/// Gives the target every package of the source.
pub(crate) fn supply(
    driver: &Driver,
    work: &Work,
    target: &ParticipantId,
) -> Result<(), DriverError> {
    let files = files(driver)?;
    let present: BTreeSet<PackageId> =
        driver.target.dars().map_err(node_error)?.into_iter().map(|entry| entry.main).collect();
    atomic::create_directory(&work.packages()).map_err(store_error)?;
    let destinations = driver.destinations();
    let mut needed = BTreeSet::new();
    for entry in &files {
        let (bytes, packages) = fetched(driver, work, entry)?;
        for synchronizer in &destinations {
            if !present.contains(&entry.main) {
                driver.target.upload(entry, bytes.clone(), synchronizer).map_err(node_error)?;
            }
            let place = Place::Synchronizer(synchronizer.clone());
            let vetted = driver.target.vetted(&place, target).map_err(node_error)?;
            if !packages.is_subset(&vetted) {
                driver.target.vet(&entry.main, synchronizer).map_err(node_error)?;
            }
        }
        needed.extend(packages);
    }
    for synchronizer in &destinations {
        let place = Place::Synchronizer(synchronizer.clone());
        let vetted = driver.target.vetted(&place, target).map_err(node_error)?;
        if let Some(package) = needed.difference(&vetted).next() {
            let what = format!("{package} is not vetted on {synchronizer} yet");
            return Err(DriverError::Unknown(what));
        }
    }
    Ok(())
}

/// The bytes of a package file, whose packages have the ids that they are named by. It is kept:
/// rewriting needs its types, and the source may be gone then.
fn fetched(
    driver: &Driver,
    work: &Work,
    entry: &DarEntry,
) -> Result<(Vec<u8>, BTreeSet<PackageId>), DriverError> {
    let path = work.dar(entry.main.as_str());
    let (bytes, is_new) = match atomic::read(&path, DAR_BYTES_MAX) {
        Ok(bytes) => (bytes, false),
        Err(StoreError::Missing { .. }) => {
            (driver.source.dar(&entry.main).map_err(node_error)?, true)
        }
        Err(error) => return Err(store_error(error)),
    };
    let corrupt = |reason| DriverError::Corrupt {
        what: format!("package file {} {}", entry.name, entry.main),
        reason,
    };
    let read = dar::read(&bytes).map_err(|error| corrupt(with_causes(&error)))?;
    if *read.main().id() != entry.main {
        return Err(corrupt(format!("its main package is {}", read.main().id())));
    }
    if is_new {
        atomic::create(&path, &bytes).map_err(store_error)?;
    }
    let packages = read.packages().iter().map(|package| package.id().clone()).collect();
    Ok((bytes, packages))
}

/// How many package files of the source the target lacks, or has not vetted.
pub(crate) fn lacking(driver: &Driver, target: &ParticipantId) -> Result<u64, DriverError> {
    let present: BTreeSet<PackageId> =
        driver.target.dars().map_err(node_error)?.into_iter().map(|entry| entry.main).collect();
    let mut vetted: Option<BTreeSet<PackageId>> = None;
    for synchronizer in driver.destinations() {
        let place = Place::Synchronizer(synchronizer);
        let there = driver.target.vetted(&place, target).map_err(node_error)?;
        vetted = Some(match vetted {
            None => there,
            Some(both) => both.intersection(&there).cloned().collect(),
        });
    }
    let vetted = vetted.unwrap_or_default();
    let lacks = |entry: &&DarEntry| !present.contains(&entry.main) || !vetted.contains(&entry.main);
    Ok(files(driver)?.iter().filter(lacks).count() as u64)
}
