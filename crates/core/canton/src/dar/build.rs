//! Writes small files of packages, byte for byte the same each time: for tests and demonstrations.
//!
//! ```
//! use heirloom_canton::dar::{self, build::{self, DarBuilder}};
//! use heirloom_canton::types::BuiltinType;
//!
//! let built = DarBuilder::new("iou".parse()?, "1.0.0".parse()?)
//!     .enumeration("Main:Colour".parse()?, &["Red", "Green"])
//!     .template(
//!         "Main:Iou".parse()?,
//!         vec![
//!             build::field("issuer", build::plain(BuiltinType::Party)),
//!             build::field("owner", build::plain(BuiltinType::Party)),
//!             build::field("amount", build::numeric(10)),
//!             build::field("colours", build::list(build::own("Main:Colour".parse()?))),
//!         ],
//!         &["issuer"],
//!         &["owner"],
//!     )
//!     .build()?;
//! assert_eq!(dar::read(&built.bytes)?.main().id(), &built.main);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is written is Daml-LF 2.1: declared types, and templates whose signatories and observers
//! are fields of type `Party`. That is the whole language here. There are
//!
//! * no choices, not even `Archive`: a participant accepts such a template, creates its contracts,
//!   and has no command that archives them. The compiler would declare `Archive` with a type of a
//!   package of the standard library;
//! * no keys, preconditions, interfaces, exceptions, functions and values;
//! * no other packages, so a type can name declared types of other packages only by their ids, and
//!   a participant must have them.

use std::collections::BTreeMap;

use super::archive::{self, LfVersion};
use super::layout::builtin_number;
use super::manifest::{self, Manifest};
use super::package::PackageVersion;
use super::{DarError, zip};
use crate::proto::Writer;
use crate::types::{
    BuiltinType, DataBody, DataType, DottedName, Field, PackageId, PackageName, Type, TypeId,
    TypeName,
};

/// Stands for the package that is being built: its id is known only afterwards.
const OWN: &str = "-own-";

/// Why a package is not written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BuildError {
    /// Two types have one name.
    #[error("{name} is declared twice")]
    Duplicate {
        /// The type.
        name: TypeName,
    },
    /// A template without signatories has no contracts.
    #[error("template {template} has no signatories")]
    NoSignatory {
        /// The template.
        template: TypeName,
    },
    /// A signatory or observer is no field of type `Party`.
    #[error("template {template} has no field {field:?} of type Party")]
    NoPartyField {
        /// The template.
        template: TypeName,
        /// The field.
        field: String,
    },
    /// A type of this package is not declared in it.
    #[error("{name} is used and not declared")]
    Undeclared {
        /// The type.
        name: TypeName,
    },
    /// An interface, or a field of a type that no contract can hold.
    #[error("{name} is an interface or has a field that no contract can hold")]
    Opaque {
        /// The type with the field.
        name: TypeName,
    },
    /// What was written would not be read.
    #[error("the package is refused by its reader")]
    Refused(#[from] DarError),
}

/// A file of one package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BuiltDar {
    /// The file.
    pub bytes: Vec<u8>,
    /// The package by itself, as participants hand it out.
    pub archive: Vec<u8>,
    /// Its id.
    pub main: PackageId,
}

impl BuiltDar {
    /// The id of a type in the package.
    pub fn type_id(&self, name: &TypeName) -> TypeId {
        TypeId { package: self.main.clone(), name: name.clone() }
    }
}

/// Gathers the declarations of one package.
#[derive(Clone, Debug)]
pub struct DarBuilder {
    name: PackageName,
    version: PackageVersion,
    types: BTreeMap<TypeName, DataType>,
    templates: BTreeMap<TypeName, Stakeholders>,
    duplicate: Option<TypeName>,
}

#[derive(Clone, Debug)]
struct Stakeholders {
    signatories: Vec<String>,
    observers: Vec<String>,
}

impl DarBuilder {
    /// A package without declarations.
    pub fn new(name: PackageName, version: PackageVersion) -> Self {
        let (types, templates) = (BTreeMap::new(), BTreeMap::new());
        Self { name, version, types, templates, duplicate: None }
    }

    /// Declares any type. Types of this package are named by [`own`].
    #[must_use]
    pub fn declare(mut self, name: TypeName, declaration: DataType) -> Self {
        if self.types.insert(name.clone(), declaration).is_some() {
            self.duplicate.get_or_insert(name);
        }
        self
    }

    /// Declares a record without parameters.
    #[must_use]
    pub fn record(self, name: TypeName, fields: Vec<Field>) -> Self {
        self.declare(name, DataType { params: Vec::new(), body: DataBody::Record(fields) })
    }

