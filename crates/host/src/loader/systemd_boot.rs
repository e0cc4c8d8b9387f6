//! systemd-boot: entries are files of `loader/entries`, the default is a line of `loader.conf` or a variable of the
//! firmware, and the choice for one boot is such a variable.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use bosco_model::StorePath;
use rustix::fs::{StatVfsMountFlags, statvfs};

use super::{TOOL, init_of, read};
use crate::places::{CANDIDATE, Places};
use crate::run::{program, run, succeed};

/// Whose variables of the firmware these are.
const VENDOR: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";
/// The bit of `LoaderFeatures` for a choice that holds for one boot.
const ONE_SHOT: u64 = 1 << 3;

/// An entry of the boot menu.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// What it is chosen by: its file's name, without a count of tries.
    id: String,
    /// The generation that it says it is.
    generation: Option<u64>,
    sort_key: String,
    toplevel: Option<StorePath>,
    /// It counts its tries, so that the loader may pass over it.
    counts: bool,
}

impl Entry {
    fn parse(file: &str, text: &str) -> Option<Self> {
        let stem = file.strip_suffix(".conf")?;
        let is_count =
            |count: &str| !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let (stem, counts) = match stem.rsplit_once('+') {
            Some((stem, count)) if is_count(count) => (stem, true),
            _ => (stem, false),
        };
        let value = |key: &str| pairs(text).filter(|(name, _)| *name == key).last().map(|(_, value)| value);
        let generation = value("version")
            .and_then(|version| version.strip_prefix("Generation ")?.split_whitespace().next()?.parse().ok());
        let options = pairs(text).filter(|(name, _)| *name == "options");
        Some(Self {
            id: format!("{stem}.conf"),
            generation,
            sort_key: value("sort-key").unwrap_or_default().to_owned(),
            toplevel: init_of(options.flat_map(|(_, value)| value.split_whitespace())),
            counts,
        })
    }

    /// The generation's number, where this is the very entry of the candidate's profile.
    fn of_candidate(&self) -> Option<u64> {
        let number = self.id.strip_prefix(&candidate_prefix())?.strip_suffix(".conf")?;
        number.parse().ok()
    }
}

/// How the ids of all entries of the candidate's profile begin.
fn candidate_prefix() -> String {
    format!("nixos-{CANDIDATE}-generation-")
}

/// Keys and values of a file of the loader's.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(char::is_whitespace)).map(|(key, value)| (key, value.trim()))
}

/// The partitions that have a part of the loader's files.
fn entry_folders(places: &Places) -> impl Iterator<Item = PathBuf> {
    places.boot_partitions().into_iter().map(|partition| partition.join("loader/entries"))
}

fn is_ours(file: &str) -> bool {
    file.starts_with("nixos-") && file.ends_with(".conf")
}

/// The names of NixOS's entries in a folder.
fn entry_files(folder: &PathBuf) -> Vec<String> {
    let Ok(files) = fs::read_dir(folder) else { return Vec::new() };
    let names = files.flatten().filter_map(|file| file.file_name().into_string().ok());
    names.filter(|name| name.ends_with(".conf")).collect()
}

pub(super) fn has_entries(places: &Places) -> bool {
    entry_folders(places).any(|folder| entry_files(&folder).iter().any(|file| is_ours(file)))
}

/// The mount point that has the entries, and the kernels.
pub(super) fn folder(places: &Places) -> PathBuf {
    let has =
        |partition: &PathBuf| entry_files(&partition.join("loader/entries")).iter().any(|file| is_ours(file));
    places.boot_partitions().into_iter().find(has).unwrap_or_else(|| places.boot())
}

fn entries(places: &Places) -> Vec<Entry> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for folder in entry_folders(places) {
        for file in entry_files(&folder) {
            let entry = read(folder.join(&file)).and_then(|text| Entry::parse(&file, &text));
            all.extend(entry.filter(|entry| seen.insert(entry.id.clone())));
        }
    }
    all
}

/// A variable of the firmware that is a text. `None`: there is none.
pub(super) fn variable(places: &Places, name: &str) -> Option<String> {
    let bytes = fs::read(places.efi_variables().join(format!("{name}-{VENDOR}"))).ok()?;
    utf16(bytes.get(4..)?)
}

/// A text of the firmware's, up to its end.
fn utf16(bytes: &[u8]) -> Option<String> {
    let units: Vec<u16> = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).ok()
}

