//! `bosco local`: what a machine's own console can do, without hub or operator.

use std::io::Write;

use bosco_activation::{Attempt, Ending, Journal, Report, Request, Told};
use bosco_model::{Activity, ActivityStage, Generation, Generations, Goal, Profiles, StorePath, next_number};

use crate::carry::{self, activate};
use crate::generations;
use crate::hands::Hands;
use crate::listen::Question;
use crate::loader;
use crate::memory::{Memory, now};
use crate::places::Places;

const USAGE: &str = "usage: bosco local status [--json]
       bosco local rollback [--to GENERATION]
       bosco local resume

status    says what runs here, and how the last activation ended
rollback  goes back to an older generation, the one before by default
resume    takes up an activation that was interrupted, and lifts every quarantine; a hold stays
";

/// The exit codes, the same as the operator's commands have.
const FAILED: u8 = 1;
const MISTAKE: u8 = 2;
const NOT_COMMITTED: u8 = 4;

/// Says how the program is used.
#[must_use]
pub fn usage() -> u8 {
    say_error(USAGE.trim_end());
    MISTAKE
}

/// `bosco local …`. Exits with 0 where all is well, 1 where it is not, 2 where it was asked wrongly, 4 where an activation
/// did not end committed.
#[must_use]
pub fn main(places: &Places, arguments: &[String]) -> u8 {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let came = match words.as_slice() {
        ["status"] => status(places, false),
        ["status", "--json"] => status(places, true),
        ["rollback"] => rollback(places, None),
        ["rollback", "--to", number] => match number.parse() {
            Ok(number) => rollback(places, Some(number)),
            Err(_) => return usage(),
        },
        ["resume"] => take_up(places),
        ["--help" | "help"] => {
            say(USAGE.trim_end());
            return 0;
        }
        _ => return usage(),
    };
    came.unwrap_or_else(|why| {
        say_error(&format!("error: {why}"));
        FAILED
    })
}

fn status(places: &Places, json: bool) -> Result<u8, String> {
    let journal = Memory::new(places.clone()).load()?;
    if json {
        say(&serde_json::to_string_pretty(&journal).map_err(|error| error.to_string())?);
        return Ok(0);
    }
    let named = |path: Option<StorePath>| {
        path.map_or_else(|| "nothing that is known".into(), |path| path.to_string())
    };
    say(&format!("runs      {}", named(places.store_path(&places.current_system()))));
    // Where the boot loader does not say, the profile does.
    let boots = loader::default_toplevel(places).or_else(|| places.store_path(&places.profile()));
    let generation = boots.as_ref().and_then(|boots| generations::of(places, boots));
    let generation = generation.map(|number| format!(" (generation {number})"));
    say(&format!("boots     {}{}", named(boots), generation.unwrap_or_default()));
    if journal.number > 0 {
        say(&format!("number    {}", journal.number));
    }
    if let Some(hold) = &journal.hold {
        say(&format!("hold      {}, until a release contains it", hold.toplevel));
    }
    match &journal.attempt {
        None => say("last      no activation is known"),
        Some(attempt) => say(&format!("last      {}", told(places, &journal, attempt))),
    }
    for one in &journal.quarantine {
        say(&format!("quarantine {}, {}: {}", one.toplevel, ago(one.since), one.why));
    }
    Ok(0)
}

fn told(places: &Places, journal: &Journal, attempt: &Attempt) -> String {
    let when = ago(journal.ended.unwrap_or(attempt.since));
    activity(places, journal).map_or_else(String::new, |last| {
        format!("{} by {}, {when}: {}; log in {}", last.toplevel, last.by, last.words, last.log)
    })
}

/// The attempt that is under way, or was the last one, as others are told of it.
pub(crate) fn activity(places: &Places, journal: &Journal) -> Option<Activity> {
    let attempt = journal.attempt.as_ref()?;
    let (stage, words) = match attempt.ending() {
        Some(ending) => (
            match ending {
                Ending::Committed { .. } => ActivityStage::Committed,
                Ending::Reverted { .. } => ActivityStage::Reverted,
                Ending::Inconclusive { .. } => ActivityStage::Inconclusive,
                Ending::Refused { .. } => ActivityStage::Refused,
            },
            ended(ending),
        ),
        None => {
            let doing = attempt.effect().map_or("at work", |effect| effect.doing());
            (ActivityStage::Open, format!("{doing}, begun {}", ago(attempt.since)))
        }
    };
    let log = Hands::new(places.clone(), &attempt.request.id).log_path().display().to_string();
    let Request { toplevel, profiles, by, .. } = attempt.request.clone();
    Some(Activity { toplevel, profiles: profiles.all, by, since: attempt.since, stage, words, log })
}

