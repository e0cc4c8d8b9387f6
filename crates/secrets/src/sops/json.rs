//! JSON: an object, in the order it has in the file.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

use super::tree::{Item, MAX_VALUES, Map, Value, whole};
use super::{Error, Format};

/// Reads an object. `serde_json` has a bound on how deep it is nested.
pub(super) fn read(text: &str) -> Result<Map, Error> {
    let left = Cell::new(Some(MAX_VALUES));
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = AnyValue(&left).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Map(map)) => Ok(map),
        Ok(_) => Err(Error::NotAMap(Format::Json)),
        Err(_) if left.get().is_none() => Err(Error::TooManyValues),
        Err(error) => Err(Error::syntax(Format::Json, &error)),
    }
}

/// Writes it as sops does: indented by tabs.
pub(super) fn write(map: &Map) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(map.room());
    let indented = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    map.serialize(&mut serde_json::Serializer::with_formatter(&mut out, indented))
        .map_err(|_| Error::NotUtf8(Format::Json))?;
    out.push(b'\n');
    Ok(out)
}

/// Reads any value, and counts how many more there may be. `None`: there were too many.
#[derive(Clone, Copy)]
struct AnyValue<'c>(&'c Cell<Option<usize>>);

impl<'de> DeserializeSeed<'de> for AnyValue<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        let left = self.0.get().and_then(|left| left.checked_sub(1));
        self.0.set(left);
        if left.is_none() {
            return Err(D::Error::custom("too many values"));
        }
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E>(self, int: i64) -> Result<Value, E> {
        Ok(Value::Int(int))
    }

    fn visit_u64<E>(self, int: u64) -> Result<Value, E> {
        // As sops has it: what is no int64 is a float.
        #[expect(clippy::cast_precision_loss)]
        Ok(i64::try_from(int).map_or(Value::Float(int as f64), Value::Int))
    }

    fn visit_f64<E>(self, float: f64) -> Result<Value, E> {
        Ok(Value::Float(float))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::default();
        while let Some(key) = entries.next_key()? {
            let value = entries.next_value_seed(self)?;
            map.0.push(Item::Entry(key, value));
        }
        map.without_twins().map(Value::Map).map_err(A::Error::custom)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => to.serialize_unit(),
            Self::Bool(bool) => to.serialize_bool(*bool),
            Self::Int(int) => to.serialize_i64(*int),
            Self::Float(float) => match whole(*float) {
                Some(int) => to.serialize_i64(int),
                None => to.serialize_f64(*float),
            },
            Self::Text(_) | Self::Time(_) => match self.as_str() {
                Some(text) => to.serialize_str(text),
                None => Err(S::Error::custom("not UTF-8")),
            },
            Self::List(list) => to.collect_seq(list),
            Self::Map(map) => map.serialize(to),
        }
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (key, value) in self.entries() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}
