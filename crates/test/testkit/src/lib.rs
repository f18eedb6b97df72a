//! Builders and roots of trust for tests.
