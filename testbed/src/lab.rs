//! A fleet that runs: described, booted side by side, and gone when it is dropped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::emulated::{Emulated, Loader};
use crate::faults::Faults;
use crate::host::Host;
use crate::operator::{Operator, key_pair};
use crate::state::{self, HostRecord, Owner};
use crate::{disk, image, net, rootfs, setup, sweep};

/// What a machine may take from power to sshd, on a machine below that is busy with many.
const BOOT: Duration = Duration::from_secs(120);
/// The same, for a machine whose processor is a program.
const EMULATED_BOOT: Duration = Duration::from_secs(600);
/// What boots a generation, as the boot loader and the kernel would.
const INIT: &str = "/sbin/micronix-boot";
/// Hosts in one lab, as far as its addresses go.
const MOST: usize = 1000;

/// What runs on the hosts of a lab when they are new.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Guest {
    /// A freshly installed NixOS (micronix).
    #[default]
    NixOs,
    /// A Debian with sshd and Nix: a machine that is no NixOS.
    Debian,
}

/// Which machines a lab has.
#[derive(Debug, Clone)]
pub struct LabSpec {
    names: Vec<String>,
    /// For all hosts that are not named in `disks`.
    own_disk: Option<u64>,
    disks: BTreeMap<String, u64>,
    emulated: BTreeMap<String, Loader>,
    guest: Guest,
    lasts: bool,
}

impl LabSpec {
    /// So many hosts: `host1`, `host2` and so on.
    #[must_use]
    pub fn new(hosts: usize) -> Self {
        Self::named((1..=hosts).map(|number| format!("host{number}")))
    }

    /// Hosts with these names.
    #[must_use]
    pub fn named<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self {
            names,
            own_disk: None,
            disks: BTreeMap::new(),
            emulated: BTreeMap::new(),
            guest: Guest::default(),
            lasts: false,
        }
    }

    /// Gives every host a disk of its own, of so many MiB, for what it writes: it can be full, and can lose what was not
    /// synced.
    #[must_use]
    pub fn own_disk(self, mib: u64) -> Self {
        Self { own_disk: Some(mib), ..self }
    }

    /// As [`Self::own_disk`], for one host.
    #[must_use]
    pub fn disk_of(mut self, host: impl Into<String>, mib: u64) -> Self {
        self.disks.insert(host.into(), mib);
        self
    }

    /// Makes one host an emulated machine, with a kernel and a boot loader of its own. It is slow: half a minute to boot.
    /// It needs packages that no other host does, which are installed where they are missing.
    #[must_use]
    pub fn emulated(mut self, host: impl Into<String>, loader: Loader) -> Self {
        self.emulated.insert(host.into(), loader);
        self
    }

    /// As [`Self::emulated`], for every host.
    #[must_use]
    pub fn all_emulated(mut self, loader: Loader) -> Self {
        self.emulated = self.names.iter().map(|name| (name.clone(), loader)).collect();
        self
    }

    fn disk(&self, host: &str) -> Option<u64> {
        self.disks.get(host).copied().or(self.own_disk)
    }

    /// What runs on the hosts.
    #[must_use]
    pub fn guest(self, guest: Guest) -> Self {
        Self { guest, ..self }
    }

    /// The lab outlives the process that made it, until someone takes it down.
    #[must_use]
    pub fn lasting(self) -> Self {
        Self { lasts: true, ..self }
    }

    fn check(&self) -> Result<()> {
        if self.names.len() > MOST {
            bail!("a lab has at most {MOST} hosts");
        }
        let mut seen = std::collections::BTreeSet::new();
        for name in &self.names {
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || name.len() > 40 || name.starts_with('-') || !name.chars().all(fits) {
                bail!("{name:?} can't be a host's name: up to 40 of a-z, 0-9 and -, not beginning with -");
            }
            if !seen.insert(name) {
                bail!("two hosts are named {name}");
            }
        }
        if let Some(host) = self.disks.keys().find(|host| !seen.contains(host)) {
            bail!("a disk is meant for {host}, and the lab has no such host");
        }
        for host in self.emulated.keys() {
            if !seen.contains(host) {
                bail!("{host} is to be emulated, and the lab has no such host");
            }
            if self.disk(host).is_some() {
                bail!("{host} is to be emulated, and has a disk of its own as it is");
            }
            if self.guest != Guest::NixOs {
                bail!("{host} is to be emulated, and only a NixOS can be");
            }
        }
        Ok(())
    }
}

/// A fleet of machines that runs. Dropping it takes it down, but for one that is to last.
#[derive(Debug)]
pub struct Lab {
    hosts: Vec<Host>,
    operator: Operator,
    standing: Standing,
}

/// A lab that is there, wholly or in part.
#[derive(Debug)]
struct Standing {
    id: String,
    lasts: bool,
}

