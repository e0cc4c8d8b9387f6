//! What two releases differ in.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use bosco_model::{HostName, StorePath, System};
use bosco_nix::Nix;
use bosco_release::{Contents, Digest, Manifest};
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::differences::{Compared, Pair, Side, compare as compare_systems};
use crate::error::{Error, Exit};
use crate::event::Event;
use crate::hub::{Connection, Hub};
use crate::release::compare::{Change, compare};
use crate::release::{newest, published};
use crate::show;

/// What two releases differ in.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    from: u64,
    to: u64,
    hosts: Vec<Change>,
    /// What their systems differ in.
    systems: Vec<Compared>,
}

pub(super) async fn run(cli: &Cli, from: u64, to: Option<u64>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let events = watch(&show);
    let warn = |text: String| events(Event::Warning { host: None, text });
    let answer = stoppable(&show, async {
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
        let hosts = compare(&before.manifests, &after.manifests);
        let systems = systems(cli, &mut connection, &before.manifests, &after.manifests).await;
        Ok(Answer { from, to: after.statement.number, hosts, systems })
    })
    .await?;
    if cli.json {
        show::json(&answer);
    } else {
        print(&answer);
    }
    Ok(Exit::Done)
}

fn print(answer: &Answer) {
    if answer.hosts.is_empty() {
        show::text(&format!("releases {} and {} differ in nothing", answer.from, answer.to));
    }
    for change in &answer.hosts {
        show::text(&format!("{}: {}", change.host, change.kind));
    }
    show::differences(&answer.systems);
}

/// What the systems of hosts that are in both releases differ in.
async fn systems(
    cli: &Cli,
    hub: &mut Connection,
    before: &BTreeMap<HostName, Manifest>,
    after: &BTreeMap<HostName, Manifest>,
) -> Vec<Compared> {
    // Who has no Nix here, or a hub of another version, gets the rest of the answer.
    let Ok(nix) = Nix::find(cli.settings()).await else { return Vec::new() };
    let both = before.iter().filter_map(|(host, old)| Some((host, old, after.get(host)?)));
    // What a host builds itself is not known here, and other profiles are not compared.
    let systems = both.filter_map(|(host, old, new)| {
        let (before, after) = (old.runs.system()?, new.runs.system()?);
        (before != after).then_some((host, (before, old), (after, new)))
    });
    let changed: Vec<_> = systems.collect();
    let all: Vec<StorePath> =
        changed.iter().flat_map(|(_, (before, _), (after, _))| [*before, *after]).cloned().collect();
    let here = nix.is_there(&all).await;
    let mut told = HashMap::new();
    let mut pairs = Vec::new();
    for (host, old, new) in changed {
        let before = side(hub, &here, old, &mut told).await;
        let after = side(hub, &here, new, &mut told).await;
        pairs.push(Pair { host: host.clone(), before, after, active: None });
    }
    compare_systems(&nix, &pairs).await.unwrap_or_default()
}

/// A host's system: in the store here, or as far as the hub knows it, which has no units.
async fn side(
    hub: &mut Connection,
    here: &[StorePath],
    (toplevel, manifest): (&StorePath, &Manifest),
    told: &mut HashMap<Digest, Option<Contents>>,
) -> Side {
    let (toplevel, closure) = (toplevel.clone(), manifest.runs.closure());
    if here.contains(&toplevel) {
        return Side::Here(toplevel);
    }
    let contents = match told.entry(closure) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(unknown) => unknown.insert(hub.get(&format!("/v1/closures/{closure}")).await.ok()),
    };
    match contents {
        Some(contents) => {
            // Its profiles' paths are there as well.
            let closure = contents.of(&toplevel).map(|one| (one.path.clone(), one.size)).collect();
            Side::Told(Box::new(System {
                toplevel,
                version: None,
                closure,
                units: None,
                boot: BTreeMap::new(),
            }))
        }
        None => Side::Unknown(toplevel),
    }
}
