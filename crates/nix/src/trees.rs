//! The hosts of a tree in the store, and what a host makes of its own: each directory is one path there, so that whoever
//! evaluates it, here or on the host, evaluates the same.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bosco_model::{HostName, StorePath};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::command::run;
use crate::evaluate::{TREE, nix_string};
use crate::source::Place;
use crate::tree::{self, Disk, HOSTS, Resolved};
use crate::{Error, Fleet, LogLine, Nix, Source};

/// How long a host may build itself: all of a system on a slow machine, if it comes to that.
const LONGEST_BUILD: Duration = Duration::from_secs(12 * 3600);
/// How long it may look for newer inputs of its flake.
const LONGEST_UPDATE: Duration = Duration::from_secs(1800);
/// What a directory is called in the store: a flake of that name is not copied there once more.
const NAME: &str = "source";
/// How many names of a folder are tried.
const MOST_FOLDERS: usize = 1000;
/// What records the inputs of a flake.
const LOCK: &str = "flake.lock";

/// What a host of a tree builds itself from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Its directory, resolved, in the store here.
    pub path: StorePath,
    /// Whether it may update the inputs of its flake by itself.
    pub self_update: bool,
    /// Whether it may reboot where only that brings a change in.
    pub reboot: bool,
}

/// What hosts build themselves from, by their names, or why one can't be handed over.
pub type Trees = BTreeMap<String, Result<Tree, Error>>;

impl Fleet {
    /// What a host builds itself from, where the fleet is a tree; `Err` where its directory can't be handed over.
    #[must_use]
    pub fn tree(&self, host: &HostName) -> Option<Result<Tree, Error>> {
        self.trees.get(host.as_str()).cloned()
    }
}

/// A folder of this process, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Error> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let folder = std::env::temp_dir().join(format!("bosco-tree-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(Self(folder)),
                // What is there already is somebody else's, who could change what is to be signed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < MOST_FOLDERS => {}
                Err(error) => {
                    let why = format!("{} can't be made: {error}", folder.display());
                    return Err(Error::Process { program: "mkdir".into(), why });
                }
            }
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Nix {
    /// Puts the directory of each host of a tree into the store here; nothing where the source is none.
    pub(crate) async fn trees(&self, source: &Source) -> Result<Trees, Error> {
        let mut trees = Trees::new();
        if *source.place() != Place::Tree {
            return Ok(trees);
        }
        let folder = Folder::new()?;
        for name in tree::hosts(&source.dir) {
            let Some(name) = name.to_str().map(str::to_owned) else {
                return Err(Error::Fleet {
                    why: format!("a directory in {HOSTS} has a name that is not UTF-8"),
                    hint: "rename it; hosts are named by letters, digits, `_`, `-` and `.`".into(),
                });
            };
            let tree = match laid(&source.dir, &name, &folder.0.join(&name).join(NAME)).await {
                Ok((resolved, at)) => self.add(&at).await.map(|path| Tree {
                    path,
                    self_update: resolved.self_update(),
                    reboot: resolved.reboot(),
                }),
                Err(error) => Err(error),
            };
            trees.insert(name, tree);
        }
        Ok(trees)
    }

    /// Builds a host from its tree, and roots what comes of it by a link.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words, also where it takes longer than half a day.
    pub async fn build_itself(
        &self,
        host: &HostName,
        tree: &StorePath,
        link: &Path,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<StorePath, Error> {
        let (host, tree) = (nix_string(host.as_str()), nix_string(tree.as_str()));
        let expression = format!("(({TREE}) {host} {tree}).config.system.build.toplevel");
        let mut command = self.nix("build", Path::new("/"));
        command.args(["--impure", "--print-build-logs", "--print-out-paths", "--expr", &expression]);
        command.arg("--out-link").arg(link);
        let built = timeout(LONGEST_BUILD, run(command, None, listen)).await;
        let built = built.map_err(|_| too_long("to build the system", LONGEST_BUILD))??;
        let text = String::from_utf8_lossy(&built);
        StorePath::parse(text.trim())
            .map_err(|error| Error::Answer { program: "nix build".into(), why: error.to_string() })
    }

    /// Updates the inputs of the flake that is a host's tree, in a copy of it in a folder that is not there yet. Gives the copy,
    /// in the store; nothing where there are no newer ones.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn update_itself(
        &self,
        tree: &StorePath,
        folder: &Path,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Option<StorePath>, Error> {
        let copy = folder.join(NAME);
        let (from, to) = (tree.as_ref().to_owned(), copy.clone());
        blocking(move || copied(&from, &to)).await?;
        let lock = || std::fs::read(copy.join(LOCK)).unwrap_or_default();
        let before = lock();
        let mut command = self.nix("flake", Path::new("/"));
        command.arg("update").arg("--flake").arg(format!("path:{}", copy.display()));
        let updated = timeout(LONGEST_UPDATE, run(command, None, listen)).await;
        updated.map_err(|_| too_long("to look for newer inputs", LONGEST_UPDATE))??;
        if lock() == before { Ok(None) } else { self.add(&copy).await.map(Some) }
    }
}

fn too_long(what: &str, limit: Duration) -> Error {
    let message = format!("it took longer than {} minutes {what}", limit.as_secs() / 60);
    Error::Failed { log: message.clone(), message }
}

/// Resolves the directory of a host, and lays it out in a folder.
async fn laid(root: &Path, host: &str, to: &Path) -> Result<(Resolved, PathBuf), Error> {
    let (root, host, to) = (root.to_owned(), host.to_owned(), to.to_owned());
    blocking(move || {
        let resolved = tree::resolve(&Disk(&root), &root, &host);
        let laid = resolved.and_then(|resolved| tree::copy(&root, &resolved, &to).map(|()| resolved));
        let unresolved = |why: tree::Unresolved| Error::Fleet {
            why: format!("{HOSTS}/{host} can't be handed over: {why}"),
            hint: why.hint().into(),
        };
        laid.map(|resolved| (resolved, to)).map_err(unresolved)
    })
    .await
}

/// Copies a directory of the store. There are no links in it.
fn copied(from: &Path, to: &Path) -> Result<(), Error> {
    let parent = from.parent().unwrap_or(from);
    let failed = |why: tree::Unresolved| Error::Process { program: "cp".into(), why: why.to_string() };
    let name = from.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let resolved = tree::folder(&Disk(parent), parent, Path::new(""), name).map_err(failed)?;
    tree::copy(parent, &resolved, to).map_err(failed)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

/// What is evaluated of a tree: the path of each host, or why there is none.
pub(crate) fn value(trees: &Trees) -> String {
    let one = |(name, tree): (&String, &Result<Tree, Error>)| match tree {
        Ok(tree) => format!("{} = {};", nix_string(name), nix_string(tree.path.as_str())),
        Err(why) => format!("{} = throw {};", nix_string(name), nix_string(&why.to_string())),
    };
    format!("{{ {} }}", trees.iter().map(one).collect::<Vec<_>>().join(" "))
}

/// Calls the hosts' directories in the store by the names that the user knows.
pub(crate) fn named(message: String, trees: &Trees) -> String {
    let there = trees.iter().filter_map(|(name, tree)| Some((name, tree.as_ref().ok()?)));
    there.fold(message, |text, (name, tree)| text.replace(tree.path.as_str(), &format!("{HOSTS}/{name}")))
}
