//! Files that a person can read in one go.

use crate::tidy::Finding;
use crate::tidy::tree::Tree;

/// No Rust file is longer than the limit. Clippy does the same for functions.
pub(crate) fn files(tree: &Tree) -> Vec<Finding> {
    let limit = tree.settings.file_lines_max;
    tree.rust_files()
        .filter(|(_, text)| text.lines().count() > limit)
        .map(|(path, text)| {
            let message =
                format!("has {} lines, more than {limit}: split it", text.lines().count());
            Finding::new("file size", path, message)
        })
        .collect()
}

/// The document that everybody reads first stays short.
pub(crate) fn architecture(tree: &Tree) -> Vec<Finding> {
    let limit = tree.settings.architecture_lines_max;
    let lines = tree.file("ARCHITECTURE.md").lines().count();
    if (1..limit).contains(&lines) {
        return Vec::new();
    }
    let message = format!("has {lines} lines; it must have some and fewer than {limit}");
    vec![Finding::new("architecture size", "ARCHITECTURE.md", message)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::tests::sample;

    #[test]
    fn a_file_with_one_line_too_many_is_found() {
        let mut tree = sample();
        tree.files.insert("a.rs".to_owned(), "\n".repeat(800));
        tree.files.insert("a.json".to_owned(), "\n".repeat(801));
        assert_eq!(files(&tree), []);
        tree.files.insert("a.rs".to_owned(), "\n".repeat(801));
        assert_eq!(files(&tree).len(), 1);
    }

    #[test]
    fn a_long_or_absent_architecture_document_is_found() {
        let mut tree = sample();
        tree.files.insert("ARCHITECTURE.md".to_owned(), "line\n".repeat(400));
        assert_eq!(architecture(&tree).len(), 1);
        tree.files.remove("ARCHITECTURE.md");
        assert_eq!(architecture(&tree).len(), 1);
    }
}