    /// Declares a variant without parameters: constructors with arguments, in order of rank.
    #[must_use]
    pub fn variant(self, name: TypeName, constructors: Vec<Field>) -> Self {
        self.declare(name, DataType { params: Vec::new(), body: DataBody::Variant(constructors) })
    }

    /// Declares an enumeration: constructors in order of rank.
    #[must_use]
    pub fn enumeration(self, name: TypeName, constructors: &[&str]) -> Self {
        let constructors = constructors.iter().map(ToString::to_string).collect();
        self.declare(name, DataType { params: Vec::new(), body: DataBody::Enum(constructors) })
    }

    /// Declares a template: a record, and which of its fields sign and which see.
    #[must_use]
    pub fn template(
        mut self,
        name: TypeName,
        fields: Vec<Field>,
        signatories: &[&str],
        observers: &[&str],
    ) -> Self {
        let owned = |fields: &[&str]| fields.iter().map(ToString::to_string).collect();
        let stakeholders =
            Stakeholders { signatories: owned(signatories), observers: owned(observers) };
        self.templates.insert(name.clone(), stakeholders);
        self.record(name, fields)
    }

    /// Writes the file, and reads it once to be sure of it.
    pub fn build(self) -> Result<BuiltDar, BuildError> {
        self.check()?;
        let package = Encoder::default().package(&self);
        let (main, archive) = archive::write(LfVersion::BUILT, &package);
        let (name, id) = (format!("{}-{}", self.name, self.version), main.as_str());
        let path = format!("{name}-{id}/{name}-{id}.dalf");
        let manifest = Manifest { main: path.clone(), others: Vec::new() };
        let bytes = zip::write(&[
            (manifest::PATH.to_owned(), manifest.write(&name).into_bytes()),
            (path, archive.clone()),
        ]);
        super::read(&bytes)?;
        Ok(BuiltDar { bytes, archive, main })
    }

    fn check(&self) -> Result<(), BuildError> {
        if let Some(name) = &self.duplicate {
            return Err(BuildError::Duplicate { name: name.clone() });
        }
        for (name, declaration) in &self.types {
            let fields = match &declaration.body {
                DataBody::Record(fields) | DataBody::Variant(fields) => fields.as_slice(),
                DataBody::Enum(_) => &[],
                DataBody::Interface => return Err(BuildError::Opaque { name: name.clone() }),
            };
            for field in fields {
                self.check_type(name, &field.ty)?;
            }
        }
        for (template, stakeholders) in &self.templates {
            if stakeholders.signatories.is_empty() {
                return Err(BuildError::NoSignatory { template: template.clone() });
            }
            let mut all = stakeholders.signatories.iter().chain(&stakeholders.observers);
            if let Some(field) = all.find(|field| !self.is_party(template, field)) {
                let (template, field) = (template.clone(), field.clone());
                return Err(BuildError::NoPartyField { template, field });
            }
        }
        Ok(())
    }

    fn check_type(&self, of: &TypeName, ty: &Type) -> Result<(), BuildError> {
        let args = match ty {
            Type::Builtin { args, .. } => args,
            Type::Con { id, args } => {
                if id.package.as_str() == OWN && !self.types.contains_key(&id.name) {
                    return Err(BuildError::Undeclared { name: id.name.clone() });
                }
                args
            }
            Type::Opaque => return Err(BuildError::Opaque { name: of.clone() }),
            Type::Nat(_) | Type::Var(_) => return Ok(()),
        };
        args.iter().try_for_each(|arg| self.check_type(of, arg))
    }

    fn is_party(&self, template: &TypeName, label: &str) -> bool {
        let Some(DataType { body: DataBody::Record(fields), .. }) = self.types.get(template) else {
            return false;
        };
        let party = plain(BuiltinType::Party);
        fields.iter().any(|field| field.name == label && field.ty == party)
    }
}

/// A field of a record, or a constructor of a variant with its argument.
pub fn field(name: &str, ty: Type) -> Field {
    Field { name: name.to_owned(), ty }
}

/// A declared type of the package that is being built.
pub fn own(name: TypeName) -> Type {
    own_of(name, Vec::new())
}

/// The same with arguments.
pub fn own_of(name: TypeName, args: Vec<Type>) -> Type {
    let package = OWN.parse().expect("it has letters and dashes");
    Type::Con { id: TypeId { package, name }, args }
}

/// A built-in type without arguments.
pub fn plain(builtin: BuiltinType) -> Type {
    Type::Builtin { builtin, args: Vec::new() }
}

/// A decimal number with so many digits behind the point.
pub fn numeric(scale: u32) -> Type {
    Type::Builtin { builtin: BuiltinType::Numeric, args: vec![Type::Nat(scale)] }
}

/// One value or none.
pub fn optional(element: Type) -> Type {
    Type::Builtin { builtin: BuiltinType::Optional, args: vec![element] }
}

