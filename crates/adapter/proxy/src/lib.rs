//! Fences: stops new client connections at a reverse proxy, and lets them in again.
