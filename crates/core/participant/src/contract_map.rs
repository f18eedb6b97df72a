//! Which contract became which: a line for each contract of a snapshot, in its order.
//!
//! References to contracts outside of the ledger need it: databases, reports, applications.

use std::io::BufRead;

use aws_lc_rs::digest::{Context, SHA256};
use heirloom_canton::contract_id::{ContractId, ContractIdError};
use heirloom_model::context;

heirloom_model::fixed_bytes! {
    /// A map of contract ids, old to new: SHA-256 of its text.
    ContractMapDigest[32];
}

/// The first line.
const HEADER: &str = "heirloom contract map 1\n";
/// In front of the number of contracts, at the end.
const END: &str = "end ";
/// The longest line: two ids of 127 bytes as hexadecimal text.
const LINE_BYTES_MAX: u64 = 512;

/// Writes the text of a map piece by piece and digests it.
pub struct ContractMapText {
    digest: Context,
    count: u64,
}

impl Default for ContractMapText {
    fn default() -> Self {
        let mut digest = Context::new(&SHA256);
        digest.update(context::CONTRACT_MAP_DIGEST);
        Self { digest, count: 0 }
    }
}

impl ContractMapText {
    /// What comes first.
    pub fn begin(&mut self) -> &'static str {
        self.digest.update(HEADER.as_bytes());
        HEADER
    }

    /// The line of one contract.
    pub fn line(old: &ContractId, new: &ContractId) -> String {
        format!("{old} {new}\n")
    }

    /// Takes note of lines that are written, of so many contracts.
    pub fn wrote(&mut self, lines: &str, contracts: u64) {
        self.digest.update(lines.as_bytes());
        self.count = self.count.saturating_add(contracts);
    }

    /// What comes last, and the digest of everything.
    pub fn end(mut self) -> (String, ContractMapDigest) {
        let end = format!("{END}{}\n", self.count);
        self.digest.update(end.as_bytes());
        (end, digest(self.digest))
    }
}

fn digest(context: Context) -> ContractMapDigest {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    ContractMapDigest::new(bytes)
}

/// Why a contract map was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ContractMapError {
    /// The first line is another one.
    #[error("a contract map starts with the line \"heirloom contract map 1\"")]
    Header,
    /// A line is not two ids and one space.
    #[error("line {line} is not two contract ids and a space between them")]
    Line {
        /// Counted from 1.
        line: u64,
    },
    /// An id is not one.
    #[error("line {line} has no contract id")]
    Id {
        /// Counted from 1.
        line: u64,
        /// Why.
        #[source]
        source: ContractIdError,
    },
    /// The two ids cannot be of one contract.
    #[error("line {line} maps a contract to one with another discriminator or version")]
    Unrelated {
        /// Counted from 1.
        line: u64,
    },
    /// It ends before its last line, or has more behind it, or another number of lines.
    #[error("the contract map ends at line {line} without saying so, or not where it says")]
    End {
        /// Counted from 1.
        line: u64,
    },
    /// It could not be read.
    #[error("the contract map cannot be read")]
    Read(#[source] std::io::Error),
}

/// Reads the text of a map line by line.
pub struct ContractMapReader<R> {
    from: R,
    digest: Context,
    /// How many were read.
    line: u64,
    count: u64,
}

impl<R: BufRead> ContractMapReader<R> {
    /// Reads the first line.
    pub fn new(from: R) -> Result<Self, ContractMapError> {
        let mut digest = Context::new(&SHA256);
        digest.update(context::CONTRACT_MAP_DIGEST);
        let mut reader = Self { from, digest, line: 0, count: 0 };
        if reader.read_line()?.as_deref() == Some(HEADER) {
            Ok(reader)
        } else {
            Err(ContractMapError::Header)
        }
    }

