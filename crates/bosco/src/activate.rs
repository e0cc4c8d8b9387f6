//! An activation as the operator sees it: asked for over one connection, proven by a second, fresh one, and followed to its
//! end over as many as it takes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bosco_activation::{Busy, Ending, Refused, Request, Told};
use bosco_model::{Activity, ActivityStage, Digest, Goal, Limits, Number, Profiles, StorePath, Target};
use bosco_session::{Error, Session, Stage as Progress};
use tokio::time::{Instant, sleep};

use crate::event::{Event, Sink, Stage};
use crate::outcome::Outcome;
use crate::push::refused;
use crate::reach::{Reach, troubled};

/// How long a host may take to go back, beyond its window, and to be reached again.
const GOES_BACK: Duration = Duration::from_secs(240);
/// How long an activation may take where the host could not say: what it takes where nothing else is declared.
const UNTOLD: Duration = Duration::from_secs(600);
/// Between two tries to reach a host.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two tries where the host can be reached, and is at its switch still.
const EARLY: Duration = Duration::from_millis(250);
/// How many damaged paths a host may name at once.
const DAMAGED: usize = 100;

/// What an activation is asked for with, beside what is to run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask {
    /// The generation to go back to.
    pub(crate) generation: Option<u32>,
    /// Whether the host may reboot.
    pub(crate) reboot: bool,
    /// Whether what is in quarantine may be tried again.
    pub(crate) again: bool,
    /// Its number: one more than the host has come to.
    pub(crate) number: Number,
    /// The bundle of secrets that goes with it; without one the host keeps those that it has.
    pub(crate) secrets: Option<Digest>,
}

/// A host whose activation is followed.
pub(crate) struct Activation<'a> {
    pub(crate) name: &'a bosco_model::HostName,
    pub(crate) target: &'a Target,
    pub(crate) helper: &'a StorePath,
    pub(crate) reach: &'a Reach,
    pub(crate) events: &'a Sink,
    /// What is activated beside the system.
    pub(crate) profiles: Profiles,
    /// How long it may take, where that is not the system's to say.
    pub(crate) limits: Limits,
}

/// An activation that was refused, before anything was changed, for paths of the new system that are damaged there.
pub(crate) struct Damaged {
    /// Some of them, or all.
    pub(crate) paths: Vec<StorePath>,
    /// What came of the host, where nobody mends them.
    pub(crate) outcome: Outcome,
}

