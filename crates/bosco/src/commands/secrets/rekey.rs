//! `bosco secrets rekey`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bosco_secrets::sops::MAX_FILE;
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::secrets::readers::Reader;
use crate::secrets::rekey::{Change, Plan, plan};
use crate::secrets::rules::{self, Rule};
use crate::secrets::tree::Tree;
use crate::secrets::{Secrets, recipients, sops, survey};
use crate::show;

/// What was done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Done {
    /// Which `.sops.yaml` were written.
    pub(crate) written: Vec<String>,
    /// Which files were encrypted anew.
    pub(crate) rekeyed: Vec<Rekeyed>,
    /// Which sops could not, and why.
    pub(crate) failed: Vec<Failed>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Failed {
    pub(crate) file: String,
    #[serde(flatten)]
    pub(crate) error: Error,
}

#[derive(Debug, Serialize)]
pub(crate) struct Rekeyed {
    pub(crate) file: String,
    added: Vec<String>,
    removed: Vec<String>,
}

pub(crate) async fn run(cli: &Cli) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let (mut done, undecided) = stoppable(&show, async {
        let Secrets { tree, book } = survey(cli, watch(&show)).await?;
        let plan = plan(&book);
        Ok((apply(&tree, &plan).await?, plan.undecided))
    })
    .await?;
    if cli.json {
        show::json(&done);
    } else {
        show::text(&words(&done));
    }
    if !done.failed.is_empty() {
        return Err(done.failed.swap_remove(0).error);
    }
    if let Some((file, why)) = undecided.first() {
        let message = format!("{file} is left as it is: {}", why.why);
        return Err(Error::new(Exit::NotBuilt, message).hint(&why.hint));
    }
    Ok(Exit::Done)
}

fn words(done: &Done) -> String {
    let mut lines: Vec<String> = done.written.iter().map(|file| format!("{file}: written")).collect();
    lines.extend(done.rekeyed.iter().map(|one| {
        let added = one.added.iter().map(|name| format!(" +{name}"));
        let removed = one.removed.iter().map(|name| format!(" -{name}"));
        format!("{}:{}", one.file, added.chain(removed).collect::<String>())
    }));
    if done.rekeyed.iter().any(|one| !one.removed.is_empty()) {
        lines.push(
            "who was taken out could read these files: change what is in them where that matters".into(),
        );
    }
    lines.extend(done.failed.iter().map(|one| format!("{}: left as it is", one.file)));
    if lines.is_empty() { "every file is encrypted to whom it should be".into() } else { lines.join("\n") }
}

/// Does what is planned: first the rules, then the files.
pub(crate) async fn apply(tree: &Tree, plan: &Plan) -> Result<Done, Error> {
    let mut done = Done::default();
    for (file, text) in written(tree, plan)? {
        let path = tree.root.join(&file);
        std::fs::write(&path, text).map_err(|error| {
            Error::new(Exit::Unable, format!("{} can't be written: {error}", path.display()))
        })?;
        done.written.push(file);
    }
    for change in &plan.changes {
        let file = change.file.clone();
        match encrypt(tree, change).await {
            Ok(()) => {
                let (added, removed) = (change.added.clone(), change.removed.clone());
                done.rekeyed.push(Rekeyed { file, added, removed });
            }
            // Another file may have readers who are here.
            Err(error) if error.exit == Exit::NotDeployed => done.failed.push(Failed { file, error }),
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Has one file encrypted to its readers.
async fn encrypt(tree: &Tree, change: &Change) -> Result<(), Error> {
    let Change { file, format, readers, .. } = change;
    let (dir, below) = home(tree, file);
    let dir = tree.root.join(dir);
    let recipients = || recipients(tree, file, *format).unwrap_or_default();
    let is_other = |recipient: &String| !readers.contains(&Reader::of(recipient));
    let others: Vec<String> = recipients().into_iter().filter(is_other).collect();
    if !others.is_empty() {
        sops::rotate(&dir, &below, &others).await?;
        // Who takes themselves out could not do more to it.
        if recipients().iter().map(|recipient| Reader::of(recipient)).collect::<BTreeSet<_>>() == *readers {
            return Ok(());
        }
    }
    sops::update_keys(&dir, &below).await
}

/// Each `.sops.yaml` that has to be another one, with its text.
pub(crate) fn written(tree: &Tree, plan: &Plan) -> Result<BTreeMap<String, String>, Error> {
    let mut by_file: BTreeMap<String, Vec<Rule>> = BTreeMap::new();
    for (file, rule) in &plan.rules {
        let (dir, below) = home(tree, file);
        let place = Path::new(&dir).join(rules::FILE).to_string_lossy().into_owned();
        by_file.entry(place).or_default().push(Rule { file: below, ..rule.clone() });
    }
    let mut written = BTreeMap::new();
    for (file, rules) in by_file {
        let unusable = |why: &dyn std::fmt::Display| {
            Error::new(Exit::Usage, format!("{file}: {why}"))
                .hint("put it right, or write below `creation_rules:` one rule behind each `-`")
        };
        let present = if tree.root.join(&file).exists() {
            tree.text(&file, MAX_FILE).ok_or_else(|| unusable(&"it can't be read"))?
        } else {
            String::new()
        };
        let text = rules::with_rules(&present, &rules).map_err(|why| unusable(&why))?;
        // What can't be read back is not written either.
        rules::read(&text).map_err(|why| unusable(&why))?;
        if text != present {
            written.insert(file, text);
        }
    }
    Ok(written)
}

/// Where the `.sops.yaml` of a file lies, from the root, and the file from there.
pub(crate) fn home(tree: &Tree, file: &str) -> (String, String) {
    let config = tree.nearest(file, rules::FILE).unwrap_or_default();
    let dir = config.strip_suffix(rules::FILE).unwrap_or_default();
    (dir.to_owned(), file.strip_prefix(dir).unwrap_or(file).to_owned())
}
