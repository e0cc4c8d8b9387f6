//! What changes on hosts from one system to another: which systems are to be read here, and which were told of.

use std::collections::{BTreeSet, HashMap};

use bosco_model::{Declaration, Difference, Digest, HostName, Observed, StorePath, System, alike};
use bosco_nix::Nix;
use bosco_session::Session;
use serde::Serialize;

/// A system that is to be compared.
pub(crate) enum Side {
    /// It is in the store here.
    Here(StorePath),
    /// Somebody else has told of it.
    Told(Box<System>),
    /// Nobody has it who could be asked.
    Unknown(StorePath),
}

/// A host on its way from one system to another.
pub(crate) struct Pair {
    pub(crate) host: HostName,
    pub(crate) before: Side,
    pub(crate) after: Side,
    /// The units that are active there, where it was asked.
    pub(crate) active: Option<BTreeSet<String>>,
    pub(crate) beside: Beside,
    /// What the host has said of itself, where it was asked.
    pub(crate) observed: Option<Box<Observed>>,
}

/// What changes beside a system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Beside {
    /// Profiles that are to name something else.
    pub(crate) profiles: Vec<OtherProfile>,
    /// Whether there are to be other secrets.
    pub(crate) secrets: bool,
}

/// A profile that is to name something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OtherProfile {
    /// `USER/NAME`.
    pub(crate) profile: String,
    pub(crate) before: Option<StorePath>,
    pub(crate) after: StorePath,
}

impl Beside {
    /// What is to change on a host beside its system, with those secrets where it is to have some.
    pub(crate) fn of(declared: &Declaration, secrets: Option<Digest>, observed: &Observed) -> Self {
        let profiles = declared.profiles.iter().map(|declared| &declared.at).filter_map(|one| {
            let has = observed.profiles.iter().find(|has| has.profile.is(&one.profile));
            let (before, after) = (has.map(|has| has.path.clone()), one.path.clone());
            let profile = format!("{}/{}", one.profile.user, one.profile.name);
            (before.as_ref() != Some(&after)).then_some(OtherProfile { profile, before, after })
        });
        Self { profiles: profiles.collect(), secrets: secrets.is_some() && secrets != observed.secrets }
    }
}

/// What changes on a host.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Compared {
    pub(crate) host: HostName,
    pub(crate) before: StorePath,
    pub(crate) after: StorePath,
    /// `None` where one of the two is not known.
    pub(crate) difference: Option<Difference>,
    #[serde(flatten)]
    pub(crate) beside: Beside,
}

impl Compared {
    /// Whether its system stays the same.
    pub(crate) fn keeps_system(&self) -> bool {
        self.before == self.after
    }
}

impl Side {
    fn toplevel(&self) -> &StorePath {
        match self {
            Self::Here(path) | Self::Unknown(path) => path,
            Self::Told(system) => &system.toplevel,
        }
    }

    fn system<'a>(&'a self, here: &'a HashMap<StorePath, System>) -> Option<&'a System> {
        match self {
            Self::Here(path) => here.get(path),
            Self::Told(system) => Some(system),
            Self::Unknown(_) => None,
        }
    }
}

/// What a host runs, as far as it has to tell of that itself, and the units that are active there.
async fn running(
    nix: &Nix,
    session: &mut Session,
    current: &StorePath,
) -> Result<(Side, Option<BTreeSet<String>>), bosco_session::Error> {
    let active = Some(session.active().await?).filter(|active| !active.is_empty());
    if !nix.is_there(std::slice::from_ref(current)).await.is_empty() {
        return Ok((Side::Here(current.clone()), active));
    }
    let told = session.describe(current).await?;
    let unknown = || Side::Unknown(current.clone());
    Ok((told.map_or_else(unknown, |system| Side::Told(Box::new(system))), active))
}

