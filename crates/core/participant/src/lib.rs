//! What moves a ledger participant to new keys: party maps, rewriting, custodians, preflight.

pub mod contract_map;
pub mod custodian;
pub mod map;
pub mod preflight;
pub mod report;
pub mod rewrite;
pub mod shared;
pub mod ways;
