//! Building on the hub: what was evaluated here goes there as derivations, with all that they are built from, and nothing comes
//! back but the digest of what they make. For who has a slow machine, or a slow line.

use std::collections::BTreeMap;
use std::time::Duration;

use bosco_model::{Declaration, StorePath};
use bosco_nix::contents;
use bosco_release::Digest;
use bosco_wire::api::{Build, Building, Output};
use tokio::sync::{Mutex, Semaphore};

use super::upload;
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Context, failed};
use crate::hub::{Connection, Hub};
use crate::outcome::Outcome;

/// How long the hub is asked to wait for something new.
const WAIT: Duration = Duration::from_secs(60);
/// How many hosts' systems are asked for at once: each has a connection of its own.
const AT_ONCE: usize = 4;

/// A hub that builds.
pub(crate) struct AtHub {
    hub: Hub,
    turns: Semaphore,
    /// Who sends: one after the other, so that what hosts have in common is sent once.
    sending: Mutex<()>,
}

impl AtHub {
    pub(crate) fn new(hub: Hub) -> Self {
        Self { hub, turns: Semaphore::new(AT_ONCE), sending: Mutex::default() }
    }

    /// Has the hub build what a host should have, and gives the digest of what is in the closure of all that there.
    pub(crate) async fn build(&self, context: &Context, declared: &Declaration) -> Result<Digest, Outcome> {
        let _turn = self.turns.acquire().await;
        let nix_says = |error: bosco_nix::Error| failed(Stage::Build, &error);
        let store = context.nix.store_here().map_err(nix_says)?;
        let derivations: Vec<StorePath> =
            declared.derivations().into_iter().map(|one| one.as_ref().clone()).collect();
        let (_, infos) = store.closure(&derivations).await.map_err(nix_says)?;
        let (inputs, infos) = contents(infos).map_err(|why| Outcome::failed(Stage::Build, why, None))?;
        let digest = inputs.digest();
        let built = async {
            let sending = self.sending.lock().await;
            let mut hub = self.hub.open().await?;
            let (closures, paths) = (BTreeMap::from([(digest, inputs)]), infos.into_iter().collect());
            upload(&mut hub, context.nix, &closures, &paths, &context.events).await?;
            drop(sending);
            wait(&mut hub, context, declared, digest).await
        };
        built.await.map_err(|error: Error| match error.exit {
            Exit::Interrupted => Outcome::Interrupted { stage: Stage::Build },
            _ => Outcome::failed(Stage::Build, error.message, error.hint),
        })
    }
}

/// What is to be built of a host, its system first, each once.
fn outputs(declared: &Declaration) -> Vec<Output> {
    let Declaration { derivation, toplevel, profiles, .. } = declared.clone();
    let mut outputs = vec![Output { derivation, path: toplevel }];
    for one in profiles {
        let output = Output { derivation: one.derivation, path: one.at.path };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    outputs
}

/// Waits until the hub has built it.
async fn wait(
    hub: &mut Connection,
    context: &Context,
    declared: &Declaration,
    inputs: Digest,
) -> Result<Digest, Error> {
    let mut build = Build { outputs: outputs(declared), inputs, seen: None, wait: WAIT.as_secs() };
    loop {
        let now: Building = hub.post("/v1/builds", &build, WAIT).await?;
        match &now {
            Building::Waiting => {}
            Building::Building { building, fetching } => {
                (context.events)(Event::At { building: building.clone(), fetching: fetching.clone() });
            }
            Building::Built { closure } => return Ok(*closure),
            Building::Failed { why } => {
                return Err(Error::new(Exit::NotBuilt, format!("the hub could not build it: {why}")));
            }
        }
        build.seen = Some(now);
    }
}
