//! Releases come in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bosco_model::HostName;
use bosco_release::{
    Digest, Level, Manifest, RELEASE_NAMESPACE, Release, Signer, SignerKind, Statement, Unsealed,
};
use bosco_wire::api::{Drafted, Next, ReleaseLine};
use bytes::Bytes;
use russh::keys::HashAlg;
use russh::keys::ssh_key::LineEnding;
use tokio::time::timeout;

use super::{Answer, AsOperator, Refused, aside, read, whole};
use crate::authority::{self, No, Publisher};
use crate::configs;
use crate::hub::{Current, Hub, now};
use crate::store::StoreError;

/// How long who publishes waits for `/config` to be what hosts build themselves from.
const LAID_OUT: Duration = Duration::from_secs(5);

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

/// What a release says.
struct Said {
    statement: Statement,
    signer: Signer,
    manifests: BTreeMap<HostName, Manifest>,
}

/// `POST /v1/releases/draft`
pub(super) async fn draft(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    body: Bytes,
) -> Answer<StatusCode> {
    let fleet = hub.fleet();
    let publisher = operator.publisher();
    let Drafted { signer, release } = read(body).await?;
    let signer = fleet.all_signers().into_iter().find(|one| one.key == signer);
    let signer = signer.ok_or_else(|| Refused::new(StatusCode::FORBIDDEN, "this key may not sign"))?;
    if signer.kind == SignerKind::Hub {
        authority::may_have_signed(&fleet, publisher).map_err(Refused::bad)?;
    }
    let said = aside(move || {
        let (statement, manifests) = release.look().map_err(|error| wrong(&error))?;
        Ok(Said { statement, signer, manifests })
    });
    may(&hub, publisher, &said.await?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /v1/releases`
pub(super) async fn publish(
    State(hub): State<Arc<Hub>>,
    operator: AsOperator,
    body: Bytes,
) -> Answer<Json<ReleaseLine>> {
    let release = read(body).await?;
    whole(take(hub, operator, release)).await.map(Json)
}

/// Keeps a release, and has everybody hear of it.
async fn take(hub: Arc<Hub>, operator: AsOperator, mut release: Release) -> Answer<ReleaseLine> {
    let deciding = hub.deciding.lock().await;
    let publisher = operator.publisher();
    let fleet = hub.fleet();
    if release.signature.is_empty() {
        authority::may_have_signed(&fleet, publisher).map_err(Refused::bad)?;
        release.signature = sign(&hub, &release)?;
    }
    let signers = fleet.all_signers();
    let (release, said) = aside(move || {
        let (statement, signer, manifests) = release.open(&signers).map_err(|error| wrong(&error))?;
        Ok((release, Said { statement, signer, manifests }))
    })
    .await?;
    may(&hub, publisher, &said).await?;
    complete(&hub, &said.manifests).await?;
    let Said { statement, signer, manifests } = said;
    let of_hosts: BTreeMap<HostName, Digest> =
        manifests.values().map(|manifest| (manifest.host.clone(), manifest.runs.closure())).collect();
    let line = ReleaseLine {
        number: statement.number,
        commit: statement.commit.clone(),
        hosts: statement.hosts,
        signer: signer.name,
        made: statement.made,
        expires: statement.expires,
        level: level(&statement, &manifests),
    };
    let bundles: BTreeMap<HostName, Digest> =
        manifests.values().filter_map(|manifest| Some((manifest.host.clone(), manifest.secrets?))).collect();
    let (current, document) = aside({
        let line = line.clone();
        move || {
            let text = serde_json::to_string(&release).map_err(|error| Refused::bad(error.to_string()))?;
            Ok((Current::new(line, &release), text))
        }
    })
    .await?;
    match hub.store.publish(&line, &document, &of_hosts, &bundles, now()).await {
        Ok(()) => {}
        Err(taken @ StoreError::NumberTaken(_)) => {
            return Err(Refused::new(StatusCode::CONFLICT, taken.to_string()));
        }
        Err(error) => return Err(error.into()),
    }
    hub.announce(current);
    drop(deciding);
    // It goes on where it takes longer.
    let _ = timeout(LAID_OUT, tokio::spawn(configs::lay_out_all(hub))).await;
    Ok(line)
}

fn wrong(why: &Unsealed) -> Refused {
    Refused::bad(format!("the release: {why}"))
}

/// Whether somebody may publish what a release says, next.
async fn may(hub: &Hub, publisher: Publisher<'_>, said: &Said) -> Answer<()> {
    let current = hub.current().borrow().clone();
    let before = current.iter().flat_map(|current| &current.parts);
    let before = before.map(|(host, part)| (host, &part.manifest)).collect();
    let Said { statement, signer, manifests } = said;
    authority::check(&hub.fleet(), publisher, statement, signer, &before, manifests).map_err(
        |no| match no {
            No::NotTheirs(why) => Refused::new(StatusCode::FORBIDDEN, why),
            No::Wrong(why) => Refused::bad(why),
        },
    )?;
    let next = hub.next().await?;
    if statement.number == next {
        return Ok(());
    }
    let why =
        format!("release {} is not the next one, {next} is: somebody else was faster", statement.number);
    Err(Refused::new(StatusCode::CONFLICT, why))
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

/// Every closure has to be here: all its archives are then. And every bundle of secrets.
async fn complete(hub: &Hub, manifests: &BTreeMap<HostName, Manifest>) -> Answer<()> {
    for manifest in manifests.values() {
        for path in manifest.runs.paths() {
            if !hub.store.closure_has(&manifest.runs.closure(), path).await? {
                let host = &manifest.host;
                let why = format!("the closure of {host} is missing, or is not that of what it runs: {path}");
                return Err(Refused::bad(why));
            }
        }
    }
    let bundles: Vec<Digest> = manifests.values().filter_map(|manifest| manifest.secrets).collect();
    let there = hub.store.want_bundles(&bundles, now()).await?;
    let lacks = |manifest: &&Manifest| manifest.secrets.is_some_and(|digest| !there.contains(&digest));
    match manifests.values().find(lacks) {
        Some(manifest) => Err(Refused::bad(format!("the secrets of {} are missing", manifest.host))),
        None => Ok(()),
    }
}
