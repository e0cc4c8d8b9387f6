//! Sections of `KEY = VALUE`, as sops reads and writes them, which is what Go's `ini` does.

use std::str::Split;

use zeroize::Zeroizing;

use super::tree::{Item, MAX_VALUES, Map, Value};
use super::{Error, Format};

/// The section of what stands before the first one.
const DEFAULT: &str = "DEFAULT";

/// Reads sections: a map of maps.
pub(super) fn read(text: &str) -> Result<Map, Error> {
    let mut sections = vec![(DEFAULT.to_owned(), Map::default())];
    let (mut comments, mut count) = (Vec::new(), 0_usize);
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).split('\n');
    while let Some(line) = lines.next() {
        let line = line.trim_start();
        count += 1;
        if count > MAX_VALUES {
            return Err(Error::TooManyValues);
        }
        if line.is_empty() {
            continue;
        }
        if line.starts_with(['#', ';']) {
            let comment = line.trim_start_matches(['#', ';', ' ']).trim_end();
            comments.push(Item::Comment(Zeroizing::new(comment.as_bytes().to_vec())));
            continue;
        }
        let entry = if let Some(name) = line.strip_prefix('[') {
            let end = name.rfind(']').ok_or_else(|| wrong("a section without `]`"))?;
            sections.push((name[..end].to_owned(), Map::default()));
            None
        } else {
            let (key, value) = key_of(line)?;
            Some(Item::Entry(key.to_owned(), Value::text(&value_of(value, &mut lines)?)))
        };
        if let Some((_, section)) = sections.last_mut() {
            section.0.append(&mut comments);
            section.0.extend(entry);
        }
    }
    sections.retain(|(name, map)| name != DEFAULT || !map.0.is_empty());
    let section = |(name, map): (String, Map)| Ok(Item::Entry(name, Value::Map(map.without_twins()?)));
    Map(sections.into_iter().map(section).collect::<Result<_, Error>>()?).without_twins()
}

fn wrong(why: &str) -> Error {
    Error::syntax(Format::Ini, &why)
}

/// The key of a line, and what comes behind its `=` or `:`.
fn key_of(line: &str) -> Result<(&str, &str), Error> {
    let quote = ["\"\"\"", "\"", "`"].into_iter().find(|quote| line.starts_with(quote));
    let found = match quote {
        Some(quote) => line[quote.len()..].split_once(quote).and_then(|(key, behind)| {
            let value = behind.trim_start().strip_prefix(['=', ':'])?;
            Some((key, value))
        }),
        None => line.split_once(['=', ':']).map(|(key, value)| (key.trim_end(), value)),
    };
    match found {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err(wrong("a line that is neither a section nor `KEY = VALUE`")),
    }
}

/// A value, which goes on over the next lines where it is in three quotes or in backticks.
fn value_of(value: &str, lines: &mut Split<'_, char>) -> Result<String, Error> {
    let value = value.trim_start();
    let quote =
        ["\"\"\"", "`"].into_iter().find(|quote| value.starts_with(quote) && value.len() > quote.len());
    if let Some(quote) = quote {
        let inner = &value[quote.len()..];
        if let Some(end) = inner.rfind(quote) {
            return Ok(inner[..end].to_owned());
        }
        let mut whole = format!("{inner}\n");
        for line in lines {
            if let Some(end) = line.rfind(quote) {
                whole.push_str(&line[..end]);
                return Ok(whole);
            }
            whole.push_str(line);
            whole.push('\n');
        }
        return Err(wrong("a value whose quotes do not end"));
    }
    let value = value.trim_end();
    if value.ends_with('\\') {
        return Err(Error::Unsupported("lines of ini that go on behind a `\\`".into()));
    }
    let value = value.split(['#', ';']).next().unwrap_or(value).trim_end();
    let quoted = |quote: char| value.len() > 1 && value.starts_with(quote) && value.ends_with(quote);
    Ok(if quoted('"') || quoted('\'') { value[1..value.len() - 1].to_owned() } else { value.to_owned() })
}

/// Writes sections. Sops lets no value be anything but text.
pub(super) fn write(map: &Map) -> Result<Vec<u8>, Error> {
    let mut out = Vec::with_capacity(map.room());
    for (name, value) in map.entries() {
        let Value::Map(section) = value else { return Err(Error::NotAMap(Format::Ini)) };
        if !out.is_empty() {
            out.push(b'\n');
        }
        if name != DEFAULT || !out.is_empty() {
            out.extend(format!("[{name}]\n").as_bytes());
        }
        for item in &section.0 {
            match item {
                Item::Comment(comment) => {
                    out.extend(b"; ");
                    out.extend(comment.iter());
                }
                Item::Entry(key, value) => {
                    let quote = if key.contains('`') {
                        "\"\"\""
                    } else if key.contains(['"', '=', ':']) {
                        "`"
                    } else {
                        ""
                    };
                    out.extend(format!("{quote}{key}{quote} = ").as_bytes());
                    write_value(&value.bytes().unwrap_or_default(), &mut out);
                }
            }
            out.push(b'\n');
        }
    }
    Ok(out)
}

fn write_value(value: &[u8], out: &mut Vec<u8>) {
    let has = |bytes: &[u8]| value.iter().any(|byte| bytes.contains(byte));
    let blanks = std::str::from_utf8(value).is_ok_and(|text| text.trim().len() != text.len());
    let quote: &[u8] = if has(b"\n`") {
        b"\"\"\""
    } else if has(b"#;") {
        b"`"
    } else if blanks {
        b"\""
    } else {
        b""
    };
    out.extend(quote);
    out.extend(value);
    out.extend(quote);
}
