//! `.sops.yaml`: whom `sops` encrypts a file to. bosco's rules stand in a marked block before those of the fleet's own
//! hand, of which no byte is changed. Pure.

use std::collections::{BTreeMap, BTreeSet};

use regex_lite::Regex;
use saphyr_parser::{Event, Parser};
use thiserror::Error;

use super::readers::Reader;

/// What the file is called.
pub(crate) const FILE: &str = ".sops.yaml";
/// The key with the rules in it.
const KEY: &str = "creation_rules:";
/// The block's first line, and its last one.
const BEGIN: &str =
    "# bosco: what follows is written by `bosco secrets rekey`; the rules behind its end are yours";
const END: &str = "# bosco: end";
/// The most parts that are read of it.
const MAX_EVENTS: usize = 100_000;

/// Why a `.sops.yaml` can't be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Unusable {
    /// It is not YAML.
    #[error("line {line}: {why}")]
    Syntax { line: usize, why: String },
    /// A rule's regular expression is none.
    #[error("line {line}: `{regex}` is no regular expression")]
    Regex { line: usize, regex: String },
    /// There is no line to write behind.
    #[error("line {line}: `creation_rules` is not written as a list with one rule behind each `-`")]
    NoList { line: usize },
}

/// What the rules of a `.sops.yaml` say.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    /// Which files should be encrypted: the rules that name some.
    pub(crate) paths: Vec<Regex>,
    /// Who is named outside of bosco's block.
    pub(crate) named: BTreeMap<Reader, Named>,
}

/// Where a recipient is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// The name of its anchor: `&admin_ada`.
    pub(crate) name: Option<String>,
    /// The `.sops.yaml`.
    pub(crate) file: String,
    /// The line in it, from 1.
    pub(crate) line: usize,
}

/// Reads a `.sops.yaml`.
pub(crate) fn read(text: &str) -> Result<Rules, Unusable> {
    let mut rules = Rules { paths: Vec::new(), named: named(text) };
    let mut after_key = false;
    for event in Parser::new_from_str(text).take(MAX_EVENTS) {
        let (event, span) = event.map_err(|error| Unusable::Syntax {
            line: error.marker().line(),
            why: error.info().to_owned(),
        })?;
        let Event::Scalar(value, ..) = event else {
            after_key = false;
            continue;
        };
        if std::mem::replace(&mut after_key, value == "path_regex") {
            let unreadable = |_| Unusable::Regex { line: span.start.line(), regex: value.to_string() };
            rules.paths.push(Regex::new(&value).map_err(unreadable)?);
        }
    }
    Ok(rules)
}

/// The recipients in a text, with the name of the anchor that stands before them.
fn named(text: &str) -> BTreeMap<Reader, Named> {
    let mut all: BTreeMap<Reader, Named> = BTreeMap::new();
    let Ok(key) = Regex::new(
        r#"(?:&([A-Za-z0-9_.-]+)\s+)?["']?(age1[a-z0-9]{20,}|ssh-(?:ed25519|rsa) [A-Za-z0-9+/=]+)"#,
    ) else {
        return all;
    };
    for (number, line) in own_lines(text).filter(|(_, line)| !line.trim_start().starts_with('#')) {
        for found in key.captures_iter(line) {
            let Some(reader) = found.get(2).map(|reader| Reader::of(reader.as_str())) else { continue };
            let name = found.get(1).map(|name| name.as_str().to_owned());
            let known = all.get(&reader);
            // Where it has a name is where it is to be changed.
            if known.is_none_or(|known| known.name.is_none() && name.is_some()) {
                all.insert(reader, Named { name, file: FILE.to_owned(), line: number + 1 });
            }
        }
    }
    all
}

/// Who is to read a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The file, from where the `.sops.yaml` lies.
    pub(crate) file: String,
    pub(crate) readers: BTreeSet<Reader>,
    /// The same, as sops is to take them.
    pub(crate) recipients: Vec<String>,
    /// Who they are, in words.
    pub(crate) who: String,
}

/// The lines that are not of bosco's block, with their indexes. A block without an end is none: what is behind it may be the
/// fleet's own.
fn own_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let begin = lines.iter().position(|line| line.trim() == BEGIN);
    let end = begin.and_then(|begin| lines.iter().skip(begin).position(|line| line.trim() == END));
    let block = begin.zip(end).map(|(begin, end)| begin..=begin + end);
    let is_own = move |index: &usize| block.as_ref().is_none_or(|block| !block.contains(index));
    lines.into_iter().enumerate().filter(move |(index, _)| is_own(index))
}

