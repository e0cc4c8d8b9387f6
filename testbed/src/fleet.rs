//! A fleet's files in the operator's folder, under git as a fleet of real people is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::Operator;
use crate::cache;
use crate::run::run_ok;

const GIT: Duration = Duration::from_secs(60);

/// A git repository with a fleet in it.
#[derive(Debug)]
pub struct Fleet<'a> {
    operator: &'a Operator,
    path: PathBuf,
}

/// Copies a folder, without what git would not keep, to a repository of that name in [`Operator::dir`], and commits it.
///
/// # Errors
/// Where it can't be copied, or git fails.
pub fn lay_out<'a>(operator: &'a Operator, from: &Path, name: &str) -> Result<Fleet<'a>> {
    let fleet = create(operator, name)?;
    let skip = |path: &Path| {
        path.file_name().is_some_and(|name| name == ".git" || name.to_string_lossy().starts_with("result"))
    };
    for file in cache::files(from, &skip)? {
        let to = fleet.path.join(file.strip_prefix(from)?);
        fs::create_dir_all(to.parent().unwrap_or(&fleet.path))?;
        if file.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&file)?, &to)?;
        } else {
            fs::copy(&file, &to).with_context(|| format!("can't copy {}", file.display()))?;
        }
    }
    fleet.commit()?;
    Ok(fleet)
}

/// Lays out one of the fleets in `testbed/fleets`.
///
/// # Errors
/// As [`lay_out`].
pub fn sample<'a>(operator: &'a Operator, name: &str) -> Result<Fleet<'a>> {
    lay_out(operator, &Path::new(env!("CARGO_MANIFEST_DIR")).join("fleets").join(name), name)
}

/// Makes a repository without files.
///
/// # Errors
/// Where there is one of that name, or git fails.
pub fn create<'a>(operator: &'a Operator, name: &str) -> Result<Fleet<'a>> {
    let path = operator.dir().join(name);
    fs::create_dir(&path).with_context(|| format!("can't create {}", path.display()))?;
    let fleet = Fleet { operator, path };
    fleet.git(&["init", "--quiet"])?;
    Ok(fleet)
}

impl Fleet<'_> {
    /// Puts bosco's flake, its modules and nothing else of the checkout, into the folder `bosco` of the fleet.
    ///
    /// # Errors
    /// Where it can't be written, or git fails.
    pub fn add_bosco(&self) -> Result<()> {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let modules = cache::files(&checkout.join("nix/modules"), &|_| false)?;
        for file in modules.into_iter().chain([checkout.join("flake.nix")]) {
            let to = self.path.join("bosco").join(file.strip_prefix(&checkout)?);
            fs::create_dir_all(to.parent().unwrap_or(&self.path))?;
            fs::copy(&file, &to).with_context(|| format!("can't copy {}", file.display()))?;
        }
        self.git(&["add", "--all"])
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file, and tells git of it without committing it: an unknown file is not part of a flake.
    ///
    /// # Errors
    /// Where it can't be written, or git fails.
    pub fn write(&self, file: impl AsRef<Path>, text: &str) -> Result<()> {
        let path = self.path.join(file.as_ref());
        fs::create_dir_all(path.parent().unwrap_or(&self.path))?;
        fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))?;
        self.git(&["add", "--all"])
    }

    /// Commits all there is.
    ///
    /// # Errors
    /// Where git fails.
    pub fn commit(&self) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--allow-empty", "--message", "Change the fleet"])
    }

    fn git(&self, args: &[&str]) -> Result<()> {
        run_ok(self.operator.command("git").current_dir(&self.path).args(args), GIT).map(drop)
    }
}
