//! Secrets on the host: kept as ciphertext, opened into memory whenever a system is activated, at a switch as at a boot.
//!
//! Where the system has a script for it (`nix/modules/secrets.nix`), that runs `helper secrets install`; for all others the
//! activation itself puts `deployment.keys` in their places. What is open never is in a file of a disk, an argument, an
//! environment, a log or an error.

mod accounts;
mod declared;
mod files;
mod identities;
mod inventory;
mod kept;
mod keys;
mod system;

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use bosco_activation::Attempt;
use bosco_model::Digest;
use bosco_secrets::{Bundle, Changes, MAX_BUNDLE, NotPlaced, Trouble, UnitName, UploadAt};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use self::identities::{Age, Identities};
use self::inventory::Inventory;
use crate::places::Places;

pub(crate) use kept::prune;
pub use kept::{has, keep};

/// How many reasons are told why secrets can't be had.
const MOST_TOLD: usize = 5;

/// `helper secrets VERB …`: what an operator's session, a system's activation script and its units ask for.
pub(crate) fn main(places: &Places, words: &[&str]) -> ExitCode {
    let came = match words {
        ["keep", digest] => take_in(places, digest),
        ["install", toplevel] => install(places, Path::new(toplevel), false),
        ["install", "--for-users", toplevel] => install(places, Path::new(toplevel), true),
        ["present", name] => Inventory::load(places).present(name),
        _ => Err("the helper does not know what it is asked".into()),
    };
    match came {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say(&why);
            ExitCode::FAILURE
        }
    }
}

/// Where an activation script or a unit has its words.
#[allow(clippy::print_stderr)] // They are for a log.
fn say(text: &str) {
    eprintln!("bosco: {text}");
}

