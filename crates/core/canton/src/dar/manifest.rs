//! The manifest of a file of packages (the JAR file format, and Canton's `DarManifestReader`).

use std::collections::BTreeSet;

use heirloom_model::limit::{DAR_MANIFEST_BYTES_MAX, DAR_PACKAGES_MAX};

/// Where it stands.
pub(super) const PATH: &str = "META-INF/MANIFEST.MF";
/// The format that participants read.
const FORMAT: &str = "daml-lf";
/// Lines have at most this many bytes without their end (JAR format); longer ones are continued
/// on the next one after a space.
const LINE_BYTES_MAX: usize = 70;

/// Why bytes are not a manifest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// It is too large.
    #[error("the manifest has {bytes} bytes; at most {DAR_MANIFEST_BYTES_MAX} are read")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// It is not text.
    #[error("the manifest is not UTF-8")]
    NotText,
    /// A line is no attribute.
    #[error("line {line} of the manifest is not a name, \": \" and a value")]
    Line {
        /// Its number, from one.
        line: usize,
    },
    /// An attribute is there twice.
    #[error("the manifest has {name:?} twice")]
    Duplicate {
        /// Its name.
        name: String,
    },
    /// An attribute is missing.
    #[error("the manifest has no {name:?}")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// It is of another format.
    #[error("the manifest names the format {found:?} instead of {FORMAT:?}")]
    Format {
        /// The format.
        found: String,
    },
    /// It names too many packages.
    #[error("the manifest names {packages} packages; at most {DAR_PACKAGES_MAX} are read")]
    TooManyPackages {
        /// How many.
        packages: usize,
    },
}

/// Which entries are packages.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Manifest {
    /// The path of the main package.
    pub(super) main: String,
    /// The paths of the other packages, in the manifest's order.
    pub(super) others: Vec<String>,
}

impl Manifest {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() > DAR_MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { bytes: bytes.len() });
        }
        let text = std::str::from_utf8(bytes).map_err(|_| ManifestError::NotText)?;
        let attributes = main_attributes(text)?;
        let value = |name: &'static str| {
            let found = attributes.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim()).ok_or(ManifestError::Missing { name })
        };
        let (main, all, format) = (value("Main-Dalf")?, value("Dalfs")?, value("Format")?);
        if format != FORMAT {
            return Err(ManifestError::Format { found: format.to_owned() });
        }
        // Participants read the main package first, whether or not it is named once more.
        let mut seen = BTreeSet::from([main]);
        let others: Vec<_> =
            all.split(',').map(str::trim).filter(|path| seen.insert(path)).collect();
        if seen.len() > DAR_PACKAGES_MAX {
            return Err(ManifestError::TooManyPackages { packages: seen.len() });
        }
        let others = others.into_iter().map(str::to_owned).collect();
        Ok(Self { main: main.to_owned(), others })
    }

    /// The text that damlc would write, without what names a compiler.
    pub(super) fn write(&self, name: &str) -> String {
        let mut paths = vec![self.main.as_str()];
        paths.extend(self.others.iter().map(String::as_str));
        let lines = [
            "Manifest-Version: 1.0".to_owned(),
            "Created-By: heirloom".to_owned(),
            format!("Name: {name}"),
            format!("Main-Dalf: {}", self.main),
            format!("Dalfs: {}", paths.join(", ")),
            format!("Format: {FORMAT}"),
            "Encryption: non-encrypted".to_owned(),
        ];
        lines.iter().map(|line| folded(line)).collect()
    }
}

/// Attributes before the first empty line: later sections speak of single entries.
fn main_attributes(text: &str) -> Result<Vec<(String, String)>, ManifestError> {
    let mut attributes: Vec<(String, String)> = Vec::new();
    let mut names = BTreeSet::new();
    // A line ends with CR, LF or both: CR LF is LF here, and then a lone CR is.
    for (index, line) in text.replace("\r\n", "\n").split(['\n', '\r']).enumerate() {
        let bad = ManifestError::Line { line: index + 1 };
        if line.is_empty() {
            break;
        }
        if let Some(continued) = line.strip_prefix(' ') {
            attributes.last_mut().ok_or(bad)?.1.push_str(continued);
            continue;
        }
        let (name, value) = line.split_once(": ").ok_or(bad.clone())?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.is_empty() || name.len() > LINE_BYTES_MAX || !name.chars().all(allowed) {
            return Err(bad);
        }
        if !names.insert(name.to_ascii_lowercase()) {
            return Err(ManifestError::Duplicate { name: name.to_owned() });
        }
        attributes.push((name.to_owned(), value.to_owned()));
    }
    Ok(attributes)
}

/// One attribute in lines that are short enough. Paths and names are ASCII.
fn folded(line: &str) -> String {
    let mut text = String::new();
    for (index, character) in line.chars().enumerate() {
        // A continuation begins with a space, which counts.
        if index >= LINE_BYTES_MAX && (index - 1) % (LINE_BYTES_MAX - 1) == 0 {
            text.push_str("\n ");
        }
        text.push(character);
    }
    text.push('\n');
    text
}
