//! The size report: what grows towards a limit.

use std::collections::BTreeSet;

use crate::tidy::source::code_lines;
use crate::tidy::tree::Tree;

/// Prints sizes, and the longest files and functions.
pub(crate) fn print(tree: &Tree) {
    let rows = tree.settings.report_rows;
    let lines: usize = tree.rust_files().map(|(_, text)| text.lines().count()).sum();
    let linked = tree.linked.get(&tree.settings.keeper.package).map_or(0, BTreeSet::len);
    println!(
        "{} packages, {} Rust files, {lines} lines",
        tree.packages.len(),
        tree.rust_files().count()
    );
    println!("{} packages from elsewhere, {linked} packages in the keeper", tree.external.len());
    let files = tree.rust_files().map(|(path, text)| (text.lines().count(), path.clone()));
    print_longest("files", files.collect(), rows);
    let functions = tree.rust_files().flat_map(|(path, text)| {
        functions(text).into_iter().map(move |(lines, name)| (lines, format!("{path}: {name}")))
    });
    print_longest("functions", functions.collect(), rows);
}

fn print_longest(what: &str, mut rows: Vec<(usize, String)>, count: usize) {
    rows.sort_by(|a, b| b.cmp(a));
    println!("longest {what}:");
    for (lines, name) in rows.iter().take(count) {
        println!("  {lines:5}  {name}");
    }
}

/// The functions of a formatted file with their lengths: a function ends with the first closing
/// brace that is indented as it is.
fn functions(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Vec<(usize, String, usize)> = Vec::new();
    for (number, line) in code_lines(text) {
        let indent = line.len().saturating_sub(line.trim_start().len());
        if let Some(name) = function_name(&line) {
            open.push((indent, name.to_owned(), number));
        }
        let is_one_line = line.trim_end().ends_with([';', '}']) && function_name(&line).is_some();
        let closes = line.trim_end() == format!("{}}}", " ".repeat(indent));
        if (closes || is_one_line) && open.last().is_some_and(|(opened, ..)| *opened == indent) {
            let (_, name, start) = open.pop().expect("it was just looked at");
            found.push((number.saturating_sub(start).saturating_add(1), name));
        }
    }
    found
}

fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let is_declaration = before.split_whitespace().all(|word| {
        word.starts_with("pub") || ["async", "const", "extern", "unsafe"].contains(&word)
    });
    let name = after.split(['(', '<']).next()?;
    (is_declaration && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_their_first_line_to_their_brace() {
        let text =
            "impl A {\n    pub fn one() {\n        if a {\n        }\n    }\n}\n\nfn two() {}\n";
        assert_eq!(functions(text), [(4, "one".to_owned()), (1, "two".to_owned())]);
        assert_eq!(functions("// fn three() {\n"), []);
    }
}
