//! What bosco keeps on an operator's machine, for its user alone: below `XDG_STATE_HOME`, or in `~/.local/state`.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The longest file that is read, in bytes.
const LONGEST: u64 = 64 << 20;

/// The folder. `None` where the user has no home.
pub(crate) fn folder() -> Option<PathBuf> {
    let from = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = from("XDG_STATE_HOME").or_else(|| Some(from("HOME")?.join(".local/state")));
    state.map(|state| state.join("bosco"))
}

/// Makes a folder that nobody else can look into.
pub(crate) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What is in a file. `None` where there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        return Err(io::Error::other(format!("it has more than {LONGEST} bytes")));
    }
    Ok(Some(bytes))
}

/// Puts what `change` makes of a file into its place, whole or not at all; where that is nothing, the file stays as it is.
/// No other bosco changes it meanwhile.
pub(crate) fn change(
    path: &Path,
    change: impl FnOnce(Option<Vec<u8>>) -> io::Result<Option<Vec<u8>>>,
) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make(folder)?;
    let open = |path: &Path| File::options().write(true).create(true).truncate(false).mode(0o600).open(path);
    // Of its own, as the file itself is another one each time. It goes with the value.
    let lock = open(&path.with_extension("lock"))?;
    lock.lock()?;
    let Some(bytes) = change(read(path)?)? else { return Ok(()) };
    let making = path.with_extension("new");
    let _ = fs::remove_file(&making);
    let mut file = open(&making)?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    fs::rename(&making, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_changed_by_one_at_a_time_and_is_for_its_owner_alone() {
        let folder = std::env::temp_dir().join(format!("bosco-state-{}", std::process::id()));
        let path = folder.join("count");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    change(&path, |before| {
                        let mut bytes = before.unwrap_or_default();
                        bytes.push(b'x');
                        Ok(Some(bytes))
                    })
                    .unwrap();
                });
            }
        });
        assert_eq!(read(&path).unwrap().unwrap(), b"xxxxxxxx");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        change(&path, |_| Ok(None)).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len(), 8);
        assert!(read(&folder.join("none")).unwrap().is_none());
        fs::remove_dir_all(folder).unwrap();
    }
}
