//! Whether the host is well: units that have failed since, and the health checks that its system declares.

mod address;
mod http;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bosco_activation::{Complaint, HealthCheck, Kind, Settings};

use crate::run::{program, run};
use crate::units::{self, Running};

use address::Authority;

/// How long a service that was only just started has to run.
const SETTLED: Duration = Duration::from_secs(3);
/// How much is told of a failed unit's log, in lines.
const LINES: usize = 10;
/// Of how many failed units the log is told. Where more have failed, one reason is behind most of them.
const LOGS: usize = 10;
/// How long systemd may take to say which units have failed.
const UNITS: Duration = Duration::from_secs(30);
/// How soon a change of mind is noticed.
const STEP: Duration = Duration::from_millis(100);
/// A try with less time than that says nothing of what it tries.
const LEAST: Duration = Duration::from_secs(1);

/// What does not hold: units that have failed and are not in `before`, and health checks none of whose tries held. The
/// checks are tried side by side, the units are looked at once those are over, since a service may fail late. Nothing is
/// begun after the deadline, and nothing is tried again once `stop` is set, which is for where the answer does not matter
/// any more.
#[must_use]
pub(crate) fn complaints(
    settings: &Settings,
    before: &BTreeSet<String>,
    stop: &AtomicBool,
    deadline: Instant,
) -> Vec<Complaint> {
    let checks = failed_checks(settings, stop, deadline);
    let mut all = failed_units(before, stop, deadline);
    if all.is_empty() && checks.is_empty() {
        all = restless(before, stop, deadline);
    }
    all.extend(checks);
    all
}

/// Services that were only just started have to run for a while: what ends at once and is started again looks well half of
/// the time. Nothing is waited for where none is that young.
fn restless(before: &BTreeSet<String>, stop: &AtomicBool, deadline: Instant) -> Vec<Complaint> {
    let left = || deadline.saturating_duration_since(Instant::now()).clamp(LEAST, UNITS);
    let young = |running: &Running| SETTLED.checked_sub(age(running)).is_some_and(|left| !left.is_zero());
    let Ok(first) = units::running(left()) else { return Vec::new() };
    let Some(wait) = first.iter().filter(|one| young(one)).map(|one| SETTLED.saturating_sub(age(one))).max()
    else {
        return Vec::new();
    };
    if !pause(wait, stop, deadline) {
        return Vec::new();
    }
    let mut all = failed_units(before, stop, deadline);
    let again =
        units::running(left()).unwrap_or_default().into_iter().filter(|now| now.restarts > 0 && young(now));
    for Running { unit, .. } in again {
        let told = all
            .iter()
            .any(|complaint| matches!(complaint, Complaint::Unit { unit: one, .. } if *one == unit));
        if !told && !before.contains(&unit) {
            all.push(Complaint::Unit { log: units::last_lines(&unit, LINES), unit });
        }
    }
    all
}

/// For how long a service has run.
fn age(running: &Running) -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now =
        Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default());
    now.saturating_sub(Duration::from_micros(running.since))
}

fn failed_checks(settings: &Settings, stop: &AtomicBool, deadline: Instant) -> Vec<Complaint> {
    thread::scope(|scope| {
        let tried: Vec<_> = settings
            .health_checks
            .iter()
            .map(|(name, check)| {
                let thread = thread::Builder::new().spawn_scoped(scope, move || hold(check, stop, deadline));
                (name, thread)
            })
            .collect();
        let failure = |thread: std::io::Result<thread::ScopedJoinHandle<'_, Result<(), String>>>| match thread
        {
            Ok(thread) => thread.join().unwrap_or_else(|_| Err("the check itself broke".into())).err(),
            Err(error) => Some(format!("it could not be begun: {error}")),
        };
        let failed = tried.into_iter().filter_map(|(name, thread)| {
            Some(Complaint::HealthCheck { name: name.clone(), why: failure(thread)? })
        });
        failed.collect()
    })
}

fn failed_units(before: &BTreeSet<String>, stop: &AtomicBool, deadline: Instant) -> Vec<Complaint> {
    if stop.load(Ordering::Relaxed) {
        return Vec::new();
    }
    let left = || deadline.saturating_duration_since(Instant::now()).clamp(LEAST, UNITS);
    // systemd may have been busy with itself; a second answer is worth more than the first failure.
    let now = units::failed_within(left()).or_else(|_| {
        pause(LEAST, stop, deadline);
        units::failed_within(left())
    });
    match now {
        Ok(now) => {
            let log = |index: usize, unit: &str| {
                if index < LOGS { units::last_lines(unit, LINES) } else { Vec::new() }
            };
            let new = now.difference(before).enumerate();
            new.map(|(index, unit)| Complaint::Unit { unit: unit.clone(), log: log(index, unit) }).collect()
        }
        Err(why) => {
            let why = format!("it does not say which units have failed: {why}");
            vec![Complaint::HealthCheck { name: "systemd".into(), why }]
        }
    }
}

