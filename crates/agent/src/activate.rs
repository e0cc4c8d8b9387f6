//! An activation, by the helper: asked for, proven by a fresh connection to the hub, and followed to its end. The helper goes on by
//! itself whatever becomes of the agent.

use std::process::Stdio;
use std::time::Duration;

use bosco_activation::{Ending, Report, Request, Told};
use bosco_host::{durable, local};
use bosco_model::{Goal, Limits, StorePath};
use bosco_release::{HostReport, Number, Opened, REPORT_NAMESPACE, Runs, SignedReport};
use bosco_session::{Following, Heard, Stage, Unended};
use ssh_key::{HashAlg, LineEnding};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::Agent;
use crate::control::greet;
use crate::machine;

/// How long the helper may take for an answer: longer than any activation that it is told of may take.
const LONGEST_ANSWER: Duration = Duration::from_secs(26 * 3600);
/// Who asks, as others are told.
const BY: &str = "agent";
/// How long an activation may take where the helper does not say.
const UNTOLD: Duration = Duration::from_secs(600);
/// How long a host may take to go back, beyond its window.
const GOES_BACK: Duration = Duration::from_secs(900);
/// Between two tries to reach the hub, or to hear how it goes on.
const AGAIN: Duration = Duration::from_secs(1);
/// Between two tries where it is too early.
const EARLY: Duration = Duration::from_millis(250);
/// How long one try to reach the hub may take: the next one may find another way there.
const REACH: Duration = Duration::from_secs(15);
/// How many lines the helper may say.
const MAX_LINES: usize = 50_000;
/// The longest of them, in bytes.
const MAX_LINE: u64 = 1024 * 1024;

/// How an activation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Whether the host has come to what was asked for.
    pub(crate) committed: bool,
    /// In words.
    pub(crate) words: String,
}

/// What the helper is asked.
enum Question<'a> {
    Activate(&'a Request),
    Confirm(&'a str, Option<&'a str>),
}

/// Brings the host to the system and the profiles of a manifest, which are there.
///
/// # Errors
/// In words, where it did not begin, or its end is not known.
pub(crate) async fn run(
    agent: &Agent,
    opened: &Opened,
    toplevel: &StorePath,
    again: bool,
) -> Result<Ended, String> {
    let manifest = &opened.manifest;
    let (is_first, secrets) = {
        let core = agent.core();
        (core.is_first(opened.leaf), core.secrets(manifest))
    };
    let request = Request {
        id: format!("pull-{:x}-{:016x}", machine::now(), machine::random()),
        goal: Goal::Switch,
        toplevel: toplevel.clone(),
        profiles: manifest.runs.profiles().clone(),
        limits: Limits::default(),
        secrets,
        generation: None,
        by: BY.into(),
        reboot: matches!(manifest.runs, Runs::Tree { reboot: true, .. }),
        again,
        connection: true,
        number: manifest.number,
        hold: false,
        lifts: manifest.lifts,
        doubts_hub: is_first,
    };
    root_helper(agent)?;
    drive(agent, &request.id, Question::Activate(&request)).await
}

/// Follows an activation that is under way to its end, and proves it where that is wanted.
///
/// # Errors
/// In words, where its end is not known.
pub(crate) async fn follow(agent: &Agent, id: &str) -> Result<Ended, String> {
    drive(agent, id, Question::Confirm(id, None)).await
}

/// What came of an activation that has ended.
///
/// # Errors
/// In words, where the host does not know.
pub(crate) async fn ended(agent: &Agent, id: &str) -> Result<(Report, String), String> {
    match ask(agent, &Question::Confirm(id, None), &mut |_| {}).await {
        Ok(Stage::Ended(report, log)) => Ok((*report, log)),
        Ok(_) => Err("it has not ended, or is not known".into()),
        Err(Unended::NotBegun(why) | Unended::Lost(why)) => Err(why),
    }
}