fn without_block(text: &str) -> String {
    own_lines(text).map(|(_, line)| line).collect()
}

/// The text with these rules before all others. The same rules give the same text.
pub(crate) fn with_rules(text: &str, rules: &[Rule]) -> Result<String, Unusable> {
    let mut text = without_block(text);
    if rules.is_empty() {
        return Ok(text);
    }
    let at = text.split_inclusive('\n').position(|line| line.starts_with(KEY));
    let Some(at) = at else {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        return Ok(format!("{text}{KEY}\n{}", block(rules, "  ")));
    };
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let behind = lines[at][KEY.len()..].trim();
    if !(behind.is_empty() || behind.starts_with('#') || behind == "[]") {
        return Err(Unusable::NoList { line: at + 1 });
    }
    let first = lines[at + 1..].iter().find(|line| {
        let line = line.trim_start();
        !line.is_empty() && !line.starts_with('#')
    });
    let indent = match first {
        Some(line) if line.trim_start().starts_with('-') => &line[..line.len() - line.trim_start().len()],
        Some(line) if line.starts_with([' ', '\t']) => return Err(Unusable::NoList { line: at + 1 }),
        _ => "  ",
    };
    let key =
        if behind == "[]" { format!("{KEY}\n") } else { format!("{}\n", lines[at].trim_end_matches('\n')) };
    Ok(format!("{}{key}{}{}", lines[..at].concat(), block(rules, indent), lines[at + 1..].concat()))
}

/// Whether bosco's block has a rule, whatever it calls the readers.
pub(crate) fn has(text: &str, rule: &Rule) -> bool {
    let own: BTreeSet<usize> = own_lines(text).map(|(number, _)| number).collect();
    let lines = text.lines().enumerate().filter(|(number, _)| !own.contains(number));
    let lines: Vec<&str> = lines.map(|(_, line)| line.trim()).collect();
    let rule = written(rule, "");
    let rule: Vec<&str> = rule.lines().map(str::trim).collect();
    lines.windows(rule.len()).any(|window| window == rule)
}

fn written(Rule { file, recipients, .. }: &Rule, indent: &str) -> String {
    let readers: Vec<String> = recipients.iter().map(|one| format!("{indent}    {one}")).collect();
    let regex = literal(file);
    format!("{indent}- path_regex: '{regex}'\n{indent}  age: >-\n{}\n", readers.join(",\n"))
}

fn block(rules: &[Rule], indent: &str) -> String {
    let mut block = format!("{indent}{BEGIN}\n");
    for rule in rules {
        block.push_str(&format!("{indent}# {}\n{}", rule.who, written(rule, indent)));
    }
    block.push_str(&format!("{indent}{END}\n"));
    block
}

