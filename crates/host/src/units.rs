//! What systemd says of the host's units.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::run::{Ran, program, run, succeed};

/// The unit of the host's agent.
pub(crate) const AGENT: &str = "bosco-agent.service";
/// How long systemd may take to answer.
const LIMIT: Duration = Duration::from_secs(30);
/// How long it may take to begin with a reboot.
const REBOOT: Duration = Duration::from_secs(60);
/// How much is shown of one line of a log, in characters.
const LONGEST_LINE: usize = 300;

/// All units that are failed, and all services that systemd starts again and again.
///
/// # Errors
/// In words, where systemd does not say.
pub(crate) fn failed() -> Result<BTreeSet<String>, String> {
    failed_within(LIMIT)
}

/// The same, with another limit.
pub(crate) fn failed_within(limit: Duration) -> Result<BTreeSet<String>, String> {
    // Only what matters is asked for: the list of all units is longer than what is kept of a program's output.
    let said = succeed(
        program("systemctl").args([
            "list-units",
            "--all",
            "--full",
            "--plain",
            "--no-legend",
            "--no-pager",
            "--state=failed,auto-restart,auto-restart-queued",
        ]),
        limit,
    )?;
    Ok(parse_failed(&said))
}

/// Has the machine reboot. One that is going down already does.
pub(crate) fn reboot() -> Result<(), String> {
    let stopping = |ran: &Ran| ran.said.trim() == "stopping";
    match succeed(program("systemctl").arg("reboot"), REBOOT) {
        Ok(_) => Ok(()),
        Err(why) => match run(program("systemctl").arg("is-system-running"), REBOOT) {
            Ok(ran) if stopping(&ran) => Ok(()),
            _ => Err(why),
        },
    }
}

/// A service that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) unit: String,
    /// Since when, in microseconds of the machine's uptime.
    pub(crate) since: u64,
    /// How often systemd has started it again.
    pub(crate) restarts: u32,
}

/// All services that run, but for those that come and go with a session.
///
/// # Errors
/// In words, where systemd does not say.
pub(crate) fn running(limit: Duration) -> Result<Vec<Running>, String> {
    let list =
        ["list-units", "--type=service", "--state=running", "--full", "--plain", "--no-legend", "--no-pager"];
    let said = succeed(program("systemctl").args(list), limit)?;
    let names: Vec<&str> =
        said.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| stays(name)).collect();
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut show = program("systemctl");
    show.args(["show", "--property=Id,NRestarts,ActiveEnterTimestampMonotonic", "--"]).args(names);
    Ok(parse_running(&succeed(&mut show, limit)?))
}

/// Whether a service is one that stays: not bosco's own, nor started for a session or by who asks for something.
fn stays(unit: &str) -> bool {
    const PASSING: [&str; 6] = ["bosco-", "user@", "sshd@", "ssh@", "run-", "systemd-"];
    !PASSING.iter().any(|prefix| unit.starts_with(prefix))
}

/// The services in what `systemctl show` says: a paragraph each.
fn parse_running(said: &str) -> Vec<Running> {
    let service = |paragraph: &str| {
        let unit = property(paragraph, "Id")?.to_owned();
        let since = property(paragraph, "ActiveEnterTimestampMonotonic")?.parse().ok()?;
        let restarts = property(paragraph, "NRestarts")?.parse().ok()?;
        Some(Running { unit, since, restarts })
    };
    said.split("\n\n").filter_map(service).collect()
}

/// The failed units in what `systemctl list-units` says: name, load, active and sub state, description.
fn parse_failed(said: &str) -> BTreeSet<String> {
    said.lines().filter_map(failed_in_line).map(str::to_owned).collect()
}

fn failed_in_line(line: &str) -> Option<&str> {
    let mut words = line.split_whitespace();
    // Some versions mark a failed unit with a dot, `--plain` or not.
    let name = words.find(|word| word.chars().any(char::is_alphanumeric) && *word != "x")?;
    let (_load, active, sub) = (words.next()?, words.next()?, words.next()?);
    let (_, kind) = name.rsplit_once('.')?;
    // What becomes of bosco's own is no system's doing: one that was ended starts again, or is taken over.
    let is_own = name.starts_with("bosco-activation.")
        || name.starts_with("bosco-dead-man-")
        || name.starts_with("bosco-boot.");
    let is_unit = matches!(
        kind,
        "service"
            | "socket"
            | "target"
            | "device"
            | "mount"
            | "automount"
            | "swap"
            | "timer"
            | "path"
            | "slice"
            | "scope"
    );
    let loops = kind == "service" && active == "activating" && sub.starts_with("auto-restart");
    (is_unit && !is_own && (active == "failed" || loops)).then_some(name)
}

