//! What is said over the hub's HTTP, by hosts and by operators. Who asks is known by the key of the connection: nothing here
//! says it again, so nothing can lie about it.
//!
//! | method and path | who | takes → gives |
//! |---|---|---|
//! | `POST /v1/host/hello` | host | [`Hello`] → [`Welcome`] |
//! | `GET /v1/host/orders?leaf=L&wait=S` | host | → [`Orders`], or 204 where there is nothing new within `S` seconds |
//! | `POST /v1/host/standing` | host | [`Standing`] → 204 |
//! | `POST /v1/host/reports` | host | [`SignedReport`] → 204; the same one twice is one |
//! | `GET /v1/host/closures/D` | host | → [`Contents`](bosco_release::Contents), of its own closures only |
//! | `POST /v1/host/paths` | host | digests of archives → a [pack](crate::pack), of its own closures only; 503 with `Retry-After` where too many fetch |
//! | `GET /v1/host/secrets/D` | host | → its bundle of secrets, as its manifest names it |
//! | `POST /v1/join` | any key | [`Join`] → [`Joining`] |
//! | `GET /v1/status?since=V&wait=S` | operator | → [`FleetStatus`] |
//! | `GET /v1/next` | operator | → [`Next`] |
//! | `GET /v1/releases`, `GET /v1/releases/N` | operator | → list of [`ReleaseLine`], [`Release`] |
//! | `POST /v1/releases/draft` | operator | [`Drafted`] → 204 where they may publish it |
//! | `POST /v1/releases` | operator | [`Release`] → [`ReleaseLine`]; 409 where the number is not the next one |
//! | `POST /v1/closures/missing` | operator | digests → those of closures that the hub does not have |
//! | `POST /v1/closures` | operator | [`Contents`](bosco_release::Contents), whose archives the hub has → its digest |
//! | `GET /v1/closures/D` | operator | → [`Contents`](bosco_release::Contents) |
//! | `POST /v1/paths/missing` | operator | digests → those that the hub does not have |
//! | `POST /v1/paths` | operator | a [pack](crate::pack) → 204 |
//! | `POST /v1/secrets/missing` | operator | digests → those of bundles of secrets that the hub does not have |
//! | `PUT /v1/secrets/D` | operator | a bundle of secrets → 204 |
//! | `POST /v1/builds` | operator | [`Build`] → [`Building`], once it is not what was seen, or after `wait` seconds |
//! | `GET /v1/hosts/H/reports?last=N` | operator | → list of [`ReportLine`], the newest first |
//! | `POST /v1/hosts/H/{trigger,hold,resume}` | operator | [`Why`] → 204 |
//! | `PUT /v1/hosts/H`, `DELETE /v1/hosts/H` | operator | [`Enroll`] → 204 |
//! | `GET /v1/joins`, `POST /v1/joins/approve` | operator | → list of [`JoinLine`]; [`Approve`] → [`JoinLine`] |
//!
//! An error is a status of 4xx or 5xx with [`Problem`] as its body.

use std::collections::BTreeMap;

use bosco_activation::Report;
use bosco_model::{DerivationPath, HostName, Observed, State, StorePath};
use bosco_release::{Digest, HostReport, Key, Level, Number, Release, Sealed, Trust};
use serde::{Deserialize, Serialize};

/// The name that the hub's HTTP has inside its SSH: `ssh -W bosco:80 HUB`.
pub const HTTP: (&str, u32) = ("bosco", 80);
/// The port of a host's own sshd, inside the hub's SSH: `ssh -J HUB HOST`.
pub const SSHD: u32 = 22;
/// The user that joins: its key is not known yet. Any other name is as good as another: the key says who it is.
pub const JOIN: &str = "join";
/// The longest that a hub lets anybody wait, in seconds.
pub const LONGEST_WAIT: u64 = 300;
/// The longest body that is read, but for packs, closures and releases, in bytes.
pub const LONGEST_BODY: usize = 512 * 1024;
/// The longest that is read of what a host has to hear, in bytes: a manifest and its proof are below it.
pub const LONGEST_ORDERS: usize = 2 * 1024 * 1024;
/// The longest closure, in bytes: that of a desktop has 8 MB.
pub const LONGEST_CLOSURE: usize = 64 * 1024 * 1024;
/// The longest release, in bytes.
pub const LONGEST_DOCUMENT: usize = 128 * 1024 * 1024;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// In words, with what to do about it.
    pub error: String,
}

