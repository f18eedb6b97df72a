//! The hash of V12: every value with a tag, and with the names that its type has.
//!
//! Values have no labels, no type names and no ranks; a [`TypeStore`] has them. The walk checks
//! that the value has the type that it is said to have.

use std::collections::BTreeMap;

use heirloom_model::limit::VALUE_NESTING_MAX;

use crate::contract_hash::{CONTRACT_PURPOSE, ContractHash, write_name};
use crate::hash::Preimage;
use crate::types::{BuiltinType, DataBody, Field, PackageName, Type, TypeId, TypeStore};
use crate::value::Value;
use crate::value::walk::Path;

/// Which hash, in front of everything.
const TYPED_NORMAL_FORM: u8 = 3;
/// Ends a record.
const END: u8 = 0xff;

/// Why a value has no typed hash.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HashError {
    /// No package that is here declares the type.
    #[error("no package that is here declares {id}")]
    UnknownType {
        /// The type.
        id: TypeId,
    },
    /// The value does not have its type.
    #[error("a value of type {expected} is expected, but it {found}")]
    Mismatch {
        /// The type.
        expected: String,
        /// What the value is instead.
        found: String,
    },
    /// A declaration has other parameters than its use has arguments.
    #[error("{id} has {params} parameters and {args} arguments")]
    Arguments {
        /// The type.
        id: TypeId,
        /// Parameters of the declaration.
        params: usize,
        /// Arguments of the use.
        args: usize,
    },
    /// Types are deeper than values may be.
    #[error("a type has more than {limit} levels")]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// Keys hold no contract ids.
    #[error("the key has a contract id at {path}")]
    ContractIdInKey {
        /// Where.
        path: Path,
    },
    /// The template has no key, or its type is not known.
    #[error("no package that is here declares a key of {template}")]
    UnknownKey {
        /// The template.
        template: TypeId,
    },
}

/// The hash of V12.
pub fn typed_normal_form(
    types: &dyn TypeStore,
    package_name: &PackageName,
    template: &TypeId,
    argument: &Value,
) -> Result<ContractHash, HashError> {
    let mut preimage = Preimage::default();
    preimage.byte(TYPED_NORMAL_FORM).byte(CONTRACT_PURPOSE).text(package_name.as_str());
    write_name(&template.name, &mut preimage);
    let of_type = Type::Con { id: template.clone(), args: Vec::new() };
    write_typed(types, &of_type, argument, &mut preimage)?;
    Ok(ContractHash::from_bytes(preimage.sha256()))
}

/// Appends a value with its type.
pub fn write_typed(
    types: &dyn TypeStore,
    of_type: &Type,
    value: &Value,
    preimage: &mut Preimage,
) -> Result<(), HashError> {
    Writer { types, preimage }.value(of_type, value, 0)
}

struct Writer<'a> {
    types: &'a dyn TypeStore,
    preimage: &'a mut Preimage,
}

