//! Model checks: every order of events that the plans of a small fleet allow, and what may never
//! happen in any of them.
//!
//! The plans are the planner's own. What is modelled is small: a log in which results and an abort
//! stand, agents that carry steps out and report them later or never, and the world that steps
//! change. Agents may act on an old view of the log, die anywhere, and repeat what they did.

#[path = "../common/mod.rs"]
mod common;

mod flag_day;
mod handover;
mod record;
