//! What is asked of a host: which system to bring it to, how far, and by whom. And what that system itself says of how
//! it wants to be activated.

use std::collections::BTreeMap;
use std::time::Duration;

use bosco_model::{Digest, Goal, HIGHEST, Limits, Number, Profiles, StorePath};
use serde::{Deserialize, Serialize};

/// What is asked of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What the attempt is known by.
    pub id: String,
    /// How far to go.
    pub goal: Goal,
    /// The system to bring the host to.
    pub toplevel: StorePath,
    /// What is activated beside it, in the same attempt.
    #[serde(default)]
    pub profiles: Profiles,
    /// How long it may take, where that is not what the system says.
    #[serde(default)]
    pub limits: Limits,
    /// The bundle of secrets that goes with it, which the host has been given before. `None`: the host keeps those that it
    /// has come to.
    #[serde(default)]
    pub secrets: Option<Digest>,
    /// Whether only secrets are brought: what is asked for has to be what the host runs and boots.
    #[serde(default)]
    pub keeps_system: bool,
    /// The generation that has it already, where the host is to go back: no new one is made then.
    #[serde(default)]
    pub generation: Option<u32>,
    /// Who asks, in words: `ada@laptop`.
    pub by: String,
    /// Whether the host may reboot where only that brings the change in.
    #[serde(default)]
    pub reboot: bool,
    /// Whether a system that the host has in quarantine may be tried all the same.
    #[serde(default)]
    pub again: bool,
    /// Whether the host has to be reached anew before anything is committed. Not so at its own console.
    #[serde(default)]
    pub connection: bool,
    /// Its number: a push has the host's next one, what is pulled that of its release. 0: it is not counted.
    #[serde(default)]
    pub number: Number,
    /// Whether the host stays there until a release contains it: so for a push, and not for what is pulled.
    #[serde(default)]
    pub hold: bool,
    /// Of what is pulled: holds with at most this number do not stand in its way, as it contains what was pushed by them.
    #[serde(default)]
    pub lifts: Number,
    /// Whether a connection that does not come is blamed on nobody: of what is pulled, the first time. The hub may be rebooting
    /// just then, for the same release.
    #[serde(default)]
    pub doubts_hub: bool,
}

/// The longest that an id or a name in a request may be, in bytes.
const LONGEST: usize = 100;

impl Request {
    /// Whether something can be the id of an activation.
    #[must_use]
    pub fn is_id(id: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=LONGEST).contains(&id.len()) && id.bytes().all(plain)
    }

    /// Whether a release asks for it, by the host's own agent.
    #[must_use]
    pub fn is_pulled(&self) -> bool {
        self.number > 0 && !self.hold
    }

    /// Whether its words can be used as names of files and shown to people, and its number leaves others above it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        Self::is_id(&self.id)
            && self.by.len() <= LONGEST
            && !self.by.chars().any(char::is_control)
            && self.number <= HIGHEST
    }
}

/// What a system says of how it wants to be activated, in `etc/bosco/activation.json` of its toplevel. Times are in
/// seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Settings {
    /// How long an activation may take, until what is asked of it is proven.
    pub activation_timeout: u64,
    /// How long a fresh connection may take to come, from the moment that the switch has returned.
    pub confirm_timeout: u64,
    /// Whether the host reboots by itself for what only that brings in.
    pub reboot: Reboot,
    /// What has to hold before the commit.
    pub health_checks: BTreeMap<String, HealthCheck>,
}

impl Default for Settings {
    fn default() -> Self {
        let health_checks = BTreeMap::new();
        Self { activation_timeout: 600, confirm_timeout: 60, reboot: Reboot::Never, health_checks }
    }
}

impl Settings {
    /// The longest that anybody may ask the host to wait.
    const LONGEST: u64 = 24 * 3600;

    /// What can be asked of an old system too, which says this of itself: a check that it does not declare says nothing about
    /// it.
    #[must_use]
    pub fn asked_of(&self, old: &Self) -> Self {
        let mut asked = self.clone();
        asked.health_checks.retain(|name, check| old.health_checks.get(name) == Some(check));
        asked
    }

