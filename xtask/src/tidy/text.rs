//! What documents and sources say.

use crate::tidy::Finding;
use crate::tidy::tree::{Tree, has_extension};

/// Folders of one person's machine, in two parts so that this file does not name them.
const FOREIGN: [(&str, &str); 3] = [("/wo", "rk/"), ("/ho", "me/"), ("/Us", "ers/")];

/// No file points into the machine that it was written on.
pub(crate) fn foreign_paths(tree: &Tree) -> Vec<Finding> {
    let foreign = FOREIGN.map(|(head, tail)| format!("{head}{tail}"));
    let mut findings = Vec::new();
    for (path, text) in &tree.files {
        for (index, line) in text.lines().enumerate() {
            if let Some(folder) = foreign.iter().find(|folder| names_folder(line, folder)) {
                let place = format!("{path}:{}", index.saturating_add(1));
                let message = format!("names {folder}, a folder of one machine");
                findings.push(Finding::new("foreign path", place, message));
            }
        }
    }
    findings
}

/// Whether the folder stands at the beginning of a path.
fn names_folder(line: &str, folder: &str) -> bool {
    line.match_indices(folder).any(|(start, _)| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        !before.is_some_and(|c| c.is_alphanumeric() || "._-}/~".contains(c))
    })
}

/// A line of a document is one sentence, so that a diff shows sentences.
pub(crate) fn one_sentence_per_line(tree: &Tree) -> Vec<Finding> {
    let documents = tree.files.iter().filter(|(path, _)| has_extension(path, "md"));
    let mut findings = Vec::new();
    for (path, text) in documents {
        for number in lines_with_two_sentences(text) {
            let place = format!("{path}:{number}");
            findings.push(Finding::new("sentences", place, "has more than one sentence"));
        }
    }
    findings
}

fn lines_with_two_sentences(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if trimmed.starts_with("```") {
            in_code = !in_code;
        }
        let is_prose = !in_code && !trimmed.starts_with('|');
        if is_prose && has_two_sentences(trimmed) {
            found.push(index.saturating_add(1));
        }
    }
    found
}

/// A full stop after a word of two letters or more, then a space and a capital letter.
fn has_two_sentences(line: &str) -> bool {
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let letters: Vec<char> = line.chars().collect();
    letters.windows(5).any(|window| match window {
        [first, second, stop, ' ', next] => {
            let ends_word = first.is_alphanumeric() || "`)*\"".contains(*first);
            let ends = second.is_alphanumeric() || "`)*\"".contains(*second);
            ends_word && ends && ".!?".contains(*stop) && next.is_uppercase()
        }
        _ => false,
    })
}

/// The source of the kinds of statements.
const KINDS: &str = "crates/base/model/src/statement.rs";
/// Where each kind has a row.
const KIND_ROWS: &str = "docs/formats/statement.md";
/// Where each kind has a section.
const KIND_SECTIONS: &str = "docs/formats/payloads.md";

/// Every kind of statement that the code names is described.
pub(crate) fn statement_kinds(tree: &Tree) -> Vec<Finding> {
    let names = tree.file(KINDS).lines().filter_map(|line| line.split_once("=> \""));
    let names = names.filter_map(|(_, rest)| rest.split('"').next());
    names
        .flat_map(|name| {
            [(KIND_ROWS, format!("| {name} |")), (KIND_SECTIONS, format!("\n## {name}\n"))]
        })
        .filter(|(document, needle)| !tree.file(document).contains(needle))
        .map(|(document, needle)| {
            Finding::new("formats", document, format!("does not have {:?}", needle.trim()))
        })
        .collect()
}

/// Folders of this repository that documents point into.
const OURS: [&str; 5] = [".ci/", "crates/", "docs/", "formal/", "xtask/"];

/// What a document links to, or names as a path in backticks, exists.
pub(crate) fn dead_references(tree: &Tree) -> Vec<Finding> {
    let documents = tree.files.iter().filter(|(path, _)| has_extension(path, "md"));
    let mut findings = Vec::new();
    for (path, text) in documents {
        let links = links(text).map(|link| resolve(path, link));
        let named = code_spans(text).filter(|span| OURS.iter().any(|ours| span.starts_with(ours)));
        for target in links.chain(named.map(str::to_owned)).filter(|target| !exists(tree, target)) {
            findings.push(Finding::new("dead reference", path, format!("{target} does not exist")));
        }
    }
    findings
}

