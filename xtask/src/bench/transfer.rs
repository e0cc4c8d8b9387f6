//! What it takes to get 200 paths, of a megabyte each, to a host: `bosco apply --goal push` beside `nix copy`, next door
//! and at 50 ms round trip, and beside what ssh alone makes of as many bytes.
//!
//! The paths are a tree, as closures are, of noise that no compression helps with. What one way has brought is deleted on
//! the host before the next, so that all bring the same. What `bosco build` takes is taken off: `nix copy` is told what is built already.

use std::fs::File;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use testbed::fleet::create;
use testbed::{Host, Lab, LabSpec, Operator};

use crate::bench::commands::{command, quiet, ssh, text};
use crate::bench::{Figure, median, time};
use crate::tools::build;

const HOST: &str = "host1";
const RUNS: usize = 3;
/// How long what has served a copy may take to let go of the paths.
const LETTING_GO: Duration = Duration::from_secs(30);

/// In Nix, with `pkgs` and `lib`: the root of a tree of 200 paths. All have the same size, and each its own noise.
pub(crate) const NOISE: &str = r#"(let
  path = number: pkgs.runCommand "noise-${toString number}" { } ''
    mkdir $out
    head -c 1000000 /dev/urandom > $out/noise
    echo ${toString (map path (lib.filter (child: child <= 200) [ (2 * number) (2 * number + 1) ]))} > $out/children
  '';
in "${path 1}")"#;

/// A host whose /etc holds that.
const FLEET: &str = r#"{
  inputs.nixpkgs.url = "nixpkgs";
  outputs = { nixpkgs, ... }: {
    nixosConfigurations.host1 = nixpkgs.lib.nixosSystem {
      system = "x86_64-linux";
      modules = [ ({ pkgs, lib, ... }:
        {
          networking.hostName = "host1";
          services.openssh.enable = true;
          system.stateVersion = "26.05";
          environment.etc."noise".text = NOISE;
        }) ];
    };
  };
}
"#;

pub(crate) fn run() -> Result<Vec<Figure>> {
    build("testbed", "bosco-lab", false)?;
    let bosco = build("bosco", "bosco", true)?;
    let lab = Lab::up(&LabSpec::new(1))?;
    let (operator, host) = (lab.operator(), lab.host(HOST)?);
    let fleet = create(operator, "bench")?;
    fleet.write("flake.nix", &FLEET.replace("NOISE", NOISE))?;
    fleet.commit()?;
    eprintln!("transfer: building");
    let attribute = format!(".#nixosConfigurations.{HOST}.config.system.build.toplevel");
    let mut nix = command(operator, "nix");
    nix.args(["build", "--no-link", "--print-out-paths", &attribute]).current_dir(fleet.path());
    let toplevel = text(&mut nix)?.trim().to_owned();
    fleet.commit()?;
    let load = Load::of(operator, host, &toplevel)?;

    let nix_copy = |scheme: &str| {
        let to = format!("{scheme}://{HOST}");
        quiet(command(operator, "nix").args(["copy", "--no-check-sigs", "--to", &to, &toplevel]))
    };
    let make = || {
        let mut bosco = command(operator, &bosco);
        quiet(bosco.args(["build", "--color", "never"]).current_dir(fleet.path()))
    };
    let push = || {
        let mut bosco = command(operator, &bosco);
        quiet(bosco.args(["apply", "--goal", "push", "--color", "never"]).current_dir(fleet.path()))
    };
    let stream = || load.stream();

    let mut figures = Vec::new();
    for (round_trip, most) in [(0, 1.0), (50, 1.0 / 3.0)] {
        host.delay(Duration::from_millis(round_trip) / 2)?;
        let (mut builds, mut pushes, mut copies, mut ng_copies, mut streams) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for run in 1..=RUNS {
            eprintln!("transfer: {round_trip} ms, run {run} of {RUNS}");
            builds.push(time(make)?);
            streams.push(time(stream)?);
            pushes.push(load.bring(push)?);
            copies.push(load.bring(|| nix_copy("ssh"))?);
            ng_copies.push(load.bring(|| nix_copy("ssh-ng"))?);
        }
        let push = median(pushes) - median(builds);
        let (copy, ng_copy, stream) = (median(copies), median(ng_copies), median(streams));
        let (best, scheme) = if copy <= ng_copy { (copy, "ssh") } else { (ng_copy, "ssh-ng") };
        let rate = |seconds: f64| load.megabytes / seconds;
        let name = format!("push of {} at {round_trip} ms", load.name());
        figures.extend([
            Figure::at_most(format!("{name}, beside `nix copy` to ssh://"), push, "s", copy, most),
            Figure::at_most(
                format!("{name}, beside the faster `nix copy`, to {scheme}://"),
                push,
                "s",
                best,
                most,
            ),
            Figure::beside(
                format!("{name}, as a rate, beside the faster `nix copy`"),
                rate(push),
                "MB/s",
                rate(best),
            ),
            Figure::beside(format!("{name}, as a rate, beside ssh alone"), rate(push), "MB/s", rate(stream)),
        ]);
    }
    Ok(figures)
}

