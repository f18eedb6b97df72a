//! Follows the types of packages, and finds them by name over many packages.

use std::collections::BTreeMap;
use std::sync::Arc;

use heirloom_model::limit::{LF_TYPE_NESTING_MAX, LF_TYPE_NODES_MAX};

use super::package::{PackageError, RawBody, RawData, RawPackage};
use super::typegraph::{Node, NodeId};
use super::{Dar, Package};
use crate::types::{DataBody, DataType, Field, PackageId, Type, TypeId, TypeName, TypeStore};

/// The types of any number of packages.
///
/// The same package in many files is normal: it stands here once. Packages are named by their
/// hash, so it does not matter which file it came from.
#[derive(Clone, Debug, Default)]
pub struct Packages {
    packages: BTreeMap<PackageId, Arc<Package>>,
}

impl Packages {
    /// No packages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the packages of a file, and returns how many were not yet here.
    pub fn add(&mut self, dar: &Dar) -> usize {
        let before = self.packages.len();
        for package in dar.packages() {
            self.packages.entry(package.id().clone()).or_insert_with(|| Arc::clone(package));
        }
        self.packages.len() - before
    }

    /// The package, if it is here.
    pub fn get(&self, id: &PackageId) -> Option<&Package> {
        self.packages.get(id).map(AsRef::as_ref)
    }

    /// All packages, ordered by id.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Package> {
        self.packages.values().map(AsRef::as_ref)
    }
}

impl TypeStore for Packages {
    fn data_type(&self, package: &PackageId, name: &TypeName) -> Option<&DataType> {
        self.get(package)?.data_type(name)
    }

    fn key_type(&self, package: &PackageId, template: &TypeName) -> Option<&Type> {
        self.get(package)?.key_type(template)
    }
}

/// The packages of one file are enough for its own contracts.
impl TypeStore for Dar {
    fn data_type(&self, package: &PackageId, name: &TypeName) -> Option<&DataType> {
        self.package(package)?.data_type(name)
    }

    fn key_type(&self, package: &PackageId, template: &TypeName) -> Option<&Type> {
        self.package(package)?.key_type(template)
    }
}

/// The types of a package whose references are followed.
pub(super) struct Resolved {
    pub(super) types: BTreeMap<TypeName, DataType>,
    pub(super) keys: BTreeMap<TypeName, Option<Type>>,
}

/// Follows the types of `package` that contracts can hold. Others are not kept: dictionaries of
/// type classes are most of a package and are in no contract. `nodes` counts what all packages of
/// a file became.
pub(super) fn resolve(
    package: &RawPackage,
    all: &BTreeMap<PackageId, RawPackage>,
    nodes: &mut usize,
) -> Result<Resolved, PackageError> {
    let mut resolver = Resolver { all, nodes };
    let mut types = BTreeMap::new();
    for data in &package.data {
        if data.serializable || matches!(data.body, RawBody::Interface) {
            types.insert(data.name.clone(), resolver.data(package, data)?);
        }
    }
    let mut keys = BTreeMap::new();
    for (template, key) in &package.templates {
        let key = key.map(|key| resolver.follow(package, key, &BTreeMap::new(), 0)).transpose()?;
        keys.insert(template.clone(), key);
    }
    Ok(Resolved { types, keys })
}

struct Resolver<'a> {
    all: &'a BTreeMap<PackageId, RawPackage>,
    /// How many nodes were made so far.
    nodes: &'a mut usize,
}

/// What parameters of a synonym stand for.
type Arguments = BTreeMap<String, Type>;

