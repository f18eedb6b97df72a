//! Nothing: this crate is its tests, which compare our verifiers with other people's.