    /// The next contract's old and new id; none behind the last one, when everything was as it
    /// should be.
    pub fn read(&mut self) -> Result<Option<(ContractId, ContractId)>, ContractMapError> {
        let text = self.read_line()?;
        let line = self.line;
        let content = text
            .as_deref()
            .and_then(|text| text.strip_suffix('\n'))
            .ok_or(ContractMapError::End { line })?;
        if let Some(count) = content.strip_prefix(END) {
            let complete = count == self.count.to_string() && self.read_line()?.is_none();
            return if complete { Ok(None) } else { Err(ContractMapError::End { line }) };
        }
        let (old, new) = content.split_once(' ').ok_or(ContractMapError::Line { line })?;
        let id = |text: &str| {
            text.parse::<ContractId>().map_err(|source| ContractMapError::Id { line, source })
        };
        let (old, new) = (id(old)?, id(new)?);
        if old.discriminator() != new.discriminator() || old.version() != new.version() {
            return Err(ContractMapError::Unrelated { line });
        }
        self.count = self.count.saturating_add(1);
        Ok(Some((old, new)))
    }

    /// The digest of what was read so far: of the map, when it was read to its end.
    pub fn digest(&self) -> ContractMapDigest {
        digest(self.digest.clone())
    }

    fn read_line(&mut self) -> Result<Option<String>, ContractMapError> {
        let mut text = String::new();
        std::io::Read::take(&mut self.from, LINE_BYTES_MAX)
            .read_line(&mut text)
            .map_err(ContractMapError::Read)?;
        self.digest.update(text.as_bytes());
        if text.is_empty() {
            return Ok(None);
        }
        self.line = self.line.saturating_add(1);
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(discriminator: u8, last: u8) -> ContractId {
        let unicum = format!("1220{}{last:02x}", "00".repeat(31));
        let text = format!("00{}ca12{unicum}", format!("{discriminator:02x}").repeat(32));
        text.parse().unwrap()
    }

    fn text() -> (String, ContractMapDigest) {
        let mut map = ContractMapText::default();
        let mut text = map.begin().to_owned();
        for discriminator in 1..4 {
            let line = ContractMapText::line(&id(discriminator, 1), &id(discriminator, 2));
            map.wrote(&line, 1);
            text.push_str(&line);
        }
        let (end, digest) = map.end();
        (text + &end, digest)
    }

    fn read(
        text: &str,
    ) -> Result<(Vec<(ContractId, ContractId)>, ContractMapDigest), ContractMapError> {
        let mut reader = ContractMapReader::new(text.as_bytes())?;
        let mut found = Vec::new();
        while let Some(pair) = reader.read()? {
            found.push(pair);
        }
        Ok((found, reader.digest()))
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (text, digest) = text();
        let (found, found_digest) = read(&text).unwrap();
        assert_eq!(found, [1, 2, 3].map(|n| (id(n, 1), id(n, 2))));
        assert_eq!(found_digest, digest);
    }

    #[test]
    fn each_deviation_is_refused() {
        type Check = fn(&ContractMapError) -> bool;
        let (good, _) = text();
        let (old, new) = (id(2, 1).to_string(), id(2, 2).to_string());
        let cases: [(String, Check); 8] = [
            (good.replace("map 1", "map 2"), |e| matches!(e, ContractMapError::Header)),
            (good.replace("end 3", "end 4"), |e| matches!(e, ContractMapError::End { .. })),
            (good.replace("end 3\n", "end 3"), |e| matches!(e, ContractMapError::End { .. })),
            (good.replace("end 3\n", ""), |e| matches!(e, ContractMapError::End { .. })),
            (format!("{good}\n"), |e| matches!(e, ContractMapError::End { .. })),
            (good.replace(&format!("{old} "), &format!("{old}\t")), |e| {
                matches!(e, ContractMapError::Line { .. })
            }),
            (good.replace(&new, &old.replace("02", "05")), |e| {
                matches!(e, ContractMapError::Unrelated { .. })
            }),
            (good.replace(&old, &old.replace("ca12", "CA12")), |e| {
                matches!(e, ContractMapError::Id { .. })
            }),
        ];
        for (number, (text, is_expected)) in cases.into_iter().enumerate() {
            let error = read(&text).unwrap_err();
            assert!(is_expected(&error), "{number}: {error:?}");
        }
        for length in 0..good.len() {
            read(&good[..length]).unwrap_err();
        }
    }
}
