//! A host that builds itself: its tree to a system, and newer inputs of its flake to the next one. What comes of it is rooted,
//! and goes the way of every other system from there on.

use std::fs;
use std::path::Path;

use bosco_activation::{Ending, Refused, Report};
use bosco_model::{Observed, StorePath};
use bosco_nix::{LogLine, Nix};
use bosco_release::{Manifest, Opened, Runs};
use bosco_wire::api::Phase;
use serde::{Deserialize, Serialize};

use crate::activate;
use crate::agent::Agent;
use crate::core::words;
use crate::machine;

/// What keeps the system that was built of the tree; and the one that was built with newer inputs.
const BUILT: &str = "built";
const UPDATED: &str = "updated";
/// Where a copy of the tree is while its inputs are updated, in the agent's own folder.
const COPY: &str = "updating";

/// What was built of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Built {
    /// The tree.
    pub(crate) tree: StorePath,
    /// What it has come to.
    pub(crate) toplevel: StorePath,
    /// The same with newer inputs. The host runs it, or tries it, or has tried it in vain.
    pub(crate) update: Option<StorePath>,
}

impl Built {
    /// What the host should run: what has come of newer inputs only where it has held.
    pub(crate) fn should(&self, observed: Option<&Observed>) -> &StorePath {
        let runs = |path: &&StorePath| {
            observed.is_some_and(|observed| {
                [&observed.current, &observed.profile].iter().any(|one| one.as_ref() == Some(*path))
            })
        };
        self.update.as_ref().filter(runs).unwrap_or(&self.toplevel)
    }

    /// What is to be known once a newer system is there, on a host that runs one of these.
    fn updated(self, runs: StorePath, update: StorePath) -> Self {
        Self { toplevel: runs, update: Some(update), ..self }
    }
}

/// Builds the system of a manifest, unless that is done.
///
/// # Errors
/// In words. It is reported then.
pub(crate) async fn itself(agent: &Agent, opened: &Opened) -> Result<(), String> {
    let Runs::Tree { tree, .. } = &opened.manifest.runs else { return Ok(()) };
    let built = agent.core().built(tree);
    if built.is_some_and(|built| built.toplevel.as_ref().exists()) {
        return Ok(());
    }
    agent.say(&format!("builds release {} from {tree}", opened.manifest.number));
    at(agent, "it builds itself");
    let toplevel = build(agent, opened, tree, BUILT, false).await?;
    let mut core = agent.core();
    core.pull.built = Some(Built { tree: tree.clone(), toplevel, update: None });
    core.save();
    Ok(())
}

/// Builds the system of a manifest with newer inputs of its flake. `None`: there are none, or they change nothing, or what comes
/// of them is known not to hold.
///
/// # Errors
/// In words. A build that fails is reported.
pub(crate) async fn update(agent: &Agent, opened: &Opened) -> Result<Option<StorePath>, String> {
    let Runs::Tree { tree, .. } = &opened.manifest.runs else { return Ok(None) };
    let Some(runs) = agent.core().should().cloned() else { return Ok(None) };
    let copy = agent.config.state.join(COPY);
    clear(&copy)?;
    let updated = Nix::of_host().update_itself(tree, &copy, &mut |_| {}).await;
    let cleared = clear(&copy);
    let updated = updated.map_err(|error| error.to_string())?;
    cleared?;
    let Some(updated) = updated else {
        agent.say("its inputs are the newest");
        return Ok(None);
    };
    agent.say(&format!("builds release {} with newer inputs", opened.manifest.number));
    at(agent, "it builds itself with newer inputs");
    let toplevel = build(agent, opened, &updated, UPDATED, true).await?;
    if toplevel == runs {
        agent.say("its inputs are newer, and come to the same system");
        return Ok(None);
    }
    let mut core = agent.core();
    if core.journal.quarantined(&toplevel).is_some() {
        return Err("what comes of newer inputs has failed here, and is not tried again".into());
    }
    let built = core.built(tree);
    core.pull.built = built.map(|built| built.updated(runs.clone(), toplevel.clone()));
    core.save();
    drop(core);
    let kept = bosco_host::durable::link(runs.as_ref(), &agent.config.places.gcroots().join(BUILT));
    kept.map(|()| Some(toplevel))
}

fn clear(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{} can't be removed: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn at(agent: &Agent, why: &str) {
    agent.core().at(Phase::Building, Some(why.into()));
    agent.news.notify_one();
}

/// Builds a tree, and roots what comes of it.
async fn build(
    agent: &Agent,
    opened: &Opened,
    tree: &StorePath,
    root: &str,
    automatic: bool,
) -> Result<StorePath, String> {
    let Manifest { host, number, .. } = &opened.manifest;
    let began = machine::now();
    let link = agent.config.places.gcroots().join(root);
    let mut listen = |line| match line {
        LogLine::ToBuild(count) => at(agent, &format!("it builds {count} derivations")),
        LogLine::ToFetch(count, size) => at(agent, &format!("it fetches {count} paths from caches, {size}")),
        _ => {}
    };
    let built = Nix::of_host().build_itself(host, tree, &link, &mut listen).await;
    let error = match built {
        Ok(toplevel) => return Ok(toplevel),
        Err(error) => error,
    };
    let (why, log) = match &error {
        bosco_nix::Error::Failed { message, log } => (words(message), log.clone()),
        other => (words(&other.to_string()), String::new()),
    };
    // Each further time it would say the same.
    let is_news = if automatic {
        agent.core().is_news_of_update(&why)
    } else {
        agent.core().is_news(opened.leaf, &why)
    };
    if is_news {
        let report = Report {
            id: format!("build-{began:x}-{:016x}", machine::random()),
            toplevel: tree.clone(),
            ending: Ending::Refused { why: Refused::Unbuilt { why: why.clone() } },
            running: agent.core().runs(),
            generation: None,
            stuck: None,
            log: String::new(),
        };
        activate::queue(agent, *number, automatic, began, report, &log);
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> StorePath {
        StorePath::parse(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap()
    }

    fn running(current: &str, profile: &str) -> Observed {
        Observed { current: Some(path(current)), profile: Some(path(profile)), ..Observed::default() }
    }

    #[test]
    fn what_newer_inputs_came_to_is_what_it_should_run_only_where_it_has_held() {
        let built = Built { tree: path("tree"), toplevel: path("old"), update: None };
        assert_eq!(*built.should(Some(&running("old", "old"))), path("old"));
        let built = built.updated(path("old"), path("new"));
        assert_eq!(*built.should(Some(&running("old", "old"))), path("old"), "not tried, or taken back");
        assert_eq!(*built.should(Some(&running("new", "new"))), path("new"));
        assert_eq!(*built.should(Some(&running("old", "new"))), path("new"), "it comes with the next boot");
        assert_eq!(*built.should(None), path("old"));
        let again = built.updated(path("new"), path("newer"));
        assert_eq!(*again.should(Some(&running("new", "new"))), path("new"));
        assert_eq!(*again.should(Some(&running("newer", "newer"))), path("newer"));
    }
}
