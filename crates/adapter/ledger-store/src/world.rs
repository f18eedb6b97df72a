//! Ledgers for tests.

use std::path::{Path, PathBuf};

use heirloom_ledger::amount::Amount;
use heirloom_ledger::configuration::{Allocation, Configuration};
use heirloom_ledger::hint::ViewSecret;
use heirloom_model::digest::{NetworkId, PlanDigest};
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::secret::Secret;
use heirloom_model::service::{SchemaVersion, Tip};
use heirloom_model::signature::SigningKey;

use crate::error::JobError;
use crate::manifest::write_state;
use crate::prepare::{Prepared, prepare};

pub(crate) const NETWORK: NetworkId = NetworkId::new([1; 32]);
pub(crate) const PLAN: PlanDigest = PlanDigest::new([0xab; 32]);

pub(crate) fn faucet() -> SigningKey {
    SigningKey::from_seed(Secret::new([2; 32]))
}

pub(crate) fn instance() -> SigningKey {
    SigningKey::from_seed(Secret::new([3; 32]))
}

pub(crate) fn measurement() -> Measurement {
    Measurement::Sgx(MrEnclave::new([4; 32]))
}

pub(crate) fn configuration() -> Configuration {
    Configuration {
        name: "test network".to_owned(),
        minimum_fee: Amount(2),
        tombstone_distance_max: 100,
        block_payments_max: 16,
        block_interval_milliseconds: 100,
        allocations: vec![Allocation { owner: faucet().public_key(), amount: Amount(1_000_000) }],
        client_protocol_min: 1,
    }
}

/// A prepared ledger, with a state file that fits to it.
pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) data: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) tip: Tip,
}

impl World {
    pub(crate) fn new(schema: u32, blocks: u64) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (data, state) = (directory.path().join("data"), directory.path().join("state"));
        let tip = fill(&data, schema, blocks).unwrap();
        write_state(&state, tip.height.0).unwrap();
        Self { directory, data, state, tip }
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }
}

pub(crate) fn fill(data: &Path, schema: u32, blocks: u64) -> Result<Tip, JobError> {
    let (faucet, instance, configuration) = (faucet(), instance(), configuration());
    let view = ViewSecret::new(Secret::new([5; 32])).public();
    let prepared = Prepared {
        network: NETWORK,
        configuration: &configuration,
        schema: SchemaVersion(schema),
        blocks,
        faucet: &faucet,
        view: Some(view),
        node: "n1".parse().unwrap(),
        measurement: measurement(),
        instance: &instance,
    };
    prepare(data, &prepared, &mut |_| ())
}

/// Runs a job again and again, stopping it after one more step each time, until it is done.
/// Returns how often it was stopped.
pub(crate) fn cut_anywhere(
    mut job: impl FnMut(&mut dyn FnMut(&'static str) -> Result<(), JobError>) -> Result<(), JobError>,
    mut after_each: impl FnMut(&'static str),
) -> usize {
    for steps in 0..1_000 {
        let (mut left, mut stopped) = (steps, None);
        let done = job(&mut |name| {
            if left == 0 {
                stopped = Some(name);
                return Err(JobError::refused("stopped"));
            }
            left -= 1;
            Ok(())
        });
        match (done, stopped) {
            (Ok(()), None) => return steps,
            (Err(_), Some(name)) => after_each(name),
            (done, stopped) => panic!("{done:?} after {stopped:?}"),
        }
    }
    panic!("it is never done");
}

/// Changes the records of a closed database behind its back.
pub(crate) fn tamper(
    directory: &Path,
    change: impl FnOnce(&mut crate::records::Writer<'_, '_, '_>),
) {
    let access = crate::environment::Access::Append;
    let database = crate::database::Database::open_at(directory, access).unwrap();
    database
        .write(|writer| {
            change(writer);
            Ok(())
        })
        .unwrap();
}