/// Elements of one type.
pub fn list(element: Type) -> Type {
    Type::Builtin { builtin: BuiltinType::List, args: vec![element] }
}

/// A map from text.
pub fn text_map(value: Type) -> Type {
    Type::Builtin { builtin: BuiltinType::TextMap, args: vec![value] }
}

/// A map from any ordered type.
pub fn gen_map(key: Type, value: Type) -> Type {
    Type::Builtin { builtin: BuiltinType::GenMap, args: vec![key, value] }
}

/// A reference to a contract of a template.
pub fn contract_id(template: Type) -> Type {
    Type::Builtin { builtin: BuiltinType::ContractId, args: vec![template] }
}

/// Numbers of alternatives in types and expressions (`daml_lf2.proto`).
mod number {
    pub(super) const TYPE_VAR: u32 = 1;
    pub(super) const TYPE_CON: u32 = 2;
    pub(super) const TYPE_BUILTIN: u32 = 3;
    pub(super) const TYPE_NAT: u32 = 6;
    pub(super) const TYPE_INTERNED: u32 = 8;
    pub(super) const EXPRESSION_VAR: u32 = 2;
    pub(super) const EXPRESSION_PROJECTION: u32 = 8;
    pub(super) const EXPRESSION_NIL: u32 = 21;
    pub(super) const EXPRESSION_CONS: u32 = 22;
}

/// Fills the tables while the modules are written.
#[derive(Default)]
struct Encoder {
    strings: Table<String>,
    dotted: Table<Vec<u64>>,
    types: Table<Vec<u8>>,
}

/// Entries in the order in which they were first needed.
struct Table<T> {
    entries: Vec<T>,
    numbers: BTreeMap<T, u64>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), numbers: BTreeMap::new() }
    }
}

impl<T: Clone + Ord> Table<T> {
    fn number(&mut self, entry: T) -> u64 {
        if let Some(number) = self.numbers.get(&entry) {
            return *number;
        }
        let number = self.entries.len() as u64;
        self.entries.push(entry.clone());
        self.numbers.insert(entry, number);
        number
    }
}

impl Encoder {
    fn package(mut self, builder: &DarBuilder) -> Vec<u8> {
        let mut modules: BTreeMap<&DottedName, Vec<(&TypeName, &DataType)>> = BTreeMap::new();
        for (name, declaration) in &builder.types {
            modules.entry(&name.module).or_default().push((name, declaration));
        }
        let mut package = Writer::default();
        for (module, declarations) in modules {
            let module = self.module(builder, module, &declarations);
            package.bytes(1, &module);
        }
        let mut metadata = Writer::default();
        metadata.varint_if_set(1, self.string(builder.name.as_str()));
        metadata.varint_if_set(2, self.string(&builder.version.to_string()));
        for string in &self.strings.entries {
            package.text(2, string);
        }
        for segments in &self.dotted.entries {
            let mut packed = Vec::new();
            for segment in segments {
                crate::proto::write_varint(&mut packed, *segment);
            }
            package.message(3, |name| {
                name.bytes(1, &packed);
            });
        }
        package.bytes(4, &metadata.finish());
        for ty in &self.types.entries {
            package.bytes(5, ty);
        }
        package.finish()
    }

    fn module(
        &mut self,
        builder: &DarBuilder,
        name: &DottedName,
        declarations: &[(&TypeName, &DataType)],
    ) -> Vec<u8> {
        let mut module = Writer::default();
        module.varint_if_set(1, self.dotted(name));
        module.message(2, |flags| {
            flags.varint(1, 1).varint(2, 1).varint(3, 1);
        });
        for (name, declaration) in declarations {
            let data = self.data(name, declaration);
            module.bytes(4, &data);
        }
        for (name, _) in declarations {
            if let Some(stakeholders) = builder.templates.get(*name) {
                let template = self.template(name, stakeholders);
                module.bytes(6, &template);
            }
        }
        module.finish()
    }

    fn data(&mut self, name: &TypeName, declaration: &DataType) -> Vec<u8> {
        let mut data = Writer::default();
        data.varint_if_set(2, self.dotted(&name.entity));
        for param in &declaration.params {
            let param = self.string(param);
            data.message(3, |variable| {
                // Of the kind of values.
                variable.varint_if_set(3, param).message(2, |kind| {
                    kind.message(1, |_| {});
                });
            });
        }
        data.varint(4, 1);
        match &declaration.body {
            DataBody::Record(fields) => data.bytes(5, &self.fields(fields)),
            DataBody::Variant(constructors) => data.bytes(6, &self.fields(constructors)),
            DataBody::Enum(constructors) => {
                let mut packed = Vec::new();
                for constructor in constructors {
                    crate::proto::write_varint(&mut packed, self.string(constructor));
                }
                data.message(7, |body| {
                    body.bytes_if_set(2, &packed);
                })
            }
            DataBody::Interface => unreachable!("the builder checked its types"),
        };
        data.finish()
    }

