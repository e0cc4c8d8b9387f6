//! Doing it: the steps of a switch, in NixOS' order.

use crate::PARENT_EXE;
use crate::action::Action;
use crate::fstab::{Fstab, MountChange};
use crate::lists::{self, List};
use crate::plan::{Active, Plan, World};
use crate::say::{say, say_units};
use crate::systemd::Systemd;
use crate::units::Folder;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs::{File, Permissions, TryLockError};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The exit codes that mean something.
const ACTIVATION_FAILED: u8 = 2;
const UNITS_FAILED: u8 = 4;
const REBOOT_NEEDED: u8 = 100;
/// Without a NixOS, and without the lock, NixOS' own ends with the number of the error that it met.
const NOT_NIXOS: u8 = 2;
const LOCKED: u8 = 11;

const CURRENT: &str = "/run/current-system";
const SYSINIT_REACTIVATION: &str = "sysinit-reactivation.target";

/// What the toplevel's wrapper says of itself.
struct Toplevel {
    out: PathBuf,
    toplevel: PathBuf,
    distro_id: String,
    pre_switch_check: String,
    install_bootloader: String,
    systemd: PathBuf,
}

impl Toplevel {
    fn from_env() -> Result<Self> {
        let get = |name: &str| {
            std::env::var(name).with_context(|| format!("missing required environment variable ${name}"))
        };
        Ok(Self {
            out: get("OUT")?.into(),
            toplevel: get("TOPLEVEL")?.into(),
            distro_id: get("DISTRO_ID")?,
            pre_switch_check: get("PRE_SWITCH_CHECK")?,
            install_bootloader: get("INSTALL_BOOTLOADER")?,
            systemd: get("SYSTEMD")?.into(),
        })
    }
}

fn asked(variable: &str) -> bool {
    std::env::var(variable).is_ok_and(|value| value == "1")
}

/// Carries an action out. Returns the exit code.
pub(crate) fn run(action: Action) -> Result<u8> {
    let system = Toplevel::from_env()?;
    if !is_nixos(&system.distro_id)? {
        say("This is not a NixOS installation!");
        return Ok(NOT_NIXOS);
    }
    std::fs::create_dir_all(lists::RUN).context("Failed to create /run/nixos directory")?;
    std::fs::set_permissions(lists::RUN, Permissions::from_mode(0o755))
        .context("Failed to set permissions on /run/nixos directory")?;
    let lock = File::options()
        .append(true)
        .create(true)
        .open(Path::new(lists::RUN).join("switch-to-configuration.lock"))
        .context("Could not open lock")?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say("Could not acquire lock");
            return Ok(LOCKED);
        }
        Err(TryLockError::Error(error)) => return Err(error).context("Could not acquire lock"),
    }

    if !asked("NIXOS_NO_CHECK") && !succeeds(&system.pre_switch_check, &system.toplevel, action, true) {
        say("Pre-switch checks failed");
        return Ok(1);
    }
    if action == Action::Check {
        return Ok(0);
    }
    if matches!(action, Action::Switch | Action::Boot)
        && !succeeds(&system.install_bootloader, &system.toplevel, action, false)
    {
        say("Failed to install bootloader");
        return Ok(1);
    }
    if !asked("NIXOS_NO_SYNC") {
        let store = File::open("/nix/store").context("Failed to open /nix/store")?;
        rustix::fs::syncfs(store).context("Failed to sync /nix/store")?;
    }
    // From here on there must be a running system.
    if action == Action::Boot {
        return Ok(0);
    }
    activate(action, &system)
}

/// A machine is NixOS by a file of its own, or by its os-release.
fn is_nixos(distro_id: &str) -> Result<bool> {
    let release = std::fs::read_to_string("/etc/os-release").context("Failed to read /etc/os-release")?;
    let id = release.lines().find_map(|line| line.strip_prefix("ID=")).map(|id| id.trim_matches('"'));
    Ok(Path::new("/etc/NIXOS").is_file() || id == Some(distro_id))
}

/// Runs one of the system's own commands on the toplevel.
fn succeeds(command: &str, toplevel: &Path, action: Action, with_action: bool) -> bool {
    let mut words = command.split_whitespace();
    let Some(program) = words.next() else { return false };
    let mut command = Command::new(program);
    command.args(words).arg(toplevel).env("NIXOS_ACTION", action.word());
    if with_action {
        command.arg(action.word());
    }
    command.status().is_ok_and(|status| status.success())
}