impl Activation<'_> {
    /// Brings the host to a system, and gives what came of it.
    pub(crate) async fn run(
        &self,
        mut session: Session,
        goal: Goal,
        toplevel: &StorePath,
        ask: Ask,
    ) -> Result<Outcome, Damaged> {
        let request = Request {
            id: new_id(),
            // Secrets alone are a switch to what runs already.
            goal: if goal == Goal::Keys { Goal::Switch } else { goal },
            toplevel: toplevel.clone(),
            profiles: self.profiles.clone(),
            limits: self.limits,
            secrets: ask.secrets,
            keeps_system: goal == Goal::Keys,
            generation: ask.generation,
            by: operator(),
            reboot: ask.reboot,
            again: ask.again,
            connection: true,
            number: ask.number,
            hold: true,
            lifts: 0,
            doubts_hub: false,
        };
        let mut limit = UNTOLD;
        let tell = &mut |told: &Told| {
            if let Told::Begun { seconds } = told {
                limit = Duration::from_secs(*seconds);
            }
            self.tell(told);
        };
        let began = session.activate(&request, tell).await;
        // What follows must not depend on a connection that was there before. The host goes on telling it, so it does not end
        // by itself.
        drop(session);
        self.follow(began, goal, &request.id, limit).await
    }

    /// Follows an attempt, over fresh connections, to its end. It ends within `limit`, or goes back.
    async fn follow(
        &self,
        began: Result<Progress, Error>,
        goal: Goal,
        id: &str,
        limit: Duration,
    ) -> Result<Outcome, Damaged> {
        let mut progress = began;
        let mut deadline = Instant::now() + limit + GOES_BACK;
        let mut lost: Option<Error> = None;
        let mut token = None;
        loop {
            let pause = match progress {
                Ok(Progress::Ended(report, log)) => {
                    let outcome = Outcome::of(goal, &report, log);
                    return match &report.ending {
                        Ending::Refused { why: Refused::Damaged { paths } } => {
                            let paths = paths.iter().filter_map(|path| StorePath::parse(path).ok());
                            Err(Damaged { paths: paths.take(DAMAGED).collect(), outcome })
                        }
                        _ => Ok(outcome),
                    };
                }
                Ok(Progress::Busy(busy)) => return Ok(occupied(busy)),
                Ok(Progress::Unknown) => {
                    let reason = "the host knows nothing of the activation any more";
                    let hint = "`bosco status` says where it stands";
                    return Ok(Outcome::failed(Stage::Activate, reason, Some(hint.into())));
                }
                Ok(Progress::Waiting(seconds, asked)) => {
                    deadline = Instant::now() + Duration::from_secs(seconds) + GOES_BACK;
                    // The very word that was brought is asked for again only by a host that has lost it.
                    let pause = if token.as_ref() == Some(&asked) { EARLY } else { Duration::ZERO };
                    token = Some(asked);
                    lost = None;
                    pause
                }
                Ok(Progress::Rebooting(seconds)) => {
                    deadline = Instant::now() + Duration::from_secs(seconds) + GOES_BACK;
                    self.away("it reboots", deadline);
                    AGAIN
                }
                Ok(Progress::Early) => EARLY,
                Err(error @ (Error::Wire(_) | Error::Follow(_))) => {
                    if matches!(&error, Error::Wire(wire) if wire.trouble == bosco_wire::Trouble::Stopped) {
                        return Ok(troubled(Stage::Activate, &error));
                    }
                    if lost.is_none() {
                        deadline = deadline.max(Instant::now() + GOES_BACK);
                        self.away(&error.to_string(), deadline);
                    }
                    lost = Some(error);
                    AGAIN
                }
                Err(error) => return Ok(troubled(Stage::Activate, &error)),
            };
            if Instant::now() >= deadline {
                return Ok(gone(lost.as_ref()));
            }
            sleep(pause).await;
            let tell = &mut |told: &Told| self.tell(told);
            progress =
                self.reach.confirm(self.name, self.target, self.helper, id, token.as_deref(), tell).await;
        }
    }

    fn away(&self, reason: &str, deadline: Instant) {
        let seconds = deadline.saturating_duration_since(Instant::now()).as_secs();
        (self.events)(Event::Away { host: self.name.clone(), reason: reason.to_owned(), seconds });
    }

    fn tell(&self, told: &Told) {
        let host = self.name.clone();
        match told {
            Told::Doing { effect } => (self.events)(Event::Activating { host, effect: *effect }),
            Told::Warning { text } => (self.events)(Event::Warning { host: Some(host), text: text.clone() }),
            _ => {}
        }
    }
}

/// A host that did not come back within the time that its own way back takes.
fn gone(lost: Option<&Error>) -> Outcome {
    let why = lost.map(|error| format!(": {error}")).unwrap_or_default();
    let hint = "it goes back by itself, if it still can; `bosco status` says how the activation ended once it is reached";
    Outcome::failed(Stage::Activate, format!("it could not be reached again{why}"), Some(hint.into()))
}

fn occupied(busy: Option<Busy>) -> Outcome {
    let busy = busy.map(|Busy { by, since, toplevel, doing }| {
        let words = format!("{}, since {}", doing.map_or("at work", |effect| effect.doing()), when(since));
        let (profiles, stage, log) = (Vec::new(), ActivityStage::Open, String::new());
        Box::new(Activity { toplevel, profiles, by, since, stage, words, log })
    });
    refused(&bosco_activation::Refusal::Activating { busy })
}

/// The time of day, in UTC.
fn when(since: u64) -> String {
    let day = since % 86400;
    format!("{:02}:{:02}:{:02} UTC", day / 3600, day / 60 % 60, day % 60)
}

/// Who asks, as others are told.
fn operator() -> String {
    let user =
        std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into());
    let uname = rustix::system::uname();
    let plain = |text: &str| text.chars().filter(|c| !c.is_control()).take(40).collect::<String>();
    format!("{}@{}", plain(&user), plain(&uname.nodename().to_string_lossy()))
}

/// What an attempt is known by: when it was asked for, and a number that no other operator has.
fn new_id() -> String {
    use std::hash::{BuildHasher, Hasher};
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // Its keys are random, for each process and each of its values.
    let random = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{now:x}-{random:016x}")
}
