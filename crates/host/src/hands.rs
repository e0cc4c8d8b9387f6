//! The effects of an activation, on the host. Each can be begun again from its beginning, whoever was cut short in it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bosco_activation::{
    Attempt, Before, Cause, Checked, Effect, Ending, Event, Found, Needs, Reboot, Refused, Settings, State,
    Was,
};
use bosco_model::{Profiles, StorePath};
use bosco_secrets::UploadAt;

use crate::memory::prune_logs;
use crate::places::Places;
use crate::run::{Ran, program, run, run_into, succeed, tail};
use crate::{check, durable, generations, loader, probe, profiles, secrets, units};

/// How long Nix may take to change a profile.
const PROFILE: Duration = Duration::from_secs(120);
/// How long the boot loader's installer may take: a slow /boot and many kernels.
const INSTALL: Duration = Duration::from_secs(300);
/// How long going back may take; a boot brings the old system back then.
const BACK: Duration = Duration::from_secs(180);
/// How long another switch may hold the lock while this one has to go back.
const BACK_LOCK: Duration = Duration::from_secs(60);
/// How long systemd may take for a word.
const SYSTEMD: Duration = Duration::from_secs(60);
/// How much of what a switch says is kept, in bytes: its end.
const MOST_SAID: u64 = 1024 * 1024;
/// What keeps the other profiles of an attempt is called so, and a number.
const PROFILE_ROOT: &str = "candidate-profile-";
/// What `switch-to-configuration` says last where it can't begin, and the exit codes that it has then. Its output also has
/// what failed units say, who can say anything.
const LOCKED: &str = "Could not acquire lock";
const INHIBITED: &str = "re-switch check";
const NOT_BEGUN: [i32; 2] = [1, 11];

/// What carries effects out.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    places: Places,
    /// The log of the attempt.
    log: PathBuf,
    /// The helper's own store path, where it is in one.
    helper: Option<PathBuf>,
}

impl Hands {
    /// Hands for an attempt.
    #[must_use]
    pub(crate) fn new(places: Places, id: &str) -> Self {
        let log = places.state().join(format!("{id}.log"));
        Self { places, log, helper: helper() }
    }

    /// Where the attempt's log is.
    #[must_use]
    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    /// Adds a line to the attempt's log. A full disk must not stop anything.
    pub(crate) fn note(&self, line: &str) {
        if let Ok(mut file) = File::options().create(true).append(true).open(&self.log) {
            let _ = file.write_all(format!("{line}\n").as_bytes());
        }
    }

    /// Does what the attempt's state is for, at most until `deadline`, and gives what came of it. `stop` ends a probe whose
    /// outcome nobody needs any more.
    #[must_use]
    pub(crate) fn perform(
        &self,
        attempt: &Attempt,
        settings: &Settings,
        deadline: Instant,
        stop: &AtomicBool,
    ) -> Event {
        let Some(effect) = attempt.effect() else { return Event::Done(Found::Nothing) };
        self.note(&format!("bosco: {} begins", effect.word()));
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let done = |came: Result<(), String>| match came {
            Ok(()) => Event::Done(Found::Nothing),
            Err(why) => Event::Failed(Cause::Failed { doing: effect, why }),
        };
        let event = match effect {
            Effect::Check => self.check(attempt, settings, left).unwrap_or_else(Event::Refused),
            Effect::InstallSecrets => match self.install_secrets(attempt) {
                Ok(true) => Event::Done(Found::Nothing),
                Ok(false) => Event::Refused(Refused::Locked),
                Err(why) => done(Err(why)),
            },
            Effect::Root => done(self.root(attempt)),
            Effect::Sync => match check::sync_store() {
                Ok(()) => match self.verify(attempt, left) {
                    Ok(()) => Event::Done(Found::Nothing),
                    Err(why) => Event::Refused(why),
                },
                Err(why) => done(Err(why)),
            },
            Effect::Arm => done(self.arm(attempt, settings)),
            Effect::Switch => self.switch(attempt, left),
            Effect::Profiles => {
                match profiles::activate_all(&self.places, attempt, deadline, stop, &|line| self.note(line)) {
                    Ok(()) => Event::Done(Found::Nothing),
                    Err(cause) => Event::Failed(cause),
                }
            }
            Effect::Probe => self.probe(attempt, settings, deadline, stop),
            Effect::PrepareEntry => done(self.prepare_entry(attempt, stop)),
            Effect::Reboot => done(units::reboot()),
            Effect::SetProfile => done(self.set_profile(attempt, stop)),
            Effect::InstallBoot => done(self.install_boot(attempt, stop)),
            Effect::Revert => match self.revert(attempt, stop) {
                Ok(script_failed) => match self.bring_profiles_back(attempt, &|_| true, stop) {
                    Ok(failed) => Event::Done(Found::Back { script_failed: script_failed || failed }),
                    Err(cause) => Event::Failed(cause),
                },
                Err(why) => done(Err(why)),
            },
            Effect::Disarm => done(self.disarm(attempt)),
        };
        match &event {
            Event::Failed(cause) => self.note(&format!("bosco: {} failed: {cause}", effect.word())),
            Event::Refused(why) => self.note(&format!("bosco: {} refused: {why}", effect.word())),
            Event::Done(Found::Probed(complaints)) if !complaints.is_empty() => {
                for complaint in complaints {
                    self.note(&format!("bosco: {complaint}"));
                }
            }
            _ => self.note(&format!("bosco: {} done", effect.word())),
        }
        event
    }

