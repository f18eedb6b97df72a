//! Values between the form of applications and the form of contracts. Types decide both ways.

use std::collections::BTreeMap;

use heirloom_canton::contract_id::ContractIdError;
use heirloom_canton::name::NotAParty;
use heirloom_canton::types::{BuiltinType, DataBody, DataType, Field, Type, TypeId, TypeStore};
use heirloom_canton::value::Value;
use heirloom_canton::value::numeric::NotANumeric;
use heirloom_canton::value::order::compare;
use heirloom_canton_node::wire::ledger;
use heirloom_canton_node::wire::ledger::value::Sum;

use crate::limit::VALUE_DEPTH_MAX;

/// Why a value cannot be taken or shown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// There is no value.
    #[error("a value of type {expected} is missing")]
    Missing {
        /// What was expected.
        expected: String,
    },
    /// It is of another type.
    #[error("a value of type {expected} is expected, and this is another one")]
    Mismatch {
        /// What was expected.
        expected: String,
    },
    /// The type is not known.
    #[error("type {0} is in no package that is here")]
    UnknownType(TypeId),
    /// Contracts hold no values of this type.
    #[error("contracts hold no values of this type")]
    Opaque,
    /// A record has another field.
    #[error("{ty} has no field {label:?}")]
    UnknownField {
        /// The type.
        ty: TypeId,
        /// The label.
        label: String,
    },
    /// A record lacks a field.
    #[error("{ty} lacks field {label}")]
    MissingField {
        /// The type.
        ty: TypeId,
        /// The label.
        label: String,
    },
    /// A variant or an enum has another constructor.
    #[error("{ty} has no constructor {constructor:?}")]
    UnknownConstructor {
        /// The type.
        ty: TypeId,
        /// The constructor.
        constructor: String,
    },
    /// Two entries of a map have the same key.
    #[error("two entries of a map have the same key")]
    Duplicate,
    /// It is nested too deep.
    #[error("a value is nested more than {VALUE_DEPTH_MAX} deep")]
    Depth,
    /// A party is none.
    #[error(transparent)]
    Party(#[from] NotAParty),
    /// A contract id is none.
    #[error(transparent)]
    ContractId(#[from] ContractIdError),
    /// A number is none.
    #[error(transparent)]
    Numeric(#[from] NotANumeric),
}

/// The argument of a template, from what an application wrote.
pub fn argument(
    types: &dyn TypeStore,
    template: &TypeId,
    record: &ledger::Record,
) -> Result<Value, ValueError> {
    let reader = Reader { types };
    reader.record(template, &[], record, 0)
}

/// The argument of a template, for applications.
pub fn shown(
    types: &dyn TypeStore,
    template: &TypeId,
    value: &Value,
    is_verbose: bool,
) -> Result<ledger::Record, ValueError> {
    let ty = Type::Con { id: template.clone(), args: Vec::new() };
    match (Writer { types, is_verbose }).value(&ty, value)?.sum {
        Some(Sum::Record(record)) => Ok(record),
        _ => Err(ValueError::Mismatch { expected: template.to_string() }),
    }
}

/// A value of any type, for applications.
pub fn shown_value(
    types: &dyn TypeStore,
    ty: &Type,
    value: &Value,
    is_verbose: bool,
) -> Result<ledger::Value, ValueError> {
    Writer { types, is_verbose }.value(ty, value)
}

struct Reader<'a> {
    types: &'a dyn TypeStore,
}

impl Reader<'_> {
    fn value(&self, ty: &Type, value: &ledger::Value, depth: usize) -> Result<Value, ValueError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(ValueError::Depth);
        }
        let sum = value.sum.as_ref();
        let sum = sum.ok_or_else(|| ValueError::Missing { expected: name_of(ty) })?;
        match ty {
            Type::Builtin { builtin, args } => self.builtin(*builtin, args, sum, depth, ty),
            Type::Con { id, args } => self.declared(id, args, sum, depth),
            Type::Nat(_) | Type::Opaque | Type::Var(_) => Err(ValueError::Opaque),
        }
    }

    fn builtin(
        &self,
        builtin: BuiltinType,
        args: &[Type],
        sum: &Sum,
        depth: usize,
        ty: &Type,
    ) -> Result<Value, ValueError> {
        let argument = |index: usize| args.get(index).ok_or(ValueError::Opaque);
        Ok(match (builtin, sum) {
            (BuiltinType::Unit, Sum::Unit(())) => Value::Unit,
            (BuiltinType::Bool, Sum::Bool(found)) => Value::Bool(*found),
            (BuiltinType::Int64, Sum::Int64(found)) => Value::Int64(*found),
            (BuiltinType::Date, Sum::Date(found)) => Value::Date(*found),
            (BuiltinType::Timestamp, Sum::Timestamp(found)) => Value::Timestamp(*found),
            (BuiltinType::Numeric, Sum::Numeric(found)) => Value::Numeric(found.parse()?),
            (BuiltinType::Party, Sum::Party(found)) => Value::Party(found.parse()?),
            (BuiltinType::Text, Sum::Text(found)) => Value::Text(found.clone()),
            (BuiltinType::ContractId, Sum::ContractId(found)) => Value::ContractId(found.parse()?),
            (BuiltinType::Optional, Sum::Optional(found)) => {
                let inner = found.value.as_deref();
                let inner = inner.map(|inner| self.value(argument(0)?, inner, depth + 1));
                Value::Optional(inner.transpose()?.map(Box::new))
            }
            (BuiltinType::List, Sum::List(found)) => {
                let ty = argument(0)?;
                let elements = found.elements.iter().map(|one| self.value(ty, one, depth + 1));
                Value::List(elements.collect::<Result<_, _>>()?)
            }
            (BuiltinType::TextMap, Sum::TextMap(found)) => {
                let ty = argument(0)?;
                let mut entries = BTreeMap::new();
                for entry in &found.entries {
                    let value = self.value(ty, required(entry.value.as_ref(), ty)?, depth + 1)?;
                    if entries.insert(entry.key.clone(), value).is_some() {
                        return Err(ValueError::Duplicate);
                    }
                }
                Value::TextMap(entries.into_iter().collect())
            }
            (BuiltinType::GenMap, Sum::GenMap(found)) => {
                let (key, value) = (argument(0)?, argument(1)?);
                let mut entries = Vec::new();
                for entry in &found.entries {
                    entries.push((
                        self.value(key, required(entry.key.as_ref(), key)?, depth + 1)?,
                        self.value(value, required(entry.value.as_ref(), value)?, depth + 1)?,
                    ));
                }
                Value::GenMap(sorted(entries)?)
            }
            _ => return Err(ValueError::Mismatch { expected: name_of(ty) }),
        })
    }

    fn declared(
        &self,
        id: &TypeId,
        args: &[Type],
        sum: &Sum,
        depth: usize,
    ) -> Result<Value, ValueError> {
        let data = data_type(self.types, id)?;
        let unknown = |constructor: &str| ValueError::UnknownConstructor {
            ty: id.clone(),
            constructor: constructor.to_owned(),
        };
        match (&data.body, sum) {
            (DataBody::Record(_), Sum::Record(record)) => self.record(id, args, record, depth),
            (DataBody::Variant(constructors), Sum::Variant(found)) => {
                let field = constructors.iter().find(|one| one.name == found.constructor);
                let field = field.ok_or_else(|| unknown(&found.constructor))?;
                let ty = instantiate(&field.ty, data, args);
                let value = required(found.value.as_deref(), &ty)?;
                let value = Box::new(self.value(&ty, value, depth + 1)?);
                Ok(Value::Variant { constructor: found.constructor.clone(), value })
            }
            (DataBody::Enum(constructors), Sum::Enum(found)) => {
                if constructors.contains(&found.constructor) {
                    Ok(Value::Enum(found.constructor.clone()))
                } else {
                    Err(unknown(&found.constructor))
                }
            }
            _ => Err(ValueError::Mismatch { expected: id.to_string() }),
        }
    }

    fn record(
        &self,
        id: &TypeId,
        args: &[Type],
        record: &ledger::Record,
        depth: usize,
    ) -> Result<Value, ValueError> {
        let data = data_type(self.types, id)?;
        let DataBody::Record(fields) = &data.body else {
            return Err(ValueError::Mismatch { expected: id.to_string() });
        };
        let is_labelled = record.fields.iter().any(|field| !field.label.is_empty());
        if let Some(other) = record.fields.iter().enumerate().find(|(index, field)| {
            let known = fields.iter().any(|one| one.name == field.label);
            if is_labelled { !known } else { *index >= fields.len() }
        }) {
            let (ty, label) = (id.clone(), other.1.label.clone());
            return Err(ValueError::UnknownField { ty, label });
        }
        let mut values = Vec::new();
        for (index, field) in fields.iter().enumerate() {
            let found = if is_labelled {
                record.fields.iter().find(|one| one.label == field.name)
            } else {
                record.fields.get(index)
            };
            let ty = instantiate(&field.ty, data, args);
            let is_optional = matches!(ty, Type::Builtin { builtin: BuiltinType::Optional, .. });
            values.push(match found.and_then(|found| found.value.as_ref()) {
                Some(value) => self.value(&ty, value, depth + 1)?,
                None if is_optional => Value::Optional(None),
                None => {
                    let (ty, label) = (id.clone(), field.name.clone());
                    return Err(ValueError::MissingField { ty, label });
                }
            });
        }
        while values.last() == Some(&Value::Optional(None)) {
            values.pop();
        }
        Ok(Value::Record(values))
    }
}

