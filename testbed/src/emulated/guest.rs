//! The Debian of an emulated machine: the one of all hosts, with a kernel and what belongs to the loaders, and an initial
//! RAM disk of the testbed's own. Must never hold what only one loader's machine has.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::{self, Key};
use crate::rootfs::{busybox, debian_with, recipe};
use crate::run::{SHORT, feed, ok, run_ok};
use crate::tools::tool;

/// Where micronix' installers find what a machine boots.
const LINUX: &str = "usr/lib/micronix/linux";
const PACKAGES: [&str; 7] = [
    "linux-image-cloud-amd64",
    "kmod",
    "systemd-boot-efi",
    "systemd-boot-tools",
    "grub-common",
    "grub2-common",
    "grub-pc-bin",
];
/// A kernel that is unpacked has an initial RAM disk made for it, which nobody would boot.
const WITHOUT: [&str; 1] = ["/etc/kernel/postinst.d/*"];
/// What the first stage needs of the kernel, and the watchdog, whose time only the first stage can set.
const MODULES: [&str; 9] = [
    "virtio_blk",
    "virtio_net",
    "qemu_fw_cfg",
    "i6300esb",
    "ext4",
    "vfat",
    "nls_cp437",
    "nls_ascii",
    "efivarfs",
];
/// What this machine's kernel is told besides what its configuration says: its interface is called as on every other host,
/// and its processor has nothing to be guarded from.
const PARAMETERS: &str = "console=ttyS0 net.ifnames=0 mitigations=off";
const INIT: &str = include_str!("../../emulated/init.sh");
const UNPACKING: Duration = Duration::from_secs(120);

/// The root file system of every emulated machine before micronix is installed.
pub(crate) fn guest() -> Result<PathBuf> {
    let key = Key::new("emulated 1")
        .and(recipe(&PACKAGES))
        .and(MODULES.join(" "))
        .and(PARAMETERS)
        .and(INIT)
        .and(fs::read(busybox()?)?);
    cache::entry("emulated", &key, |making, _| {
        debian_with(making, &PACKAGES, &WITHOUT)?;
        let linux = making.join(LINUX);
        fs::create_dir_all(&linux)?;
        fs::write(linux.join("params"), format!("{PARAMETERS}\n"))?;
        let version = version(making)?;
        fs::rename(making.join("boot").join(format!("vmlinuz-{version}")), linux.join("kernel"))
            .context("the kernel's package has no kernel")?;
        // What is in /boot now belongs to Debian's own loaders.
        cache::remove(&making.join("boot"))?;
        fs::create_dir(making.join("boot"))?;
        initial_ram_disk(making, &version, &linux.join("initrd"))
    })
}

/// The version of the one kernel that is installed.
fn version(root: &Path) -> Result<String> {
    let mut versions = fs::read_dir(root.join("usr/lib/modules")).context("no kernel is installed")?;
    match (versions.next(), versions.next()) {
        (Some(version), None) => Ok(version?.file_name().to_string_lossy().into_owned()),
        _ => bail!("there is not exactly one kernel below {}", root.display()),
    }
}

/// A busybox, the modules in the order in which they are loaded, and the script that does it.
fn initial_ram_disk(root: &Path, version: &str, to: &Path) -> Result<()> {
    let tree = root.join("tmp/initrd");
    for folder in ["bin", "dev", "modules"] {
        fs::create_dir_all(tree.join(folder))?;
    }
    fs::copy(busybox()?, tree.join("bin/busybox"))?;
    fs::write(tree.join("init"), INIT)?;
    run_ok(tool("chmod").arg("755").arg(tree.join("init")), SHORT)?;
    // The kernel opens it before there is a /dev.
    run_ok(tool("mknod").arg(tree.join("dev/console")).args(["c", "5", "1"]), SHORT)?;

    let mut order = String::new();
    for path in modules(root, version)? {
        let name = path.file_name().context("a module without a name")?.to_string_lossy().into_owned();
        let plain = name.trim_end_matches(".xz").to_owned();
        fs::copy(root.join(path.strip_prefix("/")?), tree.join("modules").join(&name))
            .with_context(|| format!("can't copy the module {}", path.display()))?;
        if plain != name {
            run_ok(tool("busybox").arg("unxz").arg(tree.join("modules").join(&name)), SHORT)?;
        }
        order.push_str(&plain);
        order.push('\n');
    }
    fs::write(tree.join("modules/order"), order)?;

    let mut pack = tool("sh");
    pack.args(["-ec", r#"cd "$1"; find . | busybox cpio -o -H newc | gzip -1 > "$2""#, "sh"])
        .arg(&tree)
        .arg(to);
    run_ok(&mut pack, UNPACKING).context("can't pack the initial RAM disk")?;
    cache::remove(&tree)
}

/// The modules' files, each behind those that it needs.
fn modules(root: &Path, version: &str) -> Result<Vec<PathBuf>> {
    let mut modprobe = tool("chroot");
    modprobe.arg(root).args(["modprobe", "--show-depends", "--set-version", version, "--all"]).args(MODULES);
    let listed = ok("`modprobe --show-depends`", feed(&mut modprobe, None, SHORT)?)?;
    let mut found = Vec::new();
    for path in listed.lines().filter_map(|line| line.strip_prefix("insmod ")) {
        let path = PathBuf::from(path.trim());
        if !found.contains(&path) {
            found.push(path);
        }
    }
    Ok(found)
}
