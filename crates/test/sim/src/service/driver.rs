//! The driver of a service, over the world: what a node is told to be is durable before anything
//! is done about it, and a crash may strike before and after each of the two.

use std::time::Duration;

use heirloom_model::digest::PlanDigest;
use heirloom_model::domain::PlanStep;
use heirloom_model::identifier::{NodeId, TestName};
use heirloom_model::measurement::Measurement;
use heirloom_model::release::Release;
use heirloom_model::service::{Admission, Terms, Tip, Writing};
use heirloom_upgrade::port::{DriverError, EdgeAdmission, ServiceDriver};

use super::{Database, Desired, Flaw, Job, SimService, Work, edge_for};
use crate::node::SimDriver;
use crate::world::{Crashed, World};

/// Chances in a thousand that a copy needs another call.
const COPIES: u32 = 200;

impl ServiceDriver for SimDriver {
    fn equip(
        &mut self,
        _release: &Release,
        code: &Measurement,
        step: PlanStep,
    ) -> Result<Vec<u8>, DriverError> {
        self.change("equip", |world| {
            world.service_mut(&self.node)?.kept.staged.insert(*code);
            world.stated_in_trial(&self.node, code, step)
        })
    }

    fn state(&mut self, code: &Measurement, step: PlanStep) -> Result<Vec<u8>, DriverError> {
        self.change("state", |world| world.stated(&self.node, code, step))
    }

    fn fence(&mut self) -> Result<(), DriverError> {
        self.change("fence", |world| {
            let closed = |desired: &mut Desired| {
                (desired.admission, desired.distributes) = (Admission::Closed, false);
            };
            world.tell(&self.node, closed)?;
            world.shut(&self.node)?;
            let service = world.service_mut(&self.node)?;
            match &service.instance {
                Some(instance) if !instance.pending.is_empty() => {
                    Err(DriverError::Unknown("payments are under way".to_owned()))
                }
                Some(_) | None => Ok(()),
            }
        })
    }

    fn freeze(&mut self, code: &Measurement, quiet: Duration) -> Result<(), DriverError> {
        self.change("freeze", |world| {
            let desired = world.service_mut(&self.node)?.kept.desired;
            expect_code(desired.wanted, *code)?;
            expect_closed(&desired)?;
            world.tell(&self.node, |desired| desired.writing = Writing::Frozen)?;
            world.ensure_running(&self.node, code, None)?;
            let now = world.now;
            let instance = running(world.service_mut(&self.node)?)?;
            if instance.writing == Writing::Frozen {
                return Ok(());
            }
            let still = u128::from(now.0.saturating_sub(instance.quiet_since.0));
            if !instance.pending.is_empty() || still < quiet.as_millis() {
                return Err(DriverError::Unknown("it is not quiet yet".to_owned()));
            }
            instance.writing = Writing::Frozen;
            Ok(())
        })
    }

    fn halt(&mut self, code: &Measurement) -> Result<(), DriverError> {
        self.change("halt", |world| {
            let desired = world.service_mut(&self.node)?.kept.desired;
            match desired.wanted {
                Some(other) if other != *code => return world.end_service(&self.node, Some(other)),
                Some(_) => expect_closed(&desired)?,
                None => {}
            }
            world.tell(&self.node, |desired| {
                *desired = Desired {
                    wanted: None,
                    expected: None,
                    admission: Admission::Closed,
                    writing: Writing::Active,
                    distributes: false,
                };
            })?;
            world.service_mut(&self.node)?.distributes = false;
            world.end_service(&self.node, None)
        })
    }

    fn snapshot(&mut self, plan: &PlanDigest, tip: &Tip) -> Result<(), DriverError> {
        self.change("snapshot", |world| {
            world.has_space("a snapshot")?;
            if world.chance(COPIES) {
                return Err(DriverError::Unknown("a snapshot is being made".to_owned()));
            }
            let kept = &mut expect_halted(world.service_mut(&self.node)?)?.kept;
            if let Some(known) = kept.snapshots.get(plan) {
                return expect_tip(known.tip(), tip);
            }
            let chain = kept.database().chain.clone();
            expect_tip(chain.tip(), tip)?;
            kept.snapshots.insert(*plan, chain);
            Ok(())
        })
    }

    fn migrate(&mut self, plan: &PlanDigest, tip: &Tip, terms: &Terms) -> Result<(), DriverError> {
        self.change("migrate", |world| {
            world.has_space("a migration")?;
            let slow = world.chance(COPIES);
            let service = expect_halted(world.service_mut(&self.node)?)?;
            if service.kept.live == Some(*plan) {
                return Ok(());
            }
            if service.flaw == Some(Flaw::BadData) {
                let (what, reason) = ("the database".to_owned(), "record 17".to_owned());
                return Err(DriverError::Corrupt { what, reason });
            }
            let chain = service.kept.database().chain.clone();
            expect_tip(chain.tip(), tip)?;
            if slow {
                let job = Job { plan: *plan, schema: terms.schema_to };
                service.job = service.job.or(Some(job));
                return Err(DriverError::Unknown("a migration is under way".to_owned()));
            }
            service.job = None;
            let copy = Database { schema: terms.schema_to, chain };
            world.durably(&self.node, "the copy", |service| {
                service.kept.copies.insert(*plan, copy);
            })?;
            world.durably(&self.node, "the swap", |service| service.kept.live = Some(*plan))
        })
    }

