//! YAML: read as sops reads it, written as plainly as can be.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};

use super::tree::{Item, MAX_DEPTH, MAX_VALUES, Map, Value, whole};
use super::{Error, Format};

/// What is open while events come in.
enum Open {
    List(Vec<Value>),
    Map(Map, Option<String>),
}

/// Reads one document that is a map. Its comments are dropped: sops leaves them out of the MAC.
pub(super) fn read(text: &str) -> Result<Map, Error> {
    let mut open: Vec<Open> = Vec::new();
    let (mut done, mut count) = (None, 0_usize);
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| Error::syntax(Format::Yaml, &error))?;
        count += 1;
        if count > MAX_VALUES {
            return Err(Error::TooManyValues);
        }
        let value = match event {
            Event::DocumentStart(_) if done.is_some() => {
                return Err(Error::Unsupported("more than one YAML document in a file".into()));
            }
            Event::Alias(_) => {
                return Err(Error::Unsupported("aliases of YAML, which sops does not write".into()));
            }
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() >= MAX_DEPTH {
                    return Err(Error::TooDeep);
                }
                open.push(match event {
                    Event::SequenceStart(..) => Open::List(Vec::new()),
                    _ => Open::Map(Map::default(), None),
                });
                continue;
            }
            Event::Scalar(text, style, _, tag) => scalar(&text, style, tag.as_deref())?,
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list)) => Value::List(list),
                Some(Open::Map(map, _)) => Value::Map(map.without_twins()?),
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => done = Some(value),
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map(map, key)) => match key.take() {
                Some(key) => map.0.push(Item::Entry(key, value)),
                None => *key = Some(name(&value)?),
            },
        }
    }
    match done {
        Some(Value::Map(map)) => Ok(map),
        _ => Err(Error::NotAMap(Format::Yaml)),
    }
}

fn name(value: &Value) -> Result<String, Error> {
    match value {
        Value::Text(_) => value.as_str().map(str::to_owned).ok_or(Error::NotAMap(Format::Yaml)),
        _ => Err(Error::Unsupported("keys that are not text".into())),
    }
}

/// What a scalar is, by its style and tag.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, Error> {
    match tag.filter(|tag| tag.is_yaml_core_schema()).map(|tag| tag.suffix.as_str()) {
        Some("str") => return Ok(Value::text(text)),
        None if tag.is_none() && style != ScalarStyle::Plain => return Ok(Value::text(text)),
        None | Some("int" | "float" | "bool" | "null" | "timestamp")
            if tag.is_none_or(Tag::is_yaml_core_schema) => {}
        _ => return Err(Error::Unsupported("tags of YAML".into())),
    }
    Ok(plain(text))
}

/// What a scalar without quotes is, as go-yaml has it.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')) {
        return Value::text(text);
    }
    if let Some(time) = time(text) {
        return Value::Time(time);
    }
    let digits = text.replace('_', "");
    if let Some(int) = int(&digits) {
        return Value::Int(int);
    }
    match digits.parse() {
        Ok(float) if is_float(&digits) => Value::Float(float),
        _ => Value::text(text),
    }
}

