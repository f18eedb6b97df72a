//! Setup, test, demo, bench, tidy and CI of this workspace.
fn main() {}
