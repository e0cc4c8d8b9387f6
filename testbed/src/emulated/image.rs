//! The disks of a freshly installed emulated host: one with the root, and one with its loader, which on a machine with EFI
//! is also its /boot. Must never depend on a lab.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::guest;
use super::{BOOT_DISK, Loader};
use crate::cache::{self, Key};
use crate::disk::{IMAGE, unmount_soon};
use crate::image::{fill, template, template_of};
use crate::rootfs::toolset;
use crate::run::{SHORT, feed, ok, run_ok};
use crate::setup;
use crate::tools::tool;

/// Room on each disk, in MiB. What is not used takes none.
const ROOT_MIB: u64 = 4096;
const BOOT_MIB: u64 = 512;
/// Where the ESP begins, in sectors and in bytes.
const ESP_SECTOR: u64 = 2048;
const ESP: u64 = ESP_SECTOR * 512;
/// Copying a root file system, on a busy machine.
const COPY: Duration = Duration::from_secs(120);
/// Where GRUB's own program goes on the disk: behind the first sector, which looks for it there.
const CORE: u64 = 512;
/// What GRUB needs before it can read the rest from its folder. The first disk has GRUB alone, the second one the root.
const CORE_MODULES: [&str; 4] = ["biosdisk", "ext2", "normal", "configfile"];
const GRUB_FOLDER: &str = "(hd1)/boot/grub";
const GRUB_FILES: &str = "usr/lib/grub/i386-pc";

/// The folder with a host's disks.
pub(crate) fn image(loader: Loader) -> Result<PathBuf> {
    setup::prepare_emulation()?;
    let (guest, tools) = (guest()?, toolset()?);
    let template = match loader {
        Loader::SystemdBoot => template()?,
        Loader::Grub => template_of("grub")?,
    };
    let name = match loader {
        Loader::SystemdBoot => "disks-systemd-boot",
        Loader::Grub => "disks-grub",
    };
    let key = Key::new("disks 1")
        .and(guest.as_os_str().as_encoded_bytes())
        .and(template.path.as_os_str().as_encoded_bytes());
    cache::entry(name, &key, |making, _| {
        let (root, disk) = (making.join("root"), making.join(IMAGE));
        fs::create_dir(&root)?;
        File::create(&disk)?.set_len(ROOT_MIB << 20)?;
        let mut mkfs = tool("mkfs.ext4");
        mkfs.args(["-q", "-m", "0", "-L", "nixos", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"]);
        run_ok(mkfs.arg(&disk), SHORT)?;
        run_ok(tool("mount").args(["-o", "loop"]).arg(&disk).arg(&root), SHORT)?;
        let installed = (|| {
            let mut copy = tool("cp");
            run_ok(copy.arg("--archive").arg(guest.join(".")).arg(&root), COPY)?;
            if loader == Loader::Grub {
                put_grub(&root)?;
            }
            fill(&root, &template, &tools)?;
            match loader {
                Loader::SystemdBoot => systemd_boot(&root, &making.join(BOOT_DISK)),
                Loader::Grub => grub(&root, &making.join(BOOT_DISK)),
            }
        })();
        unmount_soon(&root)?;
        installed?;
        Ok(fs::remove_dir(root)?)
    })
}

/// A disk with an ESP, which has what the installer has written to /boot, and systemd-boot where every firmware looks.
fn systemd_boot(root: &Path, disk: &Path) -> Result<()> {
    let boot = root.join("boot");
    for place in ["EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"] {
        let to = boot.join(place);
        fs::create_dir_all(to.parent().context("a file without a folder")?)?;
        fs::copy(root.join("usr/lib/systemd/boot/efi/systemd-bootx64.efi"), to)
            .context("the guest has no systemd-boot")?;
    }
    File::create(disk)?.set_len(BOOT_MIB << 20)?;
    let mut sfdisk = tool("sfdisk");
    sfdisk.arg("--quiet").arg(disk);
    let table = format!("label: gpt\nstart={ESP_SECTOR}, type=uefi, name=ESP\n");
    ok("`sfdisk`", feed(&mut sfdisk, Some(table.as_bytes()), SHORT)?)?;
    // The table's copy is at the disk's end.
    let blocks = (BOOT_MIB << 10) - 2 * (ESP >> 10);
    let mut mkfs = tool("mkfs.vfat");
    mkfs.args(["-F", "32", "-n", "ESP", "--offset", &ESP_SECTOR.to_string()]);
    run_ok(mkfs.arg(disk).arg(blocks.to_string()), SHORT)?;
    let mut copy = tool("mcopy");
    copy.arg("-s").arg("-i").arg(format!("{}@@{ESP}", disk.display()));
    for entry in fs::read_dir(&boot)? {
        copy.arg(entry?.path());
    }
    run_ok(copy.arg("::/"), COPY).context("can't fill the ESP")?;
    cache::remove(&boot)?;
    Ok(fs::create_dir(&boot)?)
}

/// GRUB's folder, as `grub-install` makes it.
fn put_grub(root: &Path) -> Result<()> {
    let folder = root.join("boot/grub");
    fs::create_dir_all(&folder)?;
    let mut copy = tool("cp");
    run_ok(copy.arg("--archive").arg(root.join(GRUB_FILES)).arg(&folder), SHORT)?;
    let mut create = tool("chroot");
    run_ok(create.arg(root).args(["grub-editenv", "/boot/grub/grubenv", "create"]), SHORT).map(drop)
}

/// A disk that begins with GRUB, and has nothing else.
fn grub(root: &Path, disk: &Path) -> Result<()> {
    let mut make = tool("chroot");
    make.arg(root).args(["grub-mkimage", "-O", "i386-pc", "-o", "/tmp/core.img", "-p", GRUB_FOLDER]);
    run_ok(make.args(CORE_MODULES), SHORT)?;
    let mut to = File::create(disk)?;
    to.set_len(2 << 20)?;
    to.write_all(&fs::read(root.join(GRUB_FILES).join("boot.img"))?)?;
    to.seek(SeekFrom::Start(CORE))?;
    to.write_all(&fs::read(root.join("tmp/core.img"))?)?;
    Ok(fs::remove_file(root.join("tmp/core.img"))?)
}