fn int(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        Some(_) if digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// Digits with a point, an exponent, or neither.
fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(part)
        && !(whole.is_empty() && part.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

/// A date, with or without a time: as the text that sops takes of it.
fn time(text: &str) -> Option<String> {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if shape == "0000-00-00" {
        return Some(format!("{text}T00:00:00Z"));
    }
    let rest = shape.strip_prefix("0000-00-00T00:00:00")?;
    let zone = rest.trim_start_matches(['.', '0']);
    matches!(zone, "Z" | "+00:00" | "-00:00").then(|| text.to_owned())
}

/// Writes a map: text is quoted wherever somebody could read something else.
pub(super) fn write(map: &Map) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(map.room());
    if map.entries().next().is_none() {
        out.extend(b"{}\n");
    }
    write_map(map, 0, &mut out)?;
    Ok(out)
}

fn write_map(map: &Map, depth: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    for (key, value) in map.entries() {
        out.extend(std::iter::repeat_n(b' ', depth * 4));
        write_text(key, out);
        out.push(b':');
        write_below(value, depth + 1, out)?;
    }
    Ok(())
}

/// What comes behind `key:` or `-`.
fn write_below(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<(), Error> {
    match value {
        Value::Map(map) if map.entries().next().is_some() => {
            out.push(b'\n');
            return write_map(map, depth, out);
        }
        Value::List(list) if !list.is_empty() => {
            out.push(b'\n');
            return list.iter().try_for_each(|item| {
                out.extend(std::iter::repeat_n(b' ', depth * 4));
                out.push(b'-');
                write_below(item, depth + 1, out)
            });
        }
        _ => out.push(b' '),
    }
    match value {
        Value::Map(_) => out.extend(b"{}"),
        Value::List(_) => out.extend(b"[]"),
        Value::Null => out.extend(b"null"),
        Value::Bool(bool) => out.extend(bool.to_string().as_bytes()),
        Value::Float(float) if float.is_nan() => out.extend(b".nan"),
        Value::Float(float) if float.is_infinite() => {
            out.extend(if *float > 0.0 { b".inf".as_slice() } else { b"-.inf" });
        }
        Value::Float(float) => {
            let text = whole(*float).map_or_else(|| format!("{float:?}"), |int| int.to_string());
            // The sign is what older readers ask for.
            let signed = text.contains('e') && !text.contains("e-");
            out.extend(if signed { text.replace('e', "e+") } else { text }.as_bytes());
        }
        Value::Int(int) => out.extend(int.to_string().as_bytes()),
        Value::Time(text) => out.extend(text.as_bytes()),
        Value::Text(_) => match value.as_str() {
            Some(text) => write_text(text, out),
            None => return Err(Error::NotUtf8(Format::Yaml)),
        },
    }
    out.push(b'\n');
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    let plain_letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '@' | '+');
    let words = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    if text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(plain_letters)
        && !words.contains(&text.to_ascii_lowercase().as_str())
    {
        out.extend(text.as_bytes());
        return;
    }
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend(b"\\\""),
            '\\' => out.extend(b"\\\\"),
            '\n' => out.extend(b"\\n"),
            '\t' => out.extend(b"\\t"),
            '\r' => out.extend(b"\\r"),
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                out.extend(format!("\\u{:04x}", u32::from(c)).as_bytes());
            }
            c => out.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::json;
    use super::*;

    #[test]
    fn scalars_are_what_go_yaml_takes_them_for() {
        for (text, bytes) in [
            ("0755", "493"),
            ("0x1F", "31"),
            ("1_000", "1000"),
            ("-5", "-5"),
            ("1e3", "1000"),
            ("25.40", "25.4"),
            ("1234567890.0", "1234567890"),
            ("True", "True"),
            ("yes", "yes"),
            ("1.2.3", "1.2.3"),
            ("-", "-"),
            ("+", "+"),
            ("0b", "0b"),
            ("08", "8"),
            ("12345678901234567890", "12345678901234567000"),
            ("2001-12-14", "2001-12-14T00:00:00Z"),
            ("infinity", "infinity"),
        ] {
            let found = plain(text).bytes().unwrap();
            assert_eq!(String::from_utf8_lossy(&found), bytes, "{text}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<f64>()
                .prop_filter("a float and no whole number", |f| !f.is_nan() && whole(*f).is_none())
                .prop_map(Value::Float),
            any::<String>().prop_map(|text| Value::text(&text)),
            "[a-z0-9 :#\n'\"-]{0,12}".prop_map(|text| Value::text(&text)),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                maps(inner).prop_map(Value::Map),
            ]
        })
    }

    fn maps(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map> {
        prop::collection::btree_map(any::<String>(), inner, 0..4)
            .prop_map(|map| Map(map.into_iter().map(|(key, value)| Item::Entry(key, value)).collect()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_is_written_reads_back_exactly(map in maps(values())) {
            let written = String::from_utf8(write(&map).unwrap()).unwrap();
            prop_assert!(written.len().max(json::write(&map).unwrap().len()) <= map.room(), "{}", written);
            let back = read(&written).map_err(|e| e.to_string());
            prop_assert!(back == Ok(map), "{}", written);
        }
    }
}
