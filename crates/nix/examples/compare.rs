//! What a diff of many hosts costs beside evaluation and ssh, for `cargo xtask bench diff`: reads pairs of systems that are in
//! the store here, compares them, and says which of them have the same to say.
//!
//!     compare BEFORE AFTER [BEFORE AFTER]…
#![allow(clippy::print_stdout)] // It is a program of its own.

use std::collections::HashMap;

use bosco_model::{Difference, StorePath, alike};
use bosco_nix::{Nix, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let paths = words.iter().map(|word| StorePath::parse(word)).collect::<Result<Vec<_>, _>>()?;
    let systems = Nix::find(Settings::default()).await?.systems(&paths).await?;
    let systems: HashMap<_, _> = systems.iter().map(|system| (&system.toplevel, system)).collect();
    let pairs =
        paths.chunks_exact(2).filter_map(|pair| Some((systems.get(&pair[0])?, systems.get(&pair[1])?)));
    let differences = pairs.map(|(before, after)| ((), Difference::between(before, after, None)));
    for (hosts, differences) in alike(differences) {
        let packages: usize = differences.first().map_or(0, |one| one.packages.len());
        let units =
            differences.first().and_then(|one| one.units.as_ref()).map_or(0, |units| units.restart.len());
        println!("{} hosts: {packages} packages, {units} units restarted", hosts.len());
    }
    Ok(())
}