    fn check(&self, attempt: &Attempt, settings: &Settings, limit: Duration) -> Result<Event, Refused> {
        let failed = |why| Refused::Failed { doing: Effect::Check, why };
        let toplevel = &attempt.request.toplevel;
        let candidate = candidate(attempt);
        let verify = || self.verify(attempt, limit);
        let Profiles { all: others, only } = &attempt.request.profiles;
        if let Some(other) = others.iter().find(|one| !profiles::can_be_activated(&one.path)) {
            verify()?;
            return Err(failed(format!(
                "{} has no `deploy-rs-activate`, so it can't be activated",
                other.path
            )));
        }
        if !only && !check::is_system(&candidate) {
            // It may have been one, and have lost what makes it one.
            return Err(match verify() {
                Err(why @ Refused::Damaged { .. }) => why,
                _ => Refused::NoSystem { toplevel: toplevel.clone() },
            });
        }
        if let Some(number) = attempt.request.generation
            && generations::toplevel(&self.places, number).as_ref() != Some(toplevel)
        {
            return Err(Refused::OtherGeneration { number });
        }
        check::room(&self.places, &candidate)?;
        let unheard = secrets::check(&self.places, attempt).map_err(failed)?;
        let needs = check::needs(&self.places, &candidate);
        if needs == Needs::Init && !only {
            // Rare, and the end of it unless it may reboot: a file that a power cut has emptied must not decide that.
            verify()?;
        }
        // Which units have failed need not be known where none is changed.
        let before = check::before(&self.places).map_err(failed)?;
        let only_secrets = unheard && self.is_here(attempt, &before);
        let failed = if only_secrets { BTreeSet::new() } else { units::failed().map_err(failed)? };
        let profiles = others.iter().map(|one| profiles::was(&self.places, &one.profile)).collect();
        let before = Before { failed, profiles, ..before };
        let checked = Checked {
            before,
            needs,
            proves_boot: check::proves_boot(&self.places, &candidate),
            wants_reboot: settings.reboot == Reboot::WhenNeeded,
            only_secrets,
        };
        Ok(Event::Done(Found::Checked(Box::new(checked))))
    }

    /// Whether the candidate is all that runs and boots.
    fn is_here(&self, attempt: &Attempt, before: &Before) -> bool {
        let toplevel = &attempt.request.toplevel;
        before.specialisation.is_none()
            && before.running == self.places.system(toplevel)
            && before.profile.as_ref() == Some(toplevel)
            && self.boots(toplevel)
    }

    /// With the helper that a boot does the same by. False where somebody else is switching.
    fn install_secrets(&self, attempt: &Attempt) -> Result<bool, String> {
        self.keep_helper()?;
        secrets::install_alone(&self.places, &candidate(attempt))
    }

