//! What is to be seen of a host: from its disk while it is off, over ssh while it runs, and what its journal says.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bosco_activation::{Ending, Journal};
use bosco_model::StorePath;
use testbed::Host;

/// How long systemd may take to let go of units that have ended.
const LET_GO: Duration = Duration::from_secs(10);
/// How long reading the whole store may take.
const VERIFY: Duration = Duration::from_secs(120);
const STATE: &str = "nix/var/bosco";

/// Where a host stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stands {
    pub(crate) running: String,
    pub(crate) booted: String,
    /// What the profile names.
    pub(crate) profile: String,
    /// What the boot loader boots.
    pub(crate) default: String,
    /// What the profile beside the system names, where there is one.
    pub(crate) other: String,
    /// What is there of an attempt that has ended.
    pub(crate) left: Vec<String>,
}

const LOOK: &str = r#"
cd /nix/var/nix
echo "running $(readlink /run/current-system)"
echo "booted $(readlink /run/booted-system)"
echo "profile $(readlink -f profiles/system)"
[ ! -L profiles/per-user/root/app ] || echo "other $(readlink -f profiles/per-user/root/app)"
entry=$(sed -n 's/^default *//p' /boot/loader/loader.conf)
echo "default $(sed -n 's#^options .*init=\([^ ]*\)/init.*#\1#p' "/boot/loader/entries/${entry%.conf}.conf")"
for root in candidate before candidate-profile-0; do [ ! -L gcroots/bosco/$root ] || echo "left root $root"; done
for file in profiles/system-profiles/bosco_candidate*; do [ ! -L "$file" ] || echo "left $file"; done
for file in /boot/loader/entries/*bosco_candidate*.conf; do [ ! -e "$file" ] || echo "left $file"; done
[ ! -e /boot/loader/oneshot ] || echo "left oneshot entry"
systemctl list-units --all --plain --no-legend 'bosco-dead-man-*' 'bosco-activation*' | sed 's/^/left unit /'
"#;

/// Asks a running host where it stands.
pub(crate) fn look(host: &Host) -> Result<Stands> {
    let said = host.ssh_ok(LOOK)?;
    let mut stands = Stands::default();
    for line in said.lines() {
        let (key, value) = line.split_once(' ').unwrap_or((line, ""));
        let value = value.to_owned();
        match key {
            "running" => stands.running = value,
            "booted" => stands.booted = value,
            "profile" => stands.profile = value,
            "default" => stands.default = value,
            "other" => stands.other = value,
            "left" => stands.left.push(value),
            _ => {}
        }
    }
    Ok(stands)
}

/// The same, once systemd has let go of what has ended.
pub(crate) fn look_settled(host: &Host) -> Result<Stands> {
    let started = Instant::now();
    loop {
        let stands = look(host)?;
        let has_unit = stands.left.iter().any(|left| left.starts_with("unit"));
        if !has_unit || started.elapsed() > LET_GO {
            return Ok(stands);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// What a host's disk says, while it is off: what its profile names, and what its boot loader boots.
pub(crate) fn on_disk(host: &Host) -> Result<Stands> {
    let root = host.root();
    let profiles = root.join("nix/var/nix/profiles");
    let link = |path: &Path| {
        fs::read_link(path)
            .map(|target| target.to_string_lossy().into_owned())
            .with_context(|| format!("no link {}", path.display()))
    };
    let profile = link(&profiles.join(link(&profiles.join("system"))?))?;
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("no {}", path.display()));
    let loader = root.join("boot/loader");
    let conf = read(&loader.join("loader.conf"))?;
    let entry = conf.lines().find_map(|line| line.strip_prefix("default ")).context("no default entry")?;
    let entry = read(&loader.join("entries").join(entry.trim()))?;
    let default = entry
        .split_whitespace()
        .find_map(|word| word.strip_prefix("init=")?.strip_suffix("/init"))
        .context("the default entry names no init")?;
    Ok(Stands { profile, default: default.to_owned(), ..Stands::default() })
}

/// What a host remembers, read from outside.
pub(crate) fn journal(host: &Host) -> Result<Journal> {
    let state = host.root().join(STATE);
    ensure!(!state.join("journal.unreadable").exists(), "a journal was set aside as unreadable");
    match fs::read(state.join("journal.json")) {
        Ok(text) => serde_json::from_slice(&text).context("the journal can't be read"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Journal::default()),
        Err(error) => Err(error).context("the journal can't be read"),
    }
}

/// Whether every path that the store's database names is there as it was made. `None`: it is; else what was said.
pub(crate) fn damage(host: &Host) -> Result<Option<String>> {
    let output = host.ssh_within("nix-store --verify --check-contents", VERIFY)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((!output.status.success()).then_some(said))
}

/// What is wrong with a host, in the words of the promises.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdict {
    /// It does not answer.
    pub(crate) lost: Vec<String>,
    /// It is at neither the old nor the new system.
    pub(crate) unknown: Vec<String>,
    /// It is at some of both, or something was left.
    pub(crate) half: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_well(&self) -> bool {
        self.lost.is_empty() && self.unknown.is_empty() && self.half.is_empty()
    }

    /// Each of these has to be the old or the new system.
    pub(crate) fn known(&mut self, what: &str, is: &str, old: &str, new: &str) {
        if is != old && is != new {
            self.unknown.push(format!("{what} is {is}, neither {old} nor {new}"));
        }
    }
}

/// An attempt's place in the journal.
pub(crate) struct Told {
    /// How it ended; `None`: it is open.
    pub(crate) ending: Option<Ending>,
    pub(crate) proven: bool,
    /// Whether something would have been changed already where nobody is at it any more.
    pub(crate) is_armed: bool,
}

/// What the journal says of an attempt; `None`: nothing.
pub(crate) fn told(journal: &Journal, id: &str) -> Option<Told> {
    use bosco_activation::State;
    let attempt = journal.attempt.as_ref().filter(|attempt| attempt.request.id == id)?;
    let is_armed = !matches!(
        attempt.state,
        State::Checking | State::InstallingSecrets | State::Rooting | State::Syncing | State::Arming
    );
    Some(Told { ending: attempt.ending().cloned(), proven: attempt.proven, is_armed })
}

/// Judges what is on the disk of a host that was cut short: nothing unproven is the default.
pub(crate) fn judge_default(
    verdict: &mut Verdict,
    stands: &Stands,
    old: &StorePath,
    new: &StorePath,
    told: Option<&Told>,
) {
    let (old, new) = (old.as_str(), new.as_str());
    verdict.known("what its profile names", &stands.profile, old, new);
    verdict.known("what it boots", &stands.default, old, new);
    if old != new && stands.default == new && !told.is_some_and(|told| told.proven) {
        verdict.half.push("what it boots is the new system, which was not proven".into());
    }
}

/// Judges a host whose attempt has ended.
pub(crate) fn judge_settled(
    verdict: &mut Verdict,
    stands: &Stands,
    old: &StorePath,
    new: &StorePath,
    told: Option<&Told>,
) {
    judge_default(verdict, stands, old, new, told);
    verdict.known("what it runs", &stands.running, old.as_str(), new.as_str());
    let ending = told.and_then(|told| told.ending.as_ref());
    let committed = matches!(ending, Some(Ending::Committed { .. }));
    let says_reboot = matches!(ending, Some(Ending::Committed { reboot: true, .. }));
    if told.is_some() && ending.is_none() {
        verdict.half.push("its attempt is still open".into());
    }
    if stands.running != stands.default && !says_reboot {
        verdict.half.push(format!("it runs {} and boots {}", stands.running, stands.default));
    }
    if stands.profile != stands.default {
        verdict.half.push(format!("its profile names {} and it boots {}", stands.profile, stands.default));
    }
    if !stands.other.is_empty() && stands.other != stands.default {
        verdict
            .half
            .push(format!("its other profile names {} and it boots {}", stands.other, stands.default));
    }
    if old != new && committed != (stands.default == new.as_str()) {
        verdict.half.push(format!("it boots {} and its attempt ended as {ending:?}", stands.default));
    }
    verdict.half.extend(stands.left.iter().map(|left| format!("left over: {left}")));
}
