//! Makes a first ledger, its configuration and the keys of its accounts.

use std::path::PathBuf;

use heirloom_ledger_store::prepare::{Prepared, prepare as fill};
use heirloom_model::measurement::{Measurement, MrEnclave};
use heirloom_model::service::SchemaVersion;
use heirloom_store::atomic;
use serde_json::json;

use crate::command::{ConfigurationOf, Prepare};
use crate::configuration::{self, AllocationEntry, ConfigurationFile};
use crate::tool::outcome::{ToolError, done, line};
use crate::wallet::Wallet;

/// Wallets for the operator's tests: nodes that are tried at the same time take turns.
const TRY_WALLETS: u32 = 4;

/// Makes a first ledger, its configuration and the keys of its accounts.
pub fn prepare(asked: &Prepare) -> Result<(), ToolError> {
    let directory = asked.out.join("wallets");
    atomic::create_directory(&directory).map_err(crate::wallet::WalletError::from)?;
    let mut file = ConfigurationFile {
        name: asked.name.clone(),
        minimum_fee: asked.minimum_fee,
        tombstone_distance_max: asked.tombstone_distance_max,
        block_payments_max: asked.block_payments_max,
        block_interval_ms: asked.block_interval_ms,
        client_protocol_min: 1,
        wallets: Some(PathBuf::from("wallets")),
        allocation: Vec::new(),
    };
    let share = asked.amount.checked_div(u64::from(asked.outputs)).unwrap_or(0);
    let names = (1..=asked.wallets)
        .map(|number| format!("pay-{number}"))
        .chain((1..=TRY_WALLETS).map(|number| format!("try-{number}")));
    for name in names {
        let wallet = Wallet::generate(&name)?;
        wallet.write(&directory)?;
        let entry = AllocationEntry { owner: wallet.owner().to_string(), amount: share };
        file.allocation.extend((0..asked.outputs).map(|_| entry.clone()));
    }
    let faucet = Wallet::generate("faucet")?;
    faucet.write(&directory)?;
    let owner = faucet.owner().to_string();
    file.allocation.push(AllocationEntry { owner, amount: asked.amount });
    let text = toml::to_string(&file).map_err(|error| ToolError::Usage(error.to_string()))?;
    let path = asked.out.join("ledger.toml");
    atomic::create(&path, text.as_bytes()).map_err(crate::wallet::WalletError::from)?;
    let configuration = configuration::read(&path)?;
    let proposer = Wallet::generate("proposer")?;
    let prepared = Prepared {
        network: asked.network,
        configuration: &configuration,
        schema: SchemaVersion(asked.schema),
        blocks: asked.blocks.max(1),
        faucet: faucet.key(),
        view: None,
        node: "prepare".parse().expect("it is a name"),
        measurement: Measurement::Sgx(MrEnclave::new([0; 32])),
        instance: proposer.key(),
    };
    let data = asked.out.join("data");
    let tip = fill(&data, &prepared, &mut |height| {
        line(&json!({ "progress": { "blocks": height.0, "of": asked.blocks } }));
    })?;
    done(&json!({
        "tip": { "height": tip.height.0, "id": tip.id.to_string() },
        "schema": asked.schema,
        "configuration": configuration.digest().to_string(),
    }));
    Ok(())
}

/// Says what peers compare.
pub fn configuration(asked: &ConfigurationOf) -> Result<(), ToolError> {
    let configuration = configuration::read(&asked.configuration)?;
    done(&json!({ "configuration": configuration.digest().to_string() }));
    Ok(())
}