    /// Whoever takes the attempt up again needs the helper; after a boot as well.
    fn keep_helper(&self) -> Result<(), String> {
        let link = self.places.gcroots().join("helper");
        match &self.helper {
            Some(helper) if fs::read_link(&link).is_ok_and(|is| is == *helper) => Ok(()),
            Some(helper) => durable::link(helper, &link),
            None => Ok(()),
        }
    }

    /// Reads all paths again that are new.
    fn verify(&self, attempt: &Attempt, limit: Duration) -> Result<(), Refused> {
        let deadline = Instant::now() + limit;
        let others = attempt.request.profiles.all.iter().map(|one| PathBuf::from(one.path.as_str()));
        let system = (!attempt.request.profiles.only).then(|| candidate(attempt));
        system.into_iter().chain(others).try_for_each(|path| {
            let left = deadline.saturating_duration_since(Instant::now());
            check::verify_new(&path, &self.places.current_system(), left)
        })
    }

    fn root(&self, attempt: &Attempt) -> Result<(), String> {
        let roots = self.places.gcroots();
        for (number, one) in attempt.request.profiles.all.iter().enumerate() {
            durable::link(one.path.as_ref(), &roots.join(format!("{PROFILE_ROOT}{number}")))?;
        }
        durable::link(attempt.request.toplevel.as_ref(), &roots.join("candidate"))?;
        if let Some(before) = &attempt.before {
            durable::link(before.running.as_ref(), &roots.join("before"))?;
            if let Some(profile) = &before.profile {
                durable::link(profile.as_ref(), &roots.join("default"))?;
            }
        }
        if let Ok(booted) = fs::read_link(self.places.booted_system()) {
            durable::link(&booted, &roots.join("booted"))?;
        }
        self.keep_helper()
    }

    /// Starts who looks on: it takes the attempt over where this process ends or hangs.
    fn arm(&self, attempt: &Attempt, settings: &Settings) -> Result<(), String> {
        let id = &attempt.request.id;
        let mut unit =
            transient(&format!("bosco-dead-man-{id}"), "bosco: takes an activation back that hangs");
        // It is there, waiting, when this returns; and is started again however often it is ended.
        unit.args(["--service-type=notify", "--property=NotifyAccess=main", "--property=Restart=on-failure"]);
        unit.args(["--property=RestartSec=200ms", "--property=StartLimitIntervalSec=0"]);
        unit.arg(own_program()?).args(["helper", "guard", id, &settings.activation().as_secs().to_string()]);
        succeed(&mut unit, SYSTEMD).map(drop)
    }

    fn switch(&self, attempt: &Attempt, left: Duration) -> Event {
        let system = self.to_run(attempt);
        let failed = |why| Event::Failed(Cause::Failed { doing: Effect::Switch, why });
        if let Err(why) = secrets::beside_switch(&self.places, &system, UploadAt::PreActivation) {
            return failed(why);
        }
        let ran = match self.switch_to(&system, "test", &[("NIXOS_NO_SYNC", "1")], left) {
            Ok(ran) => ran,
            Err(why) => return failed(why),
        };
        let running = self.places.store_path(&self.places.current_system());
        let unchanged = running == attempt.before.as_ref().map(|before| before.running.clone());
        match ran.code {
            _ if unchanged && not_begun(&ran, LOCKED) => Event::Refused(Refused::Locked),
            _ if unchanged && not_begun(&ran, INHIBITED) => {
                Event::Refused(Refused::Inhibited { said: before_last_words(&ran.said) })
            }
            // Some unit has failed, which may be one that it did not touch: the probes know.
            0 | 4 => match secrets::beside_switch(&self.places, &system, UploadAt::PostActivation) {
                Ok(()) => Event::Done(Found::Nothing),
                Err(why) => failed(why),
            },
            2 => Event::Failed(Cause::ActivationScript),
            code => Event::Failed(Cause::Switch { code }),
        }
    }

    /// The system that is switched to: the candidate's own specialisation, where one of that name runs.
    fn to_run(&self, attempt: &Attempt) -> PathBuf {
        let candidate = candidate(attempt);
        let name = attempt.before.as_ref().and_then(|before| before.specialisation.clone());
        let special = name.map(|name| candidate.join("specialisation").join(name));
        special.and_then(|path| fs::canonicalize(path).ok()).unwrap_or(candidate)
    }