struct Writer<'a> {
    types: &'a dyn TypeStore,
    is_verbose: bool,
}

impl Writer<'_> {
    fn value(&self, ty: &Type, value: &Value) -> Result<ledger::Value, ValueError> {
        let sum = match ty {
            Type::Builtin { args, .. } => self.builtin(args, value, ty)?,
            Type::Con { id, args } => self.declared(id, args, value)?,
            Type::Nat(_) | Type::Opaque | Type::Var(_) => return Err(ValueError::Opaque),
        };
        Ok(ledger::Value { sum: Some(sum) })
    }

    fn builtin(&self, args: &[Type], value: &Value, ty: &Type) -> Result<Sum, ValueError> {
        let argument = |index: usize| args.get(index).ok_or(ValueError::Opaque);
        Ok(match value {
            Value::Unit => Sum::Unit(()),
            Value::Bool(found) => Sum::Bool(*found),
            Value::Int64(found) => Sum::Int64(*found),
            Value::Date(found) => Sum::Date(*found),
            Value::Timestamp(found) => Sum::Timestamp(*found),
            Value::Numeric(found) => Sum::Numeric(found.to_string()),
            Value::Party(found) => Sum::Party(found.to_string()),
            Value::Text(found) => Sum::Text(found.clone()),
            Value::ContractId(found) => Sum::ContractId(found.to_string()),
            Value::Optional(found) => {
                let inner = found.as_deref().map(|inner| self.value(argument(0)?, inner));
                let value = inner.transpose()?.map(Box::new);
                Sum::Optional(Box::new(ledger::Optional { value }))
            }
            Value::List(found) => {
                let ty = argument(0)?;
                let elements = found.iter().map(|one| self.value(ty, one));
                Sum::List(ledger::List { elements: elements.collect::<Result<_, _>>()? })
            }
            Value::TextMap(found) => {
                let ty = argument(0)?;
                let entries = found.iter().map(|(key, value)| {
                    let value = Some(self.value(ty, value)?);
                    Ok::<_, ValueError>(ledger::text_map::Entry { key: key.clone(), value })
                });
                Sum::TextMap(ledger::TextMap { entries: entries.collect::<Result<_, _>>()? })
            }
            Value::GenMap(found) => {
                let (key_type, value_type) = (argument(0)?, argument(1)?);
                let entries = found.iter().map(|(key, value)| {
                    let key = Some(self.value(key_type, key)?);
                    let value = Some(self.value(value_type, value)?);
                    Ok::<_, ValueError>(ledger::gen_map::Entry { key, value })
                });
                Sum::GenMap(ledger::GenMap { entries: entries.collect::<Result<_, _>>()? })
            }
            Value::Enum(_) | Value::Record(_) | Value::Variant { .. } => {
                return Err(ValueError::Mismatch { expected: name_of(ty) });
            }
        })
    }

    fn declared(&self, id: &TypeId, args: &[Type], value: &Value) -> Result<Sum, ValueError> {
        let data = data_type(self.types, id)?;
        let identifier = self.is_verbose.then(|| identifier(id));
        match (&data.body, value) {
            (DataBody::Record(fields), Value::Record(values)) => {
                let mut shown = Vec::new();
                for (index, field) in fields.iter().enumerate() {
                    let ty = instantiate(&field.ty, data, args);
                    // What is not there at the end is a `None`.
                    let value = values.get(index).unwrap_or(&Value::Optional(None));
                    let label = if self.is_verbose { field.name.clone() } else { String::new() };
                    shown.push(ledger::RecordField { label, value: Some(self.value(&ty, value)?) });
                }
                Ok(Sum::Record(ledger::Record { record_id: identifier, fields: shown }))
            }
            (DataBody::Variant(fields), Value::Variant { constructor, value }) => {
                let field = fields.iter().find(|field| field.name == *constructor);
                let field: &Field = field.ok_or_else(|| ValueError::UnknownConstructor {
                    ty: id.clone(),
                    constructor: constructor.clone(),
                })?;
                let value = self.value(&instantiate(&field.ty, data, args), value)?;
                Ok(Sum::Variant(Box::new(ledger::Variant {
                    variant_id: identifier,
                    constructor: constructor.clone(),
                    value: Some(Box::new(value)),
                })))
            }
            (DataBody::Enum(_), Value::Enum(constructor)) => Ok(Sum::Enum(ledger::Enum {
                enum_id: identifier,
                constructor: constructor.clone(),
            })),
            _ => Err(ValueError::Mismatch { expected: id.to_string() }),
        }
    }
}

