//! The processes of an attempt: the one that carries it out, the one that looks on, and those that ask for it.
//!
//! `activate` is what an operator's session runs: it starts `carry` in a unit of its own, and follows. `carry` starts
//! `guard` in another one, as an effect of the attempt. Whoever carries an attempt out holds the lock; `guard` waits for
//! it, and so learns at once that the other one is gone. `boot` does the same after a boot.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bosco_activation::{Attempt, Busy, Ending, Event, Journal, Report, Request, State, Told};
use bosco_model::Number;

use crate::drive::{drive, report, taken_up, unwanted};
use crate::hands::{Hands, own_program, transient};
use crate::listen::{Question, socket};
use crate::memory::{Lock, Memory, now};
use crate::notify;
use crate::places::Places;
use crate::run::{run, succeed};
use crate::{check, generations, leftover, loader, local, secrets};

/// The unit that carries an attempt out. There is one at a time.
pub const UNIT: &str = "bosco-activation.service";
/// How long systemd may take to start a unit.
const START: Duration = Duration::from_secs(60);
/// How much longer than an activation may take the one that looks on waits, before it takes it over.
const GRACE: Duration = Duration::from_secs(20);
/// How long what goes back already may take until it counts as hung.
const BACK: Duration = Duration::from_secs(600);
/// How long an attempt may be without anybody at it: who looks on takes it over at once.
const HANDOVER: Duration = Duration::from_secs(15);
/// How long nobody may be at it until who follows it has it taken up: longer than who looks on needs.
const ABSENT: Duration = Duration::from_secs(2);
/// How long somebody may take to write down what they have begun with.
const JUST_BEGUN: Duration = Duration::from_secs(2);
/// How often it is tried to follow it then.
const TRY: Duration = Duration::from_millis(50);
/// How much of the log is told at the end, in bytes.
const TAIL: u64 = 60_000;

/// Starts an attempt that is detached from this process, and tells how it goes on. `tell` says whether anybody still
/// listens.
///
/// # Errors
/// In words, where it did not begin.
pub fn activate(
    places: &Places,
    request: &Request,
    tell: &mut dyn FnMut(&Told) -> bool,
) -> Result<(), String> {
    if !request.is_sound() {
        return Err("the request has an id or a name that can't be used".into());
    }
    let memory = Memory::new(places.clone());
    memory.prepare()?;
    if let Some(busy) = busy(&memory)? {
        tell(&Told::Busy { busy });
        return Ok(());
    }
    let file = request_file(places, &request.id);
    let text =
        serde_json::to_vec(request).map_err(|error| format!("the request can't be written: {error}"))?;
    fs::write(&file, text).map_err(|error| format!("can't write {}: {error}", file.display()))?;
    let mut unit = transient(UNIT, &format!("bosco: activation by {}", plain(&request.by)));
    unit.args(["--service-type=notify", "--property=NotifyAccess=main"]);
    unit.arg(own_program()?).args(["helper", "carry"]).arg(&file);
    let started = run(&mut unit, START)?;
    if started.code != 0 {
        let _ = fs::remove_file(&file);
        // Somebody else was a moment earlier, perhaps.
        if let Some(busy) = busy_soon(&memory)? {
            tell(&Told::Busy { busy });
            return Ok(());
        }
        // It may have ended within that moment.
        let journal = memory.load()?;
        if journal.attempt.as_ref().is_none_or(|attempt| attempt.request.id != request.id) {
            return Err(format!("the activation can't be started: {}", started.last_words()));
        }
    }
    follow(places, &Question::Follow { id: request.id.clone() }, tell)
}

/// Where a request is until it is begun with.
fn request_file(places: &Places, id: &str) -> PathBuf {
    places.run().join(format!("{id}.json"))
}

/// What a description of a unit can hold.
fn plain(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || "@-_.".contains(*c)).collect()
}

/// Who is at an activation, if anybody is: known once they have written it down.
fn busy(memory: &Memory) -> Result<Option<Option<Busy>>, String> {
    if !memory.is_locked()? {
        return Ok(None);
    }
    let journal = memory.load()?;
    Ok(Some(journal.open().map(Busy::of)))
}

