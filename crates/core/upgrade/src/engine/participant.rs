//! When a step of a participant is done.

use heirloom_model::plan::{ParticipantAction, Plan, Step};
use heirloom_registry::plan::PlanState;

use super::{Situation, plan_of};
use crate::port::{Observation, ParticipantObservation, Restart, ServerObservation};

/// Whether the action of a participant has taken effect, as far as log and observation show.
///
/// What a node itself states is done when the log has it. Everything else is read off source and
/// target: that a party moved says nothing about its contracts.
pub(super) fn is_done(
    situation: &Situation<'_>,
    plan: &Plan,
    step: &Step,
    action: ParticipantAction,
    observed: &Observation,
) -> bool {
    let Some(current) = plan_of(situation).filter(|current| current.plan() == plan) else {
        return false;
    };
    let stated = || current.participant_standing(step.id).is_some();
    match action {
        ParticipantAction::Survey => looked(situation, current, step),
        ParticipantAction::Enroll
        | ParticipantAction::Allocate
        | ParticipantAction::Export
        | ParticipantAction::Rewrite
        | ParticipantAction::Reconcile => stated(),
        ParticipantAction::Quiesce => {
            let source = observed.participant.as_ref().and_then(|seen| seen.source.as_ref());
            stated() && source.is_some_and(ServerObservation::is_off)
        }
        ParticipantAction::Supply
        | ParticipantAction::Safeguard
        | ParticipantAction::Import
        | ParticipantAction::Connect
        | ParticipantAction::Settle
        | ParticipantAction::Disconnect
        | ParticipantAction::Purge
        | ParticipantAction::Reconnect => {
            observed.participant.as_ref().is_some_and(|seen| shows(current, step, action, seen))
        }
    }
}

/// Whether the node looked once more, and found what the plan says.
fn looked(situation: &Situation<'_>, current: &PlanState, step: &Step) -> bool {
    let moved = current.plan().participant.as_ref().and_then(|change| change.move_of(&step.node));
    let seen = situation.state.survey(&step.node);
    moved.zip(seen).is_some_and(|(moved, seen)| {
        seen.at() > current.proposed_at() && moved.difference(&seen.survey().found).is_none()
    })
}

/// What source and target show.
fn shows(
    current: &PlanState,
    step: &Step,
    action: ParticipantAction,
    seen: &ParticipantObservation,
) -> bool {
    // An import that goes on after the plan was called off would undo the way back.
    if seen.under_way.is_some() {
        return false;
    }
    let Some(change) = &current.plan().participant else { return false };
    let Some(moved) = change.move_of(&step.node) else { return false };
    let (source, target) = (seen.source.as_ref(), seen.target.as_ref());
    let connected = |server: Option<&ServerObservation>, restart: Restart| {
        server.is_some_and(|server| {
            moved.routes.iter().all(|route| {
                let known = server.synchronizers.get(&route.to);
                server.is_connected(&route.to)
                    && known.is_some_and(|known| known.restart == restart)
            })
        })
    };
    match action {
        ParticipantAction::Supply => seen.work.lacking == Some(0),
        ParticipantAction::Safeguard => seen.work.safeguarded,
        ParticipantAction::Import => {
            let expected = current.rewritten(&step.node);
            let whole = expected.zip(seen.work.imported).is_some_and(|(expected, imported)| {
                (imported.contracts, imported.ids) == (expected.contracts, expected.ids)
            });
            whole && target.is_some_and(ServerObservation::is_off)
        }
        ParticipantAction::Connect => target
            .is_some_and(|server| moved.routes.iter().all(|route| server.is_connected(&route.to))),
        ParticipantAction::Settle => {
            // A source that is switched off does not come back by itself: this was seen when it
            // became quiet, and it is durable.
            connected(target, Restart::Automatic) && source.is_none_or(ServerObservation::is_off)
        }
        ParticipantAction::Disconnect => target.is_some_and(ServerObservation::is_off),
        ParticipantAction::Purge => {
            seen.work.imported.is_some_and(|imported| imported.contracts == 0)
        }
        ParticipantAction::Reconnect => source.is_some_and(|server| {
            moved.routes.iter().all(|route| server.is_connected(&route.from))
        }),
        // The others are stated in the log.
        _ => false,
    }
}

/// Whether people notice that a step of a participant runs: until then operators can help where
/// something fails, and nothing has to be put back.
pub(super) fn is_noticed(action: ParticipantAction) -> bool {
    match action {
        ParticipantAction::Survey
        | ParticipantAction::Enroll
        | ParticipantAction::Allocate
        | ParticipantAction::Supply => false,
        ParticipantAction::Quiesce
        | ParticipantAction::Export
        | ParticipantAction::Rewrite
        | ParticipantAction::Safeguard
        | ParticipantAction::Import
        | ParticipantAction::Connect
        | ParticipantAction::Reconcile
        | ParticipantAction::Settle
        | ParticipantAction::Disconnect
        | ParticipantAction::Purge
        | ParticipantAction::Reconnect => true,
    }
}
