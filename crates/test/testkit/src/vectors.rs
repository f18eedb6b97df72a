//! Test vectors that are kept beside the repository, because they are not ours to publish.

use std::path::{Path, PathBuf};

/// The path of a shared vector, or none if this machine does not have it.
///
/// A test that finds none prints that it was skipped and returns.
pub fn find(relative: &str) -> Option<PathBuf> {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .map(|folder| folder.join("../shared/vectors").join(relative))
        .find(|path| path.exists())
}
