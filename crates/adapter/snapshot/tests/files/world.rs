//! Snapshots that are made here: contracts with correct ids that refer to each other.

use std::collections::BTreeSet;
use std::io::Write;

use heirloom_canton::acs::{ActiveContract, write_frame};
use heirloom_canton::authenticate::recompute;
use heirloom_canton::blob::{CreatedAt, FatContract, SerializationVersion};
use heirloom_canton::contract_id::{ContractId, ContractIdVersion};
use heirloom_canton::hash::{Multihash, sha256};
use heirloom_canton::ledger_event;
use heirloom_canton::name::{Party, SynchronizerId};
use heirloom_canton::types::{
    BuiltinType, DataBody, DataType, Field, PackageId, Type, TypeName, TypeStore,
};
use heirloom_canton::unicum::Salt;
use heirloom_canton::value::Value;

/// The namespace that parties leave.
pub(crate) const OLD: &str = "1220aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
/// The namespace that they get.
pub(crate) const NEW: &str = "1220bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
/// Somebody else's.
pub(crate) const OTHER: &str =
    "1220cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc";

/// The one type of this world.
pub(crate) struct World {
    asset: DataType,
}

impl TypeStore for World {
    fn data_type(&self, _: &PackageId, name: &TypeName) -> Option<&DataType> {
        (name.to_string() == "World:Asset").then_some(&self.asset)
    }
}

fn builtin(builtin: BuiltinType, args: Vec<Type>) -> Type {
    Type::Builtin { builtin, args }
}

impl World {
    pub(crate) fn new() -> Self {
        use BuiltinType::{ContractId, GenMap, Int64, List, Party, Text, TextMap};
        let plain = |kind| builtin(kind, Vec::new());
        let fields = [
            ("owner", plain(Party)),
            ("balances", builtin(GenMap, vec![plain(Party), plain(Int64)])),
            ("parents", builtin(List, vec![builtin(ContractId, vec![plain(Text)])])),
            ("labels", builtin(TextMap, vec![plain(Party)])),
            ("note", plain(Text)),
        ];
        let field = |(name, ty): (&str, Type)| Field { name: name.to_owned(), ty };
        let fields = fields.into_iter().map(field).collect();
        Self { asset: DataType { params: Vec::new(), body: DataBody::Record(fields) } }
    }

    /// A contract with the id that belongs to it.
    pub(crate) fn contract(&self, spec: &Spec) -> FatContract {
        let digest = |what: &str| sha256(format!("{what} {}", spec.number).as_bytes());
        let unicum = [&[0x12, 0x20][..], &[0; 32]].concat();
        let unicum = Multihash::from_bytes(&unicum).unwrap();
        let owner: Party = spec.owner.parse().unwrap();
        let holders: BTreeSet<Party> = spec.holders.iter().map(|p| p.parse().unwrap()).collect();
        let balance = |(index, party): (usize, &Party)| {
            (Value::Party(party.clone()), Value::Int64(i64::try_from(index).unwrap()))
        };
        let parents = spec.parents.iter().map(|id| Value::ContractId(id.clone()));
        let create_arg = Value::Record(vec![
            Value::Party(owner.clone()),
            Value::GenMap(holders.iter().enumerate().map(balance).collect()),
            Value::List(parents.collect()),
            Value::TextMap(vec![("first".to_owned(), Value::Party(owner.clone()))]),
            Value::Text(spec.note.clone()),
        ]);
        let observers = holders.iter().filter(|party| **party != owner).cloned().collect();
        let mut contract = FatContract {
            version: SerializationVersion::V1,
            contract_id: ContractId::new(spec.version, &digest("discriminator"), &unicum),
            package_name: "world".parse().unwrap(),
            template: format!("{}:World:Asset", "ab".repeat(32)).parse().unwrap(),
            create_arg,
            signatories: BTreeSet::from([owner]),
            observers,
            created_at: CreatedAt::from_micros(1_700_000_000_123_456 + spec.number).unwrap(),
            salt: Salt::from_bytes(digest("salt")),
            key: None,
        };
        contract.contract_id = recompute(&contract, self).unwrap();
        contract
    }
}

/// What is different in each contract.
#[derive(Clone)]
pub(crate) struct Spec {
    pub(crate) number: i64,
    pub(crate) version: ContractIdVersion,
    pub(crate) owner: String,
    pub(crate) holders: Vec<String>,
    pub(crate) parents: Vec<ContractId>,
    pub(crate) note: String,
}

impl Spec {
    pub(crate) fn new(number: i64) -> Self {
        use ContractIdVersion::{V10, V11, V12};
        let version = [V12, V11, V10][usize::try_from(number % 3).unwrap()];
        let owner = format!("owner-{}::{OLD}", number % 7);
        // One of each namespace, so that the order of keys changes.
        let holders = vec![
            format!("a::{OTHER}"),
            format!("b-{}::{OLD}", number % 5),
            format!("b-{}::{OTHER}", number % 5),
            owner.clone(),
        ];
        let note = format!("number {number}");
        Self { number, version, owner, holders, parents: Vec::new(), note }
    }
}

/// An entry of a snapshot.
pub(crate) fn entry(contract: &FatContract) -> Vec<u8> {
    let witnesses: Vec<Party> = contract.signatories.iter().cloned().collect();
    let event = ledger_event::write(contract, &witnesses);
    ActiveContract::new(&event, &synchronizer(), 0).unwrap().encode().to_vec()
}

pub(crate) fn synchronizer() -> SynchronizerId {
    format!("sync::{OTHER}").parse().unwrap()
}

/// Compressed as somebody else's program would do it.
pub(crate) fn compress(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for entry in entries {
        let mut framed = Vec::new();
        write_frame(&mut framed, entry);
        gz.write_all(&framed).unwrap();
    }
    gz.finish().unwrap()
}

/// Every party of the old namespace moves.
pub(crate) fn moves() -> Vec<(String, String)> {
    let names = (0..7).map(|n| format!("owner-{n}")).chain((0..5).map(|n| format!("b-{n}")));
    names.map(|name| (format!("{name}::{OLD}"), format!("{name}::{NEW}"))).collect()
}
