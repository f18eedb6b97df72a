//! Visits the parties, contract ids and texts of a value, and rewrites parties and contract ids.

use std::cmp::Ordering;
use std::fmt;

use crate::contract_id::ContractId;
use crate::name::{Party, PartyId};
use crate::value::Value;
use crate::value::order::compare;

/// Where in a value something stands: `field 2, element 0, key of entry 1`.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Path(Vec<Step>);

/// One step into a value.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Step {
    /// The argument of a constructor.
    Argument(String),
    /// An element of a list.
    Element(usize),
    /// A field of a record, counted from zero.
    Field(usize),
    /// The key of an entry of a map.
    Key(usize),
    /// What an optional has.
    Some,
    /// The value of an entry of a map.
    Value(usize),
}

impl Path {
    /// Its steps from the outside to the inside.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the value");
        }
        for (index, step) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            match step {
                Step::Argument(constructor) => write!(f, "argument of {constructor}")?,
                Step::Element(index) => write!(f, "element {index}")?,
                Step::Field(index) => write!(f, "field {index}")?,
                Step::Key(index) => write!(f, "key of entry {index}")?,
                Step::Some => f.write_str("some")?,
                Step::Value(index) => write!(f, "value of entry {index}")?,
            }
        }
        Ok(())
    }
}

