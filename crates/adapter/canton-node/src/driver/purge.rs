//! The way back: the contracts of a plan, out of the target again.
//!
//! An import goes on in the server when its caller is gone, and nothing tells whether it does. So
//! nothing counts before the end of the target's ledger stood still, and nothing is finished
//! before it stood still once more with none of the plan's contracts there.

use heirloom_canton::contract_id::ContractId;
use heirloom_model::participant::Rewritten;
use heirloom_model::party::ParticipantId;
use heirloom_upgrade::port::{DriverError, ParticipantCall};

use crate::driver::carry::{compare, ensure_roster, expect_no_extra, gather, new_parties};
use crate::driver::fault::node_error;
use crate::driver::roster::Extra;
use crate::driver::work::Work;
use crate::driver::{Driver, quiet};
use crate::node::Registration;

/// Contracts that are purged with one call.
const BATCH: usize = 1_000;

/// Takes the contracts of the plan away from the target.
pub(crate) fn purge(
    driver: &mut Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    target: &ParticipantId,
    rewritten: &Rewritten,
) -> Result<(), DriverError> {
    let may_come = work.is_import_begun()? && !work.is_purged()?;
    // Off, nothing comes from a synchronizer: whatever moves the ledger now is an import.
    quiet::take_off(&driver.target)?;
    if may_come {
        expect_rest(driver)?;
    }
    let Left { of_plan, extra } = left(driver, task, work, target, rewritten)?;
    if of_plan > 0 {
        // Others may be made of them. Whoever made those knows what may be lost, and not we.
        expect_no_extra(&extra, target)?;
        take_out(driver, task, work, target)?;
        driver.seen = None;
    }
    if !may_come && of_plan == 0 {
        return Ok(());
    }
    expect_rest(driver)?;
    let of_plan = left(driver, task, work, target, rewritten)?.of_plan;
    if of_plan > 0 {
        let what = format!("{of_plan} contracts of the plan are still there, or came again");
        return Err(DriverError::Unknown(what));
    }
    work.mark_purged()
}

/// The ledger of the target stands still.
fn expect_rest(driver: &Driver) -> Result<(), DriverError> {
    match driver.target.resting_ledger_end().map_err(node_error)? {
        Some(_) => Ok(()),
        None => Err(DriverError::Unknown(format!(
            "the ledger of {} moves although it is connected to nothing: an import goes on",
            driver.target.name()
        ))),
    }
}

/// What the new parties have on the target.
#[derive(Default)]
struct Left {
    of_plan: u64,
    extra: Extra,
}

fn left(
    driver: &Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    target: &ParticipantId,
    rewritten: &Rewritten,
) -> Result<Left, DriverError> {
    let parties = new_parties(driver, task, target)?;
    if parties.is_empty() {
        return Ok(Left::default());
    }
    let ledger_end = driver.target.ledger_end().map_err(node_error)?;
    let mut is_empty = true;
    let found = gather(driver, work, &parties, ledger_end, |_| {
        is_empty = false;
        true
    })?;
    if is_empty {
        return Ok(Left::default());
    }
    ensure_roster(work, rewritten)?;
    let comparison = compare(work, found, |_| Ok(()))?;
    Ok(Left { of_plan: comparison.found, extra: comparison.extra })
}

fn take_out(
    driver: &Driver,
    task: ParticipantCall<'_>,
    work: &Work,
    target: &ParticipantId,
) -> Result<(), DriverError> {
    let parties = new_parties(driver, task, target)?;
    let ledger_end = driver.target.ledger_end().map_err(node_error)?;
    let registrations = driver.target.registrations().map_err(node_error)?;
    for synchronizer in driver.destinations() {
        let of = |one: &&Registration| one.synchronizer.as_ref() == Some(&synchronizer);
        // Silence about one of them would leave its contracts there.
        let registration = registrations.iter().find(of).ok_or_else(|| DriverError::Missing {
            what: format!("alias of {synchronizer} at {}", driver.target.name()),
        })?;
        let found = gather(driver, work, &parties, ledger_end, |one| *one == synchronizer)?;
        let mut batch: Vec<ContractId> = Vec::new();
        let purge = |batch: &mut Vec<ContractId>| {
            driver.target.purge(&registration.alias, batch.drain(..)).map_err(node_error)
        };
        compare(work, found, |record| {
            batch.push(record.contract()?);
            if batch.len() >= BATCH {
                purge(&mut batch)?;
            }
            Ok(())
        })?;
        purge(&mut batch)?;
    }
    Ok(())
}