impl Resolver<'_> {
    fn data(&mut self, package: &RawPackage, data: &RawData) -> Result<DataType, PackageError> {
        let body = match &data.body {
            RawBody::Enum(constructors) => DataBody::Enum(constructors.clone()),
            RawBody::Interface => DataBody::Interface,
            RawBody::Record(fields) => DataBody::Record(self.fields(package, fields)?),
            RawBody::Variant(fields) => DataBody::Variant(self.fields(package, fields)?),
        };
        Ok(DataType { params: data.params.clone(), body })
    }

    fn fields(
        &mut self,
        package: &RawPackage,
        fields: &[(String, NodeId)],
    ) -> Result<Vec<Field>, PackageError> {
        let none = Arguments::new();
        let field = |(name, ty): &(String, NodeId)| {
            Ok(Field { name: name.clone(), ty: self.follow(package, *ty, &none, 0)? })
        };
        fields.iter().map(field).collect()
    }

    fn follow(
        &mut self,
        package: &RawPackage,
        node: NodeId,
        arguments: &Arguments,
        depth: usize,
    ) -> Result<Type, PackageError> {
        if depth >= LF_TYPE_NESTING_MAX {
            return Err(PackageError::TooDeep { limit: LF_TYPE_NESTING_MAX });
        }
        self.count(1)?;
        // Applications are gathered from the outside in: the last argument comes first.
        let (mut head, mut applied) = (node, Vec::new());
        while let Node::Apply(left, right) = package.graph.node(head) {
            self.count(1)?;
            applied.push(self.follow(package, *right, arguments, depth + 1)?);
            head = *left;
        }
        applied.reverse();
        let mut all = |nodes: &[NodeId]| {
            let follow = |node: &NodeId| self.follow(package, *node, arguments, depth + 1);
            nodes.iter().map(follow).collect::<Result<Vec<_>, _>>()
        };
        let ty = match package.graph.node(head) {
            Node::Apply(..) => unreachable!("the loop ends at something else"),
            Node::Builtin(builtin, args) => Type::Builtin { builtin: *builtin, args: all(args)? },
            Node::Con(id, args) => Type::Con { id: id.clone(), args: all(args)? },
            Node::Nat(nat) => Type::Nat(*nat),
            Node::Opaque => Type::Opaque,
            Node::Synonym(id, args) => {
                let mut args = all(args)?;
                args.append(&mut applied);
                self.synonym(id, args, depth)?
            }
            Node::Var(name, args) => {
                let args = all(args)?;
                apply(self.variable(name, arguments)?, args)
            }
        };
        Ok(apply(ty, applied))
    }

    /// What a variable stands for here.
    fn variable(&mut self, name: &str, arguments: &Arguments) -> Result<Type, PackageError> {
        let Some(ty) = arguments.get(name) else {
            return Ok(Type::Var(name.to_owned()));
        };
        self.count(size(ty))?;
        Ok(ty.clone())
    }

    fn synonym(
        &mut self,
        id: &TypeId,
        mut args: Vec<Type>,
        depth: usize,
    ) -> Result<Type, PackageError> {
        let unknown = || PackageError::UnknownSynonym { synonym: id.clone() };
        let package = self.all.get(&id.package).ok_or_else(unknown)?;
        let synonym = package.synonyms.get(&id.name).ok_or_else(unknown)?;
        if args.len() < synonym.params.len() {
            return Err(unknown());
        }
        let rest = args.split_off(synonym.params.len());
        let arguments = synonym.params.iter().cloned().zip(args).collect();
        Ok(apply(self.follow(package, synonym.ty, &arguments, depth + 1)?, rest))
    }

    fn count(&mut self, nodes: usize) -> Result<(), PackageError> {
        *self.nodes = self.nodes.saturating_add(nodes);
        if *self.nodes > LF_TYPE_NODES_MAX {
            return Err(PackageError::TooLarge { limit: LF_TYPE_NODES_MAX });
        }
        Ok(())
    }
}

/// A type with more arguments. A variable that is applied is of a higher kind: no value has it.
fn apply(ty: Type, mut more: Vec<Type>) -> Type {
    if more.is_empty() {
        return ty;
    }
    match ty {
        Type::Builtin { builtin, mut args } => {
            args.append(&mut more);
            Type::Builtin { builtin, args }
        }
        Type::Con { id, mut args } => {
            args.append(&mut more);
            Type::Con { id, args }
        }
        Type::Nat(_) | Type::Opaque | Type::Var(_) => Type::Opaque,
    }
}

fn size(ty: &Type) -> usize {
    match ty {
        Type::Builtin { args, .. } | Type::Con { args, .. } => {
            args.iter().map(size).sum::<usize>() + 1
        }
        Type::Nat(_) | Type::Opaque | Type::Var(_) => 1,
    }
}
