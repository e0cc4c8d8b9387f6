//! Making a release: every host evaluated and built here, what it differs in from the one before, signed once, and the
//! store paths that the hub lacks sent to it.

mod at_hub;
pub(crate) mod compare;
mod compose;
mod sealing;
mod sign;
mod source;
mod upload;

use std::collections::BTreeMap;
use std::sync::Arc;

use bosco_model::{Declaration, HostName, Mode, StorePath};
use bosco_nix::{Infos, PathInfo, Root, Tree, contents};
use bosco_release::{Contents, Digest, Key, Manifest, Release, Runs, Signer, Statement, Unsealed};
use bosco_wire::api::ReleaseLine;
use tokio::sync::Semaphore;

pub(crate) use self::at_hub::AtHub;
pub(crate) use self::compose::{Composed, Part, compose};
pub(crate) use self::sealing::Sealing;
pub(crate) use self::sign::Pen;
pub(crate) use self::source::commit;
pub(crate) use self::upload::{upload, upload_bundles};
use crate::builds::builds;
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context, each, failed};
use crate::gate::{Gate, Place, Rule};
use crate::hub::Connection;
use crate::outcome::Outcome;

/// How many closures are read at once.
const CLOSURES: usize = 4;

/// What every host should run. What was built here is kept for as long as this.
pub(crate) struct Built {
    pub(crate) parts: Vec<Part>,
    /// What is in the closures that were built here, by their digests.
    pub(crate) closures: BTreeMap<Digest, Contents>,
    /// The paths of those, by the digests of their archives.
    pub(crate) paths: BTreeMap<Digest, PathInfo>,
    /// The secrets of the hosts, encrypted, by their digests.
    pub(crate) bundles: BTreeMap<Digest, Vec<u8>>,
    _root: Arc<Root>,
}

/// A release that the hub has.
pub(crate) struct Published {
    pub(crate) statement: Statement,
    pub(crate) manifests: BTreeMap<HostName, Manifest>,
    /// Why it is not believed. It can be looked at all the same.
    pub(crate) doubt: Option<Unsealed>,
}

/// What was built, by the digest of its closure; with what is in that, where it was built here.
struct Closure {
    digest: Digest,
    here: Option<(Contents, Infos)>,
}

/// Evaluates and builds some hosts, here or where the hub builds. `Err` is what came of each, where not all came through.
pub(crate) async fn build(
    context: &Context,
    root: Root,
    chosen: Vec<Chosen>,
    hub: Option<AtHub>,
    sealing: &Sealing,
) -> Result<Built, Vec<(HostName, Outcome)>> {
    let root = Arc::new(root);
    let gate = Arc::new(Gate::new(Rule::AllBuilt, chosen.len()));
    let (builds, builder) = builds(context.clone(), Arc::clone(&root), Arc::clone(&gate));
    let turns = Arc::new(Semaphore::new(CLOSURES));
    let hub = hub.map(Arc::new);
    let hosts = each(chosen, |chosen| {
        let (context, builds, gate, turns, root) =
            (context.clone(), builds.clone(), Arc::clone(&gate), Arc::clone(&turns), Arc::clone(&root));
        let (hub, sealing) = (hub.clone(), sealing.clone());
        async move {
            let enter = |stage| (context.events)(Event::Stage { host: chosen.name.clone(), stage });
            let declared = context.declaration(&chosen).await;
            gate.go(Place::Evaluating, if declared.is_ok() { Place::Building } else { Place::Through });
            let declared = declared.and_then(|declared| match &declared {
                Some(one) => can_be_released(one).map(|()| declared),
                None => Ok(None),
            });
            let came = match declared {
                Ok(Some(declared)) => {
                    enter(Stage::Build);
                    // It is evaluated here, so that mistakes are found before anybody has it, and built there.
                    let tree = context.fleet.tree(&declared.host.name).and_then(Result::ok);
                    let built = match (&tree, &hub) {
                        (Some(tree), _) => held(&context, tree, &root).await.map(|()| None),
                        (None, Some(hub)) => hub.build(&context, &declared).await.map(Some),
                        (None, None) => {
                            let built = builds.build(&declared).await;
                            built.map(|()| None).map_err(|error| failed(Stage::Build, &error))
                        }
                    };
                    gate.go(Place::Building, Place::Through);
                    let sealed = match &built {
                        // Secrets are its system's, which is left as it is.
                        Ok(_) if declared.host.profiles_only => Ok(None),
                        Ok(_) => sealing.bundle(&declared, &context.events).await,
                        Err(outcome) => Err(outcome.clone()),
                    };
                    let closure = match built {
                        Ok(Some(digest)) => Ok(Closure { digest, here: None }),
                        Ok(None) => {
                            let paths = tree
                                .as_ref()
                                .map_or_else(|| declared.paths(), |tree| vec![tree.path.clone()]);
                            read(&context, &paths, &turns).await
                        }
                        Err(outcome) => Err(outcome),
                    };
                    closure.and_then(|closure| Ok(((declared, tree, closure), sealed?)))
                }
                // Nothing is asked of its tags.
                Ok(None) => Err(Outcome::Interrupted { stage: Stage::Evaluate }),
                Err(outcome) => Err(outcome),
            };
            let outcome = match &came {
                Ok(((declared, ..), _)) => Outcome::Built { toplevel: declared.toplevel.clone() },
                Err(outcome) => outcome.clone(),
            };
            let (name, outcome) = context.end(&chosen.name, outcome);
            (name, outcome, came.ok())
        }
    });
    let ended = tokio::select! {
        ended = hosts => ended,
        () = builder.run() => Vec::new(),
    };
    if ended.iter().any(|(_, _, built)| built.is_none()) {
        return Err(ended.into_iter().map(|(name, outcome, _)| (name, outcome)).collect());
    }
    let mut built = Built {
        parts: Vec::new(),
        closures: BTreeMap::new(),
        paths: BTreeMap::new(),
        bundles: BTreeMap::new(),
        _root: root,
    };
    for ((declared, tree, Closure { digest: closure, here }), bundle) in
        ended.into_iter().filter_map(|(_, _, built)| built)
    {
        let profiles = declared.others();
        let Declaration { host, toplevel, policy, .. } = declared;
        let keys = host.public_keys.iter().filter_map(|line| Key::parse(line).ok()).collect();
        let pulls = host.mode != Mode::Push;
        let runs = match tree {
            Some(Tree { path, self_update, reboot }) => {
                Runs::Tree { tree: path, closure, self_update, reboot }
            }
            None => Runs::System { toplevel: toplevel.clone(), profiles, closure },
        };
        let secrets = bundle.as_ref().map(|bundle| bundle.digest);
        let (host, tags) = (host.name, host.tags);
        built.parts.push(Part { host, tags, toplevel, runs, secrets, policy, pulls, keys });
        built.bundles.extend(bundle.map(|bundle| (bundle.digest, bundle.bytes)));
        if let Some((contents, infos)) = here {
            built.closures.insert(closure, contents);
            built.paths.extend(infos);
        }
    }
    Ok(built)
}