pub(super) fn default_toplevel(places: &Places) -> Option<StorePath> {
    let pattern = match variable(places, "LoaderEntryDefault") {
        Some(chosen) if !chosen.is_empty() => chosen,
        _ if variable(places, "LoaderEntryPreferred").is_some() => return None,
        _ => {
            let files = places.boot_partitions().map(|partition| partition.join("loader/loader.conf"));
            let texts: Vec<String> = files.into_iter().filter_map(read).collect();
            parse_default(&texts)?
        }
    };
    choose(&entries(places), &pattern)?.toplevel.clone()
}

/// The default in what is there of `loader.conf`. `None`: there is none, or it is not one.
fn parse_default(texts: &[String]) -> Option<String> {
    let all = || texts.iter().flat_map(|text| pairs(text));
    if all().any(|(key, _)| key == "preferred") {
        return None;
    }
    let mut defaults = all().filter(|(key, _)| *key == "default").map(|(_, value)| value);
    let default = defaults.next()?;
    defaults.all(|other| other == default).then(|| default.to_owned())
}

/// The entry that a default stands for: an id, with `.conf` or without, or a pattern of which the newest one counts.
fn choose<'a>(entries: &'a [Entry], pattern: &str) -> Option<&'a Entry> {
    // What was booted last, or sets of characters: not known for sure.
    if pattern.starts_with('@') || pattern.contains(['[', '\\']) {
        return None;
    }
    let pattern = pattern.to_ascii_lowercase();
    let with_ending = format!("{pattern}.conf");
    let fits = |entry: &&Entry| {
        let id = entry.id.to_ascii_lowercase();
        matches(pattern.as_bytes(), id.as_bytes()) || matches(with_ending.as_bytes(), id.as_bytes())
    };
    let found: Vec<&Entry> = entries.iter().filter(fits).collect();
    let [first, others @ ..] = found.as_slice() else { return None };
    if found.iter().any(|entry| entry.counts) {
        return None;
    }
    if others.is_empty() {
        return Some(first);
    }
    if others.iter().any(|other| other.sort_key != first.sort_key) {
        return None;
    }
    let numbered: Option<Vec<_>> = found.iter().map(|entry| Some((entry.generation?, *entry))).collect();
    let numbered = numbered?;
    let newest = numbered.iter().map(|(generation, _)| *generation).max()?;
    // Of one generation, its specialisations come behind it.
    let mut best = numbered
        .into_iter()
        .filter(|(generation, entry)| *generation == newest && !entry.id.contains("-specialisation-"))
        .map(|(_, entry)| entry);
    let entry = best.next()?;
    best.all(|other| other.toplevel == entry.toplevel).then_some(entry)
}

/// Whether a pattern of `*` and `?` fits.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == text[from] => {
                at += 1;
                from += 1;
            }
            _ => match star {
                // The last star takes one more.
                Some((position, taken)) => {
                    star = Some((position, taken + 1));
                    at = position + 1;
                    from = taken + 1;
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

/// The candidate's own entry, the newest where there are several.
fn candidate<'a>(entries: &'a [Entry], toplevel: &StorePath) -> Option<&'a Entry> {
    let own = entries.iter().filter(|entry| entry.toplevel.as_ref() == Some(toplevel));
    own.filter_map(|entry| Some((entry.of_candidate()?, entry)))
        .max_by_key(|(number, _)| *number)
        .map(|(_, entry)| entry)
}

/// What is chosen for one boot. On a machine without EFI that is a file, as the lab's loader has it.
fn once(places: &Places) -> Option<String> {
    let chosen = variable(places, "LoaderEntryOneShot")
        .or_else(|| read(places.boot().join("loader/oneshot")).map(|text| text.trim().to_owned()));
    chosen.filter(|chosen| !chosen.is_empty())
}

pub(super) fn prepare_once(places: &Places, toplevel: &StorePath) -> Result<(), String> {
    let entries = entries(places);
    let entry = candidate(&entries, toplevel)
        .ok_or_else(|| format!("the boot menu has no entry of its own for {toplevel}"))?;
    succeed(program("bootctl").args(["set-oneshot", &entry.id]), TOOL)?;
    match once(places) {
        Some(chosen) if chosen == entry.id => Ok(()),
        Some(other) => Err(format!("{} was chosen for one boot, and {other} is", entry.id)),
        None => Err(format!("{} was chosen for one boot, and nothing is", entry.id)),
    }
}

