//! Who is connected to what.

use std::collections::BTreeSet;

use heirloom_model::participant::LedgerOffset;
use heirloom_model::party::{ParticipantId, SynchronizerId};
use heirloom_upgrade::port::{DriverError, Link, ParticipantCall, Restart};

use crate::driver::fault::node_error;
use crate::driver::work::{ConnectionBefore, Connections, Work};
use crate::driver::{Driver, survey};
use crate::error::{NodeError, Refusal};
use crate::node::{Node, Registration};

/// Takes the source off every synchronizer; returns where its ledger ends.
pub(crate) fn quiesce(driver: &Driver, work: &Work) -> Result<LedgerOffset, DriverError> {
    if work.connections()?.is_none() {
        let each = driver.source.registrations().map_err(node_error)?;
        let each = each
            .into_iter()
            .map(|one| ConnectionBefore {
                alias: one.alias,
                is_manual: one.is_manual,
                is_connected: one.is_connected,
            })
            .collect();
        // Noted before it is changed: the way back needs it.
        work.note_connections(&Connections { each })?;
    }
    take_off(&driver.source)?;
    let first = driver.source.ledger_end().map_err(node_error)?;
    expect_off(&driver.source)?;
    let second = driver.source.ledger_end().map_err(node_error)?;
    if first != second {
        let what = format!("the source's ledger went on from {first} to {second}");
        return Err(DriverError::Unknown(what));
    }
    Ok(LedgerOffset(second))
}

/// Disconnects a participant from every synchronizer, so that it stays so after a restart.
pub(crate) fn take_off(node: &Node) -> Result<(), DriverError> {
    let mut waits = Vec::new();
    for registration in node.registrations().map_err(node_error)? {
        if registration.is_manual {
            continue;
        }
        match node.set_manual(&registration, true) {
            Ok(()) => {}
            // Some servers change a description only while it is not in use.
            Err(NodeError::Refused { cause: Refusal::State, .. }) => waits.push(registration),
            Err(error) => return Err(node_error(error)),
        }
    }
    // Also one that is connected to nothing: it may still try since it started.
    node.disconnect_all().map_err(node_error)?;
    for registration in &waits {
        node.set_manual(registration, true).map_err(node_error)?;
    }
    // Twice: something that connects it again would do so now.
    expect_off(node)?;
    expect_off(node)
}

fn is_off(node: &Node) -> Result<bool, DriverError> {
    let connected = node.connections().map_err(node_error)?;
    let registered = node.registrations().map_err(node_error)?;
    Ok(connected.is_empty() && registered.iter().all(|one| !one.is_connected))
}

/// A participant that is connected to nothing, now and after a restart.
pub(crate) fn expect_off(node: &Node) -> Result<(), DriverError> {
    if !is_off(node)? {
        return Err(DriverError::Unknown(format!("{} is still connected", node.name())));
    }
    // Each that it knows, also one that it never reached.
    let registered = node.registrations().map_err(node_error)?;
    match registered.iter().find(|one| !one.is_manual) {
        None => Ok(()),
        Some(one) => Err(DriverError::Unknown(format!(
            "{} would connect to {} by itself after a restart",
            node.name(),
            one.alias
        ))),
    }
}

/// Lets the target send something to itself everywhere, so that its clock has passed everything
/// that was changed in topology before it is disconnected.
pub(crate) fn pass_time(driver: &Driver, target: &ParticipantId) -> Result<(), DriverError> {
    let connected = survey::connections(&driver.target)?;
    for synchronizer in driver.destinations() {
        let is_connected =
            connected.get(&synchronizer).is_some_and(|one| one.link == Link::Connected);
        if !is_connected {
            continue;
        }
        match driver.target.ping(&target.admin_party(), &synchronizer) {
            // A server without this call: that topology is effective was read before.
            Ok(()) | Err(NodeError::Refused { cause: Refusal::Unimplemented, .. }) => {}
            Err(error) => return Err(node_error(error)),
        }
    }
    Ok(())
}