fn activate(action: Action, system: &Toplevel) -> Result<u8> {
    let current_bin =
        Path::new(CURRENT).join("sw/bin").canonicalize().context("/run/current-system/sw/bin is missing")?;
    let current_init =
        std::fs::read_to_string(Path::new(CURRENT).join("init-interface-version")).unwrap_or_default();
    let new_init = std::fs::read_to_string(system.toplevel.join("init-interface-version"))
        .context("File init-interface-version should exist")?;
    if current_init != new_init {
        say("Warning: the new NixOS configuration has an ‘init’ that is\n\
             incompatible with the current configuration.  The new configuration\n\
             won't take effect until you reboot the system.\n");
        return Ok(REBOOT_NEEDED);
    }

    let systemd = Systemd::new(&system.systemd);
    let current = Folder::new("/etc/systemd/system");
    let new = Folder::new(system.toplevel.join("etc/systemd/system"));
    let active = systemd.active()?;
    let world =
        World { active: &active, current: &current, new: &new, show_all: asked("STC_DISPLAY_ALL_UNITS") };
    let mut plan = Plan::resumed();
    plan.compare(&world)?;
    let (old_fstab, new_fstab) = (fstab(Path::new("/etc/fstab")), fstab(&system.toplevel.join("etc/fstab")));
    plan.mounts(with_unit_names(old_fstab.changes_to(&new_fstab), &current_bin)?);
    for device in old_fstab.swaps_gone(&new_fstab) {
        if action == Action::DryActivate {
            say(&format!("would stop swap device: {device}"));
        } else {
            say(&format!("stopping swap device: {device}"));
            _ = Command::new("swapoff").arg(&device).status();
        }
    }
    let renew = must_renew_systemd(system)?;

    if action == Action::DryActivate {
        dry_run(system, &world, &mut plan, renew)?;
        return Ok(0);
    }
    lists::write_down(&plan.take_notes());
    log(&format!("switching to system configuration {}", system.toplevel.display()));
    let code = carry_out(action, system, &systemd, &world, &mut plan, renew)?;
    log(&match code {
        0 => format!("finished switching to system configuration {}", system.toplevel.display()),
        code => {
            format!("switching to system configuration {} failed (status {code})", system.toplevel.display())
        }
    });
    Ok(code)
}

fn fstab(path: &Path) -> Fstab {
    Fstab::parse(&std::fs::read_to_string(path).unwrap_or_default())
}

/// The mount unit of each mount point, as the running systemd names it.
fn with_unit_names(changes: Vec<MountChange>, bin: &Path) -> Result<Vec<(MountChange, String)>> {
    changes
        .into_iter()
        .map(|change| {
            let (MountChange::Reload(point)
            | MountChange::Restart(point)
            | MountChange::Stop(point)
            | MountChange::Leave(point)) = &change;
            let output = Command::new(bin.join("systemd-escape"))
                .args(["--suffix=mount", "-p", point])
                .output()
                .with_context(|| format!("Unable to escape {point}!"))?;
            let unit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Ok((change, unit))
        })
        .collect()
}

/// Whether the new system has another systemd, or another configuration of it.
fn must_renew_systemd(system: &Toplevel) -> Result<bool> {
    let resolved = |path: &Path| path.canonicalize().unwrap_or_else(|_| PathBuf::from("/unknown"));
    let new = system.systemd.join("lib/systemd/systemd");
    let new = new.canonicalize().with_context(|| format!("{} is missing", new.display()))?;
    Ok(resolved(Path::new("/proc/1/exe")) != new
        || resolved(Path::new("/etc/systemd/system.conf"))
            != resolved(&system.toplevel.join("etc/systemd/system.conf")))
}

/// What the activation script asks for; asking is over once it is read.
fn take_asked(prefix: &str) -> Result<(Vec<String>, Vec<String>)> {
    let take = |what: &str| -> Result<Vec<String>> {
        let path = Path::new(lists::RUN).join(format!("{prefix}activation-{what}-list"));
        let units = lists::read(&path);
        lists::remove(&path).with_context(|| format!("Failed to remove {}", path.display()))?;
        Ok(units)
    };
    Ok((take("restart")?, take("reload")?))
}

fn dry_run(system: &Toplevel, world: &World<'_>, plan: &mut Plan, renew: bool) -> Result<()> {
    say_units("would stop the following units", &plan.stop_shown());
    say_units("would NOT stop the following changed units", &plan.skip);
    say("would activate the configuration...");
    _ = Command::new(system.out.join("dry-activate"))
        .arg(&system.out)
        .env("NIXOS_ACTION", Action::DryActivate.word())
        .status();
    let (restart, reload) = take_asked("dry-")?;
    plan.asked(world, &restart, &reload)?;
    if renew {
        say("would restart systemd");
    }
    say_units("would reload the following units", &plan.reload);
    say_units("would restart the following units", &plan.restart);
    say_units("would start the following units", &plan.start_shown());
    Ok(())
}

