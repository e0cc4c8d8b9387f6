//! The way from source to report, driven by an operator: evaluate, ask, build, deliver, activate.
//!
//! Each host goes its way by itself, over one connection that it keeps from the first question to the last. They meet at
//! two places: what is to be built goes to Nix together (`builds`), and nothing is delivered where one could not be
//! evaluated or built (`gate`).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bosco_activation::{Plan, Refusal, foreign, plan};
use bosco_model::{Declaration, Goal, HostName, Number, Observed, Selector, StorePath, Target, next_number};
use bosco_nix::Root;
use bosco_session::{Others, Session, Wanted};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::activate::{Activation, Ask, Damaged};
use crate::builds::{Builds, builds};
use crate::bundle::{Bundler, Carried, Own, Unmade};
use crate::consent::Consent;
use crate::copy::Copier;
use crate::differences::{Pair, Side, running};
use crate::error::Error;
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each, failed};
use crate::gate::{Gate, Place, Rule};
use crate::helper::Helpers;
use crate::outcome::Outcome;
use crate::reach::{Reach, troubled};
use crate::sequence::Sequence;

/// How old what a host said of itself may be before it is asked again.
const FRESH: Duration = Duration::from_secs(10);
/// How many damaged paths of a host are mended, at most those that it names at once beyond it: a disk that has more of them
/// is not to be relied on.
const MENDED: usize = 200;

/// Where links to what was built stay, beside the fleet, as Colmena has it.
const KEPT: &str = ".gcroots";

/// What an operator wants done.
pub(crate) struct Wish {
    pub(crate) goal: Goal,
    /// When hosts may be delivered to.
    pub(crate) rule: Rule,
    /// What activations are asked for with.
    pub(crate) ask: Ask,
    /// Whether each host builds what it is to run, whatever the fleet says.
    pub(crate) build_on_target: bool,
    /// The host that builds, instead of this machine.
    pub(crate) build_on: Option<HostName>,
    /// Nobody is asked before a whole fleet is changed.
    pub(crate) yes: bool,
    /// Whether what a host boots is replaced, whoever has made that and whatever the fleet says.
    pub(crate) replace_unknown: bool,
    /// Whether hosts look in their own caches.
    pub(crate) substitute: bool,
    /// How many hosts are delivered to and activated at once, where somebody wants fewer than all.
    pub(crate) parallel: Option<usize>,
    /// Whether links to what was built stay beside the fleet.
    pub(crate) keep_result: bool,
}

impl Wish {
    /// To come to a goal, with nothing said besides.
    pub(crate) fn new(goal: Goal, rule: Rule) -> Self {
        Self {
            goal,
            rule,
            ask: Ask::default(),
            build_on_target: false,
            build_on: None,
            yes: false,
            replace_unknown: false,
            substitute: true,
            parallel: None,
            keep_result: false,
        }
    }
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
    sequence: Arc<Sequence>,
    /// Whether each host builds what it is to run.
    build_on_target: bool,
    replace_unknown: bool,
    /// The places of those that are delivered to.
    turns: Arc<Semaphore>,
    /// Where links to what was built stay.
    kept: Option<PathBuf>,
    /// Where somebody is to be asked.
    consent: Option<Arc<Consent>>,
    copier: Copier,
    /// Who is reached where.
    targets: Arc<Mutex<Targets>>,
}

