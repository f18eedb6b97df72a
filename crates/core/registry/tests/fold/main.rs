//! The rules, each with the smallest change that breaks it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod activity;
mod appraisal;
mod attested;
mod clock;
mod custody;
mod exclusive;
mod flag_day;
mod fleet;
mod handover;
mod history;
mod kinds;
mod plan;
mod policy;
mod release;
mod root;
mod service;
mod service_plan;
mod standing;
mod way_back;
mod world;
