//! All that the hub knows, in one place: what is remembered, and what is only true just now.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bosco_model::{HostName, Profiles, Selector, StorePath};
use bosco_release::{Digest, FleetFile, Key, Manifest, Number, Release, Sealed, tree};
use bosco_wire::api::{HostLine, ReleaseLine, Standing};
use russh::keys::PrivateKey;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;

use crate::builds::Builds;
use crate::joins::Joins;
use crate::objects::{Incoming, Objects, Unkept};
use crate::ratchet::{Ratchet, Secret};
use crate::sessions::Sessions;
use crate::sftp::{Limits, Quota, World, Worlds};
use crate::standing::{self, Facts};
use crate::store::{Heard, HostRow, Store};
use crate::visits::Visits;
use crate::{Error, authority, configs};

/// How often what was heard is written down.
const WRITE: Duration = Duration::from_secs(5);
/// How long a line of a status is good where nothing is heard, in seconds.
const WORTH: u64 = 60;
/// How far a host may be ahead of the newest release: by pushes, and where the hub was restored from an old backup.
const AHEAD: Number = 100_000;
/// How many closures go out at once; and to one host.
const BULK: usize = 64;
const OWN_BULK: usize = 2;

/// How many of a host's newest releases it may fetch the closures of.
pub(crate) const RELEASES: u32 = 2;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Who {
    /// A host of the fleet.
    Host(HostName),
    /// A person or a CI, and the hosts that they are granted.
    Operator(String, Selector),
    /// A machine that asks to be let in, with its key.
    Stranger(Key),
}

/// The hub.
pub(crate) struct Hub {
    pub(crate) store: Store,
    pub(crate) objects: Objects,
    pub(crate) key: PrivateKey,
    pub(crate) public: Key,
    pub(crate) secret: Secret,
    pub(crate) state: PathBuf,
    pub(crate) joins: Joins,
    pub(crate) visits: Visits,
    pub(crate) sessions: Sessions,
    /// Who publishes, or lets hosts in or go: one at a time.
    pub(crate) deciding: tokio::sync::Mutex<()>,
    pub(crate) bulk: Arc<Semaphore>,
    /// Who makes an archive known, or unknown: its row and its file are one.
    pub(crate) storing: tokio::sync::Mutex<()>,
    /// Who lays out what hosts build themselves from.
    pub(crate) laying: tokio::sync::Mutex<()>,
    pub(crate) builds: Builds,
    worlds: Worlds,
    fleet: RwLock<Arc<FleetFile>>,
    people: RwLock<HashMap<Key, Who>>,
    hosts: RwLock<BTreeMap<HostName, Arc<Host>>>,
    current: watch::Sender<Option<Arc<Current>>>,
    lines: RwLock<BTreeMap<Number, ReleaseLine>>,
    /// Another one with each change of what a status shows.
    version: watch::Sender<u64>,
}

/// The newest release, as hosts get it.
pub(crate) struct Current {
    pub(crate) line: ReleaseLine,
    pub(crate) parts: HashMap<HostName, Part>,
}

/// A host's part of it.
pub(crate) struct Part {
    pub(crate) sealed: Arc<Sealed>,
    pub(crate) leaf: Digest,
    pub(crate) manifest: Manifest,
}

/// A host, just now.
pub(crate) struct Host {
    pub(crate) name: HostName,
    now: Mutex<Now>,
    /// There is something for the host to hear.
    pub(crate) bell: watch::Sender<()>,
    /// Its places among those who are sent a closure.
    pub(crate) bulk: Arc<Semaphore>,
    /// Held while a report of it is written down: one at a time, so that those of others come in between.
    pub(crate) reporting: tokio::sync::Mutex<()>,
}

/// Whether a host is to try now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trigger {
    No,
    /// It is to be told.
    Wanted,
    /// It was told, and has not asked again: the answer may have been lost.
    Told,
}

