//! Types of a package as a graph: entries of its table, and what stands in line.

use heirloom_model::limit::LF_TYPE_NESTING_MAX;

use super::layout::Builtin;
use super::package::PackageError;
use super::tables::{DottedRef, StringRef, Tables, once};
use crate::proto::{Field, ProtoError, Reader};
use crate::types::{BuiltinType, PackageId, TypeId, TypeName};

/// The scale of the older `Decimal`.
const DECIMAL_SCALE: u32 = 10;
/// The largest scale of a number (`Numeric.Scale.MaxValue`).
const SCALE_MAX: i64 = 37;

/// A node of the graph of one package.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct NodeId(usize);

/// One level of a type.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// One more argument for another type.
    Apply(NodeId, NodeId),
    Builtin(BuiltinType, Vec<NodeId>),
    Con(TypeId, Vec<NodeId>),
    Nat(u32),
    /// What no contract holds. Its inner types are not read.
    Opaque,
    Synonym(TypeId, Vec<NodeId>),
    Var(String, Vec<NodeId>),
}

/// All types of a package. Nodes refer to nodes that were there before, so there are no cycles.
#[derive(Clone, Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    table: Vec<NodeId>,
}

impl Graph {
    /// Reads the table of types.
    pub(super) fn parse(tables: &Tables<'_>, entries: &[&[u8]]) -> Result<Self, PackageError> {
        let version = tables.version;
        if !version.has_type_table() && !entries.is_empty() {
            return Err(PackageError::NotInVersion { what: "table of types", version });
        }
        let mut graph = Self::default();
        for bytes in entries {
            let field = sum(tables, bytes)?;
            if tables.layout.strict && field.number() == tables.layout.ty.interned {
                let what = "an entry of the table of types only refers to another one";
                return Err(PackageError::Type { what });
            }
            let node = graph.read(tables, &field, 0)?;
            graph.table.push(node);
        }
        Ok(graph)
    }

    pub(super) fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id.0).expect("only this graph makes its ids")
    }

    /// The type of a declaration: an entry of the table, where the version has one.
    pub(super) fn declared(
        &mut self,
        tables: &Tables<'_>,
        bytes: &[u8],
    ) -> Result<NodeId, PackageError> {
        let field = sum(tables, bytes)?;
        if tables.version.has_type_table() && field.number() != tables.layout.ty.interned {
            return Err(PackageError::Type { what: "a declaration has a type outside the table" });
        }
        self.read(tables, &field, 0)
    }

    /// The built-in type that a node is, without arguments.
    pub(super) fn plain_builtin(&self, id: NodeId) -> Option<BuiltinType> {
        match self.node(id) {
            Node::Builtin(builtin, args) if args.is_empty() => Some(*builtin),
            _ => None,
        }
    }

    fn add(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId(self.nodes.len() - 1)
    }

    fn read(
        &mut self,
        tables: &Tables<'_>,
        field: &Field<'_>,
        depth: usize,
    ) -> Result<NodeId, PackageError> {
        if depth >= LF_TYPE_NESTING_MAX {
            return Err(PackageError::TooDeep { limit: LF_TYPE_NESTING_MAX });
        }
        let numbers = &tables.layout.ty;
        let number = field.number();
        let node = if number == numbers.interned {
            return self.entry(field.int32()?);
        } else if number == numbers.nat {
            let nat = u32::try_from(field.sint64()?).ok();
            let nat = nat.filter(|nat| i64::from(*nat) <= SCALE_MAX);
            Node::Nat(nat.ok_or(PackageError::Type { what: "a scale is not between 0 and 37" })?)
        } else if number == numbers.forall || number == numbers.structure {
            Node::Opaque
        } else if number == numbers.application {
            self.application(tables, field.bytes()?, depth)?
        } else if number == numbers.synonym {
            let (head, args) = self.head(tables, field.bytes()?, depth)?;
            let head = head.ok_or(missing("the name of a synonym"))?;
            Node::Synonym(reference(tables, head.bytes()?)?, args)
        } else {
            match number {
                1 => self.variable(tables, field.bytes()?, depth)?,
                2 => {
                    let (head, args) = self.head(tables, field.bytes()?, depth)?;
                    let head = head.ok_or(missing("the name of a type"))?;
                    Node::Con(reference(tables, head.bytes()?)?, args)
                }
                _ => self.builtin(tables, field.bytes()?, depth)?,
            }
        };
        Ok(self.add(node))
    }

    fn entry(&self, index: i32) -> Result<NodeId, PackageError> {
        let found = usize::try_from(index).ok().and_then(|index| self.table.get(index));
        found.copied().ok_or(PackageError::Index { table: "types", index: index.into() })
    }

    fn child(
        &mut self,
        tables: &Tables<'_>,
        bytes: &[u8],
        depth: usize,
    ) -> Result<NodeId, PackageError> {
        self.read(tables, &sum(tables, bytes)?, depth + 1)
    }

    /// What stands first in a type, and its arguments.
    fn head<'a>(
        &mut self,
        tables: &Tables<'_>,
        bytes: &'a [u8],
        depth: usize,
    ) -> Result<(Option<Field<'a>>, Vec<NodeId>), PackageError> {
        let (mut head, mut args) = (None, Vec::new());
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => once(&mut head, field, "head of a type")?,
                2 => args.push(self.child(tables, field.bytes()?, depth)?),
                _ => tables.unknown(&field, "Type")?,
            }
        }
        Ok((head, args))
    }

    fn builtin(
        &mut self,
        tables: &Tables<'_>,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Node, PackageError> {
        let mut head = None;
        for field in Reader::new(bytes) {
            let field = field?;
            if field.number() == 1 {
                once(&mut head, field.int32()?, "built-in type")?;
            }
        }
        // Number zero is not written.
        let builtin = (tables.layout.builtin)(head.unwrap_or(0));
        if builtin == Builtin::Opaque {
            return Ok(Node::Opaque);
        }
        let (_, args) = self.head(tables, bytes, depth)?;
        match builtin {
            Builtin::Decimal => {
                let scale = self.add(Node::Nat(DECIMAL_SCALE));
                Ok(Node::Builtin(BuiltinType::Numeric, vec![scale]))
            }
            Builtin::Known(builtin) => Ok(Node::Builtin(builtin, args)),
            Builtin::Opaque | Builtin::Unknown => {
                Err(PackageError::Type { what: "a built-in type has an unknown number" })
            }
        }
    }

    fn variable(
        &mut self,
        tables: &Tables<'_>,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Node, PackageError> {
        let (mut name, mut args) = (StringRef::default(), Vec::new());
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 if !tables.layout.strict => name.text(&field)?,
                2 => args.push(self.child(tables, field.bytes()?, depth)?),
                3 => name.interned(&field)?,
                _ => tables.unknown(&field, "Type.Var")?,
            }
        }
        Ok(Node::Var(tables.identifier(&name)?, args))
    }

    fn application(
        &mut self,
        tables: &Tables<'_>,
        bytes: &[u8],
        depth: usize,
    ) -> Result<Node, PackageError> {
        let version = tables.version;
        if !version.is_flat() {
            let what = "types that are applied one argument at a time";
            return Err(PackageError::NotInVersion { what, version });
        }
        let (mut left, mut right) = (None, None);
        for field in Reader::new(bytes) {
            let field = field?;
            match field.number() {
                1 => once(&mut left, field.bytes()?, "left side of a type")?,
                2 => once(&mut right, field.bytes()?, "right side of a type")?,
                _ => tables.unknown(&field, "Type.TApp")?,
            }
        }
        let left = self.child(tables, left.unwrap_or_default(), depth)?;
        let right = self.child(tables, right.unwrap_or_default(), depth)?;
        Ok(Node::Apply(left, right))
    }
}

