//! Verifies and rewrites snapshot files of contracts, in constant memory.
