//! What a host remembers of its activations, on its disk.

use bosco_model::{Digest, Goal, Hold, Number, ProfileAt, Profiles, StorePath};
use serde::{Deserialize, Serialize};

use crate::{Attempt, Cause, Ending, Into, Refused, Request, State};

/// How many systems a host keeps in mind that failed there; older ones are forgotten.
const REMEMBERED: usize = 50;

/// What a host remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Journal {
    /// The attempt that is under way, or was the last one.
    #[serde(default)]
    pub attempt: Option<Attempt>,
    /// Which boot that was in: the journal of an earlier one tells of a machine that has gone down since.
    #[serde(default)]
    pub boot: String,
    /// When the attempt ended, in seconds since 1970.
    #[serde(default)]
    pub ended: Option<u64>,
    /// Systems that failed here, and are not tried again until an operator says so.
    #[serde(default)]
    pub quarantine: Vec<Quarantined>,
    /// Systems whose activation was interrupted.
    #[serde(default)]
    pub interrupted: Vec<StorePath>,
    /// The highest number that was committed, of releases and pushes; it never goes back. What was only tried does not
    /// count: a push that did not hold must not keep the release from being tried again that the host is to run.
    #[serde(default)]
    pub number: Number,
    /// What the host was brought to by hand, where nothing that was pulled has followed. It is kept apart from the attempts:
    /// one that comes to nothing, whoever asked for it, does not let it go.
    #[serde(default)]
    pub hold: Option<Hold>,
    /// The bundle of secrets that was committed last. It is apart from the generations: one that is gone back to has the
    /// newest secrets, so that none comes back that was revoked.
    #[serde(default)]
    pub secrets: Option<Digest>,
    /// The secrets of what was only tested, for as long as it may still run: a candidate that fails goes back to it.
    #[serde(default)]
    pub tested: Option<Tested>,
}

/// A system that was only tested, with secrets that were brought for that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The system.
    pub toplevel: StorePath,
    /// The bundle that was brought with it.
    pub secrets: Digest,
    /// The boot it was in: the next one takes it away.
    pub boot: String,
}

/// What could not be understood of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// All was.
    Nothing,
    /// Something that is over.
    Something,
    /// An attempt that has not ended.
    OpenAttempt,
}

/// A system that failed on a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The system.
    pub toplevel: StorePath,
    /// The profiles that it was to run with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<ProfileAt>,
    /// The bundle of secrets that it was given: with another one it is another thing.
    #[serde(default)]
    pub secrets: Option<Digest>,
    /// What it did, in words.
    pub why: String,
    /// When, in seconds since 1970.
    pub since: u64,
}

impl Quarantined {
    /// Whether it is this system that failed, with these profiles.
    fn is_of(&self, toplevel: &StorePath, profiles: &[ProfileAt]) -> bool {
        self.toplevel == *toplevel && self.profiles == profiles
    }
}

impl Journal {
    /// Reads a journal, of another version of bosco perhaps: what can't be understood of it is left out. Second is whether an
    /// attempt was left out, third whether it is known to have ended.
    ///
    /// # Errors
    /// Where the text is no JSON at all.
    pub fn read(text: &[u8]) -> Result<(Self, Unread), serde_json::Error> {
        let mut value: serde_json::Value = serde_json::from_slice(text)?;
        if let Ok(journal) = serde_json::from_value(value.clone()) {
            return Ok((journal, Unread::Nothing));
        }
        let attempt = value["attempt"].take();
        let part = |name: &str| value.get(name).cloned().unwrap_or_default();
        let journal = Self {
            attempt: None,
            boot: String::new(),
            ended: None,
            quarantine: serde_json::from_value(part("quarantine")).unwrap_or_default(),
            interrupted: serde_json::from_value(part("interrupted")).unwrap_or_default(),
            number: serde_json::from_value(part("number")).unwrap_or_default(),
            hold: serde_json::from_value(part("hold")).unwrap_or_default(),
            secrets: serde_json::from_value(part("secrets")).unwrap_or_default(),
            tested: None,
        };
        let open = !attempt.is_null() && attempt["state"] != "ended";
        Ok((journal, if open { Unread::OpenAttempt } else { Unread::Something }))
    }

    /// The attempt that has not ended.
    #[must_use]
    pub fn open(&self) -> Option<&Attempt> {
        self.attempt.as_ref().filter(|attempt| attempt.ending().is_none())
    }