    fn revert(&mut self, plan: &PlanDigest, tip: &Tip) -> Result<(), DriverError> {
        self.change("revert", |world| {
            let service = expect_halted(world.service_mut(&self.node)?)?;
            // What would swap the databases afterwards ends first.
            service.job = None;
            if service.kept.live != Some(*plan) {
                return Ok(());
            }
            expect_tip(service.kept.original.chain.tip(), tip)?;
            world.durably(&self.node, "the swap back", |service| service.kept.live = None)
        })
    }

    fn deploy(&mut self, expect: &Measurement, install: &Measurement) -> Result<(), DriverError> {
        self.change("deploy", |world| {
            let kept = &mut world.service_mut(&self.node)?.kept;
            if kept.installed == *install {
                return Ok(());
            }
            expect_code(Some(kept.installed), *expect)?;
            let kept = &mut expect_halted(world.service_mut(&self.node)?)?.kept;
            if !kept.staged.contains(install) {
                return Err(DriverError::Missing { what: "the service's bundle".to_owned() });
            }
            kept.installed = *install;
            Ok(())
        })
    }

    fn launch(&mut self, code: &Measurement, expected: Option<&Tip>) -> Result<(), DriverError> {
        self.change("launch", |world| {
            let kept = &world.service_mut(&self.node)?.kept;
            expect_code(Some(kept.installed), *code)?;
            if kept.desired.wanted.is_some() {
                expect_code(kept.desired.wanted, *code)?;
                expect_closed(&kept.desired)?;
            }
            world.tell(&self.node, |desired| {
                *desired = Desired {
                    wanted: Some(*code),
                    expected: expected.copied(),
                    admission: Admission::SideDoor,
                    writing: Writing::Active,
                    distributes: false,
                };
            })?;
            world.end_service(&self.node, Some(*code))?;
            world.ensure_running(&self.node, code, expected)?;
            if let Some(expected) = expected
                && is_behind(&running(world.service_mut(&self.node)?)?.loaded, expected)?
            {
                world.end_service(&self.node, None)?;
                world.ensure_running(&self.node, code, Some(expected))?;
            }
            // From now on its ledger may grow.
            world.tell(&self.node, |desired| desired.expected = None)?;
            world.admit(&self.node)
        })
    }

    fn exercise(&mut self, step: PlanStep, _tests: &[TestName]) -> Result<(), DriverError> {
        self.change("exercise", |world| {
            let service = world.service_mut(&self.node)?;
            if service.kept.exercised.contains(&step) {
                return Ok(());
            }
            if running(service)?.admission == Admission::Closed {
                return Err(DriverError::Unknown("the side door is closed".to_owned()));
            }
            let number = world.market.number();
            if world.agree(&self.node, Work::Test(number)).is_none() {
                return Err(DriverError::Unknown("no majority".to_owned()));
            }
            world.durably(&self.node, "the mark of a test", |service| {
                service.kept.exercised.insert(step);
            })
        })
    }

    fn open(&mut self) -> Result<(), DriverError> {
        self.change("open", |world| {
            let kept = &world.service_mut(&self.node)?.kept;
            expect_code(kept.desired.wanted, kept.installed)?;
            world.tell(&self.node, |desired| {
                (desired.admission, desired.writing) = (Admission::Open, Writing::Active);
                desired.distributes = true;
            })?;
            world.converge(&self.node)
        })
    }

    fn keep(&mut self) -> Result<(), DriverError> {
        self.change("keep", |world| world.converge(&self.node))
    }
}

impl World {
    /// One durable write in the middle of a call.
    fn durably(
        &mut self,
        node: &NodeId,
        what: &'static str,
        write: impl FnOnce(&mut SimService),
    ) -> Result<(), DriverError> {
        let written = self.operate(node, what, |world| world.service_mut(node).map(write));
        written.map_err(|Crashed| DriverError::Stopping)?
    }

    /// Tells a node to be something else.
    fn tell(
        &mut self,
        node: &NodeId,
        change: impl FnOnce(&mut Desired),
    ) -> Result<(), DriverError> {
        self.durably(node, "what the service is told", |service| change(&mut service.kept.desired))
    }

    /// A copy needs space.
    fn has_space(&mut self, what: &str) -> Result<(), DriverError> {
        let full = self.faults.full / 4;
        if self.chance(full) { Err(DriverError::Full(what.to_owned())) } else { Ok(()) }
    }

