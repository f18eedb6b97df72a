//! The daemon of the emulated CPU of one host.
