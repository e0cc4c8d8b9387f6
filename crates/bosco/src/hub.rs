//! The fleet's hub, as an operator asks it: over their own ssh, by the key that `bosco.toml` says.

mod hosts;
mod known;
pub(crate) mod vouched;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bosco_model::{HostName, Target};
use bosco_release::{FleetFile, HubFile, Key};
use bosco_wire::api::{FleetStatus, Next};
use bosco_wire::http::{Http, HttpError};
use bosco_wire::hub::{ALIAS, Tunnel, Via};
use bosco_wire::{Ssh, Trouble};
use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{OnceCell, mpsc};

pub(crate) use self::hosts::Tags;
use self::known::Known;
pub(crate) use self::vouched::{Unproven, Vouched};
use crate::cli::Place;
use crate::error::{Error, Exit};
use crate::fleet;

/// What says how a fleet is run.
const FILE: &str = "bosco.toml";
/// The longest that is read, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// How the fleet is run: a `bosco.toml`, and where it lies.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) file: FleetFile,
    pub(crate) path: PathBuf,
}

/// The fleet's hub.
#[derive(Clone)]
pub(crate) struct Hub(Arc<Inner>);

struct Inner {
    rules: Rules,
    address: String,
    ssh: Ssh,
    known: Known,
    via: Via,
    /// What the hub says of its hosts, for those that can't be reached otherwise: asked once, when it is first needed.
    ways: OnceCell<Option<Ways>>,
}

/// Which hosts can be reached through the hub.
struct Ways {
    status: FleetStatus,
    next: Next,
}

/// A connection to the hub.
pub(crate) struct Connection {
    http: Http,
    tunnel: Tunnel,
    /// With it goes the file of known keys, which `ssh` reads when it comes to it.
    hub: Hub,
}

/// How the fleet is run, where it says so.
pub(crate) fn rules(place: &Place) -> Result<Option<Rules>, Error> {
    fleet_file(place)?.map(|path| read(&path)).transpose()
}

/// The nearest file that says it, from where the fleet is.
pub(crate) fn fleet_file(place: &Place) -> Result<Option<PathBuf>, Error> {
    // What needs no fleet works where there is none, and a fleet that lies elsewhere is run from here.
    let from = match fleet::source(place) {
        Ok(source) if source.is_here() => source.dir,
        _ => std::env::current_dir().map_err(|error| {
            Error::new(Exit::Unable, format!("the working directory can't be read: {error}"))
        })?,
    };
    Ok(from.ancestors().map(|dir| dir.join(FILE)).find(|path| path.is_file()))
}

