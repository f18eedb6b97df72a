//! Many contracts that refer to each other. Running it again makes what is missing.

use std::collections::BTreeMap;
use std::time::Instant;

use heirloom_canton::blob::FatContract;
use heirloom_canton::value::Value;
use heirloom_canton_node::wire::ledger::CreateCommand;
use heirloom_canton_node::wire::ledger::command::Command as Kind;
use heirloom_canton_node::wire::ledger_admin::AllocatePartyRequest;
use heirloom_canton_node::wire::ledger_admin::party_management_service_client::PartyManagementServiceClient;
use heirloom_canton_node::wire::participant::UploadDarRequest;
use heirloom_canton_node::wire::participant::package_service_client::PackageServiceClient;
use heirloom_canton_node::wire::participant::upload_dar_request::UploadDarData;
use serde::Serialize;
use tonic::Code;
use tonic::transport::Channel;

use crate::client::{
    ClientError, active, channel, created_ids, failed, local_parties, package, submit,
};
use crate::command::Load;
use crate::limit::COMMANDS_MAX;

/// Which field of a holding is its number.
const NUMBER_FIELD: usize = 2;

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Loaded {
    /// How many contracts of the demonstration there are.
    pub contracts: usize,
    /// The parties.
    pub parties: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

/// Loads.
pub async fn load(asked: &Load) -> Result<Loaded, ClientError> {
    if asked.parties.is_empty() || !(1..=COMMANDS_MAX).contains(&asked.batch) {
        return Err(ClientError::Usage(
            "there must be a party, and 1 to 1000 contracts in a batch",
        ));
    }
    let begun = Instant::now();
    let ledger = channel(&asked.ledger).await?;
    upload(asked).await?;
    let parties = allocate(asked, ledger.clone()).await?;
    let mut known = numbered(active(ledger.clone()).await?);
    // The first that another participant shares.
    let shared = asked.owner.as_ref().and_then(|_| known.keys().next_back().map(|last| last + 1));
    for first in (0..asked.contracts).step_by(asked.batch) {
        let last = asked.contracts.min(first + asked.batch);
        let missing: Vec<usize> = (first..last).filter(|one| !known.contains_key(one)).collect();
        if missing.is_empty() {
            continue;
        }
        let turn = first / asked.batch;
        let of = |turn: usize| parties.get(turn % parties.len()).map(String::as_str);
        let (Some(issuer), Some(next)) = (of(turn), of(turn + 1)) else { break };
        let owner = asked.owner.as_deref().unwrap_or(next);
        let kinds = missing.iter().map(|number| {
            let previous = number.checked_sub(asked.batch).filter(|one| Some(*one) >= shared);
            let previous = previous.and_then(|one| known.get(&one));
            create(issuer, owner, *number, previous.map(String::as_str))
        });
        let kinds: Vec<Kind> = kinds.collect();
        let command = format!("load-{first}-{last}-{}", missing.len());
        match submit(ledger.clone(), &command, &[issuer.to_owned()], kinds).await {
            Ok(made) => known.extend(missing.into_iter().zip(created_ids(&made))),
            // An answer was lost before; what it made is there.
            Err(ClientError::Status { status, .. }) if status.code() == Code::AlreadyExists => {
                known = numbered(active(ledger.clone()).await?);
            }
            Err(error) => return Err(error),
        }
    }
    let contracts = known.keys().filter(|number| **number < asked.contracts).count();
    Ok(Loaded { contracts, parties, seconds: begun.elapsed().as_secs_f64() })
}

fn create(issuer: &str, owner: &str, number: usize, previous: Option<&str>) -> Kind {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    let holding = package::Holding { issuer, owner, number, previous };
    Kind::Create(CreateCommand {
        template_id: Some(package::template()),
        create_arguments: Some(package::arguments(&holding)),
    })
}

async fn upload(asked: &Load) -> Result<(), ClientError> {
    let built = package::dar().map_err(|_| ClientError::Incomplete("a package to upload"))?;
    let mut files = vec![built.bytes];
    for path in &asked.dar {
        let read = std::fs::read(path);
        files.push(read.map_err(|source| ClientError::File { path: path.clone(), source })?);
    }
    let mut client = PackageServiceClient::new(channel(&asked.admin).await?);
    for bytes in files {
        let request = UploadDarRequest {
            dars: vec![UploadDarData { bytes, ..UploadDarData::default() }],
            vet_all_packages: true,
            synchronize_vetting: true,
            synchronizer_id: None,
        };
        client.upload_dar(request).await.map_err(failed("UploadDar"))?;
    }
    Ok(())
}

async fn allocate(asked: &Load, ledger: Channel) -> Result<Vec<String>, ClientError> {
    let existing = local_parties(ledger.clone()).await?;
    let mut client = PartyManagementServiceClient::new(ledger);
    let mut parties = Vec::new();
    for hint in &asked.parties {
        let found = existing.iter().find(|party| party.split("::").next() == Some(hint));
        if let Some(found) = found {
            parties.push(found.clone());
            continue;
        }
        let request =
            AllocatePartyRequest { party_id_hint: hint.clone(), ..AllocatePartyRequest::default() };
        let made = client.allocate_party(request).await;
        let made = made.map_err(failed("AllocateParty"))?.into_inner().party_details;
        parties.push(made.ok_or(ClientError::Incomplete("a party"))?.party);
    }
    Ok(parties)
}

/// The contracts of the demonstration, by number.
fn numbered(active: Vec<(String, Vec<u8>)>) -> BTreeMap<usize, String> {
    let mut known = BTreeMap::new();
    for (id, blob) in active {
        let Ok(contract) = FatContract::decode(&blob) else { continue };
        if contract.package_name.as_str() != package::PACKAGE {
            continue;
        }
        if let Value::Record(fields) = &contract.create_arg
            && let Some(Value::Int64(number)) = fields.get(NUMBER_FIELD)
            && let Ok(number) = usize::try_from(*number)
        {
            known.insert(number, id);
        }
    }
    known
}
