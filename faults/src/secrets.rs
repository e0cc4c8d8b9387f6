//! The secrets of a case: two keys in which its name stands, and which have to be the old ones or the new ones, both.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use bosco_model::Digest;
use bosco_secrets::{Bundle, Ciphertext, CiphertextKind, Directory, FileId, FileName, Key, Recipient, seal};
use testbed::Host;

use crate::judge::{Verdict, journal};

/// Where the keys are.
pub(crate) const FOLDER: &str = "/run/faults-keys";
/// What they are called, in the order in which they are put there.
const NAMES: [&str; 2] = ["one", "two"];

/// A bundle on its way to a host.
pub(crate) struct Carried {
    pub(crate) digest: Digest,
    text: String,
}

impl Carried {
    /// The two keys of a case, sealed to the host.
    pub(crate) fn new(host: &Host, id: &str) -> Result<Self> {
        let recipient = Recipient::parse(&host.public_key()?)?;
        let file = FileId::parse(id)?;
        let data = seal(id.as_bytes(), &[recipient])?;
        let mut keys = BTreeMap::new();
        for name in NAMES {
            let name = FileName::parse(name)?;
            let dest_dir = Directory::parse(FOLDER)?;
            let key = Key { dest_dir, ..Key::with_defaults(&name, file.clone())? };
            keys.insert(name, key);
        }
        let files = BTreeMap::from([(file, Ciphertext { kind: CiphertextKind::Age, data })]);
        let bytes = Bundle::new(files, BTreeMap::new(), keys)?.to_bytes()?;
        Ok(Self { digest: Digest::of(&[&bytes]), text: String::from_utf8(bytes)? })
    }

    /// The command line that has a helper keep it.
    pub(crate) fn keep(&self, helper: &str) -> String {
        format!("printf %s '{}' | {helper} secrets keep {} && ", self.text, self.digest)
    }
}

/// Judges whether the host has the keys that were committed last. Those in memory go with a boot, and come back where the
/// host has bosco's module, or with the next attempt.
pub(crate) fn judge(host: &Host, verdict: &mut Verdict, may_lack: bool) -> Result<()> {
    let committed = committed(host)?;
    let said = host
        .ssh_ok(&format!("for name in {}; do cat {FOLDER}/$name 2>/dev/null; echo; done", NAMES.join(" ")))?;
    let there: Vec<&str> = said.lines().collect();
    let expected = committed.as_deref().unwrap_or_default();
    let lacks = may_lack && there.iter().all(|key| key.is_empty());
    if !lacks && there != NAMES.map(|_| expected) {
        verdict.half.push(format!("its keys say {there:?}, and `{expected}` was committed"));
    }
    Ok(())
}

/// The case whose keys were committed last.
fn committed(host: &Host) -> Result<Option<String>> {
    let Some(digest) = journal(host)?.secrets else { return Ok(None) };
    let path = host.root().join(Path::new("nix/var/bosco/secrets")).join(format!("{digest}.json"));
    let bytes = fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let bundle = Bundle::parse(&bytes).with_context(|| path.display().to_string())?;
    Ok(bundle.files().keys().next().map(ToString::to_string))
}
