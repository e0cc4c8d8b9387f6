//! Bundles of secrets on the host's disk: ciphertext, each known by its digest. Which one is whose the journal says.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use bosco_activation::State;
use bosco_model::{Digest, StorePath};
use bosco_secrets::{Bundle, MAX_BUNDLE};

use crate::durable;
use crate::memory::{Memory, this_boot};
use crate::places::Places;

fn file(places: &Places, digest: Digest) -> PathBuf {
    places.secrets().join(format!("{digest}.json"))
}

/// Which bundle was kept last for an attempt that has not begun: an earlier one, which is taken up first and ends meanwhile,
/// leaves it. In memory: after a boot nobody asks for it any more.
fn expected(places: &Places) -> PathBuf {
    places.run().join("expected-secrets")
}

/// Has a bundle stay until an attempt begins that brings it. Where that can't be written down, it may have to come again.
fn expect(places: &Places, digest: Digest) {
    let _ = fs::create_dir_all(places.run());
    let _ = fs::write(expected(places), digest.to_string());
}

/// An attempt that brings a bundle has begun, and says itself how long that is kept.
pub(crate) fn begun(places: &Places, digest: Option<Digest>) {
    if digest.is_some() && expected_one(places) == digest {
        let _ = fs::remove_file(expected(places));
    }
}

fn expected_one(places: &Places) -> Option<Digest> {
    Digest::parse(fs::read_to_string(expected(places)).ok()?.trim()).ok()
}

/// Keeps a bundle that has come, if it is the one that was announced, for who activates with it next. It is on the disk when this
/// returns, and goes with the end of the attempt that brings it, or of another one once another bundle has come.
///
/// # Errors
/// In words, where it is another one, or no bundle.
pub fn keep(places: &Places, digest: Digest, bytes: &[u8]) -> Result<(), String> {
    if Digest::of(&[bytes]) != digest {
        return Err("the secrets are not those that were announced: they were damaged on their way".into());
    }
    Bundle::parse(bytes).map_err(|error| error.to_string())?;
    let folder = places.secrets();
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.map_err(|error| format!("can't make {}: {error}", folder.display()))?;
    durable::write_private(&file(places, digest), bytes)?;
    expect(places, digest);
    Ok(())
}

/// Whether a bundle was kept, and is what it was: it stays for who activates with it next, as if it had come now.
#[must_use]
pub fn has(places: &Places, digest: Digest) -> bool {
    let has = load(places, digest).is_ok();
    if has {
        expect(places, digest);
    }
    has
}

/// A bundle that was kept.
///
/// # Errors
/// In words, where it is not there any more, or not what it was.
pub(crate) fn load(places: &Places, digest: Digest) -> Result<Bundle, String> {
    let file = file(places, digest);
    let wrong = |why: String| format!("the secrets in {} can't be read: {why}", file.display());
    let size = fs::metadata(&file).map_err(|error| wrong(error.to_string()))?.len();
    if size > MAX_BUNDLE as u64 {
        return Err(wrong(format!("there are {size} bytes of them")));
    }
    let bytes = fs::read(&file).map_err(|error| wrong(error.to_string()))?;
    if Digest::of(&[&bytes]) != digest {
        return Err(wrong("they are damaged".into()));
    }
    Bundle::parse(&bytes).map_err(|error| wrong(error.to_string()))
}

/// What a system has to install now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct InUse {
    /// The bundle. `None`: the host has none.
    pub bundle: Option<Bundle>,
    /// Whether it has come with the very system that is being switched to: nothing is missing in it then.
    pub own: bool,
}

/// The bundle that a system has to install now.
///
/// # Errors
/// In words, where that can't be known; and where a candidate has brought some that is on its way to run, and this is another
/// system.
pub(crate) fn in_use(places: &Places, toplevel: &Path) -> Result<InUse, String> {
    let journal = Memory::new(places.clone()).load()?;
    let this_boot = journal.boot == this_boot();
    let is = |asked: &StorePath| is_of(places, asked, toplevel);
    let switching = journal.open().filter(|attempt| this_boot && attempt.state == State::Switching);
    let brought = switching.map(|attempt| &attempt.request).filter(|request| request.secrets.is_some());
    if let Some(request) = brought.filter(|request| !is(&request.toplevel)) {
        return Err(format!(
            "{} has brought secrets with it and is being switched to, and {} is none of it",
            request.toplevel,
            toplevel.display()
        ));
    }
    // A specialisation may declare more than what was brought.
    let own = brought.is_some_and(|request| is_same(places, &request.toplevel, toplevel));
    let bundle = journal.secrets_of(is, this_boot).map(|digest| load(places, digest)).transpose()?;
    Ok(InUse { bundle, own })
}

/// Whether a system is what was asked for by that path: the same, what a wrapper has in it, or one of its specialisations.
fn is_of(places: &Places, asked: &StorePath, toplevel: &Path) -> bool {
    let system = places.system(asked);
    is_same(places, asked, toplevel) || is_special(&places.absolute(system.as_str()), toplevel)
}

fn is_same(places: &Places, asked: &StorePath, toplevel: &Path) -> bool {
    let path = toplevel.to_str().and_then(|path| StorePath::parse(path).ok());
    path.is_some_and(|path| path == *asked || places.system(&path) == places.system(asked))
}

/// Whether a path is one of the specialisations of a system.
fn is_special(system: &Path, toplevel: &Path) -> bool {
    let Ok(links) = fs::read_dir(system.join("specialisation")) else { return false };
    links.flatten().any(|link| fs::canonicalize(link.path()).is_ok_and(|path| path == toplevel))
}

