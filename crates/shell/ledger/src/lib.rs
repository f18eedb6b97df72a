//! A node of the reference ledger, and the tools of its operator.

pub mod command;
