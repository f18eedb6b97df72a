//! The agent of one host: untrusted for secrets, executes its own steps of an approved plan.