/// The same, where somebody has only just begun: who that is is known a moment later.
fn busy_soon(memory: &Memory) -> Result<Option<Option<Busy>>, String> {
    let until = Instant::now() + JUST_BEGUN;
    loop {
        match busy(memory)? {
            Some(Some(who)) => return Ok(Some(Some(who))),
            other if Instant::now() >= until => return Ok(other),
            _ => thread::sleep(TRY),
        }
    }
}

/// Follows an attempt to its end.
///
/// # Errors
/// In words, where nobody is at it any more and it has not ended.
pub(crate) fn follow(
    places: &Places,
    question: &Question,
    tell: &mut dyn FnMut(&Told) -> bool,
) -> Result<(), String> {
    let (Question::Follow { id } | Question::Confirm { id, .. }) = question;
    let is_confirmation = matches!(question, Question::Confirm { .. });
    let memory = Memory::new(places.clone());
    let began = Instant::now();
    let mut gone = began;
    let mut resumed = false;
    loop {
        if let Ok(mut stream) = UnixStream::connect(socket(places)) {
            let text = serde_json::to_string(question).map_err(|error| error.to_string())?;
            if stream.write_all(format!("{text}\n").as_bytes()).is_ok() {
                for line in BufReader::new(stream).lines() {
                    let Some(told) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else {
                        break;
                    };
                    let asks_again = matches!(told, Told::Waiting { .. }) && is_confirmation;
                    let last = asks_again || matches!(told, Told::Ended { .. } | Told::Early);
                    // What another attempt's carrier does not know, the journal may.
                    if told == Told::Unknown {
                        break;
                    }
                    if !tell(&told) || last {
                        return Ok(());
                    }
                    gone = Instant::now();
                }
            }
        }
        // Nobody is there: it has ended, or is being taken over.
        let journal = memory.load()?;
        match &journal.attempt {
            Some(attempt) if attempt.request.id == *id => {
                if let Some(report) = report(places, attempt) {
                    tell(&Told::Ended { report: Box::new(report) });
                    return Ok(());
                }
            }
            // What was interrupted before is taken up first.
            _ if request_file(places, id).exists() => {
                if memory.is_locked()? && began.elapsed() < BACK {
                    gone = Instant::now();
                }
            }
            _ => {
                tell(&Told::Unknown);
                return Ok(());
            }
        }
        if gone.elapsed() > HANDOVER {
            return Err("nobody is at the activation any more; `bosco local resume` there takes it up".into());
        }
        // After a boot into a system without bosco's module nobody takes it up by itself.
        if !resumed && gone.elapsed() > ABSENT && !memory.is_locked()? {
            resumed = true;
            // Who looks on may have been a moment earlier, which the next try shows.
            let _ = take_up();
            gone = Instant::now();
        }
        thread::sleep(TRY);
    }
}

/// Has what was interrupted taken up, in a unit of its own.
pub(crate) fn take_up() -> Result<(), String> {
    let mut unit = transient(UNIT, "bosco: takes up an activation that was interrupted");
    unit.args(["--service-type=notify", "--property=NotifyAccess=main"]);
    unit.arg(own_program()?).args(["helper", "boot"]);
    succeed(&mut unit, START).map(drop)
}

/// Says that the host can be reached, and tells how the attempt goes on.
///
/// # Errors
/// As for [`follow`].
pub fn confirm(
    places: &Places,
    id: &str,
    token: Option<&str>,
    tell: &mut dyn FnMut(&Told) -> bool,
) -> Result<(), String> {
    follow(places, &Question::Confirm { id: id.to_owned(), token: token.map(str::to_owned) }, tell)
}

