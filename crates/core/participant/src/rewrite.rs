//! One contract under its new parties.
//!
//! What changes: parties in the argument and in the key at any depth, both lists of stakeholders,
//! maintainers, references to contracts that change, the hash of the key, and with all of that the
//! id. What stays: the discriminator, the salt, the time of creation, the template, the package and
//! the version of the id. So every operator who applies the same map to the same contract gets the
//! same bytes.

use std::cell::RefCell;
use std::collections::BTreeSet;

use heirloom_canton::authenticate::{
    AuthenticContract, AuthenticateError, recompute, recompute_key_hash,
};
use heirloom_canton::blob::{FatContract, KeyWithMaintainers};
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::name::Party;
use heirloom_canton::types::TypeStore;
use heirloom_canton::value::Value;
use heirloom_canton::value::walk::{KeyCollision, Leaf, Mapping};

use crate::map::PartyMap;
use crate::report::{EXCERPT_CHARACTERS_MAX, Mention, Notes, OutsideNote, Part, TextNote};

/// Why a contract has no equivalent under the new parties.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// Two keys of a map would become one, and one of two values would be lost.
    #[error("in the {part}")]
    Collision {
        /// Which value.
        part: Part,
        /// Where.
        #[source]
        source: KeyCollision,
    },
    /// A party that the map is about to make occurs already: two parties would become one.
    #[error("{party} occurs already, and the map would give its name to another party")]
    Occurs {
        /// The party.
        party: Party,
    },
    /// The new id cannot be computed.
    #[error("the new id cannot be computed")]
    Id(#[source] AuthenticateError),
    /// The hash of its key cannot be computed.
    #[error("the hash of the new key cannot be computed")]
    Key(#[source] heirloom_canton::contract_hash::typed::HashError),
}

/// A contract under its new parties, with the id that belongs to them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rewritten {
    /// The contract.
    pub contract: FatContract,
    /// What was left as it is.
    pub notes: Notes,
}

/// Whether a contract that others refer to is in the snapshot.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reference {
    /// It is, and this is its new id.
    Inside(ContractId),
    /// It is not: it was archived, or somebody else has it. It keeps its id.
    Outside,
}

/// Rewrites a contract that reproduced its own id.
pub fn rewrite(
    contract: &AuthenticContract<'_>,
    map: &PartyMap,
    resolve: &dyn Fn(&ContractId) -> Reference,
    types: &dyn TypeStore,
) -> Result<Rewritten, RewriteError> {
    let old = contract.contract();
    let notes = Notes { texts: text_notes(old, map), ..Notes::default() };
    let replacing = Replacing::new(map, resolve, &old.contract_id, notes);
    let value = |part, value: &Value| {
        value.rewritten(&replacing).map_err(|source| RewriteError::Collision { part, source })
    };
    let create_arg = value(Part::Argument, &old.create_arg)?;
    let parties = |parties: &BTreeSet<Party>| -> BTreeSet<Party> {
        let new = parties.iter().map(|party| replacing.of(party));
        new.collect()
    };
    let (signatories, observers) = (parties(&old.signatories), parties(&old.observers));
    let key = match &old.key {
        None => None,
        Some(old_key) => {
            let key = value(Part::Key, &old_key.key)?;
            let maintainers = parties(&old_key.maintainers);
            Some(KeyWithMaintainers { key, maintainers, hash: old_key.hash })
        }
    };
    let mut new = FatContract { create_arg, signatories, observers, key, ..old.clone() };
    let notes = replacing.finish()?;
    let key_hash = recompute_key_hash(&new, types).map_err(RewriteError::Key)?;
    if let Some(key) = new.key.as_mut().filter(|key| key.hash.is_some()) {
        key.hash = key_hash;
    }
    new.contract_id = recompute(&new, types).map_err(RewriteError::Id)?;
    Ok(Rewritten { contract: new, notes })
}

/// The ids that a contract refers to, each once.
pub fn references(contract: &FatContract) -> BTreeSet<ContractId> {
    let mut found = BTreeSet::new();
    let mut see = |_: &_, leaf: Leaf<'_>| {
        if let Leaf::ContractId(id) = leaf {
            found.insert(id.clone());
        }
    };
    contract.create_arg.visit(&mut see);
    if let Some(key) = &contract.key {
        key.key.visit(&mut see);
    }
    found
}