/// What a visitor sees.
#[derive(Clone, Copy, Debug)]
pub enum Leaf<'a> {
    /// A contract id.
    ContractId(&'a ContractId),
    /// A party.
    Party(&'a Party),
    /// A text.
    Text(&'a str),
    /// The key of a text map: a text too, and never a party, whatever it looks like.
    TextMapKey(&'a str),
}

/// What a rewrite puts in place of parties and contract ids. None leaves one as it is.
pub trait Mapping {
    /// The new party.
    fn party(&self, party: &Party) -> Option<Party>;
    /// The new contract id.
    fn contract_id(&self, id: &ContractId) -> Option<ContractId>;
}

/// Two keys of one map became the same.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("two keys of the map at {path} become the same")]
pub struct KeyCollision {
    /// The map.
    pub path: Path,
}

/// A text in which a party id stands. A rewrite does not touch it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PartyText {
    /// Where.
    pub path: Path,
    /// The whole text.
    pub text: String,
    /// The first party id in it.
    pub found: PartyId,
}

impl Value {
    /// Shows every party, contract id and text with its place, from left to right.
    pub fn visit(&self, see: &mut dyn FnMut(&Path, Leaf<'_>)) {
        visit(self, &mut Path::default(), see);
    }

    /// The same value with other parties and contract ids. Entries of maps are sorted again.
    ///
    /// Where only types could tell an order (constructors), the order that the entries had decides.
    /// That is right as long as different names stay different.
    pub fn rewritten(&self, mapping: &dyn Mapping) -> Result<Value, KeyCollision> {
        rewrite(self, &mut Path::default(), mapping)
    }

    /// The texts, also keys of text maps, in which something looks like a unique identifier.
    pub fn texts_like_parties(&self) -> Vec<PartyText> {
        let mut texts = Vec::new();
        self.visit(&mut |path, leaf| {
            if let Leaf::Text(text) | Leaf::TextMapKey(text) = leaf
                && let Some(found) = find_party(text)
            {
                texts.push(PartyText { path: path.clone(), text: text.to_owned(), found });
            }
        });
        texts
    }
}

/// The first unique identifier inside a text: characters of one around `::`.
pub fn find_party(text: &str) -> Option<PartyId> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_ ".contains(c);
    for (at, _) in text.match_indices("::") {
        let (before, behind) = text.split_at_checked(at)?;
        let behind = behind.strip_prefix("::")?;
        let length = behind.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(behind.len());
        let start = before
            .rfind(|c: char| !is_name(c))
            .map_or(0, |index| index + before[index..].chars().next().map_or(1, char::len_utf8));
        let identifier = before[start..].trim_start();
        let candidate = format!("{identifier}::{}", &behind[..length]);
        if let Ok(party) = candidate.parse() {
            return Some(party);
        }
    }
    None
}

fn within<R>(path: &mut Path, step: Step, body: impl FnOnce(&mut Path) -> R) -> R {
    path.0.push(step);
    let result = body(path);
    path.0.pop();
    result
}

fn visit(value: &Value, path: &mut Path, see: &mut dyn FnMut(&Path, Leaf<'_>)) {
    match value {
        Value::ContractId(id) => see(path, Leaf::ContractId(id)),
        Value::Party(party) => see(path, Leaf::Party(party)),
        Value::Text(text) => see(path, Leaf::Text(text)),
        Value::Bool(_)
        | Value::Date(_)
        | Value::Enum(_)
        | Value::Int64(_)
        | Value::Numeric(_)
        | Value::Timestamp(_)
        | Value::Unit => {}
        Value::Optional(inner) => {
            if let Some(inner) = inner {
                within(path, Step::Some, |path| visit(inner, path, see));
            }
        }
        Value::List(elements) => {
            for (index, element) in elements.iter().enumerate() {
                within(path, Step::Element(index), |path| visit(element, path, see));
            }
        }
        Value::Record(fields) => {
            for (index, field) in fields.iter().enumerate() {
                within(path, Step::Field(index), |path| visit(field, path, see));
            }
        }
        Value::Variant { constructor, value } => {
            within(path, Step::Argument(constructor.clone()), |path| visit(value, path, see));
        }
        Value::TextMap(entries) => {
            for (index, (key, value)) in entries.iter().enumerate() {
                within(path, Step::Key(index), |path| see(path, Leaf::TextMapKey(key)));
                within(path, Step::Value(index), |path| visit(value, path, see));
            }
        }
        Value::GenMap(entries) => {
            for (index, (key, value)) in entries.iter().enumerate() {
                within(path, Step::Key(index), |path| visit(key, path, see));
                within(path, Step::Value(index), |path| visit(value, path, see));
            }
        }
    }
}

fn rewrite(value: &Value, path: &mut Path, mapping: &dyn Mapping) -> Result<Value, KeyCollision> {
    let mut inside = |step, value: &Value| within(path, step, |path| rewrite(value, path, mapping));
    Ok(match value {
        Value::Party(party) => Value::Party(mapping.party(party).unwrap_or_else(|| party.clone())),
        Value::ContractId(id) => {
            Value::ContractId(mapping.contract_id(id).unwrap_or_else(|| id.clone()))
        }
        Value::Optional(Some(inner)) => Value::Optional(Some(Box::new(inside(Step::Some, inner)?))),
        Value::List(elements) => {
            let elements = elements.iter().enumerate();
            Value::List(
                elements.map(|(i, e)| inside(Step::Element(i), e)).collect::<Result<_, _>>()?,
            )
        }
        Value::Record(fields) => {
            let fields = fields.iter().enumerate();
            Value::Record(fields.map(|(i, f)| inside(Step::Field(i), f)).collect::<Result<_, _>>()?)
        }
        Value::Variant { constructor, value } => Value::Variant {
            constructor: constructor.clone(),
            value: Box::new(inside(Step::Argument(constructor.clone()), value)?),
        },
        Value::TextMap(entries) => {
            let mut rewritten = Vec::with_capacity(entries.len());
            for (index, (key, value)) in entries.iter().enumerate() {
                rewritten.push((key.clone(), inside(Step::Value(index), value)?));
            }
            Value::TextMap(rewritten)
        }
        Value::GenMap(entries) => {
            let mut rewritten = Vec::with_capacity(entries.len());
            for (index, (key, value)) in entries.iter().enumerate() {
                let key = inside(Step::Key(index), key)?;
                rewritten.push((key, inside(Step::Value(index), value)?));
            }
            Value::GenMap(sorted(rewritten, path)?)
        }
        Value::Bool(_)
        | Value::Date(_)
        | Value::Enum(_)
        | Value::Int64(_)
        | Value::Numeric(_)
        | Value::Optional(None)
        | Value::Text(_)
        | Value::Timestamp(_)
        | Value::Unit => value.clone(),
    })
}

/// Sorts entries by their new keys; the old order decides where values do not tell.
fn sorted(entries: Vec<(Value, Value)>, path: &Path) -> Result<Vec<(Value, Value)>, KeyCollision> {
    let runs = entries.into_iter().map(|entry| vec![entry]).collect();
    let sorted = merge_all(runs);
    let collides = sorted.windows(2).any(|pair| matches!(pair, [(l, _), (r, _)] if l == r));
    if collides { Err(KeyCollision { path: path.clone() }) } else { Ok(sorted) }
}

/// A merge sort of its own: the one of the library may panic if an order contradicts itself, which
/// values from outside can make it do.
fn merge_all(mut runs: Vec<Vec<(Value, Value)>>) -> Vec<(Value, Value)> {
    while runs.len() > 1 {
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(left) = pairs.next() {
            merged.push(merge(left, pairs.next().unwrap_or_default()));
        }
        runs = merged;
    }
    runs.pop().unwrap_or_default()
}

fn merge(left: Vec<(Value, Value)>, right: Vec<(Value, Value)>) -> Vec<(Value, Value)> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some((l, _)), Some((r, _))) = (left.peek(), right.peek()) {
        let from = if compare(l, r) == Some(Ordering::Greater) { &mut right } else { &mut left };
        merged.extend(from.next());
    }
    merged.extend(left);
    merged.extend(right);
    merged
}
