//! The profiles that a host has beside its system, as deploy-rs keeps them: where they are, setting and activating them, and
//! bringing back what they were.
//!
//! Each is its user's own. Nothing is written among a user's files but by processes of that user, so that no link there leads
//! root astray.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bosco_activation::{Attempt, Cause, Effect, Was};
use bosco_model::{Goal, Profile, ProfileAt, StorePath, UserName};

use crate::hands::goes_on;
use crate::places::Places;
use crate::run::{Ran, program, run, run_into, succeed, tail};
use crate::{check, durable, generations};

/// How long a question to the host's users may take.
const ASK: Duration = Duration::from_secs(30);
/// How long Nix may take to change a profile.
const SET: Duration = Duration::from_secs(120);
/// How long the activation of an old profile may take.
const BACK: Duration = Duration::from_secs(180);
/// How long it may take to bring all of them back.
const ALL_BACK: Duration = Duration::from_secs(480);
/// With what getent(1) ends where there is no such user.
const NO_SUCH_KEY: i32 = 2;
/// How many generations a profile may have.
const MOST_GENERATIONS: usize = 10_000;
/// How much is read of the script that activates a system, in bytes.
const MOST_SCRIPT: u64 = 64 * 1024;
/// What keeps the profiles of an attempt is called so, and a number: what they are to be, and what they were.
const ROOTS: [&str; 2] = ["candidate-profile-", "before-profile-"];
/// How much of what an activation says is kept, in bytes: its end.
const MOST_SAID: u64 = 256 * 1024;
/// What activates a profile, in what it names.
const SCRIPT: &str = "deploy-rs-activate";

/// A user of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Account {
    name: String,
    uid: u32,
    home: PathBuf,
}

/// Whether something can be activated as a profile.
#[must_use]
pub(crate) fn can_be_activated(path: &StorePath) -> bool {
    let script = Path::new(path.as_str()).join(SCRIPT);
    fs::metadata(script).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Whether a system has an activation that is not the one of deploy-rs's `activate.nixos`.
#[must_use]
pub(crate) fn has_own_script(system: &StorePath) -> bool {
    let mut text = Vec::new();
    let script = File::open(Path::new(system.as_str()).join(SCRIPT));
    script.is_ok_and(|file| file.take(MOST_SCRIPT).read_to_end(&mut text).is_ok()) && !switches(&text)
}

fn switches(script: &[u8]) -> bool {
    String::from_utf8_lossy(script).contains("switch-to-configuration dry-activate")
}

/// What a profile is now. One whose user is not there yet is nothing.
///
/// # Errors
/// In words, where that is not known: it could not be gone back to.
pub(crate) fn was(places: &Places, profile: &Profile) -> Result<Was, String> {
    let Some(account) = account(&profile.user)? else { return Ok(Was::default()) };
    let link = link(places, profile, &account.home);
    let (path, generation) = (places.store_path(&link), generations::present_of(&link));
    let generations = generations::all_of(&link);
    if generations.len() > MOST_GENERATIONS {
        return Err(format!("{profile} has more than {MOST_GENERATIONS} generations"));
    }
    let target = fs::read_link(&link).ok().filter(|_| path.is_none() || generation.is_none());
    Ok(Was { link: Some(link), path, generation, target, generations })
}

/// Keeps what the profiles of an attempt are to be, and what they were.
pub(crate) fn root(places: &Places, attempt: &Attempt) -> Result<(), String> {
    let before = attempt.before.iter().flat_map(|before| &before.profiles).map(|was| was.path.as_ref());
    let wanted = attempt.request.profiles.all.iter().map(|one| Some(&one.path));
    for (name, paths) in [(ROOTS[0], wanted.collect::<Vec<_>>()), (ROOTS[1], before.collect())] {
        for (number, path) in paths.into_iter().enumerate() {
            let Some(path) = path else { continue };
            durable::link(path.as_ref(), &places.gcroots().join(format!("{name}{number}")))?;
        }
    }
    Ok(())
}

/// Takes that away.
pub(crate) fn unroot(places: &Places, attempt: &Attempt) -> Result<(), String> {
    let numbers = 0..attempt.request.profiles.all.len();
    numbers
        .flat_map(|number| ROOTS.map(|name| format!("{name}{number}")))
        .try_for_each(|name| durable::remove(&places.gcroots().join(name)))
}

/// Sets and activates the profiles of an attempt, one after the other. What their activations say goes to `note`.
pub(crate) fn activate_all(
    places: &Places,
    attempt: &Attempt,
    deadline: Instant,
    stop: &AtomicBool,
    note: &dyn Fn(&str),
) -> Result<(), Cause> {
    let nothing = Was::default();
    let before = attempt.before.iter().flat_map(|before| &before.profiles).chain(std::iter::repeat(&nothing));
    for (one, was) in attempt.request.profiles.all.iter().zip(before) {
        note(&format!("bosco: {} is to be {}", one.profile, one.path));
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        goes_on(stop).map_err(|why| Cause::Failed { doing: Effect::Profiles, why })?;
        activate(places, one, was, attempt.request.goal, left, note)?;
    }
    Ok(())
}

/// Brings back what the profiles of an attempt were, the last one first, of those that were `which`. Gives whether the
/// activation of one has failed.
///
/// # Errors
/// [`Cause::Profile`] where one is not what it was.
pub(crate) fn bring_all_back(
    places: &Places,
    attempt: &Attempt,
    which: &dyn Fn(&Was) -> bool,
    stop: &AtomicBool,
    note: &dyn Fn(&str),
) -> Result<bool, Cause> {
    let Some(before) = attempt.before.as_ref().filter(|_| attempt.profiled) else { return Ok(false) };
    let way = Way {
        goal: attempt.request.goal,
        // An earlier try may have come half-way.
        again: attempt.reverts > 0 || attempt.resumed > 0,
        deadline: Instant::now() + ALL_BACK,
        note,
    };
    let mut failed = false;
    let all = attempt.request.profiles.all.iter().zip(&before.profiles).rev();
    for (one, was) in all.filter(|(_, was)| which(was)) {
        let back = goes_on(stop).and_then(|()| bring_back(places, one, was, &way));
        failed |= back.map_err(|why| Cause::Profile { profile: one.profile.to_string(), why })?;
    }
    Ok(failed)
}

/// How profiles are brought back.
struct Way<'a> {
    goal: Goal,
    /// Whether it was tried before.
    again: bool,
    deadline: Instant,
    note: &'a dyn Fn(&str),
}

