//! A host's bundle of secrets, as an operator makes it: sops files as they are, and `deployment.keys` sealed to the host.
//!
//! What is in a key is read here, sealed here and nowhere else: it is in no argument, error, event or file.

mod plain;
mod sealed;

use std::collections::BTreeMap;
use std::sync::Arc;

use bosco_model::{DeclaredKey, DeclaredSecrets, Digest, Host};
use bosco_secrets::sops::{File, Format};
use bosco_secrets::{
    Account, Bundle, Ciphertext, CiphertextKind, Directory, FileId, FileName, Key, Permissions, Recipient,
    SecretName, Source, UploadAt, seal,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use self::plain::Plain;
use self::sealed::{Seal, Sealed};
use crate::event::Stage;
use crate::outcome::Outcome;

/// What makes bundles: for all hosts of a command, so that each command for a key runs once.
#[derive(Clone)]
pub(crate) struct Bundler {
    plain: Arc<Plain>,
    sealed: Arc<Sealed>,
}

/// A bundle as it is carried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) digest: Digest,
    pub(crate) bytes: Vec<u8>,
}

/// What is known of a host's keys, beside what it declares.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Own<'a> {
    /// What it says that it has.
    Said(Option<&'a str>),
    /// What it was let in with.
    Enrolled(&'a [bosco_release::Key]),
}

/// Why there is no bundle for a host, and what to do about it.
#[derive(Debug)]
pub(crate) struct Unmade {
    why: String,
    hint: &'static str,
}

impl Unmade {
    fn new(why: impl Into<String>, hint: &'static str) -> Self {
        Self { why: why.into(), hint }
    }

    /// What that comes to for the host.
    pub(crate) fn outcome(self) -> Outcome {
        Outcome::failed(Stage::Evaluate, self.why, Some(self.hint.into()))
    }
}

impl Bundler {
    pub(crate) fn new() -> Self {
        Self { plain: Arc::default(), sealed: Arc::default() }
    }

    /// Makes the bundle of a host. Its keys are sealed to what it declares, or else to its own.
    pub(crate) async fn make(
        &self,
        host: &Host,
        declared: &DeclaredSecrets,
        own: Own<'_>,
    ) -> Result<Carried, Unmade> {
        let Names { mut files, secrets } = sops_files(declared)?;
        let mut keys = BTreeMap::new();
        if !declared.keys.is_empty() {
            // Where this process ends badly, its memory is not to be written to a disk.
            let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
            let recipients = recipients(host, own)?;
            for (name, key) in &declared.keys {
                let invalid = |why: &dyn std::fmt::Display| {
                    Unmade::new(format!("`deployment.keys.{name}`: {why}"), "mend its declaration")
                };
                let place = place(name, key).map_err(|error| invalid(&error))?;
                let bytes = self.plain.read(name, key).await?;
                let what = Seal { host: &host.name, name, recipients: &recipients };
                let data = self.sealed.get(&what, &bytes, || seal(bytes.expose(), &recipients));
                let data = data.map_err(|error| invalid(&error))?;
                files.insert(place.file.clone(), Ciphertext { kind: CiphertextKind::Age, data });
                keys.insert(FileName::parse(name).map_err(|error| invalid(&error))?, place);
            }
        }
        let whole = |error: &dyn std::fmt::Display| {
            Unmade::new(
                format!("its secrets can't be carried: {error}"),
                "leave some out, or make them smaller",
            )
        };
        let bundle = Bundle::new(files, secrets, keys).map_err(|error| whole(&error))?;
        let bytes = bundle.to_bytes().map_err(|error| whole(&error))?;
        Ok(Carried { digest: Digest::of(&[&bytes]), bytes })
    }
}

/// To whom a host's keys are sealed.
fn recipients(host: &Host, own: Own<'_>) -> Result<Vec<Recipient>, Unmade> {
    let declared: Vec<Recipient> =
        host.public_keys.iter().filter_map(|key| Recipient::parse(key).ok()).collect();
    if !declared.is_empty() {
        return Ok(declared);
    }
    if !host.public_keys.is_empty() {
        return Err(Unmade::new(
            "none of its `deployment.publicKeys` is of kind ssh-ed25519, so nothing can be sealed to them",
            "add its /etc/ssh/ssh_host_ed25519_key.pub there",
        ));
    }
    let (own, why, hint): (Vec<Recipient>, _, _) = match own {
        Own::Said(own) => (
            own.and_then(|own| Recipient::parse(own).ok()).into_iter().collect(),
            "it has no /etc/ssh/ssh_host_ed25519_key.pub, so nothing can be sealed to it".to_owned(),
            "have its sshd make one, or say in `deployment.publicKeys` which key it has",
        ),
        Own::Enrolled(keys) => (
            keys.iter().filter_map(|key| Recipient::parse(key.as_str()).ok()).collect(),
            format!("no key of {} is known that its `deployment.keys` could be sealed to", host.name),
            "`bosco enroll HOST` lets it in with its key; or say in `deployment.publicKeys` which key it has",
        ),
    };
    if own.is_empty() { Err(Unmade::new(why, hint)) } else { Ok(own) }
}

/// Where a key goes.
fn place(name: &str, key: &DeclaredKey) -> Result<Key, bosco_secrets::InvalidPlace> {
    Ok(Key {
        file: FileId::parse(&format!("deployment.keys/{name}"))?,
        dest_dir: Directory::parse(&key.dest_dir)?,
        file_name: FileName::parse(&key.name)?,
        user: Account::parse(&key.user)?,
        group: Account::parse(&key.group)?,
        permissions: Permissions::parse(&key.permissions)?,
        upload_at: match key.upload_at {
            bosco_model::UploadAt::PreActivation => UploadAt::PreActivation,
            bosco_model::UploadAt::PostActivation => UploadAt::PostActivation,
        },
    })
}

/// The sops files of a bundle, and what comes from each.
struct Names {
    files: BTreeMap<FileId, Ciphertext>,
    secrets: BTreeMap<SecretName, Source>,
}

fn sops_files(declared: &DeclaredSecrets) -> Result<Names, Unmade> {
    const HINT: &str = "`sops FILE` shows whether it is well";
    let (mut files, mut by_path) = (BTreeMap::new(), BTreeMap::new());
    for (path, file) in &declared.files {
        let shown = below_source(path);
        let wrong = |why: &dyn std::fmt::Display| Unmade::new(format!("the sops file {shown}: {why}"), HINT);
        let format = match file.format.as_deref() {
            None => Format::of_name(path),
            Some(named) => serde_json::from_value(named.into()).map_err(|error| wrong(&error))?,
        };
        let data = file.text.clone().into_bytes();
        File::parse(&data, format).map_err(|error| wrong(&error))?;
        let mut id = FileId::parse(shown).map_err(|error| wrong(&error))?;
        // Two files of the same name in two sources are told apart by what is in them: paths in the store change with each
        // commit, and what is carried must not.
        if files.get(&id).is_some_and(|other: &Ciphertext| other.data != data) {
            let other = format!("{}/{shown}", &Digest::of(&[&data]).to_string()[..16]);
            id = FileId::parse(&other).map_err(|error| wrong(&error))?;
        }
        files.insert(id.clone(), Ciphertext { kind: CiphertextKind::Sops { format }, data });
        by_path.insert(path, id);
    }
    let mut secrets = BTreeMap::new();
    for (name, path) in &declared.secrets {
        let wrong =
            |why: String| Unmade::new(format!("`sops.secrets.{name}`: {why}"), "mend its declaration");
        let file = by_path.get(path).cloned().ok_or_else(|| wrong(format!("{path} was not read")))?;
        secrets.insert(SecretName::parse(name).map_err(|error| wrong(error.to_string()))?, Source { file });
    }
    Ok(Names { files, secrets })
}

/// A file's path in its repository, as far as that can be told: without the store path that its source is in.
fn below_source(path: &str) -> &str {
    // The store itself may be below a folder.
    let in_store = path.split_once("/nix/store/").and_then(|(_, path)| path.split_once('/'));
    in_store.map_or(path.trim_start_matches('/'), |(_, path)| path)
}

#[cfg(test)]
mod tests {
    use bosco_model::SecretFile;

    use super::*;

    #[test]
    fn a_file_keeps_its_name_whatever_commit_it_is_read_from() {
        assert_eq!(below_source("/nix/store/abc-source/secrets/web.yaml"), "secrets/web.yaml");
        assert_eq!(below_source("/mnt/nix/store/abc-source/web.yaml"), "web.yaml");
        assert_eq!(below_source("/home/ada/fleet/web.yaml"), "home/ada/fleet/web.yaml");
    }

    #[test]
    fn what_sops_has_not_encrypted_is_refused_by_its_name() {
        let file = SecretFile { format: Some("yaml".into()), text: "token: hunter2\n".into() };
        let declared = DeclaredSecrets {
            files: [("/nix/store/x-source/web.yaml".to_owned(), file)].into(),
            ..DeclaredSecrets::default()
        };
        let why = sops_files(&declared).err().unwrap().why;
        assert!(why.starts_with("the sops file web.yaml: it is not encrypted by sops"), "{why}");
        assert!(!why.contains("hunter2"));
    }

    #[test]
    fn keys_are_sealed_to_what_is_declared_and_else_to_what_the_host_says() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBI1+Q+ntzANebtnicCiAY29uqLGWOaOGLEa8bUqOVmS";
        let host = |keys: &[&str]| Host {
            public_keys: keys.iter().map(ToString::to_string).collect(),
            ..Host::new(bosco_model::HostName::parse("web").unwrap(), "x86_64-linux")
        };
        let said = Own::Said;
        assert_eq!(recipients(&host(&[key]), said(None)).unwrap().len(), 1);
        assert_eq!(recipients(&host(&[]), said(Some(key))).unwrap()[0].as_str(), key);
        let why = |own| recipients(&host(&[]), own).unwrap_err().why;
        assert!(why(said(None)).contains("no /etc/ssh/ssh_host_ed25519_key.pub"));
        assert!(why(Own::Enrolled(&[])).contains("no key of web is known"));
        let p256 = "ecdsa-sha2-nistp256 AAAA";
        assert!(recipients(&host(&[p256]), said(Some(key))).unwrap_err().why.contains("none of its"));
    }
}
