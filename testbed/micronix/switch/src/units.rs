//! Where units' files come from: a folder of a system's configuration.

use crate::unit_file::UnitFile;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The units that a configuration has.
pub(crate) trait Units {
    /// Whether there is a file for this unit, a mask included.
    fn has(&self, unit: &str) -> bool;
    /// Whether the unit can run: it has a file, and the file is no mask.
    fn runs(&self, unit: &str) -> bool;
    /// The text of `base` with its drop-ins, and those of `unit` where that is an instance of it.
    fn load(&self, unit: &str, base: &str) -> Result<UnitFile>;
}

/// A folder such as /etc/systemd/system.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn add_drop_ins(&self, file: &mut UnitFile, unit: &str) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(self.0.join(format!("{unit}.d"))) else { return Ok(()) };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|ext| ext == "conf"))
            .collect();
        paths.sort();
        for path in paths {
            file.add(&read(&path)?);
        }
        Ok(())
    }
}

impl Units for Folder {
    fn has(&self, unit: &str) -> bool {
        self.0.join(unit).exists()
    }

    fn runs(&self, unit: &str) -> bool {
        self.0.join(unit).canonicalize().is_ok_and(|path| path != Path::new("/dev/null"))
    }

    fn load(&self, unit: &str, base: &str) -> Result<UnitFile> {
        let mut file = UnitFile::default();
        file.add(&read(&self.0.join(base))?);
        self.add_drop_ins(&mut file, base)?;
        if unit != base {
            self.add_drop_ins(&mut file, unit)?;
        }
        Ok(file)
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("Failed to open unit file {}", path.display()))
}