    fn probe(&self, attempt: &Attempt, settings: &Settings, deadline: Instant, stop: &AtomicBool) -> Event {
        if attempt.booted {
            // What starts with the machine is still starting.
            let left = deadline.saturating_duration_since(Instant::now());
            let _ = run(program("systemctl").args(["is-system-running", "--wait"]), left);
        }
        let mut before = attempt.before.as_ref().map(|before| before.failed.clone()).unwrap_or_default();
        if attempt.request.is_pulled() {
            // Whether its agent is well the fresh connection says, which is the agent's. One that was killed starts again.
            before.insert(units::AGENT.into());
        }
        before.extend(secrets::units_without(&self.places));
        let old = match (&attempt.state, &attempt.before) {
            (State::Retesting { .. }, Some(before)) => {
                Some(check::settings(before.running.as_ref()).unwrap_or_default())
            }
            _ => None,
        };
        let asked = old.map_or_else(|| settings.clone(), |old| settings.asked_of(&old));
        Event::Done(Found::Probed(probe::complaints(&asked, &before, stop, deadline)))
    }

    /// An entry of its own for the candidate, written by the installer of what runs, and chosen for one boot.
    fn prepare_entry(&self, attempt: &Attempt, stop: &AtomicBool) -> Result<(), String> {
        let profile = self.places.candidate_profile();
        let folder = profile.parent().unwrap_or(Path::new("/"));
        fs::create_dir_all(folder).map_err(|error| format!("can't make {}: {error}", folder.display()))?;
        self.set(&profile, &attempt.request.toplevel)?;
        let default = attempt.before.as_ref().and_then(|before| before.profile.clone());
        let default = default.ok_or("there is no system profile")?;
        self.install(&default, stop)?;
        goes_on(stop)?;
        loader::prepare_once(&self.places, &self.places.system(&attempt.request.toplevel))?;
        self.sync_boot()
    }

    fn set_profile(&self, attempt: &Attempt, stop: &AtomicBool) -> Result<(), String> {
        // The installer gives the default to the last entry that has the system.
        self.remove_candidate_profile()?;
        goes_on(stop)?;
        let profile = self.places.profile();
        if self.places.store_path(&profile).as_ref() != Some(&attempt.request.toplevel) {
            match attempt.request.generation {
                Some(number) => self.switch_generation(number)?,
                None => self.set(&profile, &attempt.request.toplevel)?,
            }
        }
        self.sync_profile()
    }

    fn install_boot(&self, attempt: &Attempt, stop: &AtomicBool) -> Result<(), String> {
        let toplevel = &attempt.request.toplevel;
        self.install(toplevel, stop)?;
        if self.boots(toplevel) {
            return Ok(());
        }
        // An older generation may have no entry any more: as a new one it has.
        if attempt.request.generation.is_some() {
            goes_on(stop)?;
            self.set(&self.places.profile(), toplevel)?;
            self.sync_profile()?;
            self.install(toplevel, stop)?;
        }
        if self.boots(toplevel) {
            return Ok(());
        }
        Err("the boot loader's default is still another system".into())
    }

    /// Whether a system is the boot loader's default, as far as that can be read.
    fn boots(&self, toplevel: &StorePath) -> bool {
        loader::default_toplevel(&self.places).is_none_or(|default| default == self.places.system(toplevel))
    }

    /// Brings back what was before, and says whether the old system's own script has failed at that.
    fn revert(&self, attempt: &Attempt, stop: &AtomicBool) -> Result<bool, String> {
        let before = attempt.before.as_ref().ok_or("what was there before is not known")?;
        if attempt.only_secrets {
            return secrets::install_again(&self.places, &candidate(attempt), stop).map(|()| false);
        }
        if attempt.entry {
            loader::clear_once(&self.places)?;
            self.remove_candidate_profile()?;
        }
        if attempt.committing {
            self.restore_default(before, stop)?;
        } else if attempt.entry
            && let Some(default) = &before.profile
        {
            self.install(default, stop)?;
        }
        goes_on(stop)?;
        // For those that are new the user may be so as well.
        if let Err(cause) = self.bring_profiles_back(attempt, &|was| was.path.is_none(), stop) {
            self.note(&format!("bosco: {cause}"));
        }
        if attempt.switched { self.switch_back(before, stop) } else { Ok(false) }
    }

