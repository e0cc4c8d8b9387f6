//! Whether the paths of a system are on the disk as they were when they were made. Nix does not sync what it writes by
//! default: after a power cut its database can know paths whose files are empty.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bosco_activation::{Effect, Refused};
use bosco_model::StorePath;
use rustix::fs::{MemfdFlags, Mode, OFlags, memfd_create, syncfs};

use crate::run::{Ran, program, run, succeed};

/// How many paths are given to one `nix-store`: what it says of so many damaged ones is still kept whole.
const BATCH: usize = 128;
/// How many damaged paths are named.
const NAMED: usize = 20;
/// The longest list of a closure, in bytes.
const LONGEST_LIST: u64 = 64 * 1024 * 1024;

/// Reads the paths again that the candidate needs and what runs does not. `limit`: how long all of it may take.
///
/// # Errors
/// [`Refused::Damaged`] where some are not there or not what they were; [`Refused::Failed`] where that can't be found out.
pub(crate) fn verify_new(candidate: &Path, running: &Path, limit: Duration) -> Result<(), Refused> {
    let deadline = Instant::now() + limit;
    let left = || deadline.saturating_duration_since(Instant::now());
    let failed = |why| Refused::Failed { doing: Effect::Sync, why };
    let mut new = closure(candidate, left()).map_err(failed)?;
    // What can't be told apart is read again as a whole.
    let known = closure(running, left()).unwrap_or_default();
    new.retain(|path| !known.contains(path));
    let new: Vec<String> = new.into_iter().collect();
    let missing = |path: &&String| fs::symlink_metadata(path).is_err();
    let missing: Vec<String> = new.iter().filter(missing).take(NAMED).cloned().collect();
    if !missing.is_empty() {
        return Err(Refused::Damaged { paths: missing });
    }
    let damaged = damaged(&new, |paths| run(program("nix-store").arg("--verify-path").args(paths), left()))
        .map_err(failed)?;
    if damaged.is_empty() { Ok(()) } else { Err(Refused::Damaged { paths: damaged }) }
}

/// What of a file is damaged where it can't be read: the store path that it leads to.
pub(crate) fn damaged_file(file: &Path, limit: Duration) -> Option<Refused> {
    let path = store_path_in(fs::canonicalize(file).ok()?.to_str()?)?;
    let paths = damaged(&[path], |paths| run(program("nix-store").arg("--verify-path").args(paths), limit));
    paths.ok().filter(|paths| !paths.is_empty()).map(|paths| Refused::Damaged { paths })
}

