//! The generations of the system profile, read from its links.

use std::fs;
use std::path::PathBuf;

use bosco_model::StorePath;

use crate::places::Places;

/// What the profile's links are called.
const NAME: &str = "system";

/// The link of a generation, there or not.
#[must_use]
pub(crate) fn link(places: &Places, number: u32) -> PathBuf {
    places.profile().with_file_name(format!("{NAME}-{number}-link"))
}

/// The system of a generation, if it is there.
#[must_use]
pub(crate) fn toplevel(places: &Places, number: u32) -> Option<StorePath> {
    places.store_path(&link(places, number))
}

/// The generation that the profile names.
#[must_use]
pub(crate) fn present(places: &Places) -> Option<u32> {
    let target = fs::read_link(places.profile()).ok()?;
    number(target.file_name()?.to_str()?)
}

/// All that are there, the oldest first.
#[must_use]
pub(crate) fn all(places: &Places) -> Vec<u32> {
    let folder = places.profile().with_file_name("");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> = entries.filter_map(|entry| number(entry.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    numbers
}

/// The generation that is a system: the profile's own where it is that one, or else the newest.
#[must_use]
pub(crate) fn of(places: &Places, system: &StorePath) -> Option<u32> {
    let is = |number: &u32| toplevel(places, *number).as_ref() == Some(system);
    present(places).filter(is).or_else(|| all(places).into_iter().rev().find(is))
}

fn number(link: &str) -> Option<u32> {
    link.strip_prefix(NAME)?.strip_prefix('-')?.strip_suffix("-link")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn generations_are_found_by_number_and_by_system() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let path = |name: &str| format!("/nix/store/{}-{name}", "0".repeat(32));
        for (number, name) in [(2, "a"), (10, "b"), (9, "a")] {
            dir.write(&format!("{}/init", &path(name)[1..]), "");
            fs::create_dir_all(places.profile().parent().unwrap()).unwrap();
            symlink(dir.path().join(&path(name)[1..]), link(&places, number)).unwrap();
        }
        symlink("system-9-link", places.profile()).unwrap();
        assert_eq!((all(&places), present(&places)), (vec![2, 9, 10], Some(9)));
        let parse = |name: &str| StorePath::parse(&path(name)).unwrap();
        assert_eq!(toplevel(&places, 10), Some(parse("b")));
        assert_eq!((of(&places, &parse("a")), of(&places, &parse("c"))), (Some(9), None));
    }

    #[test]
    fn only_the_links_of_generations_are_generations() {
        assert_eq!(number("system-1-link"), Some(1));
        for link in ["system", "system-link", "system--link", "system-1", "other-1-link", "system-1x-link"] {
            assert_eq!(number(link), None, "{link}");
        }
    }
}
