//! Building toplevels.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use bosco_model::{Declaration, DerivationPath, StorePath, Target};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use crate::command::run;
use crate::{Builders, Error, Fleet, LogLine, Nix, message};

/// What the directories are called, before the number of their process.
const PREFIX: &str = "bosco-roots-";

/// What keeps built toplevels from being collected while they are needed: links in a directory of this run, which goes
/// with it.
#[derive(Debug)]
pub struct Root {
    dir: PathBuf,
    links: AtomicUsize,
}

impl Root {
    /// A new one, in the user's runtime directory where there is one. What a killed run has left there is removed.
    ///
    /// # Errors
    /// What the system said, with the directory.
    pub fn new() -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let base = runtime.filter(|dir| dir.is_dir()).unwrap_or_else(std::env::temp_dir);
        sweep(&base);
        let dir = base.join(format!("{PREFIX}{}", std::process::id()));
        match std::fs::create_dir(&dir) {
            Ok(()) => Ok(Self { dir, links: AtomicUsize::new(0) }),
            Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", dir.display()))),
        }
    }
}

impl Root {
    /// A link that is not there yet.
    fn next(&self) -> PathBuf {
        self.dir.join(format!("toplevel-{}", self.links.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Removes what runs have left that are gone. What belongs to other users can't be removed, and is theirs to sweep.
fn sweep(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|id| id.parse().ok());
        let Some(id) = id.and_then(Pid::from_raw) else { continue };
        // This process can't have left anything yet: it is what one of the same number has left.
        let runs = test_kill_process(id) != Err(Errno::SRCH) && id != rustix::process::getpid();
        if !runs {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        // What stays behind in the temporary directory is a link that keeps one closure until it is cleaned up.
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

impl Nix {
    /// Builds toplevels with one process, or fetches them where they can be had, and roots them; gives what came of each.
    pub async fn build(
        &self,
        fleet: &Fleet,
        declared: &[Declaration],
        root: &Root,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Vec<Result<(), Error>> {
        if declared.is_empty() {
            return Vec::new();
        }
        let dir = &fleet.source.dir;
        let mut command = self.nix("build", dir);
        command.args(["--keep-going", "--print-build-logs", "--out-link"]).arg(root.next());
        // How often Nix looks, in seconds, whether what another process builds is there.
        command.args(["--option", "build-poll-interval", "1"]);
        match &fleet.builders {
            Some(Builders::File(machines)) => {
                command.args(["--option", "builders", &format!("@{machines}")]);
            }
            Some(Builders::Only { target, system }) => {
                command.args(["--option", "builders", &builder(target, system), "--option", "max-jobs", "0"]);
                let env = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
                match ssh_options(target, env("NIX_SSHOPTS"), env("SSH_CONFIG_FILE")) {
                    Ok(options) => command.env("NIX_SSHOPTS", options),
                    Err(error) => return declared.iter().map(|_| Err(error.clone())).collect(),
                };
            }
            None => {}
        }
        let derivations = declared.iter().flat_map(Declaration::derivations);
        command.args(derivations.map(|derivation| format!("{}^out", derivation.as_str())));
        let Err(error) = run(command, Some(dir), listen).await.map(drop) else {
            return declared.iter().map(|_| Ok(())).collect();
        };
        let Error::Failed { log, .. } = &error else {
            return declared.iter().map(|_| Err(error.clone())).collect();
        };
        let causes = message::failed_derivations(log);
        let paths: Vec<StorePath> = declared.iter().flat_map(Declaration::paths).collect();
        let there = self.is_there(&paths).await;
        let mut results = Vec::with_capacity(declared.len());
        for one in declared {
            // Nix makes no link where one of several has failed.
            let mut is_kept = true;
            for path in one.paths() {
                is_kept = is_kept && there.contains(&path) && self.root(&path, root).await;
            }
            results.push(if is_kept { Ok(()) } else { Err(self.cause(one, &causes, &error).await) });
        }
        results
    }

    /// Builds what a derivation makes, or fetches it where it can be had, with a root at `link`.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn realise(
        &self,
        derivation: &DerivationPath,
        link: &Path,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<(), Error> {
        let dir = link.parent().unwrap_or(link);
        let mut command = self.nix("build", dir);
        command.args(["--print-build-logs", "--out-link"]).arg(link);
        command.arg(format!("{}^out", derivation.as_str()));
        run(command, None, listen).await.map(drop)
    }

    /// Which of these paths are in the store here.
    pub async fn is_there(&self, paths: &[StorePath]) -> Vec<StorePath> {
        let words =
            ["--check-validity", "--print-invalid"].into_iter().chain(paths.iter().map(StorePath::as_str));
        let Ok(invalid) = run(self.store(words), None, &mut |_| {}).await else { return Vec::new() };
        let invalid = String::from_utf8_lossy(&invalid);
        let is_there = |path: &&StorePath| invalid.lines().all(|line| line != path.as_str());
        paths.iter().filter(is_there).cloned().collect()
    }

    /// Roots a path that is there; false where it is gone.
    pub async fn root(&self, path: &StorePath, root: &Root) -> bool {
        let mut realise = self.store(["--realise", path.as_str(), "--add-root"]);
        realise.arg(root.next());
        run(realise, None, &mut |_| {}).await.is_ok()
    }

    /// Lets a link stay that keeps a path which is there from being collected; false where it can't be made.
    pub async fn keep(&self, path: &StorePath, link: &Path) -> bool {
        let mut realise = self.store(["--realise", path.as_str(), "--indirect", "--add-root"]);
        realise.arg(link);
        run(realise, None, &mut |_| {}).await.is_ok()
    }

    /// Puts a folder into the store here, by its contents, and gives the path that it has there.
    ///
    /// # Errors
    /// With Nix's own words.
    pub async fn add(&self, folder: &Path) -> Result<StorePath, Error> {
        let said =
            run(self.store([std::ffi::OsStr::new("--add"), folder.as_os_str()]), None, &mut |_| {}).await?;
        let text = String::from_utf8_lossy(&said);
        StorePath::parse(text.trim())
            .map_err(|error| Error::Process { program: "nix-store --add".into(), why: error.to_string() })
    }

    /// Of all that failed, what this toplevel needs.
    async fn cause(&self, declared: &Declaration, causes: &[(String, String)], all: &Error) -> Error {
        let derivations = declared.derivations().into_iter().map(DerivationPath::as_str);
        let query = self.store(["--query", "--requisites"].into_iter().chain(derivations));
        let needs = run(query, None, &mut |_| {}).await.unwrap_or_default();
        let needs = String::from_utf8_lossy(&needs);
        let is_needed = |derivation: &str| needs.lines().any(|line| line == derivation);
        let told: Vec<&str> = causes
            .iter()
            .filter(|(derivation, _)| is_needed(derivation))
            .map(|(_, why)| why.as_str())
            .collect();
        match all {
            Error::Failed { log, .. } if !told.is_empty() => {
                Error::Failed { message: told.join("\n"), log: log.clone() }
            }
            other => other.clone(),
        }
    }
}

/// A machine in the format of Nix's `builders`.
fn builder(target: &Target, system: &str) -> String {
    let user = target.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
    // An address of IPv6 would be taken for a name and a port.
    let is_v6 = target.host.contains(':') && !target.host.starts_with('[');
    let host = if is_v6 { format!("[{}]", target.host) } else { target.host.clone() };
    format!("ssh-ng://{user}{host} {system}")
}

/// What Nix gives to `ssh`: what the operator gives it already, the operator's own configuration where that is named, and what
/// the fleet says of the host.
///
/// # Errors
/// Where an option has a blank in it: Nix parts them there.
fn ssh_options(target: &Target, given: Option<String>, config: Option<String>) -> Result<String, Error> {
    // Nix works where the fleet is.
    let config = config
        .map(|file| std::path::absolute(&file).map_or(file, |file| file.to_string_lossy().into_owned()));
    let own = config.into_iter().flat_map(|file| ["-F".to_owned(), file]);
    let port = target.port.into_iter().flat_map(|port| ["-p".to_owned(), port.to_string()]);
    let options: Vec<String> = own.chain(port).chain(target.ssh_options.iter().cloned()).collect();
    if let Some(option) = options.iter().find(|option| option.contains(char::is_whitespace)) {
        return Err(Error::Fleet {
            why: format!(
                "Nix can't reach {} to build there: it takes no option of ssh with a blank, as `{option}`",
                target.display()
            ),
            hint: "write it without a blank (`-oName=value`), or into your ssh configuration".into(),
        });
    }
    Ok(given.into_iter().chain(options).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use bosco_model::Privilege;

    use super::*;

    fn target(host: &str, port: Option<u16>, options: &[&str]) -> Target {
        let ssh_options = options.iter().map(ToString::to_string).collect();
        Target {
            host: host.into(),
            user: Some("root".into()),
            port,
            ssh_options,
            privilege: Privilege::default(),
        }
    }

    #[test]
    fn a_host_that_builds_is_reached_as_the_operator_reaches_it() {
        let of = |target: &Target| ssh_options(target, Some("-4".into()), Some("/etc/own".into()));
        assert_eq!(of(&target("web", Some(22), &["-J", "hop"])).unwrap(), "-4 -F /etc/own -p 22 -J hop");
        let error = of(&target("web", None, &["-o", "ProxyCommand=nc %h %p"])).unwrap_err();
        assert!(error.to_string().contains("`ProxyCommand=nc %h %p`"), "{error}");
        assert_eq!(builder(&target("web", None, &[]), "x86_64-linux"), "ssh-ng://root@web x86_64-linux");
        assert_eq!(builder(&target("::1", None, &[]), "x86_64-linux"), "ssh-ng://root@[::1] x86_64-linux");
    }

    #[test]
    fn what_a_killed_run_has_left_is_swept_and_what_others_use_is_not() {
        let base = std::env::temp_dir().join(format!("bosco-sweep-{}", std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let (gone, alive, other) = (format!("{PREFIX}{}", child.id()), format!("{PREFIX}1"), "bosco-roots-x");
        for name in [gone.as_str(), &alive, other] {
            std::fs::create_dir_all(base.join(name).join("toplevel")).unwrap();
        }
        sweep(&base);
        assert!(!base.join(gone).exists() && base.join(alive).exists() && base.join(other).exists());
        std::fs::remove_dir_all(base).unwrap();
    }
}