impl Writer<'_> {
    fn value(&mut self, of_type: &Type, value: &Value, depth: usize) -> Result<(), HashError> {
        if depth > VALUE_NESTING_MAX {
            return Err(HashError::TooDeep { limit: VALUE_NESTING_MAX });
        }
        match of_type {
            Type::Builtin { builtin, args } => self.builtin(*builtin, args, value, depth),
            Type::Con { id, args } => self.declared(id, args, value, depth),
            Type::Nat(_) | Type::Opaque | Type::Var(_) => Err(mismatch(of_type, value)),
        }
    }

    fn builtin(
        &mut self,
        builtin: BuiltinType,
        args: &[Type],
        value: &Value,
        depth: usize,
    ) -> Result<(), HashError> {
        let out = &mut *self.preimage;
        match (builtin, value, args) {
            (BuiltinType::Int64, Value::Int64(number), _) => _ = out.byte(0x00).int64(*number),
            (BuiltinType::Numeric, Value::Numeric(number), _) => {
                out.byte(0x01).bytes(&number.unscaled_bytes());
            }
            (BuiltinType::Text, Value::Text(text), _) => _ = out.byte(0x02).text(text),
            (BuiltinType::Timestamp, Value::Timestamp(micros), _) => {
                out.byte(0x03).int64(*micros);
            }
            (BuiltinType::Party, Value::Party(party), _) => {
                out.byte(0x04).text(party.as_str());
            }
            (BuiltinType::Bool, Value::Bool(value), _) => {
                out.byte(0x05).byte(u8::from(*value));
            }
            (BuiltinType::Unit, Value::Unit, _) => _ = out.byte(0x06),
            (BuiltinType::Date, Value::Date(days), _) => _ = out.byte(0x07).int32(*days),
            (BuiltinType::ContractId, Value::ContractId(id), _) => {
                out.byte(0x0f).bytes(id.as_bytes());
            }
            (BuiltinType::List, Value::List(values), [of]) => {
                out.byte(0x0b).count(values.len());
                for value in values {
                    self.value(of, value, depth + 1)?;
                }
            }
            (BuiltinType::Optional, Value::Optional(inner), [of]) => {
                out.byte(0x0c).byte(u8::from(inner.is_some()));
                if let Some(inner) = inner {
                    self.value(of, inner, depth + 1)?;
                }
            }
            (BuiltinType::TextMap, Value::TextMap(entries), [of]) => {
                out.byte(0x0d).count(entries.len());
                for (key, value) in entries {
                    self.preimage.text(key);
                    self.value(of, value, depth + 1)?;
                }
            }
            (BuiltinType::GenMap, Value::GenMap(entries), [of_key, of_value]) => {
                out.byte(0x0e).count(entries.len());
                for (key, value) in entries {
                    self.value(of_key, key, depth + 1)?;
                    self.value(of_value, value, depth + 1)?;
                }
            }
            _ => return Err(mismatch_of(format!("{builtin:?}"), value)),
        }
        Ok(())
    }

    fn declared(
        &mut self,
        id: &TypeId,
        args: &[Type],
        value: &Value,
        depth: usize,
    ) -> Result<(), HashError> {
        let declaration = self
            .types
            .data_type(&id.package, &id.name)
            .ok_or_else(|| HashError::UnknownType { id: id.clone() })?;
        let (params, count) = (&declaration.params, args.len());
        if params.len() != count {
            return Err(HashError::Arguments { id: id.clone(), params: params.len(), args: count });
        }
        let bound: BTreeMap<&str, &Type> = params.iter().map(String::as_str).zip(args).collect();
        match (&declaration.body, value) {
            (DataBody::Record(fields), Value::Record(values)) => {
                self.record(id, fields, values, &bound, depth)
            }
            (DataBody::Variant(constructors), Value::Variant { constructor, value }) => {
                let known = constructors.iter().enumerate();
                let mut of_name = known.filter(|(_, field)| field.name == *constructor);
                let (rank, field) = of_name.next().ok_or_else(|| unknown(id, constructor))?;
                self.preimage.byte(0x09);
                write_name(&id.name, self.preimage);
                self.preimage.text(constructor).count(rank);
                self.value(&substitute(&field.ty, &bound, 0)?, value, depth + 1)
            }
            (DataBody::Enum(constructors), Value::Enum(constructor)) => {
                let rank = constructors.iter().position(|known| known == constructor);
                let rank = rank.ok_or_else(|| unknown(id, constructor))?;
                self.preimage.byte(0x0a);
                write_name(&id.name, self.preimage);
                self.preimage.text(constructor).count(rank);
                Ok(())
            }
            (_, value) => Err(mismatch_of(id.to_string(), value)),
        }
    }

    /// Trailing fields that are `None` are left out: values have none of them, and a value that is
    /// shorter than its type may lack only optional fields.
    fn record(
        &mut self,
        id: &TypeId,
        fields: &[Field],
        values: &[Value],
        bound: &BTreeMap<&str, &Type>,
        depth: usize,
    ) -> Result<(), HashError> {
        if values.len() > fields.len() {
            let found = format!("is a record of {} fields", values.len());
            return Err(HashError::Mismatch { expected: id.to_string(), found });
        }
        self.preimage.byte(0x08);
        write_name(&id.name, self.preimage);
        let none = |value: &Value| matches!(value, Value::Optional(None));
        let kept = values.iter().rposition(|value| !none(value)).map_or(0, |last| last + 1);
        for (field, value) in fields.iter().zip(values).take(kept) {
            self.preimage.text(&field.name);
            self.value(&substitute(&field.ty, bound, 0)?, value, depth + 1)?;
        }
        for field in fields.iter().skip(values.len()) {
            let of_type = substitute(&field.ty, bound, 0)?;
            if !matches!(of_type, Type::Builtin { builtin: BuiltinType::Optional, .. }) {
                let found = format!("lacks the field {:?}", field.name);
                return Err(HashError::Mismatch { expected: id.to_string(), found });
            }
        }
        self.preimage.byte(END);
        Ok(())
    }
}

/// Puts the arguments of a use in place of the parameters of a declaration.
fn substitute(
    of_type: &Type,
    bound: &BTreeMap<&str, &Type>,
    depth: usize,
) -> Result<Type, HashError> {
    if depth > VALUE_NESTING_MAX {
        return Err(HashError::TooDeep { limit: VALUE_NESTING_MAX });
    }
    let all = |args: &[Type]| {
        args.iter().map(|arg| substitute(arg, bound, depth + 1)).collect::<Result<Vec<_>, _>>()
    };
    Ok(match of_type {
        Type::Builtin { builtin, args } => Type::Builtin { builtin: *builtin, args: all(args)? },
        Type::Con { id, args } => Type::Con { id: id.clone(), args: all(args)? },
        Type::Var(name) => bound.get(name.as_str()).map_or(Type::Opaque, |ty| (*ty).clone()),
        Type::Nat(_) | Type::Opaque => of_type.clone(),
    })
}

fn unknown(id: &TypeId, constructor: &str) -> HashError {
    let found = format!("has the unknown constructor {constructor:?}");
    HashError::Mismatch { expected: id.to_string(), found }
}

fn mismatch(expected: &Type, value: &Value) -> HashError {
    mismatch_of(format!("{expected:?}"), value)
}

fn mismatch_of(expected: String, value: &Value) -> HashError {
    HashError::Mismatch { expected, found: format!("is {}", value.kind()) }
}