/// What is true of a host just now.
#[derive(Debug)]
pub(crate) struct Now {
    pub(crate) keys: Vec<Key>,
    pub(crate) gone: Option<u64>,
    pub(crate) held: Option<String>,
    pub(crate) lift: Option<Number>,
    pub(crate) ratchet: Ratchet,
    pub(crate) standing: Option<Standing>,
    pub(crate) seen: Option<u64>,
    pub(crate) alarm: Option<String>,
    /// How many control connections it has.
    pub(crate) connections: u32,
    /// Whether it is to try now.
    pub(crate) trigger: Trigger,
    /// Whether it has heard what `held` and `lift` are.
    pub(crate) told: bool,
    /// Connections that somebody wants to its sshd.
    pub(crate) visits: Vec<String>,
    /// Whether something of it has to be written down.
    changed: bool,
    /// What a status says of it: made when it is asked for, good for a release until something changes.
    line: Option<Line>,
}

/// A line of a status, as JSON. Who asks takes a reference along.
#[derive(Debug, Clone)]
struct Text(Arc<RawValue>);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

/// One that was made before.
#[derive(Debug)]
struct Line {
    text: Text,
    /// The newest release when it was made.
    release: Number,
    /// When it was made, in seconds since 1970: who comes by a timer goes offline by doing nothing.
    made: u64,
}

/// How the fleet stands: [`bosco_wire::api::FleetStatus`], with its lines as they were written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    version: u64,
    release: Option<ReleaseLine>,
    hosts: Vec<Text>,
}

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

/// What a lock holds: nobody panics while they have it, and each change is whole.
fn unpoisoned<T>(lock: Result<T, PoisonError<T>>) -> T {
    lock.unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    fn new(name: HostName, row: HostRow) -> Self {
        let HostRow { keys, gone, held, lift, ratchet, alarm, standing, seen } = row;
        let now = Now {
            keys,
            gone,
            held,
            lift,
            ratchet: Ratchet::remembered(ratchet),
            standing,
            seen,
            alarm,
            connections: 0,
            trigger: Trigger::No,
            told: false,
            visits: Vec::new(),
            changed: false,
            line: None,
        };
        Self {
            name,
            now: Mutex::new(now),
            bell: watch::Sender::new(()),
            bulk: Arc::new(Semaphore::new(OWN_BULK)),
            reporting: tokio::sync::Mutex::default(),
        }
    }

    /// What is true of it. Must not be held over an await.
    pub(crate) fn now(&self) -> MutexGuard<'_, Now> {
        unpoisoned(self.now.lock())
    }
}

impl Hub {
    /// Keeps an archive that has come in, where it is what it was said to be.
    pub(crate) async fn keep_archive(&self, mut incoming: Incoming) -> Result<(), Unkept> {
        let ends = |_| Unkept::Disk(std::io::Error::other("the hub ends"));
        let verified = spawn_blocking(move || incoming.verify().map(|stored| (incoming, stored)));
        let (incoming, stored) = verified.await.map_err(ends)??;
        let (hash, size) = (incoming.hash, incoming.size);
        let _storing = self.storing.lock().await;
        if self.store.want_objects(&[hash], now()).await?.is_empty() {
            spawn_blocking(move || incoming.keep()).await.map_err(ends)??;
            self.store.object(&hash, (size, stored), now()).await?;
        }
        Ok(())
    }