/// The helper must not be collected as garbage; who asks what the host is finds it here, too. One whose attempt is under way has
/// done it for itself.
fn root_helper(agent: &Agent) -> Result<(), String> {
    let program = std::fs::canonicalize(&agent.config.helper)
        .map_err(|error| format!("there is no helper at {}: {error}", agent.config.helper.display()))?;
    let Some(folder) = program.parent().and_then(std::path::Path::parent) else { return Ok(()) };
    if !folder.starts_with("/nix/store") {
        return Ok(());
    }
    durable::link(folder, &agent.config.places.gcroots().join("helper"))
}

async fn drive(agent: &Agent, id: &str, first: Question<'_>) -> Result<Ended, String> {
    let began = machine::now();
    let mut limit = UNTOLD;
    let mut tell = |told: &Told| match told {
        Told::Begun { seconds } => limit = Duration::from_secs(*seconds),
        Told::Doing { effect } => agent.say(&format!("activation: {}", effect.doing())),
        Told::Warning { text } => agent.say(text),
        _ => {}
    };
    let mut progress = ask(agent, &first, &mut tell).await;
    let mut deadline = Instant::now() + limit + GOES_BACK;
    loop {
        let token = match progress {
            Ok(Stage::Ended(ended, log)) => {
                report(agent, began, &ended, &log);
                let words = local::ended(&ended.ending);
                let committed = matches!(ended.ending, Ending::Committed { .. });
                return Ok(Ended { committed, words: format!("the activation ended: {words}") });
            }
            Ok(Stage::Busy(busy)) => {
                let who = busy.map_or_else(|| "somebody".into(), |busy| busy.by);
                return Err(format!("another activation is under way, by {who}"));
            }
            Ok(Stage::Unknown) => return Err("the host knows nothing of the activation any more".into()),
            Ok(Stage::Waiting(seconds, token)) => {
                let window = Duration::from_secs(seconds);
                deadline = Instant::now() + window + GOES_BACK;
                prove(agent, window).await.then_some(token)
            }
            Ok(Stage::Rebooting(seconds)) => {
                deadline = Instant::now() + Duration::from_secs(seconds) + GOES_BACK;
                sleep(AGAIN).await;
                None
            }
            Ok(Stage::Early) => {
                sleep(EARLY).await;
                None
            }
            Err(Unended::NotBegun(why)) if matches!(first, Question::Activate(_)) => {
                return Err(format!("the activation could not be started: {why}"));
            }
            // The helper was ended; what it had begun with goes on.
            Err(Unended::NotBegun(why) | Unended::Lost(why)) => {
                if Instant::now() >= deadline {
                    return Err(format!("the activation could not be followed: {why}"));
                }
                sleep(AGAIN).await;
                None
            }
        };
        if Instant::now() >= deadline {
            return Err("the activation does not come to an end".into());
        }
        progress = match ask(agent, &Question::Confirm(id, token.as_deref()), &mut |_| {}).await {
            // It has begun, whatever this one says.
            Err(Unended::NotBegun(why)) => Err(Unended::Lost(why)),
            progress => progress,
        };
    }
}

/// Reaches the hub by a connection that was not there before. Where that can't be had within the window, the host decides by
/// itself what that means.
async fn prove(agent: &Agent, window: Duration) -> bool {
    let until = Instant::now() + window;
    let mut said = false;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let why = match timeout(left.min(REACH), greet(agent, "proof")).await {
            Ok(Ok((link, _))) => {
                // Its end must not hold up what it has proven.
                tokio::spawn(link.close());
                return true;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the hub does not answer".into(),
        };
        if !said {
            said = true;
            agent.say(&format!("the hub is not reached yet: {why}"));
        }
        sleep(AGAIN.min(until.saturating_duration_since(Instant::now()))).await;
    }
}

