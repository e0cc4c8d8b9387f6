//! What an agent knows, in one place. Nothing here waits.

use std::sync::Arc;
use std::time::Instant;

use bosco_activation::{Attempt, Journal};
use bosco_model::{Observed, Profile, Profiles, State, StorePath};
use bosco_release::{Digest, Judged, Known, Manifest, Opened, Refusal, Runs, Sealed, Trust, judge, tree};
use bosco_wire::api::{Brought, Orders, Phase, Standing};

use crate::build::Built;
use crate::config::AgentConfig;
use crate::keep::{self, Pull};
use crate::machine;
use crate::schedule::{self, Came, Decision, Last, Moment, Nudge, Timer, View};

/// How much is shown of what comes from the hub in words, in characters.
const WORDS: usize = 300;
/// The longest ratchet, in bytes: it is kept beside what must not be forgotten.
const RATCHET: usize = 200;

/// What an agent knows.
pub(crate) struct Core {
    config: Arc<AgentConfig>,
    /// Whom the host trusts.
    pub(crate) trust: Trust,
    /// What is on the disk of how far it is.
    pub(crate) pull: Pull,
    /// What the machine is and runs, when it was asked last, and when that was.
    observed: Option<(Observed, Instant)>,
    /// The profiles that it was asked about.
    asked: Vec<Profile>,
    /// What it remembers of its activations.
    pub(crate) journal: Journal,
    /// The manifest that the hub gave last, believed or not.
    heard: Option<Digest>,
    /// The manifest that it goes by, as it was judged last; where there is none, the one that was given.
    judged: Option<Judged>,
    /// Why the manifest that the hub gave last was not taken. The host goes on by the one before.
    refused: Option<Refusal>,
    /// An operator's word to stay.
    held: Option<String>,
    nudge: Option<Nudge>,
    /// By whose word it has begun with what it is at.
    going: Option<Nudge>,
    /// Whether the hub is there.
    pub(crate) connected: bool,
    /// Why it is not, in words.
    pub(crate) away: Option<String>,
    /// What the hub has raised the alarm for.
    pub(crate) alarm: Option<String>,
    /// What the host itself has, and that no manifest says.
    pub(crate) tampered: Option<String>,
    /// Why it could not update itself.
    stale: Option<String>,
    phase: Phase,
    why: Option<String>,
}

/// What orders ask for beside what the core does with them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Holds to let go of, by their numbers.
    pub(crate) lift: Option<u64>,
    /// Connections that somebody wants.
    pub(crate) visits: Vec<String>,
}

impl Core {
    pub(crate) fn new(config: Arc<AgentConfig>, trust: Trust, pull: Pull) -> Self {
        let mut core = Self {
            config,
            trust,
            pull,
            observed: None,
            asked: Vec::new(),
            journal: Journal::default(),
            heard: None,
            judged: None,
            refused: None,
            held: None,
            nudge: None,
            going: None,
            connected: false,
            away: None,
            alarm: None,
            tampered: None,
            stale: None,
            phase: Phase::Idle,
            why: None,
        };
        core.journal = machine::journal(&core.config.places);
        core.judge_again();
        core
    }

    fn known(&self) -> Known {
        let seen = self.pull.seen;
        Known {
            host: self.config.host.clone(),
            trust: self.trust.clone(),
            highest: self.journal.number.max(seen.map_or(0, |(number, _)| number)),
            seen,
            hold: self.journal.hold.clone(),
            now: machine::now(),
        }
    }

    /// Judges the manifest that it goes by as the clock and the journal are now.
    fn judge_again(&mut self) {
        if let Some(sealed) = &self.pull.sealed {
            self.judged = Some(judge(&self.known(), sealed));
        }
    }

    /// Hears what the hub has to say. What is new of it is on the disk when this returns, or it does not go by it.
    pub(crate) fn hear(&mut self, orders: Orders) -> Asked {
        let Orders { sealed, trigger, lift, held, visits } = orders;
        let is_new = sealed.is_some_and(|sealed| self.given(sealed));
        self.judge_again();
        self.held = held.as_deref().map(words);
        // While it is at it, it need not be told to try.
        if trigger && (is_new || !is_at_it(self.phase)) {
            self.nudge = Some(Nudge::Operator);
        }
        Asked { lift, visits }
    }

