//! Secrets on the host: kept as ciphertext, opened into memory whenever a system is activated, at a switch as at a boot.
//!
//! Where the system has a script for it (`nix/modules/secrets.nix`), that runs `helper secrets install`; for all others the
//! activation itself puts `deployment.keys` in their places. What is open never is in a file of a disk, an argument, an
//! environment, a log or an error.

mod accounts;
mod declared;
mod files;
mod heard;
mod identities;
mod inventory;
mod kept;
mod keys;
mod system;
mod way;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use bosco_activation::{Attempt, Refused};
use bosco_model::Digest;
use bosco_secrets::{Bundle, Changes, Declared, MAX_BUNDLE, NotPlaced, Trouble, UploadAt};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use self::accounts::{Accounts, Made};
use self::declared::System;
use self::identities::{Age, Identities};
use self::inventory::Inventory;
use self::kept::InUse;
use crate::hands::goes_on;
use crate::memory::lock_switches;
use crate::places::Places;

pub(crate) use kept::{begun, prune};
pub use kept::{has, keep};

/// How long another switch may hold the lock while secrets have to go back, and how often that is tried.
const BACK_LOCK: Duration = Duration::from_secs(60);
const TRY: Duration = Duration::from_millis(200);
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

/// What becomes of what is not as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Nothing is well that is not all well: before anything is changed, and with what has come with the system.
    Whole,
    /// The same, but for what was revoked since the system was made.
    Switch,
    /// Nothing is there from before: all else is put in its place.
    Boot,
}

impl Rule {
    /// For who runs in an activation script. A boot says nothing of what it is; nor does somebody who starts the script by hand,
    /// where something is there already.
    fn of_script(places: &Places, for_users: bool, inventory: &Inventory) -> Self {
        let is_boot = std::env::var_os("NIXOS_ACTION").is_none()
            && inventory.keys.is_empty()
            && !system::is_there(places, for_users, inventory);
        if is_boot { Self::Boot } else { Self::Switch }
    }
}

/// What a system that installs its secrets by itself runs: at a switch before its units are started, at a boot before any is.
fn install(places: &Places, toplevel: &Path, for_users: bool) -> Result<(), String> {
    close_to_others();
    let mut system = declared::of(toplevel)?.unwrap_or_default();
    if for_users {
        system = system.for_users();
    }
    let mut inventory = Inventory::load(places);
    let rule = Rule::of_script(places, for_users, &inventory);
    let put = put_own(places, toplevel, &system, for_users, rule, &mut inventory);
    match &put {
        Err(why) => inventory.blame(system.names(), why),
        Ok(_) if for_users => {}
        Ok(_) => {
            for (name, why) in inventory.failed.iter().chain(&inventory.absent) {
                say(&format!("the secret `{name}` is left out: {why}"));
            }
        }
    }
    inventory.save(places)?;
    let changes = put?;
    if !is_switch() {
        return Ok(());
    }
    heard::tell_switch(places, &heard::with_units(toplevel, &inventory, heard::running(places, changes)))
}

fn put_own(
    places: &Places,
    toplevel: &Path,
    system: &System,
    for_users: bool,
    rule: Rule,
    inventory: &mut Inventory,
) -> Result<Changes, String> {
    match identities::generate(places, &system.age) {
        Err(why) if rule == Rule::Boot => say(&why),
        made => made?,
    }
    let InUse { bundle, own } = kept::in_use(places, toplevel)?;
    let rule = if own && rule == Rule::Switch { Rule::Whole } else { rule };
    let identities = Identities::of(places, &system.age);
    if for_users {
        let open = system::open(&system.declared, bundle.as_ref(), &identities, rule)?;
        let ready = open.owned(&Accounts::of(places), rule)?;
        system::expect(places, &ready, inventory);
        save(places, rule, inventory)?;
        return system::put(places, &ready, true, rule, inventory);
    }
    put_all(places, Some(system), bundle.as_ref(), &identities, rule, inventory)
}