/// Nobody may look into this process, nor may its memory be written to a disk where it ends badly.
fn close_to_others() {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

fn take_in(places: &Places, digest: &str) -> Result<(), String> {
    let digest = Digest::parse(digest).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let input = std::io::stdin().lock().take(MAX_BUNDLE as u64 + 1);
    { input }.read_to_end(&mut bytes).map_err(|error| format!("the secrets did not come: {error}"))?;
    keep(places, digest, &bytes)
}

/// What a system that installs its secrets by itself runs: at a switch before its units are started, at a boot before any is.
fn install(places: &Places, toplevel: &Path, for_users: bool) -> Result<(), String> {
    close_to_others();
    let mut system = declared::of(toplevel)?.unwrap_or_default();
    if for_users {
        system.declared.secrets.retain(|secret| secret.needed_for_users);
        system.declared.templates.clear();
    }
    identities::generate(places, &system.age)?;
    let bundle = kept::in_use(places, toplevel)?;
    let identities = Identities::of(places, &system.age);
    let open = system::open(&system.declared, bundle.as_ref(), &identities, false)?;
    let keys = match &bundle {
        Some(bundle) if !for_users => keys::open(bundle, None, &identities)?,
        _ => Vec::new(),
    };
    let mut inventory = Inventory::load(places);
    inventory.absent.clear();
    let changes = system::put(places, &open, for_users, &mut inventory)?;
    if !for_users {
        keys::put(places, &keys, false, &mut inventory)?;
        keys::remove_others(places, bundle.as_ref(), &mut inventory);
        for name in system.keys.iter().filter(|name| !inventory.keys.contains_key(*name)) {
            inventory
                .absent
                .insert(name.clone(), "it is not among what was brought to this host last".into());
        }
    }
    for (name, why) in inventory.absent.iter().filter(|_| !for_users) {
        say(&format!("the secret `{name}` is left out: {why}"));
    }
    inventory.save(places)?;
    if is_switch() { system::tell_switch(places, &with_units(toplevel, &inventory, changes)) } else { Ok(()) }
}

/// Whether a switch is under way, and neither a boot nor a dry activation.
fn is_switch() -> bool {
    std::env::var("NIXOS_ACTION").is_ok_and(|action| matches!(action.as_str(), "switch" | "test"))
}

/// With the units of secrets that have come or gone, as far as the system has them.
fn with_units(toplevel: &Path, inventory: &Inventory, mut changes: Changes) -> Changes {
    let names = inventory.came.iter().chain(&inventory.went);
    let units = names.map(|name| unit_of(name));
    let there = units.filter(|unit| toplevel.join("etc/systemd/system").join(unit).exists());
    changes.restart.extend(there.filter_map(|unit| UnitName::parse(&unit).ok()));
    changes
}

/// The unit that is active while a secret is there.
fn unit_of(name: &str) -> String {
    format!("{}-key.service", name.replace('/', "-"))
}

/// The units of secrets that were revoked after the system was made which runs: that they fail says nothing against it.
pub(crate) fn units_without(places: &Places) -> Vec<String> {
    Inventory::load(places).absent.keys().map(|name| unit_of(name)).collect()
}

/// Why secrets can't be put in their places: of many reasons the first few, each with all whose it is.
fn why(failed: &[NotPlaced]) -> String {
    let mut reasons: Vec<(&Trouble, &str, Vec<&str>)> = Vec::new();
    for NotPlaced { what, name, trouble } in failed {
        match reasons.iter_mut().find(|(known, of, _)| *known == trouble && of == what) {
            Some((.., names)) => names.push(name),
            None => reasons.push((trouble, what, vec![name])),
        }
    }
    // What only needs another one says nothing more.
    if reasons.iter().any(|(trouble, ..)| !matches!(trouble, Trouble::Needs(_))) {
        reasons.retain(|(trouble, ..)| !matches!(trouble, Trouble::Needs(_)));
    }
    let told = reasons.iter().take(MOST_TOLD).map(|(trouble, what, names)| {
        let more = if names.len() > 1 { format!(" and {} more", names.len() - 1) } else { String::new() };
        format!("{what} `{}`{more}: {trouble}", names.first().copied().unwrap_or_default())
    });
    let told: Vec<String> = told.collect();
    let rest = reasons.len().saturating_sub(MOST_TOLD);
    if rest > 0 { format!("{}; and {rest} more reasons", told.join("; ")) } else { told.join("; ") }
}

fn put_keys(
    places: &Places,
    bundle: Option<&Bundle>,
    at: Option<UploadAt>,
    identities: &Identities,
    inventory: &mut Inventory,
) -> Result<(), String> {
    if let Some(bundle) = bundle {
        let open = keys::open(bundle, at, identities)?;
        keys::put(places, &open, at == Some(UploadAt::PreActivation), inventory)?;
    }
    keys::remove_others(places, bundle, inventory);
    Ok(())
}

/// Puts the keys of a system in their places that does not do that by itself: those for before or after its activation.
///
/// # Errors
/// In words.
pub(crate) fn beside_switch(places: &Places, system: &Path, at: UploadAt) -> Result<(), String> {
    if declared::of(system)?.is_some() {
        return Ok(());
    }
    close_to_others();
    let bundle = kept::in_use(places, system)?;
    let mut inventory = Inventory::load(places);
    if bundle.is_none() && inventory.keys.is_empty() {
        return Ok(());
    }
    let identities = Identities::of(places, &Age::default());
    put_keys(places, bundle.as_ref(), Some(at), &identities, &mut inventory)?;
    inventory.save(places)
}

/// That a candidate will have all its secrets: before anything is changed for it.
///
/// # Errors
/// In words, with the secret that can't be opened, and why.
pub(crate) fn check(places: &Places, attempt: &Attempt) -> Result<(), String> {
    let Some(digest) = attempt.request.secrets else { return Ok(()) };
    close_to_others();
    let bundle = kept::load(places, digest)?;
    let system = declared::of(attempt.request.toplevel.as_ref())?.unwrap_or_default();
    let identities = Identities::of(places, &system.age);
    system::open(&system.declared, Some(&bundle), &identities, true)?;
    keys::open(&bundle, None, &identities).map(drop)
}