    /// Makes a node as it was last told to be.
    fn converge(&mut self, node: &NodeId) -> Result<(), DriverError> {
        let desired = self.service_mut(node)?.kept.desired;
        // Whoever must not be let in is kept out before anything else.
        if desired.admission != Admission::Open {
            self.shut(node)?;
        }
        let Some(code) = desired.wanted else { return self.end_service(node, None) };
        self.end_service(node, Some(code))?;
        let exists = self.service_mut(node)?.instance.is_some();
        if !exists && desired.writing == Writing::Frozen {
            // Its promise stands; the plan says how it goes on.
            return Ok(());
        }
        self.ensure_running(node, &code, desired.expected.as_ref())?;
        self.admit(node)
    }

    /// Keeps out whoever must not be let in.
    fn shut(&mut self, node: &NodeId) -> Result<(), DriverError> {
        let silent = self.faults.peer;
        let silent = self.chance(silent);
        let service = self.service_mut(node)?;
        let admission = service.kept.desired.admission;
        if !service.kept.desired.distributes {
            service.distributes = false;
        }
        if let Some(instance) = service.instance.as_mut()
            && instance.admission > admission
        {
            instance.admission = admission;
            instance.open_since = None;
        }
        if service.edge == EdgeAdmission::Open {
            if silent {
                return Err(DriverError::Unknown("the proxy does not answer".to_owned()));
            }
            service.edge = EdgeAdmission::Closed;
        }
        Ok(())
    }

    /// Lets in whoever should be let in.
    fn admit(&mut self, node: &NodeId) -> Result<(), DriverError> {
        let now = self.now;
        let service = self.service_mut(node)?;
        let desired = service.kept.desired;
        let instance = running(service)?;
        if desired.writing == Writing::Active {
            instance.writing = Writing::Active;
        }
        instance.admission = desired.admission;
        instance.open_since = match desired.admission {
            Admission::Open => instance.open_since.or(Some(now)),
            Admission::Closed | Admission::SideDoor => None,
        };
        if edge_for(desired.admission) == EdgeAdmission::Open
            && service.edge == EdgeAdmission::Closed
        {
            self.open_edge(node)?;
        }
        let service = self.service_mut(node)?;
        service.distributes |= desired.distributes;
        Ok(())
    }

    fn open_edge(&mut self, node: &NodeId) -> Result<(), DriverError> {
        let silent = self.faults.peer;
        if self.chance(silent) {
            return Err(DriverError::Unknown("the proxy does not answer".to_owned()));
        }
        self.watch_edge(node);
        self.service_mut(node)?.edge = EdgeAdmission::Open;
        Ok(())
    }

    /// Ends the process, or every one of other code.
    fn end_service(
        &mut self,
        node: &NodeId,
        except: Option<Measurement>,
    ) -> Result<(), DriverError> {
        let service = self.service_mut(node)?;
        if service.instance.as_ref().is_some_and(|it| Some(it.code) != except) {
            service.instance = None;
        }
        Ok(())
    }

    fn ensure_running(
        &mut self,
        node: &NodeId,
        code: &Measurement,
        expected: Option<&Tip>,
    ) -> Result<(), DriverError> {
        if self.service_mut(node)?.instance.is_none() {
            self.start_service(node, code, expected)?;
            let slow = self.faults.peer;
            if self.chance(slow) {
                return Err(DriverError::Unknown("the service starts".to_owned()));
            }
        }
        Ok(())
    }
}

fn running(service: &mut SimService) -> Result<&mut super::Instance, DriverError> {
    service.instance.as_mut().ok_or_else(|| DriverError::Unknown("nothing runs".to_owned()))
}

fn unexpected(expected: &impl ToString, found: &impl ToString) -> DriverError {
    DriverError::Unexpected { expected: expected.to_string(), found: found.to_string() }
}

fn expect_code(found: Option<Measurement>, code: Measurement) -> Result<(), DriverError> {
    match found {
        Some(found) if found == code => Ok(()),
        Some(found) => Err(unexpected(&code, &found)),
        None => Err(unexpected(&code, &"nothing")),
    }
}

/// Clients' work must not be cut off.
fn expect_closed(desired: &Desired) -> Result<(), DriverError> {
    match desired.admission {
        Admission::Open => Err(unexpected(&"a fenced service", &"one that lets clients in")),
        Admission::Closed | Admission::SideDoor => Ok(()),
    }
}

fn expect_halted(service: &mut SimService) -> Result<&mut SimService, DriverError> {
    match (&service.instance, service.kept.desired.wanted) {
        (None, None) => Ok(service),
        (Some(_), _) | (None, Some(_)) => Err(unexpected(&"a halted service", &"another")),
    }
}

fn expect_tip(found: Tip, expected: &Tip) -> Result<(), DriverError> {
    if found == *expected { Ok(()) } else { Err(unexpected(expected, &found)) }
}

/// Whether an instance loaded less than this.
fn is_behind(loaded: &Tip, expected: &Tip) -> Result<bool, DriverError> {
    if loaded.height == expected.height && loaded.id != expected.id {
        return Err(unexpected(expected, loaded));
    }
    Ok(loaded.height < expected.height)
}
