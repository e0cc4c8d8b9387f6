//! `bosco release`.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bosco_nix::Form;
use bosco_release::{Digest, Draft, Statement};
use bosco_wire::api::{Drafted, Next, ReleaseLine};
use hyper::Method;
use serde::Serialize;

use crate::cli::{Cli, Release};
use crate::commands::{root, stoppable, watch};
use crate::error::{Error, Exit};
use crate::event::{Event, Sink};
use crate::fleet::Context;
use crate::hub::{Hub, Vouched, vouched};
use crate::outcome;
use crate::release::compare::{Change, compare};
use crate::release::{
    AtHub, Composed, Pen, Published, Sealing, build, commit, compose, newest, upload, upload_bundles,
};
use crate::show;

/// A day, in seconds.
const DAY: u64 = 24 * 3600;
/// How many bytes a second a hub has to take at least of a release's document.
const LEAST_RATE: u64 = 64 * 1024;

/// What came of it, as the last line in JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename = "release", rename_all = "camelCase")]
struct Came<'a> {
    /// What was published; none where nothing has changed, or nothing was to be published.
    published: Option<&'a ReleaseLine>,
    changes: &'a [Change],
}

/// A release that is signed, with its closures at the hub.
struct Ready {
    release: bosco_release::Release,
    changes: Vec<Change>,
}

/// What came of making one.
enum Made {
    Ready(Box<Ready>),
    /// There is nothing to publish.
    Nothing(Vec<Change>, String),
    /// Not all hosts could be built.
    Unbuilt(Vec<(bosco_model::HostName, outcome::Outcome)>),
}

pub(crate) async fn run(cli: &Cli, args: &Release) -> Result<Exit, Error> {
    let show = show::for_work(cli);
    let events = watch(&show);
    let hub = Hub::of(&cli.place).await?;
    let made = stoppable(&show, make(cli, args, &hub, &events)).await?;
    let Ready { release, changes } = match made {
        Made::Unbuilt(outcomes) => {
            show.summary(&outcomes);
            return Ok(outcome::exit(outcomes.iter().map(|(_, outcome)| outcome)));
        }
        Made::Nothing(changes, words) => {
            if cli.json {
                show::json_line(&Came { published: None, changes: &changes });
            } else {
                show::text(&words);
                changes.iter().for_each(tell);
            }
            return Ok(Exit::Done);
        }
        Made::Ready(ready) => *ready,
    };
    // From here on it is there, or not, in one step.
    let size = serde_json::to_vec(&release).map_or(0, |text| text.len() as u64);
    let limit = Duration::from_secs(size / LEAST_RATE);
    let line: ReleaseLine = hub.open().await?.post("/v1/releases", &release, limit).await?;
    if let Ok((statement, manifests)) = release.look()
        && let Err(error) = vouched::release(hub.rules(), statement.number, &manifests)
    {
        // It is published all the same.
        events(Event::Warning { host: None, text: error.message });
    }
    if cli.json {
        show::json_line(&Came { published: Some(&line), changes: &changes });
    } else {
        show::text(&words(&line, changes.len()));
        changes.iter().for_each(tell);
        show::text(&format!("  {}", line.level.words()));
    }
    Ok(Exit::Done)
}

