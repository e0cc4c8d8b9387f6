//! Another tool that deploys the same machines, so that its time stands beside bosco's.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};
use testbed::Operator;
use testbed::fleet::Fleet;

use crate::bench::commands::{command, quiet};

/// Puts the operator's store to /nix/store, where peers look for it.
const ENTER: &str = include_str!("enter.sh");

/// Another tool, and its fleet.
pub(crate) struct Peer<'a> {
    /// What it is called.
    pub(crate) name: &'static str,
    pub(crate) operator: &'a Operator,
    pub(crate) fleet: Fleet<'a>,
    /// `flake.nix`, with what is to stand in every host's /etc/round.
    pub(crate) flake: Box<dyn Fn(&str) -> String>,
    /// What it deploys, as attributes of the flake.
    pub(crate) attributes: Vec<String>,
    pub(crate) program: PathBuf,
    /// What makes it deploy the fleet in whose folder it is.
    pub(crate) args: &'static [&'static str],
}

impl Peer<'_> {
    /// Changes the fleet, and builds all of it: that is the same work with any tool.
    pub(crate) fn change(&self, round: &str) -> Result<()> {
        self.fleet.write("flake.nix", &(self.flake)(round))?;
        self.fleet.commit()?;
        let mut nix = command(self.operator, "nix");
        nix.args(["build", "--no-link"]).args(self.attributes.iter().map(|name| format!(".#{name}")));
        quiet(nix.current_dir(self.fleet.path()))
            .with_context(|| format!("can't build the fleet of {}", self.name))?;
        // The build has written what the inputs are.
        self.fleet.commit()
    }

    /// Brings all hosts to what the fleet says.
    pub(crate) fn deploy(&self) -> Result<()> {
        let mut tool = entered(self.operator, &self.program);
        tool.args(self.args);
        quiet(tool.current_dir(self.fleet.path())).with_context(|| format!("{} did not deploy", self.name))
    }
}

/// A command that finds the operator's store at /nix/store.
pub(crate) fn entered(operator: &Operator, program: impl AsRef<OsStr>) -> Command {
    let mut tool = command(operator, "unshare");
    // What others unmount meanwhile goes from here too, and nothing of this is seen by them.
    tool.args(["--mount", "--propagation", "slave", "sh", "-c", ENTER, "enter.sh"]);
    tool.arg(operator.dir().join("root")).arg(operator.store().join("nix")).arg(program);
    tool
}