impl Way<'_> {
    /// How long a step may take that has this limit by itself.
    fn left(&self, limit: Duration) -> Result<Duration, String> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err("going back takes too long".into()) } else { Ok(left.min(limit)) }
    }
}

/// Sets a profile and activates it; of a test only the latter, with what it would name.
fn activate(
    places: &Places,
    one: &ProfileAt,
    was: &Was,
    goal: Goal,
    limit: Duration,
    note: &dyn Fn(&str),
) -> Result<(), Cause> {
    let to_blame = |why| Cause::Profile { profile: one.profile.to_string(), why };
    let found = find(places, &one.profile, was).map_err(to_blame)?;
    let nobody = || to_blame(format!("the host has no user `{}`", one.profile.user));
    let (account, link) = found.ok_or_else(nobody)?;
    if goal == Goal::Test {
        let closure = Path::new(one.path.as_str());
        return run_script(places, &account, closure, goal, limit, note).map_err(to_blame);
    }
    let set = || {
        if places.store_path(&link).as_ref() != Some(&one.path) {
            let folder = link.parent().unwrap_or(Path::new("/"));
            succeed(account.program("mkdir").arg("-p").arg(folder), SET)?;
            succeed(account.nix_env(&link).args(["--set", one.path.as_str()]), SET)?;
        }
        sync(&link)
    };
    set().map_err(|why| Cause::Failed { doing: Effect::Profiles, why })?;
    run_script(places, &account, &link, goal, limit, note).map_err(to_blame)
}

