//! What files of participants have, as JSON.

use heirloom_canton::blob::FatContract;
use heirloom_canton::contract_id::ContractId;
use heirloom_canton::dar::Package;
use heirloom_canton::instance1::OldContract;
use heirloom_canton::name::Party;
use heirloom_canton::topology::mapping::Mapping;
use heirloom_canton::topology::{Operation, SignedTransaction};
use serde_json::{Value, json};

use crate::time;

/// A contract.
pub(crate) fn contract(contract: &FatContract) -> Value {
    let key = contract.key.as_ref().map(|key| {
        json!({
            "maintainers": parties(&key.maintainers),
            "hash": key.hash.as_ref().map(ToString::to_string),
        })
    });
    json!({
        "contract_id": contract.contract_id.to_string(),
        "version": version(&contract.contract_id),
        "serialization": contract.version.as_str(),
        "template": contract.template.to_string(),
        "package_name": contract.package_name.to_string(),
        "signatories": parties(&contract.signatories),
        "observers": parties(&contract.observers),
        "created_at": created(contract.created_at.micros()),
        "key": key,
    })
}

/// A contract of the second major version.
pub(crate) fn old_contract(contract: &OldContract) -> Value {
    json!({
        "contract_id": contract.contract_id.to_string(),
        "version": version(&contract.contract_id),
        "template": contract.template.to_string(),
        "package_name": contract.package_name.as_ref().map(ToString::to_string),
        "signatories": parties(&contract.signatories),
        "observers": parties(&contract.observers),
        "created_at": created(contract.created_at.micros()),
        "key": contract.key.as_ref().map(|key| parties(&key.maintainers)),
    })
}

/// A package.
pub(crate) fn package(package: &Package) -> Value {
    json!({
        "id": package.id().to_string(),
        "name": name(package),
        "lf": package.lf().to_string(),
        "upgrades": package.upgrades().map(ToString::to_string),
        "templates": package.templates().map(ToString::to_string).collect::<Vec<_>>(),
        "types": package.data_types().len(),
    })
}

/// Name and version of a package, as far as it says them.
pub(crate) fn name(package: &Package) -> String {
    match (package.name(), package.version()) {
        (Some(name), Some(version)) => format!("{name} {version}"),
        (Some(name), None) => name.to_string(),
        (None, _) => "not said".to_owned(),
    }
}

/// A topology transaction. Its signatures are shown, and not checked.
pub(crate) fn transaction(signed: &SignedTransaction) -> Value {
    let transaction = &signed.transaction;
    let several = signed.multi_signatures.iter().flat_map(|several| &several.signatures);
    let signed_by: Vec<String> =
        signed.signatures.iter().chain(several).map(|one| one.signed_by.to_string()).collect();
    json!({
        "operation": match transaction.operation() {
            Operation::AddReplace => "add or replace",
            Operation::Remove => "remove",
        },
        "serial": transaction.serial(),
        "mapping": mapping(transaction.mapping()),
        "proposal": signed.proposal,
        "hash": transaction.hash().to_string(),
        "signed_by": signed_by,
    })
}

/// The kind of a mapping.
pub(crate) fn mapping(mapping: &Mapping) -> &'static str {
    match mapping {
        Mapping::DecentralizedNamespace(_) => "decentralized namespace",
        Mapping::NamespaceDelegation(_) => "namespace delegation",
        Mapping::Other { .. } => "other",
        Mapping::OwnerToKey(_) => "owner to key",
        Mapping::PartyToParticipant(_) => "party to participant",
        Mapping::SynchronizerTrustCertificate(_) => "synchronizer trust certificate",
        Mapping::VettedPackages(_) => "vetted packages",
    }
}

fn parties<'p>(parties: impl IntoIterator<Item = &'p Party>) -> Vec<String> {
    parties.into_iter().map(ToString::to_string).collect()
}

fn version(id: &ContractId) -> Option<String> {
    id.version().map(|version| version.to_string())
}

/// A time in microseconds since 1970, to the second.
fn created(micros: i64) -> String {
    match u64::try_from(micros.div_euclid(1_000_000)) {
        Ok(seconds) => time::show(heirloom_model::counter::Time(seconds)),
        Err(_) => format!("{micros} microseconds since 1970"),
    }
}
