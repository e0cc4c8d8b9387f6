//! The machine that the agent runs on: its clock, its power, its line, and what it is and runs.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bosco_activation::Journal;
use bosco_host::places::Places;
use bosco_model::{Observed, Profiles, StorePath};
use bosco_session::{read_survey, survey_program};
use jiff::Zoned;
use tokio::process::Command;
use tokio::time::timeout;

use crate::schedule::Moment;
use crate::window::Local;

/// How long the machine may take to say what it is.
const SURVEY: Duration = Duration::from_secs(120);
/// How long NetworkManager may take to say what the line is.
const METERED: Duration = Duration::from_secs(5);
/// The longest journal that is read, in bytes.
const LONGEST: u64 = 4 * 1024 * 1024;

/// Now, in seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|since| since.as_secs()).unwrap_or_default()
}

/// A number that nobody could know before.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    match fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_le_bytes(bytes),
        // Its keys are random, for each of its values.
        Err(_) => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), now()),
    }
}

/// This moment. Whether the line is metered is asked only where it matters.
pub(crate) async fn moment(places: &Places, minds_line: bool) -> Moment {
    let local = Zoned::now();
    let day = u8::try_from(local.weekday().to_monday_zero_offset()).unwrap_or_default();
    let of_day = i32::from(local.hour()) * 60 + i32::from(local.minute());
    let local = Local { day, minute: u16::try_from(of_day).unwrap_or_default() };
    let on_battery = on_battery(&supplies(&places.root().join("sys/class/power_supply")));
    Moment { now: now(), local, on_battery, on_metered: minds_line && is_metered().await }
}

/// A source of power, as the kernel describes it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Supply {
    kind: String,
    scope: String,
    online: String,
    status: String,
}

fn supplies(folder: &Path) -> Vec<Supply> {
    let Ok(all) = fs::read_dir(folder) else { return Vec::new() };
    let word = |path: &Path, name| {
        let text = fs::read_to_string(path.join(name)).unwrap_or_default();
        text.trim().chars().take(40).collect()
    };
    let read = |path: &Path| Supply {
        kind: word(path, "type"),
        scope: word(path, "scope"),
        online: word(path, "online"),
        status: word(path, "status"),
    };
    all.flatten().take(64).map(|supply| read(&supply.path())).collect()
}

/// Whether a machine with these runs on battery: one of its own is being discharged, and nothing else feeds it. A machine
/// without any does not.
fn on_battery(supplies: &[Supply]) -> bool {
    let own = || supplies.iter().filter(|supply| supply.scope != "Device");
    let is_fed = own().any(|supply| supply.kind != "Battery" && supply.online == "1");
    !is_fed && own().any(|supply| supply.kind == "Battery" && supply.status == "Discharging")
}

/// Whether NetworkManager takes the line for one that is paid by volume (`NMMetered`: 1 yes, 3 it guesses so). Where it is not
/// there, nobody knows of any such line.
async fn is_metered() -> bool {
    const NAME: &str = "org.freedesktop.NetworkManager";
    let mut command = Command::new("busctl");
    command.args(["get-property", NAME, "/org/freedesktop/NetworkManager", NAME, "Metered"]);
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    match timeout(METERED, command.output()).await {
        Ok(Ok(said)) => matches!(String::from_utf8_lossy(&said.stdout).trim(), "u 1" | "u 3"),
        _ => false,
    }
}

/// What the machine is and runs; `toplevel` and `profiles` are what it should run.
///
/// # Errors
/// In words.
pub(crate) async fn survey(toplevel: Option<&StorePath>, profiles: &Profiles) -> Result<Observed, String> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(survey_program(toplevel, profiles));
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let said = timeout(SURVEY, command.output()).await;
    let said = said.map_err(|_| "the machine does not say what it runs".to_owned())?;
    let said = said.map_err(|error| format!("can't ask the machine what it runs: {error}"))?;
    read_survey(&String::from_utf8_lossy(&said.stdout)).map_err(|error| error.to_string())
}

/// What the host remembers of its activations.
pub(crate) fn journal(places: &Places) -> Journal {
    let mut text = Vec::new();
    let read = fs::File::open(places.journal()).map(|file| file.take(LONGEST).read_to_end(&mut text));
    if !matches!(read, Ok(Ok(_))) {
        return Journal::default();
    }
    Journal::read(&text).map(|(journal, _)| journal).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supply(kind: &str, scope: &str, online: &str, status: &str) -> Supply {
        let [kind, scope, online, status] = [kind, scope, online, status].map(str::to_owned);
        Supply { kind, scope, online, status }
    }

    #[test]
    fn a_machine_runs_on_battery_where_only_that_feeds_it() {
        let battery = || supply("Battery", "", "", "Discharging");
        assert!(on_battery(&[supply("Mains", "", "0", ""), battery()]));
        assert!(!on_battery(&[supply("Mains", "", "1", ""), battery()]));
        assert!(!on_battery(&[supply("USB", "", "1", ""), battery()]));
        assert!(!on_battery(&[supply("Battery", "Device", "", "Discharging")]), "a mouse's");
        assert!(!on_battery(&[supply("Battery", "", "", "Full")]));
        assert!(!on_battery(&[]));
    }

    #[tokio::test]
    async fn a_machine_has_a_time_of_day() {
        assert!(moment(&Places::host(), false).await.local.minute < 24 * 60);
    }
}
