//! Which hosts: `web-*`, `@tag`, `a,b`, `!@laptop`, `@web & !@canary`.
//!
//! `,` joins, `&` keeps what both sides have and binds tighter, `!` turns around what follows, parentheses group.
//! `*` stands for any characters, `?` for one.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;
use wildmatch::WildMatch;

use crate::name::{is_name_character, is_tag_character};
use crate::{HostName, Tag};

/// The longest selector, in bytes.
const MAX_LENGTH: usize = 64 * 1024;
/// How deep parentheses and `!` may be nested: reading a selector must not use up the stack.
const MAX_DEPTH: usize = 64;

/// Why a text is not a selector. Positions count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidSelector {
    /// A host, a tag or `(` was expected.
    #[error("a host's name, `@tag`, `!` or `(` is missing at position {0}")]
    Missing(usize),
    /// A character that has no meaning there.
    #[error("`{0}` at position {1} has no meaning there")]
    Unexpected(char, usize),
    /// `(` without `)`.
    #[error("the `(` at position {0} is never closed")]
    Unclosed(usize),
    /// More than 64 levels.
    #[error("parentheses and `!` are nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More than 64 KiB.
    #[error("a selector has at most {MAX_LENGTH} bytes, this one has {0}")]
    TooLong(usize),
}

/// A set of hosts, described by their names and tags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Name(WildMatch),
    Tag(WildMatch),
    Not(Box<Node>),
    All(Vec<Node>),
    Any(Vec<Node>),
}

/// What a selector says of a host of which only the name is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It is selected.
    Yes,
    /// It is not, whatever its tags are.
    No,
    /// Its tags decide.
    If(Condition),
}

/// What is left to ask of a host's tags. As JSON, `nix/evaluate.nix` decides it, so that a host that is not selected
/// costs no evaluation of its toplevel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// One of its tags matches.
    Tag(Pattern),
    /// The condition does not hold.
    Not(Box<Condition>),
    /// Each of them holds.
    All(Vec<Condition>),
    /// One of them holds.
    Any(Vec<Condition>),
}

/// A name with wildcards. As JSON, the POSIX extended regular expression that matches the same texts as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern(WildMatch);

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Of what a pattern can hold, only these are special.
        let escaped = self.0.to_string().replace('.', "[.]").replace('+', "[+]");
        serializer.serialize_str(&escaped.replace('*', ".*").replace('?', "."))
    }
}

impl Eq for Selector {}

impl Selector {
    /// Reads a selector.
    ///
    /// # Errors
    /// [`InvalidSelector`] with the place that could not be read.
    pub fn parse(text: &str) -> Result<Self, InvalidSelector> {
        if text.len() > MAX_LENGTH {
            return Err(InvalidSelector::TooLong(text.len()));
        }
        let mut reader = Reader { characters: text.chars().collect(), at: 0, depth: 0 };
        let node = reader.any()?;
        match reader.peek() {
            None => Ok(Self(node)),
            Some(character) => Err(InvalidSelector::Unexpected(character, reader.at + 1)),
        }
    }

    /// `*`: every host.
    #[must_use]
    pub fn everything() -> Self {
        Self(Node::Name(WildMatch::new("*")))
    }

    /// What any of several select; `None` without one.
    #[must_use]
    pub fn any(mut selectors: Vec<Self>) -> Option<Self> {
        match selectors.len() {
            0 | 1 => selectors.pop(),
            _ => Some(Self(Node::Any(selectors.into_iter().map(|selector| selector.0).collect()))),
        }
    }

    /// The hosts that it names without a wildcard: each has to be there, or it was misspelled.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.0.collect(&mut names, |node| match node {
            Node::Name(pattern) => Some(pattern),
            _ => None,
        });
        names
    }

    /// The tags that it names without a wildcard.
    #[must_use]
    pub fn tags(&self) -> Vec<String> {
        let mut tags = Vec::new();
        self.0.collect(&mut tags, |node| match node {
            Node::Tag(pattern) => Some(pattern),
            _ => None,
        });
        tags
    }

    /// What it says of a host of which only the name is known.
    #[must_use]
    pub fn narrow(&self, name: &HostName) -> Reach {
        self.0.narrow(name)
    }

    /// What it says of a host of which the tags are known too; the same as `nix/evaluate.nix` makes of it.
    #[must_use]
    pub fn matches(&self, name: &HostName, tags: &BTreeSet<Tag>) -> bool {
        match self.narrow(name) {
            Reach::Yes => true,
            Reach::No => false,
            Reach::If(condition) => condition.holds(tags),
        }
    }
}