    /// The same with other limits, as far as they are given.
    #[must_use]
    pub fn within(mut self, limits: Limits) -> Self {
        self.activation_timeout = limits.activation.unwrap_or(self.activation_timeout);
        self.confirm_timeout = limits.confirm.unwrap_or(self.confirm_timeout);
        self
    }

    /// How long an activation may take.
    #[must_use]
    pub fn activation(&self) -> Duration {
        Duration::from_secs(self.activation_timeout.clamp(1, Self::LONGEST))
    }

    /// How long a fresh connection may take.
    #[must_use]
    pub fn confirm(&self) -> Duration {
        Duration::from_secs(self.confirm_timeout.clamp(1, Self::LONGEST))
    }
}

/// When a host reboots by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reboot {
    /// Only when it is told to.
    #[default]
    Never,
    /// Where a change can't be had without.
    WhenNeeded,
}

/// A health check of the host's own. It holds once one try does. Times are in seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is looked at.
    #[serde(flatten)]
    pub kind: Kind,
    /// How long one try may take.
    pub timeout: u64,
    /// How long to wait between two tries.
    pub interval: u64,
    /// How many more tries there are after the first.
    pub retries: u32,
}

/// What a health check looks at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A unit of systemd has to be active.
    Unit(String),
    /// A URL has to answer with success, or with a redirection.
    Http(String),
    /// `HOST:PORT` has to take connections.
    Tcp(String),
    /// A command line of the shell has to end with 0.
    Command(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_systems_settings_are_read_as_its_module_writes_them() {
        let text = r#"{"version":1,"activationTimeout":600,"confirmTimeout":60,"reboot":"when-needed","healthChecks":
            {"web":{"http":"http://127.0.0.1:80/","timeout":5,"interval":1,"retries":5},
             "x":{"unit":"x.service","timeout":5,"interval":1,"retries":0}}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!(settings.reboot, Reboot::WhenNeeded);
        let web = &settings.health_checks["web"];
        assert_eq!(web.kind, Kind::Http("http://127.0.0.1:80/".into()));
        assert_eq!((web.timeout, web.interval, web.retries), (5, 1, 5));
        assert_eq!(serde_json::from_str::<Settings>("{}").unwrap(), Settings::default());
    }

    #[test]
    fn an_old_system_is_asked_only_what_it_declares_in_the_same_way() {
        let check =
            |retries| HealthCheck { kind: Kind::Unit("x.service".into()), timeout: 5, interval: 1, retries };
        let of = |checks: &[(&str, u32)]| Settings {
            health_checks: checks
                .iter()
                .map(|(name, retries)| ((*name).to_owned(), check(*retries)))
                .collect(),
            ..Settings::default()
        };
        let asked = of(&[("same", 1), ("other", 1), ("new", 1)]).asked_of(&of(&[("same", 1), ("other", 2)]));
        assert_eq!(asked.health_checks.keys().collect::<Vec<_>>(), ["same"]);
    }

    #[test]
    fn an_id_is_a_word_and_a_name_is_one_line() {
        let toplevel = StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap();
        let request = |id: &str, by: &str| Request {
            id: id.into(),
            goal: Goal::Switch,
            toplevel: toplevel.clone(),
            profiles: Profiles::default(),
            limits: Limits::default(),
            secrets: None,
            keeps_system: false,
            generation: None,
            by: by.into(),
            reboot: false,
            again: false,
            connection: true,
            number: 1,
            hold: true,
            lifts: 0,
            doubts_hub: false,
        };
        assert!(request("00ff-1", "ada@laptop").is_sound());
        assert!(!Request { number: u64::MAX, ..request("1", "ada") }.is_sound(), "it would be the last");
        for (id, by) in [("", "ada"), ("../x", "ada"), ("1", "a\nb"), (&"1".repeat(200), "ada")] {
            assert!(!request(id, by).is_sound(), "{id:?} {by:?}");
        }
    }
}
