//! Colmena beside bosco, where there is one in PATH; it has to read `colmenaHive`, as 0.5 does. Hosts are given all paths
//! from here rather than asked for substitutes.

use std::path::PathBuf;

use anyhow::Result;
use testbed::Operator;
use testbed::fleet::create;

use crate::bench::apply::{list, machine};
use crate::bench::peer::Peer;

/// None where there is no Colmena.
pub(crate) fn peer<'a>(operator: &'a Operator, names: &[&str]) -> Result<Option<Peer<'a>>> {
    let Some(program) = find() else { return Ok(None) };
    let hosts = list(names);
    let text = move |round: &str| {
        format!(
            r#"{{
  inputs.nixpkgs.url = "nixpkgs";
  inputs.colmena.url = "colmena";
  inputs.colmena.inputs.nixpkgs.follows = "nixpkgs";
  outputs = {{ nixpkgs, colmena, ... }}: {{
    colmenaHive = colmena.lib.makeHive ({{
      meta.nixpkgs = import nixpkgs {{ system = "x86_64-linux"; }};
      defaults = {{ name, ... }}: {machine};
    }} // nixpkgs.lib.genAttrs [ {hosts} ] (_: {{ }}));
  }};
}}
"#,
            machine = machine(round),
        )
    };
    Ok(Some(Peer {
        name: "Colmena",
        operator,
        fleet: create(operator, "colmena-fleet")?,
        flake: Box::new(text),
        attributes: names.iter().map(|name| format!("colmenaHive.toplevel.{name}")).collect(),
        program,
        args: &["apply", "--no-substitute", "--color", "never"],
    }))
}

fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("colmena")).find(|program| program.is_file())
}
