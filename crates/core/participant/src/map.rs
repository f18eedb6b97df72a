//! Which party becomes which: one name in the namespace of the new keys for each party that a
//! participant hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use heirloom_canton::name::Party;
use heirloom_model::digest::PartyMapDigest;
use heirloom_model::participant::{PartyMove, map_digest};
use heirloom_model::party::{Namespace, ParsePartyError, ParticipantId, PartyId};

/// Parties of one map. The largest participants host some hundred thousand.
pub const PARTIES_MAX: usize = 1_000_000;
/// A map as text: two names of 255 characters a line.
pub const TEXT_BYTES_MAX: usize = PARTIES_MAX * 520;

/// The first line of a map as text.
const HEADER: &str = "heirloom party map 1";
/// Between the old name and the new one. No name contains `>`.
const ARROW: &str = " -> ";
/// In front of the number of lines, at the end.
const END: &str = "end ";

/// Why there is no such map.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MapError {
    /// A party is not in the participant's namespace: it holds its keys itself or belongs to
    /// somebody else, so a new name would be a new party without its consent.
    #[error(
        "{party} is not in the namespace of {source_participant}: who holds its keys must agree"
    )]
    External {
        /// The party.
        party: PartyId,
        /// The participant whose parties move.
        source_participant: ParticipantId,
    },
    /// A party would get the name it has.
    #[error("{party} would keep its name: the new namespace is the old one")]
    Unchanged {
        /// The party.
        party: PartyId,
    },
    /// Two parties would become one.
    #[error("{first} and {second} would both become {new}")]
    Collision {
        /// One party.
        first: PartyId,
        /// Another party.
        second: PartyId,
        /// Their new name.
        new: PartyId,
    },
    /// One party would become two.
    #[error("{party} would become {first} and also {second}")]
    Conflict {
        /// The party.
        party: PartyId,
        /// One new name.
        first: PartyId,
        /// Another new name.
        second: PartyId,
    },
    /// A new name is the old name of another party: applying the map twice would move it on.
    #[error("{party} is a new name and an old one")]
    Chain {
        /// The party.
        party: PartyId,
    },
    /// The new name is not one.
    #[error("{party} has no name in the new namespace")]
    Name {
        /// The party.
        party: PartyId,
        /// Why.
        #[source]
        source: ParsePartyError,
    },
    /// More parties than one map has.
    #[error("a map has at most {limit} parties")]
    TooMany {
        /// How many it may have.
        limit: usize,
    },
}

/// Why text is not a party map.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseMapError {
    /// The first line is another one.
    #[error("a party map starts with the line {HEADER:?}")]
    Header,
    /// A line has no arrow.
    #[error("line {line} is not \"old -> new\"")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A name is not one.
    #[error("line {line} has no party")]
    Party {
        /// Counted from 1.
        line: usize,
        /// Why.
        #[source]
        source: ParsePartyError,
    },
    /// It ends before its last line, or has more behind it.
    #[error("a party map ends with a line that says how many parties it has")]
    End,
    /// It says the same as a map and is written differently: order, count, white space.
    #[error("line {line} is not how a party map is written")]
    NotCanonical {
        /// Counted from 1.
        line: usize,
    },
    /// More bytes than any map has.
    #[error("a party map has at most {limit} bytes")]
    TooLong {
        /// How many it may have.
        limit: usize,
    },
    /// Its lines contradict each other.
    #[error("no such map is possible")]
    Map(#[from] MapError),
}

/// Old names and new names, one to one. No name is both.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartyMap {
    moves: BTreeMap<PartyId, PartyId>,
    /// The same, for names that were found in contracts.
    found: BTreeMap<Party, Party>,
    /// The new names.
    new: BTreeSet<Party>,
    /// Of the old names.
    namespaces: BTreeSet<Namespace>,
}

impl PartyMap {
    /// The map of one participant: each party that it hosts, in the new namespace.
    ///
    /// The party that stands for the participant itself does not move: the new participant has its
    /// own. Parties that `stay` do not move either; that is for parties that hold their own keys,
    /// which are refused otherwise.
    pub fn of_participant(
        source: &ParticipantId,
        hosted: &BTreeSet<PartyId>,
        stay: &BTreeSet<PartyId>,
        namespace: &Namespace,
    ) -> Result<Self, MapError> {
        let (admin, own) = (source.admin_party(), source.namespace());
        let mut moves = Vec::new();
        for party in hosted {
            if *party == admin || stay.contains(party) {
                continue;
            }
            if party.namespace() != own {
                let (party, source_participant) = (party.clone(), source.clone());
                return Err(MapError::External { party, source_participant });
            }
            let new = party
                .moved_to(namespace)
                .map_err(|source| MapError::Name { party: party.clone(), source })?;
            moves.push((party.clone(), new));
        }
        Self::from_moves(moves)
    }