impl Drop for Standing {
    fn drop(&mut self) {
        if !self.lasts {
            // What is left is swept by the next run.
            let _ = sweep::tear_down(&self.id);
        }
    }
}

impl Lab {
    /// Boots a fleet. All its hosts' sshds answer when this returns.
    ///
    /// # Errors
    /// Without root; where what it needs can't be made; where a host does not come up: with the end of its console's log.
    pub fn up(spec: &LabSpec) -> Result<Self> {
        spec.check()?;
        setup::prepare()?;
        // What an earlier run left must not be in the way, and what can't be removed must not be in the way of this one.
        let _ = sweep::stale_labs();
        let template = image::template()?;
        let emulated = spec.emulated.values().map(|loader| Ok((*loader, Emulated::of(*loader)?)));
        let emulated: BTreeMap<_, _> = emulated.collect::<Result<_>>()?;
        let (lower, init) = match spec.guest {
            Guest::NixOs => (image::image()?, Some(INIT.to_owned())),
            Guest::Debian => (vec![rootfs::rootfs()?], None),
        };

        // Until it is up, a lasting lab too is this process's own: it goes where something fails.
        let id = state::new_lab(&Owner::this_process()?)?;
        let mut standing = Standing { id: id.clone(), lasts: false };
        let folder = state::path(&id);
        let records: Vec<_> = (1..)
            .zip(&spec.names)
            .map(|(index, name)| HostRecord {
                name: name.clone(),
                index,
                own_disk: spec.disk(name).is_some(),
                lower: lower.clone(),
                init: init.clone(),
                emulated: spec.emulated.get(name).and_then(|loader| emulated.get(loader)).cloned(),
            })
            .collect();
        disk::share(&folder.join("hosts"))?;
        state::write_hosts(&folder, &records)?;
        net::create(&id, &records)?;
        Faults::of(&id).create()?;
        fs::DirBuilder::new().mode(0o700).create(folder.join("keys"))?;

        let home = folder.join("operator");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(home.join("ssh"))?;
        let operator_key = key_pair(&home.join("ssh/id_ed25519"), "operator")?;
        let hosts: Vec<_> = records.iter().map(|record| Host::new(&id, record)).collect::<Result<_>>()?;
        let (operator, started) = thread::scope(|scope| {
            let hosts: Vec<_> =
                hosts.iter().map(|host| scope.spawn(|| install(host, spec, &id, &operator_key))).collect();
            let operator = Operator::of_lab(&home, &id, &template);
            let hosts: Vec<_> = hosts
                .into_iter()
                .map(|host| host.join().unwrap_or_else(|_| Err(anyhow!("installing a host panicked"))))
                .collect();
            (operator, hosts)
        });
        let (operator, public_keys) = (operator?, started.into_iter().collect::<Result<Vec<_>>>()?);
        write_ssh_config(&home.join("ssh"), &hosts, &public_keys)?;

        let boot = if spec.emulated.is_empty() { BOOT } else { EMULATED_BOOT };
        thread::scope(|scope| {
            let waits: Vec<_> = hosts.iter().map(|host| scope.spawn(|| host.wait_for_ssh(boot))).collect();
            waits.into_iter().try_for_each(|wait| {
                wait.join().unwrap_or_else(|_| Err(anyhow!("waiting for a host panicked")))
            })
        })?;
        if spec.lasts {
            state::give(&id, &Owner::nobody())?;
            standing.lasts = true;
        }
        Ok(Self { hosts, operator, standing })
    }

    /// A lab that lasts, made by an earlier process. Without a name, the only one there is.
    ///
    /// # Errors
    /// Where there is none, or more than one to choose from.
    pub fn attach(id: Option<&str>) -> Result<Self> {
        setup::require_root()?;
        let lasting = Self::lasting()?;
        let id = match (id, lasting.as_slice()) {
            (Some(id), all) if all.iter().any(|one| one == id) => id,
            (Some(id), _) => bail!("there is no lab {id}; `lab list` shows those that are up"),
            (None, [one]) => one,
            (None, []) => bail!("no lab is up; try `lab up 3`"),
            (None, all) => bail!("there is more than one lab; choose with `--lab`: {}", all.join(", ")),
        };
        let folder = state::path(id);
        let hosts = state::read_hosts(&folder)?;
        Ok(Self {
            hosts: hosts.iter().map(|record| Host::new(id, record)).collect::<Result<_>>()?,
            operator: Operator::attach(&folder.join("operator"), id)?,
            standing: Standing { id: id.into(), lasts: true },
        })
    }

    /// The names of the labs that outlive the process that made them.
    ///
    /// # Errors
    /// Where the cache can't be read.
    pub fn lasting() -> Result<Vec<String>> {
        let all = state::all()?.into_iter();
        let up =
            all.filter(|(_, owner)| owner.as_ref().is_some_and(|owner| owner.lasts() && !owner.is_gone()));
        Ok(up.map(|(id, _)| id).collect())
    }

