//! `cargo xtask tidy`: a test that the tree is still the architecture.
//!
//! Each rule is a pure function from a [`Tree`] to findings, in a file of its own, with tests that
//! break it. What the rules allow, and every exception with its reason, is in `xtask/tidy.toml`.

mod keeper;
mod layers;
mod names;
mod packages;
mod purity;
mod report;
mod size;
mod source;
mod supply;
mod text;
mod tree;

use std::fmt;

use anyhow::{Result, bail};

use crate::tidy::tree::Tree;

/// Options of `cargo xtask tidy`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Accept the keeper's dependencies as they are: rewrites xtask/keeper-dependencies.txt, whose
    /// change a reviewer then reads.
    #[arg(long)]
    bless: bool,
}

/// Something that must be changed, and where.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Finding {
    rule: &'static str,
    place: String,
    message: String,
}

impl Finding {
    /// A finding about a file, a line or a package.
    fn new(rule: &'static str, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { rule, place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.place, self.rule, self.message)
    }
}

/// A rule looks at everything and changes nothing.
type Rule = fn(&Tree) -> Vec<Finding>;

/// Every rule.
const RULES: &[Rule] = &[
    layers::direction,
    layers::test_crates,
    layers::core_edges,
    packages::description,
    packages::lints,
    packages::core_clippy,
    packages::in_the_map,
    purity::core_trees,
    keeper::dependencies,
    keeper::trusted_crates_are_documented,
    size::files,
    size::architecture,
    names::public_names,
    source::unsafe_code,
    source::limits,
    text::foreign_paths,
    text::one_sentence_per_line,
    text::dead_references,
    text::statement_kinds,
    supply::licences,
    supply::sources,
    supply::bans,
    supply::versions,
];

/// Reads the tree, applies every rule, prints the report.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.bless {
        let tree = Tree::read()?;
        keeper::bless(&tree)?;
    }
    check()
}

/// Applies every rule, and fails if one finds something.
pub(crate) fn check() -> Result<()> {
    let tree = Tree::read()?;
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| rule(&tree)).collect();
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    report::print(&tree);
    if !findings.is_empty() {
        bail!("tidy found {} things to change", findings.len());
    }
    Ok(())
}