/// A template as the wire names it.
pub fn identifier(id: &TypeId) -> ledger::Identifier {
    ledger::Identifier {
        package_id: id.package.to_string(),
        module_name: id.name.module.to_string(),
        entity_name: id.name.entity.to_string(),
    }
}

fn data_type<'a>(types: &'a dyn TypeStore, id: &TypeId) -> Result<&'a DataType, ValueError> {
    types.data_type(&id.package, &id.name).ok_or_else(|| ValueError::UnknownType(id.clone()))
}

/// The type of a field with the arguments of its declaration.
fn instantiate(ty: &Type, data: &DataType, args: &[Type]) -> Type {
    match ty {
        Type::Var(name) => {
            let index = data.params.iter().position(|param| param == name);
            index.and_then(|index| args.get(index)).cloned().unwrap_or(Type::Opaque)
        }
        Type::Builtin { builtin, args: inner } => Type::Builtin {
            builtin: *builtin,
            args: inner.iter().map(|one| instantiate(one, data, args)).collect(),
        },
        Type::Con { id, args: inner } => Type::Con {
            id: id.clone(),
            args: inner.iter().map(|one| instantiate(one, data, args)).collect(),
        },
        Type::Nat(_) | Type::Opaque => ty.clone(),
    }
}

fn required<'a>(
    value: Option<&'a ledger::Value>,
    ty: &Type,
) -> Result<&'a ledger::Value, ValueError> {
    value.ok_or_else(|| ValueError::Missing { expected: name_of(ty) })
}