/// Connects a participant to synchronizers that it knows.
pub(crate) fn connect(node: &Node, wanted: &[SynchronizerId]) -> Result<(), DriverError> {
    let registrations = node.registrations().map_err(node_error)?;
    for synchronizer in wanted {
        let of: Vec<&Registration> = registrations
            .iter()
            .filter(|one| one.synchronizer.as_ref() == Some(synchronizer))
            .collect();
        if of.iter().any(|one| one.is_connected) {
            continue;
        }
        let one = of.first().ok_or_else(|| DriverError::Missing {
            what: format!("synchronizer {synchronizer} at {}", node.name()),
        })?;
        node.reconnect(&one.alias).map_err(node_error)?;
    }
    let connected = node.connections().map_err(node_error)?;
    let healthy: BTreeSet<_> =
        connected.iter().filter(|one| one.is_healthy).map(|one| &one.synchronizer).collect();
    match wanted.iter().find(|one| !healthy.contains(one)) {
        None => Ok(()),
        Some(synchronizer) => Err(DriverError::Unknown(format!(
            "{} is not yet connected to {synchronizer}, or not healthily",
            node.name()
        ))),
    }
}

/// The target connects by itself from now on. The source stays as it is, off.
pub(crate) fn settle(driver: &Driver, task: ParticipantCall<'_>) -> Result<(), DriverError> {
    let wanted = driver.destinations();
    for registration in driver.target.registrations().map_err(node_error)? {
        let is_wanted = registration.synchronizer.as_ref().is_some_and(|one| wanted.contains(one));
        if is_wanted && registration.is_manual {
            driver.target.set_manual(&registration, false).map_err(node_error)?;
        }
    }
    // A target that started again since it was connected waits to be told to.
    connect(&driver.target, &wanted)?;
    let found = survey::connections(&driver.target)?;
    for synchronizer in &wanted {
        if found.get(synchronizer).is_none_or(|one| one.restart != Restart::Automatic) {
            let what = format!("the target does not connect to {synchronizer} by itself yet");
            return Err(DriverError::Unknown(what));
        }
    }
    // A source that is switched off is off.
    match driver.source.id() {
        Ok(Some(found)) if found == task.moved.source => expect_off(&driver.source),
        Ok(_) | Err(NodeError::Unreachable { .. }) => Ok(()),
        Err(error) => Err(node_error(error)),
    }
}

/// Connects the source as it was connected before the plan. It may just have started when that
/// was noted: where it connects by itself, and where the plan's contracts are, it is connected.
pub(crate) fn reconnect(
    driver: &Driver,
    task: ParticipantCall<'_>,
    work: &Work,
) -> Result<(), DriverError> {
    let Some(before) = work.connections()? else {
        // What is not noted was not changed.
        return Ok(());
    };
    let node = &driver.source;
    let is_wanted = |noted: &ConnectionBefore, found: &Registration| {
        let routes = &task.moved.routes;
        let is_left = routes.iter().any(|route| found.synchronizer.as_ref() == Some(&route.from));
        noted.is_connected || !noted.is_manual || is_left
    };
    for registration in node.registrations().map_err(node_error)? {
        let Some(noted) = before.each.iter().find(|one| one.alias == registration.alias) else {
            continue;
        };
        if registration.is_manual != noted.is_manual {
            node.set_manual(&registration, noted.is_manual).map_err(node_error)?;
        }
        if is_wanted(noted, &registration) && !registration.is_connected {
            node.reconnect(&registration.alias).map_err(node_error)?;
        }
    }
    let now = node.registrations().map_err(node_error)?;
    for noted in &before.each {
        let found = now.iter().find(|one| one.alias == noted.alias);
        let is_back = found.is_some_and(|one| {
            one.is_manual == noted.is_manual && (one.is_connected || !is_wanted(noted, one))
        });
        if !is_back {
            let what = format!("{} is not yet connected to {} again", node.name(), noted.alias);
            return Err(DriverError::Unknown(what));
        }
    }
    Ok(())
}
