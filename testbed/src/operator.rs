//! The person at the keyboard: a Nix with a store of its own, a home, and the keys and the ssh configuration of a lab.
//! Must never read or write the real user's Nix, home or ssh configuration.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::cgroup::Cgroup;
use crate::image::{self, Template};
use crate::run::{SHORT, run_ok};
use crate::state::{self, Owner};
use crate::tools::{self, tool};
use crate::{micronix, programs, rootfs};

/// What evaluating and building a small fleet may take, on a busy machine.
const NIX: Duration = Duration::from_secs(300);

/// The person at the keyboard, with a Nix, a store and a home of their own.
#[derive(Debug)]
pub struct Operator {
    home: PathBuf,
    work: PathBuf,
    tools: PathBuf,
    micronix: PathBuf,
    /// What bosco brings to hosts.
    helpers: PathBuf,
    network: Option<Network>,
    /// An operator without machines removes what it had; a lab removes its own.
    alone: Option<String>,
}

/// How the operator gets into a lab's network.
#[derive(Debug)]
struct Network {
    namespace: String,
    cgroup: Cgroup,
}

impl Operator {
    /// An operator without any machine: for evaluating and building.
    ///
    /// # Errors
    /// Without root, or where what it needs can't be made.
    pub fn alone() -> Result<Self> {
        let template = image::template()?;
        let id = state::new_lab(&Owner::this_process()?)?;
        let mut operator = Self::set_up(&state::path(&id).join("operator"), &template, None)?;
        operator.alone = Some(id);
        Ok(operator)
    }

    /// The operator of a lab.
    pub(crate) fn of_lab(home: &Path, id: &str, template: &Template) -> Result<Self> {
        let cgroup = Cgroup::of(&[id, "operator"])?;
        cgroup.create()?;
        Self::set_up(home, template, Some(Network { namespace: id.into(), cgroup }))
    }

    /// The operator of a lab that is already there.
    pub(crate) fn attach(home: &Path, id: &str) -> Result<Self> {
        let cgroup = Cgroup::of(&[id, "operator"])?;
        let network = Some(Network { namespace: id.into(), cgroup });
        let micronix = fs::read_link(home.join("micronix")).context("the lab has no operator")?;
        Ok(Self {
            home: home.into(),
            work: home.join("work"),
            tools: rootfs::toolset()?,
            micronix,
            helpers: programs::helpers()?,
            network,
            alone: None,
        })
    }

    fn set_up(home: &Path, template: &Template, network: Option<Network>) -> Result<Self> {
        let tools = rootfs::toolset()?;
        let micronix = micronix::micronix()?;
        let helpers = programs::helpers()?;
        for folder in ["bin", "conf", "home", "work", "xdg/config/nix"] {
            fs::create_dir_all(home.join(folder))
                .with_context(|| format!("can't create {}", home.join(folder).display()))?;
        }
        std::os::unix::fs::symlink(&micronix, home.join("micronix"))?;
        template.copy_to(&home.join("store"))?;
        fs::write(home.join("conf/nix.conf"), configuration(&home.join("store"), &tools))?;
        let entry = |name: &str, path: PathBuf| {
            serde_json::json!({
                "from": { "type": "indirect", "id": name },
                "to": { "type": "path", "path": path },
            })
        };
        let registry = serde_json::json!({
            "version": 2,
            "flakes": [
                entry("nixpkgs", micronix.clone()),
                entry("colmena", micronix.join("colmena")),
                entry("deploy-rs", micronix.join("deploy-rs")),
            ],
        });
        fs::write(home.join("xdg/config/nix/registry.json"), registry.to_string())?;
        let git = "[user]\n\tname = Operator\n\temail = operator@example.org\n[init]\n\tdefaultBranch = main\n\
                   [gc]\n\tauto = 0\n[safe]\n\tdirectory = *\n";
        fs::write(home.join("home/.gitconfig"), git)?;
        Ok(Self {
            home: home.into(),
            work: home.join("work"),
            tools,
            micronix,
            helpers,
            network,
            alone: None,
        })
    }

