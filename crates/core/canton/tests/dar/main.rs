//! Files of packages: real ones, written ones, and the hashes of values over their types.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod built;
mod goldens;
mod real;
mod splice;

/// The bytes of a shared vector; says so if there are none.
fn vector(relative: &str) -> Option<Vec<u8>> {
    let Some(path) = heirloom_testkit::vectors::find(&format!("canton/{relative}")) else {
        eprintln!("skipped: the vector canton/{relative} is not on this machine");
        return None;
    };
    #[expect(clippy::disallowed_methods, reason = "tests read vectors from files")]
    Some(std::fs::read(path).unwrap())
}
