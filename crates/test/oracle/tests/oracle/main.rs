//! Our verifiers and other people's, over the same bytes.
//!
//! A verdict may differ only where a test names the exception, and only in one direction: nobody
//! refuses what we accept.
//!
//! What is inside quotes of TPMs is compared here; their signatures have a judge in
//! `crates/adapter/tpm`, which asks tpm2-tools.

#![expect(clippy::print_stderr, reason = "a skipped vector says so")]

mod mutate;
mod nitro;
mod snp;
mod tpm;

use std::path::Path;

/// The bytes of a vector that is kept beside the repository; says so if there are none.
fn vector(relative: &str) -> Option<Vec<u8>> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("../shared/vectors").join(relative))
        .find(|path| path.exists());
    if found.is_none() {
        eprintln!("skipped: the vector {relative} is not on this machine");
    }
    found.map(|path| std::fs::read(path).expect("a vector that exists can be read"))
}

/// What somebody else's verifier says; one that panics accepts nothing.
fn theirs<T>(verify: impl FnOnce() -> Option<T>) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(verify)).ok().flatten()
}
