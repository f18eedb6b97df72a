//! The reference participant.

fn main() {}
