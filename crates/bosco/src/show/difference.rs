//! What changes on hosts, for people.

use bosco_model::{Difference, HostName, PackageChange, UnitChanges};
use indicatif::HumanBytes;

use crate::differences::{Beside, Compared, Group, OtherProfile, grouped};
use crate::show::style::{BAD, DIM, GOOD, ODD, STRONG, names};

/// How many packages are named where there is little room.
const FEW: usize = 6;

/// Prints what changes: as an answer, at length.
pub(crate) fn differences(compared: &[Compared]) {
    for line in lines(compared, usize::MAX) {
        out!("{line}");
    }
}

/// Prints what changes beside the answer, in short.
pub(crate) fn differences_in_short(compared: &[Compared]) {
    for line in lines(compared, FEW) {
        err!("{line}");
    }
}

/// What changes, once for all hosts that have the same to say, with at most so many packages named.
fn lines(compared: &[Compared], most: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for Group { hosts, systems, keeps_system, beside } in grouped(compared) {
        let size = systems.as_deref().map(|all| format!(" {DIM}{}{DIM:#}", grows(all))).unwrap_or_default();
        lines.push(format!("{STRONG}{}:{STRONG:#}{size}", names(&hosts)));
        match systems.as_ref().and_then(|all| all.first()) {
            // What came to no end is done again.
            _ if keeps_system && *beside == Beside::default() => {
                lines.push("  what it runs is made what it boots".into());
            }
            _ if keeps_system => {}
            Some(first) => lines.extend(of_one(first, most).into_iter().map(|line| format!("  {line}"))),
            None => lines
                .push("  one of its two systems is not known here, so it is not known what changes".into()),
        }
        lines.extend(of_others(beside).map(|line| format!("  {line}")));
    }
    lines
}

/// What changes beside a system.
fn of_others(beside: &Beside) -> impl Iterator<Item = String> {
    let profile = |OtherProfile { profile, before, after }: &OtherProfile| match before {
        Some(before) => format!("profile {profile}: {before} → {after}"),
        None => format!("{GOOD}+{GOOD:#} profile {profile}: {after}"),
    };
    beside.profiles.iter().map(profile).chain(beside.secrets.then(|| "secrets: others".to_owned()))
}

fn of_one(difference: &Difference, most: usize) -> Vec<String> {
    if difference.is_silent() {
        return vec!["files of the system, and no package or unit".into()];
    }
    let mut lines = Vec::new();
    if let Some((old, new)) = &difference.version {
        lines.push(format!("NixOS {old} → {new}"));
    }
    let all = &difference.packages;
    lines.extend(all.iter().take(most).map(package));
    if all.len() > most {
        lines.push(format!("{DIM}and {} packages more; `bosco diff` names them{DIM:#}", all.len() - most));
    }
    match &difference.units {
        Some(changes) => lines.extend(units(changes)),
        None => lines.push(format!("{DIM}which units change is not known here{DIM:#}")),
    }
    if !difference.reboot.is_empty() {
        lines.push(format!("{ODD}reboot needed:{ODD:#} {}", difference.reboot.join(", ")));
    }
    lines
}

fn package(change: &PackageChange) -> String {
    let list = |versions: &[String]| {
        let words = versions.iter().map(|version| if version.is_empty() { "ε" } else { version });
        words.collect::<Vec<_>>().join(", ")
    };
    let PackageChange { name, before, after, bytes } = change;
    let size = match bytes {
        0 => String::new(),
        _ => format!(" {DIM}{}{DIM:#}", signed(*bytes)),
    };
    match (before.is_empty(), after.is_empty()) {
        (false, false) => format!("{name} {} → {}{size}", list(before), list(after)),
        (true, false) => format!("{GOOD}+{GOOD:#} {name} {}{size}", list(after)),
        (false, true) => format!("{BAD}-{BAD:#} {name} {}{size}", list(before)),
        (true, true) => format!("{name}{size}"),
    }
}

fn units(changes: &UnitChanges) -> impl Iterator<Item = String> {
    let UnitChanges { stop, start, restart, reload, keep } = changes;
    let all =
        [("stop", stop), ("start", start), ("restart", restart), ("reload", reload), ("not restarted", keep)];
    all.into_iter().filter(|(_, units)| !units.is_empty()).map(|(word, units)| {
        let units: Vec<&str> = units.iter().map(String::as_str).collect();
        format!("{word}: {}", units.join(", "))
    })
}

