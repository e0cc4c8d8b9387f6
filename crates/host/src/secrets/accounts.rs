//! Users and groups of the host, by their files: a program without libc's own ways has no others.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use bosco_secrets::Account;
use rustix::fs::{Gid, Uid};
use serde::Deserialize;

use super::files::Owner;
use crate::places::Places;

/// The longest file that is read of a system for its users, in bytes.
const LONGEST: u64 = 16 << 20;
/// How the name of the file ends that NixOS' script for users is given.
const USERS: &str = "-users-groups.json";

/// The users and groups that there are.
pub(crate) struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Those of a host.
    pub(crate) fn of(places: &Places) -> Self {
        let read = |path: &str| fs::read_to_string(places.absolute(path)).unwrap_or_default();
        Self { passwd: read("/etc/passwd"), group: read("/etc/group") }
    }

    /// Whose a file is, by name or number.
    ///
    /// # Errors
    /// In words, where there is no such user or group.
    pub(crate) fn owner(&self, user: &Account, group: &Account, mode: u32) -> Result<Owner, String> {
        let user = number(&self.passwd, user.as_str())
            .ok_or_else(|| format!("there is no user `{user}` on this host"))?;
        let group = number(&self.group, group.as_str())
            .ok_or_else(|| format!("there is no group `{group}` on this host"))?;
        Ok(Owner { user: Uid::from_raw(user), group: Gid::from_raw(group), mode })
    }
}

/// The users and groups that a system makes when it is activated.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Made {
    /// Whether those stay that it does not know.
    #[serde(default)]
    mutable_users: bool,
    users: Vec<Named>,
    groups: Vec<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

impl Made {
    /// Those of a system, which its activation script names to NixOS' own one. `None`: it makes them in another way.
    pub(crate) fn by(places: &Places, toplevel: &Path) -> Option<Self> {
        let script = read(&toplevel.join("activate"))?;
        let end = script.find(USERS)? + USERS.len();
        let before = script.get(..end)?;
        let path = before.get(before.rfind("/nix/store/")?..)?;
        serde_json::from_str(&read(&places.absolute(path))?).ok()
    }

    /// Nobody is made, and all stay.
    pub(crate) fn nobody() -> Self {
        Self { mutable_users: true, users: Vec::new(), groups: Vec::new() }
    }

    /// That a user and a group will be there.
    ///
    /// # Errors
    /// In words, where one will not.
    pub(crate) fn has(&self, accounts: &Accounts, user: &Account, group: &Account) -> Result<(), String> {
        let is_one = |made: &[Named], file: &str, name: &str| {
            let stays = if self.mutable_users { file } else { "" };
            made.iter().any(|one| one.name == name) || number(stays, name).is_some()
        };
        if !is_one(&self.users, &accounts.passwd, user.as_str()) {
            return Err(format!("there is no user `{user}` on this host, and the system declares none"));
        }
        if !is_one(&self.groups, &accounts.group, group.as_str()) {
            return Err(format!("there is no group `{group}` on this host, and the system declares none"));
        }
        Ok(())
    }
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(LONGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// `NAME:PASSWORD:NUMBER:…` in lines, the same in both files.
fn number(file: &str, name: &str) -> Option<u32> {
    // Root is there before any file says so, and all ones is nobody's.
    if name == "root" {
        return Some(0);
    }
    let of = |line: &str| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    };
    file.lines().find_map(of).or_else(|| name.parse().ok()).filter(|number| *number != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn an_account_is_found_by_name_or_number() {
        let file = "root:x:0:0::/root:/bin/sh\nnginx:x:60:60::/:\n7:x:70:70::/:\nbroken\n";
        for (name, found) in [
            ("root", Some(0)),
            ("nginx", Some(60)),
            ("1000", Some(1000)),
            ("7", Some(70)),
            ("mail", None),
            ("broken", None),
            ("4294967295", None),
        ] {
            assert_eq!(number(file, name), found, "{name}");
        }
        assert_eq!(number("", "root"), Some(0));
    }

    #[test]
    fn an_owner_is_there_already_or_made_by_the_system() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let spec = format!("/nix/store/{}-users-groups.json", "0".repeat(32));
        dir.write("etc/passwd", "root:x:0:0::/:\nmanual:x:1001:100::/:\n");
        dir.write("etc/group", "manual:x:100:\n");
        dir.write("system/activate", format!("perl -w /nix/store/x-update-users-groups.pl {spec}\n"));
        let system = dir.path().join("system");
        assert!(Made::by(&places, &system).is_none(), "the file is missing");
        let account = |name| Account::parse(name).unwrap();
        for (mutable, stays) in [(true, true), (false, false)] {
            let text = format!(
                r#"{{"mutableUsers":{mutable},"users":[{{"name":"app","uid":null}}],"groups":[{{"name":"app"}}]}}"#
            );
            dir.write(&spec[1..], text);
            let (made, accounts) = (Made::by(&places, &system).unwrap(), Accounts::of(&places));
            let has = |user, group| made.has(&accounts, &account(user), &account(group));
            for owner in ["app", "root", "1234"] {
                has(owner, owner).unwrap();
            }
            assert_eq!(has("manual", "manual").is_ok(), stays);
            let error = has("ghost", "app").unwrap_err();
            assert_eq!(error, "there is no user `ghost` on this host, and the system declares none");
            assert!(has("app", "ghost").unwrap_err().contains("no group `ghost`"));
        }
    }
}
