//! Freshness of the witness, where the platform counts.
//!
//! Each witness has the number to which the counter is raised after its file is durable. So a
//! directory whose newest witness is below the counter is an old one, whatever the log says. A
//! crash between file and counter leaves a witness that is one ahead, which is healed before
//! anything else is done. A counter that can be neither read nor raised is a state of its own, in
//! which nothing is served: nobody can tell then whether the directory is the newest.
//!
//! Whoever takes away everything gets an empty keeper all the same: it holds nothing, and what it
//! receives from its peers is what they have now.

use heirloom_model::admin::WitnessGap;
use heirloom_model::digest::CounterName;

use super::{Keeper, KeeperConfig};
use crate::port::{Platform, PlatformError};

/// What the platform says about the counter of witnesses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Counting {
    /// It counts nothing.
    Nothing,
    /// It stands there.
    Stands(u64),
    /// It counts, and did not say or do it when it was asked last.
    Failed(PlatformError),
}

impl Counting {
    /// Why nobody knows where the counter stands, if nobody does.
    pub(super) fn failure(&self) -> Option<&PlatformError> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Nothing | Self::Stands(_) => None,
        }
    }
}

/// Where the counter of a keeper stands, if its platform counts.
pub(super) fn read(platform: &dyn Platform, config: &KeeperConfig) -> Counting {
    match platform.counter(&name(config)) {
        Ok(stands) => Counting::Stands(stands),
        Err(PlatformError::Unsupported(_)) => Counting::Nothing,
        Err(error) => Counting::Failed(error),
    }
}

fn name(config: &KeeperConfig) -> CounterName {
    CounterName::of_witness(&config.domain, &config.node)
}

impl Keeper {
    /// Raises the platform's counter to the newest witness, which is durable. To be called after
    /// each intent that may have written one; until then a power failure leaves a choice between
    /// two directories. May be repeated.
    ///
    /// After an error the keeper is [`Uncounted`](heirloom_model::protocol::ServingState), until
    /// this succeeds.
    pub fn count_witness(&mut self, platform: &dyn Platform) -> Result<(), PlatformError> {
        if self.counting.failure().is_some() {
            self.counting = read(platform, &self.config);
        }
        let counted = self.count(platform);
        if let Err(error) = &counted {
            self.counting = Counting::Failed(error.clone());
        }
        counted
    }

    fn count(&mut self, platform: &dyn Platform) -> Result<(), PlatformError> {
        let stands = match &self.counting {
            Counting::Nothing => return Ok(()),
            Counting::Stands(stands) => *stands,
            Counting::Failed(error) => return Err(error.clone()),
        };
        let Some((sequence, _)) = self.witness else { return Ok(()) };
        if sequence > stands {
            platform.raise(&name(&self.config), sequence)?;
            // Who was overtaken, by a copy of its directory say, is behind from here on.
            self.counting = Counting::Stands(platform.counter(&name(&self.config))?);
        }
        Ok(())
    }

    /// By how much the directory is behind the platform's counter, if it is.
    pub(super) fn witness_gap(&self) -> Option<WitnessGap> {
        let counter = match &self.counting {
            Counting::Stands(stands) => *stands,
            // Who counts nothing has no gap; who cannot count does nothing anyway.
            Counting::Nothing | Counting::Failed(_) => return None,
        };
        let newest = self.witness.map(|(sequence, _)| sequence);
        let holds = self.keyring.newest().is_some() || !self.proposals.is_empty();
        let is_behind = match newest {
            Some(newest) => newest < counter,
            // Who holds something has witnessed before, on a platform that counts: somebody took
            // the witness away, wherever the counter stands.
            None => holds,
        };
        is_behind.then_some(WitnessGap { counter, newest })
    }

    /// The number of the next witness.
    pub(super) fn next_witness(&self) -> u64 {
        match &self.counting {
            Counting::Stands(stands) => stands.saturating_add(1),
            Counting::Nothing | Counting::Failed(_) => {
                self.witness_files.last().map_or(0, |last| last.saturating_add(1))
            }
        }
    }
}
