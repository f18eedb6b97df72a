//! Builders and roots of trust for tests.

pub mod vectors;
