//! Users and groups of the host, by their files: a program without libc's own ways has no others.

use std::fs;

use bosco_secrets::Account;
use rustix::fs::{Gid, Uid};

use super::files::Owner;
use crate::places::Places;

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
}
