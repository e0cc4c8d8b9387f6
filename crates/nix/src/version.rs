//! Nix's version.

use std::fmt;

/// A version of Nix, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The 2 of 2.26.3.
    pub major: u32,
    /// The 26 of 2.26.3.
    pub minor: u32,
}

impl Version {
    /// The oldest Nix that evaluates for bosco: it reads `FLAKE#.` as all of a flake's outputs (release notes of 2.19).
    pub const OLDEST: Self = Self { major: 2, minor: 19 };

    /// Reads what `nix --version` prints: `nix (Nix) 2.26.3`, `nix (Lix, like Nix) 2.91.1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.lines().next()?.rsplit(' ').next()?;
        let mut parts = number.split('.');
        let major = parts.next()?.parse().ok()?;
        let minor =
            parts.next()?.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()?;
        Some(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_all_kinds_of_nix_are_read_and_ordered() {
        let read = |text| Version::parse(text).unwrap();
        assert!(read("nix (Nix) 2.26.3") >= Version::OLDEST);
        assert!(read("nix (Lix, like Nix) 2.91.1\nSystem type: x86_64-linux") >= Version::OLDEST);
        assert!(read("nix (Nix) 2.20pre20231222_e1e2a9a") >= Version::OLDEST);
        assert!(read("nix (Nix) 2.8.0") < Version::OLDEST);
        assert!(read("nix (Nix) 3.0.0") >= Version::OLDEST);
        assert_eq!(Version::parse("command not found"), None);
        assert_eq!(Version::parse(""), None);
    }
}
