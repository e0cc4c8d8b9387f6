//! Signing a release: by the operator's own `ssh-keygen`, so that their agent and hardware keys work.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bosco_release::{Key, RELEASE_NAMESPACE, Signer, SignerKind};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::error::{Error, Exit};

/// What signs: a signer, and where `ssh-keygen` finds the key.
#[derive(Debug)]
pub(crate) struct Pen {
    pub(crate) signer: Signer,
    key: Place,
}

#[derive(Debug)]
enum Place {
    /// A private key, or the public half of one that the agent has.
    File(PathBuf),
    /// The agent has it.
    Agent,
    /// The hub itself signs.
    Hub,
}

impl Pen {
    /// Looks for a key that may sign releases: the one that was named, or the first that is at hand.
    pub(crate) async fn find(
        signers: &[Signer],
        named: Option<&Path>,
        hub_signs: bool,
    ) -> Result<Self, Error> {
        let operators = || signers.iter().filter(|signer| signer.kind == SignerKind::Operator);
        if let Some(file) = named {
            let key = public_half(file).await?;
            let signer = operators().find(|signer| signer.key == key).ok_or_else(|| {
                let message = format!("{} may not sign releases: {}", file.display(), key.fingerprint());
                Error::new(Exit::NotDeployed, message)
                    .hint("bosco.toml says whose keys may, below `operators`")
            })?;
            return Ok(Self { signer: signer.clone(), key: Place::File(file.to_owned()) });
        }
        let in_agent = in_agent().await;
        let in_files = in_files(&ssh_folder());
        let place = |key: &Key| {
            let file =
                in_files.iter().find(|(other, _)| other == key).map(|(_, file)| Place::File(file.clone()));
            if in_agent.contains(key) { Some(Place::Agent) } else { file }
        };
        if let Some((signer, key)) = operators().find_map(|signer| Some((signer, place(&signer.key)?))) {
            return Ok(Self { signer: signer.clone(), key });
        }
        let hub = signers.iter().find(|signer| signer.kind == SignerKind::Hub).filter(|_| hub_signs);
        if let Some(hub) = hub {
            return Ok(Self { signer: hub.clone(), key: Place::Hub });
        }
        let names: Vec<&str> = operators().map(|signer| signer.name.as_str()).collect();
        let message = "no key is at hand that may sign releases";
        Err(Error::new(Exit::NotDeployed, message).hint(format!(
            "{} may: load the key (`ssh-add`), or name its file with `--sign-with`",
            if names.is_empty() { "nobody in bosco.toml".to_owned() } else { names.join(", ") }
        )))
    }

    /// Whether the hub signs: it is sent a release without a signature then.
    pub(crate) fn is_hub(&self) -> bool {
        matches!(self.key, Place::Hub)
    }

    /// Signs a statement.
    pub(crate) async fn sign(&self, statement: &str) -> Result<String, Error> {
        match &self.key {
            Place::Hub => Ok(String::new()),
            Place::File(file) => keygen(file, statement).await,
            Place::Agent => {
                // `ssh-keygen` takes the key from the agent where it is given the public half.
                let file = PublicHalf::write(&self.signer.key).map_err(|error| {
                    Error::new(Exit::Unable, format!("no temporary file can be made: {error}"))
                })?;
                keygen(&file.0, statement).await
            }
        }
    }
}

/// `ssh-keygen -Y sign`. It may ask for a passphrase or a touch, and takes its time.
async fn keygen(key: &Path, statement: &str) -> Result<String, Error> {
    let failed = |why: String| {
        Error::new(
            Exit::NotDeployed,
            format!("the release could not be signed with {}: {why}", key.display()),
        )
        .hint("does `ssh-keygen -Y sign -n test -f` of that key work by hand?")
    };
    let mut child = Command::new("ssh-keygen")
        .args(["-q", "-Y", "sign", "-n", RELEASE_NAMESPACE, "-f"])
        .arg(key)
        .kill_on_drop(true)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("`ssh-keygen`: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Why it takes nothing is what it says.
        let _ = stdin.write_all(statement.as_bytes()).await;
    }
    let said = child.wait_with_output().await.map_err(|error| failed(error.to_string()))?;
    if !said.status.success() {
        return Err(failed(last_line(&said.stderr)));
    }
    String::from_utf8(said.stdout).map_err(|_| failed("it gave no text".into()))
}