    /// Opens the hub's folder.
    pub(crate) async fn open(state: &Path, key: PrivateKey, fleet: FleetFile) -> Result<Arc<Self>, Error> {
        let store = Store::open(&state.join("hub.sqlite")).await?;
        let objects = Objects::open(&state.join("objects")).map_err(|error| Error::disk(state, &error))?;
        let public = Key::of(key.public_key()).map_err(|error| Error::Key(error.to_string()))?;
        let bytes = key.to_bytes().map_err(|error| Error::Key(error.to_string()))?;
        let secret = Secret(Digest::of(&[b"bosco-ratchet-1\n", &bytes]));
        let hosts = store.hosts().await?;
        let hosts =
            hosts.into_iter().map(|(name, row)| (name.clone(), Arc::new(Host::new(name, row)))).collect();
        let lines = store.releases().await?.into_iter().map(|line| (line.number, line)).collect();
        let newest = store.newest().await?;
        let current =
            store.release(newest).await?.map(|(line, release)| Arc::new(Current::new(line, &release)));
        let hub = Arc::new(Self {
            store,
            objects,
            key,
            public,
            secret,
            state: state.to_owned(),
            joins: Joins::default(),
            visits: Visits::default(),
            sessions: Sessions::default(),
            deciding: tokio::sync::Mutex::default(),
            bulk: Arc::new(Semaphore::new(BULK)),
            storing: tokio::sync::Mutex::default(),
            laying: tokio::sync::Mutex::default(),
            builds: Builds::open(state).map_err(|error| Error::disk(state, &error))?,
            worlds: Worlds::new(state.join("hosts")),
            fleet: RwLock::new(Arc::new(fleet)),
            people: RwLock::default(),
            hosts: RwLock::new(hosts),
            current: watch::Sender::new(current),
            lines: RwLock::new(lines),
            // Another one than before a restart, so that nobody who waits misses what has changed meanwhile.
            version: watch::Sender::new(now() << 16),
        });
        hub.know_people();
        Ok(hub)
    }

    /// Writes down what was heard, now and then, for ever.
    pub(crate) async fn remember(self: Arc<Self>) {
        loop {
            tokio::time::sleep(WRITE).await;
            self.write_down().await;
        }
    }

    /// Writes down what was heard.
    pub(crate) async fn write_down(&self) {
        let heard: Vec<Heard> = self
            .hosts()
            .iter()
            .filter_map(|host| {
                let mut now = host.now();
                let changed = std::mem::take(&mut now.changed);
                changed.then(|| Heard {
                    host: host.name.clone(),
                    ratchet: now.ratchet.last,
                    alarm: now.alarm.clone(),
                    standing: now.standing.clone(),
                    seen: now.seen,
                })
            })
            .collect();
        if heard.is_empty() {
            return;
        }
        if let Err(error) = self.store.heard(&heard).await {
            crate::say(&format!("bosco hub: what hosts have said could not be written down: {error}"));
            // The next time, then.
            heard
                .iter()
                .filter_map(|heard| self.host(&heard.host))
                .for_each(|host| host.now().changed = true);
        }
    }

    /// What a host has over SFTP.
    pub(crate) fn world(&self, host: &HostName) -> Arc<World> {
        let quota = self.fleet().quota;
        let backup = Quota { bytes: quota.backup, files: quota.backup_files };
        let logs = Quota { bytes: quota.logs, files: quota.logs_files };
        self.worlds.of(host, Limits { backup, logs })
    }

    /// How the fleet is run.
    pub(crate) fn fleet(&self) -> Arc<FleetFile> {
        unpoisoned(self.fleet.read()).clone()
    }

    /// It is run in another way from now on.
    pub(crate) async fn set_fleet(&self, fleet: FleetFile) {
        *unpoisoned(self.fleet.write()) = Arc::new(fleet);
        self.know_people();
        self.sessions.end(|who| self.is_known(who)).await;
    }

    /// Makes the list of who has which key anew.
    fn know_people(&self) {
        let mut people = HashMap::new();
        for host in self.hosts() {
            let now = host.now();
            people.extend(now.keys.iter().map(|key| (key.clone(), Who::Host(host.name.clone()))));
        }
        // Last: an operator's key is never a host's.
        for (name, one) in &self.fleet().operators {
            let who = Who::Operator(name.clone(), one.hosts.clone());
            people.extend(one.keys.iter().map(|key| (key.clone(), who.clone())));
        }
        *unpoisoned(self.people.write()) = people;
    }

    /// Whose key it is.
    pub(crate) fn who(&self, key: &Key) -> Option<Who> {
        unpoisoned(self.people.read()).get(key).cloned()
    }

    /// Whether somebody who is connected still is who they were.
    pub(crate) fn is_known(&self, (who, key): &(Who, Key)) -> bool {
        matches!(who, Who::Stranger(_)) || self.who(key).as_ref() == Some(who)
    }