    /// Any map that is one to one, changes every name that it has, and can be applied once only.
    pub fn from_moves(
        pairs: impl IntoIterator<Item = (PartyId, PartyId)>,
    ) -> Result<Self, MapError> {
        let mut moves = BTreeMap::new();
        let mut backwards: BTreeMap<PartyId, PartyId> = BTreeMap::new();
        for (party, new) in pairs {
            if party == new {
                return Err(MapError::Unchanged { party });
            }
            if let Some(first) = moves.insert(party.clone(), new.clone()) {
                if first == new {
                    continue;
                }
                return Err(MapError::Conflict { party, first, second: new });
            }
            if let Some(first) = backwards.insert(new.clone(), party.clone()) {
                return Err(MapError::Collision { first, second: party, new });
            }
            if moves.len() > PARTIES_MAX {
                return Err(MapError::TooMany { limit: PARTIES_MAX });
            }
        }
        if let Some(party) = moves.keys().find(|party| backwards.contains_key(*party)) {
            return Err(MapError::Chain { party: party.clone() });
        }
        let namespaces = moves.keys().map(PartyId::namespace).collect();
        let found = moves.iter().map(|(old, new)| (old.into(), new.into())).collect();
        let new = backwards.keys().map(Party::from).collect();
        Ok(Self { moves, found, new, namespaces })
    }

    /// What all operators agree on: the maps of all participants as one.
    pub fn union<'m>(parts: impl IntoIterator<Item = &'m Self>) -> Result<Self, MapError> {
        let pairs = parts.into_iter().flat_map(Self::moves);
        Self::from_moves(pairs.map(|(old, new)| (old.clone(), new.clone())))
    }

    /// The way back.
    #[must_use]
    pub fn invert(&self) -> Self {
        let backwards = self.moves.iter().map(|(old, new)| (new.clone(), old.clone()));
        Self::from_moves(backwards).expect("a map that is one to one has an inverse")
    }

    /// The new name of a party, or none if it stays.
    pub fn get(&self, party: &PartyId) -> Option<&PartyId> {
        self.moves.get(party)
    }

    /// The new name of a party that was found in a contract.
    pub fn renamed(&self, party: &Party) -> Option<&Party> {
        self.found.get(party)
    }

    /// Whether this is a name that the map gives to another party.
    pub fn gives(&self, party: &Party) -> bool {
        self.new.contains(party)
    }

    /// Old and new names, sorted by the old ones.
    pub fn moves(&self) -> impl ExactSizeIterator<Item = (&PartyId, &PartyId)> {
        self.moves.iter()
    }

    /// The namespaces that parties leave.
    pub fn old_namespaces(&self) -> &BTreeSet<Namespace> {
        &self.namespaces
    }

    /// How many parties move.
    pub fn len(&self) -> usize {
        self.moves.len()
    }

    /// Whether nobody moves.
    pub fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// What operators agree to.
    pub fn digest(&self) -> PartyMapDigest {
        let moves: Vec<PartyMove> = self
            .moves
            .iter()
            .map(|(from, to)| PartyMove { from: from.clone(), to: to.clone() })
            .collect();
        map_digest(&moves)
    }

    /// The map as text. A map has exactly one.
    pub fn to_text(&self) -> String {
        let mut text = format!("{HEADER}\n");
        for (old, new) in &self.moves {
            writeln!(text, "{old}{ARROW}{new}").expect("text grows in memory");
        }
        writeln!(text, "{END}{}", self.moves.len()).expect("text grows in memory");
        text
    }

    /// Reads the text of a map. Nothing but what [`Self::to_text`] writes is one.
    pub fn parse(text: &str) -> Result<Self, ParseMapError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ParseMapError::TooLong { limit: TEXT_BYTES_MAX });
        }
        let mut lines = text.lines();
        if lines.next() != Some(HEADER) {
            return Err(ParseMapError::Header);
        }
        let mut pairs = Vec::new();
        let mut ended = false;
        for (index, content) in lines.enumerate() {
            // Lines are counted from 1, and the header is the first.
            let line = index.saturating_add(2);
            if ended {
                return Err(ParseMapError::End);
            }
            if content.starts_with(END) && !content.contains(ARROW) {
                ended = true;
                continue;
            }
            let (old, new) = content.split_once(ARROW).ok_or(ParseMapError::Line { line })?;
            let party =
                |text: &str| text.parse().map_err(|source| ParseMapError::Party { line, source });
            pairs.push((party(old)?, party(new)?));
        }
        if !ended {
            return Err(ParseMapError::End);
        }
        let map = Self::from_moves(pairs)?;
        match first_difference(text, &map.to_text()) {
            None => Ok(map),
            Some(line) => Err(ParseMapError::NotCanonical { line }),
        }
    }
}