    /// The lab's own name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.standing.id
    }

    /// A host by its name.
    ///
    /// # Errors
    /// Where the lab has none of that name.
    pub fn host(&self, name: &str) -> Result<&Host> {
        self.hosts.iter().find(|host| host.name() == name).with_context(|| {
            let names: Vec<_> = self.hosts.iter().map(Host::name).collect();
            format!("the lab has no host {name}; it has: {}", names.join(", "))
        })
    }

    /// All hosts, in the order in which they were named.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The person at the keyboard.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// Takes the lab down, one that lasts too.
    ///
    /// # Errors
    /// Where something of it is left.
    pub fn down(mut self) -> Result<()> {
        // Then there is nothing left for its drop to do.
        self.standing.lasts = true;
        sweep::tear_down(&self.standing.id)
    }
}

/// Makes a host's disk, gives it what makes it one of its own, and switches it on. Returns its public key.
fn install(host: &Host, spec: &LabSpec, lab: &str, operator_key: &str) -> Result<String> {
    let key = state::path(lab).join("keys").join(host.name());
    let public = key_pair(&key, host.name())?;
    host.disk().create(spec.disk(host.name()))?;
    host.disk().mount()?;
    let root = host.root();
    write(root, "etc/hostname", &format!("{}\n", host.name()), 0o644)?;
    write(root, "etc/resolv.conf", "", 0o644)?;
    let digest = <sha2::Sha256 as sha2::Digest>::digest(format!("{lab}/{}", host.name()));
    let machine: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    write(root, "etc/machine-id", &format!("{machine}\n"), 0o444)?;
    write(root, "etc/ssh/ssh_host_ed25519_key", &fs::read_to_string(&key)?, 0o600)?;
    write(root, "etc/ssh/ssh_host_ed25519_key.pub", &public, 0o644)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(root.join("root/.ssh"))?;
    write(root, "root/.ssh/authorized_keys", operator_key, 0o600)?;
    host.disk().installed()?;
    host.boot()?;
    Ok(public)
}

fn write(root: &Path, path: &str, contents: &str, mode: u32) -> Result<()> {
    let path = root.join(path);
    // It may be a link of the image, which must not lead out of it.
    let _ = fs::remove_file(&path);
    fs::write(&path, contents).with_context(|| format!("can't write {}", path.display()))?;
    Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
}

fn write_ssh_config(folder: &Path, hosts: &[Host], public_keys: &[String]) -> Result<()> {
    let mut known = String::new();
    for (host, key) in hosts.iter().zip(public_keys) {
        writeln!(known, "{},{} {}", host.name(), host.address(), key.trim())?;
    }
    fs::write(folder.join("known_hosts"), known)?;
    let config = format!(
        "Host *\n\
         \tUser root\n\
         \tIdentityFile {0}/id_ed25519\n\
         \tIdentitiesOnly yes\n\
         \tUserKnownHostsFile {0}/known_hosts\n\
         \tGlobalKnownHostsFile /dev/null\n\
         \tStrictHostKeyChecking yes\n\
         \tUpdateHostKeys no\n\
         \tLogLevel ERROR\n",
        folder.display()
    );
    fs::write(folder.join("config"), config).context("can't write the lab's ssh configuration")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_names_that_can_be_used_everywhere() {
        assert!(LabSpec::named(["web-1", "db"]).check().is_ok());
        for name in ["", "-x", "Web", "a b", "a/b", "a.b"] {
            assert!(LabSpec::named([name]).check().is_err(), "{name:?}");
        }
        assert!(LabSpec::named(["a", "a"]).check().is_err());
    }

    #[test]
    fn a_disk_is_for_all_hosts_or_for_one() {
        let spec = LabSpec::named(["a", "b"]).disk_of("b", 64);
        assert_eq!((spec.disk("a"), spec.disk("b")), (None, Some(64)));
        let spec = spec.own_disk(128);
        assert_eq!((spec.disk("a"), spec.disk("b")), (Some(128), Some(64)));
        assert!(spec.check().is_ok());
        assert!(spec.disk_of("c", 64).check().is_err(), "there is no c");
    }

    #[test]
    fn only_a_nixos_with_a_disk_as_it_is_can_be_emulated() {
        let spec = || LabSpec::named(["a", "b"]).emulated("a", Loader::Grub);
        assert!(spec().disk_of("b", 64).check().is_ok());
        assert!(spec().emulated("c", Loader::Grub).check().is_err(), "there is no c");
        assert!(spec().own_disk(64).check().is_err());
        assert!(spec().guest(Guest::Debian).check().is_err());
    }
}