/// The targets of links into this repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .filter_map(|target| target.split('#').next())
}

/// What stands in single backticks and is one plain path.
fn code_spans(text: &str) -> impl Iterator<Item = &str> {
    let spans = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    spans.filter(|span| !span.contains([' ', '{', '<', '*']))
}

/// A link of a document as a path from the root of the repository.
fn resolve(document: &str, link: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

fn exists(tree: &Tree, path: &str) -> bool {
    let folder = format!("{}/", path.trim_end_matches('/'));
    tree.files.contains_key(path) || tree.files.keys().any(|file| file.starts_with(&folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::tree::tests::sample;

    fn found(rule: fn(&Tree) -> Vec<Finding>, path: &str, text: &str) -> usize {
        let mut tree = sample();
        tree.files.insert(path.to_owned(), text.to_owned());
        rule(&tree).len()
    }

    #[test]
    fn a_path_of_one_machine_is_found() {
        let (head, tail) = FOREIGN[0];
        assert_eq!(found(foreign_paths, "a.rs", &format!("\"{head}{tail}main\"")), 1);
        assert_eq!(found(foreign_paths, "a.md", &format!("see {head}{tail}main")), 1);
        assert_eq!(found(foreign_paths, "a.md", &format!("see target{head}{tail}main")), 0);
        assert_eq!(found(foreign_paths, "a.rs", &format!("\"{{dir}}{head}{tail}main\"")), 0);
    }

    #[test]
    fn two_sentences_in_a_line_are_found() {
        assert_eq!(found(one_sentence_per_line, "a.md", "One is here. Two is here."), 1);
        assert_eq!(found(one_sentence_per_line, "a.md", "- Call `it()`. Then wait."), 1);
        assert_eq!(found(one_sentence_per_line, "a.md", "One is here.\nTwo is here."), 0);
        assert_eq!(found(one_sentence_per_line, "a.md", "10. Ten, e.g. Eleven, i.e. Twelve"), 0);
        assert_eq!(found(one_sentence_per_line, "a.md", "```text\nOne is. Two is.\n```"), 0);
        assert_eq!(found(one_sentence_per_line, "a.md", "| One is. Two is. |"), 0);
    }

    #[test]
    fn a_reference_to_nothing_is_found() {
        let core = "crates/core/attest/clippy.toml";
        assert_eq!(found(dead_references, "docs/a.md", "[a](../ARCHITECTURE.md#words)"), 0);
        assert_eq!(found(dead_references, "docs/a.md", "[a](ARCHITECTURE.md)"), 1);
        assert_eq!(found(dead_references, "a.md", "[a](docs)"), 1);
        assert_eq!(found(dead_references, "a.md", "[a](https://example.org/a)"), 0);
        assert_eq!(found(dead_references, "a.md", &format!("see `{core}` and `crates/core`")), 0);
        assert_eq!(found(dead_references, "a.md", "see `crates/core/none.rs`"), 1);
        assert_eq!(found(dead_references, "a.md", "see `crates/{a,b}` and `.ci/run` now"), 1);
    }

    #[test]
    fn a_kind_of_statement_without_a_description_is_found() {
        let mut tree = sample();
        let mut put = |path: &str, text: &str| tree.files.insert(path.to_owned(), text.to_owned());
        put(KINDS, "Self::Root => \"root\",\nSelf::Fleet => \"fleet\",");
        put(KIND_ROWS, "| 0 | root | people |\n");
        put(KIND_SECTIONS, "\n## root\n\n## fleet\n");
        assert_eq!(statement_kinds(&tree).len(), 1);
        tree.files.insert(KIND_ROWS.to_owned(), "| root |\n| fleet |\n".to_owned());
        assert_eq!(statement_kinds(&tree), []);
        tree.files.insert(KIND_SECTIONS.to_owned(), "\n## root\n".to_owned());
        assert_eq!(statement_kinds(&tree).len(), 1);
    }
}