/// Writes down what will be where. At a boot a full disk must not be why there are no secrets.
fn save(places: &Places, rule: Rule, inventory: &Inventory) -> Result<(), String> {
    match inventory.save(places) {
        Err(why) if rule == Rule::Boot => {
            say(&why);
            Ok(())
        }
        saved => saved,
    }
}

/// Puts all that a system is to have in its place, once all of it is open and it is known whose it is: what it declares, where it
/// installs that by itself, and the keys.
fn put_all(
    places: &Places,
    system: Option<&System>,
    bundle: Option<&Bundle>,
    identities: &Identities,
    rule: Rule,
    inventory: &mut Inventory,
) -> Result<Changes, String> {
    let accounts = Accounts::of(places);
    let mut failed = BTreeMap::new();
    let keys = match bundle {
        Some(bundle) => keys::ready(bundle, false, identities, &accounts, rule, &mut failed)?,
        None => Vec::new(),
    };
    let ready = match system {
        Some(system) => system::open(&system.declared, bundle, identities, rule)?.owned(&accounts, rule)?,
        None => system::Ready::default(),
    };
    keys::expect(places, &keys, inventory);
    system::expect(places, &ready, inventory);
    save(places, rule, inventory)?;
    let mut changes = Changes::default();
    if let Some(System { declared, .. }) = system {
        inventory.absent.clear();
        inventory.failed = failed;
        changes = system::put(places, &ready, false, rule, inventory)?;
        // No script puts those anywhere that are needed for users, where there are none any more.
        if !declared.secrets.iter().any(|secret| secret.needed_for_users) {
            system::put(places, &ready, true, rule, inventory)?;
        }
    }
    keys::put(places, &keys, rule, inventory)?;
    keys::remove_others(places, bundle, inventory);
    for name in system.iter().flat_map(|system| &system.keys) {
        if !inventory.keys.contains_key(name) && !inventory.failed.contains_key(name) {
            let why = "it is not among what was brought to this host last";
            inventory.absent.insert(name.clone(), why.into());
        }
    }
    Ok(changes)
}

/// Puts those secrets of a system that runs in their places that the journal says, without a switch. False where somebody
/// else is switching, who puts some there as well: nothing is done then.
///
/// # Errors
/// In words.
pub(crate) fn install_alone(places: &Places, toplevel: &Path) -> Result<bool, String> {
    close_to_others();
    let Some(_lock) = lock_switches(places)? else { return Ok(false) };
    let system = declared::of(toplevel)?;
    let bundle = kept::in_use(places, toplevel)?.bundle;
    let age = system.as_ref().map(|system| system.age.clone()).unwrap_or_default();
    let identities = Identities::of(places, &age);
    let mut inventory = Inventory::load(places);
    let (system, bundle) = (system.as_ref(), bundle.as_ref());
    let put = put_all(places, system, bundle, &identities, Rule::Switch, &mut inventory);
    // What is in its place already is known, also where the rest is not.
    inventory.save(places)?;
    put.map(|_| true)
}

/// The same on the way back, which waits for who is switching.
///
/// # Errors
/// In words.
pub(crate) fn install_again(places: &Places, toplevel: &Path, stop: &AtomicBool) -> Result<(), String> {
    let until = Instant::now() + BACK_LOCK;
    while !install_alone(places, toplevel)? {
        goes_on(stop)?;
        if Instant::now() >= until {
            return Err(Refused::Locked.to_string());
        }
        thread::sleep(TRY);
    }
    Ok(())
}

/// Whether a switch is under way, and neither a boot nor a dry activation.
fn is_switch() -> bool {
    std::env::var("NIXOS_ACTION").is_ok_and(|action| matches!(action.as_str(), "switch" | "test"))
}

