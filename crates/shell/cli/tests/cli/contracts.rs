//! Snapshots and packages that are made here: contracts with correct ids that refer to each other.

use std::collections::BTreeSet;
use std::io::Write as _;

use heirloom_canton::acs::{ActiveContract, write_frame};
use heirloom_canton::authenticate::recompute;
use heirloom_canton::blob::{CreatedAt, FatContract, SerializationVersion};
use heirloom_canton::contract_id::{ContractId, ContractIdVersion};
use heirloom_canton::dar;
use heirloom_canton::dar::build::{
    BuiltDar, DarBuilder, contract_id, field, gen_map, optional, own, plain,
};
use heirloom_canton::hash::{Multihash, sha256};
use heirloom_canton::ledger_event;
use heirloom_canton::name::Party;
use heirloom_canton::types::{BuiltinType, TypeName};
use heirloom_canton::unicum::Salt;
use heirloom_canton::value::Value;

/// The namespace that parties leave.
pub(crate) const OLD: &str = "1220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The namespace that they get.
pub(crate) const NEW: &str = "1220bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// Somebody else's.
pub(crate) const OTHER: &str =
    "1220cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// The package of these contracts.
pub(crate) fn package() -> BuiltDar {
    let iou = || -> TypeName { "Main:Iou".parse().unwrap() };
    let fields = vec![
        field("issuer", plain(BuiltinType::Party)),
        field("amount", plain(BuiltinType::Int64)),
        field("shares", gen_map(plain(BuiltinType::Party), plain(BuiltinType::Int64))),
        field("note", plain(BuiltinType::Text)),
        field("parent", optional(contract_id(own(iou())))),
    ];
    DarBuilder::new("iou".parse().unwrap(), "1.0.0".parse().unwrap())
        .template(iou(), fields, &["issuer"], &[])
        .build()
        .unwrap()
}

/// A contract of the issuer that refers to another one.
pub(crate) fn contract(number: u8, parent: Option<&ContractId>) -> FatContract {
    let digest = |what: &str| sha256(format!("{what} {number}").as_bytes());
    let issuer: Party = format!("issuer::{OLD}").parse().unwrap();
    let holder: Party = format!("holder-{}::{OLD}", number % 2).parse().unwrap();
    let other: Party = format!("bank::{OTHER}").parse().unwrap();
    let mut shares = vec![(other.clone(), 1), (holder.clone(), 2)];
    shares.sort();
    let shares = shares.into_iter().map(|(party, n)| (Value::Party(party), Value::Int64(n)));
    let mut fields = vec![
        Value::Party(issuer.clone()),
        Value::Int64(i64::from(number)),
        Value::GenMap(shares.collect()),
        Value::Text(format!("of {issuer}")),
    ];
    if let Some(parent) = parent {
        fields.push(Value::Optional(Some(Box::new(Value::ContractId(parent.clone())))));
    }
    let unicum = [&[0x12, 0x20][..], &[0; 32]].concat();
    let unicum = Multihash::from_bytes(&unicum).unwrap();
    let built = package();
    let mut contract = FatContract {
        version: SerializationVersion::V1,
        contract_id: ContractId::new(ContractIdVersion::V12, &digest("discriminator"), &unicum),
        package_name: "iou".parse().unwrap(),
        template: built.type_id(&"Main:Iou".parse().unwrap()),
        create_arg: Value::Record(fields),
        signatories: BTreeSet::from([issuer]),
        observers: BTreeSet::from([holder, other]),
        created_at: CreatedAt::from_micros(1_700_000_000_000_000 + i64::from(number)).unwrap(),
        salt: Salt::from_bytes(digest("salt")),
        key: None,
    };
    let types = dar::read(&built.bytes).unwrap();
    contract.contract_id = recompute(&contract, &types).unwrap();
    contract
}

/// Contracts, each of which refers to the one before.
pub(crate) fn chain(length: u8) -> Vec<FatContract> {
    let mut contracts: Vec<FatContract> = Vec::new();
    for number in 0..length {
        let next = contract(number, contracts.last().map(|last| &last.contract_id));
        contracts.push(next);
    }
    contracts
}

/// A snapshot as a participant exports it.
pub(crate) fn snapshot(contracts: &[FatContract]) -> Vec<u8> {
    let synchronizer = format!("sync::{OTHER}").parse().unwrap();
    let mut framed = Vec::new();
    for contract in contracts {
        let witnesses: Vec<Party> = contract.signatories.iter().cloned().collect();
        let event = ledger_event::write(contract, &witnesses);
        let entry = ActiveContract::new(&event, &synchronizer, 0).unwrap();
        write_frame(&mut framed, entry.encode());
    }
    compress(&framed)
}

/// Compresses bytes.
pub(crate) fn compress(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}
