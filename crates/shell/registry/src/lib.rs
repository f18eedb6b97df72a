//! Serves the registry log over HTTP, and calls it from agents and tools.
