//! Evidence of every kind on the command line: what is real, and what only a manufacturer of the
//! tests' own would sign.
//!
//! Each kind is accepted once, by rules that people wrote, and refused for each change of one rule.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stderr, reason = "a test says what it skipped")]

#[path = "../../../../core/attest/tests/appraise/forge.rs"]
mod forge;
mod made;
mod mistakes;
mod place;
mod real;
mod vectors;
#[path = "../../../../core/attest/tests/appraise/worlds.rs"]
#[expect(dead_code, reason = "the appraiser's tests change more")]
mod worlds;
