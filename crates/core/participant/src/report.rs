//! What a rewrite leaves as it is although somebody may expect otherwise.

use std::collections::BTreeMap;
use std::fmt;

use heirloom_canton::contract_id::ContractId;
use heirloom_canton::name::Party;
use heirloom_canton::value::walk::Path;

/// Findings of one kind that are listed. All of them are counted.
pub const LISTED_MAX: usize = 1_000;
/// Parties that are listed: every stakeholder of every other participant may be one.
pub const PARTIES_LISTED_MAX: usize = 100_000;
/// How much of a text is shown.
pub const EXCERPT_CHARACTERS_MAX: usize = 120;

/// Which value of a contract.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Part {
    /// What it was created with.
    Argument,
    /// Its key.
    Key,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Argument => "argument",
            Self::Key => "key",
        })
    }
}

/// Why a text is worth a look.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Mention {
    /// It has a namespace that parties leave.
    Moved,
    /// It has something that looks like a party, a participant or a synchronizer.
    Other,
}

/// A text, or a key of a text map, that a rewrite does not touch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TextNote {
    /// The contract, under its old id.
    pub contract: ContractId,
    /// Which of its values.
    pub part: Part,
    /// Where in the value.
    pub path: Path,
    /// Why it is listed.
    pub mention: Mention,
    /// How it begins.
    pub excerpt: String,
}

/// A reference to a contract that is not in the snapshot. It keeps its id.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutsideNote {
    /// Who refers, under its old id.
    pub contract: ContractId,
    /// To whom.
    pub reference: ContractId,
}

/// What one contract gives rise to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Notes {
    /// Parties without a new name, and how often they occur.
    pub staying: BTreeMap<Party, u64>,
    /// How many parties were replaced.
    pub replaced: u64,
    /// Texts, in their order.
    pub texts: Vec<TextNote>,
    /// References out of the snapshot, in their order.
    pub outside: Vec<OutsideNote>,
    /// References inside of the snapshot.
    pub inside: u64,
}

/// What a snapshot gives rise to. The same for every number of cores.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// Contracts in the snapshot.
    pub contracts: u64,
    /// Those that have another id now.
    pub renamed: u64,
    /// How many parties were replaced.
    pub replaced: u64,
    /// Parties without a new name, and how often they occur.
    pub staying: BTreeMap<Party, u64>,
    /// Whether there are more of them than are listed.
    pub more_staying: bool,
    /// Texts that mention a namespace that parties leave.
    pub texts_moved: u64,
    /// Texts that look otherwise like a name.
    pub texts_other: u64,
    /// The first of these texts, in the order of the snapshot; those of each kind have room.
    pub texts: Vec<TextNote>,
    /// References inside of the snapshot.
    pub inside: u64,
    /// References out of it.
    pub outside: u64,
    /// The first of these.
    pub outside_listed: Vec<OutsideNote>,
}

impl Report {
    /// Adds the next contract of the snapshot.
    pub fn add(&mut self, renamed: bool, notes: Notes) {
        self.contracts = self.contracts.saturating_add(1);
        self.renamed = self.renamed.saturating_add(u64::from(renamed));
        self.replaced = self.replaced.saturating_add(notes.replaced);
        self.inside = self.inside.saturating_add(notes.inside);
        for (party, occurs) in notes.staying {
            if let Some(count) = self.staying.get_mut(&party) {
                *count = count.saturating_add(occurs);
            } else if self.staying.len() < PARTIES_LISTED_MAX {
                self.staying.insert(party, occurs);
            } else {
                self.more_staying = true;
            }
        }
        for note in notes.texts {
            let count = match note.mention {
                Mention::Moved => &mut self.texts_moved,
                Mention::Other => &mut self.texts_other,
            };
            *count = count.saturating_add(1);
            // Each kind has room of its own: many of one do not hide the other.
            if *count <= as_count(LISTED_MAX) {
                self.texts.push(note);
            }
        }
        for note in notes.outside {
            self.outside = self.outside.saturating_add(1);
            if self.outside_listed.len() < LISTED_MAX {
                self.outside_listed.push(note);
            }
        }
    }

    /// The report as text: a line for each finding.
    pub fn to_text(&self) -> String {
        let mut lines = vec![
            "heirloom rewrite report 1".to_owned(),
            format!("contracts {}", self.contracts),
            format!("contracts with a new id {}", self.renamed),
            format!("parties replaced {}", self.replaced),
            format!("references inside {}", self.inside),
            format!("references outside {}", self.outside),
            format!("texts with a namespace that parties leave {}", self.texts_moved),
            format!("texts with another name {}", self.texts_other),
        ];
        for (party, count) in &self.staying {
            lines.push(format!("party stays {party} {count}"));
        }
        if self.more_staying {
            lines.push(format!("more parties stay than the {PARTIES_LISTED_MAX} above"));
        }
        for note in &self.texts {
            let TextNote { contract, part, path, mention, excerpt } = note;
            let kind = match mention {
                Mention::Moved => "text mentions an old namespace",
                Mention::Other => "text mentions a name",
            };
            lines.push(format!("{kind} {contract} {part}: {path}: {excerpt:?}"));
        }
        for OutsideNote { contract, reference } in &self.outside_listed {
            lines.push(format!("reference outside {contract} {reference}"));
        }
        lines.push("end\n".to_owned());
        lines.join("\n")
    }
}

fn as_count(limit: usize) -> u64 {
    u64::try_from(limit).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ContractId {
        format!("00{}", format!("{number:02x}").repeat(32)).parse().unwrap()
    }

    fn text(mention: Mention) -> TextNote {
        let (contract, path) = (id(1), Path::default());
        TextNote { contract, part: Part::Argument, path, mention, excerpt: "x".to_owned() }
    }

    #[test]
    fn everything_is_counted_and_so_much_is_listed() {
        let mut report = Report::default();
        for _ in 0..LISTED_MAX + 5 {
            let outside = vec![OutsideNote { contract: id(1), reference: id(2) }];
            let staying = BTreeMap::from([("a::1".parse().unwrap(), 2)]);
            let texts = vec![text(Mention::Other)];
            report.add(true, Notes { staying, texts, outside, ..Notes::default() });
        }
        report.add(false, Notes { texts: vec![text(Mention::Moved)], ..Notes::default() });
        assert_eq!(report.contracts, as_count(LISTED_MAX) + 6);
        assert_eq!(report.renamed, as_count(LISTED_MAX) + 5);
        assert_eq!(report.outside, as_count(LISTED_MAX) + 5);
        assert_eq!(report.outside_listed.len(), LISTED_MAX);
        assert_eq!(report.texts.len(), LISTED_MAX + 1);
        assert_eq!(report.staying.values().sum::<u64>(), 2 * (as_count(LISTED_MAX) + 5));
        assert!(report.to_text().contains("party stays a::1 2010\n"));
    }
}
