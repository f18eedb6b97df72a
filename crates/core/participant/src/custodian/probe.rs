//! What a live custodian says about itself, and how that differs from the table.

use std::collections::BTreeSet;

use crate::custodian::key::{KeyScheme, Operation};

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
