//! The names of hosts and tags.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The longest name of a host or tag, in bytes: what DNS allows for a whole name.
const MAX_NAME: usize = 253;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidName {
    /// There is no text.
    #[error("a name can't be empty")]
    Empty,
    /// The text is longer than [`MAX_NAME`].
    #[error("a name has at most {MAX_NAME} characters, this one has {0}")]
    TooLong(usize),
    /// A character that selectors, shells or file names would read as something else.
    #[error(
        "`{name}` has `{character}` at position {position}; names are made of letters, digits, `_`, `-` and `.`"
    )]
    Character {
        /// The whole text.
        name: String,
        /// The first character that can't stand there.
        character: char,
        /// Where it stands, from 1.
        position: usize,
    },
    /// `-x` would be read as an option, `.x` as a hidden file.
    #[error("`{0}` can't begin with `-` or `.`")]
    Start(String),
}

/// Whether a character may stand in a host's name.
pub(crate) fn is_name_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.')
}

/// Whether a selector can have a character in a tag.
pub(crate) fn is_tag_character(character: char) -> bool {
    is_name_character(character) || matches!(character, ':' | '/' | '+' | '=')
}

/// What every name keeps to.
fn check(text: &str, may_stand: impl Fn(char) -> bool) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > MAX_NAME {
        return Err(InvalidName::TooLong(text.len()));
    }
    if let Some((index, character)) = text.chars().enumerate().find(|(_, c)| !may_stand(*c)) {
        return Err(InvalidName::Character { name: text.to_owned(), character, position: index + 1 });
    }
    Ok(())
}

fn check_host(text: &str) -> Result<(), InvalidName> {
    check(text, is_name_character)?;
    if text.starts_with(['-', '.']) {
        return Err(InvalidName::Start(text.to_owned()));
    }
    Ok(())
}

/// Hives have tags of all kinds; a selector can name those made of [`is_tag_character`], and all others with `*`.
fn check_tag(text: &str) -> Result<(), InvalidName> {
    check(text, |character| !character.is_control())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Reads a name.
            ///
            /// # Errors
            /// [`InvalidName`] where the text is not one.
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                $check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of a host: its attribute in the fleet's source.
    HostName, check_host
}
name! {
    /// The name of a fleet.
    FleetName, check_host
}
name! {
    /// The name of a profile.
    ProfileName, check_host
}
name! {
    /// The name of a user on a host.
    UserName, check_host
}
name! {
    /// A tag, as `deployment.tags` lists them.
    Tag, check_tag
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_would_be_read_as_something_else_are_refused() {
        for (text, says) in [
            ("", "empty"),
            ("-rf", "begin with"),
            (".hidden", "begin with"),
            ("a b", "position 2"),
            ("a/b", "`/`"),
            ("@tag", "`@`"),
            ("web-*", "`*`"),
            ("é", "`é`"),
            ("a\nb", "position 2"),
        ] {
            let error = HostName::parse(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_tag_may_be_what_hives_have() {
        assert!(Tag::parse("env:prod").is_ok() && Tag::parse("höhle 7").is_ok());
        assert!(Tag::parse("a\nb").is_err() && Tag::parse("").is_err());
    }

    #[test]
    fn a_name_longer_than_dns_allows_is_refused() {
        assert!(HostName::parse(&"a".repeat(MAX_NAME)).is_ok());
        assert_eq!(HostName::parse(&"a".repeat(MAX_NAME + 1)), Err(InvalidName::TooLong(MAX_NAME + 1)));
    }

    proptest! {
        #[test]
        fn what_is_a_name_reads_back_as_itself(text in "[A-Za-z0-9_][A-Za-z0-9_.-]{0,40}") {
            let tag = Tag::parse(&text).unwrap();
            prop_assert_eq!(tag.as_str(), &text);
        }

        #[test]
        fn no_text_makes_reading_a_name_panic(text in any::<String>()) {
            let _ = HostName::parse(&text);
        }
    }
}
