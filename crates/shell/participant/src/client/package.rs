//! The package of the demonstration: holdings that refer to each other.

use heirloom_canton::dar::build::{
    BuildError, BuiltDar, DarBuilder, contract_id, field, gen_map, numeric, optional, own, plain,
    text_map,
};
use heirloom_canton::types::{BuiltinType, TypeName};
use heirloom_canton_node::wire::ledger::value::Sum;
use heirloom_canton_node::wire::ledger::{
    GenMap, Identifier, Optional, Record, RecordField, TextMap, Value, gen_map as wire_gen_map,
    text_map as wire_text_map,
};

/// The name of the package.
pub const PACKAGE: &str = "heirloom-demonstration";
const VERSION: &str = "1.0.0";
const MODULE: &str = "Heirloom.Demonstration";
const ENTITY: &str = "Holding";

/// What a contract says.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    /// Who signs it.
    pub issuer: &'a str,
    /// Who sees it.
    pub owner: &'a str,
    /// Its number.
    pub number: i64,
    /// Another holding.
    pub previous: Option<&'a str>,
}

/// The file of the package.
pub fn dar() -> Result<BuiltDar, BuildError> {
    let name: TypeName = format!("{MODULE}:{ENTITY}").parse().expect("it is a name of a type");
    let (package, version) = (
        PACKAGE.parse().expect("it is a name of a package"),
        VERSION.parse().expect("it is a version"),
    );
    let party = || plain(BuiltinType::Party);
    let fields = vec![
        field("issuer", party()),
        field("owner", party()),
        field("number", plain(BuiltinType::Int64)),
        field("amount", numeric(10)),
        field("shares", gen_map(party(), plain(BuiltinType::Int64))),
        field("notes", text_map(plain(BuiltinType::Text))),
        field("previous", optional(contract_id(own(name.clone())))),
    ];
    DarBuilder::new(package, version).template(name, fields, &["issuer"], &["owner"]).build()
}

/// The template, by the name of its package.
pub fn template() -> Identifier {
    Identifier {
        package_id: format!("#{PACKAGE}"),
        module_name: MODULE.to_owned(),
        entity_name: ENTITY.to_owned(),
    }
}

/// The arguments of a holding.
pub fn arguments(holding: &Holding<'_>) -> Record {
    let value = |sum| Value { sum: Some(sum) };
    let party = |name: &str| value(Sum::Party(name.to_owned()));
    let mut shares = vec![(holding.issuer, 1)];
    if holding.owner != holding.issuer {
        shares.push((holding.owner, holding.number));
    }
    let shares = shares.into_iter().map(|(name, share)| wire_gen_map::Entry {
        key: Some(party(name)),
        value: Some(value(Sum::Int64(share))),
    });
    let note = wire_text_map::Entry {
        key: "of".to_owned(),
        value: Some(value(Sum::Text(format!("holding {}", holding.number)))),
    };
    let previous = holding.previous.map(|id| Box::new(value(Sum::ContractId(id.to_owned()))));
    let fields = [
        ("issuer", party(holding.issuer)),
        ("owner", party(holding.owner)),
        ("number", value(Sum::Int64(holding.number))),
        ("amount", value(Sum::Numeric(format!("{}.5000000000", holding.number)))),
        ("shares", value(Sum::GenMap(GenMap { entries: shares.collect() }))),
        ("notes", value(Sum::TextMap(TextMap { entries: vec![note] }))),
        ("previous", value(Sum::Optional(Box::new(Optional { value: previous })))),
    ];
    let fields = fields
        .into_iter()
        .map(|(label, value)| RecordField { label: label.to_owned(), value: Some(value) });
    Record { record_id: None, fields: fields.collect() }
}