/// Brings back what a profile was, and activates that, unless it was never touched.
fn bring_back(places: &Places, one: &ProfileAt, was: &Was, way: &Way<'_>) -> Result<bool, String> {
    let Some((account, link)) = find(places, &one.profile, was)? else {
        // Who came with the system has gone with it.
        let gone = || format!("the host has no user `{}` any more", one.profile.user);
        return if was.link.is_none() { Ok(false) } else { Err(gone()) };
    };
    if was.path.as_ref() == Some(&one.path) {
        return Ok(false);
    }
    let present = places.store_path(&link);
    let made = made(places, &link, one, was);
    let is_new = present.as_ref() == Some(&one.path);
    if !(way.again || way.goal == Goal::Test || is_new || !made.is_empty()) {
        return Ok(false);
    }
    if let (Some(path), Some(number)) = (&was.path, was.generation) {
        if present.as_ref() != Some(path) {
            let mut nix = account.nix_env(&link);
            succeed(nix.args(["--switch-generation", &number.to_string()]), way.left(SET)?)?;
        }
    } else if let Some(target) = &was.target {
        if fs::read_link(&link).ok().as_ref() != Some(target) {
            let mut ln = account.program("ln");
            succeed(ln.args(["-sfnT", "--"]).arg(target).arg(&link), way.left(SET)?)?;
        }
    } else if is_new {
        // What somebody else has put there is not the attempt's.
        succeed(account.program("rm").arg("-f").arg(&link), way.left(SET)?)?;
    }
    let mut failed = false;
    if let Some(path) = &was.path {
        if places.store_path(&link).as_ref() != Some(path) {
            return Err(format!("{} is not {path} any more", one.profile));
        }
        sync(&link)?;
        if can_be_activated(path)
            && let Err(why) = run_script(places, &account, &link, Goal::Switch, way.left(BACK)?, way.note)
        {
            (way.note)(&format!("bosco: {} as it was could not be activated: {why}", one.profile));
            failed = true;
        }
    }
    // The last that goes: by these an interrupted try is known.
    if !made.is_empty() {
        let links = made.iter().map(|number| generations::link_of(&link, *number));
        succeed(account.program("rm").arg("-f").args(links), way.left(SET)?)?;
    }
    if link.parent().is_some_and(Path::exists) {
        sync(&link)?;
    }
    Ok(failed)
}

/// The generations that an attempt has made of a profile: what its user makes meanwhile is the user's.
fn made(places: &Places, link: &Path, one: &ProfileAt, was: &Was) -> Vec<u32> {
    let is_new = |number: &u32| {
        let path = || places.store_path(&generations::link_of(link, *number));
        !was.generations.contains(number) && path().as_ref() == Some(&one.path)
    };
    generations::all_of(link).into_iter().filter(is_new).collect()
}

/// Whose a profile is, and where: where it was, or else as deploy-rs and Nix have it. `None`: there is no such user.
fn find(places: &Places, profile: &Profile, was: &Was) -> Result<Option<(Account, PathBuf)>, String> {
    let found = account(&profile.user)?.map(|account| {
        let link = was.link.clone().unwrap_or_else(|| link(places, profile, &account.home));
        (account, link)
    });
    Ok(found)
}

fn link(places: &Places, profile: &Profile, home: &Path) -> PathBuf {
    if let Some(place) = &profile.place {
        return place.as_str().into();
    }
    let old = places.profile().with_file_name("per-user").join(profile.user.as_str());
    let folder = if profile.user.as_str() == "root" || old.is_dir() {
        old
    } else {
        home.join(".local/state/nix/profiles")
    };
    folder.join(profile.name.as_str())
}

fn account(user: &UserName) -> Result<Option<Account>, String> {
    named(user, &run(program("getent").args(["passwd", user.as_str()]), ASK)?)
}

/// What getent(1) has said of a user: only that it knows none means that there is none.
fn named(user: &UserName, ran: &Ran) -> Result<Option<Account>, String> {
    let known = ran.said.lines().filter_map(parse_account).find(|account| account.name == user.as_str());
    match (ran.code, known) {
        (0, Some(account)) => Ok(Some(account)),
        (NO_SUCH_KEY, _) => Ok(None),
        (code, _) => {
            Err(format!("it is not known who `{user}` is: `getent` ended with {code}: {}", ran.last_words()))
        }
    }
}

/// A line of passwd(5).
fn parse_account(line: &str) -> Option<Account> {
    let fields: Vec<&str> = line.trim_end().split(':').collect();
    let [name, _, uid, _, _, home, _] = fields.as_slice() else { return None };
    let home = PathBuf::from(home);
    (home.is_absolute()).then_some(())?;
    Some(Account { name: (*name).to_owned(), uid: uid.parse().ok()?, home })
}

impl Account {
    /// A program that runs as the user, with nothing of the helper's own surroundings.
    fn program(&self, name: &str) -> Command {
        let mut command = if self.uid == 0 {
            program(name)
        } else {
            // Its limits and groups are the user's; nothing is logged in.
            let mut command = program("runuser");
            command.args(["-u", &self.name, "--", name]);
            command
        };
        let path = command.get_envs().find_map(|(key, value)| (key == "PATH").then(|| value.map(Into::into)));
        let path: std::ffi::OsString = path.flatten().unwrap_or_default();
        command.env_clear().env("PATH", path).env("HOME", &self.home);
        command.env("USER", &self.name).env("LOGNAME", &self.name);
        let runtime = format!("/run/user/{}", self.uid);
        if Path::new(&runtime).is_dir() {
            command.env("XDG_RUNTIME_DIR", runtime);
        }
        command
    }