/// The regular expression of one file, for a text of YAML in single quotes.
fn literal(file: &str) -> String {
    let mut regex = String::from("^");
    for character in file.chars() {
        if r"\.+*?()|[]{}^$".contains(character) {
            regex.push('\\');
        }
        regex.push(character);
        if character == '\'' {
            regex.push('\'');
        }
    }
    regex.push('$');
    regex
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ADA: &str = "age1a8pk4akrdamj7nvqy3zywgtny8dxz7t5xzu7u8v9mhrayp9freqsqatyrs";

    fn rule(file: &str) -> Rule {
        Rule {
            file: file.into(),
            readers: [Reader::of(ADA), Reader::of("age1zzz")].into(),
            recipients: vec![ADA.into(), "age1zzz".into()],
            who: "web, ada".into(),
        }
    }

    const OWN: &str = "# whose keys\nkeys:\n  - &admin_ada age1a8pk4akrdamj7nvqy3zywgtny8dxz7t5xzu7u8v9mhrayp9freqsqatyrs # laptop\n\
                       creation_rules: # first match\n\n  # everything else\n  - path_regex: secrets/[^/]+\\.yaml$\n    key_groups:\n    - age:\n      - *admin_ada\n";

    #[test]
    fn the_fleets_own_rules_and_comments_stay_as_they_are_behind_boscos() {
        let written = with_rules(OWN, &[rule("secrets/web.yaml")]).unwrap();
        assert_eq!(without_block(&written), OWN);
        let lines: Vec<&str> = written.lines().collect();
        let at = lines.iter().position(|line| line.trim() == BEGIN).unwrap();
        assert_eq!(lines[at - 1], "creation_rules: # first match");
        assert_eq!(lines[at + 2], "  - path_regex: '^secrets/web\\.yaml$'");
        assert_eq!(with_rules(&written, &[rule("secrets/web.yaml")]).unwrap(), written);
        let rules = read(&written).unwrap();
        assert!(rules.paths[0].is_match("secrets/web.yaml") && !rules.paths[0].is_match("secrets/web_yaml"));
        assert_eq!(rules.paths.len(), 2);
        let ada = rules.named.get(&Reader::of(ADA)).unwrap();
        assert_eq!((ada.name.as_deref(), ada.line), (Some("admin_ada"), 3));
        assert_eq!(rules.named.len(), 1, "what bosco wrote names nobody");
    }

    #[test]
    fn a_rule_is_there_whatever_is_there_for_other_files() {
        let [web, db] = ["secrets/web.yaml", "secrets/db.yaml"].map(rule);
        let written = with_rules(OWN, std::slice::from_ref(&db)).unwrap();
        assert!(has(&written, &db) && !has(&written, &web));
        let called_otherwise = Rule { who: "web and ada".into(), ..db.clone() };
        assert!(has(&written, &called_otherwise));
        let for_fewer = Rule { recipients: vec![ADA.into()], ..db.clone() };
        assert!(!has(&written, &for_fewer));
        // The fleet's own words are not bosco's.
        let own = written.replace(BEGIN, "# ours").replace(END, "# end");
        assert!(!has(&own, &db));
    }

    #[test]
    fn a_file_without_rules_gets_some_and_other_indents_are_kept() {
        let fresh = with_rules("", &[rule("a.env")]).unwrap();
        assert!(fresh.starts_with("creation_rules:\n  # bosco"), "{fresh}");
        assert_eq!(with_rules(&fresh, &[]).unwrap(), "creation_rules:\n");
        let flat = "creation_rules:\n- path_regex: x\n  pgp: y";
        let written = with_rules(flat, &[rule("a.env")]).unwrap();
        assert!(written.contains("\n- path_regex: '^a\\.env$'\n  age: >-\n"), "{written}");
        assert_eq!(read(&written).unwrap().paths.len(), 2);
        assert!(with_rules("creation_rules: []\n", &[rule("a")]).is_ok());
    }

    #[test]
    fn a_block_whose_end_is_gone_takes_nothing_along() {
        let written = with_rules(OWN, &[rule("a")]).unwrap();
        let open: String = written.split_inclusive('\n').filter(|line| line.trim() != END).collect();
        let again = with_rules(&open, &[rule("b")]).unwrap();
        assert!(again.contains("secrets/[^/]+"), "{again}");
        assert_eq!(with_rules(&again, &[rule("b")]).unwrap(), again);
    }

    #[test]
    fn what_bosco_can_not_write_into_is_refused_with_its_line() {
        let refused = with_rules("keys: []\ncreation_rules: [ { age: x } ]\n", &[rule("a")]).unwrap_err();
        assert_eq!(refused, Unusable::NoList { line: 2 });
        assert!(matches!(read("a: [\n"), Err(Unusable::Syntax { .. })));
        assert!(matches!(read("creation_rules:\n- path_regex: '('\n"), Err(Unusable::Regex { line: 2, .. })));
    }

    proptest! {
        #[test]
        fn a_rule_is_of_its_file_alone(file in "[a-z0-9./'+$ (){}-]{1,30}", other in "[a-z0-9./'+$-]{1,30}") {
            let file = file.trim();
            prop_assume!(!file.is_empty());
            let rules = read(&with_rules(OWN, &[rule(file)]).unwrap()).unwrap();
            prop_assert!(rules.paths[0].is_match(file));
            prop_assert_eq!(rules.paths[0].is_match(&other), other == file);
        }

        #[test]
        fn nothing_makes_it_panic(text in "([a-z#:&* \\-\n\\[\\]']|creation_rules:|\n|age1a8pk4akrdamj7nvqy3zywgtny8dxz7t5xzu7u8v9mhrayp9freqsqatyrs){0,60}") {
            let _ = read(&text);
            if let Ok(written) = with_rules(&text, &[rule("a")]) {
                prop_assert_eq!(with_rules(&written, &[rule("a")]).unwrap(), written);
            }
        }
    }
}
