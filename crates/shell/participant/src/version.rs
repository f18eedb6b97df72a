//! The versions of the real participant whose messages and rules differ.

use std::fmt;
use std::str::FromStr;

use heirloom_canton::contract_id::ContractIdVersion;

/// A version that this participant behaves like.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Version {
    /// Which messages it speaks.
    pub line: Line,
    /// What it says in its status.
    text: String,
}

/// Versions with the same messages.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Line {
    /// 3.3.x: protocol version 33.
    V33,
    /// 3.4.x: protocol version 34.
    V34,
    /// 3.5.x: protocol versions 34 and 35.
    V35,
}

/// Why text is no version.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("version {found:?} is none of 3.3.x, 3.4.x, 3.5.x")]
pub struct ParseVersionError {
    /// The text.
    pub found: String,
}

impl Line {
    /// Whether a participant of this version can connect to such a synchronizer.
    pub fn speaks(self, protocol_version: u32) -> bool {
        match self {
            Self::V33 => protocol_version == 33,
            Self::V34 => protocol_version == 34,
            Self::V35 => (34..=35).contains(&protocol_version),
        }
    }
}

/// The newest contract ids of a protocol version.
pub fn contract_id_version_max(protocol_version: u32) -> ContractIdVersion {
    if protocol_version < 34 { ContractIdVersion::V11 } else { ContractIdVersion::V12 }
}

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseVersionError { found: text.chars().take(40).collect() };
        let rest = [("3.3.", Line::V33), ("3.4.", Line::V34), ("3.5.", Line::V35)];
        let (patch, line) = rest
            .iter()
            .find_map(|(start, line)| Some((text.strip_prefix(start)?, *line)))
            .ok_or_else(wrong)?;
        // A patch, and perhaps what comes after it, as in `3.5.1-SNAPSHOT`.
        let digits = patch.split('-').next().unwrap_or_default();
        let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
        if !is_number || text.len() > 40 {
            return Err(wrong());
        }
        Ok(Self { line, text: text.to_owned() })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_belongs_to_a_line() {
        for (text, line) in
            [("3.3.0", Line::V33), ("3.4.11", Line::V34), ("3.5.1-SNAPSHOT", Line::V35)]
        {
            let version: Version = text.parse().unwrap();
            assert_eq!((version.line, version.to_string()), (line, text.to_owned()));
        }
        for text in ["", "3.5", "3.5.", "3.5.x", "3.6.1", "2.10.1", "13.5.1"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
    }
}
