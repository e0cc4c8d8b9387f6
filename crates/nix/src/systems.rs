//! Systems that are in the store here, read to be compared: closures by asking Nix, once for all of them, units from the
//! store's own files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bosco_model::{BOOT_PARTS, StorePath, System, UnitFile, Units};

use crate::command::run;
use crate::{Error, Nix, PathInfo};

/// How many links lead from one to the next, at most.
const MOST_LINKS: usize = 40;
/// The most that is read of one file, in bytes.
const MOST_TEXT: u64 = 1024 * 1024;
/// Where the units of a system are.
const UNITS: &str = "etc/systemd/system";

/// The files of a store, wherever it lies.
struct Files {
    /// What stands before `/nix/store`.
    root: PathBuf,
    /// Units that were read, or found masked, by where links lead to: hosts share most of them.
    units: HashMap<PathBuf, Option<Arc<UnitFile>>>,
    /// All units of a system, by where they are.
    systems: HashMap<PathBuf, Units>,
}

impl Nix {
    /// Reads systems that are in the store here, with all that they need.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn systems(&self, toplevels: &[StorePath]) -> Result<Vec<System>, Error> {
        let Some(first) = toplevels.first() else { return Ok(Vec::new()) };
        let root = async {
            if Path::new(first.as_str()).exists() { "/".into() } else { self.root_of_store().await }
        };
        let (root, closure) = tokio::join!(root, self.store_here()?.closure(toplevels));
        let (_, infos) = closure?;
        let toplevels = toplevels.to_vec();
        let read = move || {
            let graph = Graph::new(&infos);
            let mut files = Files { root, units: HashMap::new(), systems: HashMap::new() };
            toplevels.into_iter().map(|toplevel| files.system(toplevel, &graph)).collect()
        };
        tokio::task::spawn_blocking(read)
            .await
            .map_err(|error| Error::Process { program: "nix-store".into(), why: error.to_string() })
    }

    /// What stands before `/nix/store` where the store here lies in a folder of its own.
    async fn root_of_store(&self) -> PathBuf {
        let said = run(self.nix("show-config", Path::new(".")), None, &mut |_| {}).await.unwrap_or_default();
        store_root(&String::from_utf8_lossy(&said)).unwrap_or_else(|| "/".into())
    }
}

/// Where the store's own `/nix/store` lies, of what `nix show-config` says.
fn store_root(config: &str) -> Option<PathBuf> {
    let store = config.lines().find_map(|line| line.strip_prefix("store = "))?.trim();
    if store.starts_with('/') {
        return Some(store.split('?').next()?.into());
    }
    let (_, settings) = store.split_once('?')?;
    settings.split('&').find_map(|setting| setting.strip_prefix("root=")).map(PathBuf::from)
}

/// What refers to what.
struct Graph<'a> {
    infos: &'a [PathInfo],
    places: HashMap<&'a StorePath, usize>,
}

impl<'a> Graph<'a> {
    fn new(infos: &'a [PathInfo]) -> Self {
        Self { infos, places: infos.iter().enumerate().map(|(at, info)| (&info.path, at)).collect() }
    }

    /// All that a path needs, with the bytes of each.
    fn closure(&self, of: &StorePath) -> BTreeMap<StorePath, u64> {
        let mut next: Vec<usize> = self.places.get(of).copied().into_iter().collect();
        let mut seen: HashSet<usize> = next.iter().copied().collect();
        let mut closure = Vec::new();
        while let Some(at) = next.pop() {
            let info = &self.infos[at];
            closure.push((info.path.clone(), info.size));
            let references = info.references.iter().filter_map(|path| self.places.get(path));
            next.extend(references.filter(|at| seen.insert(**at)));
        }
        closure.into_iter().collect()
    }
}

impl Files {
    fn system(&mut self, toplevel: StorePath, graph: &Graph<'_>) -> System {
        let top = Path::new(toplevel.as_str());
        let boot = BOOT_PARTS.iter().filter_map(|(name, by_text)| {
            let part = top.join(name);
            let is = if *by_text {
                self.text(&self.follow(&part)?)?
            } else {
                self.follow(&part)?.display().to_string()
            };
            Some(((*name).to_owned(), is.trim().to_owned()))
        });
        let boot = boot.collect();
        let version = self.follow(&top.join("nixos-version")).and_then(|file| self.text(&file));
        let version = version.map(|text| text.trim().to_owned());
        let units = self.follow(&top.join(UNITS)).and_then(|folder| self.units(&folder));
        System { closure: graph.closure(&toplevel), version, units, boot, toplevel }
    }