/// Removes all bundles but those, and the one that an attempt is still to bring. What can't be removed now is with the next activation.
pub(crate) fn prune(places: &Places, in_use: &[Digest]) {
    let Ok(entries) = fs::read_dir(places.secrets()) else { return };
    let kept: Vec<PathBuf> =
        in_use.iter().copied().chain(expected_one(places)).map(|digest| file(places, digest)).collect();
    for entry in entries.flatten().filter(|entry| !kept.contains(&entry.path())) {
        let _ = durable::remove(&entry.path());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::PermissionsExt;

    use bosco_activation::{Attempt, Journal, Request};
    use bosco_model::{Goal, Limits, Profiles};

    use super::*;
    use crate::places::testing::TempDir;

    fn bundle() -> (Digest, Vec<u8>) {
        let bytes =
            Bundle::new(BTreeMap::new(), BTreeMap::new(), BTreeMap::new()).unwrap().to_bytes().unwrap();
        (Digest::of(&[&bytes]), bytes)
    }

    #[test]
    fn a_bundle_is_kept_for_root_alone_and_only_if_it_is_what_was_announced() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let (digest, bytes) = bundle();
        keep(&places, digest, &bytes).unwrap();
        assert_eq!(load(&places, digest).unwrap().to_bytes().unwrap(), bytes);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file(&places, digest)), mode(&places.secrets())), (0o600, 0o700));

        assert!(keep(&places, Digest::of(&[b"x"]), &bytes).unwrap_err().contains("damaged on their way"));
        assert!(keep(&places, Digest::of(&[b"{}"]), b"{}").is_err(), "it is no bundle");
        fs::write(file(&places, digest), "{}").unwrap();
        assert!(load(&places, digest).unwrap_err().contains("damaged"));
    }

    #[test]
    fn what_was_committed_is_in_use_and_all_else_goes() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let (digest, bytes) = bundle();
        let system = PathBuf::from(format!("/nix/store/{}-nixos", "0".repeat(32)));
        assert_eq!(in_use(&places, &system), Ok(InUse { bundle: None, own: false }));
        keep(&places, digest, &bytes).unwrap();
        let memory = Memory::new(places.clone());
        memory.prepare().unwrap();
        let journal = Journal { secrets: Some(digest), ..Journal::default() };
        memory.save(&journal).unwrap();
        assert!(in_use(&places, &system).unwrap().bundle.is_some());

        let other = places.secrets().join(format!("{}.json", Digest::of(&[b"old"])));
        fs::write(&other, "").unwrap();
        prune(&places, &journal.secrets_in_use());
        assert!(!other.exists() && file(&places, digest).exists());

        // What has come for an attempt outlasts the end of one that is taken up before it, and not its own.
        prune(&places, &[]);
        assert!(file(&places, digest).exists());
        begun(&places, Some(Digest::of(&[b"old"])));
        prune(&places, &[]);
        assert!(file(&places, digest).exists());
        begun(&places, Some(digest));
        prune(&places, &[]);
        assert!(!file(&places, digest).exists());
    }

    /// An attempt at a system with secrets of its own.
    fn attempt(toplevel: &str, secrets: Digest, state: State) -> Attempt {
        let request = Request {
            id: "1".into(),
            goal: Goal::Switch,
            toplevel: StorePath::parse(toplevel).unwrap(),
            profiles: Profiles::default(),
            limits: Limits::default(),
            keeps_system: false,
            secrets: Some(secrets),
            generation: None,
            by: "ada@laptop".into(),
            reboot: false,
            again: false,
            connection: true,
            number: 0,
            hold: false,
            lifts: 0,
            doubts_hub: false,
        };
        Attempt { state, ..Attempt::new(request, 0) }
    }

    #[test]
    fn a_system_in_a_wrapper_has_the_secrets_that_came_with_the_wrapper_and_no_other_system_is_switched_to() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let path = |number: u8| format!("/nix/store/{number:032}-nixos");
        let (old, system, wrapper, special) = (path(0), path(1), path(2), path(3));
        dir.write(&format!("{}/nixos-version", &old[1..]), "1");
        dir.write(&format!("{}/nixos-version", &system[1..]), "1");
        dir.write(&format!("{}/nixos-version", &special[1..]), "1");
        let at = |path: &str| dir.path().join(&path[1..]);
        fs::create_dir_all(at(&wrapper)).unwrap();
        fs::create_dir_all(at(&system).join("specialisation")).unwrap();
        std::os::unix::fs::symlink(at(&special), at(&system).join("specialisation/x")).unwrap();
        std::os::unix::fs::symlink(at(&system).join("nixos-version"), at(&wrapper).join("nixos-version"))
            .unwrap();
        let (digest, bytes) = bundle();
        keep(&places, digest, &bytes).unwrap();
        let memory = Memory::new(places.clone());
        memory.prepare().unwrap();
        let mut journal = Journal {
            attempt: Some(attempt(&wrapper, digest, State::Switching)),
            boot: this_boot(),
            ..Journal::default()
        };
        memory.save(&journal).unwrap();
        let has = |path: &str| in_use(&places, Path::new(path)).map(|is| is.bundle.is_some() && is.own);
        assert_eq!((has(&system), has(&wrapper)), (Ok(true), Ok(true)));
        let special = in_use(&places, &at(&special)).unwrap();
        assert!(special.bundle.is_some() && !special.own);
        assert!(has(&old).unwrap_err().contains("is none of it"));
        journal.attempt = Some(attempt(&wrapper, digest, State::Reverting));
        memory.save(&journal).unwrap();
        assert_eq!((has(&old), has(&system)), (Ok(false), Ok(false)), "what was there before had none");
    }
}
