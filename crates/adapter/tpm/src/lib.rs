//! A TPM 2.0 client of our own: what a measured machine needs of its TPM, and nothing else.
//!
//! It reads and extends registers (PCRs), quotes them with a restricted key, proves to a
//! certification authority that this key lives beside an endorsement key, counts in a way that
//! cannot be undone, and uses a key of its own making under a policy over registers, a counter and
//! the word of an authority. Secrets cross the bus encrypted only.
//!
//! It is not a verifier: evidence is appraised by `heirloom-attest`, which shares no code with
//! this crate. It knows one hash (SHA-256), one curve (P-256) and one bank of registers (SHA-256),
//! and nothing is negotiated. It needs no library of the TCG and no resource manager; with
//! a [device](transport::Device) the kernel has one.
//!
//! Read in this order:
//!
//! * [`client`]: [`Tpm`](client::Tpm), and what it does about errors and leftovers.
//! * [`pcr`], [`key`], [`quote`], [`credential`]: who the machine is, and what it booted.
//! * [`policy`], [`authority`]: under which conditions a key is used; pure.
//! * [`mac_key`], [`counter`], [`note`]: a key that nobody ever knew, a number that only grows, and
//!   32 bytes that only one can write.
//! * [`error`], [`code`], [`limit`]: why it fails, and its bounds.
//! * [`transport`], [`capability`]: how bytes reach a TPM, and what it says about itself.
//! * [`public`], [`structure`]: what TPMs say about keys; names and numbers.
//! * [`machine`]: a machine with a TPM, below a launcher.
//! * `session`, `call`: authorisations, encryption of parameters, one command and its response.

pub mod client;

pub mod credential;
pub mod key;
pub mod pcr;
pub mod quote;

pub mod authority;
pub mod policy;

pub mod counter;
pub mod mac_key;
pub mod note;

pub mod capability;
pub mod code;
pub mod error;
pub mod limit;
pub mod transport;

pub mod public;
pub mod structure;

pub mod machine;

mod call;
mod crypto;
mod session;
mod wire;
