//! Licences, bans, versions and sources of what comes from elsewhere, against `deny.toml`.
//!
//! cargo-deny does the same and more. This needs no tool and no network, so it always runs.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::Finding;
use crate::tidy::tree::{External, Tree};

/// Every package may be used under licences that we accept.
pub(crate) fn licences(tree: &Tree) -> Vec<Finding> {
    let allowed = &tree.deny.licenses.allow;
    tree.external
        .iter()
        .filter(|package| !package.licence.as_ref().is_some_and(|text| accepts(text, allowed)))
        .map(|package| {
            let licence = package.licence.as_deref().unwrap_or("none");
            finding("licence", package, format!("has the licence {licence}"))
        })
        .collect()
}

/// Every package comes from a registry that we name.
pub(crate) fn sources(tree: &Tree) -> Vec<Finding> {
    tree.external
        .iter()
        .filter(|package| {
            let registry = package.source.strip_prefix("registry+").unwrap_or("");
            !tree.deny.sources.allow_registry.iter().any(|allowed| allowed == registry)
        })
        .map(|package| finding("source", package, format!("comes from {}", package.source)))
        .collect()
}

/// No package is one that we ban.
pub(crate) fn bans(tree: &Tree) -> Vec<Finding> {
    let banned = &tree.deny.bans.deny;
    tree.external
        .iter()
        .filter_map(|package| {
            let ban = banned.iter().find(|ban| ban.name == package.name)?;
            Some(finding("ban", package, format!("is banned: {}", ban.reason)))
        })
        .collect()
}

/// Every package is here in one version, but for those that are named.
pub(crate) fn versions(tree: &Tree) -> Vec<Finding> {
    let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for External { name, version, .. } in &tree.external {
        let skipped = tree.deny.bans.skip.iter().any(|it| it.name == format!("{name}@{version}"));
        if !skipped {
            found.entry(name).or_default().insert(version);
        }
    }
    found
        .into_iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| {
            let versions: Vec<&str> = versions.into_iter().collect();
            let message = format!("is here more than once: {}", versions.join(", "));
            Finding::new("versions", name, message)
        })
        .collect()
}

fn finding(rule: &'static str, package: &External, message: String) -> Finding {
    Finding::new(rule, format!("{} {}", package.name, package.version), message)
}

/// Whether an SPDX expression can be satisfied with allowed licences only. `/` is the old `OR`.
fn accepts(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { tokens: &tokens, allowed };
    parser.alternatives() == Some(true) && parser.tokens.is_empty()
}

/// Reads an expression from the left; nothing if it is malformed.
struct Parser<'t> {
    tokens: &'t [&'t str],
    allowed: &'t [String],
}

impl Parser<'_> {
    fn alternatives(&mut self) -> Option<bool> {
        let mut satisfied = self.conjunction()?;
        while self.take("OR") {
            satisfied |= self.conjunction()?;
        }
        Some(satisfied)
    }

    fn conjunction(&mut self) -> Option<bool> {
        let mut satisfied = self.licence()?;
        while self.take("AND") {
            satisfied &= self.licence()?;
        }
        Some(satisfied)
    }

    fn licence(&mut self) -> Option<bool> {
        if self.take("(") {
            let satisfied = self.alternatives()?;
            return self.take(")").then_some(satisfied);
        }
        let name = self.next()?;
        let full = if self.take("WITH") { format!("{name} WITH {}", self.next()?) } else { name };
        Some(self.allowed.contains(&full))
    }

    fn next(&mut self) -> Option<String> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some((*first).to_owned())
    }

    fn take(&mut self, token: &str) -> bool {
        let Some((first, rest)) = self.tokens.split_first() else { return false };
        let is_next = *first == token;
        if is_next {
            self.tokens = rest;
        }
        is_next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::tests::{external, sample};

    fn with(package: External) -> Tree {
        let mut tree = sample();
        tree.external.push(package);
        tree
    }

    #[test]
    fn a_licence_that_we_do_not_accept_is_found() {
        assert_eq!(licences(&with(external("a", "GPL-3.0-only"))).len(), 1);
        assert_eq!(licences(&with(external("a", "MIT AND GPL-3.0-only"))).len(), 1);
        assert_eq!(licences(&with(external("a", "MIT OR GPL-3.0-only"))).len(), 0);
        assert_eq!(licences(&with(External { licence: None, ..external("a", "") })).len(), 1);
    }

    #[test]
    fn expressions_are_read_as_spdx_does() {
        let allowed = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned);
        let check = |expression: &str, expected: bool| {
            assert_eq!(accepts(expression, &allowed), expected, "{expression}");
        };
        check("MIT/GPL-2.0", true);
        check("GPL-2.0 AND (MIT OR ISC)", false);
        check("MIT AND (ISC OR Apache-2.0)", true);
        check("ISC OR MIT AND GPL-2.0", false);
        check("Apache-2.0 WITH LLVM-exception", true);
        check("MIT WITH LLVM-exception", false);
        check("(MIT", false);
        check("MIT MIT", false);
        check("", false);
    }

    #[test]
    fn a_package_from_another_place_is_found() {
        let git = "git+https://example.org/a".to_owned();
        assert_eq!(sources(&with(External { source: git, ..external("a", "MIT") })).len(), 1);
        let other = "registry+https://example.org/index".to_owned();
        assert_eq!(sources(&with(External { source: other, ..external("a", "MIT") })).len(), 1);
    }

    #[test]
    fn a_second_version_is_found_unless_it_is_named() {
        let second = |name: &str, version: &str| External {
            version: version.to_owned(),
            ..external(name, "MIT")
        };
        let mut tree = with(external("a", "MIT"));
        assert_eq!(versions(&tree), []);
        tree.external.push(second("a", "2.0.0"));
        assert_eq!(versions(&tree).len(), 1);
        tree.external = vec![second("base64", "0.13.1"), second("base64", "9.0.0")];
        assert_eq!(versions(&tree), []);
        tree.external.push(second("base64", "8.0.0"));
        assert_eq!(versions(&tree).len(), 1);
    }

    #[test]
    fn a_banned_package_is_found() {
        assert_eq!(bans(&with(external("openssl-sys", "MIT"))).len(), 1);
    }
}