    /// The hub gives a manifest. Gives whether the host goes by another one from now on.
    fn given(&mut self, sealed: Sealed) -> bool {
        let leaf = tree::leaf(sealed.manifest.as_bytes());
        let judged = judge(&self.known(), &sealed);
        self.refused = None;
        let (opened, is_timely) = match &judged {
            Judged::Take(opened) | Judged::Held(opened, _) => (opened, true),
            Judged::Late(opened, _) => (opened, false),
            Judged::Refused(why) => {
                self.say(&format!("the hub gave a manifest that is not taken: {why}"));
                self.heard = Some(leaf);
                self.refused = Some(why.clone());
                if self.pull.sealed.is_none() {
                    self.judged = Some(judged);
                }
                return false;
            }
        };
        let is_new = self.leaf() != Some(opened.leaf);
        let before = (self.pull.seen, self.pull.sealed.clone());
        self.pull.seen = Some((opened.manifest.number, opened.leaf));
        self.pull.sealed = Some(sealed);
        // Whom to trust holds from here on, whatever becomes of the system: it may be there already, or have to wait, and a
        // key that was revoked must not sign anything meanwhile.
        let trusted = if is_timely { self.trusts(opened) } else { Ok(false) };
        let kept = trusted.and_then(|_| self.pull.save(&self.config.state));
        if let Err(why) = kept {
            // The number that was seen could be forgotten. The hub gives it again.
            self.say(&why);
            (self.pull.seen, self.pull.sealed) = before;
            return false;
        }
        self.heard = Some(leaf);
        if is_new {
            (self.tampered, self.stale) = (None, None);
        }
        self.say(&format!("release {} is there", opened.manifest.number));
        is_new
    }

    /// Somebody at the machine wants it tried now.
    pub(crate) fn nudge(&mut self) {
        self.nudge = self.nudge.max(Some(Nudge::Local));
    }

    /// What the hub is told to know whether there is something new.
    pub(crate) fn heard(&self) -> Option<Digest> {
        self.heard.or_else(|| self.leaf())
    }

    fn opened(&self) -> Option<&Opened> {
        match self.judged.as_ref()? {
            Judged::Take(opened) | Judged::Held(opened, _) | Judged::Late(opened, _) => Some(opened),
            Judged::Refused(_) => None,
        }
    }

    /// The manifest that it goes by.
    pub(crate) fn leaf(&self) -> Option<Digest> {
        self.pull.sealed.as_ref().map(|sealed| tree::leaf(sealed.manifest.as_bytes()))
    }

    /// What the host should run; not known of what it has not built yet.
    pub(crate) fn should(&self) -> Option<&StorePath> {
        match &self.opened()?.manifest.runs {
            Runs::System { toplevel, .. } => Some(toplevel),
            Runs::Tree { tree, .. } => {
                let built = self.pull.built.as_ref().filter(|built| built.tree == *tree)?;
                Some(built.should(self.observed.as_ref().map(|(observed, _)| observed)))
            }
        }
    }

    /// What the host should have beside its system, or alone.
    pub(crate) fn profiles(&self) -> &Profiles {
        self.opened().map_or(Profiles::NONE, |opened| opened.manifest.runs.profiles())
    }

    /// What it has built of a tree.
    pub(crate) fn built(&self, tree: &StorePath) -> Option<Built> {
        self.pull.built.clone().filter(|built| built.tree == *tree)
    }

    /// Whether that is a system with newer inputs than its manifest has.
    pub(crate) fn is_update(&self, toplevel: &StorePath) -> bool {
        self.pull.built.as_ref().is_some_and(|built| built.update.as_ref() == Some(toplevel))
    }

    /// What the host runs.
    pub(crate) fn runs(&self) -> Option<StorePath> {
        self.observed.as_ref().and_then(|(observed, _)| observed.current.clone())
    }

    /// Whether somebody minds the line's being paid by volume.
    pub(crate) fn minds_line(&self) -> bool {
        self.opened().is_some_and(|opened| !opened.manifest.policy.on_metered)
    }

    /// How long to wait between two looks, in seconds.
    pub(crate) fn interval(&self) -> u64 {
        self.opened().map_or(900, |opened| opened.manifest.policy.interval).clamp(60, 86400)
    }

