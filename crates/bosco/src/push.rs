//! The way from source to report, driven by an operator: evaluate, ask, build, deliver, activate.
//!
//! Each host goes its way by itself, over one connection that it keeps from the first question to the last. They meet at
//! two places: what is to be built goes to Nix together (`builds`), and nothing is delivered where one could not be
//! evaluated or built (`gate`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bosco_activation::{Plan, Refusal, plan};
use bosco_model::{Declaration, Goal, HostName, Number, Observed, StorePath, Target, next_number};
use bosco_nix::Root;
use bosco_session::{Session, Wanted};

use crate::activate::{Activation, Ask, Damaged};
use crate::builds::{Builds, builds};
use crate::bundle::{Bundler, Carried, Unmade};
use crate::copy::Copier;
use crate::error::Error;
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each, failed};
use crate::gate::{Gate, Place, Rule};
use crate::helper::Helpers;
use crate::outcome::Outcome;
use crate::reach::{Reach, troubled};

/// How old what a host said of itself may be before it is asked again.
const FRESH: Duration = Duration::from_secs(10);
/// How many damaged paths of a host are mended, at most those that it names at once beyond it: a disk that has more of them
/// is not to be relied on.
const MENDED: usize = 200;

/// What an operator wants done.
pub(crate) struct Wish {
    pub(crate) goal: Goal,
    /// When hosts may be delivered to.
    pub(crate) rule: Rule,
    /// What activations are asked for with.
    pub(crate) ask: Ask,
}

/// Hosts by name or address, port, and options of ssh: the same address can be another machine behind another jump host.
type Targets = HashMap<(String, Option<u16>, Vec<String>), BTreeSet<HostName>>;

/// What all hosts of a push share.
#[derive(Clone)]
struct Push {
    context: Context,
    goal: Goal,
    ask: Ask,
    reach: Reach,
    helpers: Helpers,
    builds: Builds,
    bundler: Bundler,
    gate: Arc<Gate>,
    copier: Copier,
    /// Who is reached where.
    targets: Arc<Mutex<Targets>>,
}

/// Brings the chosen hosts to the goal, and gives what came of each, in the order of their names.
pub(crate) async fn push(
    context: Context,
    wish: &Wish,
    root: Root,
    chosen: Vec<Chosen>,
) -> Result<Vec<(HostName, Outcome)>, Error> {
    let gate = Arc::new(Gate::new(wish.rule, chosen.len()));
    let (builds, builder) = builds(context.clone(), Arc::new(root), Arc::clone(&gate));
    let reach = Reach::find(&context).await?;
    let push = Push {
        helpers: Helpers::new(context.nix),
        copier: Copier::new(context.nix, Arc::clone(&context.events)),
        bundler: Bundler::new(),
        context,
        goal: wish.goal,
        ask: wish.ask,
        reach,
        builds,
        gate,
        targets: Arc::default(),
    };
    let hosts = each(chosen, |chosen| {
        let push = push.clone();
        async move {
            let name = chosen.name.clone();
            let mut host = Host { push, name, place: Place::Evaluating, number: 0, secrets: None };
            let outcome = host.bring(&chosen).await.unwrap_or_else(Some);
            outcome.map(|outcome| host.end(outcome))
        }
    });
    let ended = tokio::select! {
        ended = hosts => ended,
        () = builder.run() => Vec::new(),
    };
    Ok(ended.into_iter().flatten().collect())
}

/// One host on its way.
struct Host {
    push: Push,
    name: HostName,
    place: Place,
    /// The number that it is pushed with: one more than it has come to.
    number: Number,
    /// Its secrets, where it is to have some, or has some that go.
    secrets: Option<Carried>,
}

impl Host {
    /// Source to report. `None` where the host is not selected; `Err` is how it ended before its end, not always badly.
    async fn bring(&mut self, chosen: &Chosen) -> Result<Option<Outcome>, Outcome> {
        let Some(declared) = self.push.context.declaration(chosen).await? else { return Ok(None) };
        if !self.push.goal.delivers() {
            self.build(&declared).await?;
            return Ok(Some(Outcome::Built { toplevel: declared.toplevel }));
        }
        let target = declared.host.target.as_ref().ok_or(Outcome::LocalOnly)?;
        self.alone_at(target)?;
        let helper = match self.push.goal {
            Goal::Keys | Goal::Test | Goal::Boot | Goal::Switch => {
                self.push.helpers.of(&declared.host.system).await.map(Some)
            }
            Goal::Build | Goal::Push | Goal::DryActivate => Ok(None),
        };
        let reach = self.push.reach.clone();
        let asked = || {
            self.go(Place::Asked);
            self.enter(Stage::Connect);
        };
        let wanted = Wanted {
            toplevel: Some(&declared.toplevel),
            helper: helper.as_ref().ok().and_then(Option::as_ref),
        };
        let (mut session, observed) = reach.open(&chosen.name, target, wanted, asked).await?;
        let declared = match self.with_secrets(declared.clone(), &observed).await {
            Ok(declared) => declared,
            Err(outcome) => {
                session.close().await;
                return Err(outcome);
            }
        };
        match self.deliver(&declared, helper, &observed, &mut session).await {
            Ok(helper) => Ok(Some(self.activate(&declared, target, helper.as_ref(), session).await)),
            Err(outcome) => {
                session.close().await;
                Err(outcome)
            }
        }
    }

