//! `bosco secrets edit`.

use std::path::Path;

use bosco_secrets::sops::MAX_FILE;

use super::rekey::home;
use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::secrets::rekey::plan;
use crate::secrets::rules::{self, Rule};
use crate::secrets::{Secrets, sops, survey};
use crate::show;

pub(crate) async fn run(cli: &Cli, file: &Path) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let Secrets { tree, book } = stoppable(&show, survey(cli, watch(&show))).await?;
    let file = place(&tree.root, file)?;
    let plan = plan(&book);
    if let Some((_, why)) = plan.undecided.iter().find(|(undecided, _)| *undecided == file) {
        let message = format!("{file}: {} asks for it: {}", why.host, why.why);
        return Err(Error::new(Exit::NotBuilt, message).hint(&why.hint));
    }
    // What others should say of other files is nothing to this one.
    let (dir, below) = home(&tree, &file);
    let rules = format!("{dir}{}", rules::FILE);
    let text = tree.text(&rules, MAX_FILE).unwrap_or_default();
    if let Some(rule) = plan.rules.get(&file)
        && !rules::has(&text, &Rule { file: below.clone(), ..rule.clone() })
    {
        let message = format!("{rules} does not say who is to read {file}");
        return Err(Error::new(Exit::NotBuilt, message).hint("`bosco secrets rekey` writes it"));
    }
    match sops::edit(&tree.root.join(dir), &below).await? {
        // sops has 200 for a file that was left as it is.
        0 | 200 => Ok(Exit::Done),
        code => Err(Error::new(Exit::NotDeployed, format!("sops ended with exit code {code}"))),
    }
}

/// A file by its path from the root. It need not be there yet.
fn place(root: &Path, file: &Path) -> Result<String, Error> {
    let outside = || {
        Error::new(Exit::Usage, format!("{} is not below {}", file.display(), root.display()))
            .hint("name a file of the fleet")
    };
    let full = std::path::absolute(file).map_err(|_| outside())?;
    let (dir, name) = full.parent().zip(full.file_name()).ok_or_else(outside)?;
    let dir = dir.canonicalize().map_err(|_| {
        Error::new(Exit::Usage, format!("there is no directory {}", dir.display())).hint("make it first")
    })?;
    let root = root.canonicalize().map_err(|_| outside())?;
    let full = dir.join(name);
    full.strip_prefix(&root).ok().and_then(Path::to_str).map(str::to_owned).ok_or_else(outside)
}