pub(super) fn clear_once(places: &Places) -> Result<(), String> {
    let is_chosen = || once(places).is_some_and(|chosen| chosen.starts_with(&candidate_prefix()));
    if !is_chosen() {
        return Ok(());
    }
    succeed(program("bootctl").args(["set-oneshot", ""]), TOOL)?;
    if is_chosen() { Err("the candidate is still chosen for the next boot".into()) } else { Ok(()) }
}

pub(super) fn can_boot_once(places: &Places) -> bool {
    let Ok(version) = run(program("bootctl").arg("--version"), TOOL) else { return false };
    if version.code != 0 {
        return false;
    }
    // The lab's machines have no firmware; their bootctl says so, and keeps its variables as files.
    if version.said.contains("-micronix)") {
        return true;
    }
    let folder = places.efi_variables();
    let features = fs::read(folder.join(format!("LoaderFeatures-{VENDOR}"))).unwrap_or_default();
    let is_writable = statvfs(&folder).is_ok_and(|found| !found.f_flag.contains(StatVfsMountFlags::RDONLY));
    is_writable
        && variable(places, "LoaderInfo").is_some_and(|name| name.starts_with("systemd-boot"))
        && parse_features(&features).is_some_and(|features| features & ONE_SHOT != 0)
}

/// The bits of `LoaderFeatures`.
fn parse_features(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(4..12)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::places::testing::TempDir;

    fn toplevel(number: u64) -> StorePath {
        StorePath::parse(&format!("/nix/store/{number:032}-nixos-system-a-25.11")).unwrap()
    }

    /// As NixOS's systemd-boot-builder.py writes it.
    fn text(generation: u64, number: u64) -> String {
        format!(
            "title NixOS\nsort-key nixos\nversion Generation {generation} NixOS Xantusia 25.11 (Linux 6.12.9), built on \
             2026-01-02\nlinux /EFI/nixos/0-linux-6.12.9-bzImage.efi\ninitrd /EFI/nixos/0-initrd.efi\n\
             options init={}/init loglevel=4 lsm=landlock,yama,bpf\nmachine-id 0123\n",
            toplevel(number)
        )
    }

    fn entry(file: &str, generation: u64, number: u64) -> Entry {
        Entry::parse(file, &text(generation, number)).unwrap()
    }

    fn menu() -> Vec<Entry> {
        vec![
            entry("nixos-generation-9.conf", 9, 9),
            entry("nixos-generation-10.conf", 10, 10),
            entry("nixos-generation-10-specialisation-tracing.conf", 10, 90),
            entry("nixos-bosco_candidate-generation-1.conf", 1, 20),
            entry("nixos-bosco_candidate-generation-2.conf", 2, 20),
            entry("nixos-bosco_candidate-generation-2-specialisation-tracing.conf", 2, 91),
            Entry::parse(
                "memtest86.conf",
                "title Memtest86+\nefi /efi/memtest86/memtest.efi\nsort-key o_memtest86\n",
            )
            .unwrap(),
        ]
    }

    #[test]
    fn an_entry_is_read_as_the_installer_writes_it() {
        let expected = Entry {
            id: "nixos-generation-9.conf".into(),
            generation: Some(9),
            sort_key: "nixos".into(),
            toplevel: Some(toplevel(7)),
            counts: false,
        };
        assert_eq!(entry("nixos-generation-9.conf", 9, 7), expected);
        assert_eq!(entry("nixos-generation-9+3-1.conf", 9, 7), Entry { counts: true, ..expected });
        assert_eq!(Entry::parse("nixos-generation-9.conf.tmp", ""), None);
        assert_eq!(menu()[6].toplevel, None);
    }

    #[test]
    fn the_default_is_what_the_loader_would_take() {
        let menu = menu();
        let chosen = |pattern: &str| choose(&menu, pattern).map(|entry| entry.id.as_str());
        for pattern in [
            "nixos-generation-10.conf",
            "nixos-generation-10",
            "nixos-generation-*.conf",
            "NixOS-*",
            "nixos-*",
        ] {
            assert_eq!(chosen(pattern), Some("nixos-generation-10.conf"), "{pattern}");
        }
        let special = "nixos-generation-10-specialisation-tracing.conf";
        assert_eq!(chosen(special), Some(special));
        for pattern in
            ["@saved", "nixos-generation-11.conf", "*", "nixos-generation-[19].conf", "", "memtest86.con"]
        {
            assert_eq!(chosen(pattern), None, "{pattern}");
        }
        let counting = [entry("nixos-generation-1+3.conf", 1, 1)];
        assert_eq!(choose(&counting, "nixos-*"), None, "the loader may pass it over");
        let tie =
            [entry("nixos-generation-3.conf", 3, 3), entry("nixos-bosco_candidate-generation-3.conf", 3, 4)];
        assert_eq!(choose(&tie, "nixos-*"), None);
    }

    #[test]
    fn a_default_that_is_not_known_for_sure_is_none() {
        let default =
            |texts: &[&str]| parse_default(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        let text = "timeout 5\n# default x\ndefault\tnixos-generation-3.conf\nconsole-mode keep\n";
        assert_eq!(default(&[text]).as_deref(), Some("nixos-generation-3.conf"));
        assert_eq!(default(&[text, "timeout 1\n"]).as_deref(), Some("nixos-generation-3.conf"));
        assert_eq!(default(&["timeout 5\n"]), None);
        assert_eq!(default(&[text, "default other.conf\n"]), None);
        assert_eq!(default(&["preferred x.conf\ndefault y.conf\n"]), None);
    }

    #[test]
    fn the_firmware_is_asked_before_the_file() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        dir.write("boot/loader/entries/nixos-generation-1.conf", text(1, 1));
        dir.write("boot/loader/entries/nixos-generation-2.conf", text(2, 2));
        dir.write("boot/loader/loader.conf", "timeout 3\ndefault nixos-generation-2.conf\n");
        assert_eq!(default_toplevel(&places), Some(toplevel(2)));
        let variable = |name: &str, text: &str| {
            let text = format!("{text}\0").encode_utf16().flat_map(u16::to_le_bytes).collect();
            dir.write(
                &format!("sys/firmware/efi/efivars/{name}-{VENDOR}"),
                [vec![7, 0, 0, 0], text].concat(),
            );
        };
        variable("LoaderEntryDefault", "nixos-generation-1.conf");
        assert_eq!(default_toplevel(&places), Some(toplevel(1)));
        variable("LoaderEntryDefault", "@saved");
        assert_eq!(default_toplevel(&places), None);
        assert_eq!(once(&places), None);
        dir.write("boot/loader/oneshot", "nixos-generation-1.conf\n");
        assert_eq!(once(&places).as_deref(), Some("nixos-generation-1.conf"));
        assert_eq!(clear_once(&places), Ok(()), "somebody else's choice is left");
        assert_eq!(once(&places).as_deref(), Some("nixos-generation-1.conf"));
        let feature = [&[6, 0, 0, 0][..], &[0b1000, 0, 0, 0, 0, 0, 0, 0]].concat();
        assert_eq!(parse_features(&feature), Some(ONE_SHOT));
        assert_eq!(parse_features(&feature[..8]), None);
    }

    #[test]
    fn the_candidate_is_booted_by_the_entry_of_its_own_profile() {
        let menu = menu();
        let id = |number| candidate(&menu, &toplevel(number)).map(|entry| entry.id.as_str());
        assert_eq!(id(20), Some("nixos-bosco_candidate-generation-2.conf"));
        assert_eq!(id(10), None, "it is another profile's");
        assert_eq!(id(91), None, "it is a specialisation");
    }

    proptest! {
        #[test]
        fn no_file_of_the_loader_makes_reading_it_panic(
            file in "nixos-[a-z0-9+.-]{0,12}(.conf)?", text in "[\\PC\n]{0,120}", pattern in "[a-z*?.@\\[-]{0,12}",
        ) {
            let entries: Vec<_> = Entry::parse(&file, &text).into_iter().chain(menu()).collect();
            let _ = choose(&entries, &pattern);
            let _ = parse_default(&[text]);
        }

        #[test]
        fn a_star_stands_for_anything(before in "[a-c]{0,4}", middle in "[a-c]{0,4}", after in "[a-c]{0,4}") {
            let text = format!("{before}{middle}{after}");
            let pattern = format!("{before}*{after}");
            prop_assert!(matches(pattern.as_bytes(), text.as_bytes()));
            let inner = format!("*{middle}*");
            prop_assert!(matches(inner.as_bytes(), text.as_bytes()));
            let longer = format!("{text}d");
            prop_assert!(!matches(pattern.as_bytes(), longer.as_bytes()) || pattern.ends_with('*'));
        }
    }
}