/// The last lines that a unit has logged, of its latest run where that is known; at most so many. None where there is no
/// journal to read.
#[must_use]
pub(crate) fn last_lines(unit: &str, count: usize) -> Vec<String> {
    let lines = format!("--lines={count}");
    let common = ["--no-pager", "--quiet", "--output=cat", &lines];
    // What the unit says has the one field, what systemd says of it has the other.
    let of_run = show(unit, &["InvocationID"], LIMIT)
        .ok()
        .and_then(|said| property(&said, "InvocationID").filter(|id| !id.is_empty()).map(str::to_owned))
        .and_then(|id| {
            let (own, about) = (format!("_SYSTEMD_INVOCATION_ID={id}"), format!("INVOCATION_ID={id}"));
            succeed(program("journalctl").args(common).args([&own, "+", &about]), LIMIT).ok()
        })
        .map(|said| last_of(&said, count))
        .unwrap_or_default();
    // A run that has only just begun has nothing to tell of how the one before it ended.
    if of_run.len() > 2 {
        return of_run;
    }
    let of_unit = format!("--unit={unit}");
    succeed(program("journalctl").args(common).arg(of_unit), LIMIT)
        .map(|said| last_of(&said, count))
        .unwrap_or_default()
}

/// The last lines of a log, fit to be shown.
fn last_of(said: &str, count: usize) -> Vec<String> {
    let shown = |line: &str| -> String {
        let line = line.replace('\t', " ");
        line.trim_end().chars().filter(|c| !c.is_control()).take(LONGEST_LINE).collect()
    };
    let lines: Vec<String> = said.lines().map(shown).filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].to_vec()
}

/// Whether a unit is active; systemd may take so long to say.
///
/// # Errors
/// In words, what it is instead.
pub(crate) fn is_active(unit: &str, limit: Duration) -> Result<(), String> {
    activity(unit, &show(unit, &["LoadState", "ActiveState", "SubState"], limit)?)
}

fn show(unit: &str, properties: &[&str], limit: Duration) -> Result<String, String> {
    let properties = format!("--property={}", properties.join(","));
    succeed(program("systemctl").args(["show", "--no-pager", &properties, "--", unit]), limit)
}

fn property<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
}

/// What a unit's properties say of whether it is active.
fn activity(unit: &str, said: &str) -> Result<(), String> {
    let of = |name| property(said, name).unwrap_or("unknown");
    match (of("LoadState"), of("ActiveState"), of("SubState")) {
        (_, "active" | "reloading" | "refreshing", _) => Ok(()),
        ("not-found", ..) => Err(format!("there is no unit {unit}")),
        (_, active, sub) if active == sub => Err(format!("{unit} is {active}")),
        (_, active, sub) => Err(format!("{unit} is {active} ({sub})")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn failed_units_and_services_that_are_started_again_and_again_are_found() {
        let said = "\
web.service                 loaded    failed     failed       Web server
● db.service                loaded    failed     failed       Database
* disk.mount                not-found failed     failed       disk.mount
x cron.timer                loaded    failed     failed       Cron
  loop.service              loaded    activating auto-restart Loops
bosco-dead-man-1-2.service  loaded    activating auto-restart Looks on
bosco-activation.service    loaded    failed     failed       bosco: activation
queued.service              loaded    activating auto-restart-queued Loops too
slow.service                loaded    activating start        Takes its time
sshd.service                loaded    active     running      SSH failed failed
dev-disk-by\\x2did-a.swap   loaded    failed     failed       Swap
garbled
failed
a.b loaded failed failed not a unit
";
        let names = [
            "cron.timer",
            "db.service",
            "dev-disk-by\\x2did-a.swap",
            "disk.mount",
            "loop.service",
            "queued.service",
            "web.service",
        ];
        assert_eq!(parse_failed(said), names.into_iter().map(str::to_owned).collect());
        assert!(parse_failed("").is_empty());
    }

    #[test]
    fn what_a_unit_is_instead_of_active_is_told_in_words() {
        let said = |load, active, sub| format!("LoadState={load}\nActiveState={active}\nSubState={sub}\n");
        assert_eq!(activity("a.service", &said("loaded", "active", "running")), Ok(()));
        assert_eq!(activity("a.service", &said("loaded", "reloading", "reload")), Ok(()));
        let words = |load, active, sub| activity("a.service", &said(load, active, sub)).unwrap_err();
        assert_eq!(words("loaded", "failed", "failed"), "a.service is failed");
        assert_eq!(words("loaded", "activating", "auto-restart"), "a.service is activating (auto-restart)");
        assert_eq!(words("not-found", "inactive", "dead"), "there is no unit a.service");
        assert_eq!(activity("a.service", "").unwrap_err(), "a.service is unknown");
    }

    #[test]
    fn the_last_lines_of_a_log_are_short_and_without_control_characters() {
        let said = format!("one\n\n\u{1b}[31mtwo\u{7}\tend\n{}\n", "y".repeat(1000));
        assert_eq!(last_of(&said, 2), ["[31mtwo end".to_owned(), "y".repeat(300)]);
        assert_eq!(last_of("a\nb\n", 5), ["a", "b"]);
        assert!(last_of("a\nb\n", 0).is_empty());
    }

    proptest! {
        #[test]
        fn no_list_of_units_makes_reading_it_panic(said in "[\\PC\n ●.]{0,200}") {
            for name in parse_failed(&said) {
                prop_assert!(name.contains('.'));
            }
        }
    }
}
