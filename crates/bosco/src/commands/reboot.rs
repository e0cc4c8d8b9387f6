//! `bosco reboot`: hosts go down, and have to come up with what they boot by default.

use std::time::Duration;

use bosco_model::{HostName, Observed, Selector, Target};
use bosco_session::Wanted;
use tokio::time::{Instant, sleep};

use crate::cli::Cli;
use crate::commands::work;
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each};
use crate::outcome::Outcome;
use crate::push::refused;
use crate::reach::{Reach, troubled};

/// How long a host may take to come back.
const COMES_BACK: Duration = Duration::from_secs(600);
/// Between two tries to reach it.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>, if_needed: bool) -> Result<Exit, Error> {
    work(cli, selector.as_ref(), async |context, chosen| {
        let reach = Reach::find(&context).await?;
        let ended = each(chosen, |chosen| {
            let (context, reach) = (context.clone(), reach.clone());
            async move {
                let outcome = host(&context, &reach, &chosen, if_needed).await.unwrap_or_else(Some)?;
                Some(context.end(&chosen.name, outcome))
            }
        });
        Ok(ended.await.into_iter().flatten().collect())
    })
    .await
}

/// Reboots one host. `None` where it is not selected.
async fn host(
    context: &Context,
    reach: &Reach,
    chosen: &Chosen,
    if_needed: bool,
) -> Result<Option<Outcome>, Outcome> {
    let Some(host) = context.host(chosen).await? else { return Ok(None) };
    let target = host.target.as_ref().ok_or(Outcome::LocalOnly)?;
    let enter = |stage| (context.events)(Event::Stage { host: chosen.name.clone(), stage });
    let (mut session, before) =
        reach.open(&chosen.name, target, Wanted::default(), || enter(Stage::Connect)).await?;
    if let Some(unfit) = before.unfit() {
        return Err(refused(&unfit.into()));
    }
    if before.activating {
        let busy = before.activity.clone().map(Box::new);
        return Err(refused(&bosco_activation::Refusal::Activating { busy }));
    }
    if if_needed && !needs_reboot(&before) {
        return Ok(Some(Outcome::NoRebootNeeded));
    }
    enter(Stage::Reboot);
    session.reboot().await.map_err(|error| troubled(Stage::Reboot, &error))?;
    session.close().await;
    let after = comes_back(reach, &chosen.name, target, &before).await?;
    let boots = before.boots.as_ref().or(before.profile.as_ref());
    match (boots, &after.booted) {
        (Some(boots), Some(booted)) if boots != booted => {
            let reason =
                format!("it came up with {}, not with its default {}", booted.short(), boots.short());
            Err(Outcome::failed(Stage::Reboot, reason, Some("its console says why".into())))
        }
        _ => Ok(Some(Outcome::Rebooted)),
    }
}

/// Whether something of what it boots by default does not run yet.
fn needs_reboot(observed: &Observed) -> bool {
    observed.booted_kernel != observed.current_kernel
        || observed.boots.as_ref().or(observed.profile.as_ref()) != observed.current.as_ref()
}

/// Waits until a host has booted anew.
async fn comes_back(
    reach: &Reach,
    host: &HostName,
    target: &Target,
    before: &Observed,
) -> Result<Observed, Outcome> {
    let deadline = Instant::now() + COMES_BACK;
    loop {
        let answer = reach.open(host, target, Wanted::default(), || ()).await;
        let why = match answer {
            Ok((session, after)) => {
                session.close().await;
                if after.boot != before.boot {
                    return Ok(after);
                }
                "it does not go down".into()
            }
            Err(outcome @ Outcome::Interrupted { .. }) => return Err(outcome),
            Err(outcome) => outcome.reason(),
        };
        if Instant::now() >= deadline {
            let reason = format!("it has not come back within {} min: {why}", COMES_BACK.as_secs() / 60);
            return Err(Outcome::failed(Stage::Reboot, reason, Some("its console says why".into())));
        }
        sleep(AGAIN).await;
    }
}
