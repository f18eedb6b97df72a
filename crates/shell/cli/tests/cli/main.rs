//! Sessions with the command line, as a person has them: real processes, real files, no network.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stderr, reason = "a test says what it skipped")]

mod bad_input;
mod contracts;
mod evidence;
mod flag_day;
mod handover;
mod journal;
mod participant;
mod participant_log;
mod participant_node;
mod reference;
mod statements;
mod upgrade;
mod world;