    /// How long ago the machine was asked what it runs. `None` also where there are profiles that it was not asked about.
    pub(crate) fn since_survey(&self) -> Option<std::time::Duration> {
        let is_asked = self.profiles().all.iter().all(|one| self.asked.contains(&one.profile));
        self.observed.as_ref().filter(|_| is_asked).map(|(_, when)| when.elapsed())
    }

    /// Takes in what the machine has said of itself and of these profiles, and reads what it remembers.
    pub(crate) fn surveyed(&mut self, observed: Result<Observed, String>, asked: &Profiles) {
        self.asked = asked.all.iter().map(|one| one.profile.clone()).collect();
        self.journal = machine::journal(&self.config.places);
        self.observed = match observed {
            Ok(observed) => Some((observed, Instant::now())),
            Err(why) => {
                self.say(&why);
                None
            }
        };
        self.judge_again();
        let arrived =
            self.opened().filter(|_| self.state() == Some(State::UpToDate)).map(|opened| opened.leaf);
        if let Some(leaf) = arrived {
            self.arrived(leaf);
        }
    }

    /// The bundle of secrets that the host has to commit to be where a manifest wants it. `None`: it never had any, and is to have
    /// none.
    pub(crate) fn secrets(&self, manifest: &Manifest) -> Option<Digest> {
        bosco_secrets::wanted(manifest.secrets, self.journal.secrets)
    }

    fn has_secrets(&self, observed: &Observed) -> bool {
        let named = self.opened().and_then(|opened| opened.manifest.secrets);
        bosco_secrets::wanted(named, observed.secrets) == observed.secrets
    }

    /// How much room the store has, in bytes.
    pub(crate) fn free(&self) -> Option<u64> {
        self.observed.as_ref().and_then(|(observed, _)| observed.free)
    }

    fn state(&self) -> Option<State> {
        let (observed, _) = self.observed.as_ref()?;
        match self.should() {
            Some(should) => {
                Some(State::with_secrets(should, self.profiles(), self.has_secrets(observed), observed))
            }
            None => self.opened().map(|_| State::unbuilt(observed)),
        }
    }

    /// Decides what to do now. What is given to do is begun with: nobody needs to say it again.
    pub(crate) fn decide(&mut self, moment: &Moment) -> Decision {
        self.judge_again();
        let secrets = self.opened().and_then(|opened| self.secrets(&opened.manifest));
        let quarantined =
            self.should().and_then(|should| self.journal.quarantined_with(should, self.profiles(), secrets));
        let view = View {
            judged: self.judged.as_ref(),
            state: self.state(),
            quarantined: quarantined.map(|one| one.why.as_str()),
            held: self.held.as_deref(),
            nudge: self.nudge,
            last: self.pull.last.as_ref(),
            updated: self.pull.updated,
            connected: self.connected,
        };
        let decision = schedule::decide(&view, moment);
        match &decision {
            Decision::Go { .. } => {
                self.going = self.nudge.take();
                self.at(Phase::Fetching, None);
            }
            Decision::Update => {
                self.going = self.nudge.take();
                self.pull.updated = moment.now;
                self.save();
                self.at(Phase::Building, Some("it looks for newer inputs".into()));
            }
            Decision::Stay { phase, why, .. } => {
                // Who was told to try and could not is not to do so at some other time.
                if self.connected && !is_at_it(*phase) {
                    self.nudge = None;
                }
                // What it does not take is newer than what it goes by.
                let refused = self.refused.as_ref().map(ToString::to_string);
                self.at(*phase, refused.or_else(|| why.clone()));
            }
        }
        decision
    }

    /// Decides again, once what was to be fetched is there: meanwhile somebody may have told the host to stay, or the time for
    /// it may be over.
    pub(crate) fn decide_again(&mut self, moment: &Moment) -> Decision {
        self.nudge = self.nudge.max(self.going);
        self.decide(moment)
    }

    /// Whether newer inputs may be taken, once they are built: at any time, where somebody has told it to look for them.
    pub(crate) fn may_update(&mut self, opened: &Opened, moment: &Moment) -> bool {
        self.judge_again();
        let is_same = self.wanted().is_some_and(|wanted| wanted.leaf == opened.leaf);
        let is_time = self.going.is_some() || schedule::not_now(&opened.manifest.policy, moment).is_none();
        is_same && self.held.is_none() && is_time
    }

