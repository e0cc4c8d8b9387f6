//! The profiles that a host has beside its system, as deploy-rs keeps them: where they are, setting and activating them, and
//! bringing back what they were.
//!
//! Each is its user's own. Nothing is written among a user's files but by processes of that user, so that no link there leads
//! root astray.

use std::fs;
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
use crate::{check, generations};

/// How long a question to the host's users may take.
const ASK: Duration = Duration::from_secs(30);
/// How long Nix may take to change a profile.
const SET: Duration = Duration::from_secs(120);
/// How long the activation of an old profile may take.
const BACK: Duration = Duration::from_secs(180);
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

/// What a profile is now. One whose user is not there yet is nothing.
#[must_use]
pub(crate) fn was(places: &Places, profile: &Profile) -> Was {
    let Ok((_, link)) = find(places, profile) else { return Was::default() };
    Was {
        path: places.store_path(&link),
        generation: generations::present_of(&link),
        newest: generations::all_of(&link).pop(),
    }
}

/// Sets and activates the profiles of an attempt, one after the other. What their activations say goes to `note`.
pub(crate) fn activate_all(
    places: &Places,
    attempt: &Attempt,
    deadline: Instant,
    stop: &AtomicBool,
    note: &dyn Fn(&str),
) -> Result<(), Cause> {
    for one in &attempt.request.profiles.all {
        note(&format!("bosco: {} is to be {}", one.profile, one.path));
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        goes_on(stop).map_err(|why| Cause::Failed { doing: Effect::Profiles, why })?;
        activate(places, one, attempt.request.goal, left, note)?;
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
    // An earlier try may have come half-way.
    let again = attempt.reverts > 0 || attempt.resumed > 0;
    let mut failed = false;
    let all = attempt.request.profiles.all.iter().zip(&before.profiles).rev();
    for (one, was) in all.filter(|(_, was)| which(was)) {
        let back =
            goes_on(stop).and_then(|()| bring_back(places, one, was, attempt.request.goal, again, note));
        failed |= back.map_err(|why| Cause::Profile { profile: one.profile.to_string(), why })?;
    }
    Ok(failed)
}

/// Sets a profile and activates it; of a test only the latter, with what it would name.
fn activate(
    places: &Places,
    one: &ProfileAt,
    goal: Goal,
    limit: Duration,
    note: &dyn Fn(&str),
) -> Result<(), Cause> {
    let to_blame = |why| Cause::Profile { profile: one.profile.to_string(), why };
    let (account, link) = find(places, &one.profile).map_err(to_blame)?;
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
fn bring_back(
    places: &Places,
    one: &ProfileAt,
    was: &Was,
    goal: Goal,
    again: bool,
    note: &dyn Fn(&str),
) -> Result<bool, String> {
    // Who is not there has no profiles.
    let Ok((account, link)) = find(places, &one.profile) else { return Ok(false) };
    if was.path.as_ref() == Some(&one.path) {
        return Ok(false);
    }
    let present = places.store_path(&link);
    let newer = |number: &u32| was.newest.is_none_or(|newest| *number > newest);
    let made: Vec<u32> = generations::all_of(&link).into_iter().filter(newer).collect();
    let touched = again || goal == Goal::Test || present.as_ref() == Some(&one.path) || !made.is_empty();
    if !touched {
        return Ok(false);
    }
    let mut failed = false;
    match (&was.path, was.generation) {
        (Some(path), Some(number)) => {
            if present.as_ref() != Some(path) {
                succeed(account.nix_env(&link).args(["--switch-generation", &number.to_string()]), SET)?;
            }
            if places.store_path(&link).as_ref() != Some(path) {
                return Err(format!("generation {number} of {} is not {path} any more", one.profile));
            }
            sync(&link)?;
            if can_be_activated(path)
                && let Err(why) = run_script(places, &account, &link, Goal::Switch, BACK, note)
            {
                note(&format!("bosco: {} as it was could not be activated: {why}", one.profile));
                failed = true;
            }
        }
        _ if fs::symlink_metadata(&link).is_ok() => {
            succeed(account.program("rm").arg("-f").arg(&link), SET)?;
        }
        _ => {}
    }
    // The last that goes: by these an interrupted try is known.
    if !made.is_empty() {
        let links = made.iter().map(|number| generations::link_of(&link, *number));
        succeed(account.program("rm").arg("-f").args(links), SET)?;
    }
    if link.parent().is_some_and(Path::exists) {
        sync(&link)?;
    }
    Ok(failed)
}

/// Whose a profile is, and where: as deploy-rs and Nix have it.
fn find(places: &Places, profile: &Profile) -> Result<(Account, PathBuf), String> {
    let account = account(&profile.user)?;
    let link = link(places, profile, &account.home);
    Ok((account, link))
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

fn account(user: &UserName) -> Result<Account, String> {
    let ran = run(program("getent").args(["passwd", user.as_str()]), ASK)?;
    let line = ran.said.lines().find_map(parse_account);
    line.filter(|account| account.name == user.as_str())
        .ok_or_else(|| format!("the host has no user `{user}`"))
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
    fn a_users_programs_get_nothing_of_the_helpers_own() {
        let ada = parse_account("ada:x:1000:100::/home/ada:/bin/sh").unwrap();
        let command = ada.program("true");
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words, ["-u", "ada", "--", "true"]);
        let names: Vec<_> = command.get_envs().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        assert_eq!(names, ["HOME", "LOGNAME", "PATH", "USER"]);
    }
}
