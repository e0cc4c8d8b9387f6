//! The helpers: the programs that carry activations out on hosts, one for each kind of machine, in the store here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use bosco_model::StorePath;
use bosco_nix::Nix;
use tokio::sync::Mutex;

use crate::event::Stage;
use crate::fleet::failed;
use crate::outcome::Outcome;

/// Where a folder of helpers is named, where it is not beside the program.
const VARIABLE: &str = "BOSCO_HELPERS";
/// Where it is, seen from the folder of the program.
const BESIDE: &str = "../libexec/bosco/helpers";

/// The helpers that are at hand.
#[derive(Clone)]
pub(crate) struct Helpers {
    nix: Nix,
    /// Those that are in the store here by now.
    added: Arc<Mutex<HashMap<String, StorePath>>>,
}

impl Helpers {
    pub(crate) fn new(nix: Nix) -> Self {
        Self { nix, added: Arc::default() }
    }

    /// The helper for a kind of machine, in the store here.
    pub(crate) async fn of(&self, system: &str) -> Result<StorePath, Outcome> {
        let mut added = self.added.lock().await;
        if let Some(path) = added.get(system) {
            return Ok(path.clone());
        }
        let folder = find(system).ok_or_else(|| missing(system))?;
        let path = self.nix.add(&folder).await.map_err(|error| failed(Stage::Evaluate, &error))?;
        added.insert(system.to_owned(), path.clone());
        Ok(path)
    }
}

/// The folder that goes to the store: `FOLDER/SYSTEM/bosco-helper`, with `bin/bosco` in it.
pub(crate) fn find(system: &str) -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).map(PathBuf::from);
    let program = std::env::current_exe().ok().and_then(|program| program.canonicalize().ok());
    let beside = program.and_then(|program| Some(program.parent()?.join(BESIDE)));
    let folders = named.into_iter().chain(beside);
    folders
        .map(|folder| folder.join(system).join("bosco-helper"))
        .find(|folder| folder.join("bin/bosco").is_file())
}

fn missing(system: &str) -> Outcome {
    let hint = format!(
        "it is looked for in ${VARIABLE} and beside `bosco`; `cargo xtask install DIR` puts the one for its own kind of machine there"
    );
    Outcome::Refused { reason: format!("this bosco has no helper for {system}"), hint }
}