    /// The units in a folder of them.
    fn units(&mut self, folder: &Path) -> Option<Units> {
        if let Some(known) = self.systems.get(folder) {
            return Some(known.clone());
        }
        let mut units = Units::default();
        let mut drop_ins = Vec::new();
        for name in self.names(folder)? {
            let is_wanted = |name: &str| name.ends_with(".wants") || name.ends_with(".requires");
            if is_wanted(&name) {
                let unit = name.rsplit_once('.').map_or("", |(unit, _)| unit);
                let wanted = self.names(&folder.join(&name)).unwrap_or_default();
                units.wants.extend(wanted.into_iter().map(|wanted| (unit.to_owned(), wanted)));
            } else if name.ends_with(".d") {
                drop_ins.push(name);
            } else if let Some(file) = self.unit(folder, &name) {
                units.files.insert(name, file);
            }
        }
        for name in drop_ins {
            let Some(unit) = name.strip_suffix(".d").map(str::to_owned) else { continue };
            let folder = folder.join(&name);
            let texts = self.names(&folder).unwrap_or_default();
            for text in texts.iter().filter(|name| name.ends_with(".conf")) {
                let text = self.follow(&folder.join(text)).and_then(|file| self.text(&file));
                // Of a unit that the system's packages bring, only what is added to it is known.
                let file = units.files.entry(unit.clone()).or_default();
                Arc::make_mut(file).add(&text.unwrap_or_default());
            }
        }
        self.systems.insert(folder.to_owned(), units.clone());
        Some(units)
    }

    /// A unit in a folder that no link leads on from; `None` where it is masked.
    fn unit(&mut self, folder: &Path, name: &str) -> Option<Arc<UnitFile>> {
        let path = folder.join(name);
        // It is nearly always a link, and the same one on most hosts.
        let to = self.here(&path).read_link().ok().filter(|to| to.is_absolute()).unwrap_or(path);
        if let Some(known) = self.units.get(&to) {
            return known.clone();
        }
        let file = self.follow(&to).and_then(|path| self.text(&path)).map(|text| {
            let mut file = UnitFile::default();
            file.add(&text);
            Arc::new(file)
        });
        self.units.insert(to, file.clone());
        file
    }

    /// What is in a folder, in the order of the names.
    fn names(&self, folder: &Path) -> Option<Vec<String>> {
        let entries = std::fs::read_dir(self.here(&self.follow(folder)?)).ok()?;
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort();
        Some(names)
    }

    /// The text of a file that is in a store.
    fn text(&self, path: &Path) -> Option<String> {
        let file = std::fs::File::open(self.here(path)).ok()?;
        let mut text = Vec::new();
        file.metadata()
            .ok()?
            .is_file()
            .then(|| file.take(MOST_TEXT).read_to_end(&mut text).ok())
            .flatten()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }

    /// Where a path leads to, as the store's own links say it; nothing outside of a store.
    fn follow(&self, path: &Path) -> Option<PathBuf> {
        let mut at = PathBuf::from("/");
        let mut left: Vec<_> = path.components().rev().map(|part| part.as_os_str().to_owned()).collect();
        let mut links = 0;
        while let Some(part) = left.pop() {
            match Path::new(&part).components().next()? {
                Component::RootDir => at = "/".into(),
                Component::ParentDir => _ = at.pop(),
                Component::Normal(name) => {
                    at.push(name);
                    // The folders above a store are no part of it.
                    if at.components().count() > 3
                        && let Ok(to) = self.here(&at).read_link()
                    {
                        links += 1;
                        at.pop();
                        left.extend(to.components().rev().map(|part| part.as_os_str().to_owned()));
                    }
                }
                _ => {}
            }
            if links > MOST_LINKS {
                return None;
            }
        }
        (at.starts_with("/nix/store") && self.here(&at).exists()).then_some(at)
    }

    fn here(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_in_a_folder_of_its_own_is_found() {
        for (store, root) in [
            ("/home/ada/store", Some("/home/ada/store")),
            ("local?root=/mnt&trusted=true", Some("/mnt")),
            ("auto", None),
            ("daemon", None),
        ] {
            let config = format!("cores = 0\nstore = {store}\nstore-x = y\n");
            assert_eq!(store_root(&config), root.map(PathBuf::from), "{store}");
        }
    }

    #[test]
    fn links_are_followed_within_a_store_and_no_further() {
        let root = std::env::temp_dir().join(format!("bosco-systems-{}", std::process::id()));
        let store = root.join("nix/store");
        std::fs::create_dir_all(store.join("a")).unwrap();
        std::fs::write(store.join("a/file"), "x").unwrap();
        for (link, to) in [
            ("there", "/nix/store/a/file"),
            ("beside", "a/../a/file"),
            ("round", "/nix/store/round"),
            ("out", "/etc/passwd"),
            ("up", "../../../../../etc/passwd"),
        ] {
            std::os::unix::fs::symlink(to, store.join(link)).unwrap();
        }
        let files = Files { root: root.clone(), units: HashMap::new(), systems: HashMap::new() };
        let follow = |name: &str| files.follow(&Path::new("/nix/store").join(name));
        assert_eq!(follow("there"), Some("/nix/store/a/file".into()));
        assert_eq!(follow("beside"), follow("there"));
        assert_eq!([follow("round"), follow("out"), follow("up"), follow("gone")], [None, None, None, None]);
        assert_eq!(files.text(Path::new("/nix/store/a/file")).as_deref(), Some("x"));
        std::fs::remove_dir_all(root).unwrap();
    }
}
