//! One case: an attempt begins on a host, something strikes, the host is judged, and the next attempt has to succeed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use bosco_activation::{Effect, Ending, Refused, Report, Request};
use bosco_model::{Goal, Limits, Profile, ProfileAt, ProfileName, Profiles, UserName};
use testbed::{Host, Unsynced, run};

use crate::cell::{Cell, Fault, takes_a_boot};
use crate::drive::{Stop, drive};
use crate::judge::{self, Stands, Told, Verdict, judge_default, judge_settled, told};
use crate::obstacle::{Obstacle, fail_unit, mend_unit};
use crate::random::Random;
use crate::secrets::{self, Carried};
use crate::watch::{Durations, Mark, Watch, at_work};
use crate::world::{ACTIVATION, BOOT, CONFIRM, System, World, has_module};

/// How long a host may be away beyond its window.
const AWAY: Duration = Duration::from_secs(CONFIRM + 10);
/// How long an attempt may take to come to an effect: through a boot, on a busy machine.
const ARRIVE: Duration = Duration::from_secs(120);
/// How long an attempt may take to end by itself: its limit, what the dead man adds, and going back.
const SETTLE: Duration = Duration::from_secs(ACTIVATION + 120);
/// How long an attempt may be open with nobody at it, until it is believed that nobody comes: before there is a dead man
/// nobody does, and after that he, or who takes it up after a boot, has to.
const NOBODY: Duration = Duration::from_secs(3);
const SOMEBODY: Duration = Duration::from_secs(60);
/// Between two looks at the log: less than the shortest effect.
const GLANCE: Duration = Duration::from_micros(200);
/// Between two looks at what takes longer.
const PAUSE: Duration = Duration::from_millis(20);
/// How long one `bosco apply` may take.
const APPLY: Duration = Duration::from_secs(400);

/// A host with what is known of it.
pub(crate) struct Worker<'a> {
    pub(crate) world: &'a World,
    pub(crate) host: &'a Host,
    pub(crate) durations: &'a Durations,
    pub(crate) stands: Stands,
}

/// What a case came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What was hit; `None`: it struck between two effects.
    pub(crate) hit: Option<Effect>,
    /// Whether it struck at all.
    pub(crate) struck: bool,
    pub(crate) verdict: Verdict,
    /// How the attempt ended, in words.
    pub(crate) ended: String,
    /// Whether it was bosco's own `apply`, from end to end.
    pub(crate) by_bosco: bool,
}

/// How one case goes, decided before it begins.
struct Plan<'a> {
    cell: Cell,
    id: String,
    old: System,
    new: &'a System,
    /// What is all that changes, where the two systems are one.
    secrets: Option<Carried>,
    /// Through bosco itself, with all that it does, instead of a conversation with the helper.
    by_bosco: bool,
    /// An interrupted attempt is taken up by the service of the boot, or what stands for it; else by the next attempt.
    taken_up_first: bool,
}

/// A strike, and what was struck.
struct Strike {
    hit: Option<Effect>,
    struck: bool,
}

