//! What a fleet's source says of one host.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    DeclaredProfile, DeclaredSecrets, DerivationPath, HostName, Mode, Observed, Policy, Profile, Profiles,
    Selector, State, StorePath, Tag,
};

/// A machine of the fleet: its name, and how to deploy it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Host {
    /// Its attribute in the source.
    pub name: HostName,
    /// What selectors know it by.
    #[serde(default)]
    pub tags: BTreeSet<Tag>,
    /// Nix's name of its kind of machine, as `x86_64-linux`.
    pub system: String,
    /// How a new system comes to it.
    #[serde(default)]
    pub mode: Mode,
    /// Its own public keys, each a line as in `ssh_host_ed25519_key.pub`; none where its source does not say.
    #[serde(default)]
    pub public_keys: Vec<String>,
    /// How to reach it; `None` where it is deployed on itself only.
    pub target: Option<Target>,
    /// How who is not root there becomes it, also by a command that runs on itself.
    #[serde(default)]
    pub privilege: Privilege,
    /// Its profiles beside the system, in the order in which they are activated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
    /// Whether it gets these only, and no system.
    #[serde(default)]
    pub profiles_only: bool,
    /// How long an activation may take there, where its source says that apart from its system.
    #[serde(default)]
    pub limits: Limits,
    /// Whom it goes after, where a push brings both to something new.
    #[serde(default)]
    pub after: Vec<Selector>,
    /// Whether it builds what it is to run itself, where a push brings it there.
    #[serde(default)]
    pub build_on_target: bool,
    /// Whether what it boots may be replaced, whoever has made that.
    #[serde(default = "yes")]
    pub replace_unknown_profiles: bool,
    /// Whether it may be deployed by a command that runs on itself.
    #[serde(default)]
    pub allow_local_deployment: bool,
    /// What its source asks for and bosco does not do: names of options.
    #[serde(default)]
    pub ignored: Vec<String>,
}

impl Host {
    /// A host of which its source says nothing but what kind of machine it is: it is pushed to, and nothing says where.
    #[must_use]
    pub fn new(name: HostName, system: &str) -> Self {
        Self {
            name,
            tags: BTreeSet::new(),
            system: system.to_owned(),
            mode: Mode::default(),
            public_keys: Vec::new(),
            target: None,
            privilege: Privilege::default(),
            profiles: Vec::new(),
            profiles_only: false,
            limits: Limits::default(),
            after: Vec::new(),
            build_on_target: false,
            replace_unknown_profiles: yes(),
            allow_local_deployment: false,
            ignored: Vec::new(),
        }
    }
}

/// How long an activation may take, in seconds, where who asks for it says so; else it is the system's to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// From its beginning until it is proven.
    pub activation: Option<u64>,
    /// From the switch until there is a fresh connection.
    pub confirm: Option<u64>,
}

fn yes() -> bool {
    true
}

/// All that a source declares of a host: how to deploy it, and what it should run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Declaration {
    /// The machine.
    pub host: Host,
    /// What makes its toplevel.
    pub derivation: DerivationPath,
    /// The NixOS system that it should run; of a host that gets profiles only, what the first of them should be.
    pub toplevel: StorePath,
    /// What its profiles should be.
    #[serde(default)]
    pub profiles: Vec<DeclaredProfile>,
    /// When it updates by itself.
    #[serde(default)]
    pub policy: Policy,
    /// What secrets go with it.
    #[serde(default)]
    pub secrets: DeclaredSecrets,
}

impl Declaration {
    /// What is to be activated beside its system.
    #[must_use]
    pub fn others(&self) -> Profiles {
        let all = self.profiles.iter().map(|declared| declared.at.clone()).collect();
        Profiles { all, only: self.host.profiles_only }
    }

    /// All that it should have in its store, its toplevel first.
    #[must_use]
    pub fn paths(&self) -> Vec<StorePath> {
        let others = self.profiles.iter().map(|declared| &declared.at.path);
        let others = others.filter(|path| **path != self.toplevel);
        std::iter::once(&self.toplevel).chain(others).cloned().collect()
    }

    /// What makes all that.
    #[must_use]
    pub fn derivations(&self) -> Vec<&DerivationPath> {
        let others = self.profiles.iter().map(|declared| &declared.derivation);
        std::iter::once(&self.derivation).chain(others.filter(|one| **one != self.derivation)).collect()
    }

    /// How it stands, by what it says of itself.
    #[must_use]
    pub fn state(&self, observed: &Observed) -> State {
        State::with(&self.toplevel, &self.others(), observed)
    }
}

/// How an operator reaches a host by SSH. What is `None` is left to the operator's ssh configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// A name or address that `ssh` understands.
    pub host: String,
    /// Who to log in as.
    pub user: Option<String>,
    /// The port of the host's sshd.
    pub port: Option<u16>,
    /// Further arguments of `ssh`, before the host's name.
    #[serde(default)]
    pub ssh_options: Vec<String>,
    /// How the user becomes root.
    pub privilege: Privilege,
}

/// How the user of a [`Target`] becomes root: the words that stand before a command; none where it is root already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Privilege(pub Vec<String>);

impl Target {
    /// What to call it in a message: `user@host:port`, as far as known.
    #[must_use]
    pub fn display(&self) -> String {
        let user = self.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        format!("{user}{}{port}", self.host)
    }
}
