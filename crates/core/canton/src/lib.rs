//! Formats of Canton: names, keys, topology, packages, values, contracts, snapshots.
