//! GRUB: one menu, `grub.cfg`, as NixOS's install-grub.pl writes it, and `grubenv`, a file of 1024 bytes that GRUB itself
//! writes as well. The choice for one boot is the variable `next_entry` there; the menu takes it back before it boots.

mod menu;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bosco_model::StorePath;
use rustix::fs::{StatVfsMountFlags, major, minor, statfs, statvfs};

use super::{TOOL, read};
use crate::check::{closure, sync};
use crate::places::{CANDIDATE, Places};
use crate::run::{program, run, succeed};

use menu::Menu;

/// The variable of the choice for one boot.
const NEXT: &str = "next_entry";
/// The kinds of file systems that GRUB can write to, by their numbers in `statfs`: ext2 to ext4, FAT, XFS.
const WRITABLE: [u64; 3] = [0xef53, 0x4d44, 0x5846_5342];

pub(super) fn file(places: &Places) -> PathBuf {
    places.boot().join("grub/grub.cfg")
}

fn environment_file(places: &Places) -> PathBuf {
    places.boot().join("grub/grubenv")
}

fn menu(places: &Places) -> Option<Menu> {
    Menu::parse(&read(file(places))?)
}

/// A variable of `grubenv`.
fn variable(places: &Places, name: &str) -> Option<String> {
    parse_environment(&read(environment_file(places))?, name)
}

/// A variable in the text of `grubenv`: one a line, a backslash before what is meant as it stands.
fn parse_environment(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    let mut value = String::new();
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        value.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    (!value.is_empty()).then_some(value)
}

pub(super) fn default_toplevel(places: &Places) -> Option<StorePath> {
    menu(places)?.default_toplevel(variable(places, "saved_entry").as_deref())
}

/// Runs `grub-editenv` on the file of variables.
fn edit(places: &Places, tool: &Path, arguments: &[&str]) -> Result<(), String> {
    let file = environment_file(places);
    succeed(program(&tool.to_string_lossy()).arg(&file).args(arguments), TOOL)?;
    sync(&places.boot())
}

/// `grub-editenv`, which is in the PATH only where GRUB is installed to a disk. The running system's installer has it.
fn tool(places: &Places) -> Option<PathBuf> {
    const NAME: &str = "grub-editenv";
    if run(program(NAME).arg("--version"), TOOL).is_ok_and(|ran| ran.code == 0) {
        return Some(NAME.into());
    }
    let paths = closure(&places.current_system(), TOOL).ok()?;
    let grubs = paths.iter().filter(|path| path.contains("-grub-"));
    grubs.map(|path| Path::new(path).join("bin").join(NAME)).find(|tool| tool.exists())
}

pub(super) fn prepare_once(places: &Places, toplevel: &StorePath) -> Result<(), String> {
    let menu = menu(places).ok_or("GRUB's menu can't be read for sure")?;
    let entry = menu
        .candidate(CANDIDATE, toplevel)
        .ok_or_else(|| format!("the boot menu has no entry of its own for {toplevel}"))?;
    let tool = tool(places).ok_or("`grub-editenv` is not there")?;
    edit(places, &tool, &["set", &format!("{NEXT}={entry}")])?;
    match variable(places, NEXT) {
        Some(chosen) if chosen == entry => Ok(()),
        Some(other) => Err(format!("`{entry}` was chosen for one boot, and `{other}` is")),
        None => Err(format!("`{entry}` was chosen for one boot, and nothing is")),
    }
}

pub(super) fn clear_once(places: &Places) -> Result<(), String> {
    let is_chosen = || variable(places, NEXT).is_some_and(|chosen| menu::is_of_profile(&chosen, CANDIDATE));
    if !is_chosen() {
        return Ok(());
    }
    let tool =
        tool(places).ok_or("`grub-editenv` is not there, and the candidate is chosen for the next boot")?;
    edit(places, &tool, &["unset", NEXT])?;
    if is_chosen() { Err("the candidate is still chosen for the next boot".into()) } else { Ok(()) }
}

pub(super) fn can_boot_once(places: &Places) -> bool {
    menu(places).is_some_and(|menu| menu.takes_next)
        && can_be_written(places, &places.boot().join("grub")).unwrap_or(false)
        && tool(places).is_some()
}

/// Whether GRUB can write to a file in that folder. Where it can't, a choice for one boot is one for ever.
fn can_be_written(places: &Places, folder: &Path) -> Option<bool> {
    let kind = u64::try_from(statfs(folder).ok()?.f_type).ok()?;
    let is_writable = !statvfs(folder).ok()?.f_flag.contains(StatVfsMountFlags::RDONLY);
    let device = fs::metadata(folder).ok()?.dev();
    let device = places.block_devices().join(format!("{}:{}", major(device), minor(device)));
    // LVM, LUKS and RAID: GRUB reads through them, and does not write.
    let is_mapped = device.join("dm").exists() || device.join("md").exists();
    Some(WRITABLE.contains(&kind) && is_writable && !is_mapped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn variables_are_read_as_grub_writes_them() {
        let text = format!(
            "# GRUB Environment Block\nsaved_entry=\nnext_entry=a>b \\\\ 'c'\nx=y\n{}",
            "#".repeat(900)
        );
        assert_eq!(parse_environment(&text, NEXT).as_deref(), Some(r"a>b \ 'c'"));
        assert_eq!(parse_environment(&text, "x").as_deref(), Some("y"));
        assert_eq!(parse_environment(&text, "saved_entry"), None);
        assert_eq!(parse_environment(&text, "next"), None);
        assert_eq!(parse_environment("next_entry=a\\", NEXT).as_deref(), Some("a"));
    }

    #[test]
    fn only_the_choice_of_a_candidate_is_taken_back() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        assert_eq!(clear_once(&places), Ok(()), "there is no GRUB");
        dir.write("boot/grub/grubenv", "# GRUB Environment Block\nnext_entry=Windows\n####");
        assert_eq!(clear_once(&places), Ok(()), "somebody else's choice is left");
        assert_eq!(variable(&places, NEXT).as_deref(), Some("Windows"));
    }

    #[test]
    fn a_folder_that_is_not_there_can_not_be_written() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        assert_eq!(can_be_written(&places, &places.boot()), None);
        assert!(can_be_written(&places, dir.path()).is_some());
    }
}