/// What a host says first on each control connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Hello {
    /// What the hub gave it last time: two machines with one key can't both have it.
    pub ratchet: Option<String>,
    /// How it stands.
    pub standing: Standing,
}

/// What it is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// What to say next time; it counts from the first request after this one on.
    pub ratchet: String,
    /// What is wrong: there are two machines with this key.
    pub alarm: Option<String>,
}

/// How a host stands, by its own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Standing {
    /// What it is and runs.
    pub observed: Observed,
    /// The highest number that it has taken, seen, or was pushed to.
    pub highest: Number,
    /// The manifest that it goes by.
    pub leaf: Option<Digest>,
    /// What it has built of that, where it builds itself.
    pub built: Option<StorePath>,
    /// What it is at.
    pub phase: Phase,
    /// Why it is not, or not yet, at what its manifest says; in words.
    pub why: Option<String>,
    /// What keeps it where it was brought to by hand.
    pub hold: Option<bosco_release::Hold>,
    /// The release that it has come to last.
    pub brought: Option<Brought>,
    /// The version of whom it trusts.
    pub trust: u64,
    /// What somebody should look into at once, in words.
    pub alarms: Vec<String>,
    /// Where it comes by a timer: about how many seconds apart.
    pub rhythm: Option<u64>,
    /// The version of its bosco.
    pub version: String,
}

/// A release that a host has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Brought {
    /// Its number.
    pub number: Number,
    /// What the host runs by it.
    pub toplevel: StorePath,
    /// Since when, in seconds since 1970 by the host's clock.
    pub since: u64,
}

/// What an agent is at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It waits for something new.
    #[default]
    Idle,
    /// There is something new, and it is not the time for it.
    Waiting,
    /// It fetches a closure.
    Fetching,
    /// It builds itself.
    Building,
    /// It activates.
    Activating,
    /// The last try did not succeed, and the next one is due later.
    Backoff,
}

/// What a host has to hear.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Orders {
    /// Its manifest, where that is another one than it has.
    pub sealed: Option<Sealed>,
    /// Try now, whatever the time, the line and the last try.
    pub trigger: bool,
    /// Let go of holds with at most this number.
    pub lift: Option<Number>,
    /// Stay as it is: an operator's word, who and why.
    pub held: Option<String>,
    /// Connections that somebody wants to the host's sshd, by the name to ask for.
    pub visits: Vec<String>,
}

/// A machine asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Which host it says to be.
    pub host: HostName,
    /// How long to wait for an approval, in seconds.
    pub wait: u64,
}

/// How that stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joining {
    /// Whom to trust, once it is let in.
    pub trust: Option<Trust>,
}

/// What is needed to make the next release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Next {
    /// Its number.
    pub number: Number,
    /// The keys of the hosts that the hub knows.
    pub keys: BTreeMap<HostName, Vec<Key>>,
    /// Where hosts were brought to by hand.
    pub holds: BTreeMap<HostName, bosco_release::Hold>,
    /// Whether the hub signs: it is sent a release without a signature then.
    pub hub_signs: bool,
}

/// A release that somebody is about to sign: who is, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Drafted {
    /// Whose signature it is to have.
    pub signer: Key,
    /// The release, without one.
    pub release: Release,
}