async fn make(cli: &Cli, args: &Release, hub: &Hub, events: &Sink) -> Result<Made, Error> {
    let fleet = hub.rules();
    let signers = fleet.all_signers();
    let warn = |text: String| events(Event::Warning { host: None, text });
    // Whether anything can be published is asked first: a build may take long.
    let (next, before) = ask(hub).await?;
    let pen = match args.dry_run {
        true => None,
        false => Some(Pen::find(&signers, args.sign_with.as_deref(), next.hub_signs).await?),
    };
    let context = Context::find(cli, events.clone()).await?;
    let source = &context.fleet.source;
    // A tree is taken as it lies there.
    let is_tree = context.fleet.form == Form::Tree;
    let commit = if source.is_here() { commit(&source.dir, is_tree).await } else { Ok(None) };
    let commit = commit.unwrap_or_else(|why| {
        warn(why);
        None
    });
    let root = root()?;
    let hub_builds = fleet.hub.as_ref().is_some_and(|hub| hub.builds);
    let at_hub = hub_builds.then(|| AtHub::new(hub.clone()));
    let vouched = Arc::new(Vouched::of(fleet, before.as_ref())?);
    let sealing = Sealing::new(&next, Arc::clone(&vouched));
    let built = match build(&context, root, context.choose(None)?, at_hub, &sealing).await {
        Ok(built) => built,
        Err(outcomes) => return Ok(Made::Unbuilt(outcomes)),
    };
    // Others may have published or pushed while it was built.
    let (next, before) = if pen.is_some() { ask(hub).await? } else { (next, before) };
    let composed = compose(&built.parts, &next, fleet, &vouched);
    remarks(&composed).into_iter().for_each(warn);
    let after = composed.manifests.iter().map(|one| (one.host.clone(), one.clone())).collect();
    let changes =
        compare(&before.as_ref().map(|before| before.manifests.clone()).unwrap_or_default(), &after);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    // A host that a push has brought further goes back to no lower number: it waits for a release above that.
    let is_newest = |before: &Published| next.number == before.statement.number + 1;
    let is_enough = |before: &Published| is_fresh(&before.statement, now) && is_newest(before);
    if changes.is_empty() && before.as_ref().is_some_and(is_enough) {
        let newest = before.map_or(0, |before| before.statement.number);
        return Ok(Made::Nothing(
            changes,
            format!("nothing has changed since release {newest}; none is published"),
        ));
    }
    let Some(pen) = pen else {
        let words =
            format!("release {} would change {} of {} hosts", next.number, changes.len(), built.parts.len());
        return Ok(Made::Nothing(changes, words));
    };
    may_sign(&pen, &composed)?;
    let statement = Statement {
        fleet: fleet.fleet.clone(),
        number: next.number,
        // The draft knows these.
        root: Digest::of(&[]),
        hosts: 0,
        commit,
        made: now,
        expires: now + u64::from(args.expires) * DAY,
        hub_builds,
    };
    let unwritable =
        |error: serde_json::Error| Error::new(Exit::Unable, format!("the release can't be written: {error}"));
    let draft = Draft::new(statement, composed.manifests).map_err(unwritable)?;
    // Before anybody touches a key, and anything is sent: who is granted a part of the fleet may not change the rest.
    let drafted = Drafted { signer: pen.signer.key.clone(), release: draft.clone().signed(String::new()) };
    hub.open().await?.send(Method::POST, "/v1/releases/draft", &drafted).await?;
    let signature = pen.sign(&draft.statement).await?;
    let release = draft.signed(signature);
    if !pen.is_hub() {
        // What the hosts will do, before anybody else has it.
        release
            .open(&signers)
            .map_err(|why| Error::new(Exit::Unable, format!("the signature is not good: {why}")))?;
    }
    let mut connection = hub.open().await?;
    upload_bundles(&mut connection, &built.bundles).await?;
    upload(&mut connection, context.nix, &built.closures, &built.paths, events).await?;
    Ok(Made::Ready(Box::new(Ready { release, changes })))
}

/// What the next release needs, and the newest that there is.
async fn ask(hub: &Hub) -> Result<(Next, Option<Published>), Error> {
    let mut connection = hub.open().await?;
    let next: Next = connection.get("/v1/next").await?;
    let before = newest(&mut connection, &hub.rules().all_signers()).await?;
    Ok((next, before))
}

/// Whether more than half of a release's time is left.
fn is_fresh(statement: &Statement, now: u64) -> bool {
    now < statement.made + statement.expires.saturating_sub(statement.made) / 2
}

/// That each host takes what this key has signed.
fn may_sign(pen: &Pen, composed: &Composed) -> Result<(), Error> {
    let strangers = composed.strangers_to(&pen.signer);
    if strangers.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = strangers.iter().map(|host| host.as_str()).collect();
    let message = format!("{} may not sign for {}", pen.signer.name, names.join(", "));
    Err(Error::new(Exit::NotDeployed, message)
        .hint("a release is of the whole fleet; `--sign-with` names another key, bosco.toml says whose goes how far"))
}

/// What is to be said of a release, beside what it changes.
fn remarks(composed: &Composed) -> Vec<String> {
    let names = |hosts: &[bosco_model::HostName]| {
        hosts.iter().map(bosco_model::HostName::as_str).collect::<Vec<_>>().join(", ")
    };
    let mut remarks = Vec::new();
    if !composed.unknown.is_empty() {
        let hosts = names(&composed.unknown);
        remarks.push(format!("the hub does not know {hosts}: `bosco enroll HOST` lets them take it"));
    }
    if !composed.undeclared.is_empty() {
        let hosts = names(&composed.undeclared);
        remarks.push(format!(
            "the fleet does not declare {hosts}, which the hub knows: they stay as they are; `bosco forget HOST`"
        ));
    }
    if !composed.lifted.is_empty() {
        remarks.push(format!("it has what was pushed to {}: they go on with it", names(&composed.lifted)));
    }
    for (host, hold) in &composed.staying {
        remarks.push(format!(
            "{host} stays at what was pushed to it ({}), which the release does not have: `bosco resume {host}` lets it go",
            hold.toplevel.short()
        ));
    }
    remarks
}

fn words(line: &ReleaseLine, changed: usize) -> String {
    let commit = line.commit.as_deref().map(|commit| format!(", commit {}", show::commit(commit)));
    let (number, signer, hosts) = (line.number, &line.signer, line.hosts);
    format!("release {number} by {signer}{}: {changed} of {hosts} hosts change", commit.unwrap_or_default())
}

fn tell(change: &Change) {
    show::text(&format!("  {}: {}", change.host, change.kind));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_is_renewed_once_half_of_its_time_is_over() {
        let statement = |made, expires| Statement {
            fleet: bosco_model::FleetName::parse("home").unwrap(),
            number: 1,
            root: Digest::of(&[]),
            hosts: 0,
            commit: None,
            made,
            expires,
            hub_builds: false,
        };
        assert!(is_fresh(&statement(1000, 2000), 1499));
        assert!(!is_fresh(&statement(1000, 2000), 1500));
        assert!(!is_fresh(&statement(2000, 1000), 2000), "one that makes no sense is none");
    }
}