/// Tries a check until it holds, as often and as long as it says.
fn hold(check: &HealthCheck, stop: &AtomicBool, deadline: Instant) -> Result<(), String> {
    let mut tries: u32 = 0;
    let mut why = "there was no time left to try it".to_owned();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if stop.load(Ordering::Relaxed) || left.is_zero() || tries > 0 && left < LEAST {
            break;
        }
        let limit = Duration::from_secs(check.timeout.max(1)).min(left);
        tries += 1;
        match once(&check.kind, limit) {
            Ok(()) => return Ok(()),
            Err(words) => why = words,
        }
        if tries > check.retries || !pause(Duration::from_secs(check.interval), stop, deadline) {
            break;
        }
    }
    Err(if tries > 1 { format!("{why}, after {tries} tries") } else { why })
}

/// One try of a check.
fn once(kind: &Kind, limit: Duration) -> Result<(), String> {
    match kind {
        Kind::Unit(unit) => units::is_active(unit, limit),
        Kind::Http(url) => http::get(url, limit),
        Kind::Tcp(text) => Authority::parse(text, None)?.connect(limit).map(drop),
        Kind::Command(line) => {
            let ran = run(program("sh").args(["-c", line]), limit)?;
            if ran.code == 0 { Ok(()) } else { Err(format!("exit code {}: {}", ran.code, ran.last_words())) }
        }
    }
}

/// Waits. `false`: there is no use in going on after it.
fn pause(time: Duration, stop: &AtomicBool, deadline: Instant) -> bool {
    let began = Instant::now();
    loop {
        let now = Instant::now();
        if now >= deadline || stop.load(Ordering::Relaxed) {
            return false;
        }
        let left = time.saturating_sub(now - began);
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(STEP).min(deadline - now));
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::places::testing::TempDir;

    fn check(kind: Kind, interval: u64, retries: u32) -> HealthCheck {
        HealthCheck { kind, timeout: 5, interval, retries }
    }

    fn command(line: &str) -> Kind {
        Kind::Command(line.into())
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn a_check_holds_once_one_of_its_tries_does() {
        let dir = TempDir::new();
        let flag = dir.path().join("flag");
        let line = format!("[ -e {0} ] || {{ touch {0}; echo not yet; exit 3; }}", flag.display());
        let stop = AtomicBool::new(false);
        assert_eq!(hold(&check(command(&line), 0, 0), &stop, soon()).unwrap_err(), "exit code 3: not yet");
        std::fs::remove_file(&flag).unwrap();
        assert_eq!(hold(&check(command(&line), 0, 5), &stop, soon()), Ok(()));
        let error = hold(&check(command("echo no; exit 1"), 0, 2), &stop, soon()).unwrap_err();
        assert_eq!(error, "exit code 1: no, after 3 tries");
    }

    #[test]
    fn a_port_that_takes_no_connections_is_told_by_its_address() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let limit = Duration::from_secs(5);
        assert_eq!(once(&Kind::Tcp(format!("localhost:{port}")), limit), Ok(()));
        drop(listener);
        let error = once(&Kind::Tcp(format!("localhost:{port}")), limit).unwrap_err();
        assert_eq!(error, format!("connection refused by 127.0.0.1:{port}"));
        assert!(once(&Kind::Tcp("localhost".into()), limit).unwrap_err().contains("it has no port"));
    }

    #[test]
    fn nothing_goes_on_past_the_deadline_or_once_the_answer_does_not_matter() {
        let began = Instant::now();
        let stop = AtomicBool::new(false);
        let deadline = began + Duration::from_millis(300);
        let error = hold(&check(command("sleep 60"), 60, 9), &stop, deadline).unwrap_err();
        assert!(error.contains("did not end"), "{error}");
        let past = hold(&check(command("true"), 0, 0), &stop, deadline).unwrap_err();
        assert_eq!(past, "there was no time left to try it");
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(300));
                stop.store(true, Ordering::Relaxed);
            });
            hold(&check(command("false"), u64::MAX, u32::MAX), &stop, soon()).unwrap_err();
        });
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }

    #[test]
    fn checks_are_tried_side_by_side_and_each_that_fails_is_named() {
        let slow = || check(command("sleep 1; false"), 0, 0);
        let names = ["a", "b", "c", "d", "e", "f"].map(str::to_owned);
        let good = ("good".to_owned(), check(command("true"), 0, 0));
        let health_checks = names.clone().into_iter().map(|name| (name, slow())).chain([good]).collect();
        let settings = Settings { health_checks, ..Settings::default() };
        let began = Instant::now();
        let failed = failed_checks(&settings, &AtomicBool::new(false), soon());
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let why = || "exit code 1: it said nothing".to_owned();
        let expected: Vec<_> =
            names.into_iter().map(|name| Complaint::HealthCheck { name, why: why() }).collect();
        assert_eq!(failed, expected);
    }
}
