//! Fetches the files of a release from mirrors, and vouches for nothing but their digests.
//!
//! A mirror is a web server or a directory, and nobody trusts it: what counts is that each file has
//! the size and digest that the signed release names. A mirror can refuse to deliver and waste some
//! time, both within limits; it cannot get anything else onto the disk under a file's name.
//!
//! This crate does not decide whether a release may be installed, and starts nothing. It tries each
//! mirror once, resuming where a connection was cut; when to try again is for its caller.
//!
//! Read in this order:
//!
//! * [`fetch`]: all files of a release, and the value that says that they are there.
//! * [`mirror`]: where files come from.
//! * `part`: a file that is not complete yet, and what becomes of it.
//! * `source`, `http`, `directory`: one file of one mirror, as a stream.
//! * [`progress`], [`error`]: what callers see.
//! * [`limit`]: how much a mirror may send, and how slowly.

pub mod fetch;

pub mod mirror;

mod directory;
mod http;
mod part;
mod source;

pub mod error;
pub mod limit;
pub mod progress;