/// The one alternative of a type that is set.
fn sum<'a>(tables: &Tables<'_>, bytes: &'a [u8]) -> Result<Field<'a>, PackageError> {
    let numbers = &tables.layout.ty;
    let known = [
        1,
        2,
        3,
        numbers.forall,
        numbers.structure,
        numbers.nat,
        numbers.synonym,
        numbers.interned,
        numbers.application,
    ];
    let mut set = None;
    for field in Reader::new(bytes) {
        let field = field?;
        if known.contains(&field.number()) {
            once(&mut set, field, "alternative of a type")?;
        } else {
            tables.unknown(&field, "Type")?;
        }
    }
    set.ok_or(PackageError::Type { what: "a type is none of the known ones" })
}

/// A declared type or synonym of this or another package.
fn reference(tables: &Tables<'_>, bytes: &[u8]) -> Result<TypeId, PackageError> {
    let numbers = &tables.layout.name;
    let (mut module, mut name) = (None, DottedRef::default());
    for field in Reader::new(bytes) {
        let field = field?;
        if field.number() == 1 {
            once(&mut module, field.bytes()?, "module of a name")?;
        } else if field.number() == numbers.interned {
            name.interned(&field)?;
        } else if field.number() == numbers.text {
            name.text(&field)?;
        } else {
            tables.unknown(&field, "TypeConId")?;
        }
    }
    let (mut package, mut module_name) = (None, DottedRef::default());
    for field in Reader::new(module.ok_or(missing("the module of a name"))?) {
        let field = field?;
        if field.number() == 1 {
            once(&mut package, field.bytes()?, "package of a name")?;
        } else if field.number() == numbers.interned {
            module_name.interned(&field)?;
        } else if field.number() == numbers.text {
            module_name.text(&field)?;
        } else {
            tables.unknown(&field, "ModuleId")?;
        }
    }
    let package = package_of(tables, package.ok_or(missing("the package of a name"))?)?;
    let name = TypeName { module: tables.dotted(&module_name)?, entity: tables.dotted(&name)? };
    Ok(TypeId { package, name })
}

fn package_of(tables: &Tables<'_>, bytes: &[u8]) -> Result<PackageId, PackageError> {
    let numbers = &tables.layout.name;
    let mut package = None;
    for field in Reader::new(bytes) {
        let field = field?;
        let number = field.number();
        let found = if number == 1 {
            tables.own.clone()
        } else if number == 3 {
            tables.string(field.int32()?)?.parse()?
        } else if number == numbers.import {
            tables.import(field.int32()?)?
        } else if number == numbers.package_text {
            field.text()?.parse()?
        } else {
            tables.unknown(&field, "SelfOrImportedPackageId")?;
            continue;
        };
        once(&mut package, found, "package of a name")?;
    }
    package.ok_or(missing("the package of a name"))
}

fn missing(field: &'static str) -> PackageError {
    ProtoError::Missing { message: "a type", field }.into()
}