fn last_line(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let line = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    line.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// The public half of a key in a file.
async fn public_half(file: &Path) -> Result<Key, Error> {
    let unreadable = |why: String| {
        Error::new(Exit::Usage, format!("{} is no key: {why}", file.display()))
            .hint("`--sign-with` takes a private key, or the public half of one that your agent has")
    };
    let mut beside = file.as_os_str().to_owned();
    beside.push(".pub");
    let beside = PathBuf::from(beside);
    for path in [file, &beside] {
        if let Some(key) = fs::read_to_string(path).ok().and_then(|text| Key::parse(&text).ok()) {
            return Ok(key);
        }
    }
    let mut keygen = Command::new("ssh-keygen");
    keygen.arg("-y").arg("-f").arg(file).stdin(Stdio::null());
    let said = keygen.output().await.map_err(|error| unreadable(error.to_string()))?;
    if !said.status.success() {
        return Err(unreadable(last_line(&said.stderr)));
    }
    Key::parse(&String::from_utf8_lossy(&said.stdout)).map_err(|error| unreadable(error.to_string()))
}

/// The keys that the operator's agent has.
async fn in_agent() -> Vec<Key> {
    let said = Command::new("ssh-add").arg("-L").stdin(Stdio::null()).output().await;
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).into_owned()).unwrap_or_default();
    said.lines().filter_map(|line| Key::parse(line).ok()).collect()
}

fn ssh_folder() -> PathBuf {
    let home = std::env::var_os("HOME").unwrap_or_else(|| OsString::from("/nonexistent"));
    Path::new(&home).join(".ssh")
}

/// The keys of a folder whose private halves lie beside the public ones, with where they do.
fn in_files(folder: &Path) -> Vec<(Key, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let public = entries.filter(|path| path.extension().is_some_and(|extension| extension == "pub"));
    let found = public.filter_map(|path| {
        let key = Key::parse(&fs::read_to_string(&path).ok()?).ok()?;
        let private = path.with_extension("");
        private.is_file().then_some((key, private))
    });
    let mut found: Vec<_> = found.collect();
    found.sort();
    found
}

/// A public key in a file of its own, which goes with the value.
struct PublicHalf(PathBuf);

impl PublicHalf {
    fn write(key: &Key) -> io::Result<Self> {
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let base = runtime.filter(|dir| dir.is_dir()).unwrap_or_else(std::env::temp_dir);
        let path = base.join(format!("bosco-signer-{}.pub", std::process::id()));
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).open(&path)?;
        io::Write::write_all(&mut file, format!("{key}\n").as_bytes())?;
        Ok(Self(path))
    }
}

impl Drop for PublicHalf {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key in a folder of its own.
    fn key(folder: &Path, name: &str) -> Option<Key> {
        fs::create_dir_all(folder).unwrap();
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "ada@laptop", "-f"])
            .arg(folder.join(name))
            .status();
        made.ok().filter(|made| made.success())?;
        Some(Key::parse(&fs::read_to_string(folder.join(format!("{name}.pub"))).unwrap()).unwrap())
    }

    #[tokio::test]
    async fn a_release_that_is_signed_with_a_file_is_believed_and_another_key_may_not_sign() {
        let folder = std::env::temp_dir().join(format!("bosco-sign-{}", std::process::id()));
        let (Some(ada), Some(_)) = (key(&folder, "ada"), key(&folder, "eve")) else { return };
        assert_eq!(in_files(&folder).len(), 2);
        let signers = [Signer { name: "ada".into(), key: ada, kind: SignerKind::Operator }];
        let statement = bosco_release::Statement {
            fleet: bosco_model::FleetName::parse("home").unwrap(),
            number: 1,
            root: bosco_release::Digest::of(&[]),
            hosts: 0,
            commit: None,
            made: 1,
            expires: 2,
            hub_builds: false,
        };
        let draft = bosco_release::Draft::new(statement, Vec::new()).unwrap();
        let pen = Pen::find(&signers, Some(&folder.join("ada")), false).await.unwrap();
        let signature = pen.sign(&draft.statement).await.unwrap();
        assert_eq!(draft.signed(signature).open(&signers).unwrap().1.name, "ada");
        let refused = Pen::find(&signers, Some(&folder.join("eve")), false).await.unwrap_err();
        assert!(refused.message.contains("may not sign") && refused.exit == Exit::NotDeployed);
        fs::remove_dir_all(folder).unwrap();
    }
}
