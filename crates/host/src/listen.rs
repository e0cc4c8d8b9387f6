//! The socket of an attempt: who follows it, or confirms that the host can be reached. Only root can open it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use bosco_activation::Told;
use serde::{Deserialize, Serialize};

use crate::places::Places;

/// How long a client may take to ask, or to take a line.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest question, in bytes.
const LONGEST: u64 = 1024;

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Question {
    /// To be told how an attempt goes on.
    Follow { id: String },
    /// That the host can be reached, by a connection that was made for this: it brings the word that was asked for; and to be
    /// told how the attempt goes on.
    Confirm { id: String, token: Option<String> },
}

/// A question with who asks it.
pub(crate) struct Asked {
    pub(crate) question: Question,
    pub(crate) client: Client,
}

/// Who is told how an attempt goes on.
pub(crate) struct Client(UnixStream);

impl Client {
    /// Whether it could be told.
    pub(crate) fn tell(&mut self, told: &Told) -> bool {
        serde_json::to_string(told).is_ok_and(|text| self.0.write_all(format!("{text}\n").as_bytes()).is_ok())
    }
}

/// All who are told how an attempt goes on.
#[derive(Default)]
pub(crate) struct Clients(Vec<Client>);

impl Clients {
    pub(crate) fn add(&mut self, client: Client) {
        self.0.push(client);
    }

    /// Tells them all; who does not take it is told no more.
    pub(crate) fn tell(&mut self, told: &Told) {
        self.0.retain_mut(|client| client.tell(told));
    }

    pub(crate) fn tell_and_close(&mut self, told: &Told) {
        self.tell(told);
        self.0.clear();
    }
}

/// Where the socket is.
pub(crate) fn socket(places: &Places) -> PathBuf {
    places.run().join("activation.sock")
}

/// Takes questions from now on, each on a thread of its own, until `ask` says that nobody listens.
pub(crate) fn listen(
    places: &Places,
    ask: impl Fn(Asked) -> bool + Send + Sync + Clone + 'static,
) -> Result<(), String> {
    let path = socket(places);
    let _ = fs::remove_file(&path);
    let listener =
        UnixListener::bind(&path).map_err(|error| format!("no socket at {}: {error}", path.display()))?;
    let _ = fs::set_permissions(&path, fs::Permissions::from_mode(0o600));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let ask = ask.clone();
            thread::spawn(move || read(stream).is_some_and(ask));
        }
    });
    Ok(())
}

fn read(stream: UnixStream) -> Option<Asked> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let mut line = String::new();
    BufReader::new((&stream).take(LONGEST)).read_line(&mut line).ok()?;
    let question = serde_json::from_str(&line).ok()?;
    Some(Asked { question, client: Client(stream) })
}
