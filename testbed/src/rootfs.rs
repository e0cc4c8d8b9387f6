//! The Debian that a machine is made from, and the operator's Nix that is taken out of it. Must never depend on a lab.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::cache::{self, Key};
use crate::run::{SHORT, run_ok};
use crate::setup;
use crate::tools::{find, tool};

/// Changed with the recipes below, so that what an older one made is not taken.
const RECIPE: &str = "2";
const SUITE: &str = "trixie";
const PACKAGES: [&str; 10] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "openssh-client",
    "nix-bin",
    "nix-setup-systemd",
    "busybox-static",
    "iproute2,nftables,sudo",
];
/// Getting and unpacking Debian's packages.
const DEBIAN: Duration = Duration::from_secs(15 * 60);
/// The names under which Nix is called.
const NIX: [&str; 9] = [
    "nix",
    "nix-build",
    "nix-collect-garbage",
    "nix-copy-closure",
    "nix-env",
    "nix-hash",
    "nix-instantiate",
    "nix-shell",
    "nix-store",
];

/// A small Debian with systemd, sshd and Nix.
pub(crate) fn rootfs() -> Result<PathBuf> {
    let packages = PACKAGES.join(",");
    let key = Key::new("rootfs").and(RECIPE).and(SUITE).and(&packages);
    cache::entry("rootfs", &key, |making, _| debian(making, &packages, &[]))
}

/// What every Debian here is made of, and more, for the key of a thing of the cache and for [`debian`].
pub(crate) fn recipe(more: &[&str]) -> String {
    format!("{RECIPE} {SUITE} {},{}", PACKAGES.join(","), more.join(","))
}

/// A Debian with more packages than [`rootfs`] has, without files of theirs that match a pattern.
pub(crate) fn debian_with(making: &Path, more: &[&str], without: &[&str]) -> Result<()> {
    debian(making, &format!("{},{}", PACKAGES.join(","), more.join(",")), without)
}

fn debian(making: &Path, packages: &str, without: &[&str]) -> Result<()> {
    setup::prepare()?;
    let mut debian = tool("mmdebstrap");
    debian.args(["--mode=root", "--variant=minbase", "--quiet"]).arg(format!("--include={packages}"));
    for pattern in ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"].iter().chain(without) {
        debian.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    debian.args(["--aptopt=Acquire::Languages \"none\"", SUITE]).arg(making);
    run_ok(&mut debian, DEBIAN)?;
    for entry in fs::read_dir(making.join("etc/ssh"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("ssh_host_")) {
            fs::remove_file(path)?;
        }
    }
    // Every lab of this machine shares the packages' lists and downloads: none of them will be used.
    cache::remove(&making.join("var/lib/apt/lists"))?;
    cache::remove(&making.join("var/cache/apt"))
}

/// The operator's Nix: Debian's, with its libraries beside it, so that the machine below needs neither.
pub(crate) fn toolset() -> Result<PathBuf> {
    let rootfs = rootfs()?;
    let key = Key::new("operator").and(RECIPE).and(rootfs.as_os_str().as_encoded_bytes());
    cache::entry("operator", &key, |making, place| {
        let (bin, lib) = (making.join("bin"), making.join("lib"));
        fs::create_dir(&bin)?;
        fs::create_dir(&lib)?;
        let nix = bin.join("nix");
        fs::copy(rootfs.join("usr/bin/nix"), &nix).context("the root file system has no Nix")?;
        let listed = run_ok(tool("chroot").arg(&rootfs).args(["ldd", "/usr/bin/nix"]), SHORT)?;
        let mut loader = None;
        for library in listed.lines().filter_map(library) {
            let name = library.file_name().context("a library without a name")?;
            fs::copy(inside(&rootfs, library)?, lib.join(name))
                .with_context(|| format!("can't copy the library {}", library.display()))?;
            if name.to_string_lossy().starts_with("ld-") {
                loader = Some(place.join("lib").join(name));
            }
        }
        let Some(loader) = loader else { bail!("`ldd /usr/bin/nix` names no loader:\n{listed}") };
        let mut patch = tool("patchelf");
        patch.arg("--set-interpreter").arg(loader);
        patch.args(["--force-rpath", "--set-rpath", "$ORIGIN/../lib"]).arg(&nix);
        run_ok(&mut patch, SHORT)?;
        for name in NIX.iter().filter(|name| **name != "nix") {
            symlink("nix", bin.join(name))?;
        }
        fs::create_dir(making.join("libexec"))?;
        fs::copy(busybox()?, making.join("libexec/busybox"))?;
        Ok(())
    })
}

/// The machine's own static busybox.
pub(crate) fn busybox() -> Result<PathBuf> {
    find("busybox").context("there is no busybox; try `apt-get install busybox-static`")
}

/// A library's path, from a line of `ldd`.
fn library(line: &str) -> Option<&Path> {
    let line = line.split_once("=>").map_or(line, |(_, path)| path).trim();
    let path = line.split(' ').next()?;
    path.starts_with('/').then(|| Path::new(path))
}

/// Where a path of the guest lies outside: its links are the guest's own, so each is followed below its root.
fn inside(root: &Path, path: &Path) -> Result<PathBuf> {
    let shown = run_ok(tool("chroot").arg(root).args(["readlink", "-f"]).arg(path), SHORT)?;
    Ok(root.join(shown.trim().trim_start_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_every_kind_of_line() {
        let listed = "\tlinux-vdso.so.1 (0x00007)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x0)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x0)\n";
        let found: Vec<_> = listed.lines().filter_map(library).collect();
        assert_eq!(
            found,
            [Path::new("/lib/x86_64-linux-gnu/libc.so.6"), Path::new("/lib64/ld-linux-x86-64.so.2")]
        );
    }
}