/// Carries out the attempt that is asked for in a file, in this process, to its end.
///
/// # Errors
/// In words, where it can't begin.
pub fn carry(places: &Places, file: &Path) -> Result<Report, String> {
    let text = fs::read(file).map_err(|error| format!("can't read {}: {error}", file.display()))?;
    let request: Request =
        serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))?;
    if !request.is_sound() {
        return Err("the request has an id or a name that can't be used".into());
    }
    let memory = Memory::new(places.clone());
    let _lock = memory.lock(false)?.ok_or("another activation is under way")?;
    let mut journal = memory.load_to_write()?;
    if journal.open().is_some() {
        let first = taken_up(places, &journal);
        drive(places, &memory, journal, Some(first), notify::ready)?;
        journal = memory.load()?;
    }
    let mut attempt = Attempt::new(request, now());
    let refused = unwanted(places, &journal, &attempt.request);
    if let Some(why) = refused {
        attempt.state = State::Ended { ending: Ending::Refused { why } };
    }
    secrets::begun(places, attempt.request.secrets);
    journal.attempt = Some(attempt);
    // Who asked for it follows it from here on.
    let begun = || {
        let _ = fs::remove_file(file);
        notify::ready();
    };
    drive(places, &memory, journal, None, begun)
}

/// Waits until nobody carries an attempt out any more, at most as long as it may take, and then takes it over.
///
/// # Errors
/// In words, where that can't be.
pub fn guard(places: &Places, id: &str, limit: Duration) -> Result<(), String> {
    let memory = Memory::new(places.clone());
    let (tell, told) = mpsc::channel();
    let waiter = memory.clone();
    thread::spawn(move || tell.send(waiter.lock(true)));
    notify::ready();
    let is_open = |journal: &Journal| journal.open().is_some_and(|attempt| attempt.request.id == id);
    let mut left = limit + GRACE;
    let lock: Option<Lock> = loop {
        if let Ok(lock) = told.recv_timeout(left) {
            break lock?;
        }
        let journal = memory.load()?;
        if !is_open(&journal) {
            return Ok(());
        }
        let goes_back = journal.open().is_some_and(Attempt::is_past_its_time);
        if goes_back && left != BACK {
            left = BACK;
            continue;
        }
        Hands::new(places.clone(), id).note("bosco: the activation hangs; it is ended");
        leftover::end_unit(UNIT);
        left = GRACE;
    };
    let _lock = lock.ok_or("the lock was not given")?;
    let journal = memory.load()?;
    if is_open(&journal) {
        Hands::new(places.clone(), id).note("bosco: who carried it out is gone; it is taken over");
        leftover::end_unit(UNIT);
        drive(places, &memory, journal, Some(Event::Resumed), notify::ready)?;
    }
    Ok(())
}

/// Takes up what a boot, or a crash, has interrupted. `None`: there was nothing.
///
/// # Errors
/// In words, where that can't be.
pub fn resume(places: &Places) -> Result<Option<Report>, String> {
    let memory = Memory::new(places.clone());
    memory.prepare()?;
    let Some(_lock) = memory.lock(false)? else { return Ok(None) };
    let journal = memory.load()?;
    if journal.open().is_none() {
        return Ok(None);
    }
    let first = taken_up(places, &journal);
    drive(places, &memory, journal, Some(first), notify::ready).map(Some)
}

/// What the helper is asked by its own units and by an operator's session: `helper VERB …`. What it says there are lines
/// of `KEY VALUE`.
#[must_use]
pub fn main(places: &Places, arguments: &[String]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["secrets", rest @ ..] = words.as_slice() {
        return secrets::main(places, rest);
    }
    let mut ended = None;
    let mut tell = |told: &Told| {
        if let Told::Ended { report } = told {
            ended = Some(report.id.clone());
        }
        say("told", &serde_json::to_string(told).unwrap_or_default())
    };
    let came = match words.as_slice() {
        ["activate"] => serde_json::from_reader(std::io::stdin().lock())
            .map_err(|error| format!("the request can't be read: {error}"))
            .and_then(|request| activate(places, &request, &mut tell)),
        ["confirm", id] => confirm(places, id, None, &mut tell),
        ["confirm", id, token] => confirm(places, id, Some(token), &mut tell),
        ["carry", file] => carry(places, Path::new(file)).map(drop),
        ["guard", id, seconds] => {
            let limit = seconds.parse().map(Duration::from_secs).unwrap_or(START);
            guard(places, id, limit)
        }
        ["boot"] => resume(places).map(drop),
        ["survey"] => survey(places),
        ["lift", number] => match number.parse() {
            Ok(number) => lift(places, number),
            Err(_) => Err("`helper lift` takes the number of a hold".into()),
        },
        _ => Err("the helper does not know what it is asked".into()),
    };
    if let Some(id) = ended {
        for line in Hands::new(places.clone(), &id).log_tail(TAIL).lines() {
            say("log", line);
        }
    }
    match came {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            say("log", &why);
            ExitCode::FAILURE
        }
    }
}