/// Asks the helper, and reads what it says until that comes to something.
async fn ask(
    agent: &Agent,
    question: &Question<'_>,
    tell: &mut (dyn FnMut(&Told) + Send),
) -> Result<Stage, Unended> {
    let asked = timeout(LONGEST_ANSWER, converse(agent, question, tell)).await;
    asked.unwrap_or_else(|_| Err(Unended::Lost("the helper does not come to an end".into())))
}

async fn converse(
    agent: &Agent,
    question: &Question<'_>,
    tell: &mut (dyn FnMut(&Told) + Send),
) -> Result<Stage, Unended> {
    let not_begun = |why: String| Unended::NotBegun(why);
    let mut command = Command::new(&agent.config.helper);
    command.arg("helper");
    let mut input = Vec::new();
    match question {
        Question::Activate(request) => {
            command.arg("activate");
            input = serde_json::to_vec(request).map_err(|error| not_begun(error.to_string()))?;
        }
        Question::Confirm(id, token) => {
            command.args(["confirm", id]).args(*token);
        }
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).kill_on_drop(true);
    let mut child =
        command.spawn().map_err(|error| not_begun(format!("the helper can't be run: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Where it does not read it, it says why.
        let _ = stdin.write_all(&input).await;
    }
    let mut following = Following::default();
    let Some(stdout) = child.stdout.take() else { return following.end() };
    let mut lines = BufReader::new(stdout);
    for _ in 0..MAX_LINES {
        let mut line = Vec::new();
        match (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(1..) => {}
            _ => break,
        }
        let line = String::from_utf8_lossy(&line);
        match following.line(line.trim_end_matches('\n'), tell) {
            Ok(Some(Heard::Stage(stage))) => return Ok(stage),
            Ok(Some(Heard::Done)) => break,
            Ok(None) => {}
            Err(error) => return Err(Unended::Lost(error.to_string())),
        }
    }
    following.end()
}

/// Writes a report and puts it into the queue. Nothing waits for it, and nothing fails by it.
pub(crate) fn report(agent: &Agent, began: u64, report: &Report, log: &str) {
    let number = number_of(&machine::journal(&agent.config.places), &report.id);
    let automatic = agent.core().is_update(&report.toplevel);
    queue(agent, number, automatic, began, report.clone(), log);
    let mut core = agent.core();
    core.pull.reported = Some(report.id.clone());
    core.save();
}

/// The same of anything that has come of a release.
pub(crate) fn queue(agent: &Agent, number: Number, automatic: bool, began: u64, report: Report, log: &str) {
    let said = HostReport {
        fleet: agent.core().trust.fleet.clone(),
        host: agent.config.host.clone(),
        id: report.id.clone(),
        number,
        automatic,
        began,
        ended: machine::now(),
        report,
        log: HostReport::<Report>::log(log),
    };
    let queued = agent.queue.put(&said);
    let mut core = agent.core();
    match queued {
        Ok(dropped) => core.pull.dropped += dropped,
        Err(why) => core.say(&format!("what came of it can't be reported: {why}")),
    }
    core.save();
    drop(core);
    agent.news.notify_one();
}

/// The release that an attempt was for; 0 where it was a push.
fn number_of(journal: &bosco_activation::Journal, id: &str) -> Number {
    let request = journal.attempt.as_ref().map(|attempt| &attempt.request);
    request.filter(|request| request.id == id && !request.hold).map_or(0, |request| request.number)
}

/// Signs a report with the host's key.
///
/// # Errors
/// In words.
pub(crate) fn sign(agent: &Agent, report: &HostReport<Report>) -> Result<SignedReport, String> {
    let report = serde_json::to_string(report).map_err(|error| error.to_string())?;
    let signed = agent.identity.sign(REPORT_NAMESPACE, HashAlg::Sha512, report.as_bytes());
    let signature = signed.and_then(|signature| signature.to_pem(LineEnding::LF));
    Ok(SignedReport { report, signature: signature.map_err(|error| error.to_string())? })
}