    /// Makes the host's secrets, and gives what is to be activated: where only they are wanted, the system that runs.
    async fn with_secrets(
        &mut self,
        declared: Declaration,
        observed: &Observed,
    ) -> Result<Declaration, Outcome> {
        let goal = self.push.goal;
        if matches!(goal, Goal::Build | Goal::Push | Goal::DryActivate) {
            return Ok(declared);
        }
        if !declared.secrets.is_empty() || observed.secrets.is_some() {
            let own = observed.host_key.as_deref();
            let made = self.push.bundler.make(&declared.host, &declared.secrets, own).await;
            self.secrets = Some(made.map_err(Unmade::outcome)?);
        }
        if goal != Goal::Keys {
            return Ok(declared);
        }
        match &observed.current {
            // Another one than its default may not be meant to stay.
            Some(current) if observed.profile.as_ref() == Some(current) => {
                Ok(Declaration { toplevel: current.clone(), ..declared })
            }
            _ => Err(Outcome::Refused {
                reason: "what it runs is not what it boots, so it is not clear which of the two gets them"
                    .into(),
                hint: "`bosco apply` brings both".into(),
            }),
        }
    }

    /// Hands over its secrets, where it does not have them.
    async fn carry(
        &self,
        declared: &Declaration,
        observed: &Observed,
        session: &mut Session,
    ) -> Result<(), Outcome> {
        let Some(Carried { digest, bytes }) = &self.secrets else { return Ok(()) };
        if !declared.secrets.keys.is_empty() && !declared.secrets.at_boot {
            let text = "its `deployment.keys` last until it reboots, as nothing of bosco is in its configuration; with \
                        `services.bosco.enable` they stay";
            let host = Some(self.name.clone());
            (self.push.context.events)(Event::Warning { host, text: text.into() });
        }
        if observed.secrets.as_ref() == Some(digest) {
            return Ok(());
        }
        session.secrets(*digest, bytes).await.map_err(|error| troubled(Stage::Copy, &error))
    }

    /// Asked to delivered, with the helper that goes with it. That there is none for such a machine is told once it is
    /// known that the host wants one.
    async fn deliver(
        &mut self,
        declared: &Declaration,
        helper: Result<Option<StorePath>, Outcome>,
        observed: &Observed,
        session: &mut Session,
    ) -> Result<Option<StorePath>, Outcome> {
        let asked = Instant::now();
        self.plan(declared, observed)?;
        self.number = next_number(observed.number);
        let helper = helper?;
        if !observed.has_toplevel && self.push.goal != Goal::Keys {
            self.build(declared).await?;
        }
        self.go(Place::Through);
        self.enter(Stage::Wait);
        if !self.push.gate.pass(&self.push.context.events).await {
            declared.host.target.as_ref().map_or(Ok(()), |target| self.alone_at(target))?;
            return Err(Outcome::HeldBack);
        }
        self.enter(Stage::Copy);
        // It may have waited long for the others.
        if asked.elapsed() > FRESH {
            let now = session.observe().await.map_err(|error| troubled(Stage::Copy, &error))?;
            self.plan(declared, &now)?;
            if (&now.current, &now.profile) != (&observed.current, &observed.profile) {
                return Err(refused(&Refusal::Changed));
            }
            self.number = next_number(now.number);
        }
        self.copy(declared, helper.as_ref(), observed, session).await?;
        if helper.is_some() {
            self.carry(declared, observed, session).await?;
        }
        Ok(helper)
    }

    /// Delivered to the end.
    async fn activate(
        &self,
        declared: &Declaration,
        target: &Target,
        helper: Option<&StorePath>,
        mut session: Session,
    ) -> Outcome {
        let goal = self.push.goal;
        let Some(helper) = helper else {
            if goal == Goal::Push {
                session.close().await;
                return Outcome::Pushed;
            }
            self.enter(Stage::Activate);
            let said = session.dry_activate().await;
            session.close().await;
            return match said {
                Ok(log) => Outcome::Activated { goal, reboot: false, proven: false, log },
                Err(error) => troubled(Stage::Activate, &error),
            };
        };
        let (reach, events) = (&self.push.reach, &self.push.context.events);
        let activation = Activation { name: &self.name, target, helper, reach, events };
        let secrets = self.secrets.as_ref().map(|secrets| secrets.digest);
        let ask = Ask { number: self.number, secrets, ..self.push.ask };
        let mut mended = HashSet::new();
        loop {
            self.enter(Stage::Activate);
            let came = activation.run(session, goal, &declared.toplevel, ask).await;
            let Damaged { paths, outcome } = match came {
                Ok(outcome) => return outcome,
                Err(damaged) => damaged,
            };
            // It names a few at a time. What does not stay as it was mended, nobody mends from here.
            if mended.len() >= MENDED || !paths.iter().all(|path| mended.insert(path.clone())) {
                return outcome;
            }
            session = match self.mend(declared, target, helper, &paths).await {
                Ok(session) => session,
                Err(why) => return outcome.unmended(why),
            };
        }
    }

