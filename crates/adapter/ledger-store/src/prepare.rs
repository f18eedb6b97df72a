//! Large valid ledgers for rehearsals and measurements.

use std::path::Path;

use heirloom_ledger::configuration::Configuration;
use heirloom_model::digest::NetworkId;
use heirloom_model::service::{SchemaVersion, Tip};

use crate::error::JobError;

/// Makes a valid ledger with this many blocks.
pub fn prepare(
    data: &Path,
    network: NetworkId,
    configuration: &Configuration,
    schema: SchemaVersion,
    blocks: u64,
) -> Result<Tip, JobError> {
    let _ = (data, network, configuration, schema, blocks);
    unimplemented!()
}
