//! The measured program: everything in it can read keys, so everything in it is listed.

use std::collections::BTreeSet;
use std::fs;

use anyhow::Result;

use crate::process;
use crate::tidy::Finding;
use crate::tidy::tree::Tree;

/// Where the list is.
const LIST: &str = "xtask/keeper-dependencies.txt";

/// What is linked into the keeper is what the list says: no more, no less.
pub(crate) fn dependencies(tree: &Tree) -> Vec<Finding> {
    let linked = foreign(tree);
    let listed: BTreeSet<&str> =
        tree.file(LIST).lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let added = linked.iter().filter(|entry| !listed.contains(entry.as_str()));
    let added = added.map(|entry| format!("the keeper links {entry}, which nobody has accepted"));
    let removed = listed.iter().filter(|entry| !linked.contains(**entry));
    let removed = removed.map(|entry| format!("lists {entry}, which the keeper does not link"));
    let hint = "; after review: cargo xtask tidy --bless";
    added.chain(removed).map(|text| Finding::new("keeper", LIST, text + hint)).collect()
}

/// ARCHITECTURE.md names our own crates in the keeper as trusted code.
pub(crate) fn trusted_crates_are_documented(tree: &Tree) -> Vec<Finding> {
    let text = tree.file("ARCHITECTURE.md");
    let trusted = text.lines().find(|line| line.starts_with("The trusted code")).unwrap_or("");
    own(tree)
        .filter(|name| !trusted.contains(&format!("`{name}`")))
        .map(|name| {
            let message = format!("the line \"The trusted code…\" does not name `{name}`");
            Finding::new("trusted code", "ARCHITECTURE.md", message)
        })
        .collect()
}

/// Accepts the dependencies as they are.
pub(crate) fn bless(tree: &Tree) -> Result<()> {
    let mut text = String::from(
        "# Every package from elsewhere that is linked into the keeper, by name and compatible\n\
         # version. Each of them can read keys. A change of this file is a change of what we trust:\n\
         # say in the commit why. Written by `cargo xtask tidy --bless`.\n",
    );
    for entry in foreign(tree) {
        text.push_str(&entry);
        text.push('\n');
    }
    fs::write(process::workspace_root().join(LIST), text)?;
    println!("wrote {LIST}");
    Ok(())
}

fn linked(tree: &Tree) -> impl Iterator<Item = &String> {
    tree.linked.get(&tree.settings.keeper.package).into_iter().flatten()
}

fn foreign(tree: &Tree) -> BTreeSet<String> {
    linked(tree).filter(|entry| !is_own(tree, entry)).cloned().collect()
}

fn own(tree: &Tree) -> impl Iterator<Item = &str> {
    let entries = linked(tree).filter(|entry| is_own(tree, entry));
    let names = entries.filter_map(|entry| entry.split(' ').next());
    names.filter(|name| *name != tree.settings.keeper.package)
}

fn is_own(tree: &Tree, entry: &str) -> bool {
    entry.split(' ').next().is_some_and(|name| tree.packages.contains_key(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::tests::sample;

    #[test]
    fn a_dependency_that_nobody_accepted_is_found() {
        let mut tree = sample();
        tree.linked.get_mut("heirloom-keeper-shell").unwrap().insert("new 1".to_owned());
        assert_eq!(dependencies(&tree).len(), 1);
    }

    #[test]
    fn a_line_that_is_not_true_any_more_is_found() {
        let mut tree = sample();
        tree.linked.get_mut("heirloom-keeper-shell").unwrap().remove("serde 1");
        assert_eq!(dependencies(&tree).len(), 1);
    }

    #[test]
    fn trusted_code_that_is_not_documented_is_found() {
        let mut tree = sample();
        tree.linked
            .get_mut("heirloom-keeper-shell")
            .unwrap()
            .insert("heirloom-attest 0.1".to_owned());
        assert_eq!(trusted_crates_are_documented(&tree).len(), 1);
    }
}
