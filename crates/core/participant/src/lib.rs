//! What moves a ledger participant to new keys: party maps, rewriting, custodians, preflight.

pub mod custodian;