/// What is to be brought to the host.
pub(crate) struct Load<'a> {
    operator: &'a Operator,
    host: &'a Host,
    /// The paths that it lacks.
    paths: Vec<String>,
    megabytes: f64,
}

impl<'a> Load<'a> {
    /// What the host lacks of a system.
    pub(crate) fn of(operator: &'a Operator, host: &'a Host, toplevel: &str) -> Result<Self> {
        let closure = text(command(operator, "nix-store").args(["--query", "--requisites", toplevel]))?;
        let paths = lacking(host, closure.lines())?;
        let sizes = text(command(operator, "nix-store").args(["--query", "--size"]).args(&paths))?;
        let bytes: u64 = sizes.lines().map(|line| line.trim().parse::<u64>()).sum::<Result<_, _>>()?;
        let noise = File::create(operator.dir().join("stream")).context("can't create a file")?;
        quiet(command(operator, "head").args(["-c", &bytes.to_string(), "/dev/urandom"]).stdout(noise))?;
        Ok(Self { operator, host, paths, megabytes: bytes as f64 / 1e6 })
    }

    pub(crate) fn name(&self) -> String {
        format!("{} paths ({:.0} MB)", self.paths.len(), self.megabytes)
    }

    /// As many bytes over ssh, to nowhere.
    fn stream(&self) -> Result<()> {
        let bytes = File::open(self.operator.dir().join("stream")).context("can't open a file")?;
        let mut ssh = ssh(self.operator, self.host.name(), "cat > /dev/null");
        let status = ssh.stdin(bytes).status().context("could not run ssh")?;
        ensure!(status.success(), "ssh failed ({status})");
        Ok(())
    }

    /// How long it takes to bring it there in one way. The host has none of it before and after.
    pub(crate) fn bring(&self, way: impl FnOnce() -> Result<()>) -> Result<Duration> {
        let took = time(way)?;
        let left = lacking(self.host, self.paths.iter().map(String::as_str))?;
        ensure!(left.is_empty(), "{} of {} paths have not come", left.len(), self.paths.len());
        self.forget()?;
        Ok(took)
    }

    /// Deletes it on the host.
    pub(crate) fn forget(&self) -> Result<()> {
        // All machines share one kernel: what is still to be written would slow whatever comes next.
        let script = format!(
            "rm -f /nix/var/nix/gcroots/bosco/*; nix-store --delete {} >/dev/null; sync",
            self.paths.join(" ")
        );
        let started = Instant::now();
        loop {
            let output = self.host.ssh(&script)?;
            if lacking(self.host, self.paths.iter().map(String::as_str))?.len() == self.paths.len() {
                return Ok(());
            }
            // What has served the copy may still be there, and keeps what it was given.
            if started.elapsed() > LETTING_GO {
                bail!(
                    "{} can't delete what it was brought:\n{}",
                    self.host.name(),
                    String::from_utf8_lossy(&output.stderr)
                );
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

/// Those of some paths that a host has not.
fn lacking<'p>(host: &Host, paths: impl Iterator<Item = &'p str>) -> Result<Vec<String>> {
    let paths: Vec<&str> = paths.collect();
    let script = format!("nix-store --check-validity --print-invalid {}", paths.join(" "));
    Ok(host.ssh_ok(&script)?.lines().map(ToOwned::to_owned).collect())
}
