//! Durable files: the registry log, an agent's journal, sealed state, atomic replacement.
