//! What a host means by a path: which area of its world, and which names inside it. Pure: nothing here knows the disk,
//! and no name that comes out of it can lead out of a folder.

use super::refusal::Refusal;

/// What [`Area::Config`] is called.
pub(crate) const CONFIG: &str = "config";
/// The longest path that is read, in bytes: below the kernel's 4096, so that what is in front of it on the hub fits too.
pub(crate) const MAX_PATH: usize = 2048;
/// The longest name in a path, in bytes: what file systems allow.
pub(crate) const MAX_NAME: usize = 255;
/// How many names a path may have below its area: so deep go the folders of a host, and whoever walks through them.
pub(crate) const MAX_DEPTH: usize = 40;
/// The longest name of a log, in bytes.
pub(crate) const MAX_LOG_NAME: usize = 128;

/// A part of a host's world, with rules of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Area {
    /// Its files, from which it builds itself: to be read.
    Config,
    /// What it reports: each file is written once.
    Logs,
    /// Its own space.
    Backup,
}

impl Area {
    /// All there are, in the order in which they are listed.
    pub(crate) const ALL: [Area; 3] = [Area::Backup, Area::Config, Area::Logs];

    /// Its name, for the host as on the hub's disk.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Area::Config => CONFIG,
            Area::Logs => "logs",
            Area::Backup => "backup",
        }
    }
}

/// A name in a folder: one that can't be `.` or `..`, has no `/` and no NUL, and fits into a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_NAME {
            return Err(Refusal::Failed(format!("a name has at most {MAX_NAME} bytes")));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The folder of the areas, which is nowhere on the disk.
    Top,
    /// A file or folder of an area; without names the area's own folder.
    Inside(Area, Vec<Name>),
}

/// Reads a path as a host sends it; one that does not begin with `/` is meant from the top.
///
/// `..` is taken away with the name before it, as nothing here is ever a link, and at the top it stays there: a host
/// finds its own world at the end of every path, never what is around it.
///
/// russh-sftp puts U+FFFD in place of bytes that are not UTF-8. Two files would become one then, so such a name, and
/// one that really has that character, is refused.
///
/// # Errors
/// Where it is too long or too deep, has a character that no name can have, or leads to no area.
pub(crate) fn parse(text: &str) -> Result<Place, Refusal> {
    if text.len() > MAX_PATH {
        return Err(Refusal::Failed(format!("a path has at most {MAX_PATH} bytes")));
    }
    if text.contains('\0') {
        return Err(Refusal::Failed("a path can't have a NUL".into()));
    }
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err(Refusal::Failed("a path must be UTF-8, and without U+FFFD".into()));
    }
    let mut names: Vec<&str> = Vec::new();
    for name in text.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    let Some((first, inside)) = names.split_first() else { return Ok(Place::Top) };
    let area = Area::ALL.into_iter().find(|area| area.name() == *first).ok_or(Refusal::Missing)?;
    if inside.len() > MAX_DEPTH {
        return Err(Refusal::Failed(format!("at most {MAX_DEPTH} folders can be in each other")));
    }
    let inside = inside.iter().map(|name| Name::parse(name)).collect::<Result<_, _>>()?;
    Ok(Place::Inside(area, inside))
}

/// The path of a place, as a host is told it.
pub(crate) fn display(place: &Place) -> String {
    match place {
        Place::Top => "/".into(),
        Place::Inside(area, names) => {
            let mut path = format!("/{}", area.name());
            for name in names {
                path.push('/');
                path.push_str(name.as_str());
            }
            path
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inside(text: &str) -> (Area, Vec<String>) {
        match parse(text) {
            Ok(Place::Inside(area, names)) => (area, names.into_iter().map(|name| name.0).collect()),
            other => panic!("{text} is {other:?}"),
        }
    }

    #[test]
    fn a_path_leads_into_an_area() {
        assert_eq!(inside("/backup/a/b"), (Area::Backup, vec!["a".into(), "b".into()]));
        assert_eq!(inside("logs//x/."), (Area::Logs, vec!["x".into()]));
        assert_eq!(inside("/backup/../config/./a/b/.."), (Area::Config, vec!["a".into()]));
        assert_eq!(inside("../../config"), (Area::Config, vec![]));
        for top in ["", "/", ".", "..", "/backup/..", "/../../.."] {
            assert_eq!(parse(top), Ok(Place::Top), "{top}");
        }
    }

    #[test]
    fn what_is_in_no_area_is_not_there() {
        for text in ["/etc/passwd", "/backup/../../etc/passwd", "/Backup", "/backups/x", "~"] {
            assert_eq!(parse(text), Err(Refusal::Missing), "{text}");
        }
    }

    #[test]
    fn odd_bytes_and_what_is_too_long_are_refused() {
        let long = format!("/backup/{}", "x".repeat(MAX_NAME + 1));
        let deep = format!("/backup{}", "/x".repeat(MAX_DEPTH + 1));
        let longer = format!("/backup{}", "/.".repeat(MAX_PATH));
        for text in ["/backup/a\0b", "/backup/\u{FFFD}", &long, &deep, &longer] {
            assert!(matches!(parse(text), Err(Refusal::Failed(_))), "{text}");
        }
        assert!(parse(&format!("/backup{}", "/x".repeat(MAX_DEPTH))).is_ok());
        assert!(parse(&format!("/backup/{}", "x".repeat(MAX_NAME))).is_ok());
    }

    /// Texts in which what matters comes often.
    fn texts() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            Just("/".to_owned()),
            Just("..".to_owned()),
            Just(".".to_owned()),
            Just("backup".to_owned()),
            Just("logs".to_owned()),
            Just("config".to_owned()),
            any::<String>(),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn a_name_that_was_read_is_one_entry_of_one_folder(text in texts()) {
            if let Ok(Place::Inside(_, names)) = parse(&text) {
                prop_assert!(names.len() <= MAX_DEPTH);
                for name in names {
                    let name = name.as_str();
                    prop_assert!(!name.is_empty() && name.len() <= MAX_NAME);
                    prop_assert!(name != "." && name != ".." && !name.contains(['/', '\0', char::REPLACEMENT_CHARACTER]));
                }
            }
        }

        #[test]
        fn a_path_that_is_told_leads_to_where_it_was_told(text in texts()) {
            if let Ok(place) = parse(&text) {
                prop_assert_eq!(parse(&display(&place)), Ok(place));
            }
        }
    }
}