impl Condition {
    fn holds(&self, tags: &BTreeSet<Tag>) -> bool {
        match self {
            Self::Tag(Pattern(pattern)) => tags.iter().any(|tag| pattern.matches(tag.as_str())),
            Self::Not(inner) => !inner.holds(tags),
            Self::All(parts) => parts.iter().all(|part| part.holds(tags)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(tags)),
        }
    }
}

impl TryFrom<String> for Selector {
    type Error = InvalidSelector;

    fn try_from(text: String) -> Result<Self, InvalidSelector> {
        Self::parse(&text)
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl Node {
    /// The patterns of one kind that have no wildcard.
    fn collect(&self, words: &mut Vec<String>, kind: fn(&Self) -> Option<&WildMatch>) {
        let word = kind(self).map(ToString::to_string);
        words.extend(word.filter(|word| !word.contains(['*', '?'])));
        match self {
            Self::Name(_) | Self::Tag(_) => {}
            Self::Not(inner) => inner.collect(words, kind),
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.collect(words, kind)),
        }
    }

    fn narrow(&self, name: &HostName) -> Reach {
        match self {
            Self::Name(pattern) if pattern.matches(name.as_str()) => Reach::Yes,
            Self::Name(_) => Reach::No,
            Self::Tag(pattern) => Reach::If(Condition::Tag(Pattern(pattern.clone()))),
            Self::Not(inner) => match inner.narrow(name) {
                Reach::Yes => Reach::No,
                Reach::No => Reach::Yes,
                Reach::If(condition) => Reach::If(Condition::Not(Box::new(condition))),
            },
            Self::All(parts) => combine(parts, name, &Reach::No, Reach::Yes, Condition::All),
            Self::Any(parts) => combine(parts, name, &Reach::Yes, Reach::No, Condition::Any),
        }
    }
}

/// Joins what the parts say: `decisive` settles the whole, `neutral` is what it is without any part left.
fn combine(
    parts: &[Node],
    name: &HostName,
    decisive: &Reach,
    neutral: Reach,
    join: fn(Vec<Condition>) -> Condition,
) -> Reach {
    let mut open = Vec::new();
    for part in parts {
        match part.narrow(name) {
            said if said == *decisive => return said,
            Reach::If(condition) => open.push(condition),
            Reach::Yes | Reach::No => {}
        }
    }
    match open.pop() {
        None => neutral,
        Some(last) if open.is_empty() => Reach::If(last),
        Some(last) => {
            open.push(last);
            Reach::If(join(open))
        }
    }
}

/// Reads from left to right, one method per level of binding.
struct Reader {
    characters: Vec<char>,
    at: usize,
    depth: usize,
}

impl Reader {
    /// The next character that is not a blank.
    fn peek(&mut self) -> Option<char> {
        while self.characters.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.characters.get(self.at).copied()
    }

    fn take(&mut self, wanted: char) -> bool {
        let found = self.peek() == Some(wanted);
        if found {
            self.at += 1;
        }
        found
    }

    fn any(&mut self) -> Result<Node, InvalidSelector> {
        self.list(',', Self::all, Node::Any)
    }

    fn all(&mut self) -> Result<Node, InvalidSelector> {
        self.list('&', Self::one, Node::All)
    }

    fn list(
        &mut self,
        separator: char,
        read: fn(&mut Self) -> Result<Node, InvalidSelector>,
        join: fn(Vec<Node>) -> Node,
    ) -> Result<Node, InvalidSelector> {
        let first = read(self)?;
        if !self.take(separator) {
            return Ok(first);
        }
        let mut parts = vec![first, read(self)?];
        while self.take(separator) {
            parts.push(read(self)?);
        }
        Ok(join(parts))
    }