/// How an attempt ended, in words.
#[must_use]
pub fn ended(ending: &Ending) -> String {
    match ending {
        Ending::Committed { reboot: false, .. } => "committed".into(),
        Ending::Committed { reboot: true, .. } => "committed; reboot needed".into(),
        Ending::Reverted { cause } => format!("reverted: {cause}"),
        Ending::Inconclusive { cause } => format!("inconclusive: {cause}"),
        Ending::Refused { why } => format!("refused: {why}"),
    }
}

fn ago(since: u64) -> String {
    let seconds = now().saturating_sub(since);
    match seconds {
        0..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86400),
    }
}

/// The generation to go back to.
fn choose(places: &Places, asked: Option<u32>) -> Result<(u32, StorePath), String> {
    let made = |number| {
        let toplevel = generations::toplevel(places, number)?;
        Some(Generation { number, made: 0, toplevel, version: None })
    };
    let all = generations::all(places).into_iter().filter_map(made).collect();
    let running = places.store_path(&places.current_system()).map(|runs| generations::named(places, runs));
    let all = Generations::new(all, generations::present(places));
    let back = all.back(asked, running.as_ref()).map_err(|error| error.to_string())?;
    Ok((back.number, back.toplevel.clone()))
}

fn rollback(places: &Places, to: Option<u32>) -> Result<u8, String> {
    let (number, toplevel) = choose(places, to)?;
    say(&format!("going back to generation {number}, {toplevel}"));
    let request = Request {
        id: format!("local-{}-{}", now(), std::process::id()),
        goal: Goal::Switch,
        toplevel,
        profiles: Profiles::default(),
        limits: bosco_model::Limits::default(),
        secrets: None,
        keeps_system: false,
        generation: Some(number),
        by: "the console".into(),
        reboot: false,
        again: true,
        connection: false,
        number: next_number(Memory::new(places.clone()).load()?.number),
        hold: true,
        lifts: 0,
        doubts_hub: false,
    };
    let mut last: Option<Report> = None;
    let mut busy = None;
    activate(places, &request, &mut |told| {
        match told {
            Told::Doing { effect } => say(effect.doing()),
            Told::Ended { report } => last = Some((**report).clone()),
            Told::Busy { busy: who } => busy = Some(who.clone()),
            _ => {}
        }
        true
    })?;
    if let Some(who) = busy {
        let who = who.map(|busy| format!(" of {} by {}", busy.toplevel, busy.by)).unwrap_or_default();
        return Err(format!("an activation{who} is under way"));
    }
    Ok(conclude(last))
}

fn take_up(places: &Places) -> Result<u8, String> {
    let memory = Memory::new(places.clone());
    let mut report = None;
    let open = memory.load()?.open().map(|attempt| attempt.request.id.clone());
    if let Some(id) = open {
        // In a unit of its own: what is taken back may take this console's session along.
        if !memory.is_locked()? {
            carry::take_up()?;
        }
        carry::follow(places, &Question::Follow { id }, &mut |told| {
            match told {
                Told::Doing { effect } => say(effect.doing()),
                Told::Ended { report: ended } => report = Some((**ended).clone()),
                _ => {}
            }
            true
        })?;
    }
    let _lock = memory.lock(false)?.ok_or("an activation is under way")?;
    let mut journal = memory.load_to_write()?;
    let held = std::mem::take(&mut journal.quarantine);
    journal.interrupted.clear();
    memory.save(&journal)?;
    for one in &held {
        say(&format!("no longer in quarantine: {}", one.toplevel));
    }
    if held.is_empty() && report.is_none() {
        say("nothing was to be taken up");
    }
    Ok(report.map_or(0, |report| conclude(Some(report))))
}

fn conclude(report: Option<Report>) -> u8 {
    let Some(report) = report else { return FAILED };
    say(&format!("{}; log in {}", ended(&report.ending), report.log));
    if matches!(report.ending, Ending::Committed { .. }) { 0 } else { NOT_COMMITTED }
}

fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn say_error(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
