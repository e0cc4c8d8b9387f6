//! The generations of the system profile, and of others, read from their links.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bosco_model::StorePath;

use crate::places::Places;
use crate::run::{program, succeed};

/// How many generations of the system are kept.
const MOST: usize = 50;
/// How long Nix may take to remove the others.
const PRUNE: Duration = Duration::from_secs(120);

/// The link of a generation, there or not.
#[must_use]
pub(crate) fn link(places: &Places, number: u32) -> PathBuf {
    link_of(&places.profile(), number)
}

/// The same of any profile.
#[must_use]
pub(crate) fn link_of(profile: &Path, number: u32) -> PathBuf {
    let name = profile.file_name().unwrap_or_default().to_string_lossy();
    profile.with_file_name(format!("{name}-{number}-link"))
}

/// The system of a generation, if it is there.
#[must_use]
pub(crate) fn toplevel(places: &Places, number: u32) -> Option<StorePath> {
    places.store_path(&link(places, number))
}

/// The generation that the profile names.
#[must_use]
pub(crate) fn present(places: &Places) -> Option<u32> {
    present_of(&places.profile())
}

/// The same of any profile.
#[must_use]
pub(crate) fn present_of(profile: &Path) -> Option<u32> {
    let target = fs::read_link(profile).ok()?;
    number(profile.file_name()?.to_str()?, target.file_name()?.to_str()?)
}

/// All that are there, the oldest first.
#[must_use]
pub(crate) fn all(places: &Places) -> Vec<u32> {
    all_of(&places.profile())
}

/// The same of any profile.
#[must_use]
pub(crate) fn all_of(profile: &Path) -> Vec<u32> {
    let folder = profile.with_file_name("");
    let name = profile.file_name().unwrap_or_default().to_string_lossy();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut numbers: Vec<u32> =
        entries.filter_map(|entry| number(&name, entry.file_name().to_str()?)).collect();
    numbers.sort_unstable();
    numbers
}

/// Of very many generations of the system the oldest go.
///
/// # Errors
/// In words. That one can't be removed harms nothing.
pub(crate) fn prune(places: &Places) -> Result<(), String> {
    let mut numbers = all(places);
    let keep = numbers.len().saturating_sub(MOST);
    numbers.truncate(keep);
    if numbers.is_empty() {
        return Ok(());
    }
    let present = present(places);
    let links = [places.current_system(), places.booted_system()];
    let in_use: Vec<_> = links.iter().filter_map(|path| places.store_path(path)).collect();
    numbers.retain(|number| {
        let system = toplevel(places, *number).map(|toplevel| places.system(&toplevel));
        Some(*number) != present && system.is_none_or(|system| !in_use.contains(&system))
    });
    if numbers.is_empty() {
        return Ok(());
    }
    let mut nix = program("nix-env");
    nix.arg("--profile").arg(places.profile()).arg("--delete-generations");
    nix.args(numbers.iter().map(ToString::to_string));
    succeed(&mut nix, PRUNE).map(drop)
}

/// The generation that is a system: the profile's own where it is that one, or else the newest.
#[must_use]
pub(crate) fn of(places: &Places, system: &StorePath) -> Option<u32> {
    let is = |number: &u32| toplevel(places, *number).is_some_and(|path| places.system(&path) == *system);
    present(places).filter(is).or_else(|| all(places).into_iter().rev().find(is))
}

/// A system by the path that the profile has it under: itself, but where that wraps it.
#[must_use]
pub(crate) fn named(places: &Places, system: StorePath) -> StorePath {
    of(places, &system).and_then(|number| toplevel(places, number)).unwrap_or(system)
}

fn number(name: &str, link: &str) -> Option<u32> {
    link.strip_prefix(name)?.strip_prefix('-')?.strip_suffix("-link")?.parse().ok()
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
        assert_eq!(number("system", "system-1-link"), Some(1));
        for link in ["system", "system-link", "system--link", "system-1", "other-1-link", "system-1x-link"] {
            assert_eq!(number("system", link), None, "{link}");
        }
    }
}
