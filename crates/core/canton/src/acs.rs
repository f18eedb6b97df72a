//! Snapshots of active contracts.