/// Brings the chosen hosts to the goal, and gives what came of each, in the order of their names.
pub(crate) async fn push(
    context: Context,
    wish: &Wish,
    root: Root,
    consent: Option<Consent>,
    reach: Reach,
    chosen: Vec<Chosen>,
) -> Result<Vec<(HostName, Outcome)>, Error> {
    let gate = Arc::new(Gate::new(wish.rule, chosen.len()));
    let (builds, builder) = builds(context.clone(), Arc::new(root), Arc::clone(&gate));
    let kept = wish.keep_result.then(|| context.fleet.source.dir.join(KEPT));
    let push = Push {
        helpers: Helpers::new(context.nix),
        copier: Copier::new(context.nix, Arc::clone(&context.events), wish.substitute),
        bundler: Bundler::new(),
        context,
        goal: wish.goal,
        ask: wish.ask,
        reach,
        builds,
        gate,
        build_on_target: wish.build_on_target,
        replace_unknown: wish.replace_unknown,
        turns: Arc::new(Semaphore::new(wish.parallel.unwrap_or(Semaphore::MAX_PERMITS))),
        kept,
        sequence: Arc::new(Sequence::new(chosen.len())),
        consent: consent.map(Arc::new),
        targets: Arc::default(),
    };
    let hosts = each(chosen, |chosen| {
        let push = push.clone();
        async move {
            let name = chosen.name.clone();
            let mut host =
                Host { push, name, place: Place::Evaluating, turn: None, number: 0, secrets: None };
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
    /// Its place among those that are delivered to.
    turn: Option<OwnedSemaphorePermit>,
    /// The number that it is pushed with: one more than it has come to.
    number: Number,
    /// Its secrets, where it is to have some, or has some that go.
    secrets: Option<Carried>,
}

impl Host {
    /// Source to report. `None` where the host is not selected; `Err` is how it ended before its end, not always badly.
    async fn bring(&mut self, chosen: &Chosen) -> Result<Option<Outcome>, Outcome> {
        let declared = self.declaration(chosen).await;
        match &declared {
            Ok(declared) => self.push.sequence.known(declared.as_ref().map(|declared| &declared.host)),
            Err(outcome) => self.push.sequence.lost(&self.name, outcome),
        }
        let Some(declared) = declared? else { return Ok(None) };
        if !self.push.goal.delivers() {
            self.build(&declared).await?;
            return Ok(Some(Outcome::Built { toplevel: declared.toplevel }));
        }
        let target = match &declared.host.target {
            _ if self.push.reach.is_here() => &itself(&declared)?,
            Some(target) => target,
            None => return Err(Outcome::LocalOnly),
        };
        self.alone_at(target)?;
        self.push.sequence.settle(&declared.host).await?;
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
        let others = declared.others();
        let wanted = Wanted {
            toplevel: Some(&declared.toplevel),
            others: Others::Wanted(&others),
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
        let delivered = self.deliver(&declared, helper, &observed, &mut session).await;
        match delivered {
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
            let own = Own::Said(observed.host_key.as_deref());
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

    /// What it should run, where all that it goes after are hosts of the fleet.
    async fn declaration(&self, chosen: &Chosen) -> Result<Option<Declaration>, Outcome> {
        let declared = self.push.context.declaration(chosen).await?;
        let named = declared.iter().flat_map(|declared| &declared.host.after).flat_map(Selector::names);
        for name in named {
            if let Err(error) = self.push.context.knows(&name) {
                let reason = format!("its `deployment.after`: {}", error.message);
                return Err(Outcome::failed(Stage::Evaluate, reason, error.hint));
            }
        }
        Ok(declared)
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
        self.known(declared, observed).await?;
        let helper = helper?;
        let there = self.push.goal == Goal::Keys
            || observed.has_toplevel
            || self.make(declared, observed, session).await?;
        self.tell(declared, observed, session).await;
        self.go(Place::Through);
        self.enter(Stage::Wait);
        if !self.push.gate.pass(&self.push.context.events).await {
            declared.host.target.as_ref().map_or(Ok(()), |target| self.alone_at(target))?;
            return Err(Outcome::HeldBack);
        }
        if let Some(consent) = &self.push.consent
            && !consent.is_given(&self.push.context.nix, &self.push.context.events).await
        {
            return Err(Outcome::Declined);
        }
        // Others it waits for only where what they run is to change.
        if helper.is_some() {
            self.push.sequence.pass(&declared.host).await?;
        }
        self.turn = Arc::clone(&self.push.turns).acquire_owned().await.ok();
        self.enter(Stage::Copy);
        // It may have waited long for the others.
        if asked.elapsed() > FRESH {
            let now = session.observe().await.map_err(|error| troubled(Stage::Copy, &error))?;
            self.plan(declared, &now)?;
            if (&now.current, &now.profile, &now.profiles)
                != (&observed.current, &observed.profile, &observed.profiles)
            {
                return Err(refused(&Refusal::Changed));
            }
            self.number = next_number(now.number);
        }
        self.copy(declared, helper.as_ref(), there, observed, session).await?;
        if helper.is_some() {
            self.carry(declared, observed, session).await?;
        }
        Ok(helper)
    }

    /// Tells what is to become of it, where somebody is asked about that.
    async fn tell(&self, declared: &Declaration, observed: &Observed, session: &mut Session) {
        // Without a system, the first profile is what is to be something else.
        let of_profile = observed.profiles.first().map(|one| &one.path);
        let is = if declared.host.profiles_only { of_profile } else { observed.current.as_ref() };
        let (Some(consent), Some(is)) = (&self.push.consent, is) else { return };
        let nix = &self.push.context.nix;
        let after = declared.toplevel.clone();
        let here = nix.is_there(&[is.clone(), after.clone()]).await;
        let side =
            |path: StorePath| if here.contains(&path) { Side::Here(path) } else { Side::Unknown(path) };
        let (before, active) = if declared.host.profiles_only {
            (side(is.clone()), None)
        } else {
            // It is to be read; a host that does not say it has not failed yet.
            let Ok(running) = running(nix, session, is).await else { return };
            running
        };
        consent.tell(Pair { host: self.name.clone(), before, after: side(after), active });
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
        let (profiles, limits) = (declared.others(), declared.host.limits);
        let activation = Activation { name: &self.name, target, helper, reach, events, profiles, limits };
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
        let others = declared.others();
        let others = Others::Wanted(&others);
        let wanted = Wanted { toplevel: Some(&declared.toplevel), others, helper: Some(helper) };
        let (mut session, observed) = self.push.reach.open(&self.name, target, wanted, || ()).await?;
        let copier = &self.push.copier;
        let mended = copier.mend(&self.name, &declared.paths(), paths, observed.free, &mut session).await;
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

    /// That what it boots may be replaced.
    async fn known(&self, declared: &Declaration, observed: &Observed) -> Result<(), Outcome> {
        if declared.host.replace_unknown_profiles || self.push.replace_unknown || !self.push.goal.delivers() {
            return Ok(());
        }
        match foreign(observed) {
            Some(profile)
                if self.push.context.nix.is_there(std::slice::from_ref(profile)).await.is_empty() =>
            {
                Err(refused(&Refusal::Unknown { profile: profile.clone() }))
            }
            _ => Ok(()),
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
        self.push.builds.build(declared).await.map_err(|error| failed(Stage::Build, &error))?;
        match &self.push.kept {
            Some(folder) => self.keep(folder, declared).await,
            None => Ok(()),
        }
    }

    /// Lets a link to its toplevel stay, which keeps it from being collected.
    async fn keep(&self, folder: &Path, declared: &Declaration) -> Result<(), Outcome> {
        let link = folder.join(format!("node-{}", self.name));
        let made = std::fs::create_dir_all(folder).is_ok();
        if made && self.push.context.nix.keep(&declared.toplevel, &link).await {
            return Ok(());
        }
        let reason = format!("{} can't be made", link.display());
        Err(Outcome::failed(Stage::Build, reason, Some("may you write there?".into())))
    }

    /// Builds its toplevel, here or there; gives whether it is there now.
    async fn make(
        &mut self,
        declared: &Declaration,
        observed: &Observed,
        session: &mut Session,
    ) -> Result<bool, Outcome> {
        if !declared.host.build_on_target && !self.push.build_on_target {
            return self.build(declared).await.map(|()| false);
        }
        self.go(Place::Building);
        self.enter(Stage::Build);
        let derivations: Vec<StorePath> =
            declared.derivations().into_iter().map(|derivation| derivation.path().clone()).collect();
        self.push.copier.copy(&self.name, &derivations, observed.free, session).await?;
        self.enter(Stage::Build);
        for derivation in &derivations {
            session.build(derivation).await.map_err(|error| troubled(Stage::Build, &error))?;
        }
        Ok(true)
    }

    /// Hands over the paths that the host lacks.
    async fn copy(
        &self,
        declared: &Declaration,
        helper: Option<&StorePath>,
        there: bool,
        observed: &Observed,
        session: &mut Session,
    ) -> Result<(), Outcome> {
        let own = declared.paths();
        let mut wanted: Vec<StorePath> = own.iter().chain(helper).cloned().collect();
        // What runs is kept, and the helper that it was activated by.
        let runs = declared.profiles.is_empty() && observed.current.as_ref() == Some(&declared.toplevel);
        if self.push.goal == Goal::Keys || there && runs {
            wanted.retain(|path| !own.contains(path) && !observed.keeps_helper);
        } else if there {
            // They are rooted by the question.
            wanted = self.push.copier.lacking(&wanted, session).await?;
            if own.iter().any(|path| wanted.contains(path)) {
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
        self.push.sequence.ended(&self.name, &outcome);
        self.push.context.end(&self.name, outcome)
    }
}

impl Drop for Host {
    /// Nobody waits for a host that is through, however it ended.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.push.gate.miss(&self.name);
            self.push.sequence.ended(&self.name, &Outcome::Interrupted { stage: Stage::Activate });
        }
        self.go(Place::Through);
    }
}

/// How a host that deploys itself is reached: as it is.
fn itself(declared: &Declaration) -> Result<Target, Outcome> {
    if !declared.host.allow_local_deployment {
        return Err(Outcome::Refused {
            reason: "it is not to be deployed by a command that runs on itself".into(),
            hint: "set `deployment.allowLocalDeployment` of this host".into(),
        });
    }
    let (host, privilege) = ("localhost".into(), declared.host.privilege.clone());
    Ok(Target { host, user: None, port: None, ssh_options: Vec::new(), privilege })
}

pub(crate) fn refused(refusal: &Refusal) -> Outcome {
    Outcome::Refused { reason: refusal.to_string(), hint: refusal.hint().to_owned() }
}
