//! Files that somebody was at: each opens to what it was, or is refused, and none takes long.

use std::collections::BTreeMap;

use super::super::tree::{MAX_KEY, MAX_VALUES};
use super::super::{MAX_FILE, shown};
use super::*;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end.max(1)
    }
}

const CHANGES: [&str; 10] = [
    "a bit is flipped",
    "it is cut off",
    "two values are swapped",
    "the MAC is gone",
    "it is for others",
    "a line is gone",
    "a line is there twice",
    "two lines are swapped",
    "some bytes are others",
    "a part is there twice",
];

fn change(kind: &str, bytes: &[u8], for_others: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let text = String::from_utf8(bytes.clone()).unwrap();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    match kind {
        "a bit is flipped" => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
            return bytes;
        }
        "it is cut off" => {
            bytes.truncate(dice.below(bytes.len()));
            return bytes;
        }
        "two values are swapped" => {
            let values: Vec<&str> = text
                .match_indices("ENC[")
                .map(|(at, _)| &text[at..=at + text[at..].find(']').unwrap()])
                .collect();
            let (a, b) = (values[dice.below(values.len())], values[dice.below(values.len())]);
            return text.replace(a, "\0").replace(b, a).replace('\0', b).into_bytes();
        }
        "the MAC is gone" => lines.retain(|line| !line.contains("mac")),
        "it is for others" => return for_others.to_vec(),
        "a line is gone" => drop(lines.remove(dice.below(lines.len()))),
        "a line is there twice" => lines.insert(dice.below(lines.len()), lines[dice.below(lines.len())]),
        "two lines are swapped" => {
            let (a, b) = (dice.below(lines.len()), dice.below(lines.len()));
            lines.swap(a, b);
        }
        "some bytes are others" => {
            for _ in 0..=dice.below(4) {
                let at = dice.below(bytes.len());
                bytes[at] = u8::try_from(dice.below(256)).unwrap();
            }
            return bytes;
        }
        _ => {
            let (from, to) = (dice.below(bytes.len()), dice.below(bytes.len()));
            let part = bytes[from..(from + dice.below(200)).min(bytes.len())].to_vec();
            bytes.splice(to..to, part);
            return bytes;
        }
    }
    lines.concat().into_bytes()
}

/// What a file says, without what sops does not bind: comments, and what is empty, which anybody can add.
fn said(map: &Map) -> BTreeMap<String, Vec<u8>> {
    fn add(path: String, value: &Value, out: &mut BTreeMap<String, Vec<u8>>) {
        match value {
            Value::Map(map) => {
                for (key, value) in map.entries() {
                    add(format!("{path}/{key}"), value, out);
                }
            }
            Value::List(list) => list.iter().for_each(|item| add(format!("{path}/{}", out.len()), item, out)),
            leaf => {
                let bytes = leaf.bytes().unwrap_or_default().to_vec();
                if !bytes.is_empty() {
                    out.insert(path, bytes);
                }
            }
        }
    }
    let mut out = BTreeMap::new();
    map.entries().for_each(|(key, value)| add(key.to_owned(), value, &mut out));
    out
}

/// What became of changed files: how many said what they had said, and why the others were refused.
#[derive(Default)]
struct Outcome {
    same: u32,
    refused: BTreeMap<String, u32>,
}

impl Outcome {
    /// Changes a file in many ways, and opens it: another plaintext without an error fails the test.
    fn of(
        &mut self,
        bytes: &[u8],
        for_others: &[u8],
        format: Format,
        identities: &[Identity],
        rounds: usize,
    ) {
        let before = File::parse(bytes, format).unwrap().open(identities).unwrap();
        let mut dice = Dice(1);
        for round in 0..rounds {
            let kind = CHANGES[round % CHANGES.len()];
            let changed = change(kind, bytes, for_others, &mut dice);
            match File::parse(&changed, format).and_then(|file| file.open(identities)) {
                Ok(opened) => {
                    let text = String::from_utf8_lossy(&changed);
                    assert_eq!(said(&opened.values), said(&before.values), "{kind}: {text}");
                    assert_ne!(kind, "the MAC is gone", "{text}");
                    opened.whole().unwrap();
                    self.same += 1;
                }
                Err(error) => {
                    let said = error.to_string();
                    assert!(!said.is_empty() && said.len() < 1000 && !said.contains('\0'), "{said}");
                    let reason = format!("{error:?}").split(['(', ' ']).next().unwrap().to_owned();
                    *self.refused.entry(reason).or_default() += 1;
                }
            }
        }
    }
}