/// The first line, counted from 1, in which two texts differ.
fn first_difference(found: &str, canonical: &str) -> Option<usize> {
    if found == canonical {
        return None;
    }
    let (mut found, mut canonical) = (found.split('\n'), canonical.split('\n'));
    let mut line = 1_usize;
    // One of the two ends at last, and they differ before.
    while let (Some(a), Some(b)) = (found.next(), canonical.next()) {
        if a != b {
            break;
        }
        line = line.saturating_add(1);
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(text: &str) -> PartyId {
        text.parse().unwrap()
    }

    fn parties(texts: &[&str]) -> BTreeSet<PartyId> {
        texts.iter().map(|text| party(text)).collect()
    }

    fn of(hosted: &[&str], stay: &[&str], namespace: &str) -> Result<PartyMap, MapError> {
        let source = "node::1220aa".parse().unwrap();
        let namespace = namespace.parse().unwrap();
        PartyMap::of_participant(&source, &parties(hosted), &parties(stay), &namespace)
    }

    #[test]
    fn hosted_parties_move_and_the_admin_party_stays() {
        let map = of(&["node::1220aa", "a::1220aa", "b 1::1220aa"], &[], "1220bb").unwrap();
        let text = "heirloom party map 1\n\
            a::1220aa -> a::1220bb\n\
            b 1::1220aa -> b 1::1220bb\n\
            end 2\n";
        assert_eq!(map.to_text(), text);
        assert_eq!(PartyMap::parse(text).unwrap(), map);
        assert_eq!(map.get(&party("node::1220aa")), None);
        assert_eq!(map.invert().invert(), map);
        assert_ne!(map.invert().digest(), map.digest());
    }

    #[test]
    fn a_party_of_another_namespace_is_refused_unless_it_stays() {
        let hosted = ["a::1220aa", "wallet::1220cc"];
        let error = of(&hosted, &[], "1220bb").unwrap_err();
        assert!(matches!(error, MapError::External { .. }), "{error:?}");
        assert_eq!(of(&hosted, &["wallet::1220cc"], "1220bb").unwrap().len(), 1);
    }

    #[test]
    fn the_same_namespace_is_refused() {
        let error = of(&["a::1220aa"], &[], "1220aa").unwrap_err();
        assert_eq!(error, MapError::Unchanged { party: party("a::1220aa") });
    }

    #[test]
    fn each_contradiction_of_a_map_is_refused() {
        type Check = fn(&MapError) -> bool;
        let cases: [(&[(&str, &str)], Check); 3] = [
            (&[("a::1", "a::3"), ("a::2", "a::3")], |e| matches!(e, MapError::Collision { .. })),
            (&[("a::1", "a::2"), ("a::1", "a::3")], |e| matches!(e, MapError::Conflict { .. })),
            (&[("a::1", "a::2"), ("a::2", "a::3")], |e| matches!(e, MapError::Chain { .. })),
        ];
        for (pairs, is_expected) in cases {
            let pairs = pairs.iter().map(|(old, new)| (party(old), party(new)));
            let error = PartyMap::from_moves(pairs).unwrap_err();
            assert!(is_expected(&error), "{error:?}");
        }
    }

    #[test]
    fn parts_of_operators_make_one_map_unless_they_conflict() {
        let map = |pairs: &[(&str, &str)]| {
            PartyMap::from_moves(pairs.iter().map(|(a, b)| (party(a), party(b)))).unwrap()
        };
        let one = map(&[("a::1", "a::2"), ("c::1", "c::2")]);
        let other = map(&[("b::3", "b::4"), ("c::1", "c::2")]);
        let both = PartyMap::union([&one, &other]).unwrap();
        assert_eq!(both.len(), 3);
        assert_eq!(both, PartyMap::union([&other, &one]).unwrap());
        let against = map(&[("a::1", "a::4")]);
        let error = PartyMap::union([&one, &against]).unwrap_err();
        assert!(matches!(error, MapError::Conflict { .. }), "{error:?}");
    }

    #[test]
    fn a_second_spelling_of_a_map_is_refused() {
        let good = "heirloom party map 1\na::1 -> a::2\nb::1 -> b::2\nend 2\n";
        PartyMap::parse(good).unwrap();
        let parse = |from: &str, to: &str| PartyMap::parse(&good.replace(from, to)).unwrap_err();
        let not_canonical = |line| ParseMapError::NotCanonical { line };
        assert_eq!(parse("map 1", "map 2"), ParseMapError::Header);
        assert_eq!(parse("a::1 -> a::2", "c::1 -> c::2"), not_canonical(2));
        assert_eq!(parse("end 2", "end 3"), not_canonical(4));
        assert_eq!(parse("end 2", "end 02"), not_canonical(4));
        assert_eq!(parse("end 2\n", "end 2"), not_canonical(5));
        assert_eq!(parse("end 2\n", "end 2\n\n"), ParseMapError::End);
        assert_eq!(parse("end 2\n", ""), ParseMapError::End);
        assert_eq!(parse("\n", "\r\n"), not_canonical(1));
        assert_eq!(parse("a::1 -> a::2", "a::1 a::2"), ParseMapError::Line { line: 2 });
        let doubled = parse("a::1 -> a::2\n", "a::1 -> a::2\na::1 -> a::2\n");
        assert_eq!(doubled, not_canonical(3));
        let error = parse("a::2", "a:2");
        assert!(matches!(error, ParseMapError::Party { line: 2, .. }), "{error:?}");
    }
}
