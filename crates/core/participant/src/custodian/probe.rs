//! What a live custodian says about itself, and how that differs from the table.

use std::collections::{BTreeMap, BTreeSet};

use crate::custodian::key::{
    Description, KeyHandle, KeyRequest, KeyScheme, KeyUsage, Label, Operation, ParseKeyError,
};
use crate::custodian::table::{self, Product, Says};
use crate::custodian::{Custodian, CustodianError, FailureKind};

/// What a trial key signs.
const TRIAL: &[u8] = b"heirloom: a trial of a key";

/// What a custodian says that it can do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Abilities {
    /// Its own words about itself: manufacturer, model, version.
    pub product: String,
    /// What was learned by asking.
    pub can: BTreeSet<(KeyScheme, Operation)>,
    /// What the answers leave open: asking would have made a key that stays.
    pub open: BTreeSet<(KeyScheme, Operation)>,
}

/// How far a probe goes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Trial {
    /// Ask, and leave nothing.
    AskOnly,
    /// Make one key of each scheme and use it. The keys stay, cost money in a cloud, and nothing
    /// here deletes them.
    MakeKeys {
        /// In front of the scheme, in the labels of these keys.
        prefix: Label,
    },
}

/// What a probe found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Probe {
    /// Which custodian.
    pub description: Description,
    /// What it says, completed by what was tried.
    pub abilities: Abilities,
    /// Keys that were made (or found again), and stay.
    pub made: Vec<KeyHandle>,
    /// Schemes whose trial failed otherwise than by "unsupported".
    pub failed: BTreeMap<KeyScheme, CustodianError>,
}

/// Why a probe ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProbeError {
    /// The custodian did not answer.
    #[error("the custodian does not answer")]
    Custodian(#[from] CustodianError),
    /// The prefix leaves no room for the scheme.
    #[error("no label for a trial key")]
    Label(#[from] ParseKeyError),
}

/// Asks a custodian what it can do, and tries it if that was wished.
pub fn probe(custodian: &dyn Custodian, trial: &Trial) -> Result<Probe, ProbeError> {
    let mut probe = Probe {
        description: custodian.describe(),
        abilities: custodian.abilities()?,
        made: Vec::new(),
        failed: BTreeMap::new(),
    };
    let Trial::MakeKeys { prefix } = trial else { return Ok(probe) };
    let schemes = KeyScheme::ALL.iter().copied().filter(|scheme| scheme.algorithm().is_some());
    for scheme in schemes {
        let request = KeyRequest {
            label: format!("{prefix}-{scheme}").parse()?,
            usage: usage_of(scheme),
            scheme,
        };
        match custodian.create(&request) {
            Ok(key) => {
                settle(&mut probe.abilities, scheme, Operation::Create, true);
                try_key(custodian, &key, &mut probe);
                probe.made.push(key);
            }
            Err(error) if error.kind() == FailureKind::Unsupported => {
                settle(&mut probe.abilities, scheme, Operation::Create, false);
                settle(&mut probe.abilities, scheme, scheme.operation(), false);
            }
            Err(error) => drop(probe.failed.insert(scheme, error)),
        }
    }
    Ok(probe)
}

fn try_key(custodian: &dyn Custodian, key: &KeyHandle, probe: &mut Probe) {
    let (scheme, operation) = (key.scheme, key.scheme.operation());
    let (Some(algorithm), Operation::Sign) = (scheme.algorithm(), operation) else {
        // A ciphertext comes from outside: whoever has one tries it.
        return;
    };
    match custodian.sign(key, algorithm, TRIAL) {
        Ok(_) => settle(&mut probe.abilities, scheme, operation, true),
        Err(error) if error.kind() == FailureKind::Unsupported => {
            settle(&mut probe.abilities, scheme, operation, false);
        }
        Err(error) => drop(probe.failed.insert(scheme, error)),
    }
}

fn settle(abilities: &mut Abilities, scheme: KeyScheme, operation: Operation, can: bool) {
    abilities.open.remove(&(scheme, operation));
    if can {
        abilities.can.insert((scheme, operation));
    } else {
        abilities.can.remove(&(scheme, operation));
    }
}

fn usage_of(scheme: KeyScheme) -> KeyUsage {
    match scheme.operation() {
        Operation::Decrypt => KeyUsage::Encryption,
        _ => KeyUsage::Protocol,
    }
}

/// Where a live custodian and the table disagree.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Difference {
    /// It can what the table denies: the table is out of date, or the product is another one.
    CanAllTheSame {
        /// Of the key.
        scheme: KeyScheme,
        /// What is done with it.
        operation: Operation,
    },
    /// It cannot what the table promises.
    CannotAfterAll {
        /// Of the key.
        scheme: KeyScheme,
        /// What is done with it.
        operation: Operation,
    },
}

/// Compares what the table says about a product with what a live one says. What is left open by
/// either differs from nothing.
pub fn compare(product: Product, live: &Abilities) -> Vec<Difference> {
    let mut differences = Vec::new();
    for scheme in KeyScheme::ALL.iter().copied() {
        for operation in Operation::ALL.iter().copied() {
            if live.open.contains(&(scheme, operation)) {
                continue;
            }
            let can = live.can.contains(&(scheme, operation));
            match table::row(product, scheme, operation).map(|row| row.says) {
                Some(Says::Yes) if !can => {
                    differences.push(Difference::CannotAfterAll { scheme, operation });
                }
                Some(Says::No) if can => {
                    differences.push(Difference::CanAllTheSame { scheme, operation });
                }
                _ => {}
            }
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn abilities(can: &[(KeyScheme, Operation)], open: &[(KeyScheme, Operation)]) -> Abilities {
        Abilities {
            product: "a test".to_owned(),
            can: can.iter().copied().collect(),
            open: open.iter().copied().collect(),
        }
    }

    fn said(product: Product, says: Says) -> Vec<(KeyScheme, Operation)> {
        let pairs = KeyScheme::ALL
            .iter()
            .flat_map(|scheme| Operation::ALL.iter().map(move |operation| (*scheme, *operation)));
        pairs
            .filter(|(scheme, operation)| {
                table::row(product, *scheme, *operation).is_some_and(|row| row.says == says)
            })
            .collect()
    }

    #[test]
    fn a_product_that_is_as_the_table_says_does_not_differ() {
        let live = abilities(&said(Product::SoftHsm2, Says::Yes), &[]);
        assert_eq!(compare(Product::SoftHsm2, &live), []);
    }

    #[test]
    fn each_side_of_a_difference_is_found() {
        let mut can = said(Product::LocalStack, Says::Yes);
        let (lost_scheme, lost_operation) = can.remove(0);
        can.push((KeyScheme::Ed25519, Operation::Sign));
        let found = compare(Product::LocalStack, &abilities(&can, &[]));
        assert_eq!(found.len(), 2);
        let (scheme, operation) = (KeyScheme::Ed25519, Operation::Sign);
        assert!(found.contains(&Difference::CanAllTheSame { scheme, operation }));
        let (scheme, operation) = (lost_scheme, lost_operation);
        assert!(found.contains(&Difference::CannotAfterAll { scheme, operation }));
        let open = abilities(&can, &[(scheme, operation)]);
        assert_eq!(compare(Product::LocalStack, &open).len(), 1, "what is open does not differ");
    }
}