    fn fields(&mut self, fields: &[Field]) -> Vec<u8> {
        let mut body = Writer::default();
        for field in fields {
            let (name, ty) = (self.string(&field.name), self.ty(&field.ty));
            body.message(1, |field| {
                field.varint_if_set(3, name).bytes(2, &ty);
            });
        }
        body.finish()
    }

    /// Stakeholders are a list of projections of the contract's argument.
    fn template(&mut self, name: &TypeName, stakeholders: &Stakeholders) -> Vec<u8> {
        let this = self.string("this");
        let mut template = Writer::default();
        template.varint_if_set(1, self.dotted(&name.entity)).varint_if_set(2, this);
        template.bytes(4, &self.parties(name, this, &stakeholders.signatories));
        template.bytes(7, &self.parties(name, this, &stakeholders.observers));
        template.finish()
    }

    fn parties(&mut self, template: &TypeName, this: u64, fields: &[String]) -> Vec<u8> {
        let party = self.ty(&plain(BuiltinType::Party));
        let nil = message(number::EXPRESSION_NIL, |nil| {
            nil.bytes(1, &party);
        });
        if fields.is_empty() {
            return nil;
        }
        let variable = message_of(|variable| {
            variable.varint(number::EXPRESSION_VAR, this);
        });
        let own = TypeId { package: OWN.parse().expect("as above"), name: template.clone() };
        let (argument, mut list) = (self.constructor(&own), Writer::default());
        list.bytes(1, &party);
        for field in fields {
            let label = self.string(field);
            list.message(2, |element| {
                element.message(number::EXPRESSION_PROJECTION, |projection| {
                    projection.message(1, |ty| {
                        ty.bytes(1, &argument);
                    });
                    projection.bytes(3, &variable).varint_if_set(4, label);
                });
            });
        }
        list.bytes(3, &nil);
        let list = list.finish();
        message_of(|expression| {
            expression.bytes(number::EXPRESSION_CONS, &list);
        })
    }

    /// The name of a declared type.
    fn constructor(&mut self, id: &TypeId) -> Vec<u8> {
        let package = if id.package.as_str() == OWN {
            message(1, |_| {})
        } else {
            let package = self.string(id.package.as_str());
            message_of(|reference| {
                reference.varint(3, package);
            })
        };
        let (module, entity) = (self.dotted(&id.name.module), self.dotted(&id.name.entity));
        message_of(|name| {
            name.message(1, |reference| {
                reference.bytes(1, &package).varint_if_set(2, module);
            });
            name.varint_if_set(2, entity);
        })
    }

    /// A type: its number in the table.
    fn ty(&mut self, ty: &Type) -> Vec<u8> {
        let entry = match ty {
            Type::Builtin { builtin, args } => {
                let head = message_of(|head| {
                    head.varint_if_set(1, builtin_number(*builtin));
                });
                self.applied(number::TYPE_BUILTIN, &head, args)
            }
            Type::Con { id, args } => {
                let constructor = self.constructor(id);
                let head = message_of(|head| {
                    head.bytes(1, &constructor);
                });
                self.applied(number::TYPE_CON, &head, args)
            }
            Type::Nat(nat) => message_of(|ty| {
                ty.sint64(number::TYPE_NAT, i64::from(*nat));
            }),
            Type::Var(name) => {
                let name = self.string(name);
                message(number::TYPE_VAR, |variable| {
                    variable.varint_if_set(3, name);
                })
            }
            Type::Opaque => unreachable!("the builder checked its types"),
        };
        let entry = self.types.number(entry);
        message_of(|ty| {
            ty.varint(number::TYPE_INTERNED, entry);
        })
    }

    fn applied(&mut self, number: u32, head: &[u8], args: &[Type]) -> Vec<u8> {
        let args: Vec<_> = args.iter().map(|arg| self.ty(arg)).collect();
        message(number, |ty| {
            ty.copy(head);
            for arg in &args {
                ty.bytes(2, arg);
            }
        })
    }

    fn string(&mut self, text: &str) -> u64 {
        self.strings.number(text.to_owned())
    }

    fn dotted(&mut self, name: &DottedName) -> u64 {
        let segments = name.segments().iter().map(|segment| self.string(segment)).collect();
        self.dotted.number(segments)
    }
}

/// A message with one message in it.
fn message(number: u32, fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    message_of(|outer| {
        outer.message(number, fill);
    })
}

fn message_of(fill: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::default();
    fill(&mut writer);
    writer.finish()
}
