//! The machines of a run, and the systems that they are brought to: built once, and on every host's disk before anything
//! is struck.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bosco_model::StorePath;
use testbed::fleet::{Fleet, create};
use testbed::{Host, Lab, LabSpec, run_ok};

/// How long a fresh connection may take to come, in seconds: what the systems declare.
pub(crate) const CONFIRM: u64 = 8;
/// How long an activation may take.
pub(crate) const ACTIVATION: u64 = 60;
/// What a host's disk holds, in MiB: what it writes only, its base lies below.
const DISK: u64 = 768;
/// How long bosco may take for all hosts, on a busy machine.
const APPLY: Duration = Duration::from_secs(600);
/// How long a host may take to boot where nothing is wrong with it.
pub(crate) const BOOT: Duration = Duration::from_secs(120);

/// The systems, by letter. Those of the other group have another kernel, which takes a boot.
const GROUPS: [&str; 2] = ["abc", "def"];

/// A system that hosts are brought to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) letter: char,
    pub(crate) group: usize,
    pub(crate) path: StorePath,
}

/// What all workers share.
pub(crate) struct World {
    pub(crate) lab: Lab,
    bosco: PathBuf,
    /// The helper's store path.
    pub(crate) helper: String,
    plain: Vec<System>,
    module: Vec<System>,
}

/// Whether a host has bosco's module, by its name.
pub(crate) fn has_module(host: &str) -> bool {
    host.starts_with("module")
}

impl World {
    /// Boots so many hosts, every other one with bosco's module, and brings them to the first system.
    pub(crate) fn up(hosts: usize, bosco: &Path) -> Result<Self> {
        let kind = |number: usize| if number.is_multiple_of(2) { "module" } else { "plain" };
        let names: Vec<String> = (0..hosts).map(|number| format!("{}{number}", kind(number))).collect();
        let lab = Lab::up(&LabSpec::named(names.clone()).own_disk(DISK))?;
        let fleet = lay_out(&lab, &names)?;
        let (plain, module) = (build(&lab, &fleet, "plain", 1)?, build(&lab, &fleet, "module", 2)?);
        let mut world = Self { lab, bosco: bosco.into(), helper: String::new(), plain, module };
        world.begin()?;
        let all = |make: &(dyn Fn(&Host) -> Result<()> + Sync)| {
            std::thread::scope(|scope| {
                let hosts: Vec<_> =
                    world.lab.hosts().iter().map(|host| scope.spawn(move || make(host))).collect();
                hosts.into_iter().try_for_each(|host| match host.join() {
                    Ok(made) => made,
                    Err(_) => bail!("preparing a host panicked"),
                })
            })
        };
        all(&|host| world.prepare(host))?;
        let host = world.lab.hosts().first().context("there is no host")?;
        let helper = fs::read_link(host.root().join("nix/var/nix/gcroots/bosco/helper"))
            .context("the first apply has left no helper")?;
        world.helper = helper.to_string_lossy().into_owned();
        Ok(world)
    }

    /// Brings the first system to all hosts. Their windows are small, and a busy machine may miss one.
    fn begin(&self) -> Result<()> {
        let mut tries = 3;
        loop {
            tries -= 1;
            match run_ok(&mut self.bosco(&["apply", "--again"]), APPLY) {
                Err(_) if tries > 0 => {}
                came => {
                    return came.map(drop).context("the first system can't be brought to the hosts");
                }
            }
        }
    }

    /// Brings all systems to a host, to its disk, and boots it into the one that it was brought to.
    fn prepare(&self, host: &Host) -> Result<()> {
        let paths: Vec<&str> = self.systems(host).iter().map(|system| system.path.as_str()).collect();
        let to = format!("ssh://{}", host.name());
        self.lab.operator().nix([&["copy", "--no-check-sigs", "--to", &to], paths.as_slice()].concat())?;
        let links: String = paths
            .iter()
            .enumerate()
            .map(|(number, path)| format!("ln -sfn {path} /nix/var/nix/gcroots/system-{number}; "))
            .collect();
        host.ssh_ok(&format!("{links} sync"))?;
        host.power_cut(testbed::Unsynced::Kept)?;
        host.boot()?;
        host.wait_for_boot(BOOT)
    }

    /// The systems of a host.
    pub(crate) fn systems(&self, host: &Host) -> &[System] {
        if has_module(host.name()) { &self.module } else { &self.plain }
    }

    /// `bosco ARGS`, in the fleet.
    pub(crate) fn bosco(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.lab.operator().command(&self.bosco);
        command.args(args).current_dir(self.lab.operator().dir().join(FLEET));
        command
    }

    /// Makes the fleet say that a host is to run a system.
    pub(crate) fn declare(&self, host: &Host, system: &System) -> Result<()> {
        let letters = self.lab.operator().dir().join(FLEET).join("letters");
        let making = letters.join(format!(".{}", host.name()));
        fs::write(&making, system.letter.to_string())?;
        fs::rename(making, letters.join(host.name())).context("can't write what a host is to run")
    }
}

const FLEET: &str = "faults";

fn lay_out<'a>(lab: &'a Lab, names: &[String]) -> Result<Fleet<'a>> {
    let fleet = create(lab.operator(), FLEET)?;
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nix/modules");
    for module in ["activation.nix", "host.nix", "secrets.nix"] {
        let text =
            fs::read_to_string(modules.join(module)).with_context(|| format!("can't read {module}"))?;
        fleet.write(module, &text)?;
    }
    for name in names {
        fleet.write(format!("letters/{name}"), &first_letter().to_string())?;
    }
    fleet.write("system.nix", include_str!("system.nix"))?;
    fleet.write("flake.nix", include_str!("flake.nix"))?;
    fleet.commit()?;
    Ok(fleet)
}

fn first_letter() -> char {
    GROUPS[0].chars().next().unwrap_or('a')
}

/// Builds the systems of so many groups.
fn build(lab: &Lab, fleet: &Fleet<'_>, kind: &str, groups: usize) -> Result<Vec<System>> {
    let letters: Vec<(usize, char)> = GROUPS
        .iter()
        .take(groups)
        .enumerate()
        .flat_map(|(group, letters)| letters.chars().map(move |letter| (group, letter)))
        .collect();
    let flake = fleet.path().display();
    let wanted: Vec<String> =
        letters.iter().map(|(_, letter)| format!("{flake}#systems.{kind}.{letter}")).collect();
    let build = ["build", "--no-link", "--print-out-paths"].map(str::to_owned);
    let said = lab.operator().nix(build.iter().chain(&wanted))?;
    let paths: Vec<&str> = said.lines().collect();
    ensure!(
        paths.len() == letters.len(),
        "{} systems were to be built, and these were:\n{said}",
        letters.len()
    );
    let system = |((group, letter), path): ((usize, char), &str)| {
        Ok(System { letter, group, path: StorePath::parse(path).with_context(|| path.to_owned())? })
    };
    letters.into_iter().zip(paths).map(system).collect()
}