fn carry_out(
    action: Action,
    system: &Toplevel,
    systemd: &Systemd,
    world: &World<'_>,
    plan: &mut Plan,
    renew: bool,
) -> Result<u8> {
    let mut activated = true;
    let mut units_well = true;
    say_units("stopping the following units", &plan.stop_shown());
    units_well &= systemd.jobs("stop", &plan.stop)?;
    say_units("NOT restarting the following changed units", &plan.skip);

    say("activating the configuration...");
    let script = Command::new(system.out.join("activate"))
        .arg(&system.out)
        .env("NIXOS_ACTION", action.word())
        .status();
    // A toplevel may have no activation script; one that has failed does not stop the rest.
    if script.is_ok_and(|status| !status.success()) {
        say("Failed to run activate script");
        activated = false;
    }
    let (restart, reload) = take_asked("")?;
    plan.asked(world, &restart, &reload)?;
    lists::write_down(&plan.take_notes());

    if renew {
        say("restarting systemd...");
        systemd.reexecute()?;
    }
    systemd.manage("reset-failed")?;
    systemd.manage("daemon-reload")?;
    reload_users(system, systemd)?;

    say(&format!("restarting {SYSINIT_REACTIVATION}"));
    units_well &= systemd.jobs("restart", &BTreeSet::from([SYSINIT_REACTIVATION.to_owned()]))?;

    // A unit may have gone with something that it needs.
    for unit in plan.reload.clone() {
        if !systemd.is_active(&unit)? {
            plan.start_instead_of_reload(&unit, &world.new.load(&unit, &unit)?);
        }
    }
    lists::write_down(&plan.take_notes());
    for (verb, words, units, list) in [
        ("reload", "reloading the following units", &plan.reload, List::Reload),
        ("restart", "restarting the following units", &plan.restart, List::Restart),
    ] {
        say_units(words, units);
        units_well &= systemd.jobs(verb, units)?;
        list.remove().context("Failed to remove a list of units")?;
    }
    say_units("starting the following units", &plan.start_shown());
    units_well &= systemd.jobs("start", &plan.start)?;
    List::Start.remove().context("Failed to remove a list of units")?;

    units_well &= report(systemd, world.active)?;
    Ok(match (units_well, activated) {
        (false, _) => UNITS_FAILED,
        (true, false) => ACTIVATION_FAILED,
        (true, true) => 0,
    })
}

/// Gives each logged-in user's systemd the new units. What happens there fails nothing here.
fn reload_users(system: &Toplevel, systemd: &Systemd) -> Result<()> {
    let myself =
        Path::new("/proc/self/exe").canonicalize().context("Failed to get full path to /proc/self/exe")?;
    for user in systemd.users().context("Unable to list users with logind")? {
        say(&format!("reloading user units for {}...", user.name));
        Command::new(&myself)
            .uid(user.uid)
            .gid(user.gid)
            .env_clear()
            .env("XDG_RUNTIME_DIR", &user.runtime)
            .env("SYSTEMCTL", system.systemd.join("bin/systemctl"))
            .env(PARENT_EXE, &myself)
            .status()
            .with_context(|| format!("Failed to run user activation for {}", user.name))?;
    }
    Ok(())
}

/// Says which units are new and which have failed, once all is quiet. False if any has.
fn report(systemd: &Systemd, before: &Active) -> Result<bool> {
    let mut new = BTreeSet::new();
    let mut failed = BTreeSet::new();
    for (unit, state) in systemd.settle()? {
        let again = state.sub == "auto-restart" && unit.ends_with(".service");
        if state.active == "failed" || (again && systemd.has_failed_before(&unit)?) {
            failed.insert(unit);
        } else if !before.contains_key(&unit) && !unit.ends_with(".scope") {
            new.insert(unit);
        }
    }
    say_units("the following new units were started", &new);
    say_units("warning: the following units failed", &failed);
    if !failed.is_empty() {
        systemd.show_status(&failed);
    }
    Ok(failed.is_empty())
}

/// A line for the journal.
fn log(line: &str) {
    if let Ok(socket) = UnixDatagram::unbound() {
        _ = socket.send_to(format!("<14>nixos: {line}").as_bytes(), "/dev/log");
    }
}
