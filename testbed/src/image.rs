//! The image of a freshly installed host: over Debian's root file system, a store with the base system, its first
//! generation, activated once, and its boot entry. And the operator's store, which has built that system. Must never depend on a lab.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::cache::{self, Key, Once};
use crate::operator::configuration;
use crate::run::run_ok;
use crate::tools::tool;
use crate::{micronix, rootfs, setup};

/// Evaluating, building and copying the base system.
const BASE: Duration = Duration::from_secs(300);

/// The operator's store as every operator's begins.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) path: PathBuf,
    toplevel: String,
}

impl Template {
    /// Makes a store with the same contents. Store paths never change, so their files can be the same ones.
    pub(crate) fn copy_to(&self, store: &Path) -> Result<()> {
        let from = self.path.join("store");
        run_ok(tool("cp").args(["--archive", "--link"]).arg(&from).arg(store), BASE)?;
        // Nix' database does change.
        let state = "nix/var";
        cache::remove(&store.join(state))?;
        run_ok(tool("cp").arg("--archive").arg(from.join(state)).arg(store.join(state)), BASE).map(drop)
    }
}

/// A store that has built the base system.
pub(crate) fn template() -> Result<Template> {
    static MADE: Once<Template> = Once::new();
    MADE.get(|| make_template("toplevel"))
}

/// As [`template`], of a base system that goes by another name in micronix' base.nix.
pub(crate) fn template_of(attribute: &str) -> Result<Template> {
    make_template(attribute)
}

fn make_template(attribute: &str) -> Result<Template> {
    setup::prepare()?;
    let tools = rootfs::toolset()?;
    let micronix = micronix::micronix()?;
    let key = Key::new("store 1")
        .and(attribute)
        .and(tools.as_os_str().as_encoded_bytes())
        .and(micronix.as_os_str().as_encoded_bytes());
    let path = cache::entry("store", &key, |making, _| {
        let store = making.join("store");
        fs::write(making.join("nix.conf"), configuration(&store, &tools))?;
        let mut build = tool(tools.join("bin/nix-build"));
        build
            .current_dir(making)
            .env("HOME", making)
            .env("NIX_CONF_DIR", making)
            .args(["--no-out-link", "--attr", attribute])
            .arg(micronix.join("base.nix"));
        let toplevel = run_ok(&mut build, BASE).context("can't build the base system")?;
        fs::write(making.join("toplevel"), toplevel.trim())?;
        Ok(())
    })?;
    let toplevel = fs::read_to_string(path.join("toplevel"))?;
    Ok(Template { path, toplevel })
}

/// The folders that a host's root file system lies over, the uppermost first.
pub(crate) fn image() -> Result<Vec<PathBuf>> {
    static MADE: Once<Vec<PathBuf>> = Once::new();
    MADE.get(make_image)
}

fn make_image() -> Result<Vec<PathBuf>> {
    let template = template()?;
    let (rootfs, tools, micronix) = (rootfs::rootfs()?, rootfs::toolset()?, micronix::micronix()?);
    let key = Key::new("image 2")
        .and(rootfs.as_os_str().as_encoded_bytes())
        .and(template.path.as_os_str().as_encoded_bytes());
    let image = cache::entry("image", &key, |making, _| {
        let (upper, work, root) = (making.join("upper"), making.join("work"), making.join("root"));
        for folder in [&upper, &work, &root] {
            fs::create_dir(folder)?;
        }
        overlay(std::slice::from_ref(&rootfs), &upper, &work, &root, "")?;
        let filled = fill(&root, &template, &tools).and_then(|()| put_init(&root, &micronix));
        unmount(&root, UnmountFlags::empty()).with_context(|| format!("can't unmount {}", root.display()))?;
        filled?;
        fs::remove_dir(root)?;
        cache::remove(&work)
    })?;
    Ok(vec![image.join("upper"), rootfs])
}

/// Mounts an overlay whose changes go to `upper`; more options begin with a comma.
pub(crate) fn overlay(lower: &[PathBuf], upper: &Path, work: &Path, at: &Path, more: &str) -> Result<()> {
    let lower: Vec<_> = lower.iter().map(|path| path.display().to_string()).collect();
    let options =
        format!("lowerdir={},upperdir={},workdir={}{more}", lower.join(":"), upper.display(), work.display());
    let options = std::ffi::CString::new(options)?;
    mount("overlay", at, "overlay", MountFlags::empty(), options.as_c_str())
        .with_context(|| format!("can't mount an overlay at {}", at.display()))
}

/// What a machine without a kernel of its own begins with.
fn put_init(root: &Path, micronix: &Path) -> Result<()> {
    let init = root.join("sbin/micronix-boot");
    fs::copy(micronix.join("boot/micronix-boot"), &init).context("micronix has no boot/micronix-boot")?;
    Ok(fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?)
}

/// Makes a Debian a freshly installed host: with the base system, its first generation and boot entry.
pub(crate) fn fill(root: &Path, template: &Template, tools: &Path) -> Result<()> {
    // Debian's own choice of services: the system's generation has its own.
    cache::remove(&root.join("etc/systemd/system"))?;
    fs::create_dir(root.join("etc/systemd/system"))?;
    fs::write(root.join("etc/NIXOS"), "")?;

    // The folder above the store's knows the configuration by which it was built.
    let mut copy = tool(tools.join("bin/nix"));
    copy.env("HOME", "/nonexistent").env("NIX_CONF_DIR", &template.path).args(["copy", "--no-check-sigs"]);
    copy.arg("--from").arg(template.path.join("store")).arg("--to").arg(root).arg(&template.toplevel);
    run_ok(&mut copy, BASE).context("can't copy the base system into the image")?;

    let profiles = root.join("nix/var/nix/profiles");
    fs::create_dir_all(&profiles)?;
    symlink(&template.toplevel, profiles.join("system-1-link"))?;
    symlink("system-1-link", profiles.join("system"))?;

    // Namespaces of its own, so that nothing that it mounts or starts is left.
    let mut boot = tool("unshare");
    boot.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-ec"])
        .arg(
            r#"mount -t proc proc "$1/proc"; mount -t tmpfs tmpfs "$1/run"; mount --bind /dev "$1/dev"
            chroot "$1" "$2/bin/switch-to-configuration" boot; exec chroot "$1" "$2/activate""#,
        )
        .arg("sh")
        .arg(root)
        .arg(&template.toplevel);
    run_ok(&mut boot, BASE).context("can't write the base system's boot entry and activate it")?;
    // It has just been installed: what systemd does once after an update is done.
    for folder in ["etc", "var"] {
        fs::write(root.join(folder).join(".updated"), "")?;
    }
    Ok(())
}