fn read(path: &Path) -> Result<Rules, Error> {
    let shown = path.display();
    let unreadable = |why: String| Error::new(Exit::Usage, format!("{shown} can't be read: {why}"));
    let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if size > LONGEST {
        return Err(unreadable(format!("it has {size} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    let file = FleetFile::parse(&text)
        .map_err(|error| Error::new(Exit::Usage, format!("{shown}: {error}")).hint(error.hint()))?;
    Ok(Rules { file, path: path.to_owned() })
}

impl Hub {
    /// The fleet's hub, for a command that is about it.
    pub(crate) async fn of(place: &Place) -> Result<Self, Error> {
        let Some(rules) = rules(place)? else {
            return Err(Error::new(
                Exit::Usage,
                format!("the fleet has no hub: there is no {FILE} here or above"),
            )
            .hint("docs/pull.md says what stands in it; `bosco apply` needs none"));
        };
        let path = rules.path.clone();
        Self::from(rules).await?.ok_or_else(|| {
            Error::new(Exit::Usage, format!("the fleet has no hub: {} has no `[hub]`", path.display()))
                .hint("docs/pull.md says what stands in it; `bosco apply` needs none")
        })
    }

    /// The fleet's hub, where it has one.
    pub(crate) async fn find(place: &Place) -> Result<Option<Self>, Error> {
        match rules(place)? {
            Some(rules) => Self::from(rules).await,
            None => Ok(None),
        }
    }

    /// The hub of a fleet that is run so, where it has one.
    pub(crate) async fn from(rules: Rules) -> Result<Option<Self>, Error> {
        let Some(HubFile { address, keys, .. }) = &rules.file.hub else { return Ok(None) };
        let Some((host, port)) =
            rules.file.hub.as_ref().and_then(|hub| hub.place()).map(|(host, port)| (host.to_owned(), port))
        else {
            return Err(Error::new(Exit::Usage, format!("{}: `hub.address` is none", rules.path.display())));
        };
        let known = Known::new(&of_hub(keys)).map_err(|error| unwritten(&error))?;
        let via = Via { host, port, known_hosts: known.path().to_owned() };
        let (ssh, address, ways) = (Ssh::find().await?, address.clone(), OnceCell::new());
        Ok(Some(Self(Arc::new(Inner { rules, address, ssh, known, via, ways }))))
    }

    /// How the fleet is run.
    pub(crate) fn rules(&self) -> &FleetFile {
        &self.0.rules.file
    }

    /// Connects. Whether the hub is there is seen with the first question.
    pub(crate) async fn open(&self) -> Result<Connection, Error> {
        let (mut tunnel, stream) = self.0.ssh.tunnel(&self.0.via)?;
        match Http::over(stream).await {
            Ok(http) => Ok(Connection { http, tunnel, hub: self.clone() }),
            Err(_) => Err(self.trouble(&tunnel.gone().await)),
        }
    }

    /// Why there is no connection to it.
    fn trouble(&self, error: &bosco_wire::Error) -> Error {
        trouble(&self.0.address, &self.0.rules.path, error)
    }

    /// The way to a host through the hub, where the hub has it connected. What keeps it from saying so is no trouble of the
    /// host's: there is no such way then.
    pub(crate) async fn way(&self, host: &HostName, target: &Target) -> Option<Target> {
        let ways = self.0.ways.get_or_init(|| async { self.ways().await.ok() }).await.as_ref()?;
        let line = ways.status.hosts.iter().find(|line| line.host == *host)?;
        let is_known = ways.next.keys.get(host).is_some_and(|keys| !keys.is_empty());
        (line.connected && is_known).then(|| self.0.ssh.through(&self.0.via, host, target))
    }

    /// Asks which hosts can be reached, and keeps their keys.
    async fn ways(&self) -> Result<Ways, Error> {
        let mut hub = self.open().await?;
        let (status, next): (FleetStatus, Next) = (hub.get("/v1/status").await?, hub.get("/v1/next").await?);
        let keys = self.rules().hub.iter().flat_map(|hub| of_hub(&hub.keys));
        let of_hosts = next.keys.iter().flat_map(|(host, keys)| {
            keys.iter().map(|key| (host.to_string(), key.clone())).collect::<Vec<_>>()
        });
        self.0.known.write(&keys.chain(of_hosts).collect::<Vec<_>>()).map_err(|error| unwritten(&error))?;
        Ok(Ways { status, next })
    }
}

fn of_hub(keys: &[Key]) -> Vec<(String, Key)> {
    keys.iter().map(|key| (ALIAS.to_owned(), key.clone())).collect()
}

fn unwritten(error: &std::io::Error) -> Error {
    Error::new(Exit::Unable, format!("the keys that ssh is to know can't be written: {error}"))
}

impl Connection {
    /// Asks for a document.
    pub(crate) async fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Error> {
        let answer = self.http.get(path).await;
        self.told(answer).await
    }

    /// The same, where there may be nothing new for that long.
    pub(crate) async fn wait<T: DeserializeOwned>(
        &mut self,
        path: &str,
        wait: Duration,
    ) -> Result<Option<T>, Error> {
        let answer = self.http.wait(path, wait).await;
        self.told(answer).await
    }

    /// Sends a document, whose answer may take so long, and asks for another one.
    pub(crate) async fn post<T: DeserializeOwned>(
        &mut self,
        path: &str,
        body: &impl Serialize,
        wait: Duration,
    ) -> Result<T, Error> {
        let answer = self.http.post(path, body, wait).await;
        self.told(answer).await
    }

    /// Sends a document.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<(), Error> {
        let answer = self.http.send(method, path, body).await;
        self.told(answer).await
    }

    /// Sends bytes as they are, which may take so long.
    pub(crate) async fn put(&mut self, path: &str, bytes: Vec<u8>, wait: Duration) -> Result<(), Error> {
        let answer = self.http.put(path, bytes, wait).await;
        self.told(answer).await
    }

    /// Sends a stream, which `feed` makes.
    pub(crate) async fn upload<F>(
        &mut self,
        path: &str,
        feed: impl FnOnce(mpsc::Sender<Bytes>) -> F,
    ) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let (sender, answer) = self.http.upload(path);
        let feed = feed(sender);
        let (fed, answer) = tokio::join!(feed, answer);
        // Where the hub has said no, it is that which ended the stream.
        if let Err(error @ HttpError::Refused { .. }) = answer {
            return self.told(Err(error)).await;
        }
        fed?;
        self.told(answer).await
    }

    async fn told<T>(&mut self, answer: Result<T, HttpError>) -> Result<T, Error> {
        match answer {
            Ok(answer) => Ok(answer),
            Err(HttpError::Refused { status, error }) => Err(refused(status, &error)),
            Err(HttpError::Broken(_)) => Err(self.hub.trouble(&self.tunnel.gone().await)),
            Err(error @ HttpError::Busy(wait)) => {
                Err(Error::new(Exit::Unable, error.to_string())
                    .hint(format!("again in {} s", wait.as_secs())))
            }
            Err(HttpError::Silent) => {
                let message = format!("the hub at {} is connected and does not answer", self.hub.0.address);
                Err(Error::new(Exit::Unreachable, message).hint(WITHOUT))
            }
            Err(error @ HttpError::Unreadable(_)) => Err(Error::new(Exit::Unable, error.to_string())
                .hint("are the hub's bosco and yours of the same version?")),
        }
    }
}

/// What holds where there is no hub.
const WITHOUT: &str = "hosts go on without it; `bosco apply` and `bosco status` reach them directly";

/// What the hub has said no to.
fn refused(status: u16, error: &str) -> Error {
    let exit = match status {
        404 => Exit::Usage,
        400..=499 => Exit::NotDeployed,
        _ => Exit::Unable,
    };
    Error::new(exit, format!("the hub says: {error}"))
}

/// Why there is no connection to the hub.
fn trouble(address: &str, path: &Path, error: &bosco_wire::Error) -> Error {
    let file = path.display();
    match error.trouble {
        Trouble::OtherHostKey | Trouble::UnknownHostKey => {
            let message = format!("what answers at {address} is not the hub: its key is none of `hub.keys`");
            Error::new(Exit::NotDeployed, message).hint(format!(
                "if the hub has a new key (`bosco hub key` prints it there), put it into {file}; if not, somebody may \
                 be in between"
            ))
        }
        Trouble::Denied => {
            let message = format!("the hub at {address} does not know your key");
            Error::new(Exit::NotDeployed, message).hint(format!(
                "`ssh-add -l` lists those that you have; one of them has to be an operator's in {file}, and the hub has \
                 to have read that"
            ))
        }
        Trouble::NotPassed => {
            let message = format!("the hub at {address} knows your key, but not as an operator's");
            Error::new(Exit::NotDeployed, message)
                .hint(format!("make it one in {file}, and have the hub read that"))
        }
        Trouble::NoSsh => Error::new(Exit::Unable, error.to_string()).hint(error.hint()),
        Trouble::Stopped => Error::new(Exit::Interrupted, "interrupted"),
        trouble if trouble.is_offline() || matches!(trouble, Trouble::Lost | Trouble::Silent) => {
            Error::new(Exit::Unreachable, format!("the hub at {address} can't be reached: {error}"))
                .hint(WITHOUT)
        }
        _ => Error::new(Exit::Unable, format!("the hub at {address} can't be asked: {error}"))
            .hint(error.hint()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_with_the_hub_has_its_exit_code_and_says_what_to_do() {
        let of = |said: &str| {
            trouble("hub:2222", Path::new("/fleet/bosco.toml"), &bosco_wire::Error::read("hub:2222", said))
        };
        for (said, exit, words) in [
            ("ssh: connect to host hub port 2222: Connection refused", Exit::Unreachable, "can't be reached"),
            ("operator@hub: Permission denied (publickey).", Exit::NotDeployed, "does not know your key"),
            ("Host key verification failed.", Exit::NotDeployed, "is not the hub"),
            ("stdio forwarding failed", Exit::NotDeployed, "not as an operator's"),
            ("Bad configuration option: foo", Exit::Unable, "foo"),
        ] {
            let error = of(said);
            assert_eq!(error.exit, exit, "{said}");
            assert!(error.message.contains(words), "{}", error.message);
            assert!(error.hint.is_some_and(|hint| !hint.is_empty()), "{said}");
        }
    }

    #[test]
    fn what_the_hub_refuses_is_not_done_and_what_it_does_not_know_is_a_mistake() {
        assert_eq!(refused(403, "").exit, Exit::NotDeployed);
        assert_eq!(refused(404, "").exit, Exit::Usage);
        assert_eq!(refused(500, "").exit, Exit::Unable);
    }
}
