//! JSON: an object, in the order it has in the file.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

use super::tree::{Item, MAX_VALUES, Map, Value, whole};
use super::{Error, Format};

/// Reads an object. `serde_json` has a bound on how deep it is nested.
pub(super) fn read(text: &str) -> Result<Map, Error> {
    // Each value but the last is followed by one of these.
    if text.bytes().filter(|byte| matches!(byte, b',' | b'[' | b'{')).count() > MAX_VALUES * 8 {
        return Err(Error::TooManyValues);
    }
    match serde_json::from_str(text).map_err(|error| Error::syntax(Format::Json, &error))? {
        Value::Map(map) => Ok(map),
        _ => Err(Error::NotAMap(Format::Json)),
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

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
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
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::default();
        while let Some((key, value)) = entries.next_entry()? {
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