    /// Brings paths anew that the host has damaged, over a connection that can be gone on with.
    async fn mend(
        &self,
        declared: &Declaration,
        target: &Target,
        helper: &StorePath,
        paths: &[StorePath],
    ) -> Result<Session, Outcome> {
        self.enter(Stage::Copy);
        // It is not here where the host has had it.
        self.push.builds.build(declared).await.map_err(|error| failed(Stage::Build, &error))?;
        let wanted = Wanted { toplevel: Some(&declared.toplevel), helper: Some(helper) };
        let (mut session, observed) = self.push.reach.open(&self.name, target, wanted, || ()).await?;
        let copier = &self.push.copier;
        let mended = copier.mend(&self.name, &declared.toplevel, paths, observed.free, &mut session).await;
        match mended {
            Ok(()) => Ok(session),
            Err(why) => {
                session.close().await;
                Err(why)
            }
        }
    }

    /// Whether anything is to be done for it.
    fn plan(&self, declared: &Declaration, observed: &Observed) -> Result<(), Outcome> {
        let secrets = self.secrets.as_ref().map(|secrets| secrets.digest);
        match plan(self.push.goal, declared, secrets, observed) {
            Plan::Deliver => Ok(()),
            Plan::Nothing => Err(Outcome::UpToDate { goal: self.push.goal }),
            Plan::Refuse(refusal) => Err(refused(&refusal)),
        }
    }

    /// That no other host is reached the same way: one machine can't be two hosts.
    fn alone_at(&self, target: &Target) -> Result<(), Outcome> {
        let place = (target.host.to_lowercase(), target.port, target.ssh_options.clone());
        let mut targets = self.push.targets.lock().unwrap_or_else(PoisonError::into_inner);
        let here = targets.entry(place).or_default();
        here.insert(self.name.clone());
        let others: Vec<&str> =
            here.iter().filter(|name| **name != self.name).map(HostName::as_str).collect();
        if others.is_empty() {
            return Ok(());
        }
        let reason = format!("it is reached at {}, the same as {}", target.display(), others.join(", "));
        let hint = "two hosts can't be one machine: set `deployment.targetHost` of one of them";
        Err(Outcome::failed(Stage::Evaluate, reason, Some(hint.into())))
    }

    async fn build(&mut self, declared: &Declaration) -> Result<(), Outcome> {
        self.go(Place::Building);
        self.enter(Stage::Build);
        self.push.builds.build(declared).await.map_err(|error| failed(Stage::Build, &error))
    }

    /// Hands over the paths that the host lacks.
    async fn copy(
        &self,
        declared: &Declaration,
        helper: Option<&StorePath>,
        observed: &Observed,
        session: &mut Session,
    ) -> Result<(), Outcome> {
        let mut wanted: Vec<StorePath> = [&declared.toplevel].into_iter().chain(helper).cloned().collect();
        if self.push.goal == Goal::Keys {
            wanted.retain(|path| *path != declared.toplevel);
        } else if observed.has_toplevel {
            // They are rooted by the question.
            wanted = self.push.copier.lacking(&wanted, session).await?;
            if wanted.contains(&declared.toplevel) {
                // It was collected meanwhile, and so was not built here.
                self.push.builds.build(declared).await.map_err(|error| failed(Stage::Build, &error))?;
            }
        }
        self.push.copier.copy(&self.name, &wanted, observed.free, session).await
    }

    fn enter(&self, stage: Stage) {
        (self.push.context.events)(Event::Stage { host: self.name.clone(), stage });
    }

    /// Tells the others where it is now.
    fn go(&mut self, to: Place) {
        self.push.gate.go(self.place, to);
        self.place = to;
    }

    fn end(&mut self, outcome: Outcome) -> (HostName, Outcome) {
        self.push.gate.ended(&self.name, &outcome);
        self.push.context.end(&self.name, outcome)
    }
}

impl Drop for Host {
    /// Nobody waits for a host that is through, however it ended.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.push.gate.miss(&self.name);
        }
        self.go(Place::Through);
    }
}

pub(crate) fn refused(refusal: &Refusal) -> Outcome {
    Outcome::Refused { reason: refusal.to_string(), hint: refusal.hint().to_owned() }
}