    fn one(&mut self) -> Result<Node, InvalidSelector> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(InvalidSelector::TooDeep);
        }
        let opened = self.at + 1;
        let node = match self.peek() {
            Some('!') => {
                self.at += 1;
                Node::Not(Box::new(self.one()?))
            }
            Some('(') => {
                self.at += 1;
                let inner = self.any()?;
                if !self.take(')') {
                    return Err(self.peek().map_or(InvalidSelector::Unclosed(opened), |character| {
                        InvalidSelector::Unexpected(character, self.at + 1)
                    }));
                }
                inner
            }
            Some('@') => {
                self.at += 1;
                Node::Tag(self.pattern(is_tag_character)?)
            }
            _ => Node::Name(self.pattern(is_name_character)?),
        };
        self.depth -= 1;
        Ok(node)
    }

    fn pattern(&mut self, may_stand: fn(char) -> bool) -> Result<WildMatch, InvalidSelector> {
        let rest = self.characters.get(self.at..).unwrap_or_default();
        let text: String = rest.iter().take_while(|c| may_stand(**c) || matches!(c, '*' | '?')).collect();
        if text.is_empty() {
            return Err(match rest.first() {
                None | Some(',' | '&' | ')') => InvalidSelector::Missing(self.at + 1),
                Some(character) => InvalidSelector::Unexpected(*character, self.at + 1),
            });
        }
        self.at += text.len();
        Ok(WildMatch::new(&text))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(f, false)
    }
}

impl Node {
    /// Writes the node; `tight` where a list around it would be read differently.
    fn write(&self, f: &mut fmt::Formatter<'_>, tight: bool) -> fmt::Result {
        match self {
            Self::Name(pattern) => write!(f, "{pattern}"),
            Self::Tag(pattern) => write!(f, "@{pattern}"),
            Self::Not(inner) => {
                f.write_str("!")?;
                inner.write(f, true)
            }
            Self::All(parts) => write_list(f, parts, " & ", tight),
            Self::Any(parts) => write_list(f, parts, ",", tight),
        }
    }
}

