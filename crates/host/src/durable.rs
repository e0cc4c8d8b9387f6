//! Writes that are whole or not at all, also where the power fails: write, sync, rename, sync the folder.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

/// Puts `contents` into the file at `path`.
///
/// # Errors
/// In words, with the file's name; it is what it was then.
pub fn write(path: &Path, contents: &[u8]) -> Result<(), String> {
    write_for(path, contents, File::options().create(true).truncate(true).mode(0o666))
}

/// The same, for nobody but its owner to read. Where the folder is somebody else's, nothing of theirs is written through.
///
/// # Errors
/// As for [`write`].
pub fn write_private(path: &Path, contents: &[u8]) -> Result<(), String> {
    // One that was left over may be anybody's.
    let _ = fs::remove_file(beside(path));
    write_for(path, contents, File::options().create_new(true).mode(0o600))
}

fn write_for(path: &Path, contents: &[u8], how: &mut OpenOptions) -> Result<(), String> {
    let making = beside(path);
    let mut put = || -> io::Result<()> {
        let mut file = how.write(true).open(&making)?;
        file.write_all(contents)?;
        file.sync_all()?;
        fs::rename(&making, path)?;
        sync_folder(path)
    };
    put().map_err(|error| {
        let _ = fs::remove_file(&making);
        format!("can't write {}: {error}", path.display())
    })
}

/// Makes `path` a link to `target`, whatever link it was.
///
/// # Errors
/// In words, with the link's name.
pub fn link(target: &Path, path: &Path) -> Result<(), String> {
    let making = beside(path);
    let put = || -> io::Result<()> {
        let _ = fs::remove_file(&making);
        symlink(target, &making)?;
        fs::rename(&making, path)?;
        sync_folder(path)
    };
    put().map_err(|error| format!("can't make the link {}: {error}", path.display()))
}

/// Removes a file or link, if it is there.
///
/// # Errors
/// In words, with its name.
pub fn remove(path: &Path) -> Result<(), String> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder(path).map_err(|error| format!("can't remove {}: {error}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("can't remove {}: {error}", path.display())),
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_whole_or_what_it_was() {
        let dir = std::env::temp_dir().join(format!("bosco-durable-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("file");
        write(&file, b"one").unwrap();
        write(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        link(Path::new("/a"), &dir.join("link")).unwrap();
        link(Path::new("/b"), &dir.join("link")).unwrap();
        assert_eq!(fs::read_link(dir.join("link")).unwrap(), Path::new("/b"));
        remove(&dir.join("link")).unwrap();
        remove(&dir.join("link")).unwrap();
        assert!(write(&dir.join("no/file"), b"x").unwrap_err().contains("no/file"));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left over");
        fs::remove_dir_all(&dir).unwrap();
    }
}
