//! Layers are folders, and dependencies point down.

use crate::tidy::Finding;
use crate::tidy::tree::{Dependency, Layer, Package, Tree};

/// A crate depends on its own layer or a lower one. Adapters do not depend on adapters, and
/// shells only on those shells that are libraries.
pub(crate) fn direction(tree: &Tree) -> Vec<Finding> {
    edges(tree)
        .filter(|edge| !edge.dependency.is_dev && !is_excepted(tree, edge))
        .filter_map(|edge| {
            let reason = forbidden(tree, &edge)?;
            Some(Finding::new("layers", edge.from, format!("depends on {}: {reason}", edge.to)))
        })
        .collect()
}

/// Test crates stay out of what is shipped: other layers use them as dev-dependencies only.
pub(crate) fn test_crates(tree: &Tree) -> Vec<Finding> {
    edges(tree)
        .filter(|edge| edge.above.layer < Layer::Test && edge.below.layer == Layer::Test)
        .filter(|edge| !edge.dependency.is_dev)
        .map(|edge| {
            let message = format!("depends on the test crate {}", edge.to);
            Finding::new("test crates", edge.from, message)
        })
        .collect()
}

/// Core crates depend on each other as the table in `tidy.toml` says.
pub(crate) fn core_edges(tree: &Tree) -> Vec<Finding> {
    edges(tree)
        .filter(|edge| edge.above.layer == Layer::Core && edge.below.layer == Layer::Core)
        .filter(|edge| !edge.dependency.is_dev)
        .filter(|edge| {
            let allowed = tree.settings.core_edges.get(edge.from);
            !allowed.is_some_and(|allowed| allowed.iter().any(|name| name == edge.to))
        })
        .map(|edge| {
            let message = format!("depends on {}, which [core_edges] does not list", edge.to);
            Finding::new("core edges", edge.from, message)
        })
        .collect()
}

/// One package of the workspace uses another.
struct Edge<'t> {
    from: &'t str,
    to: &'t str,
    above: &'t Package,
    below: &'t Package,
    dependency: &'t Dependency,
}

fn edges(tree: &Tree) -> impl Iterator<Item = Edge<'_>> {
    tree.packages.iter().flat_map(|(from, above)| {
        above.dependencies.iter().filter_map(|dependency| {
            let (to, below) = tree.packages.get_key_value(&dependency.name)?;
            Some(Edge { from, to, above, below, dependency })
        })
    })
}

fn forbidden(tree: &Tree, edge: &Edge<'_>) -> Option<&'static str> {
    match (edge.above.layer, edge.below.layer) {
        (above, Layer::Test) if above < Layer::Test => None, // The rule about test crates says so.
        (above, below) if above < below => Some("a crate depends only on its own or a lower layer"),
        (Layer::Adapter, Layer::Adapter) => Some("adapters do not know each other"),
        (Layer::Shell, Layer::Shell) if !tree.settings.shared_shells.contains_key(edge.to) => {
            Some("it is not in [shared_shells]")
        }
        (Layer::Task, Layer::Task) => Some("tasks do not know each other"),
        _ => None,
    }
}

fn is_excepted(tree: &Tree, edge: &Edge<'_>) -> bool {
    tree.settings.edge.iter().any(|listed| listed.from == edge.from && listed.to == edge.to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::tests::sample;

    fn with_edge(from: &str, to: &str, is_dev: bool) -> Tree {
        let mut tree = sample();
        let package = tree.packages.get_mut(from).expect("a package of the sample");
        package.dependencies.push(Dependency { name: to.to_owned(), is_dev });
        tree
    }

    fn check(rule: fn(&Tree) -> Vec<Finding>, from: &str, to: &str, expected: usize) {
        assert_eq!(rule(&with_edge(from, to, false)).len(), expected, "{from} -> {to}");
        assert_eq!(rule(&with_edge(from, to, true)).len(), 0, "{from} -> {to}, dev");
    }

    #[test]
    fn an_edge_that_points_up_is_found() {
        check(direction, "heirloom-model", "heirloom-attest", 1);
        check(direction, "heirloom-attest", "heirloom-emulated", 1);
        check(direction, "heirloom-emulated", "heirloom-client", 1);
        check(direction, "heirloom-client", "heirloom-registry", 0);
    }

    #[test]
    fn adapters_and_shells_stay_apart() {
        check(direction, "heirloom-emulated", "heirloom-session", 1);
        check(direction, "heirloom-client", "heirloom-keeper-shell", 1);
        check(direction, "heirloom-keeper-shell", "heirloom-client", 0);
    }

    #[test]
    fn an_edge_that_is_excepted_with_a_reason_is_not_found() {
        let mut tree = with_edge("heirloom-emulated", "heirloom-session", false);
        let listed = "from = 'heirloom-emulated'\nto = 'heirloom-session'\nreason = 'a test'";
        tree.settings.edge.push(toml::from_str(listed).unwrap());
        assert_eq!(direction(&tree), []);
        let silent = "from = 'heirloom-emulated'\nto = 'heirloom-session'";
        assert!(toml::from_str::<crate::tidy::tree::EdgeException>(silent).is_err());
    }

    #[test]
    fn a_test_crate_in_what_is_shipped_is_found() {
        check(test_crates, "heirloom-client", "heirloom-testkit", 1);
        check(test_crates, "heirloom-testkit", "heirloom-registry", 0);
    }

    #[test]
    fn a_core_edge_that_nobody_listed_is_found() {
        check(core_edges, "heirloom-attest", "heirloom-registry", 1);
        check(core_edges, "heirloom-registry", "heirloom-attest", 0);
    }
}
