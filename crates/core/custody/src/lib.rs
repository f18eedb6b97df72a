//! Knows which proven copies of which keyring exist, and defines the two invariants: no loss, no leak.
