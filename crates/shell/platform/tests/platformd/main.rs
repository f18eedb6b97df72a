//! The binary, from founding a manufacturer to a measured process.

#[cfg(test)]
mod commands;
#[cfg(test)]
mod tpm;
