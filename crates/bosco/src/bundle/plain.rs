//! What is in a key of `deployment.keys`: from the configuration, a file here, or a command that runs here.

use std::collections::HashMap;
use std::io;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosco_model::DeclaredKey;
use bosco_secrets::Secret;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::OnceCell;
use tokio::time::timeout;

use super::Unmade;

/// The longest key, in bytes.
const LONGEST: u64 = 2 << 20;
/// How long a command may take: somebody may have to touch a token, or to type.
const COMMAND: Duration = Duration::from_secs(120);
/// How much is read of what a command says beside its answer, in bytes.
const SAID: u64 = 16 << 10;

/// What each command has printed.
type Once = Arc<OnceCell<Result<Arc<Secret>, String>>>;

/// Keys that were read.
#[derive(Default)]
pub(super) struct Plain {
    commands: Mutex<HashMap<Vec<String>, Once>>,
}

impl Plain {
    /// What is in a key. A command runs once, whichever hosts want what it prints.
    pub(super) async fn read(&self, name: &str, key: &DeclaredKey) -> Result<Arc<Secret>, Unmade> {
        let unmade =
            |why: String, hint| Unmade::new(format!("`deployment.keys.{name}` can't be read: {why}"), hint);
        match (&key.text, &key.key_file, &key.key_command) {
            (Some(text), None, None) => Ok(Arc::new(Secret::new(text.clone().into_bytes()))),
            (None, Some(file), None) => {
                let read = async { capped(tokio::fs::File::open(file).await?, LONGEST).await };
                let read = read.await.map_err(|error| {
                    unmade(format!("{file}: {error}"), "`keyFile` is a file on this machine")
                });
                read.map(Arc::new)
            }
            (None, None, Some(words)) => {
                let cell = {
                    let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
                    Arc::clone(commands.entry(words.clone()).or_default())
                };
                let ran = cell.get_or_init(|| async { run(words).await.map(Arc::new) }).await;
                ran.clone().map_err(|why| unmade(why, "run its `keyCommand` by hand, in this directory"))
            }
            _ => Err(unmade(
                "it has not exactly one of `text`, `keyFile` and `keyCommand`".into(),
                "give it one",
            )),
        }
    }
}

/// All that a reader has, if that is not too much.
async fn capped(reader: impl AsyncRead + Unpin, most: u64) -> io::Result<Secret> {
    // Where it grows, a copy is left behind: as large as most keys ever get.
    let mut bytes = Vec::with_capacity(64 << 10);
    let read = reader.take(most + 1).read_to_end(&mut bytes).await;
    let length = bytes.len() as u64;
    let secret = Secret::new(bytes);
    read?;
    if length > most {
        return Err(io::Error::other(format!("it has more than {most} bytes")));
    }
    Ok(secret)
}

async fn run(words: &[String]) -> Result<Secret, String> {
    let Some((program, arguments)) = words.split_first() else { return Err("the command is empty".into()) };
    let mut command = Command::new(program);
    command.args(arguments).kill_on_drop(true).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("`{program}` can't be started: {error}"))?;
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(format!("`{program}` has no output"));
    };
    let work = async {
        // Both at once: it may wait for either to be read.
        let (printed, said) = tokio::join!(capped(out, LONGEST), drained(err));
        (printed, said, child.wait().await)
    };
    let (printed, said, status) = timeout(COMMAND, work)
        .await
        .map_err(|_| format!("`{program}` did not end within {} s", COMMAND.as_secs()))?;
    let status = status.map_err(|error| format!("`{program}` can't be waited for: {error}"))?;
    // Before how it ended: who prints too much may end because nobody reads on.
    let printed = printed.map_err(|error| format!("`{program}`: {error}"))?;
    if !status.success() {
        let why = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
        let why: String = why.chars().filter(|c| !c.is_control()).take(300).collect();
        return Err(format!("`{program}` has failed ({status}): {why}"));
    }
    Ok(printed)
}

/// What a command says beside its answer: its beginning; it is read to its end.
async fn drained(mut reader: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    let _ = (&mut reader).take(SAID).read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&said).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(words: &[&str]) -> DeclaredKey {
        DeclaredKey {
            name: "x".into(),
            text: None,
            key_file: None,
            key_command: Some(words.iter().map(ToString::to_string).collect()),
            dest_dir: "/run/keys".into(),
            user: "root".into(),
            group: "root".into(),
            permissions: "0600".into(),
            upload_at: bosco_model::UploadAt::PreActivation,
        }
    }

    #[tokio::test]
    async fn a_command_runs_once_for_all_hosts_and_what_it_prints_is_the_key() {
        let counted = std::env::temp_dir().join(format!("bosco-plain-{}", std::process::id()));
        let script = format!("echo x >> {}; printf 'a\\nb\\n'", counted.display());
        let (plain, key) = (Plain::default(), key(&["sh", "-c", &script]));
        for _ in 0..3 {
            assert_eq!(plain.read("x", &key).await.ok().unwrap().expose(), b"a\nb\n");
        }
        assert_eq!(std::fs::read_to_string(&counted).unwrap(), "x\n");
        std::fs::remove_file(counted).unwrap();
    }

    #[tokio::test]
    async fn a_file_of_this_machine_is_the_key_as_it_is_and_one_that_is_not_there_is_told() {
        let file = std::env::temp_dir().join(format!("bosco-plain-file-{}", std::process::id()));
        std::fs::write(&file, b"a\0b\n").unwrap();
        let key =
            DeclaredKey { key_command: None, key_file: Some(file.to_str().unwrap().into()), ..key(&[]) };
        assert_eq!(Plain::default().read("x", &key).await.ok().unwrap().expose(), b"a\0b\n");
        std::fs::remove_file(&file).unwrap();
        let why = Plain::default().read("x", &key).await.err().unwrap().why;
        assert!(why.contains("deployment.keys.x") && why.contains("bosco-plain-file"), "{why}");
    }

    #[tokio::test]
    async fn a_command_that_fails_is_told_without_what_it_has_printed() {
        let plain = Plain::default();
        for (script, says) in [
            ("echo hunter2; echo 'no vault' >&2; exit 3", "no vault"),
            ("head -c 3000000 /dev/zero", "more than 2097152 bytes"),
        ] {
            let why = plain.read("x", &key(&["sh", "-c", script])).await.err().unwrap().why;
            assert!(why.contains(says) && !why.contains("hunter2"), "{why}");
        }
        assert!(plain.read("x", &key(&["no-such-program"])).await.is_err());
    }
}
