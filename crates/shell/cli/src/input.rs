//! Inputs as people write them: TOML, in which every unknown key is an error.

use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use heirloom_model::counter::Time;
use serde::de::DeserializeOwned;

use crate::code::Code;
use crate::diagnostic::Diagnostic;
use crate::{file, time};

/// The largest fleet, with 300 bytes a node.
const INPUT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Reads an input file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Diagnostic> {
    let text = file::read_text(path, INPUT_BYTES_MAX)?;
    toml::from_str(&text).map_err(|error| {
        let message = format!("{} is not what this command signs", path.display());
        Diagnostic::new(Code::InputMalformed, message).because(&error)
    })
}

/// Parses one value.
pub(crate) fn value<T>(field: &str, text: &str) -> Result<T, Diagnostic>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|error: T::Err| {
        let message = format!("the field {field} has a bad value");
        Diagnostic::new(Code::InputValue, message).cause(error.to_string())
    })
}

/// Parses several values and sorts them.
pub(crate) fn values<T>(field: &str, texts: &[String]) -> Result<Vec<T>, Diagnostic>
where
    T: FromStr<Err: Display> + Ord + Clone,
{
    let parsed = texts.iter().map(|text| value(field, text)).collect::<Result<Vec<T>, _>>()?;
    sorted(field, parsed, Clone::clone)
}

/// Parses a time.
pub(crate) fn time(field: &str, text: &str) -> Result<Time, Diagnostic> {
    time::parse(text).map_err(|error| {
        let message = format!("the field {field} has a bad value");
        Diagnostic::new(Code::InputValue, message).cause(error)
    })
}

/// Sorts entries as statements have them, and refuses two of one name.
pub(crate) fn sorted<T, K: Ord>(
    field: &str,
    mut entries: Vec<T>,
    name: impl Fn(&T) -> K,
) -> Result<Vec<T>, Diagnostic> {
    entries.sort_by_key(&name);
    let repeated = entries.windows(2).any(|pair| match pair {
        [left, right] => name(left) == name(right),
        _ => false,
    });
    if repeated {
        let message = format!("the field {field} has the same entry twice");
        return Err(Diagnostic::new(Code::InputDuplicate, message));
    }
    Ok(entries)
}

/// Refuses a word that means nothing in its place.
pub(crate) fn other_word(field: &str, word: &str, known: &[&str]) -> Diagnostic {
    let message = format!("the field {field} has a bad value");
    let known = known.join(", ");
    Diagnostic::new(Code::InputValue, message).cause(format!("{word:?} is not one of: {known}"))
}
