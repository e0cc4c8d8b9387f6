use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A tree in memory.
#[derive(Debug, Default)]
struct Memory(BTreeMap<PathBuf, Entry>);

impl Memory {
    fn of(entries: &[(&str, Entry)]) -> Self {
        let mut all = Self::default();
        for (path, entry) in entries {
            for folder in Path::new(path).ancestors().skip(1) {
                all.0.entry(folder.to_owned()).or_insert(Entry::Folder);
            }
            all.0.insert(path.into(), entry.clone());
        }
        all
    }
}

impl Files for Memory {
    fn look(&self, path: &Path) -> io::Result<Entry> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let within = self.0.keys().filter(|one| one.parent() == Some(path));
        Ok(within.filter_map(|one| one.file_name()).map(OsStr::to_owned).collect())
    }
}

fn file() -> Entry {
    Entry::File { size: 10, executable: false }
}

fn link(to: &str) -> Entry {
    Entry::Link(to.into())
}

fn resolved(entries: &[(&str, Entry)]) -> Result<Vec<(String, Option<String>)>, String> {
    let came = resolve(&Memory::of(entries), Path::new("/fleet"), "web");
    let came = came.map_err(|error| error.to_string())?;
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let entries = came.entries.iter().map(|(path, what)| match what {
        What::Folder => (text(path), None),
        What::File { from, .. } => (text(path), Some(text(from))),
    });
    Ok(entries.collect())
}

#[test]
fn links_to_files_and_folders_of_the_tree_become_what_they_lead_to() {
    let came = resolved(&[
        ("hosts/web/configuration.nix", file()),
        ("hosts/web/utils", link("../../utils/")),
        ("hosts/web/motd", link("/fleet/utils/motd")),
        ("hosts/web/again", link("motd")),
        ("utils/motd", file()),
        ("utils/deep/bin", link("../../programs")),
        ("programs/run", Entry::File { size: 1, executable: true }),
    ]);
    let file = |path: &str, from: &str| (path.to_owned(), Some(from.to_owned()));
    let folder = |path: &str| (path.to_owned(), None);
    assert_eq!(
        came.unwrap(),
        [
            file("again", "utils/motd"),
            file("configuration.nix", "hosts/web/configuration.nix"),
            file("motd", "utils/motd"),
            folder("utils"),
            folder("utils/deep"),
            folder("utils/deep/bin"),
            file("utils/deep/bin/run", "programs/run"),
            file("utils/motd", "utils/motd"),
        ]
    );
}

#[test]
fn nothing_from_outside_of_the_tree_is_handed_over() {
    for to in ["/etc/shadow", "../../../etc/shadow", "../../..", "/fleets/x", "../../utils/../../x"] {
        let why = resolved(&[("hosts/web/secret", link(to)), ("utils/x", file())]).unwrap_err();
        assert!(why.starts_with("hosts/web/secret leads out of the tree"), "{to}: {why}");
    }
}

#[test]
fn what_never_ends_leads_nowhere_or_is_no_file_is_refused_by_name() {
    for (entry, why) in [
        (link("."), "leads back"),
        (link("../web"), "leads back"),
        (link("../../hosts"), "leads back"),
        (link("one"), "leads back"),
        (link("nothing"), "leads to nothing"),
        (link("configuration.nix/x"), "leads to nothing"),
        (Entry::Other, "is neither"),
    ] {
        let entries = [("hosts/web/configuration.nix", file()), ("hosts/web/one", entry.clone())];
        let said = resolved(&entries).unwrap_err();
        assert!(said.contains("/one") && said.contains(why), "{entry:?}: {said}");
    }
}

#[test]
fn what_is_too_large_for_a_directory_of_configuration_is_refused() {
    let large = Entry::File { size: LARGEST / 2 + 1, executable: false };
    let said = resolved(&[("hosts/web/a", large.clone()), ("hosts/web/b", large)]).unwrap_err();
    assert!(said.contains("MiB"), "{said}");
    let deep = format!("hosts/web/{}x", "d/".repeat(DEEPEST + 1));
    assert!(resolved(&[(&deep, file())]).unwrap_err().contains("deep"));
    let names: Vec<String> = (0..=MOST).map(|number| format!("hosts/web/{number}")).collect();
    let many: Vec<(&str, Entry)> = names.iter().map(|name| (name.as_str(), file())).collect();
    assert!(resolved(&many).unwrap_err().contains("more than"));
}

#[test]
fn a_marker_counts_where_it_is_a_file_of_the_directory_itself() {
    let of = |names: &[&str]| {
        let paths: Vec<String> = names.iter().map(|name| format!("hosts/web/{name}")).collect();
        let entries: Vec<(&str, Entry)> = paths.iter().map(|path| (path.as_str(), file())).collect();
        let resolved = resolve(&Memory::of(&entries), Path::new("/fleet"), "web").unwrap();
        (resolved.self_update(), resolved.reboot())
    };
    assert_eq!(of(&["flake.nix", "SELF_UPDATE"]), (true, false));
    assert_eq!(of(&["configuration.nix", "SELF_UPDATE", "REBOOT"]), (false, true), "it has no inputs");
    assert_eq!(of(&["flake.nix", "x/SELF_UPDATE", "x/REBOOT"]), (false, false));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn whatever_links_lead_to_all_that_comes_is_a_file_of_the_tree(
        links in prop::collection::vec(("[abc](/[abc]){0,2}", "(\\.\\./){0,4}([abc]/?){0,3}"), 0..8),
    ) {
        let mut entries = vec![("hosts/web/configuration.nix".to_owned(), file()), ("a/file".to_owned(), file())];
        entries.extend(links.iter().map(|(at, to)| (format!("hosts/web/{at}"), link(to))));
        let borrowed: Vec<(&str, Entry)> = entries.iter().map(|(path, entry)| (path.as_str(), entry.clone())).collect();
        let memory = Memory::of(&borrowed);
        if let Ok(resolved) = resolve(&memory, Path::new("/fleet"), "web") {
            for (path, what) in resolved.entries {
                prop_assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
                if let What::File { from, .. } = what {
                    let is_file = matches!(memory.0.get(&from), Some(Entry::File { .. }));
                    prop_assert!(is_file);
                }
            }
        }
    }
}

#[test]
fn what_was_resolved_is_copied_with_what_may_be_run() {
    let dir = std::env::temp_dir().join(format!("bosco-tree-test-{}", std::process::id()));
    let root = dir.join("fleet");
    std::fs::create_dir_all(root.join("hosts/web")).unwrap();
    std::fs::create_dir_all(root.join("utils")).unwrap();
    std::fs::write(root.join("hosts/web/configuration.nix"), "{ }").unwrap();
    std::fs::write(root.join("utils/run"), "#!/bin/sh").unwrap();
    std::fs::set_permissions(root.join("utils/run"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("../../utils", root.join("hosts/web/utils")).unwrap();
    std::fs::create_dir_all(root.join("hosts/notes")).unwrap();
    assert_eq!(hosts(&root), ["web"]);
    let resolved = resolve(&Disk(&root), &root, "web").unwrap();
    let to = dir.join("copy");
    copy(&root, &resolved, &to).unwrap();
    assert!(!to.join("utils").is_symlink());
    let mode = |file: &str| to.join(file).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("configuration.nix"), mode("utils/run")), (0o644, 0o755));
    std::fs::remove_dir_all(dir).unwrap();
}