/// The units of secrets that were revoked after the system was made which runs: that they fail says nothing against it.
pub(crate) fn units_without(places: &Places) -> Vec<String> {
    Inventory::load(places).absent.keys().map(|name| heard::unit_of(name)).collect()
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

/// Puts the keys of a system in their places that does not do that by itself: those for before its activation, or all of them
/// after it. Then nothing else is there any more either of what another system has installed by itself.
///
/// # Errors
/// In words.
pub(crate) fn beside_switch(places: &Places, system: &Path, at: UploadAt) -> Result<(), String> {
    if declared::of(system)?.is_some() {
        return Ok(());
    }
    close_to_others();
    let bundle = kept::in_use(places, system)?.bundle;
    let mut inventory = Inventory::load(places);
    if bundle.is_none() && inventory.is_empty() {
        return Ok(());
    }
    let put = put_beside(places, bundle.as_ref(), at, &mut inventory);
    inventory.save(places)?;
    put
}

fn put_beside(
    places: &Places,
    bundle: Option<&Bundle>,
    at: UploadAt,
    inventory: &mut Inventory,
) -> Result<(), String> {
    let early = at == UploadAt::PreActivation;
    if let Some(bundle) = bundle {
        let (identities, accounts) = (Identities::of(places, &Age::default()), Accounts::of(places));
        let mut failed = BTreeMap::new();
        let keys = keys::ready(bundle, early, &identities, &accounts, Rule::Switch, &mut failed)?;
        keys::expect(places, &keys, inventory);
        inventory.save(places)?;
        keys::put(places, &keys, Rule::Switch, inventory)?;
    }
    keys::remove_others(places, bundle, inventory);
    if !early {
        system::take_all_away(places, inventory);
    }
    Ok(())
}

/// That a candidate will have all its secrets: before anything is changed for it. Says whether they can be put in their places
/// under the system that runs, as no unit would hear of it.
///
/// # Errors
/// In words, with the secret that can't be opened, and why.
pub(crate) fn check(places: &Places, attempt: &Attempt) -> Result<bool, String> {
    let Some(digest) = attempt.request.secrets else { return Ok(false) };
    close_to_others();
    let bundle = kept::load(places, digest)?;
    let toplevel = attempt.request.toplevel.as_ref();
    let system = declared::of(toplevel)?;
    let age = system.as_ref().map(|system| system.age.clone()).unwrap_or_default();
    let identities = Identities::of(places, &age);
    // Where it runs already nobody is made any more.
    let runs = places.store_path(&places.current_system()) == Some(places.system(&attempt.request.toplevel));
    if let Some(made) = Made::by(places, toplevel).or_else(|| runs.then(Made::nobody)) {
        let declared = system.as_ref().map(|system| &system.declared);
        check_owners(&made, &Accounts::of(places), declared, &bundle)?;
    }
    // What is not there yet may be made by the candidate: whose a key is, is looked up where that is put in its place.
    let (_, failed) = bosco_secrets::keys(&bundle, &identities.found);
    if !failed.is_empty() {
        return Err(format!("{}; {}", why(&failed), identities.words()));
    }
    // As if it were there already; it is not saved.
    let mut inventory = Inventory::load(places);
    let mut changes = Some(Changes::default());
    if let Some(system) = &system {
        let open = system::open(&system.declared, Some(&bundle), &identities, Rule::Whole)?;
        changes = system::preview(places, &open, &mut inventory);
    }
    keys::preview(places, &bundle, &mut inventory);
    let heard = changes.map(|changes| heard::with_units(toplevel, &inventory, changes));
    Ok(heard.is_some_and(|Changes { restart, reload }| restart.is_empty() && reload.is_empty()))
}

/// That all secrets and keys will have an owner.
fn check_owners(
    made: &Made,
    accounts: &Accounts,
    declared: Option<&Declared>,
    bundle: &Bundle,
) -> Result<(), String> {
    if let Some(Declared { secrets, templates }) = declared {
        let secrets = secrets.iter().map(|secret| ("secret", &secret.name, &secret.owned));
        let templates = templates.iter().map(|template| ("template", &template.name, &template.owned));
        for (what, name, owned) in secrets.chain(templates) {
            let has = made.has(accounts, &owned.owner, &owned.group);
            has.map_err(|why| format!("the {what} `{name}`: {why}"))?;
        }
    }
    for (name, key) in bundle.keys() {
        made.has(accounts, &key.user, &key.group).map_err(|why| format!("the key `{name}`: {why}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
