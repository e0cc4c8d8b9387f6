//! `bosco init`: the files of a new fleet, or those that one lacks. It never overwrites any.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use bosco_model::FleetName;
use bosco_nix::Source;
use serde::Serialize;

use crate::cli::Cli;
use crate::error::{Error, Exit};
use crate::show;

const FLAKE: &str = include_str!("init/flake.nix");
const RULES: &str = include_str!("init/bosco.toml");

/// What was written.
#[derive(Serialize)]
struct Answer {
    written: Vec<PathBuf>,
}

pub(crate) fn run(cli: &Cli) -> Result<Exit, Error> {
    if cli.place.flake.is_some() || cli.place.hive.is_some() {
        return Err(Error::new(
            Exit::Usage,
            "`init` writes into the working directory, and takes no `--flake` or `--hive`",
        )
        .hint("change to the directory of the fleet, and leave it out"));
    }
    let here = std::env::current_dir()
        .map_err(|error| Error::new(Exit::Unable, format!("the working directory can't be read: {error}")))?;
    // A fleet that is there keeps the form that it has.
    let fleet = Source::find(&here).ok().map(|source| source.dir);
    let mut written = Vec::new();
    if fleet.is_none() {
        written.extend(write(here.join("flake.nix"), FLAKE)?);
    }
    let dir = fleet.unwrap_or(here);
    written.extend(write(dir.join("bosco.toml"), &RULES.replace("FLEET", &name(&dir)))?);
    if cli.json {
        show::json(&Answer { written });
        return Ok(Exit::Done);
    }
    if written.is_empty() {
        show::text(&format!("the fleet in {} has all that it needs", dir.display()));
    }
    for file in &written {
        show::text(&format!("wrote {}", file.display()));
    }
    if written.iter().any(|file| file.ends_with("flake.nix")) {
        show::text(
            "put your host into flake.nix, and in a git repository `git add` it; then `bosco hosts`, `bosco build`",
        );
    }
    Ok(Exit::Done)
}

/// Writes a file where there is none.
fn write(path: PathBuf, text: &str) -> Result<Option<PathBuf>, Error> {
    let made = std::fs::File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes()));
    match made {
        Ok(()) => Ok(Some(path)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(Error::new(Exit::Unable, format!("{} can't be written: {error}", path.display()))),
    }
}

/// What a fleet in a folder is called: as the folder, where that is a name.
fn name(dir: &Path) -> String {
    let own = dir.file_name().map(|name| name.to_string_lossy().to_lowercase());
    own.filter(|name| FleetName::parse(name).is_ok()).unwrap_or_else(|| "fleet".into())
}
