//! The deterministic world: the whole fleet in one thread, seeded, crashed at every operation.
