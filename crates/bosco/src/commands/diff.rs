//! `bosco diff`.

use std::collections::BTreeMap;

use bosco_model::{HostName, StorePath};
use bosco_nix::Nix;
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::event::Event;
use crate::hub::Hub;
use crate::release::compare::{Change, compare, packages};
use crate::release::{newest, published};
use crate::show;

/// What two releases differ in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Difference {
    from: u64,
    to: u64,
    hosts: Vec<OfHost>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OfHost {
    #[serde(flatten)]
    change: Change,
    /// Of which packages; not known where one of the two systems is not in the store here.
    packages: Option<Vec<String>>,
}

pub(crate) async fn run(cli: &Cli, from: u64, to: Option<u64>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let events = watch(&show);
    let warn = |text: String| events(Event::Warning { host: None, text });
    let difference = stoppable(&show, async {
        let hub = Hub::of(&cli.place).await?;
        let signers = hub.rules().all_signers();
        let mut connection = hub.open().await?;
        let before = published(&mut connection, from, &signers).await?;
        let after = match to {
            Some(to) => published(&mut connection, to, &signers).await?,
            None => newest(&mut connection, &signers)
                .await?
                .ok_or_else(|| Error::new(Exit::Usage, "there is no release yet"))?,
        };
        for release in [&before, &after] {
            if let Some(doubt) = &release.doubt {
                warn(format!("release {} would not be believed now: {doubt}", release.statement.number));
            }
        }
        let changes = compare(&before.manifests, &after.manifests);
        let packages = of_packages(cli, &changes).await;
        let hosts = changes.into_iter().map(|change| {
            let packages = packages.get(&change.host).cloned();
            OfHost { change, packages }
        });
        Ok(Difference { from, to: after.statement.number, hosts: hosts.collect() })
    })
    .await?;
    if cli.json {
        show::json(&difference);
    } else {
        print(&difference);
    }
    Ok(Exit::Done)
}

fn print(difference: &Difference) {
    if difference.hosts.is_empty() {
        show::text(&format!("releases {} and {} differ in nothing", difference.from, difference.to));
    }
    for OfHost { change, packages } in &difference.hosts {
        show::text(&format!("{}: {}", change.host, change.kind));
        for line in packages.iter().flatten() {
            show::text(&format!("  {line}"));
        }
    }
}

/// The packages that hosts differ in, where both systems are in the store here.
async fn of_packages(cli: &Cli, changes: &[Change]) -> BTreeMap<HostName, Vec<String>> {
    let mut found = BTreeMap::new();
    // Who has no Nix here gets the rest of the answer.
    let Ok(nix) = Nix::find(cli.show_trace).await else { return found };
    for change in changes {
        let (Some(before), Some(after)) = (&change.before, &change.after) else { continue };
        if before == after {
            continue;
        }
        if let (Some(before), Some(after)) = (closure(&nix, before).await, closure(&nix, after).await) {
            found.insert(change.host.clone(), packages(&before, &after));
        }
    }
    found
}

async fn closure(nix: &Nix, toplevel: &StorePath) -> Option<Vec<StorePath>> {
    if nix.is_there(std::slice::from_ref(toplevel)).await.is_empty() {
        return None;
    }
    let (_, infos) = nix.store_here().ok()?.closure(std::slice::from_ref(toplevel)).await.ok()?;
    Some(infos.into_iter().map(|info| info.path).collect())
}
