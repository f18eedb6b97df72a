//! Contracts of the second major version.