    /// The profiles go back behind the system: what an old one needs is the old system's.
    fn bring_profiles_back(
        &self,
        attempt: &Attempt,
        which: &dyn Fn(&Was) -> bool,
        stop: &AtomicBool,
    ) -> Result<bool, Cause> {
        profiles::bring_all_back(&self.places, attempt, which, stop, &|line| self.note(line))
    }

    fn restore_default(&self, before: &Before, stop: &AtomicBool) -> Result<(), String> {
        let (Some(default), Some(number)) = (&before.profile, before.generation) else {
            return Err("what booted before is not known".into());
        };
        let profile = self.places.profile();
        if generations::present(&self.places) != Some(number) {
            if generations::toplevel(&self.places, number).as_ref() == Some(default) {
                self.switch_generation(number)?;
            } else {
                // Its link was collected meanwhile; the system is rooted.
                self.set(&profile, default)?;
            }
        }
        if self.places.store_path(&profile).as_ref() != Some(default) {
            return Err(format!("generation {number} is not {default} any more"));
        }
        self.sync_profile()?;
        self.install(default, stop)?;
        if self.boots(default) { Ok(()) } else { Err("the boot loader's default is another system".into()) }
    }

    fn switch_back(&self, before: &Before, stop: &AtomicBool) -> Result<bool, String> {
        // What an interrupted switch has noted down to be started is the candidate's.
        for list in ["start-list", "restart-list", "reload-list"] {
            durable::remove(&self.places.run_nixos().join(list))?;
        }
        let until = Instant::now() + BACK_LOCK;
        let system: &Path = before.running.as_ref();
        let put = |at| {
            let put = secrets::beside_switch(&self.places, system, at);
            let _ = put.map_err(|why| self.note(&format!("bosco: not all keys came back: {why}")));
        };
        put(UploadAt::PreActivation);
        loop {
            goes_on(stop)?;
            let ran =
                self.switch_to(system, "test", &[("NIXOS_NO_CHECK", "1"), ("NIXOS_NO_SYNC", "1")], BACK)?;
            if not_begun(&ran, LOCKED) && Instant::now() < until {
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
            let runs = self.places.store_path(&self.places.current_system());
            return match ran.code {
                // A unit that fails has failed before, or is told by the probes.
                code @ (0 | 2 | 4) if runs.as_ref() == Some(&before.running) => {
                    put(UploadAt::PostActivation);
                    Ok(code == 2)
                }
                code => Err(format!(
                    "`switch-to-configuration test` of {} ended with {code}: {}",
                    before.running,
                    ran.last_words()
                )),
            };
        }
    }

    fn disarm(&self, attempt: &Attempt) -> Result<(), String> {
        for root in ["candidate", "before", "default", "booted"] {
            durable::remove(&self.places.gcroots().join(root))?;
        }
        for number in 0..attempt.request.profiles.all.len() {
            durable::remove(&self.places.gcroots().join(format!("{PROFILE_ROOT}{number}")))?;
        }
        if matches!(attempt.state, State::Closing { ending: Ending::Committed { .. } })
            && let Err(why) = generations::prune(&self.places)
        {
            self.note(&format!("bosco: old generations stay: {why}"));
        }
        prune_logs(&self.places, &self.log);
        Ok(())
    }

    /// `switch-to-configuration` of a system; what it says goes to the log.
    fn switch_to(
        &self,
        system: &Path,
        action: &str,
        env: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Ran, String> {
        let mut switch = program(&system.join("bin/switch-to-configuration").to_string_lossy());
        switch.arg(action).env("HOME", "/root").envs(env.iter().copied());
        // A way back must not depend on a disk with room for what it says.
        let said = self.places.run().join("said");
        let ran = run_into(&mut switch, &said, limit);
        self.note(tail(&said, MOST_SAID).unwrap_or_default().trim_end());
        let _ = fs::remove_file(&said);
        ran
    }

    /// Makes a system the boot loader's default, as far as its installer does that.
    fn install(&self, toplevel: &StorePath, stop: &AtomicBool) -> Result<(), String> {
        let until = Instant::now() + BACK_LOCK;
        loop {
            goes_on(stop)?;
            let ran = self.switch_to(toplevel.as_ref(), "boot", &[("NIXOS_NO_CHECK", "1")], INSTALL)?;
            if not_begun(&ran, LOCKED) && Instant::now() < until {
                std::thread::sleep(Duration::from_secs(1));
                continue;
            }
            if ran.code != 0 {
                return Err(format!(
                    "`switch-to-configuration boot` ended with {}: {}",
                    ran.code,
                    ran.last_words()
                ));
            }
            return self.sync_boot();
        }
    }

    /// Brings the profile's own link to the disk, not what it leads to.
    fn sync_profile(&self) -> Result<(), String> {
        check::sync(self.places.profile().parent().unwrap_or(Path::new("/")))
    }

    fn sync_boot(&self) -> Result<(), String> {
        check::sync(&loader::boot_folder(&self.places))
    }

    fn set(&self, profile: &Path, toplevel: &StorePath) -> Result<(), String> {
        let mut nix = program("nix-env");
        nix.arg("--profile").arg(profile).args(["--set", toplevel.as_str()]);
        succeed(&mut nix, PROFILE).map(drop)
    }

    fn switch_generation(&self, number: u32) -> Result<(), String> {
        let mut nix = program("nix-env");
        nix.arg("--profile").arg(self.places.profile()).args(["--switch-generation", &number.to_string()]);
        succeed(&mut nix, PROFILE).map(drop)
    }

    fn remove_candidate_profile(&self) -> Result<(), String> {
        let profile = self.places.candidate_profile();
        let (Some(folder), Some(name)) = (profile.parent(), profile.file_name()) else { return Ok(()) };
        let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
        let name = name.to_string_lossy();
        for entry in entries.flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let rest = file.strip_prefix(&*name);
            if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-') && rest.ends_with("-link")) {
                durable::remove(&entry.path())?;
            }
        }
        Ok(())
    }

