//! A measured process for tests: forwards what it is asked to its platform.

fn main() {}