/// What the host remembers of its activations, as facts of a survey.
fn survey(places: &Places) -> Result<(), String> {
    let memory = Memory::new(places.clone());
    let journal = memory.load()?;
    if busy(&memory)?.is_some() {
        say("activating", "yes");
    }
    if let Some(boots) = loader::default_toplevel(places) {
        say("boots", generations::named(places, boots).as_str());
    }
    if let Some(activity) = local::activity(places, &journal) {
        say("activity", &serde_json::to_string(&activity).unwrap_or_default());
    }
    if journal.number > 0 {
        say("number", &journal.number.to_string());
    }
    if let Some(hold) = &journal.hold {
        say("hold", &serde_json::to_string(hold).unwrap_or_default());
    }
    if let Some(secrets) = &journal.secrets {
        say("secrets", &secrets.to_string());
    }
    for missing in check::unprotected(&places.current_system()) {
        say("unprotected", missing);
    }
    for one in &journal.quarantine {
        say("quarantined", &format!("{} {}", one.toplevel, one.why));
    }
    Ok(())
}

/// Lets a hold with at most that number go, so that the host takes releases again, and says `lifted` with it. Where there is
/// none, nothing is to be done.
fn lift(places: &Places, number: Number) -> Result<(), String> {
    let memory = Memory::new(places.clone());
    memory.prepare()?;
    let _lock = memory.lock(false)?.ok_or("an activation is under way; the hold stays until it has ended")?;
    let mut journal = memory.load_to_write()?;
    if let Some(hold) = journal.lift(number) {
        memory.save(&journal)?;
        say("lifted", &serde_json::to_string(&hold).unwrap_or_default());
    }
    Ok(())
}

/// One line, whatever is in it. Whether anybody heard it.
fn say(key: &str, text: &str) -> bool {
    let text = text.replace(char::is_control, " ");
    let mut out = std::io::stdout().lock();
    writeln!(out, "{key} {text}").and_then(|()| out.flush()).is_ok()
}

#[cfg(test)]
mod tests {
    use bosco_model::{Hold, Profiles, StorePath};

    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn a_hold_is_let_go_by_its_number_and_not_while_an_activation_is_under_way() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let memory = Memory::new(places.clone());
        memory.prepare().unwrap();
        let toplevel = StorePath::parse(&format!("/nix/store/{}-nixos", "0".repeat(32))).unwrap();
        let held = Journal {
            number: 7,
            hold: Some(Hold { number: 7, toplevel, profiles: Profiles::default() }),
            ..Journal::default()
        };
        memory.save(&held).unwrap();

        let lock = memory.lock(false).unwrap().unwrap();
        assert!(lift(&places, 7).unwrap_err().contains("an activation is under way"));
        drop(lock);
        assert_eq!(memory.load().unwrap(), held);

        lift(&places, 6).unwrap();
        assert_eq!(memory.load().unwrap(), held, "it is a newer one");
        lift(&places, 7).unwrap();
        let let_go = Journal { hold: None, ..held };
        assert_eq!(memory.load().unwrap(), let_go, "what was pushed is still counted");
        lift(&places, 7).unwrap();
        assert_eq!(memory.load().unwrap(), let_go, "there is none any more");
    }
}