    /// The last lines of the log of the attempt, at most so many bytes.
    #[must_use]
    pub(crate) fn log_tail(&self, most: u64) -> String {
        tail(&self.log, most).unwrap_or_default()
    }
}

/// Whether a switch has ended before it began, for a reason.
fn not_begun(ran: &Ran, reason: &str) -> bool {
    NOT_BEGUN.contains(&ran.code) && ran.last_words().contains(reason)
}

/// Words in front of the line that says a check failed, or that line.
fn before_last_words(said: &str) -> String {
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let at = lines.iter().position(|line| line.contains(INHIBITED)).unwrap_or_default();
    let words = at.checked_sub(1).and_then(|before| lines.get(before)).or(lines.get(at)).copied();
    words.unwrap_or_default().chars().take(500).collect()
}

fn candidate(attempt: &Attempt) -> PathBuf {
    attempt.request.toplevel.as_str().into()
}

/// That the effect is still wanted.
pub(crate) fn goes_on(stop: &AtomicBool) -> Result<(), String> {
    if stop.load(Ordering::Relaxed) { Err("it was given up".into()) } else { Ok(()) }
}

/// A unit that lives as long as its program, whatever becomes of the session that starts it.
pub(crate) fn transient(name: &str, description: &str) -> std::process::Command {
    let mut unit = program("systemd-run");
    unit.args(["--quiet", "--collect", "--no-ask-password"]);
    unit.arg(format!("--unit={name}")).arg(format!("--description={description}"));
    // Who holds a machine's way back is the last that it ends for want of memory.
    unit.args(["--property=OOMScoreAdjust=-900", "--setenv=HOME=/root"]);
    unit.process_group(0);
    unit
}

/// The program that runs.
pub(crate) fn own_program() -> Result<PathBuf, String> {
    std::env::current_exe().map_err(|error| format!("the helper does not find itself: {error}"))
}

/// The store path that the program which runs is in.
fn helper() -> Option<PathBuf> {
    let program = own_program().ok()?;
    let path = program.ancestors().nth(2)?;
    path.starts_with("/nix/store").then(|| path.to_owned())
}