fn sorted(mut entries: Vec<(Value, Value)>) -> Result<Vec<(Value, Value)>, ValueError> {
    use std::cmp::Ordering::Equal;
    // Constructors keep the order that they were written in: only their ranks could tell.
    entries.sort_by(|(left, _), (right, _)| compare(left, right).unwrap_or(Equal));
    let is_twice = entries.iter().zip(entries.iter().skip(1)).any(|(one, next)| one.0 == next.0);
    if is_twice { Err(ValueError::Duplicate) } else { Ok(entries) }
}

fn name_of(ty: &Type) -> String {
    match ty {
        Type::Builtin { builtin, .. } => format!("{builtin:?}"),
        Type::Con { id, .. } => id.to_string(),
        Type::Nat(_) | Type::Opaque | Type::Var(_) => "no value".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use heirloom_canton::dar;

    use super::*;
    use crate::client::package;

    fn template(types: &dar::Dar) -> TypeId {
        let main = types.main();
        let name = main.templates().next().unwrap().clone();
        TypeId { package: main.id().clone(), name }
    }

    #[test]
    fn what_is_read_is_shown_again() {
        let types = dar::read(&package::dar().unwrap().bytes).unwrap();
        let id = template(&types);
        let holding =
            package::Holding { issuer: "b::1220aa", owner: "a::1220aa", number: 5, previous: None };
        let written = package::arguments(&holding);
        let value = argument(&types, &id, &written).unwrap();
        let Value::Record(fields) = &value else { panic!("{value:?}") };
        assert_eq!(fields.len(), 6, "a last field that is `None` is not there");
        // Entries of maps stand in the order of their keys, whatever order they were written in.
        let Some(Value::GenMap(shares)) = fields.get(4) else { panic!("{fields:?}") };
        assert_eq!(shares[0].0, Value::Party("a::1220aa".parse().unwrap()));
        let shown_again = shown(&types, &id, &value, true).unwrap();
        assert_eq!(argument(&types, &id, &shown_again).unwrap(), value);
        let bare = shown(&types, &id, &value, false).unwrap();
        assert!(bare.fields.iter().all(|field| field.label.is_empty()));
        assert_eq!(argument(&types, &id, &bare).unwrap(), value);
    }

    #[test]
    fn each_wrong_field_is_refused_by_its_name() {
        let types = dar::read(&package::dar().unwrap().bytes).unwrap();
        let id = template(&types);
        let holding =
            package::Holding { issuer: "b::1220aa", owner: "a::1220aa", number: 5, previous: None };
        let changed = |change: &dyn Fn(&mut ledger::Record)| {
            let mut record = package::arguments(&holding);
            change(&mut record);
            argument(&types, &id, &record).unwrap_err()
        };
        let set = |sum: Sum| Some(ledger::Value { sum: Some(sum) });
        let error = changed(&|record| record.fields[0].value = set(Sum::Text("a".to_owned())));
        assert!(matches!(error, ValueError::Mismatch { .. }), "{error:?}");
        let error = changed(&|record| record.fields[0].label = "other".to_owned());
        assert!(matches!(error, ValueError::UnknownField { .. }), "{error:?}");
        let error = changed(&|record| drop(record.fields.remove(2)));
        assert!(matches!(error, ValueError::MissingField { .. }), "{error:?}");
        let error = changed(&|record| record.fields[0].value = set(Sum::Party("ä".to_owned())));
        assert!(matches!(error, ValueError::Party(_)), "{error:?}");
        let error = changed(&|record| record.fields[3].value = set(Sum::Numeric("1".to_owned())));
        assert!(matches!(error, ValueError::Numeric(_)), "{error:?}");
        let error = changed(&|record| {
            let Some(Sum::GenMap(map)) =
                record.fields[4].value.as_mut().and_then(|value| value.sum.as_mut())
            else {
                panic!("it is a map")
            };
            let first = map.entries[0].clone();
            map.entries.push(first);
        });
        assert_eq!(error, ValueError::Duplicate);
        // What is optional may be missing.
        let mut record = package::arguments(&holding);
        record.fields.pop();
        assert!(argument(&types, &id, &record).is_ok());
    }
}