    /// Its inputs are the newest that could be had.
    pub(crate) fn is_newest(&mut self) {
        self.stale = None;
        self.at(Phase::Idle, None);
    }

    /// It could not update itself; it is up to date all the same.
    pub(crate) fn not_updated(&mut self, why: &str) {
        self.say(&format!("it could not update itself: {why}"));
        self.stale = Some(not_updated(why));
        self.at(Phase::Idle, None);
    }

    /// What is to be taken, if it still is.
    pub(crate) fn wanted(&self) -> Option<Opened> {
        match self.judged.as_ref()? {
            Judged::Take(opened) => Some((**opened).clone()),
            _ => None,
        }
    }

    /// Says what it is at.
    pub(crate) fn at(&mut self, phase: Phase, why: Option<String>) {
        if let Some(words) = why.as_ref().filter(|_| why != self.why) {
            self.say(words);
        }
        (self.phase, self.why) = (phase, why);
    }

    /// Believes whom a manifest that was taken says to trust, where that is newer. It is on the disk when this returns.
    ///
    /// # Errors
    /// In words; it trusts whom it trusted before.
    fn trusts(&mut self, Opened { manifest, signer, .. }: &Opened) -> Result<bool, String> {
        let trust = &manifest.trust;
        if trust.version <= self.trust.version || trust.fleet != self.trust.fleet {
            return Ok(false);
        }
        // It could not be believed any more the moment after.
        if !trust.signers.iter().any(|one| one.key == signer.key) {
            self.say("whom to trust was not taken over: the release drops the very key that has signed it");
            return Ok(false);
        }
        keep::keep_trust(&self.config.state, trust)?;
        self.say(&format!("trusts by version {} now", trust.version));
        self.trust = trust.clone();
        Ok(true)
    }

    /// Root may have said anew whom to trust: that holds, whatever its version.
    pub(crate) fn look_at_trust(&mut self) {
        match keep::trust(&self.config.state) {
            Ok(Some(trust)) if trust != self.trust => {
                self.say(&format!("trusts by version {} now, as root has said here", trust.version));
                self.trust = trust;
                self.judge_again();
            }
            Ok(_) => {}
            Err(why) => self.say(&why),
        }
    }

    /// Keeps what to say to the hub next time.
    ///
    /// # Errors
    /// In words: it must not be used then.
    pub(crate) fn ratchet(&mut self, ratchet: String) -> Result<(), String> {
        if ratchet.len() > RATCHET {
            return Err("the hub gives something to keep that is too long".into());
        }
        let before = self.pull.ratchet.replace(ratchet);
        self.pull.save(&self.config.state).inspect_err(|_| self.pull.ratchet = before)
    }

    /// The agent runs by a timer, once more; or always.
    pub(crate) fn ticks(&mut self, by_timer: bool) {
        self.pull.timer = by_timer.then(|| Timer::ticked(self.pull.timer, machine::now()));
    }

    /// The host has come to a manifest.
    pub(crate) fn arrived(&mut self, leaf: Digest) {
        let last = Some(Last { leaf, came: Came::Arrived });
        let here = self.opened().filter(|opened| opened.leaf == leaf).map(|opened| opened.manifest.number);
        let here = here.zip(self.should().cloned());
        let is_known =
            |brought: &Brought| here.as_ref().is_none_or(|(_, should)| brought.toplevel == *should);
        if self.pull.last == last && self.pull.brought.as_ref().is_some_and(is_known) {
            return;
        }
        self.pull.last = last;
        if let Some((number, toplevel)) = here {
            // What it runs already it has run since then.
            let before = self.pull.brought.as_ref().filter(|brought| brought.toplevel == toplevel);
            let since = before.map_or_else(machine::now, |brought| brought.since);
            self.pull.brought = Some(Brought { number, toplevel, since });
        }
        self.save();
    }

    /// The number of a hold that holds nothing back: the host goes by a manifest that contains it, and runs that.
    pub(crate) fn hold_is_done(&self) -> Option<u64> {
        let hold = self.journal.hold.as_ref()?;
        let taken = matches!(self.judged, Some(Judged::Take(_))) && self.state() == Some(State::UpToDate);
        taken.then_some(hold.number)
    }

    /// Reads what the machine remembers of its activations.
    pub(crate) fn look_at_journal(&mut self) {
        self.journal = machine::journal(&self.config.places);
        self.judge_again();
    }