fn write_list(f: &mut fmt::Formatter<'_>, parts: &[Node], separator: &str, tight: bool) -> fmt::Result {
    if tight {
        f.write_str("(")?;
    }
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        // A list inside a list was in parentheses, but for `&` inside `,`.
        part.write(f, separator == " & " || matches!(part, Node::Any(_)))?;
    }
    if tight {
        f.write_str(")")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tag(pattern: &str) -> Condition {
        Condition::Tag(Pattern(WildMatch::new(pattern)))
    }

    fn selects(selector: &str, name: &str, tags: &[&str]) -> bool {
        let tags = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
        Selector::parse(selector).unwrap().matches(&HostName::parse(name).unwrap(), &tags)
    }

    #[test]
    fn selectors_select_what_they_say() {
        for (selector, name, tags, expected) in [
            ("web-1", "web-1", &[][..], true),
            ("web-1", "web-10", &[], false),
            ("web-*", "web-10", &[], true),
            ("web-?", "web-10", &[], false),
            ("*", "anything", &[], true),
            ("a,b", "b", &[], true),
            ("a,b", "c", &[], false),
            ("@web", "web", &[], false),
            ("@web", "x", &["web"], true),
            ("@pre*", "x", &["prefix"], true),
            ("!@laptop", "x", &["web"], true),
            ("!@laptop", "x", &["laptop"], false),
            ("@web & !@canary", "x", &["web"], true),
            ("@web & !@canary", "x", &["web", "canary"], false),
            ("a, @web & x", "a", &[], true),
            ("(a, x) & @web", "a", &[], false),
            ("!(a, @web)", "x", &[], true),
            ("!!a", "a", &[], true),
            ("@v1.2", "x", &["v1x2"], false),
            ("@v1.2", "x", &["v1.2"], true),
            ("@v?.*", "x", &["v1.2"], true),
        ] {
            assert_eq!(selects(selector, name, tags), expected, "{selector} on {name} {tags:?}");
        }
    }

    #[test]
    fn several_selectors_select_what_any_of_them_does() {
        let several =
            |texts: &[&str]| Selector::any(texts.iter().map(|text| Selector::parse(text).unwrap()).collect());
        assert_eq!(several(&[]), None);
        assert_eq!(several(&["a"]).unwrap().to_string(), "a");
        assert_eq!(several(&["a & @x", "b,c"]).unwrap().to_string(), "a & @x,(b,c)");
    }

    #[test]
    fn the_names_without_a_wildcard_are_known() {
        let selector = Selector::parse("a, web-*, !(b & @c)").unwrap();
        assert_eq!((selector.names(), selector.tags()), (vec!["a".into(), "b".into()], vec!["c".into()]));
    }

    #[test]
    fn a_name_that_settles_it_needs_no_tags() {
        let host = HostName::parse("web-1").unwrap();
        let reach = |text| Selector::parse(text).unwrap().narrow(&host);
        assert_eq!(reach("web-*,@x"), Reach::Yes);
        assert_eq!(reach("db & @x"), Reach::No);
        assert_eq!(reach("!web-1"), Reach::No);
        assert_eq!(reach("web-1 & @x"), Reach::If(tag("x")));
        assert_eq!(reach("db, !@a.*"), Reach::If(Condition::Not(Box::new(tag("a.*")))));
    }

    #[test]
    fn what_is_left_to_ask_is_what_the_nix_expression_reads() {
        let host = HostName::parse("x").unwrap();
        let Reach::If(condition) = Selector::parse("@a.1* & (@b, !@c:d)").unwrap().narrow(&host) else {
            panic!("tags decide this one")
        };
        assert_eq!(
            serde_json::to_string(&condition).unwrap(),
            r#"{"all":[{"tag":"a[.]1.*"},{"any":[{"tag":"b"},{"not":{"tag":"c:d"}}]}]}"#
        );
    }

    #[test]
    fn what_is_no_selector_is_told_with_its_place() {
        for (text, error) in [
            ("", InvalidSelector::Missing(1)),
            ("a,", InvalidSelector::Missing(3)),
            ("a,,b", InvalidSelector::Missing(3)),
            ("@", InvalidSelector::Missing(2)),
            ("a b", InvalidSelector::Unexpected('b', 3)),
            ("a)", InvalidSelector::Unexpected(')', 2)),
            ("(a", InvalidSelector::Unclosed(1)),
            ("$(id)", InvalidSelector::Unexpected('$', 1)),
            ("a & |", InvalidSelector::Unexpected('|', 5)),
        ] {
            assert_eq!(Selector::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_selector_cannot_use_up_the_stack() {
        assert_eq!(Selector::parse(&"!".repeat(60_000)), Err(InvalidSelector::TooDeep));
        assert_eq!(Selector::parse(&"(".repeat(60_000)), Err(InvalidSelector::TooDeep));
        assert!(Selector::parse(&vec!["a"; 20_000].join(",")).is_ok());
    }

    fn selector_text() -> impl Strategy<Value = String> {
        let leaf = prop_oneof!["[a-c]{1,2}", "[a-c]\\*", "@[a-c]", "@[a-c]\\?", "@\\*"];
        leaf.prop_recursive(5, 40, 3, |inner| {
            prop_oneof![
                inner.clone().prop_map(|s| format!("!({s})")),
                prop::collection::vec(inner.clone(), 2..4).prop_map(|v| format!("({})", v.join(","))),
                prop::collection::vec(inner, 2..4).prop_map(|v| format!("({})", v.join(" & "))),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_selector_reads_back_as_itself(text in selector_text()) {
            let selector = Selector::parse(&text).unwrap();
            let written = selector.to_string();
            let again = Selector::parse(&written).unwrap();
            prop_assert_eq!(again.to_string(), written);
            for name in ["a", "b", "ab", "cc"] {
                let name = HostName::parse(name).unwrap();
                for tags in [&[][..], &["a"], &["b", "ca"]] {
                    let tags = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
                    prop_assert_eq!(selector.matches(&name, &tags), again.matches(&name, &tags));
                }
            }
        }

        #[test]
        fn not_selects_exactly_the_others(text in selector_text(), name in "[a-c]{1,2}", tag in "[a-c]{1,2}") {
            let tags = BTreeSet::from([Tag::parse(&tag).unwrap()]);
            let name = HostName::parse(&name).unwrap();
            let straight = Selector::parse(&text).unwrap().matches(&name, &tags);
            let turned = Selector::parse(&format!("!({text})")).unwrap().matches(&name, &tags);
            prop_assert_ne!(straight, turned);
        }

        #[test]
        fn no_text_makes_reading_a_selector_panic(text in any::<String>()) {
            let _ = Selector::parse(&text);
        }
    }
}
