//! What a host that builds itself finds in its `/config`: the files of the tree that its newest manifest names, and nothing
//! else. Only hosts that are let in have one. A copy for who looks or has another client: the agent takes the tree as it takes
//! every closure, and compares it with what was signed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use bosco_model::HostName;
use bosco_release::{Contents, Digest, Manifest, PathContents, Runs};
use nix_archive::nar::{CaseHack, restore_reader};
use rustix::fs::{CWD, RenameFlags, renameat_with, syncfs};
use tokio::task::spawn_blocking;

use crate::Error;
use crate::hub::Hub;
use crate::objects::Objects;
use crate::sftp::CONFIG;

/// Which tree is laid out, beside the folder; no host can name it.
const MARKER: &str = ".config";
/// What is being laid out.
const MAKING: &str = ".config-new";
/// The largest tree that is laid out, in bytes of its archive.
const LARGEST: u64 = 1024 * 1024 * 1024;

/// Lays out what all hosts of the newest release build themselves from, and what a hub that was cut short has left, or was
/// restored without.
pub(crate) async fn lay_out_all(hub: Arc<Hub>) {
    let current = hub.current().borrow().clone();
    let Some(current) = current else { return };
    for host in current.parts.keys() {
        lay_out(&hub, host).await;
    }
}

/// Lays out what a host builds itself from. What can't be laid out is told, and stands in nobody's way.
pub(crate) async fn lay_out(hub: &Hub, host: &HostName) {
    let _laying = hub.laying.lock().await;
    // As it is now: there may have been another release while others were laid out.
    let current = hub.current().borrow().clone();
    let Some(part) = current.as_ref().and_then(|current| current.parts.get(host)) else { return };
    let is_let_in = hub.host(host).is_some_and(|host| host.now().gone.is_none());
    if is_let_in && let Err(error) = of_host(hub, &part.manifest).await {
        crate::say(&format!("bosco hub: what {host} builds itself from is not in its /config: {error}"));
    }
}

async fn of_host(hub: &Hub, manifest: &Manifest) -> Result<(), Error> {
    let folder = hub.state.join("hosts").join(manifest.host.as_str());
    let marker = folder.join(MARKER);
    let laid = fs::read_to_string(&marker).unwrap_or_default();
    let tree = match &manifest.runs {
        Runs::Tree { closure, .. } if laid == closure.to_string() => return Ok(()),
        Runs::Tree { tree, closure, .. } => {
            let contents = hub.store.closure(closure).await?;
            let contents: Option<Contents> = contents.and_then(|text| serde_json::from_str(&text).ok());
            let tree = contents.and_then(|contents| contents.get(tree).cloned());
            Some((*closure, tree.ok_or_else(|| Error::disk(&folder, &io::ErrorKind::NotFound.into()))?))
        }
        // What an operator has laid there stays.
        Runs::System { .. } if laid.is_empty() => return Ok(()),
        Runs::System { .. } => None,
    };
    let (objects, place) = (hub.objects.clone(), folder.clone());
    let done = spawn_blocking(move || replace(&objects, &place, tree.as_ref())).await;
    match done {
        Ok(Err(error)) => Err(Error::disk(&folder, &error)),
        _ => Ok(()),
    }
}

/// Has a tree, or nothing, in the place of what is there.
fn replace(objects: &Objects, folder: &Path, tree: Option<&(Digest, PathContents)>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let (making, place, marker) = (folder.join(MAKING), folder.join(CONFIG), folder.join(MARKER));
    remove(&making)?;
    match tree {
        Some((_, contents)) => restore(objects, contents, &making)?,
        None => fs::create_dir(&making)?,
    }
    fs::set_permissions(&making, fs::Permissions::from_mode(0o700))?;
    // The marker must not outlive what it stands for, nor be there before it.
    match fs::remove_file(&marker) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if place.exists() {
        renameat_with(CWD, &making, CWD, &place, RenameFlags::EXCHANGE)?;
        remove(&making)?;
    } else {
        fs::rename(&making, &place)?;
    }
    syncfs(File::open(folder)?)?;
    tree.map_or(Ok(()), |(closure, _)| fs::write(marker, closure.to_string()))
}

fn restore(objects: &Objects, contents: &PathContents, to: &Path) -> io::Result<()> {
    if contents.size > LARGEST {
        return Err(io::Error::other("it is too large"));
    }
    if !objects.has_room(contents.size) {
        return Err(io::Error::other("the disk is full"));
    }
    let stored = File::open(objects.place(&contents.hash))?;
    let archive = zstd::stream::read::Decoder::new(stored)?.take(contents.size);
    let restored = restore_reader(&mut BufReader::new(archive), to, CaseHack::Disabled);
    restored.map_err(io::Error::other)?;
    // Of itself: a link leads to what is none of the host's.
    if to.symlink_metadata()?.is_dir() { Ok(()) } else { Err(io::Error::other("it is no folder")) }
}

fn remove(place: &Path) -> io::Result<()> {
    let removed = if place.is_dir() { fs::remove_dir_all(place) } else { fs::remove_file(place) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of these words.
    fn archive(words: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in words {
            bytes.extend_from_slice(&(word.len() as u64).to_le_bytes());
            bytes.extend_from_slice(word.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    #[test]
    fn a_tree_that_is_a_link_to_a_folder_of_the_hub_is_not_laid_out() {
        let state = std::env::temp_dir().join(format!("bosco-configs-{}", std::process::id()));
        let (folder, other) = (state.join("hosts/web"), state.join("hosts/db"));
        fs::create_dir_all(&other).unwrap();
        fs::set_permissions(&other, fs::Permissions::from_mode(0o750)).unwrap();
        let objects = Objects::open(&state.join("objects")).unwrap();
        let lay = |words: &[&str]| {
            let bytes = archive(words);
            let hash = Digest::of(&[&bytes]);
            fs::create_dir_all(objects.place(&hash).parent().unwrap()).unwrap();
            fs::write(objects.place(&hash), zstd::encode_all(bytes.as_slice(), 3).unwrap()).unwrap();
            let contents = PathContents {
                path: bosco_model::StorePath::parse(&format!("/nix/store/{}-source", "0".repeat(32)))
                    .unwrap(),
                hash,
                size: bytes.len() as u64,
                references: std::collections::BTreeSet::new(),
                signatures: Vec::new(),
                address: String::new(),
            };
            replace(&objects, &folder, Some(&(hash, contents)))
        };
        lay(&["nix-archive-1", "(", "type", "directory", ")"]).unwrap();
        let link = ["nix-archive-1", "(", "type", "symlink", "target", other.to_str().unwrap(), ")"];
        assert!(lay(&link).is_err());
        assert!(folder.join(CONFIG).symlink_metadata().unwrap().is_dir(), "what was there stays");
        assert_eq!(other.metadata().unwrap().permissions().mode() & 0o777, 0o750);
        lay(&["nix-archive-1", "(", "type", "directory", ")"]).unwrap();
        fs::remove_dir_all(&state).unwrap();
    }
}
