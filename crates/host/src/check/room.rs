//! Whether the file systems have room for what an activation writes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bosco_activation::{Effect, Refused};
use rustix::fs::statvfs;

use crate::loader;
use crate::places::Places;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// What a switch may add to the store's file system: links, users, logs of the journal. Closures are there already.
const STORE: Need = Need { bytes: 32 * MIB, files: 1000 };
/// What the journal and its logs may take.
const STATE: Need = Need { bytes: 8 * MIB, files: 0 };
/// What entries and a new configuration of the boot loader take, where kernel and initrd are there already.
const MENU: u64 = 256 * KIB;
/// What they may take beside a new kernel.
const BESIDE_KERNEL: u64 = MIB;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Need {
    bytes: u64,
    files: u64,
}

#[derive(Debug, Clone, Copy)]
struct Free {
    bytes: u64,
    /// `None`: the file system does not count them.
    files: Option<u64>,
}

/// Whether there is room for an activation of the candidate: in the store, for the state, and for kernels in /boot.
///
/// # Errors
/// [`Refused::NoRoom`] names the first place that has too little, [`Refused::Failed`] one that can't be looked at.
pub(crate) fn room(places: &Places, candidate: &Path) -> Result<(), Refused> {
    look(places, &places.store(), STORE)?;
    look(places, &places.state(), STATE)?;
    let boot = loader::boot_folder(places);
    if is_apart(&boot, places.root()) {
        look(places, &boot, Need { bytes: for_boot(places, candidate), files: 0 })?;
    }
    Ok(())
}

fn look(places: &Places, place: &Path, need: Need) -> Result<(), Refused> {
    let failed = |why| Refused::Failed { doing: Effect::Check, why };
    // What is not made yet will lie where its parent does.
    let there = place.ancestors().find(|folder| folder.exists()).unwrap_or(place);
    let found = statvfs(there)
        .map_err(|error| failed(format!("the room at {} can't be looked at: {error}", there.display())))?;
    let free = Free {
        bytes: found.f_bavail.saturating_mul(found.f_frsize),
        files: (found.f_files > 0).then_some(found.f_favail),
    };
    let shown = place.strip_prefix(places.root()).unwrap_or(place);
    short(&format!("/{}", shown.display()), free, need).map_or(Ok(()), Err)
}

/// What is short at a place, if anything.
fn short(place: &str, free: Free, need: Need) -> Option<Refused> {
    let refused = |needed, free| Some(Refused::NoRoom { place: place.to_owned(), needed, free });
    match free.files {
        _ if free.bytes < need.bytes => {
            refused(size(need.bytes, u64::div_ceil), size(free.bytes, |a, b| a / b))
        }
        Some(files) if files < need.files => {
            refused(format!("{} files", need.files), format!("{files} files"))
        }
        _ => None,
    }
}

/// A size as people read it.
fn size(bytes: u64, divide: impl Fn(u64, u64) -> u64) -> String {
    if bytes >= MIB { format!("{} MiB", divide(bytes, MIB)) } else { format!("{} KiB", divide(bytes, KIB)) }
}

/// Whether a folder lies on another file system than the root.
fn is_apart(folder: &Path, root: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
    device(folder).is_some_and(|own| device(root) != Some(own))
}

/// What the boot loader's installer writes to /boot for the candidate, in bytes.
fn for_boot(places: &Places, candidate: &Path) -> u64 {
    let there = [places.booted_system(), places.profile()];
    let file = |system: &Path, part: &str| fs::canonicalize(system.join(part)).ok();
    let new = |part: &str| -> Option<PathBuf> {
        let own = file(candidate, part)?;
        (!there.iter().any(|system| file(system, part).as_ref() == Some(&own))).then_some(own)
    };
    let length = |path: PathBuf| fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default();
    let sizes: Vec<u64> = ["kernel", "initrd"].into_iter().filter_map(new).map(length).collect();
    if sizes.is_empty() { MENU } else { sizes.iter().sum::<u64>() + BESIDE_KERNEL }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn what_is_short_is_told_with_how_much_there_is() {
        let free = |bytes, files| Free { bytes, files };
        let said = |found: Option<Refused>| found.map(|refused| refused.to_string()).unwrap_or_default();
        assert_eq!(
            said(short("/nix/store", free(3 * MIB + 5, None), STORE)),
            "no room there: /nix/store has 3 MiB free, an activation needs 32 MiB"
        );
        assert_eq!(
            said(short("/boot", free(200 * KIB, Some(0)), Need { bytes: MENU, files: 0 })),
            "no room there: /boot has 200 KiB free, an activation needs 256 KiB"
        );
        assert_eq!(
            said(short("/nix/store", free(99 * MIB, Some(7)), STORE)),
            "no room there: /nix/store has 7 files free, an activation needs 1000 files"
        );
        assert_eq!(short("/nix/store", free(99 * MIB, None), STORE), None, "inodes are not counted there");
        assert_eq!(short("/nix/store", free(99 * MIB, Some(1000)), STORE), None);
    }

    #[test]
    fn only_a_kernel_that_boot_does_not_have_yet_takes_room_there() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        dir.write("k1", vec![0; 1000]);
        dir.write("k2", vec![0; 5000]);
        dir.write("i1", vec![0; 300]);
        dir.write("i2", vec![0; 700]);
        for (system, kernel, initrd) in [
            ("run/booted-system", "k1", "i1"),
            ("same", "k1", "i1"),
            ("other", "k2", "i2"),
            ("initrd", "k1", "i2"),
        ] {
            fs::create_dir_all(dir.path().join(system)).unwrap();
            symlink(dir.path().join(kernel), dir.path().join(system).join("kernel")).unwrap();
            symlink(dir.path().join(initrd), dir.path().join(system).join("initrd")).unwrap();
        }
        let needed = |system: &str| for_boot(&places, &dir.path().join(system));
        assert_eq!(needed("same"), MENU);
        assert_eq!(needed("other"), 5700 + MIB);
        assert_eq!(needed("initrd"), 700 + MIB);
        assert_eq!(needed("container"), MENU, "it has no kernel");
        fs::create_dir_all(places.profile().parent().unwrap()).unwrap();
        symlink(dir.path().join("other"), places.profile()).unwrap();
        assert_eq!(needed("other"), MENU, "the default has it");
    }

    #[test]
    fn a_folder_that_is_not_made_yet_has_the_room_of_its_parent() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        assert_eq!(look(&places, &places.state(), Need { bytes: 1, files: 0 }), Ok(()));
        let refused = look(&places, &places.state(), Need { bytes: u64::MAX, files: 0 }).unwrap_err();
        assert!(matches!(refused, Refused::NoRoom { place, .. } if place == "/nix/var/bosco"));
        assert!(!is_apart(&places.boot(), dir.path()), "it is not there");
    }
}