impl<'a> Worker<'a> {
    fn system_of(&self, path: &str) -> Option<&'a System> {
        self.world.systems(self.host).iter().find(|system| system.path.as_str() == path)
    }

    /// Another system than the one that runs; of the same kernel as the booted one, or not.
    fn another(&self, other_kernel: bool, random: &mut Random) -> Result<&'a System> {
        let booted = self.system_of(&self.stands.booted).context("the host has booted something unknown")?;
        let fits = |system: &&System| {
            (system.group != booted.group) == other_kernel && system.path.as_str() != self.stands.running
        };
        let fitting: Vec<_> = self.world.systems(self.host).iter().filter(fits).collect();
        fitting.get(random.below(fitting.len())).copied().context("the host has no other system")
    }

    /// Carries a case out. An error is one of the harness, or of a host that it can't go on with.
    pub(crate) fn case(&mut self, cell: Cell, id: &str, prove: bool, random: &mut Random) -> Result<Outcome> {
        let boots = takes_a_boot(cell.effect);
        let old = self.system_of(&self.stands.running).context("the host runs something unknown")?.clone();
        let only_secrets = cell.effect == Effect::InstallSecrets;
        let new = if only_secrets { self.system_of(old.path.as_str()) } else { None };
        let new = new.map_or_else(|| self.another(boots, random), Ok)?;
        let secrets = if only_secrets { Some(Carried::new(self.host, id)?) } else { None };
        let takes_the_helper = matches!(cell.effect, Effect::Revert | Effect::InstallSecrets);
        let by_bosco = random.one_in(16) && !takes_the_helper && cell.fault != Fault::Error;
        let taken_up_first = random.one_in(2);
        let plan = Plan { cell, id: id.to_owned(), old, new, secrets, by_bosco, taken_up_first };
        let mut verdict = Verdict::default();
        let (strike, ended) = self.strike_and_judge(&plan, &mut verdict, random)?;
        mend_unit(self.host)?;
        if verdict.lost.is_empty() && prove {
            self.prove(&plan.id, by_bosco, &mut verdict, random)?;
        } else if verdict.lost.is_empty() {
            self.stands = judge::look(self.host)?;
        }
        Ok(Outcome { hit: strike.hit, struck: strike.struck, verdict, ended, by_bosco })
    }

    fn request(&self, id: &str, to: &System, reboot: bool, again: bool) -> Request {
        Request {
            id: id.to_owned(),
            goal: Goal::Switch,
            toplevel: to.path.clone(),
            profiles: Profiles { all: beside(self.host, to), only: false },
            limits: Limits::default(),
            secrets: None,
            generation: None,
            by: "faults@here".into(),
            reboot,
            again,
            connection: true,
            number: 0,
            hold: false,
            lifts: 0,
            doubts_hub: false,
        }
    }

    fn strike_and_judge(
        &self,
        plan: &Plan<'_>,
        verdict: &mut Verdict,
        random: &mut Random,
    ) -> Result<(Strike, String)> {
        let Cell { effect, fault } = plan.cell;
        let mut obstacle = (fault == Fault::Error).then(|| Obstacle::new(self.host, effect, plan.new));
        if effect == Effect::Revert {
            fail_unit(self.host, plan.new)?;
        }
        if let Some(obstacle) = &mut obstacle {
            obstacle.prepare()?;
        }
        let stop = Stop::default();
        thread::scope(|scope| {
            let before = self.logs()?;
            let driver = scope.spawn(|| self.begin(plan, &stop));
            let path = self.log(plan, &before);
            let mut came = path.and_then(|path| {
                let watch = Watch::new(path, self.durations);
                self.watch_and_strike(plan, watch, obstacle.as_mut(), verdict, random)
            });
            // Whatever went wrong, the host must not keep what was in the way.
            if let Some(obstacle) = &mut obstacle
                && let Err(error) = obstacle.take_away()
            {
                came = came.and(Err(error));
            }
            if !plan.by_bosco || came.is_err() {
                stop.stop();
            }
            let driven = driver.join().map_err(|_| anyhow!("driving an attempt panicked"))?;
            let came = came?;
            driven?;
            Ok(came)
        })
    }

    /// Begins an attempt as it is planned, and follows it.
    fn begin(&self, plan: &Plan<'_>, stop: &Stop) -> Result<Option<Report>> {
        let boots = takes_a_boot(plan.cell.effect);
        if !plan.by_bosco {
            let mut request = self.request(&plan.id, plan.new, boots, true);
            if let Some(secrets) = &plan.secrets {
                request = Request { secrets: Some(secrets.digest), profiles: Profiles::default(), ..request };
            }
            return drive(self.world, self.host.name(), &request, plan.secrets.as_ref(), stop);
        }
        self.apply(plan.new, boots, true).map(|_| None)
    }

    /// `bosco apply` of a system to the host. Its exit code and what it said.
    fn apply(&self, to: &System, reboot: bool, again: bool) -> Result<(i32, String)> {
        self.world.declare(self.host, to)?;
        let mut args = vec!["apply", "--on", self.host.name()];
        args.extend(reboot.then_some("--reboot"));
        args.extend(again.then_some("--again"));
        let output = run(&mut self.world.bosco(&args), APPLY)?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code().unwrap_or(-1), String::from_utf8_lossy(&said).into_owned()))
    }

    fn state(&self) -> PathBuf {
        self.host.root().join("nix/var/bosco")
    }

    fn logs(&self) -> Result<BTreeSet<PathBuf>> {
        let folder = self.state();
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("can't read {}", folder.display()))?;
        let is_log = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "log");
        Ok(entries.flatten().map(|entry| entry.path()).filter(is_log).collect())
    }

    /// Where the attempt's log is, or will be: bosco gives its attempts names of its own.
    fn log(&self, plan: &Plan<'_>, before: &BTreeSet<PathBuf>) -> Result<PathBuf> {
        if !plan.by_bosco {
            return Ok(self.state().join(format!("{}.log", plan.id)));
        }
        let started = Instant::now();
        loop {
            if let Some(new) = self.logs()?.into_iter().find(|log| !before.contains(log)) {
                return Ok(new);
            }
            if started.elapsed() > ARRIVE {
                bail!("`bosco apply` has begun no attempt");
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits for the moment, strikes, and judges what has become of the host.
    fn watch_and_strike(
        &self,
        plan: &Plan<'_>,
        mut watch: Watch<'_>,
        mut obstacle: Option<&mut Obstacle<'_>>,
        verdict: &mut Verdict,
        random: &mut Random,
    ) -> Result<(Strike, String)> {
        let Cell { effect, fault } = plan.cell;
        let started = Instant::now();
        let mut failed = false;
        loop {
            let marks = watch.look();
            if let Some(obstacle) = &mut obstacle {
                for mark in &marks {
                    failed |= *mark == Mark::Failed(effect);
                    obstacle.on(*mark)?;
                }
                if failed {
                    break;
                }
            } else if marks.contains(&Mark::Begins(effect)) {
                break;
            }
            // Looking into the journal takes longer than looking at the log.
            let over =
                marks.contains(&Mark::Done(Effect::Disarm)) || marks.contains(&Mark::Failed(Effect::Disarm));
            if over || started.elapsed() > ARRIVE {
                let stands = self.settle(plan, &mut watch, verdict)?;
                return Ok((Strike { hit: None, struck: false }, stands));
            }
            thread::sleep(GLANCE);
        }
        if fault == Fault::Error {
            let ended = self.settle(plan, &mut watch, verdict)?;
            return Ok((Strike { hit: Some(effect), struck: true }, ended));
        }
        spin_sleep(self.durations.moment(effect, random));
        match fault {
            Fault::PowerCut => {
                let text = watch.text();
                self.host.power_cut(Unsynced::Lost)?;
                let ended = self.after_power_cut(plan, &mut watch, verdict)?;
                Ok((Strike { hit: at_work(&text), struck: true }, ended))
            }
            Fault::LinkCut => {
                let text = watch.text();
                self.host.cut()?;
                thread::sleep(random.part_of(Duration::from_secs(2 * CONFIRM)));
                self.host.heal()?;
                if let Err(error) = self.host.wait_for_ssh(AWAY) {
                    verdict.lost.push(format!("{error:#}"));
                }
                let ended = self.settle(plan, &mut watch, verdict)?;
                Ok((Strike { hit: at_work(&text), struck: true }, ended))
            }
            Fault::Kill | Fault::KillBoth => {
                // At times only the helper's own process: what it has started is left to systemd then.
                let program = random.one_in(2).then_some("bosco");
                let text = watch.text();
                let mut struck = 0;
                if fault == Fault::KillBoth {
                    struck += self.host.kill_units("bosco-dead-man", program)?;
                }
                struck += self.host.kill_units("bosco-activation", program)?;
                struck += self.host.kill_units("bosco-boot", program)?;
                let ended = self.settle(plan, &mut watch, verdict)?;
                Ok((Strike { hit: at_work(&text).filter(|_| struck > 0), struck: struck > 0 }, ended))
            }
            Fault::Error => bail!("an error strikes by itself"),
        }
    }

    /// Boots a host whose power was cut, and judges what it has on its disk, and then what it makes of it.
    fn after_power_cut(
        &self,
        plan: &Plan<'_>,
        watch: &mut Watch<'_>,
        verdict: &mut Verdict,
    ) -> Result<String> {
        let before = self.remembered(&watch.id(), verdict);
        match judge::on_disk(self.host) {
            Ok(stands) => {
                judge_default(verdict, &stands, &plan.old.path, &plan.new.path, before.as_ref());
            }
            Err(error) => verdict.unknown.push(format!("its disk: {error:#}")),
        }
        self.host.boot()?;
        if let Err(error) = self.host.wait_for_ssh(AWAY) {
            verdict.lost.push(format!("{error:#}"));
            return Ok("lost".into());
        }
        let looked = judge::look(self.host)?;
        verdict.known("what it runs", &looked.running, plan.old.path.as_str(), plan.new.path.as_str());
        verdict.unknown.extend(judge::damage(self.host)?.map(|said| format!("its store is damaged: {said}")));
        let is_open = before.as_ref().is_some_and(|told| told.ending.is_none());
        if is_open && !has_module(self.host.name()) {
            if !plan.taken_up_first {
                return Ok("left open for the next one".into());
            }
            // What the module's service does at a boot, after a boot.
            self.host.ssh(&format!("{}/bin/bosco helper boot", self.world.helper))?;
        }
        self.settle(plan, watch, verdict)
    }

    fn remembered(&self, id: &str, verdict: &mut Verdict) -> Option<Told> {
        match judge::journal(self.host) {
            Ok(journal) => told(&journal, id),
            Err(error) => {
                verdict.unknown.push(format!("{error:#}"));
                None
            }
        }
    }

    /// Waits until the attempt has ended, or nobody is at it any more, and judges the host. How it ended, in words.
    fn settle(&self, plan: &Plan<'_>, watch: &mut Watch<'_>, verdict: &mut Verdict) -> Result<String> {
        let (id, started) = (watch.id(), Instant::now());
        let mut alone: Option<Instant> = None;
        let told = loop {
            // It is renamed into its place: it is there, whole, at every moment.
            watch.look();
            let told = self.remembered(&id, verdict);
            if told.as_ref().is_some_and(|told| told.ending.is_some()) {
                break told;
            }
            let at_it = ["bosco-activation", "bosco-dead-man", "bosco-boot"];
            if at_it.iter().any(|unit| self.host.unit_is_alive(unit)) || !self.host.is_running() {
                alone = None;
            }
            let patience = if told.as_ref().is_some_and(|told| told.is_armed) { SOMEBODY } else { NOBODY };
            let nobody = alone.get_or_insert_with(Instant::now).elapsed() > patience;
            if nobody || started.elapsed() > SETTLE || !verdict.unknown.is_empty() {
                break told;
            }
            thread::sleep(PAUSE);
        };
        // It may be booting, or be about to.
        if let Err(error) = self.host.wait_for_ssh(AWAY) {
            verdict.lost.push(format!("{error:#}"));
            return Ok("lost".into());
        }
        let stands = judge::look_settled(self.host)?;
        let open = told.as_ref().is_none_or(|told| told.ending.is_none());
        if open && told.as_ref().is_none_or(|told| !told.is_armed) {
            // Nothing was changed yet, and so nobody looks on; whoever comes next takes it up.
            let (old, new) = (&plan.old.path, &plan.new.path);
            judge_default(verdict, &stands, old, new, told.as_ref());
            if stands.running != old.as_str() {
                verdict.half.push(format!("it runs {} before anything was to change", stands.running));
            }
        } else {
            let mut stands = stands.clone();
            if plan.cell.fault == Fault::Error && plan.cell.effect == Effect::Disarm {
                // That is what could not be removed; the next attempt has to.
                stands.left.retain(|left| !left.starts_with("root"));
            }
            judge_settled(verdict, &stands, &plan.old.path, &plan.new.path, told.as_ref());
            if plan.secrets.is_some() {
                // Some earlier power cut may have taken them.
                secrets::judge(self.host, verdict, !has_module(self.host.name()))?;
            }
        }
        let ending = told.and_then(|told| told.ending);
        Ok(ending.map_or_else(|| "open".into(), |ending| format!("{ending:?}")))
    }

    /// The next attempt has to bring the host to a third system, with nothing left of the one before.
    pub(crate) fn prove(
        &mut self,
        id: &str,
        by_bosco: bool,
        verdict: &mut Verdict,
        random: &mut Random,
    ) -> Result<()> {
        // What a power cut has left open says nothing of what runs now.
        self.stands = judge::look(self.host)?;
        let to = self.another(false, random)?;
        if by_bosco {
            let (code, said) = self.apply(to, false, true)?;
            if code != 0 {
                verdict.half.push(format!("the next `bosco apply` ended with {code}: {said}"));
            }
        } else {
            let id = format!("{id}-next");
            let mut ending = self.next_attempt(&id, to, false)?;
            if matches!(&ending, Some(Ending::Refused { why: Refused::Quarantined { .. } })) {
                ending = self.next_attempt(&format!("{id}-again"), to, true)?;
            }
            if !matches!(ending, Some(Ending::Committed { reboot: false, proven: true })) {
                verdict.half.push(format!("the next attempt ended as {ending:?}"));
            }
        }
        let stands = judge::look_settled(self.host)?;
        for (what, is) in
            [("runs", &stands.running), ("boots", &stands.default), ("has in its profile", &stands.profile)]
        {
            if is != to.path.as_str() {
                verdict.half.push(format!("after the next attempt it {what} {is}, and not {}", to.path));
            }
        }
        secrets::judge(self.host, verdict, false)?;
        verdict
            .half
            .extend(stands.left.iter().map(|left| format!("left over after the next attempt: {left}")));
        self.stands = stands;
        Ok(())
    }

    fn next_attempt(&self, id: &str, to: &System, again: bool) -> Result<Option<Ending>> {
        let request = self.request(id, to, false, again);
        let stop = Stop::default();
        thread::scope(|scope| {
            let driver = scope.spawn(|| drive(self.world, self.host.name(), &request, None, &stop));
            let mut watch = Watch::new(self.state().join(format!("{id}.log")), self.durations);
            while !driver.is_finished() {
                watch.look();
                thread::sleep(GLANCE * 5);
            }
            let report = driver.join().map_err(|_| anyhow!("driving an attempt panicked"))??;
            Ok(report.map(|report| report.ending))
        })
    }

    /// Brings a host to where the next case can begin, whatever was wrong with it.
    pub(crate) fn recover(&mut self) -> Result<()> {
        self.host.heal()?;
        self.host.power_cut(Unsynced::Kept)?;
        self.host.boot()?;
        self.host.wait_for_ssh(BOOT)?;
        mend_unit(self.host)?;
        self.stands = judge::look(self.host)?;
        Ok(())
    }
}

/// Sleeps as exactly as a busy machine lets one.
fn spin_sleep(time: Duration) {
    const SPIN: Duration = Duration::from_micros(300);
    let until = Instant::now() + time;
    if time > SPIN {
        thread::sleep(time - SPIN);
    }
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// The profile that a host with bosco's module has beside its system: that same system.
fn beside(host: &Host, to: &System) -> Vec<ProfileAt> {
    let (Ok(name), Ok(user)) = (ProfileName::parse("app"), UserName::parse("root")) else {
        return Vec::new();
    };
    let at = ProfileAt { profile: Profile { name, user, place: None }, path: to.path.clone() };
    has_module(host.name()).then_some(at).into_iter().collect()
}
