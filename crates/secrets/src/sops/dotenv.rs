//! `KEY=VALUE` in lines, as sops reads and writes it: no quotes, and `\n` for a new line.

use zeroize::Zeroizing;

use super::tree::{Item, MAX_VALUES, Map, Value};
use super::{Error, Format};

pub(super) fn read(text: &str) -> Result<Map, Error> {
    let mut map = Map::default();
    for line in text.split('\n').filter(|line| !line.is_empty()) {
        if map.0.len() >= MAX_VALUES {
            return Err(Error::TooManyValues);
        }
        if let Some(comment) = line.strip_prefix('#') {
            map.0.push(Item::Comment(Zeroizing::new(comment.as_bytes().to_vec())));
            continue;
        }
        let (key, value) =
            line.split_once('=').ok_or_else(|| Error::syntax(Format::Dotenv, &"a line without `=`"))?;
        map.0.push(Item::Entry(key.to_owned(), Value::text(&value.replace("\\n", "\n"))));
    }
    map.without_twins()
}

pub(super) fn write(map: &Map) -> Vec<u8> {
    let mut out = Vec::with_capacity(map.room());
    for item in &map.0 {
        match item {
            Item::Comment(comment) => {
                out.push(b'#');
                out.extend(comment.iter());
            }
            Item::Entry(key, value) => {
                out.extend(key.as_bytes());
                out.push(b'=');
                for byte in value.bytes().unwrap_or_default().iter() {
                    match byte {
                        b'\n' => out.extend(b"\\n"),
                        byte => out.push(*byte),
                    }
                }
            }
        }
        out.push(b'\n');
    }
    out
}