    /// The bundle of secrets that a system has to install: the attempt's own, where it is the candidate and on its way
    /// forward; that of its test, where it was only tested and goes on running; or else what was committed last. `is` says whether
    /// it is what was asked for by a name, and `this_boot` whether the machine has not gone down since the journal was written: a
    /// boot takes away what was only running.
    #[must_use]
    pub fn secrets_of(&self, is: impl Fn(&StorePath) -> bool, this_boot: bool) -> Option<Digest> {
        let open = self.open().filter(|attempt| is(&attempt.request.toplevel));
        if let Some(attempt) = open.filter(|attempt| installs_its_own(attempt, this_boot)) {
            return attempt.request.secrets.or(self.secrets);
        }
        let tested = self.tested.as_ref().filter(|tested| this_boot && tested.boot == self.boot);
        tested.filter(|tested| is(&tested.toplevel)).map(|tested| tested.secrets).or(self.secrets)
    }

    /// All bundles of secrets that may still be installed.
    #[must_use]
    pub fn secrets_in_use(&self) -> Vec<Digest> {
        let open = self.open().and_then(|attempt| attempt.request.secrets);
        let tested = self.tested.as_ref().map(|tested| tested.secrets);
        self.secrets.into_iter().chain(open).chain(tested).collect()
    }

    /// Why a system is in quarantine, if it is.
    #[must_use]
    pub fn quarantined(&self, toplevel: &StorePath) -> Option<&Quarantined> {
        self.quarantine.iter().find(|one| one.toplevel == *toplevel)
    }

    /// The same, with those profiles and that bundle of secrets: with others than it has failed with it is another thing. `None`:
    /// with whichever secrets.
    #[must_use]
    pub fn quarantined_with(
        &self,
        toplevel: &StorePath,
        profiles: &Profiles,
        secrets: Option<Digest>,
    ) -> Option<&Quarantined> {
        self.quarantine.iter().find(|held| {
            held.is_of(toplevel, &profiles.all) && (secrets.is_none() || held.secrets == secrets)
        })
    }

    /// What a request is refused with, before it begins, by what the host remembers. Push and pull do not undo each other
    /// here: it is asked under the lock, whatever its sender knew of the host.
    #[must_use]
    pub fn refusal(&self, request: &Request) -> Option<Refused> {
        let Request { number, lifts, toplevel, profiles, .. } = request;
        if *number > 0 && *number < self.number {
            return Some(Refused::Older { number: *number, highest: self.number });
        }
        let gives_way = |hold: &&Hold| hold.gives_way_to(*number, *lifts, toplevel, profiles);
        let kept = self.hold.as_ref().filter(|hold| request.is_pulled() && !gives_way(hold));
        if let Some(Hold { number, toplevel, .. }) = kept.cloned() {
            return Some(Refused::Held { number, toplevel });
        }
        let held = self.quarantined_with(toplevel, profiles, request.secrets).filter(|_| !request.again)?;
        Some(Refused::Quarantined { why: held.why.clone() })
    }

    /// Draws the consequences of the attempt's end: what failed by its own fault, or was interrupted twice, is not tried
    /// again; what was committed has nothing held against it, and keeps others off as far as it was counted.
    pub fn close(&mut self, now: u64) {
        let Some(attempt) = &self.attempt else { return };
        let Some(ending) = attempt.ending() else { return };
        let (request, ending, switched) = (attempt.request.clone(), ending.clone(), attempt.switched);
        self.ended = Some(now);
        let boot = &self.boot;
        self.tested.take_if(|tested| tested.boot != *boot);
        if matches!(ending, Ending::Committed { .. }) {
            self.count_test(&request, switched);
            self.count(&request);
        }
        let (toplevel, profiles) = (request.toplevel, request.profiles.all);
        match ending {
            Ending::Reverted { cause } => {
                self.condemn((toplevel, profiles, request.secrets), cause.to_string(), now);
            }
            Ending::Inconclusive { cause: cause @ Cause::Interrupted { .. } } => {
                if self.interrupted.contains(&toplevel) {
                    let why = format!("{cause}, for the second time");
                    self.condemn((toplevel, profiles, request.secrets), why, now);
                } else {
                    self.interrupted.push(toplevel);
                    cap(&mut self.interrupted);
                }
            }
            Ending::Committed { proven: true, .. } => {
                self.quarantine.retain(|one| !one.is_of(&toplevel, &profiles));
                self.interrupted.retain(|one| *one != toplevel);
            }
            Ending::Committed { .. } | Ending::Inconclusive { .. } | Ending::Refused { .. } => {}
        }
    }