/// All paths that one needs, itself among them.
pub(crate) fn closure(path: &Path, limit: Duration) -> Result<BTreeSet<String>, String> {
    let failed = |error: std::io::Error| format!("no room for the list of a closure: {error}");
    // The list is longer than what is kept of a program's output, and must not need a disk that may be full.
    let memory = memfd_create("closure", MemfdFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut list = File::from(memory);
    let file = PathBuf::from(format!("/proc/{}/fd/{}", std::process::id(), list.as_raw_fd()));
    let script = "exec nix-store --query --requisites \"$1\" >\"$2\"";
    succeed(program("sh").args(["-c", script, "nix-store"]).arg(path).arg(file), limit)
        .map_err(|why| format!("the paths that {} needs can't be listed: {why}", path.display()))?;
    list.rewind().map_err(failed)?;
    let mut text = String::new();
    list.take(LONGEST_LIST).read_to_string(&mut text).map_err(failed)?;
    Ok(text.lines().filter(|line| line.starts_with('/')).map(str::to_owned).collect())
}

/// Those of some paths that are damaged, at most [`NAMED`], by a program that verifies any number of them.
fn damaged(
    paths: &[String],
    verify: impl Fn(&[String]) -> Result<Ran, String>,
) -> Result<Vec<String>, String> {
    let mut all = BTreeSet::new();
    for batch in paths.chunks(BATCH) {
        let ran = verify(batch)?;
        if ran.code == 0 {
            continue;
        }
        let (found, whole) = parse_damaged(&ran.said);
        all.extend(found);
        if whole {
            continue;
        }
        // It stopped at an error, and has not looked at those behind it.
        for path in batch {
            if all.len() >= NAMED {
                break;
            }
            let ran = verify(std::slice::from_ref(path))?;
            let (found, _) = parse_damaged(&ran.said);
            if ran.code != 0 && found.is_empty() && !ran.said.contains("Input/output error") {
                return Err(format!("{path} can't be verified: {}", ran.last_words()));
            }
            if ran.code != 0 {
                all.insert(path.clone());
            }
        }
    }
    Ok(all.into_iter().take(NAMED).collect())
}

/// The paths that `nix-store --verify-path` complains of, and whether it has looked at all that it was given. Its words
/// are those of Nix 2.3 to 2.3x.
fn parse_damaged(said: &str) -> (BTreeSet<String>, bool) {
    let mut found = BTreeSet::new();
    let mut whole = true;
    for line in said.lines() {
        let line = line.trim();
        let is_error = line.starts_with("error:");
        whole &= !is_error;
        let named = line.contains("was modified!")
            || is_error && (line.contains("does not exist") || line.contains("is not valid"));
        if named && let Some(path) = store_path_in(line) {
            found.insert(path);
        }
    }
    let whole = whole && !found.is_empty();
    (found, whole)
}

/// The first store path in a line, without what stands behind it.
fn store_path_in(line: &str) -> Option<String> {
    let from = &line[line.find("/nix/store/")?..];
    let base = &from["/nix/store/".len()..];
    let ends = |c: char| !(c.is_ascii_alphanumeric() || "+-._?=".contains(c));
    let path = &from[..from.len() - base.len() + base.find(ends).unwrap_or(base.len())];
    StorePath::parse(path).ok().map(|path| path.as_str().to_owned())
}

/// Brings the store and Nix's database to the disk.
///
/// # Errors
/// In words, where that fails: the disk is broken then, or full.
pub(crate) fn sync_store() -> Result<(), String> {
    ["/nix/store", "/nix/var/nix/db"].into_iter().try_for_each(|folder| sync(Path::new(folder)))
}

/// Brings the file system that a folder lies on to the disk.
pub(crate) fn sync(folder: &Path) -> Result<(), String> {
    let failed =
        |error: std::io::Error| format!("{} can't be brought to the disk: {error}", folder.display());
    // A user may have put something there that is no folder, and that nobody ever opens at its other end.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    syncfs(file).map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(number: usize) -> String {
        format!("/nix/store/{number:032}-x.y")
    }

    fn modified(path: &str) -> String {
        format!("path '{path}' was modified! expected hash 'sha256:11ha', got 'sha256:0hs3'\n")
    }

    #[test]
    fn damaged_paths_are_found_in_what_nix_says() {
        let warning = "warning: the group 'nixbld' specified in 'build-users-group' does not exist\n";
        let said = format!("{warning}{}{}", modified(&path(1)), modified(&path(2)));
        assert_eq!(parse_damaged(&said), ([path(1), path(2)].into(), true));
        let said = format!("{}error: path '/{}' does not exist\n", modified(&path(1)), path(3));
        assert_eq!(parse_damaged(&said), ([path(1), path(3)].into(), false));
        let said = format!("error: path '{}' is not valid\n", path(4));
        assert_eq!(parse_damaged(&said), ([path(4)].into(), false));
        let said = format!("path ‘{}’ was modified! expected hash ‘a’, got ‘b’\n", path(5));
        assert_eq!(parse_damaged(&said), ([path(5)].into(), true));
        assert_eq!(parse_damaged("error: reading file: Input/output error\n"), (BTreeSet::new(), false));
        assert_eq!(parse_damaged(""), (BTreeSet::new(), false));
    }

    /// As Nix does it: what is modified is told, what is missing ends it.
    fn verify(bad: &[usize], missing: &[usize], paths: &[String]) -> Ran {
        let mut ran = Ran { code: 0, said: String::new() };
        for path in paths {
            if bad.iter().any(|number| *path == self::path(*number)) {
                ran.code = 1;
                ran.said += &modified(path);
            }
            if missing.iter().any(|number| *path == self::path(*number)) {
                ran.code = 1;
                ran.said += "error: reading from file: Input/output error\n";
                break;
            }
        }
        ran
    }

    #[test]
    fn every_damaged_path_is_named_also_where_nix_stops_at_the_first() {
        let paths: Vec<String> = (0..500).map(path).collect();
        let found = |bad: &[usize], missing: &[usize]| damaged(&paths, |some| Ok(verify(bad, missing, some)));
        let named = |numbers: &[usize]| Ok(numbers.iter().copied().map(path).collect::<Vec<_>>());
        assert_eq!(found(&[], &[]), named(&[]));
        assert_eq!(found(&[3, 400], &[]), named(&[3, 400]));
        assert_eq!(found(&[3, 50, 499], &[10, 20]), named(&[3, 10, 20, 50, 499]));
        let many: Vec<usize> = (100..200).collect();
        assert_eq!(found(&many, &[]).unwrap().len(), NAMED);
        let no_daemon = Ran { code: 1, said: "error: cannot connect to daemon\n".into() };
        let error = damaged(&paths, |_| Ok(no_daemon.clone())).unwrap_err();
        assert!(error.ends_with("can't be verified: error: cannot connect to daemon"), "{error}");
    }

    #[test]
    fn a_file_system_that_is_not_there_is_no_success() {
        assert_eq!(sync(&std::env::temp_dir()), Ok(()));
        assert!(
            sync(Path::new("/no/such/folder")).unwrap_err().starts_with("/no/such/folder can't be brought")
        );
    }

    #[test]
    fn what_is_no_folder_is_not_waited_for() {
        let dir = crate::places::testing::TempDir::new();
        let fifo = dir.path().join("profiles");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, Mode::RWXU).unwrap();
        assert!(sync(&fifo).unwrap_err().contains("can't be brought to the disk"));
    }

    proptest! {
        #[test]
        fn no_words_make_reading_them_panic(said in "(error: |path ')?(/nix/store/)?[0-9a-z]{0,40}\\PC{0,40}( was modified!)?") {
            for path in parse_damaged(&said).0 {
                prop_assert!(StorePath::parse(&path).is_ok());
            }
        }
    }
}
