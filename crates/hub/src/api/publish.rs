//! Releases come in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bosco_model::HostName;
use bosco_release::{Contents, Digest, Level, Manifest, RELEASE_NAMESPACE, Release, Statement};
use bosco_wire::api::{Next, Publish, ReleaseLine};
use russh::keys::HashAlg;
use russh::keys::ssh_key::LineEnding;

use super::{Answer, AsOperator, Refused};
use crate::authority::{self, No, Publisher};
use crate::configs;
use crate::hub::{Hub, now};
use crate::store::StoreError;

/// `GET /v1/next`
pub(super) async fn next(State(hub): State<Arc<Hub>>, operator: AsOperator) -> Answer<Json<Next>> {
    let hosts = hub.hosts();
    let hosts =
        hosts.iter().filter(|host| host.now().gone.is_none() && hub.grants(&operator.grant, &host.name));
    let mut next = Next {
        number: hub.next().await?,
        keys: BTreeMap::new(),
        holds: BTreeMap::new(),
        hub_signs: hub.fleet().hub.as_ref().is_some_and(|file| file.signs),
    };
    for host in hosts {
        let now = host.now();
        next.keys.insert(host.name.clone(), now.keys.clone());
        let hold = now.standing.as_ref().and_then(|standing| standing.hold.clone());
        next.holds.extend(hold.map(|hold| (host.name.clone(), hold)));
    }
    Ok(Json(next))
}

/// `POST /v1/releases`
pub(super) async fn publish(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    Json(Publish { mut release, closures }): Json<Publish>,
) -> Answer<Json<ReleaseLine>> {
    let _deciding = hub.deciding.lock().await;
    let fleet = hub.fleet();
    let publisher = Publisher { name: &operator.name, grant: &operator.grant };
    if release.signature.is_empty() {
        authority::may_have_signed(&fleet, publisher).map_err(Refused::bad)?;
        release.signature = sign(&hub, &release)?;
    }
    let signers = fleet.all_signers();
    let opened = release.open(&signers);
    let (statement, signer, manifests) =
        opened.map_err(|error| Refused::bad(format!("the release: {error}")))?;
    let current = hub.current().borrow().clone();
    let before = current.iter().flat_map(|current| &current.parts);
    let before = before.map(|(host, part)| (host, &part.manifest)).collect();
    authority::check(&fleet, publisher, &statement, &signer, &before, &manifests).map_err(|no| match no {
        No::NotTheirs(why) => Refused::new(StatusCode::FORBIDDEN, why),
        No::Wrong(why) => Refused::bad(why),
    })?;
    let next = hub.next().await?;
    if statement.number != next {
        let why =
            format!("release {} is not the next one, {next} is: somebody else was faster", statement.number);
        return Err(Refused::new(StatusCode::CONFLICT, why));
    }
    let of_hosts: BTreeMap<HostName, Digest> =
        manifests.values().map(|manifest| (manifest.host.clone(), manifest.runs.closure())).collect();
    complete(&hub, &closures, &manifests).await?;
    let line = ReleaseLine {
        number: statement.number,
        commit: statement.commit.clone(),
        hosts: statement.hosts,
        signer: signer.name,
        made: statement.made,
        expires: statement.expires,
        level: level(&statement, &manifests),
    };
    match hub.store.publish(&line, &release, &closures, &of_hosts, now()).await {
        Ok(()) => {}
        Err(taken @ StoreError::NumberTaken(_)) => {
            return Err(Refused::new(StatusCode::CONFLICT, taken.to_string()));
        }
        Err(error) => return Err(error.into()),
    }
    // Before any host hears of it.
    configs::lay_out(&hub, &manifests.values().collect::<Vec<_>>()).await;
    hub.announce(line.clone(), &release);
    Ok(Json(line))
}

/// What a stolen hub could do with this release's hosts: the worst of them.
fn level(statement: &Statement, manifests: &BTreeMap<HostName, Manifest>) -> Level {
    let signers = manifests.values().flat_map(|manifest| &manifest.trust.signers);
    Level::of(signers, statement.hub_builds)
}

/// The hub's own signature.
fn sign(hub: &Hub, release: &Release) -> Answer<String> {
    let signature = hub.key.sign(RELEASE_NAMESPACE, HashAlg::Sha512, release.statement.as_bytes());
    let text = signature.and_then(|signature| signature.to_pem(LineEnding::LF));
    text.map_err(|error| crate::Error::Key(error.to_string()).into())
}

/// Every closure has to be here, with all its archives.
async fn complete(
    hub: &Hub,
    closures: &BTreeMap<Digest, Contents>,
    manifests: &BTreeMap<HostName, Manifest>,
) -> Answer<()> {
    let mut hashes = BTreeSet::new();
    for (digest, contents) in closures {
        if contents.digest() != *digest {
            return Err(Refused::bad(format!("the closure {digest} is another one")));
        }
        hashes.extend(contents.iter().map(|path| path.hash));
    }
    for manifest in manifests.values() {
        let here = match closures.get(&manifest.runs.closure()) {
            Some(contents) => contents.get(manifest.runs.path()).is_some(),
            None => hub
                .store
                .closure(&manifest.runs.closure())
                .await?
                .is_some_and(|known| known.get(manifest.runs.path()).is_some()),
        };
        if !here {
            let why = format!("the closure of {} is missing, or is not that of what it runs", manifest.host);
            return Err(Refused::bad(why));
        }
    }
    let hashes: Vec<Digest> = hashes.into_iter().collect();
    let there = hub.store.objects(&hashes).await?;
    match hashes.iter().filter(|hash| !there.contains_key(hash)).count() {
        0 => Ok(()),
        missing => Err(Refused::bad(format!("{missing} archives of the closures are missing here"))),
    }
}