    /// All hosts that are or were let in.
    pub(crate) fn hosts(&self) -> Vec<Arc<Host>> {
        unpoisoned(self.hosts.read()).values().cloned().collect()
    }

    /// A host that is or was let in.
    pub(crate) fn host(&self, name: &HostName) -> Option<Arc<Host>> {
        unpoisoned(self.hosts.read()).get(name).cloned()
    }

    /// Lets a host in. `false`: a key is somebody else's.
    pub(crate) async fn enroll(&self, name: &HostName, mut keys: Vec<Key>) -> Result<bool, Error> {
        let mut seen = BTreeSet::new();
        keys.retain(|key| seen.insert(key.clone()));
        let deciding = self.deciding.lock().await;
        let me = Who::Host(name.clone());
        if keys.iter().any(|key| *key == self.public || self.who(key).is_some_and(|who| who != me)) {
            return Ok(false);
        }
        if !self.store.enroll(name, &keys, now()).await? {
            return Ok(false);
        }
        let host = {
            let mut hosts = unpoisoned(self.hosts.write());
            let empty = || {
                let row = HostRow {
                    keys: Vec::new(),
                    gone: None,
                    held: None,
                    lift: None,
                    ratchet: 0,
                    alarm: None,
                    standing: None,
                    seen: None,
                };
                Arc::new(Host::new(name.clone(), row))
            };
            Arc::clone(hosts.entry(name.clone()).or_insert_with(empty))
        };
        {
            let mut now = host.now();
            now.keys = keys;
            now.gone = None;
            // Whoever lets it in has looked which machine it is: it may have been set up anew.
            now.ratchet = Ratchet { last: 0, confirmed: true };
            now.alarm = None;
            now.changed = true;
            now.line = None;
        }
        self.know_people();
        self.sessions.end(|who| self.is_known(who)).await;
        self.changed();
        drop(deciding);
        configs::lay_out(self, name).await;
        Ok(true)
    }

    /// Lets a host in no more.
    pub(crate) async fn forget(&self, host: &Host) -> Result<(), Error> {
        let _deciding = self.deciding.lock().await;
        let at = now();
        self.store.forget(&host.name, at).await?;
        {
            let mut now = host.now();
            now.keys.clear();
            now.gone = Some(at);
            now.standing = None;
            now.held = None;
            now.lift = None;
            now.alarm = None;
            now.ratchet = Ratchet { last: 0, confirmed: true };
            now.line = None;
        }
        self.know_people();
        self.sessions.end(|who| self.is_known(who)).await;
        self.changed();
        Ok(())
    }

    /// Nothing of a host that is gone is known any more.
    pub(crate) async fn erase(&self, name: &HostName) -> Result<(), Error> {
        self.store.erase(name).await?;
        unpoisoned(self.hosts.write()).remove(name);
        Ok(())
    }

    /// A host has been heard.
    pub(crate) fn heard(&self, host: &Host, change: impl FnOnce(&mut Now)) {
        self.note(host, |now| {
            change(now);
            now.seen = Some(crate::hub::now());
        });
    }

    /// Something is known of a host that has to be written down.
    pub(crate) fn note(&self, host: &Host, change: impl FnOnce(&mut Now)) {
        self.touch(host, |now| {
            change(now);
            now.changed = true;
        });
    }

    /// Something that a status shows of a host changes.
    pub(crate) fn touch(&self, host: &Host, change: impl FnOnce(&mut Now)) {
        {
            let mut now = host.now();
            change(&mut now);
            now.line = None;
        }
        self.changed();
    }

    /// Something that a status shows has changed.
    pub(crate) fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// To wait for such a change.
    pub(crate) fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// The newest release, and to wait for another one.
    pub(crate) fn current(&self) -> watch::Receiver<Option<Arc<Current>>> {
        self.current.subscribe()
    }

