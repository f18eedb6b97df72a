//! How long an appraisal takes.

fn main() {}
