//! The lists under /run/nixos: what an interrupted run still has to do, and what the activation script asks for.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

/// The folder of everything that a switch keeps.
pub(crate) const RUN: &str = "/run/nixos";

/// A list that a later run carries on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    Start,
    Restart,
    Reload,
}

impl List {
    fn path(self) -> PathBuf {
        Path::new(RUN).join(match self {
            Self::Start => "start-list",
            Self::Restart => "restart-list",
            Self::Reload => "reload-list",
        })
    }

    pub(crate) fn read(self) -> BTreeSet<String> {
        read(&self.path()).into_iter().collect()
    }

    pub(crate) fn remove(self) -> Result<()> {
        remove(&self.path())
    }
}

/// A change of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    Add(List, String),
    Drop(List, String),
}

/// Writes changes down. A list that cannot be written is no reason to stop: it only helps a run that is interrupted.
pub(crate) fn write_down(notes: &[Note]) {
    for note in notes {
        let _ = match note {
            Note::Add(list, unit) => append(&list.path(), unit),
            Note::Drop(list, unit) => drop_line(&list.path(), unit),
        };
    }
}

fn append(path: &Path, unit: &str) -> Result<()> {
    let mut file = std::fs::File::options().append(true).create(true).open(path)?;
    writeln!(file, "{unit}")
}

fn drop_line(path: &Path, unit: &str) -> Result<()> {
    let rest: Vec<String> = read(path).into_iter().filter(|line| line != unit).collect();
    let mut text = rest.join("\n");
    if !text.is_empty() {
        text.push('\n');
    }
    std::fs::write(path, text)
}

/// The units in a file, one a line; none if there is no file.
pub(crate) fn read(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// Removes a file that may not be there.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