/// The texts in a contract that a rewrite with this map does not touch although they look like
/// names.
pub fn text_notes(contract: &FatContract, map: &PartyMap) -> Vec<TextNote> {
    let mut notes = Vec::new();
    let key = contract.key.as_ref().map(|key| (Part::Key, &key.key));
    for (part, value) in [(Part::Argument, &contract.create_arg)].into_iter().chain(key) {
        for found in value.texts_like_parties() {
            notes.push(TextNote {
                contract: contract.contract_id.clone(),
                part,
                path: found.path,
                mention: mention(&found.text, map),
                excerpt: found.text.chars().take(EXCERPT_CHARACTERS_MAX).collect(),
            });
        }
    }
    notes
}

fn mention(text: &str, map: &PartyMap) -> Mention {
    let mentions = |namespace: &_| text.contains(&format!("::{namespace}"));
    if map.old_namespaces().iter().any(mentions) { Mention::Moved } else { Mention::Other }
}

/// The same changes for what people read beside a contract, where nothing is noted.
pub struct Moves<'r> {
    map: &'r PartyMap,
    resolve: &'r dyn Fn(&ContractId) -> Reference,
}

impl<'r> Moves<'r> {
    /// The changes that [`rewrite`] makes with the same arguments.
    pub fn new(map: &'r PartyMap, resolve: &'r dyn Fn(&ContractId) -> Reference) -> Self {
        Self { map, resolve }
    }
}

impl Mapping for Moves<'_> {
    fn party(&self, party: &Party) -> Option<Party> {
        self.map.renamed(party).cloned()
    }

    fn contract_id(&self, id: &ContractId) -> Option<ContractId> {
        match (self.resolve)(id) {
            Reference::Inside(new) => Some(new),
            Reference::Outside => None,
        }
    }
}

/// Replaces parties and references, and takes note of what it does not replace.
struct Replacing<'r> {
    map: &'r PartyMap,
    resolve: &'r dyn Fn(&ContractId) -> Reference,
    contract: &'r ContractId,
    // Values are rewritten through a shared reference.
    noted: RefCell<Noted>,
}

struct Noted {
    notes: Notes,
    occurs: Option<Party>,
}

impl<'r> Replacing<'r> {
    fn new(
        map: &'r PartyMap,
        resolve: &'r dyn Fn(&ContractId) -> Reference,
        contract: &'r ContractId,
        notes: Notes,
    ) -> Self {
        Self { map, resolve, contract, noted: RefCell::new(Noted { notes, occurs: None }) }
    }

    fn of(&self, party: &Party) -> Party {
        self.party(party).unwrap_or_else(|| party.clone())
    }

    fn finish(self) -> Result<Notes, RewriteError> {
        let Noted { notes, occurs } = self.noted.into_inner();
        match occurs {
            Some(party) => Err(RewriteError::Occurs { party }),
            None => Ok(notes),
        }
    }
}

impl Mapping for Replacing<'_> {
    fn party(&self, party: &Party) -> Option<Party> {
        let mut noted = self.noted.borrow_mut();
        if let Some(new) = self.map.renamed(party) {
            noted.notes.replaced = noted.notes.replaced.saturating_add(1);
            return Some(new.clone());
        }
        if self.map.gives(party) {
            noted.occurs.get_or_insert_with(|| party.clone());
        }
        let count = noted.notes.staying.entry(party.clone()).or_default();
        *count = count.saturating_add(1);
        None
    }

    fn contract_id(&self, id: &ContractId) -> Option<ContractId> {
        match (self.resolve)(id) {
            Reference::Inside(new) => {
                let notes = &mut self.noted.borrow_mut().notes;
                notes.inside = notes.inside.saturating_add(1);
                Some(new)
            }
            Reference::Outside => {
                let (contract, reference) = (self.contract.clone(), id.clone());
                let note = OutsideNote { contract, reference };
                self.noted.borrow_mut().notes.outside.push(note);
                None
            }
        }
    }
}
