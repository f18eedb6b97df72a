//! What Rust code says: `unsafe`, and limits without a reason.

use crate::tidy::Finding;
use crate::tidy::tree::Tree;

/// `unsafe` stands only in listed files.
pub(crate) fn unsafe_code(tree: &Tree) -> Vec<Finding> {
    tree.rust_files()
        .filter(|(path, _)| !tree.settings.unsafe_file.iter().any(|listed| listed.path == **path))
        .flat_map(|(path, text)| {
            let lines = code_lines(text).filter(|(_, line)| has_token(line, "unsafe"));
            lines.map(move |(number, _)| {
                let message = "says `unsafe`, and the file is not listed in tidy.toml";
                Finding::new("unsafe", format!("{path}:{number}"), message)
            })
        })
        .collect()
}

/// A named limit says why it is what it is.
pub(crate) fn limits(tree: &Tree) -> Vec<Finding> {
    let ours = tree.rust_files().filter(|(path, _)| path.starts_with("crates/"));
    ours.flat_map(|(path, text)| {
        undocumented_limits(text).into_iter().map(move |(number, name)| {
            let message = format!("`{name}` is a limit without a sentence of reasoning");
            Finding::new("limits", format!("{path}:{number}"), message)
        })
    })
    .collect()
}

fn undocumented_limits(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut is_commented = false;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_start();
        match limit_name(line) {
            Some(name) if !is_commented => found.push((index.saturating_add(1), name.to_owned())),
            _ => {}
        }
        // An attribute may stand between a comment and what it is about.
        is_commented = line.starts_with("//") || (is_commented && line.starts_with("#["));
    }
    found
}

/// The name in `const SOMETHING_MAX: Type`, unless it is a constant of a trait.
fn limit_name(line: &str) -> Option<&str> {
    let rest = line.split_once("const ").filter(|(before, _)| is_visibility(before))?.1;
    let name = rest.split_once(':')?.0;
    let is_limit = name.ends_with("_MAX") && name != "BYTES_MAX";
    is_limit.then_some(name)
}

fn is_visibility(text: &str) -> bool {
    text.is_empty() || (text.starts_with("pub") && text.ends_with(' '))
}

/// Lines without comments and without what stands in quotes, with their numbers.
pub(crate) fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().map(|(index, line)| (index.saturating_add(1), code_of(line)))
}

/// Good enough for code that rustfmt formatted: a quote in a character literal would mislead it,
/// so it is looked for first.
fn code_of(line: &str) -> String {
    let line = line.replace("'\"'", "").replace("b'\"'", "");
    let mut code = String::new();
    let mut in_quotes = false;
    let mut previous = ' ';
    for c in line.chars() {
        match c {
            '"' if previous != '\\' => in_quotes = !in_quotes,
            '/' if previous == '/' && !in_quotes => return code,
            _ if !in_quotes => code.push(c),
            _ => {}
        }
        previous = c;
    }
    code
}

fn has_token(line: &str, token: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::tests::sample;

    fn found(rule: fn(&Tree) -> Vec<Finding>, text: &str) -> usize {
        let mut tree = sample();
        tree.files.insert("crates/core/attest/src/a.rs".to_owned(), text.to_owned());
        rule(&tree).len()
    }

    #[test]
    fn unsafe_code_outside_of_listed_files_is_found() {
        assert_eq!(found(unsafe_code, "let a = unsafe { *b };"), 1);
        assert_eq!(found(unsafe_code, "#![forbid(unsafe_code)]"), 0);
        assert_eq!(found(unsafe_code, "// unsafe is not used here"), 0);
        assert_eq!(found(unsafe_code, "let a = \"unsafe\"; // no"), 0);
        assert_eq!(found(unsafe_code, "if c == '\"' { unsafe { d() } }"), 1);
    }

    #[test]
    fn unsafe_code_in_a_listed_file_is_not_found() {
        let mut tree = sample();
        tree.files.insert("crates/a/src/a.rs".to_owned(), "unsafe {}".to_owned());
        let listed = "path = 'crates/a/src/a.rs'\nreason = 'a test'";
        tree.settings.unsafe_file.push(toml::from_str(listed).unwrap());
        assert_eq!(unsafe_code(&tree), []);
    }

    #[test]
    fn a_limit_without_a_reason_is_found() {
        assert_eq!(found(limits, "pub const RETRIES_MAX: u32 = 3;"), 1);
        assert_eq!(found(limits, "const RETRIES_MAX: u32 = 3;"), 1);
        assert_eq!(found(limits, "/// Three tries.\n\npub(crate) const RETRIES_MAX: u32 = 3;"), 1);
        assert_eq!(found(limits, "/// Three tries.\npub(crate) const RETRIES_MAX: u32 = 3;"), 0);
        assert_eq!(found(limits, "// Three.\n#[cfg(test)]\nconst RETRIES_MAX: u32 = 3;"), 0);
        assert_eq!(found(limits, "    const BYTES_MAX: usize = $limit;"), 0);
    }
}
