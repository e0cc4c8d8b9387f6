//! What is in a file, whatever its form.

use std::collections::HashSet;

use zeroize::Zeroizing;

use super::Error;

/// How deep a file may be nested.
pub(super) const MAX_DEPTH: usize = 64;
/// The most values, keys and comments in a file.
pub(super) const MAX_VALUES: usize = 100_000;

/// The longest key, in bytes.
pub(super) const MAX_KEY: usize = 1024;
/// The most bytes that the ways to all values have together: each is written out where values are named or opened.
const MAX_WAYS: usize = 32 << 20;

/// A value. Of what is dropped all text is overwritten; numbers and dates are not, nor keys, which a file has in clear.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// What sops has as text can be any bytes: a binary file is one text.
    Text(Zeroizing<Vec<u8>>),
    /// A date with a time, as sops writes it.
    Time(String),
    List(Vec<Value>),
    Map(Map),
}

/// Keys with their values, in the order of the file, which the MAC goes by.
#[derive(Clone, PartialEq, Default)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Map(pub(super) Vec<Item>);

/// One line of a map.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(super) enum Item {
    Entry(String, Value),
    /// Only of dotenv and ini, whose comments are kept.
    Comment(Zeroizing<Vec<u8>>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(Zeroizing::new(text.as_bytes().to_vec()))
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Time(text) => Some(text),
            _ => None,
        }
    }

    /// What sops takes of it for the MAC, and what its text is where one is asked for. Nothing for what has parts.
    pub(super) fn bytes(&self) -> Option<Zeroizing<Vec<u8>>> {
        let text = match self {
            Self::Text(bytes) => return Some(bytes.clone()),
            Self::Bool(true) => "True".to_owned(),
            Self::Bool(false) => "False".to_owned(),
            Self::Int(int) => int.to_string(),
            Self::Float(float) if *float == f64::INFINITY => "+Inf".to_owned(),
            Self::Float(float) if *float == f64::NEG_INFINITY => "-Inf".to_owned(),
            Self::Float(float) => float.to_string(),
            Self::Time(text) => text.clone(),
            Self::Null | Self::List(_) | Self::Map(_) => return None,
        };
        Some(Zeroizing::new(text.into_bytes()))
    }
}

/// What is around a value, and the longest whole number.
const AROUND: usize = 40;
/// The longest float, in digits.
const FLOAT: usize = 400;
/// How long one byte can get: `\u0000`.
const ESCAPED: usize = 6;

fn room_of_map(map: &Map, depth: usize) -> usize {
    let item = |item: &Item| match item {
        Item::Entry(key, value) => ESCAPED * key.len() + room_of(value, depth),
        Item::Comment(comment) => comment.len() + AROUND,
    };
    AROUND + map.0.iter().map(item).sum::<usize>()
}

fn room_of(value: &Value, depth: usize) -> usize {
    let around = AROUND + 4 * depth;
    match value {
        Value::Text(bytes) => around + ESCAPED * bytes.len(),
        Value::Time(text) => around + text.len(),
        Value::List(list) => around + list.iter().map(|item| room_of(item, depth + 1)).sum::<usize>(),
        Value::Map(map) => around + room_of_map(map, depth + 1),
        Value::Float(_) => around + FLOAT,
        Value::Null | Value::Bool(_) | Value::Int(_) => around,
    }
}

/// What is left of what a file may have.
struct Bound {
    values: usize,
    ways: usize,
}

impl Bound {
    /// `way` is how long the way to it is, in bytes.
    fn map(&mut self, map: &Map, depth: usize, way: usize) -> Result<(), Error> {
        if depth >= MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        map.entries().try_for_each(|(key, value)| {
            if key.len() > MAX_KEY {
                return Err(Error::LongKeys);
            }
            self.value(value, depth, way + key.len() + 1)
        })
    }

    fn value(&mut self, value: &Value, depth: usize, way: usize) -> Result<(), Error> {
        self.values = self.values.checked_sub(1).ok_or(Error::TooManyValues)?;
        self.ways = self.ways.checked_sub(way).ok_or(Error::LongKeys)?;
        match value {
            Value::Map(map) => self.map(map, depth + 1, way),
            Value::List(_) if depth + 1 >= MAX_DEPTH => Err(Error::TooDeep),
            // An index is a key too, of six digits at most.
            Value::List(list) => list.iter().try_for_each(|item| self.value(item, depth + 1, way + 7)),
            _ => Ok(()),
        }
    }
}

/// The whole number that a float is: sops writes it as one, and has every number of JSON as a float.
pub(super) fn whole(float: f64) -> Option<i64> {
    // Below this each whole number is a float.
    #[expect(clippy::cast_possible_truncation)]
    (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
}

impl Map {
    /// The keys with their values, without comments.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().filter_map(|item| match item {
            Item::Entry(key, value) => Some((key.as_str(), value)),
            Item::Comment(_) => None,
        })
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.entries().find(|(found, _)| *found == key).map(|(_, value)| value)
    }

    /// That it is no larger than secrets are: what is done with it takes time and memory by the lengths of the ways to its
    /// values, and who wrote the file may mean harm.
    pub(super) fn bounded(&self) -> Result<(), Error> {
        let mut bound = Bound { values: MAX_VALUES, ways: MAX_WAYS };
        bound.map(self, 0, 0)
    }

    /// At most so many bytes it has once it is written, in any form: so what writes it need not grow, and no copy of a
    /// secret is left behind where it does.
    pub(super) fn room(&self) -> usize {
        room_of_map(self, 1)
    }

    /// Takes a key out.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|item| matches!(item, Item::Entry(found, _) if found == key))?;
        match self.0.remove(at) {
            Item::Entry(_, value) => Some(value),
            Item::Comment(_) => None,
        }
    }

    /// Two values with one name would be one for sops and another one for us.
    pub(super) fn without_twins(self) -> Result<Self, Error> {
        let mut seen = HashSet::new();
        if let Some((twin, _)) = self.entries().find(|(key, _)| !seen.insert(*key)) {
            return Err(Error::Twice(super::shown(twin)));
        }
        drop(seen);
        Ok(self)
    }
}
