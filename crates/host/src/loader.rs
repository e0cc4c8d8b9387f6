//! What the boot loader boots: by default, and once. Its default is only ever read here; the system's own installer
//! writes it. Where its files say something that is not understood for sure, the answer is that it is not known.

mod grub;
mod systemd_boot;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bosco_model::StorePath;

use crate::places::Places;
use systemd_boot::variable;

/// How long a tool of a boot loader may take.
const TOOL: Duration = Duration::from_secs(60);

/// A kind of boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loader {
    /// systemd-boot, with an entry for each generation.
    SystemdBoot,
    /// GRUB, with one menu.
    Grub,
    /// None that is known, or more than one.
    Other,
}

impl Loader {
    /// The one that a host has, by its files.
    #[must_use]
    pub(crate) fn of(places: &Places) -> Self {
        let has_entries = systemd_boot::has_entries(places);
        let has_grub = grub::file(places).is_file();
        match (has_entries, has_grub) {
            (true, false) => Self::SystemdBoot,
            (false, true) => Self::Grub,
            (false, false) => Self::Other,
            // One of them was left behind when the machine got the other. A loader says who it is, if it can.
            (true, true) => match variable(places, "LoaderInfo") {
                Some(name) if name.starts_with("systemd-boot") => Self::SystemdBoot,
                Some(name) if name.starts_with("GRUB") => Self::Grub,
                None if !places.efi_variables().exists() => Self::Grub,
                _ => Self::Other,
            },
        }
    }
}

/// Where kernels are copied to, where they are.
pub(crate) fn boot_folder(places: &Places) -> PathBuf {
    match Loader::of(places) {
        Loader::SystemdBoot => systemd_boot::folder(places),
        Loader::Grub | Loader::Other => places.boot(),
    }
}

/// The system that boots where nobody chooses another one. `None`: that can't be said for sure.
#[must_use]
pub(crate) fn default_toplevel(places: &Places) -> Option<StorePath> {
    match Loader::of(places) {
        Loader::SystemdBoot => systemd_boot::default_toplevel(places),
        Loader::Grub => grub::default_toplevel(places),
        Loader::Other => None,
    }
}

/// Chooses the candidate for the next boot only. Its profile has to name it, and the installer of what boots by default
/// has to have run since.
///
/// # Errors
/// In words, where it has no entry of its own, or where the choice can't be made or is not there when it is read again.
pub(crate) fn prepare_once(places: &Places, toplevel: &StorePath) -> Result<(), String> {
    match Loader::of(places) {
        Loader::SystemdBoot => systemd_boot::prepare_once(places, toplevel),
        Loader::Grub => grub::prepare_once(places, toplevel),
        Loader::Other => Err("it is not known which boot loader the host has".into()),
    }
}

/// Takes the choice of a candidate back. There need not be one; one that somebody else has made, of another system, is
/// left.
///
/// # Errors
/// In words, where the candidate is still chosen afterwards.
pub(crate) fn clear_once(places: &Places) -> Result<(), String> {
    // Not only in what the host has now: an attempt may have begun with another one.
    systemd_boot::clear_once(places)?;
    grub::clear_once(places)
}

/// Whether a candidate can be booted once: the loader knows how, its tool is there, and what it writes can be taken back
/// by the loader itself. A choice that the loader could not take back would be booted for ever.
#[must_use]
pub(crate) fn can_boot_once(places: &Places) -> bool {
    match Loader::of(places) {
        Loader::SystemdBoot => systemd_boot::can_boot_once(places),
        Loader::Grub => grub::can_boot_once(places),
        Loader::Other => false,
    }
}

/// The system that a kernel's command line starts. `None`: it names none, or more than one.
fn init_of<'a>(words: impl Iterator<Item = &'a str>) -> Option<StorePath> {
    let mut inits = words.filter_map(|word| word.strip_prefix("init="));
    let init = inits.next()?;
    if inits.any(|other| other != init) {
        return None;
    }
    StorePath::parse(init.strip_suffix("/init")?).ok()
}

/// Reads a small file of a boot loader's.
fn read(path: PathBuf) -> Option<String> {
    const LONGEST: u64 = 8 * 1024 * 1024;
    if fs::metadata(&path).ok()?.len() > LONGEST {
        return None;
    }
    fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn a_loader_is_known_by_its_files_and_two_by_what_the_firmware_says() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        assert_eq!(Loader::of(&places), Loader::Other);
        assert_eq!(default_toplevel(&places), None);
        assert!(!can_boot_once(&places));
        assert_eq!(clear_once(&places), Ok(()), "nothing can have been chosen");
        dir.write("boot/grub/grub.cfg", "");
        assert_eq!(Loader::of(&places), Loader::Grub);
        dir.write("efi/loader/entries/nixos-generation-1.conf", "");
        assert_eq!(Loader::of(&places), Loader::Grub, "without EFI there is no systemd-boot");
        let name = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
        let utf16 = |text: &str| {
            [vec![6, 0, 0, 0], text.encode_utf16().flat_map(u16::to_le_bytes).collect()].concat()
        };
        dir.write(name, utf16("systemd-boot 257.5\0"));
        assert_eq!(Loader::of(&places), Loader::SystemdBoot);
        assert_eq!(boot_folder(&places), dir.path().join("efi"));
        dir.write(name, utf16("another one\0"));
        assert_eq!(Loader::of(&places), Loader::Other);
    }

    #[test]
    fn the_system_of_a_command_line_is_the_one_of_its_init() {
        let of = |line: &str| init_of(line.split_whitespace()).map(|path| path.name().to_owned());
        let hash = "0".repeat(32);
        assert_eq!(of(&format!("quiet init=/nix/store/{hash}-a/init x")), Some("a".into()));
        assert_eq!(of(&format!("init=/nix/store/{hash}-a/init init=/nix/store/{hash}-b/init")), None);
        assert_eq!(of("init=/bin/sh"), None);
        assert_eq!(of("quiet"), None);
    }
}
