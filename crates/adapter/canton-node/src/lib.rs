//! Calls Canton participants over gRPC, and moves one.
