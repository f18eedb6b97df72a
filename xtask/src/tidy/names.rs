//! One word per thing, in the names of public items.

use crate::tidy::Finding;
use crate::tidy::source::code_lines;
use crate::tidy::tree::{Layer, Tree, Word};

/// Public items of base and core crates do not use the words that the glossary replaces.
pub(crate) fn public_names(tree: &Tree) -> Vec<Finding> {
    let folders: Vec<String> = tree
        .packages
        .values()
        .filter(|package| package.layer <= Layer::Core)
        .map(|package| format!("{}/src/", package.folder))
        .collect();
    tree.rust_files()
        .filter(|(path, _)| folders.iter().any(|folder| path.starts_with(folder)))
        .flat_map(|(path, text)| in_file(path, text, &tree.settings.word))
        .collect()
}

fn in_file(path: &str, text: &str, words: &[Word]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in code_lines(text) {
        let Some(name) = public_name(&line) else { continue };
        for word in words.iter().filter(|word| has_word(name, &word.not)) {
            let message = format!("`{name}` says \"{}\"; say: {}", word.not, word.say);
            findings.push(Finding::new("glossary", format!("{path}:{number}"), message));
        }
    }
    findings
}

/// The name of the public item, field or module that a line declares.
fn public_name(line: &str) -> Option<&str> {
    const KINDS: [&str; 11] = [
        "async",
        "const",
        "enum",
        "extern",
        "fn",
        "macro_rules",
        "mod",
        "static",
        "struct",
        "trait",
        "type",
    ];
    let rest = line.trim_start().strip_prefix("pub ")?;
    let mut words = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.find(|word| !word.is_empty() && !KINDS.contains(word))
}

/// Whether a name contains these words, next to each other and whole; or begins with them, if they
/// end in an underscore.
fn has_word(name: &str, words: &str) -> bool {
    let name = snake_case(name);
    if words.ends_with('_') {
        return name.starts_with(words);
    }
    format!("_{name}_").contains(&format!("_{words}_"))
}

/// `PlanStep`, `plan_step` and `PLAN_STEP` are the same words.
fn snake_case(name: &str) -> String {
    let mut out = String::new();
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_uppercase() && after_lower {
            out.push('_');
        }
        after_lower = c.is_lowercase() || c.is_ascii_digit();
        out.extend(c.to_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::tests::sample;

    fn found(path: &str, text: &str) -> usize {
        let mut tree = sample();
        tree.files.insert(path.to_owned(), text.to_owned());
        public_names(&tree).len()
    }

    #[test]
    fn a_banned_word_in_any_spelling_is_found() {
        let core = "crates/core/attest/src/a.rs";
        assert_eq!(found(core, "pub fn validate_quote() {}"), 1);
        assert_eq!(found(core, "pub struct ReportValidator;"), 1);
        assert_eq!(found(core, "pub const GOLDEN_VALUES_MAX: u8 = 1;"), 1);
        assert_eq!(found(core, "    pub is_verified: bool,"), 1);
        assert_eq!(found(core, "pub mod whitelist;"), 1);
        assert_eq!(found(core, "pub fn get_status() {}"), 1);
    }

    #[test]
    fn words_inside_words_private_items_and_other_layers_are_not_found() {
        let core = "crates/core/attest/src/a.rs";
        assert_eq!(found(core, "pub fn invalidated() {}"), 0);
        assert_eq!(found(core, "fn validate() {}"), 0);
        assert_eq!(found(core, "pub fn get() {}"), 0);
        assert_eq!(found(core, "// pub fn validate() {}"), 0);
        assert_eq!(found("crates/shell/client/src/a.rs", "pub fn validate() {}"), 0);
    }

    #[test]
    fn names_are_split_into_words() {
        assert_eq!(snake_case("PlanStep"), "plan_step");
        assert_eq!(snake_case("PLAN_STEP"), "plan_step");
        assert_eq!(snake_case("plan_step"), "plan_step");
        assert_eq!(snake_case("Sgx2Quote"), "sgx2_quote");
    }
}
