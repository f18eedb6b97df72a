//! Plans an upgrade, checks the plan independently, folds the journal, and decides each agent's
//! next directive.
//!
//! The planner is the only place that knows strategies; the engine obeys plans and asks nothing.
//!
//! Read in this order:
//!
//! * [`inventory`]: what planner and checker know about a domain.
//! * [`planner`]: makes a plan; one module per strategy.
//! * [`checker`]: says what is wrong with a plan, sharing no code with the planner.
//! * [`gate`]: whether a gate holds, and what it waits for.
//! * [`explain`], [`calendar`], [`lint`]: what people read before they sign.
//! * [`journal`]: what an agent has done; written before it is acted upon.
//! * [`port`]: what an agent needs from the outside.
//! * [`engine`]: what one agent does next in a plan; a pure function.
//! * [`duty`]: what one agent owes its fleet outside of plans.
//! * [`countersign`]: the agent's signature under its keeper's statements.
//! * [`attendance`]: how the active holder of an exclusive domain knows that it still is.
//! * [`agent`]: the loop over the ports, for shells and for the simulator.

pub mod calendar;
pub mod checker;
pub mod explain;
pub mod gate;
pub mod inventory;
pub mod journal;
pub mod lint;
pub mod planner;
pub mod port;

pub mod engine;
mod guard;

pub mod duty;

pub mod countersign;

pub mod attendance;

pub mod agent;
