//! What changes on hosts from one system to another: which systems are to be read here, and which were told of.

use std::collections::{BTreeSet, HashMap};

use bosco_model::{Difference, HostName, StorePath, System, alike};
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
}

/// What changes on a host.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Compared {
    pub(crate) host: HostName,
    pub(crate) before: StorePath,
    pub(crate) after: StorePath,
    /// `None` where one of the two is not known.
    pub(crate) difference: Option<Difference>,
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
pub(crate) async fn running(
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
        Compared {
            host: pair.host.clone(),
            before: pair.before.toplevel().clone(),
            after: pair.after.toplevel().clone(),
            difference: both.map(|(before, after)| Difference::between(before, after, pair.active.as_ref())),
        }
    };
    Ok(pairs.iter().map(compared).collect())
}

/// What changes, for people.
pub(crate) struct Grouped<'a> {
    /// Hosts that have the same to say, with what each has.
    pub(crate) alike: Vec<(Vec<&'a HostName>, Vec<Difference>)>,
    /// Those of which nothing is known.
    pub(crate) unknown: Vec<&'a HostName>,
}

/// Puts together the hosts that have the same to say.
pub(crate) fn grouped(compared: &[Compared]) -> Grouped<'_> {
    let known = compared.iter().filter_map(|one| Some((&one.host, one.difference.clone()?)));
    let unknown = compared.iter().filter(|one| one.difference.is_none()).map(|one| &one.host);
    Grouped { alike: alike(known), unknown: unknown.collect() }
}