    /// Whether the host has not failed at this manifest's system before.
    pub(crate) fn is_first(&self, leaf: Digest) -> bool {
        let last = self.pull.last.as_ref().filter(|last| last.leaf == leaf);
        !last.is_some_and(|last| matches!(last.came, Came::Failed { .. }))
    }

    /// Whether it has not failed at this manifest before for that reason.
    pub(crate) fn is_news(&self, leaf: Digest, because: &str) -> bool {
        let last = self.pull.last.as_ref().filter(|last| last.leaf == leaf);
        !last.is_some_and(|last| matches!(&last.came, Came::Failed { why, .. } if why == because))
    }

    /// Whether the last time it did not fail to update itself for that reason.
    pub(crate) fn is_news_of_update(&self, because: &str) -> bool {
        self.stale.as_ref() != Some(&not_updated(because))
    }

    /// A try has failed.
    pub(crate) fn failed(&mut self, leaf: Digest, at: schedule::At, why: String) {
        let (now, random) = (machine::now(), machine::random());
        self.pull.last = Some(Last::failed(self.pull.last.as_ref(), leaf, at, why, now, random));
        self.save();
    }

    /// The attempt that has ended and was not reported.
    pub(crate) fn unreported(&self) -> Option<&Attempt> {
        let attempt = self.journal.attempt.as_ref().filter(|attempt| attempt.ending().is_some())?;
        (self.pull.reported.as_ref() != Some(&attempt.request.id)).then_some(attempt)
    }

    /// The attempt at something that was pulled, which has not ended.
    pub(crate) fn open_attempt(&self) -> Option<String> {
        let attempt = self.journal.open()?;
        attempt.request.is_pulled().then(|| attempt.request.id.clone())
    }

    /// Writes down how far it is. Where the disk does not take it, that is told, and goes on.
    pub(crate) fn save(&self) {
        if let Err(why) = self.pull.save(&self.config.state) {
            self.say(&why);
        }
    }

    /// What somebody should look into at once.
    fn alarms(&self) -> Vec<String> {
        // A push that was let go has a higher number than the release that was there before it: nobody replays anything.
        let is_replayed = |judged: &&Judged| {
            let older = matches!(judged, Judged::Refused(Refusal::Older { .. }));
            !older || self.heard().is_none() || self.heard() != self.pull.seen.map(|(_, leaf)| leaf)
        };
        let judged = self.judged.as_ref().filter(is_replayed).and_then(schedule::alarm);
        let refused = self.refused.as_ref().filter(|why| why.is_alarm()).map(ToString::to_string);
        let dropped = (self.pull.dropped > 0).then(|| format!("{} reports were lost", self.pull.dropped));
        [judged, refused, self.alarm.clone(), self.tampered.clone(), dropped].into_iter().flatten().collect()
    }

    /// How the host stands.
    pub(crate) fn standing(&self) -> Standing {
        let known = self.known();
        let refused = || self.refused.as_ref().map(ToString::to_string);
        let updated = || self.should().is_some_and(|should| self.is_update(should));
        let own = || self.stale.clone().or_else(|| updated().then(|| "it has updated itself".into()));
        let why = || self.why.clone().or_else(refused).or_else(own);
        Standing {
            observed: self.observed.as_ref().map(|(observed, _)| observed.clone()).unwrap_or_default(),
            highest: known.highest,
            leaf: self.leaf(),
            built: self.opened().filter(|one| one.manifest.runs.is_tree()).and(self.should()).cloned(),
            phase: self.phase,
            why: why(),
            hold: known.hold,
            brought: self.pull.brought.clone(),
            trust: self.trust.version,
            alarms: self.alarms(),
            rhythm: self.pull.timer.map(|timer| timer.every),
            version: self.config.version.clone(),
        }
    }

    pub(crate) fn say(&self, words: &str) {
        (self.config.say)(words);
    }
}

/// What comes from the hub in words, as it is shown.
pub(crate) fn words(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(WORDS).collect()
}

fn not_updated(why: &str) -> String {
    format!("it could not update itself: {}", words(why))
}

/// Whether it is at work on what it should run.
fn is_at_it(phase: Phase) -> bool {
    matches!(phase, Phase::Fetching | Phase::Building | Phase::Activating)
}
