//! The reference is what the program says, and completions and manual pages are made of it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::world::{self, Place};

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../docs/reference").join(name)
}

#[test]
fn the_reference_says_what_the_program_says() {
    let place = Place::new();
    for page in ["cli", "errors", "exit-codes"] {
        let path = document(&format!("{page}.md"));
        let written = fs::read_to_string(&path).unwrap_or_default();
        let said = place.ok(&format!("reference {page}"));
        assert!(
            written == said,
            "{} is stale: `heirloom reference {page}` writes it anew",
            path.display()
        );
    }
}

#[test]
fn no_error_code_disappears() {
    let said = Place::new().ok("reference errors");
    let codes: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("| E-")?.split(' ').next()).collect();
    // Codes are never reused: one that is not needed any more stays in this list and in the table.
    let known = include_str!("codes.txt");
    for code in known.lines() {
        assert!(codes.contains(&code.trim_start_matches("E-")), "{code} is gone");
    }
    for code in &codes {
        assert!(known.lines().any(|line| line == format!("E-{code}")), "E-{code} is not listed");
    }
}

#[test]
fn completions_and_manual_pages_are_written() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(place.ok(&format!("completions {shell}")).contains("heirloom"), "{shell}");
    }
    assert!(place.ok("man").contains("heirloom"));
    assert!(place.ok("man plan approve").contains("approve"));
    place.fails("man plan fly", 1, "E-INPUT-002");
}

#[test]
fn a_wrong_command_line_is_a_usage_error_with_a_suggestion() {
    let place = Place::new();
    for (words, expected) in [
        ("polcy show x", "policy"),
        ("plan approve --key k", "--plan"),
        ("policy show", "Usage"),
        ("init x", "--anchor"),
        ("plan approve --plan 12 --key k", "64 hexadecimal digits"),
    ] {
        let ended = place.run(words);
        assert_eq!(ended.exit, 2, "{words}");
        assert!(ended.err.contains(expected), "{words}\n{}", ended.err);
        assert_eq!(ended.out, "", "{words}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_heirloom"));
    command.args(["reference", "cli"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = world::start(&mut command);
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}
