//! Freshness of the witness, where the platform counts.
//!
//! Each witness has the number to which the counter is raised after its file is durable. So a
//! directory whose newest witness is below the counter is an old one, whatever the log says. A
//! crash between file and counter leaves a witness that is one ahead, which is healed before
//! anything else is done.
//!
//! Whoever takes away everything gets an empty keeper all the same: it holds nothing, and what it
//! receives from its peers is what they have now.

use heirloom_model::admin::WitnessGap;
use heirloom_model::digest::CounterName;

use super::{Keeper, KeeperConfig};
use crate::port::{Platform, PlatformError};

/// Where the counter of a keeper stands, if its platform counts.
pub(super) fn read(
    platform: &dyn Platform,
    config: &KeeperConfig,
) -> Result<Option<u64>, PlatformError> {
    match platform.counter(&name(config)) {
        Ok(stands) => Ok(Some(stands)),
        Err(PlatformError::Unsupported(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn name(config: &KeeperConfig) -> CounterName {
    CounterName::of_witness(&config.domain, &config.node)
}

impl Keeper {
    /// Raises the platform's counter to the newest witness, which is durable. To be called after
    /// each intent that may have written one; until then a power failure leaves a choice between
    /// two directories. May be repeated.
    pub fn count_witness(&mut self, platform: &dyn Platform) -> Result<(), PlatformError> {
        let (Some(stands), Some((sequence, _))) = (self.counter, self.witness) else {
            return Ok(());
        };
        if sequence > stands {
            platform.raise(&name(&self.config), sequence)?;
            // Who was overtaken, by a copy of its directory say, is behind from here on.
            self.counter = Some(platform.counter(&name(&self.config))?);
        }
        Ok(())
    }

    /// By how much the directory is behind the platform's counter, if it is.
    pub(super) fn witness_gap(&self) -> Option<WitnessGap> {
        let counter = self.counter?;
        let newest = self.witness.map(|(sequence, _)| sequence);
        let holds = self.keyring.newest().is_some() || !self.proposals.is_empty();
        let is_behind = match newest {
            Some(newest) => newest < counter,
            // Who holds something has witnessed before: somebody took the witness away.
            None => counter > 0 && holds,
        };
        is_behind.then_some(WitnessGap { counter, newest })
    }

    /// The number of the next witness.
    pub(super) fn next_witness(&self) -> u64 {
        match self.counter {
            Some(stands) => stands.saturating_add(1),
            None => self.witness_files.last().map_or(0, |last| last.saturating_add(1)),
        }
    }
}