/// Whether a manifest can have what a host declares.
fn can_be_released(declared: &Declaration) -> Result<(), Outcome> {
    Runs::can_have(&declared.toplevel, &declared.others()).map_err(|why| {
        let hint = "`bosco apply` brings it there all the same; give it fewer, for it to be released";
        Outcome::failed(Stage::Evaluate, format!("no release can carry it: {why}"), Some(hint.into()))
    })
}

/// Keeps what a host builds itself from.
async fn held(context: &Context, tree: &Tree, root: &Root) -> Result<(), Outcome> {
    if context.nix.root(&tree.path, root).await {
        return Ok(());
    }
    Err(Outcome::failed(Stage::Build, format!("{} was collected as garbage meanwhile", tree.path), None))
}

/// What is in the closure of what a host is to fetch: what was built, with its profiles, or what it builds itself from.
async fn read(context: &Context, paths: &[StorePath], turns: &Semaphore) -> Result<Closure, Outcome> {
    let _turn = turns.acquire().await;
    let nix_says = |error: bosco_nix::Error| failed(Stage::Build, &error);
    let store = context.nix.store_here().map_err(nix_says)?;
    let (_, infos) = store.closure(paths).await.map_err(nix_says)?;
    let (contents, infos) = contents(infos).map_err(|why| {
        let hint = "`nix-store --verify --check-contents --repair` looks after the store here";
        Outcome::failed(Stage::Build, why, Some(hint.into()))
    })?;
    Ok(Closure { digest: contents.digest(), here: Some((contents, infos)) })
}

/// A release that the hub has, by its number.
pub(crate) async fn published(
    hub: &mut Connection,
    number: u64,
    signers: &[Signer],
) -> Result<Published, Error> {
    let release: Release = hub.get(&format!("/v1/releases/{number}")).await?;
    read_release(&release, signers).map_err(|why| {
        Error::new(Exit::Unable, format!("release {number} can't be read: {why}"))
            .hint("are the hub's bosco and yours of the same version?")
    })
}

/// The newest release that the hub has.
pub(crate) async fn newest(hub: &mut Connection, signers: &[Signer]) -> Result<Option<Published>, Error> {
    let lines: Vec<ReleaseLine> = hub.get("/v1/releases").await?;
    match lines.iter().map(|line| line.number).max() {
        Some(number) => published(hub, number, signers).await.map(Some),
        None => Ok(None),
    }
}

fn read_release(release: &Release, signers: &[Signer]) -> Result<Published, String> {
    match release.open(signers) {
        Ok((statement, _, manifests)) => Ok(Published { statement, manifests, doubt: None }),
        // It may have been signed by who has left since.
        Err(doubt) => {
            let unreadable = |error: serde_json::Error| error.to_string();
            let statement = serde_json::from_str(&release.statement).map_err(unreadable)?;
            let manifests = release.manifests.iter().map(|text| {
                serde_json::from_str(text).map(|manifest: Manifest| (manifest.host.clone(), manifest))
            });
            let manifests = manifests.collect::<Result<_, _>>().map_err(unreadable)?;
            Ok(Published { statement, manifests, doubt: Some(doubt) })
        }
    }
}
