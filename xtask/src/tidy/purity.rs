//! Core crates decide and do nothing else.

use std::collections::BTreeSet;

use crate::tidy::Finding;
use crate::tidy::tree::{Layer, Package, Tree};

/// No base or core crate links a runtime, a network library, a logger or a random generator, and
/// none names a clock, a system call or an entropy source among its own dependencies.
pub(crate) fn core_trees(tree: &Tree) -> Vec<Finding> {
    let pure = tree.packages.iter().filter(|(_, package)| package.layer <= Layer::Core);
    let nothing = BTreeSet::new();
    pure.flat_map(|(name, package)| {
        let linked = tree.linked.get(name).unwrap_or(&nothing);
        [in_tree(tree, name, linked), directly(tree, name, package)].concat()
    })
    .collect()
}

fn in_tree(tree: &Tree, package: &str, linked: &BTreeSet<String>) -> Vec<Finding> {
    let banned = &tree.settings.core.banned_in_tree;
    linked
        .iter()
        .filter(|entry| banned.iter().any(|name| is_package(entry, name)))
        .map(|entry| Finding::new("purity", package, format!("links {entry}")))
        .collect()
}

fn directly(tree: &Tree, name: &str, package: &Package) -> Vec<Finding> {
    let banned =
        tree.settings.core.banned_in_tree.iter().chain(&tree.settings.core.banned_directly);
    let banned: BTreeSet<&String> = banned.collect();
    package
        .dependencies
        .iter()
        .filter(|dependency| !dependency.is_dev && banned.contains(&dependency.name))
        .map(|dependency| {
            Finding::new("purity", name, format!("depends on {} directly", dependency.name))
        })
        .collect()
}

/// Whether a `name version` entry is of this name.
fn is_package(entry: &str, name: &str) -> bool {
    entry.split(' ').next() == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::Dependency;
    use crate::tidy::tree::tests::sample;

    #[test]
    fn a_runtime_deep_in_the_tree_of_a_core_crate_is_found() {
        let mut tree = sample();
        tree.linked.get_mut("heirloom-attest").unwrap().insert("tokio 1".to_owned());
        assert_eq!(core_trees(&tree).len(), 1);
    }

    #[test]
    fn the_keeper_may_link_what_a_core_crate_may_not() {
        let mut tree = sample();
        tree.linked.get_mut("heirloom-keeper-shell").unwrap().insert("tokio 1".to_owned());
        assert_eq!(core_trees(&tree), []);
    }

    #[test]
    fn an_entropy_source_among_the_own_dependencies_is_found() {
        let mut tree = sample();
        tree.linked.get_mut("heirloom-attest").unwrap().insert("getrandom 0.2".to_owned());
        assert_eq!(core_trees(&tree), [], "a dependency may have it");
        let attest = tree.packages.get_mut("heirloom-attest").unwrap();
        attest.dependencies.push(Dependency { name: "getrandom".to_owned(), is_dev: false });
        assert_eq!(core_trees(&tree).len(), 1);
    }
}