    fn nix_env(&self, link: &Path) -> Command {
        let mut command = self.program("nix-env");
        command.arg("--profile").arg(link);
        command
    }
}

/// Runs the activation of what is at `profile`, by deploy-rs's contract.
fn run_script(
    places: &Places,
    account: &Account,
    profile: &Path,
    goal: Goal,
    limit: Duration,
    note: &dyn Fn(&str),
) -> Result<(), String> {
    let flag = |is: bool| if is { "1" } else { "0" };
    let mut script = account.program(&profile.join(SCRIPT).to_string_lossy());
    script.env("PROFILE", profile).env("DRY_ACTIVATE", "0").env("BOOT", flag(goal == Goal::Boot));
    script.env("TEST", flag(goal == Goal::Test)).current_dir(profile);
    let said = places.run().join("said-profile");
    let ran = run_into(&mut script, &said, limit);
    note(tail(&said, MOST_SAID).unwrap_or_default().trim_end());
    let _ = fs::remove_file(&said);
    match ran? {
        Ran { code: 0, .. } => Ok(()),
        ran => Err(format!("`{SCRIPT}` ended with {}: {}", ran.code, ran.last_words())),
    }
}

/// Brings the links of a profile to the disk: what was committed must name it after a power cut, too.
fn sync(link: &Path) -> Result<(), String> {
    check::sync(link.parent().unwrap_or(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use bosco_model::{ProfileName, ProfilePlace};

    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn a_profile_is_where_deploy_rs_has_it() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let of = |user: &str, place: Option<&str>| Profile {
            name: ProfileName::parse("app").unwrap(),
            user: UserName::parse(user).unwrap(),
            place: place.map(|place| ProfilePlace::try_from(place.to_owned()).unwrap()),
        };
        let home = Path::new("/home/ada");
        let below = |path: &str| dir.path().join("nix/var/nix/profiles/per-user").join(path);
        assert_eq!(link(&places, &of("root", None), Path::new("/root")), below("root/app"));
        assert_eq!(link(&places, &of("ada", None), home), home.join(".local/state/nix/profiles/app"));
        dir.write("nix/var/nix/profiles/per-user/ada/other", "");
        assert_eq!(link(&places, &of("ada", None), home), below("ada/app"));
        assert_eq!(link(&places, &of("ada", Some("/srv/app")), home), Path::new("/srv/app"));
    }

    #[test]
    fn a_user_is_what_the_host_says_of_it() {
        let ada = parse_account("ada:x:1000:100:Ada,,,:/home/ada:/bin/sh\n").unwrap();
        assert_eq!((ada.name.as_str(), ada.uid), ("ada", 1000));
        for line in
            ["", "ada", "ada:x:-1:100::/home/ada:/bin/sh", "ada:x:1:1::home:/bin/sh", "a:b:1:d:e:/f:g:h"]
        {
            assert_eq!(parse_account(line), None, "{line}");
        }
    }

    #[test]
    fn only_who_is_known_not_to_be_there_is_nobody() {
        let user = UserName::parse("ada").unwrap();
        let of = |code, said: &str| named(&user, &Ran { code, said: said.into() });
        let line = "ada:x:1000:100::/home/ada:/bin/sh\n";
        assert_eq!(of(0, line).unwrap().unwrap().uid, 1000);
        assert_eq!(of(2, "").unwrap(), None);
        for (code, said) in [(0, ""), (0, "bob:x:1:1::/home/bob:/bin/sh\n"), (1, line), (137, ""), (127, "")]
        {
            assert!(of(code, said).unwrap_err().starts_with("it is not known who `ada` is"), "{code} {said}");
        }
    }

    /// A profile of root's at a place of its own, and what it is to be.
    struct Own {
        dir: TempDir,
        places: Places,
        one: ProfileAt,
    }

    impl Own {
        fn new() -> Self {
            let dir = TempDir::new();
            let places = Places::below(dir.path());
            for number in 1..5 {
                dir.write(&format!("{}/x", &Self::path(number).as_str()[1..]), "");
            }
            let place = dir.path().join("srv/app").to_str().unwrap().to_owned();
            let profile = Profile {
                name: ProfileName::parse("app").unwrap(),
                user: UserName::parse("root").unwrap(),
                place: Some(ProfilePlace::try_from(place).unwrap()),
            };
            fs::create_dir(dir.path().join("srv")).unwrap();
            Self { dir, places, one: ProfileAt { profile, path: Self::path(2) } }
        }

        fn path(number: u8) -> StorePath {
            StorePath::parse(&format!("/nix/store/{number:032}-app")).unwrap()
        }

        fn link(&self) -> PathBuf {
            self.dir.path().join("srv/app")
        }

        /// Lets a link in the profile's folder lead somewhere.
        fn set(&self, name: &str, target: impl AsRef<Path>) {
            let link = self.dir.path().join("srv").join(name);
            let _ = fs::remove_file(&link);
            std::os::unix::fs::symlink(target, link).unwrap();
        }

        fn generation(&self, number: u32, path: u8) {
            self.set(&format!("app-{number}-link"), self.dir.path().join(&Self::path(path).as_str()[1..]));
        }

        fn back(&self, was: &Was) -> Result<bool, String> {
            let deadline = Instant::now() + Duration::from_secs(60);
            let way = Way { goal: Goal::Switch, again: false, deadline, note: &|_| {} };
            bring_back(&self.places, &self.one, was, &way)
        }
    }

    #[test]
    fn a_profile_without_generations_is_led_again_to_where_it_was() {
        let own = Own::new();
        own.set("app", own.dir.path().join(&Own::path(1).as_str()[1..]));
        let was = was(&own.places, &own.one.profile).unwrap();
        assert_eq!((was.path.as_ref(), was.generation), (Some(&Own::path(1)), None));
        own.generation(1, 2);
        own.set("app", "app-1-link");
        assert_eq!(own.back(&was), Ok(false));
        assert_eq!(Some(fs::read_link(own.link()).unwrap()), was.target);
        assert_eq!(generations::all_of(&own.link()), [] as [u32; 0]);
        assert_eq!(own.back(&was), Ok(false), "and again");
    }

    #[test]
    fn only_what_the_attempt_has_made_goes_with_it() {
        let own = Own::new();
        let was = was(&own.places, &own.one.profile).unwrap();
        assert_eq!((was.path.as_ref(), was.generation), (None, None));
        // Its user has made one of its own meanwhile, and leads it there.
        own.generation(1, 2);
        own.generation(2, 3);
        own.set("app", "app-2-link");
        assert_eq!(own.back(&was), Ok(false));
        assert_eq!(generations::all_of(&own.link()), [2]);
        assert_eq!(own.places.store_path(&own.link()), Some(Own::path(3)));
        // And where nothing is known of what was there, nothing but that goes.
        own.generation(3, 2);
        own.set("app", "app-3-link");
        assert_eq!(own.back(&Was::default()), Ok(false));
        assert_eq!(generations::all_of(&own.link()), [2]);
        assert!(fs::symlink_metadata(own.link()).is_err());
    }

    #[test]
    fn a_profile_goes_back_where_it_was_wherever_it_would_be_now() {
        let own = Own::new();
        let was = was(&own.places, &own.one.profile).unwrap();
        own.generation(1, 2);
        own.set("app", "app-1-link");
        let elsewhere = Profile { place: None, ..own.one.profile.clone() };
        let elsewhere = Own { one: ProfileAt { profile: elsewhere, ..own.one.clone() }, ..own };
        assert_eq!(elsewhere.back(&was), Ok(false));
        assert!(fs::symlink_metadata(elsewhere.link()).is_err());
    }

    #[test]
    fn a_systems_own_activation_is_told_from_the_usual_one() {
        let usual = "if x; then\n  $PROFILE/bin/switch-to-configuration dry-activate\nfi";
        assert!(switches(usual.as_bytes()));
        assert!(!switches(b"echo /nix/store/x-activate\n$PROFILE/bin/switch-to-configuration switch; extra"));
        assert!(!has_own_script(&Own::path(9)), "without one it has none of its own");
    }

    #[test]
    fn going_back_has_an_end() {
        let way = Way { goal: Goal::Switch, again: false, deadline: Instant::now(), note: &|_| {} };
        assert!(way.left(SET).is_err());
    }

    #[test]
    fn a_users_programs_get_nothing_of_the_helpers_own() {
        let ada = parse_account("ada:x:1000:100::/home/ada:/bin/sh").unwrap();
        let command = ada.program("true");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words, ["-u", "ada", "--", "true"]);
        let names: Vec<_> = command.get_envs().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["HOME", "LOGNAME", "PATH", "USER"]);
    }
}