    /// A release is there: everybody hears of it.
    pub(crate) fn announce(&self, current: Current) {
        unpoisoned(self.lines.write()).insert(current.line.number, current.line.clone());
        self.current.send_replace(Some(Arc::new(current)));
        self.changed();
    }

    /// The number that the next release has: above all that were published, and all that a host has seen. A host that is
    /// further ahead than any push could bring it is not believed: it could use up the numbers of all.
    pub(crate) async fn next(&self) -> Result<Number, Error> {
        let newest = self.store.newest().await?;
        let seen = self.hosts().into_iter().filter_map(|host| Some(host.now().standing.as_ref()?.highest));
        let seen = seen.filter(|number| *number <= newest.saturating_add(AHEAD)).max();
        Ok(newest.max(seen.unwrap_or_default()).saturating_add(1))
    }

    /// How the fleet stands, as far as somebody is granted it. Only what has changed since somebody else has asked is made anew.
    pub(crate) fn status(&self, grant: &Selector) -> Result<Status, serde_json::Error> {
        let version = *self.version.borrow();
        let current = self.current.borrow().clone();
        let part = |name: &HostName| current.as_ref().and_then(|current| current.parts.get(name));
        let release = current.as_ref().map(|current| current.line.clone());
        let (number, at) = (release.as_ref().map_or(0, |line| line.number), now());
        let mut texts = Vec::new();
        for host in self.hosts() {
            let mut now = host.now();
            let part = part(&host.name);
            if now.gone.is_some() || !authority::granted(grant, &host.name, part.map(|part| &part.manifest)) {
                continue;
            }
            let known = now.line.as_ref().filter(|line| line.release == number && at < line.made + WORTH);
            let text = match known {
                Some(line) => line.text.clone(),
                None => {
                    let text = Text(to_raw_value(&self.line(&host.name, &now, part, at))?.into());
                    now.line = Some(Line { text: text.clone(), release: number, made: at });
                    text
                }
            };
            texts.push(text);
        }
        Ok(Status { version, release, hosts: texts })
    }

    fn line(&self, host: &HostName, now: &Now, part: Option<&Part>, at: u64) -> HostLine {
        let mut line = standing::line(&Facts {
            host,
            should: part.and_then(|part| part.should(now.standing.as_ref())),
            profiles: part.map_or(Profiles::NONE, |part| part.manifest.runs.profiles()),
            secrets: part.and_then(|part| part.manifest.secrets),
            standing: now.standing.as_ref(),
            connected: now.connections > 0,
            seen: now.seen,
            now: at,
            held: now.held.as_deref(),
            alarm: now.alarm.as_deref(),
            newest: part.map(|part| part.manifest.number),
        });
        let lines = unpoisoned(self.lines.read());
        line.commit = line.release.and_then(|number| lines.get(&number)?.commit.clone());
        line
    }

    /// Whether somebody is granted a host.
    pub(crate) fn grants(&self, grant: &Selector, name: &HostName) -> bool {
        let current = self.current.borrow().clone();
        let part = current.as_ref().and_then(|current| current.parts.get(name));
        authority::granted(grant, name, part.map(|part| &part.manifest))
    }
}

impl Part {
    /// What its host should run: of one that builds itself, by its own words.
    fn should<'a>(&'a self, standing: Option<&'a Standing>) -> Option<&'a StorePath> {
        let own =
            standing.filter(|standing| standing.leaf == Some(self.leaf) && self.manifest.runs.is_tree());
        self.manifest.runs.toplevel().or_else(|| own?.built.as_ref())
    }
}

impl Current {
    pub(crate) fn new(line: ReleaseLine, release: &Release) -> Self {
        // What can't be read was not published by this version; nobody gets it.
        let parts = release.seal().zip(&release.manifests).filter_map(|(sealed, text)| {
            let manifest: Manifest = serde_json::from_str(text).ok()?;
            let leaf = tree::leaf(text.as_bytes());
            Some((manifest.host.clone(), Part { sealed: Arc::new(sealed), leaf, manifest }))
        });
        Self { line, parts: parts.collect() }
    }
}