/// Something is to be built on the hub. The same question again is about the same build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Build {
    /// What is to be built, all of one host: its system first, at most one more than [`bosco_release::MAX_PROFILES`].
    pub outputs: Vec<Output>,
    /// The closure of the derivations, which the hub has: all that it is built from.
    pub inputs: Digest,
    /// What was answered last: only something else is news.
    #[serde(default)]
    pub seen: Option<Building>,
    /// How long to wait for news, in seconds.
    #[serde(default)]
    pub wait: u64,
}

/// A derivation, and what it makes by the operator's own evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// What is to be built.
    pub derivation: DerivationPath,
    /// What that makes.
    pub path: StorePath,
}

/// How a build on the hub stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Building {
    /// Others are built before it.
    #[default]
    Waiting,
    /// It is under way.
    Building {
        /// The derivation that is being built.
        building: Option<String>,
        /// The path that is being fetched.
        fetching: Option<String>,
    },
    /// It is there.
    Built {
        /// What is in the closure of all of it: [`Contents::digest`].
        closure: Digest,
    },
    /// It can't be built.
    Failed {
        /// In Nix's own words.
        why: String,
    },
}

/// A release, in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseLine {
    /// Its number.
    pub number: Number,
    /// The commit that it is made from.
    pub commit: Option<String>,
    /// How many hosts it has.
    pub hosts: u64,
    /// Who has signed it.
    pub signer: String,
    /// When it was made, in seconds since 1970.
    pub made: u64,
    /// When it expires, in seconds since 1970.
    pub expires: u64,
    /// What a stolen hub could do with it.
    pub level: Level,
}

/// How the fleet stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FleetStatus {
    /// Another one with each change.
    pub version: u64,
    /// The newest release.
    pub release: Option<ReleaseLine>,
    /// Every host.
    pub hosts: Vec<HostLine>,
}

/// How a host stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostLine {
    /// The host.
    pub host: HostName,
    /// How it stands.
    pub state: State,
    /// What it should run.
    pub should: Option<StorePath>,
    /// What it runs.
    pub runs: Option<StorePath>,
    /// Since when, in seconds since 1970.
    pub since: Option<u64>,
    /// The release that it runs.
    pub release: Option<Number>,
    /// The commit of that.
    pub commit: Option<String>,
    /// Whether it is connected just now.
    pub connected: bool,
    /// When it was last heard, in seconds since 1970 by the hub's clock.
    pub seen: Option<u64>,
    /// Why it is in that state.
    pub reason: Option<String>,
    /// What somebody should look into at once.
    pub alarms: Vec<String>,
}

/// What came of an activation, as the hub keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportLine {
    /// What the host has said.
    pub report: HostReport<Report>,
    /// When it came, in seconds since 1970 by the hub's clock.
    pub received: u64,
}

/// Why an operator asks for something, for others to read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// In words.
    #[serde(default)]
    pub why: String,
}

/// A host is to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enroll {
    /// Its keys, the present one first.
    pub keys: Vec<Key>,
}

/// A machine that asks to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinLine {
    /// Which host it says to be.
    pub host: HostName,
    /// Its key.
    pub key: Key,
    /// What it shows on its own screen.
    pub code: String,
    /// When it asked, in seconds since 1970.
    pub since: u64,
    /// From which address.
    pub from: String,
}

/// It is let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approve {
    /// The code that the machine shows.
    pub code: String,
}

/// The code that a machine shows when it asks a hub to let it in, as the host that it says to be: both sides compute it, so whoever stands between them, with
/// keys of their own, makes them differ.
#[must_use]
pub fn join_code(name: &HostName, host: &Key, hub: &Key) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let digest = Digest::of(&[
        b"bosco-join-1\n",
        name.as_str().as_bytes(),
        b"\n",
        host.as_str().as_bytes(),
        b"\n",
        hub.as_str().as_bytes(),
    ]);
    // 120 bits: who stands between looks for two pairs of keys with one code.
    let letters = digest.as_bytes().iter().take(24).map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    let mut code = String::new();
    for (at, letter) in letters.enumerate() {
        if at > 0 && at % 6 == 0 {
            code.push('-');
        }
        code.push(letter);
    }
    code
}
