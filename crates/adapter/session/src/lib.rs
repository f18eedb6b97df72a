//! Mutually attested TLS 1.3 sessions over any byte stream.
//!
//! A session begins as mutual TLS between the identity keys of two instances. Then each side sends
//! a nonce, and evidence over the other's nonce, the exporter of this very channel and its own key.
//! Evidence therefore cannot be replayed, reflected, or relayed from another channel. The judgement
//! itself is pure and lives in [`heirloom_keeper::handshake`]; this crate moves the bytes.
//!
//! It is not a server: it neither listens nor starts threads, and it knows no request. TLS keeps
//! decrypted bytes in memory of its own for a moment, which it does not wipe; everything that this
//! crate buffers is wiped.
//!
//! Read in this order:
//!
//! * [`session`]: [`connect`](session::connect), [`accept`](session::accept), and what a
//!   [`Session`](session::Session) can do.
//! * [`context`], [`error`], [`limit`], [`stream`]: what it needs, why it fails, its bounds.
//! * [`channel`]: frames over TLS, before anybody is attested.
//! * [`connections`]: the connections of a listener, counted and ended from outside.
//! * [`tls`]: how TLS is set up, and why nothing in it is negotiated.

pub mod session;

pub mod context;
pub mod error;
pub mod limit;
pub mod stream;

pub mod channel;
pub mod connections;
pub mod tls;

mod buffer;
mod certificate;
