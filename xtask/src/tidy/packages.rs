//! What every package of the workspace has.

use crate::tidy::Finding;
use crate::tidy::tree::{Layer, Lints, Tree};

/// A package says in one sentence what it is.
pub(crate) fn description(tree: &Tree) -> Vec<Finding> {
    tree.packages
        .iter()
        .filter(|(_, package)| {
            !package.description.as_ref().is_some_and(|text| text.ends_with('.'))
        })
        .map(|(name, _)| Finding::new("description", name, "has no description, or no sentence"))
        .collect()
}

/// A package obeys the lints of the workspace, or is listed with the reason why it cannot. Cargo
/// does not merge lint tables: a table of its own is a copy, which may differ in `unsafe_code`.
pub(crate) fn lints(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, package) in &tree.packages {
        let Lints::Own(table) = &package.lints else { continue };
        let is_listed = tree.settings.own_lints.iter().any(|listed| listed.package == *name);
        if !is_listed {
            let message = "has no `[lints] workspace = true` and is not in tidy.toml";
            findings.push(Finding::new("lints", name, message));
        } else if without_unsafe_code(table) != without_unsafe_code(&tree.lints) {
            let message = "has lints that differ from the workspace's in more than `unsafe_code`";
            findings.push(Finding::new("lints", name, message));
        }
    }
    findings
}

fn without_unsafe_code(lints: &toml::Table) -> toml::Table {
    let mut lints = lints.clone();
    if let Some(rust) = lints.get_mut("rust").and_then(toml::Value::as_table_mut) {
        rust.remove("unsafe_code");
    }
    lints
}

/// Core crates ban the same methods and types: cargo does not merge `clippy.toml`, so they are
/// copies, and copies drift.
pub(crate) fn core_clippy(tree: &Tree) -> Vec<Finding> {
    let mut copies = tree
        .layer(Layer::Core)
        .map(|(_, package)| format!("{}/clippy.toml", package.folder))
        .map(|path| (tree.file(&path), path));
    let Some((first, _)) = copies.next() else { return Vec::new() };
    copies
        .filter(|(text, _)| *text != first || text.is_empty())
        .map(|(_, path)| Finding::new("core clippy", path, "differs from the other core crates"))
        .collect()
}

/// The code map of ARCHITECTURE.md names every package by its folder.
pub(crate) fn in_the_map(tree: &Tree) -> Vec<Finding> {
    let map = tree.file("ARCHITECTURE.md");
    tree.packages
        .iter()
        .filter(|(_, package)| !map.contains(&format!("`{}`", package.folder)))
        .map(|(name, package)| {
            let message = format!("does not name `{}` ({name})", package.folder);
            Finding::new("code map", "ARCHITECTURE.md", message)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::tests::{package, sample};

    #[test]
    fn a_package_without_a_sentence_is_found() {
        let mut tree = sample();
        tree.packages.get_mut("heirloom-model").unwrap().description = None;
        assert_eq!(description(&tree).len(), 1);
        tree.packages.get_mut("heirloom-model").unwrap().description = Some("words".to_owned());
        assert_eq!(description(&tree).len(), 1);
    }

    #[test]
    fn a_package_with_lints_of_its_own_needs_a_reason() {
        let mut tree = sample();
        let own = Lints::Own(tree.lints.clone());
        tree.packages.get_mut("heirloom-session").unwrap().lints = own;
        assert_eq!(lints(&tree).len(), 1);
        let listed = "package = 'heirloom-session'\nreason = 'a test'";
        tree.settings.own_lints.push(toml::from_str(listed).unwrap());
        assert_eq!(lints(&tree), []);
    }

    #[test]
    fn lints_of_its_own_are_a_copy() {
        let mut tree = sample();
        let listed = "package = 'heirloom-emulated'\nreason = 'a test'";
        tree.settings.own_lints.push(toml::from_str(listed).unwrap());
        let mut table = tree.lints.clone();
        table["rust"].as_table_mut().unwrap().insert("unsafe_code".to_owned(), "deny".into());
        tree.packages.get_mut("heirloom-emulated").unwrap().lints = Lints::Own(table.clone());
        assert_eq!(lints(&tree), []);
        table["rust"].as_table_mut().unwrap().insert("missing_docs".to_owned(), "allow".into());
        tree.packages.get_mut("heirloom-emulated").unwrap().lints = Lints::Own(table);
        assert_eq!(lints(&tree).len(), 1);
    }

    #[test]
    fn a_copy_that_drifted_is_found() {
        let mut tree = sample();
        tree.files.insert("crates/core/registry/clippy.toml".to_owned(), "lax".to_owned());
        assert_eq!(core_clippy(&tree).len(), 1);
        tree.files.remove("crates/core/registry/clippy.toml");
        assert_eq!(core_clippy(&tree).len(), 1);
    }

    #[test]
    fn a_package_that_the_map_does_not_name_is_found() {
        let mut tree = sample();
        tree.packages.insert("heirloom-new".to_owned(), package("crates/core/new", &[]));
        assert_eq!(in_the_map(&tree).len(), 1);
    }
}