/// About a tenth says what it said: where a comment, the name of a recipient or the version was changed.
#[test]
fn of_a_thousand_changed_files_each_says_what_it_said_or_is_refused() {
    let (ours, _) = Identity::generate();
    let (others, _) = Identity::generate();
    let samples = [
        (Format::Yaml, "a: x\nb: {c: [one, two, 3], d: true}\ne: |\n  two\n  lines\nf: 2.5\n"),
        (Format::Json, r#"{"a": "x", "b": {"c": ["one", "two", 3], "d": true}}"#),
        (Format::Dotenv, "# comment\nA=1\nB=two words\nC=one\\ntwo\n"),
        (Format::Ini, "; comment\n[a b]\nk = v\nl = w\n[c]\nk = x\n"),
        (Format::Binary, r#"{"data": "some bytes"}"#),
    ];
    let identities = [ours];
    let mut outcome = Outcome::default();
    for (format, text) in samples {
        let made = |to: &Identity| sample(text, format, to.recipient());
        outcome.of(&made(&identities[0]), &made(&others), format, &identities, 200);
    }
    let Outcome { same, refused } = outcome;
    println!("{same} said what they said; refused: {refused:?}");
    assert_eq!(same + refused.values().sum::<u32>(), 1000);
    assert!((50..200).contains(&same), "{same} {refused:?}");
    for reason in ["NoMac", "WrongMac", "NotForUs", "Syntax", "NotSops", "Value", "DataKey", "Twice"] {
        assert!(refused.contains_key(reason), "{reason}: {refused:?}");
    }
}

/// More of it than in those made here is metadata for PGP, so more of the changes are harmless.
#[test]
fn a_changed_file_of_the_real_sops_says_what_it_said_or_is_refused() {
    let Some(folder) = fixtures().map(|folder| folder.join("sops-nix")) else { return };
    let bytes = std::fs::read(folder.join("secrets.yaml")).unwrap();
    let for_others = std::fs::read(folder.join("../sops/example.yaml")).unwrap();
    let identities =
        Identity::parse_all(&std::fs::read_to_string(folder.join("age-keys.txt")).unwrap()).unwrap();
    let mut outcome = Outcome::default();
    outcome.of(&bytes, &for_others, Format::Yaml, &identities, 1000);
    println!("{} said what they said; refused: {:?}", outcome.same, outcome.refused);
    assert_eq!(outcome.same + outcome.refused.values().sum::<u32>(), 1000);
}

/// More than what is read of values, and as long as a test can wait for without the optimizer.
const MUCH: usize = MAX_FILE / 4;

#[test]
fn what_is_larger_or_deeper_than_secrets_are_is_refused_at_once() {
    let refused = |text: &str, format| File::parse(text.as_bytes(), format).err().unwrap();
    let began = std::time::Instant::now();
    for format in [Format::Yaml, Format::Json, Format::Dotenv, Format::Ini, Format::Binary] {
        assert_eq!(refused(&" ".repeat(MAX_FILE + 1), format), Error::TooLarge(MAX_FILE + 1));
        refused(&"[".repeat(MUCH), format);
        refused(&"{".repeat(MUCH), format);
        refused(&"- ".repeat(MUCH / 2), format);
        refused(&"a: ".repeat(MUCH / 3), format);
        refused(&"a=b\n".repeat(MUCH / 4), format);
        refused(&"#\n".repeat(MUCH / 2), format);
        refused(&"\"\n".repeat(MUCH / 2), format);
        refused(&"{\"a\":".repeat(MUCH / 5), format);
    }
    let mut nested = String::from("x");
    for _ in 0..100 {
        nested = format!("{{a: {nested}}}");
    }
    assert_eq!(refused(&nested, Format::Yaml), Error::TooDeep);
    let many: String = (0..MAX_VALUES).map(|n| format!("k{n}: v\n")).collect();
    assert_eq!(refused(&many, Format::Yaml), Error::TooManyValues);
    let mut bomb = String::from("a0: &a0 [x, x]\n");
    for n in 1..40 {
        bomb += &format!("a{n}: &a{n} [*a{}, *a{}]\n", n - 1, n - 1);
    }
    assert!(refused(&bomb, Format::Yaml).to_string().contains("aliases"));
    assert!(refused("a: b\n---\na: c\n", Format::Yaml).to_string().contains("more than one"));
    assert!(refused("1: x\n", Format::Yaml).to_string().contains("keys"));
    assert!(refused("a: !!binary eA==\n", Format::Yaml).to_string().contains("tags"));
    assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn no_error_shows_what_would_move_a_cursor() {
    assert_eq!(shown("a\x1b[2J\nb"), "a [2J b");
}

#[test]
fn a_name_of_a_key_that_lists_flat_ones_is_no_way_to_grow() {
    let deep = format!("sops_a{}=x\n", "__map_b".repeat(10_000));
    assert_eq!(File::parse(deep.as_bytes(), Format::Dotenv).err(), Some(Error::TooDeep));
    let far = "sops_age__list_99999999999__map_recipient=x\n";
    assert!(File::parse(far.as_bytes(), Format::Dotenv).is_ok_and(|file| file.recipients().len() == 1));
    let twice = [Item::Entry("a".into(), Value::Null), Item::Entry("a".into(), Value::Null)];
    assert!(Map(twice.to_vec()).without_twins().is_err());
}

/// As JSON, with metadata that can be read.
fn in_json(values: &str) -> Result<File, Error> {
    let sops = r#"{"age": [{"recipient": "x", "enc": "y"}], "mac": "z"}"#;
    File::parse(format!("{{{values}, \"sops\": {sops}}}").as_bytes(), Format::Json)
}

#[test]
fn no_file_makes_the_names_of_its_values_longer_than_a_machine_has_memory() {
    let long = "k".repeat(MAX_KEY + 1);
    assert_eq!(in_json(&format!("\"{long}\": 1")).err(), Some(Error::LongKeys));
    // Each key is short enough, and the way to each of many values is not.
    let key = "k".repeat(MAX_KEY);
    let many = |count: usize| (0..count).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>().join(",");
    let deep = |count: usize| {
        let open: String = (0..50).map(|_| format!("\"{key}\": {{")).collect();
        format!("{open}{}{}", many(count), "}".repeat(50))
    };
    assert_eq!(in_json(&deep(50_000)).err(), Some(Error::LongKeys));
    let names = in_json(&deep(100)).unwrap().names();
    assert!(names.len() == 100 && names[0].len() > 50 * MAX_KEY);
}

#[test]
fn the_values_of_json_are_counted_as_those_of_other_forms() {
    let list = |count: usize| in_json(&format!("\"a\": [{}]", vec!["1"; count].join(",")));
    assert!(list(MAX_VALUES / 2).is_ok());
    assert_eq!(list(MAX_VALUES).err(), Some(Error::TooManyValues));
    let maps = vec!["{}"; MAX_VALUES].join(",");
    assert_eq!(in_json(&format!("\"a\": [{maps}]")).err(), Some(Error::TooManyValues));
}

#[test]
fn metadata_of_one_level_are_put_together_at_once() {
    let began = std::time::Instant::now();
    let many: String = (0..MAX_VALUES - 1).map(|n| format!("sops_k{n}=x\n")).collect();
    assert!(matches!(File::parse(many.as_bytes(), Format::Dotenv).err(), Some(Error::Metadata(_))));
    let items: String =
        (0..MAX_VALUES - 1).map(|n| format!("sops_age__list_{n}__map_recipient=x\n")).collect();
    assert!(matches!(File::parse(items.as_bytes(), Format::Dotenv).err(), Some(Error::Metadata(_))));
    // A second for each would be much; each compared with each other takes minutes.
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "{:?}", began.elapsed());
}

#[test]
fn all_values_are_taken_out_at_once_and_are_those_that_are_named() {
    let (ours, _) = Identity::generate();
    let text = "a: x\nb: {c: [one, {d: 3}], e: true, f: null}\n";
    let bytes = sample(text, Format::Yaml, ours.recipient());
    let file = File::parse(&bytes, Format::Yaml).unwrap();
    let opened = file.open(&[ours]).unwrap();
    let values = opened.values();
    for (name, value) in &values {
        assert_eq!(opened.extract(name).unwrap().expose(), value.expose(), "{name}");
    }
    let named: Vec<&str> = values.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(named, ["a", "b/c/0", "b/c/1/d", "b/e"]);
    assert_eq!(file.names(), ["a", "b/c/0", "b/c/1/d", "b/e", "b/f"]);
}