    /// A folder for fleets and other work.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.work
    }

    /// Below this folder lies the operator's store: what `/nix/store/NAME` is called there is `nix/store/NAME` here.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.home.join("store")
    }

    /// The small NixOS that `nixpkgs` stands for.
    #[must_use]
    pub fn micronix(&self) -> &Path {
        &self.micronix
    }

    /// The ssh configuration by which the lab's hosts are reached.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        self.home.join("ssh/config")
    }

    /// The private key that every host of the lab accepts for root.
    #[must_use]
    pub fn ssh_key(&self) -> PathBuf {
        self.home.join("ssh/id_ed25519")
    }

    /// A command as the operator would start it: in the lab's network, with their Nix, their home and their ssh
    /// configuration. Starts in [`Self::dir`].
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = match &self.network {
            None => Command::new(program),
            Some(network) => {
                // Joining the lab's group makes that what is left over ends with the lab.
                let mut command = Command::new("/bin/sh");
                let script = r#"echo 0 > "$1" && ns=$2 && shift 2 && exec ip netns exec "$ns" "$@""#;
                command.args(["-c", script, "sh"]).arg(network.cgroup.procs());
                command.arg(&network.namespace).arg(program);
                command
            }
        };
        // What the real user has set for their own Nix and ssh is nothing to this one.
        let theirs =
            |name: &str| name.starts_with("NIX_") || name.starts_with("SSH_") || name.starts_with("GIT_");
        for (name, _) in std::env::vars_os().filter(|(name, _)| theirs(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        if self.network.is_some() {
            let ssh = format!("-F {}", self.ssh_config().display());
            command
                .env("SSH_CONFIG_FILE", self.ssh_config())
                .env("GIT_SSH_COMMAND", format!("ssh {ssh}"))
                .env("NIX_SSHOPTS", ssh);
        }
        let xdg = self.home.join("xdg");
        command
            .current_dir(self.dir())
            .env("PATH", self.path())
            .env("HOME", self.home.join("home"))
            .env("XDG_CONFIG_HOME", xdg.join("config"))
            .env("XDG_CACHE_HOME", xdg.join("cache"))
            .env("XDG_DATA_HOME", xdg.join("data"))
            .env("XDG_STATE_HOME", xdg.join("state"))
            .env("NIX_CONF_DIR", self.home.join("conf"))
            .env("BOSCO_HELPERS", &self.helpers)
            .env("NIX_PATH", format!("nixpkgs={}", self.micronix.display()));
        command
    }

    /// Runs the operator's `nix` in [`Self::dir`], and returns what it says on its standard output.
    ///
    /// # Errors
    /// Where it fails, with what it said; and after five minutes.
    pub fn nix<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        run_ok(self.command("nix").args(args), NIX)
    }

    fn path(&self) -> OsString {
        let mut path = self.home.join("bin").into_os_string();
        for part in [self.tools.join("bin").into_os_string(), tools::path()] {
            path.push(":");
            path.push(part);
        }
        path
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        if let Some(id) = &self.alone {
            // What is left is swept by the next run.
            let _ = state::remove(id);
        }
    }
}

/// A `nix.conf` for a store of its own, without any network.
pub(crate) fn configuration(store: &Path, tools: &Path) -> String {
    format!(
        "experimental-features = nix-command flakes\n\
         store = {}\n\
         substituters =\n\
         flake-registry =\n\
         build-users-group =\n\
         sandbox = true\n\
         sandbox-paths = /bin/sh={}/libexec/busybox\n\
         max-jobs = auto\n",
        store.display(),
        tools.display()
    )
}

/// Makes a key pair, without a passphrase.
pub(crate) fn key_pair(path: &Path, comment: &str) -> Result<String> {
    let mut keygen = tool("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"]).arg(path);
    run_ok(&mut keygen, SHORT)?;
    let public = path.with_extension("pub");
    fs::read_to_string(&public).with_context(|| format!("can't read {}", public.display()))
}