/// By how much closures grow, from the least to the most.
fn grows(differences: &[Difference]) -> String {
    let (Some(least), Some(most)) =
        (differences.iter().map(|one| one.bytes).min(), differences.iter().map(|one| one.bytes).max())
    else {
        return String::new();
    };
    let (least, most) = (signed(least), signed(most));
    if least == most { least } else { format!("{least} to {most}") }
}

fn signed(bytes: i64) -> String {
    format!("{}{}", if bytes < 0 { '-' } else { '+' }, HumanBytes(bytes.unsigned_abs()))
}

/// The hosts that nothing changes on.
pub(crate) fn unchanged(hosts: &[&HostName]) {
    if !hosts.is_empty() {
        out!("{DIM}nothing changes on {}{DIM:#}", names(hosts));
    }
}

#[cfg(test)]
mod tests {
    use bosco_model::StorePath;

    use super::*;

    fn compared(host: &str, difference: Option<Difference>) -> Compared {
        let path = StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap();
        let after = StorePath::parse(&format!("/nix/store/{}-x", "1".repeat(32))).unwrap();
        let host = HostName::parse(host).unwrap();
        Compared { host, before: path, after, difference, beside: Beside::default() }
    }

    fn difference(bytes: i64) -> Difference {
        let package = |name: &str, before: &[&str], after: &[&str], bytes| PackageChange {
            name: name.into(),
            before: before.iter().map(ToString::to_string).collect(),
            after: after.iter().map(ToString::to_string).collect(),
            bytes,
        };
        let set = |name: &str| [name.to_owned()].into();
        Difference {
            version: Some(("25.11".into(), "26.05".into())),
            packages: vec![
                package("app", &[], &[], 9000),
                package("htop", &[], &["3.3"], 2048),
                package("openssl", &["3.0.14"], &["3.0.15"], 0),
                package("vim", &["9.1"], &[], -1024),
            ],
            bytes,
            units: Some(UnitChanges {
                restart: set("nginx.service"),
                start: set("a.timer"),
                ..UnitChanges::default()
            }),
            reboot: vec!["kernel".into(), "initrd".into()],
        }
    }

    #[test]
    fn equal_changes_of_many_hosts_are_shown_once() {
        let hosts: Vec<String> = (1..=20).map(|number| format!("web-{number}")).collect();
        let mut all: Vec<Compared> =
            hosts.iter().map(|host| compared(host, Some(difference(host.len() as i64 * 1024)))).collect();
        all.push(compared("lost", None));
        let text: Vec<String> = lines(&all, usize::MAX)
            .iter()
            .map(|line| anstream::adapter::strip_str(line).to_string())
            .collect();
        assert_eq!(
            text,
            [
                "web-1, web-2, web-3, web-4, web-5, web-6, web-7, web-8 and 12 more: +5.00 KiB to +6.00 KiB",
                "  NixOS 25.11 → 26.05",
                "  app +8.79 KiB",
                "  + htop 3.3 +2.00 KiB",
                "  openssl 3.0.14 → 3.0.15",
                "  - vim 9.1 -1.00 KiB",
                "  start: a.timer",
                "  restart: nginx.service",
                "  reboot needed: kernel, initrd",
                "lost:",
                "  one of its two systems is not known here, so it is not known what changes",
            ]
        );
    }

    #[test]
    fn what_changes_beside_a_system_has_lines_of_its_own() {
        let path = |name: &str| StorePath::parse(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap();
        let profile = |before: Option<&str>| OtherProfile {
            profile: "ada/home".into(),
            before: before.map(path),
            after: path("new"),
        };
        let beside = |profiles, secrets| Beside { profiles, secrets };
        let mut all = vec![compared("web", Some(difference(0))), compared("db", None), compared("a", None)];
        all[0].beside = beside(vec![], true);
        for (at, before) in [(1, Some("old")), (2, None)] {
            all[at].after = all[at].before.clone();
            all[at].beside = beside(vec![profile(before)], false);
        }
        let text = lines(&all, usize::MAX).join("\n");
        let text = anstream::adapter::strip_str(&text).to_string();
        let (old, new) = (path("old"), path("new"));
        assert!(text.contains("kernel, initrd\n  secrets: others\n"), "{text}");
        let ends = format!("db:\n  profile ada/home: {old} → {new}\na:\n  + profile ada/home: {new}");
        assert!(text.ends_with(&ends), "{text}");
    }

    #[test]
    fn in_short_only_the_first_packages_are_named() {
        let text = lines(&[compared("web", Some(difference(0)))], 2).join("\n");
        assert!(text.contains("and 2 packages more") && !text.contains("vim"), "{text}");
    }
}