/// A host with what it is and what it is to be. `None` where it does not say what it runs.
pub(crate) async fn compared(
    nix: &Nix,
    session: &mut Session,
    declared: &Declaration,
    secrets: Option<Digest>,
    observed: &Observed,
    after: Side,
) -> Result<Option<Pair>, bosco_session::Error> {
    // Where only profiles are wanted, or nothing but secrets, the system stays what it is.
    let keeps = declared.host.profiles_only || observed.current.as_ref() == Some(&declared.toplevel);
    let (before, active) = match &observed.current {
        _ if keeps => (Side::Unknown(declared.toplevel.clone()), None),
        Some(current) => running(nix, session, current).await?,
        None => return Ok(None),
    };
    let after = if keeps { Side::Unknown(declared.toplevel.clone()) } else { after };
    Ok(Some(Pair {
        host: declared.host.name.clone(),
        before,
        after,
        active,
        beside: Beside::of(declared, secrets, observed),
        observed: Some(Box::new(observed.clone())),
    }))
}

/// Compares all pairs, in their order.
pub(crate) async fn compare(nix: &Nix, pairs: &[Pair]) -> Result<Vec<Compared>, bosco_nix::Error> {
    let sides = pairs.iter().flat_map(|pair| [&pair.before, &pair.after]);
    let here: BTreeSet<StorePath> = sides
        .filter_map(|side| if let Side::Here(path) = side { Some(path.clone()) } else { None })
        .collect();
    let systems = nix.systems(&here.into_iter().collect::<Vec<_>>()).await?;
    let here: HashMap<StorePath, System> =
        systems.into_iter().map(|system| (system.toplevel.clone(), system)).collect();
    let compared = |pair: &Pair| {
        let both = pair.before.system(&here).zip(pair.after.system(&here));
        let between = |(before, after): (&System, &System)| {
            let difference = Difference::between(before, after, pair.active.as_ref());
            match &pair.observed {
                Some(seen) => difference.since_boot(before, after, &seen.current_kernel, &seen.booted_kernel),
                None => difference,
            }
        };
        Compared {
            host: pair.host.clone(),
            before: pair.before.toplevel().clone(),
            after: pair.after.toplevel().clone(),
            difference: both.map(between),
            beside: pair.beside.clone(),
        }
    };
    Ok(pairs.iter().map(compared).collect())
}

/// Hosts that have the same to say of what changes, for people.
pub(crate) struct Group<'a> {
    pub(crate) hosts: Vec<&'a HostName>,
    /// What each has, where their systems change; `None` where one of the two is not known.
    pub(crate) systems: Option<Vec<Difference>>,
    /// Whether their systems stay the same.
    pub(crate) keeps_system: bool,
    pub(crate) beside: &'a Beside,
}

/// Puts together the hosts that have the same to say, those last of whose systems nothing is known.
pub(crate) fn grouped(compared: &[Compared]) -> Vec<Group<'_>> {
    let mut besides: Vec<(&Beside, bool)> = Vec::new();
    for one in compared {
        let key = (&one.beside, one.keeps_system());
        if !besides.contains(&key) {
            besides.push(key);
        }
    }
    let (mut groups, mut unknown) = (Vec::new(), Vec::new());
    for (beside, keeps_system) in besides {
        let those =
            || compared.iter().filter(|one| one.beside == *beside && one.keeps_system() == keeps_system);
        let group = |hosts, systems| Group { hosts, systems, keeps_system, beside };
        if keeps_system {
            groups.push(group(those().map(|one| &one.host).collect(), None));
            continue;
        }
        let known = those().filter_map(|one| Some((&one.host, one.difference.clone()?)));
        groups.extend(alike(known).into_iter().map(|(hosts, systems)| group(hosts, Some(systems))));
        let hosts: Vec<_> = those().filter(|one| one.difference.is_none()).map(|one| &one.host).collect();
        if !hosts.is_empty() {
            unknown.push(group(hosts, None));
        }
    }
    groups.extend(unknown);
    groups
}
