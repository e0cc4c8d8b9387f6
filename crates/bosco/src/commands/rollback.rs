//! `bosco rollback`: an activation like any other, of a system that the host has already.

use bosco_model::{Generations, Goal, Host, Profile, ProfileAt, Profiles, Selector, next_number};
use bosco_session::{Others, Wanted};

use crate::activate::{Activation, Ask};
use crate::cli::Cli;
use crate::commands::work;
use crate::copy::Copier;
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each};
use crate::helper::Helpers;
use crate::outcome::Outcome;
use crate::push::refused;
use crate::reach::{Reach, troubled};

/// What the hosts of a rollback share.
#[derive(Clone)]
struct Rollback {
    context: Context,
    reach: Reach,
    helpers: Helpers,
    copier: Copier,
    /// The generation that is asked for.
    to: Option<u32>,
    /// The profile, where it is not the system's: `NAME`, or `USER/NAME`.
    profile: Option<String>,
}

pub(crate) async fn run(
    cli: &Cli,
    selector: Option<Selector>,
    to: Option<u32>,
    profile: Option<String>,
) -> Result<Exit, Error> {
    work(cli, selector.as_ref(), async |context, chosen| {
        let rollback = Rollback {
            reach: Reach::find(&context).await?,
            helpers: Helpers::new(context.nix),
            copier: Copier::new(context.nix, context.events.clone(), true),
            context,
            to,
            profile,
        };
        let ended = each(chosen, |chosen| {
            let rollback = rollback.clone();
            async move {
                let outcome = rollback.host(&chosen).await.unwrap_or_else(Some)?;
                Some(rollback.context.end(&chosen.name, outcome))
            }
        });
        Ok(ended.await.into_iter().flatten().collect())
    })
    .await
}

impl Rollback {
    /// Brings one host back. `None` where it is not selected.
    async fn host(&self, chosen: &Chosen) -> Result<Option<Outcome>, Outcome> {
        let Some(host) = self.context.host(chosen).await? else { return Ok(None) };
        let target = host.target.as_ref().ok_or(Outcome::LocalOnly)?;
        let profile = self.which(&host)?;
        let named: Vec<Profile> = profile.into_iter().cloned().collect();
        let helper = self.helpers.of(&host.system).await?;
        let enter = |stage| (self.context.events)(Event::Stage { host: chosen.name.clone(), stage });
        let wanted = Wanted { toplevel: None, others: Others::Named(&named), helper: Some(&helper) };
        let (mut session, observed) =
            self.reach.open(&chosen.name, target, wanted, || enter(Stage::Connect)).await?;
        if let Some(unfit) = observed.unfit() {
            return Err(refused(&unfit.into()));
        }
        let (system, others) =
            session.generations().await.map_err(|error| troubled(Stage::Connect, &error))?;
        let is_its = |of: &Profile| profile.is_some_and(|profile| profile.is(of));
        let (generations, running) = match others.into_iter().find(|(of, _)| is_its(of)) {
            Some((_, of)) => (of, None),
            // It was never there, and so has none.
            None if profile.is_some() => (Generations::default(), None),
            None => (system, observed.current.as_ref()),
        };
        let back = generations.back(self.to, running).map_err(|none| Outcome::Refused {
            reason: none.to_string(),
            hint: "`bosco generations` lists what there is".into(),
        })?;
        let is_default = generations.is_present(back);
        if is_default && (profile.is_some() || running == Some(&back.toplevel)) {
            return Ok(Some(Outcome::UpToDate { goal: Goal::Switch }));
        }
        enter(Stage::Copy);
        let lacking = if observed.has_helper { Vec::new() } else { vec![helper.clone()] };
        self.copier.copy(&chosen.name, &lacking, observed.free, &mut session).await?;
        enter(Stage::Activate);
        let (name, reach, events) = (&chosen.name, &self.reach, &self.context.events);
        let all = profile.map(|profile| ProfileAt { profile: profile.clone(), path: back.toplevel.clone() });
        let profiles = Profiles { only: all.is_some(), all: all.into_iter().collect() };
        let limits = host.limits;
        let activation = Activation { name, target, helper: &helper, reach, events, profiles, limits };
        // Who names it wants it, whatever became of it before.
        let number = next_number(observed.number);
        // A profile beside the system gets a new generation of what the old one was.
        let generation = profile.is_none().then_some(back.number);
        let ask = Ask { generation, reboot: false, again: true, number, secrets: None };
        // What is damaged can't be had here: a generation is the host's own.
        let outcome = activation.run(session, Goal::Switch, &back.toplevel, ask).await;
        Ok(Some(match outcome.unwrap_or_else(|damaged| damaged.outcome) {
            Outcome::Activated { reboot, .. } => Outcome::WentBack { generation: back.number, reboot },
            other => other,
        }))
    }

    /// Which profile of a host is meant; `None` is its system.
    fn which<'a>(&self, host: &'a Host) -> Result<Option<&'a Profile>, Outcome> {
        let refused = |reason: String, hint: String| Outcome::Refused { reason, hint };
        let named = |profile: &Profile| format!("{}/{}", profile.user, profile.name);
        let known: Vec<String> = host.profiles.iter().map(named).collect();
        let Some(asked) = &self.profile else {
            if host.profiles_only {
                let hint = format!("say which: `--profile {}`", known.join("` or `--profile "));
                return Err(refused("it gets profiles only, and no system".into(), hint));
            }
            return Ok(None);
        };
        let is = |profile: &&Profile| profile.name.as_str() == asked || named(profile) == *asked;
        let mut meant = host.profiles.iter().filter(is);
        match (meant.next(), meant.next()) {
            (Some(profile), None) => Ok(Some(profile)),
            (Some(_), Some(_)) => {
                let hint = format!("say whose, as USER/NAME; it has {}", known.join(", "));
                Err(refused(format!("several of its profiles are called `{asked}`"), hint))
            }
            (None, _) if known.is_empty() => {
                Err(refused("it has no profiles beside its system".into(), "leave out `--profile`".into()))
            }
            (None, _) => {
                Err(refused(format!("it has no profile `{asked}`"), format!("it has {}", known.join(", "))))
            }
        }
    }
}
