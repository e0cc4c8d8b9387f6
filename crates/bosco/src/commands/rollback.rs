//! `bosco rollback`: an activation like any other, of a system that the host has already.

use bosco_model::{Goal, Selector, next_number};
use bosco_session::Wanted;

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
}

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>, to: Option<u32>) -> Result<Exit, Error> {
    work(cli, selector.as_ref(), async |context, chosen| {
        let rollback = Rollback {
            reach: Reach::find(&context).await?,
            helpers: Helpers::new(context.nix),
            copier: Copier::new(context.nix, context.events.clone(), true),
            context,
            to,
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
        let helper = self.helpers.of(&host.system).await?;
        let enter = |stage| (self.context.events)(Event::Stage { host: chosen.name.clone(), stage });
        let wanted = Wanted { toplevel: None, helper: Some(&helper) };
        let (mut session, observed) =
            self.reach.open(&chosen.name, target, wanted, || enter(Stage::Connect)).await?;
        if let Some(unfit) = observed.unfit() {
            return Err(refused(&unfit.into()));
        }
        let generations = session.generations().await.map_err(|error| troubled(Stage::Connect, &error))?;
        let back = generations.back(self.to, observed.current.as_ref()).map_err(|none| Outcome::Refused {
            reason: none.to_string(),
            hint: "`bosco generations` lists what there is".into(),
        })?;
        let is_default = generations.is_present(back);
        if is_default && observed.current.as_ref() == Some(&back.toplevel) {
            return Ok(Some(Outcome::UpToDate { goal: Goal::Switch }));
        }
        enter(Stage::Copy);
        let lacking = if observed.has_helper { Vec::new() } else { vec![helper.clone()] };
        self.copier.copy(&chosen.name, &lacking, observed.free, &mut session).await?;
        enter(Stage::Activate);
        let (name, reach, events) = (&chosen.name, &self.reach, &self.context.events);
        let activation = Activation { name, target, helper: &helper, reach, events };
        // Who names it wants it, whatever became of it before.
        let number = next_number(observed.number);
        let ask = Ask { generation: Some(back.number), reboot: false, again: true, number, secrets: None };
        // What is damaged can't be had here: a generation is the host's own.
        let outcome = activation.run(session, Goal::Switch, &back.toplevel, ask).await;
        Ok(Some(match outcome.unwrap_or_else(|damaged| damaged.outcome) {
            Outcome::Activated { reboot, .. } => Outcome::WentBack { generation: back.number, reboot },
            other => other,
        }))
    }
}