    /// Counts what was committed. A test is not counted, and neither sets a hold nor lifts one: it is gone with the next boot,
    /// and what holds must outlast that. So what is pulled takes its place, as a boot would. What leaves the system as it is
    /// brings no secrets.
    fn count(&mut self, request: &Request) {
        if !matches!(request.goal, Goal::Switch | Goal::Boot) {
            return;
        }
        self.number = self.number.max(request.number);
        if !request.profiles.only {
            self.secrets = request.secrets.or(self.secrets);
        }
        if request.hold {
            self.hold = Some(self.held_by(request));
        } else if request.number > 0 {
            self.hold = None;
        }
    }

    /// Which secrets what runs now was tested with. A boot since the switch has taken it away.
    fn count_test(&mut self, request: &Request, switched: bool) {
        let Request { goal, toplevel, secrets, .. } = request;
        if request.profiles.only || *goal == Goal::Boot {
            return;
        }
        let tested = |secrets| Tested { toplevel: toplevel.clone(), secrets, boot: self.boot.clone() };
        self.tested = secrets.filter(|_| *goal == Goal::Test && switched).map(tested);
    }

    /// What holds the host after a push: of profiles that were pushed alone, they beside what held it before; of secrets alone,
    /// the system that they are for, beside the profiles that held it.
    fn held_by(&self, request: &Request) -> Hold {
        let Request { toplevel, profiles, keeps_system, .. } = request.clone();
        if keeps_system {
            let all = self.hold.as_ref().map(|hold| hold.profiles.all.clone()).unwrap_or_default();
            return Hold { number: self.number, toplevel, profiles: Profiles { all, only: false } };
        }
        let Some(before) = self.hold.clone().filter(|_| profiles.only) else {
            return Hold { number: self.number, toplevel, profiles };
        };
        let is_new = |one: &ProfileAt| profiles.all.iter().any(|new| new.profile.is(&one.profile));
        let mut all: Vec<ProfileAt> = before.profiles.all.into_iter().filter(|one| !is_new(one)).collect();
        all.extend(profiles.all.iter().cloned());
        let only = before.profiles.only;
        let toplevel = if only { toplevel } else { before.toplevel };
        Hold { number: self.number, toplevel, profiles: Profiles { all, only } }
    }

    /// Lets a hold with at most that number go, and gives it. What the host has come to is counted all the same: it takes
    /// what is newer, and not what was there before.
    pub fn lift(&mut self, number: Number) -> Option<Hold> {
        self.hold.take_if(|hold| hold.number <= number)
    }

    /// Forgets what was held against a system. Whether there was anything.
    pub fn forgive(&mut self, toplevel: &StorePath) -> bool {
        let held = self.quarantined(toplevel).is_some();
        self.quarantine.retain(|one| one.toplevel != *toplevel);
        self.interrupted.retain(|one| one != toplevel);
        held
    }

    fn condemn(
        &mut self,
        (toplevel, profiles, secrets): (StorePath, Vec<ProfileAt>, Option<Digest>),
        why: String,
        since: u64,
    ) {
        self.quarantine.retain(|one| !(one.is_of(&toplevel, &profiles) && one.secrets == secrets));
        self.interrupted.retain(|one| *one != toplevel);
        self.quarantine.push(Quarantined { toplevel, profiles, secrets, why, since });
        cap(&mut self.quarantine);
    }
}

/// Whether an attempt's candidate is on its way forward. `this_boot` is whether the machine has not gone down since.
fn installs_its_own(attempt: &Attempt, this_boot: bool) -> bool {
    match &attempt.state {
        State::InstallingSecrets | State::Switching | State::ActivatingProfiles => this_boot,
        State::Proving { .. } => this_boot || attempt.booted,
        State::PreparingEntry | State::SettingProfile | State::InstallingBoot => true,
        State::Rebooting { into } => *into != Into::Old,
        State::Closing { ending: Ending::Committed { .. } } => {
            this_boot || attempt.request.goal != Goal::Test
        }
        State::Checking
        | State::Rooting
        | State::Syncing
        | State::Arming
        | State::Reverting
        | State::Retesting { .. }
        | State::Closing { .. }
        | State::Ended { .. } => false,
    }
}

fn cap<T>(all: &mut Vec<T>) {
    let excess = all.len().saturating_sub(REMEMBERED);
    all.drain(..excess);
}
