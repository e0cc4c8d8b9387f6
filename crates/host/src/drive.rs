//! Carrying an attempt out: its effects one after the other, with the clock, and with who follows it or confirms it.
//!
//! Each state is on the disk before its effect begins. A state that can't be written down is not entered where its effect
//! would change what boots; on the way back it is, as the way back must not depend on a disk with room.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bosco_activation::{
    Attempt, Cause, Effect, Event, Found, Journal, Needs, Refused, Report, Request, Settings, State, Told,
};
use bosco_model::StorePath;

use crate::generations;
use crate::hands::Hands;
use crate::listen::{Asked, Clients, Question, listen};
use crate::memory::{Memory, now, this_boot};
use crate::places::Places;
use crate::{check, leftover, profiles, secrets};

/// How long a machine may take to go down once it is told to.
const GO_DOWN: Duration = Duration::from_secs(300);
/// How long who asked is waited for on the old system, to say that it can be reached: it tries anew every second, and a
/// try that nobody answers takes ten.
const RETEST: Duration = Duration::from_secs(30);
/// How long a machine may take to come up, where its own limit for an activation is shorter.
const COME_UP: Duration = Duration::from_secs(600);
/// How long an effect that is given up may take to let go.
const LET_GO: Duration = Duration::from_secs(10);
/// How much earlier than the activation a probe has to end, so that what it found is told.
const SAY: Duration = Duration::from_secs(2);
/// How old what a probe found may be when the proof is complete.
const STALE: Duration = Duration::from_secs(2);
/// How long what is left after the decision may take.
const CLOSE: Duration = Duration::from_secs(60);
/// How long one path of the store may take to be read again.
const VERIFY: Duration = Duration::from_secs(20);
/// Between two tries to go back.
const BREATH: Duration = Duration::from_secs(1);

/// What the loop waits for.
enum Input {
    /// What came of an effect, and of which turn.
    Came(u64, Event),
    /// A word of who follows.
    Asked(Asked),
}

/// Carries the journal's attempt to its end, having told it of `first`. `begun` is called once it can be followed, by the
/// socket and by the journal.
///
/// # Errors
/// In words, where the journal has none, or the socket can't be had.
pub(crate) fn drive(
    places: &Places,
    memory: &Memory,
    journal: Journal,
    first: Option<Event>,
    begun: impl FnOnce(),
) -> Result<Report, String> {
    let (tell, told) = mpsc::channel();
    let asked = tell.clone();
    let mut journal = journal;
    let attempt = journal.attempt.take().ok_or("the journal has no attempt")?;
    let hands = Hands::new(places.clone(), &attempt.request.id);
    if let Err(why) = listen(places, move |question| asked.send(Input::Asked(question)).is_ok()) {
        // A way back must not depend on anybody's being told of it.
        hands.note(&format!("bosco: nobody can follow: {why}"));
        if first.is_none() {
            return Err(why);
        }
    }
    // The machine it was in has gone down since.
    journal.boot = this_boot();
    journal.ended = None;
    let settings = check::settings(&system(places, &attempt.request)).unwrap_or_default();
    let mut drive = Drive {
        places: places.clone(),
        memory: memory.clone(),
        journal,
        hands,
        settings: settings.within(attempt.request.limits),
        clients: Clients::default(),
        tell,
        turn: 0,
        stop: Arc::default(),
        worker: None,
        probed: None,
        overdue: None,
        silence: None,
        token: None,
    };
    drive.overdue = Some(Instant::now() + drive.settings.activation());
    let attempt = match first {
        Some(event) => attempt.on(event),
        None => attempt,
    };
    // From here on the journal knows it.
    let attempt = drive.enter(attempt);
    begun();
    Ok(drive.run(attempt, &told))
}

struct Drive {
    places: Places,
    memory: Memory,
    journal: Journal,
    hands: Hands,
    settings: Settings,
    clients: Clients,
    tell: Sender<Input>,
    /// Results of an effect that was given up belong to an earlier one.
    turn: u64,
    stop: Arc<AtomicBool>,
    /// The thread that an effect is at work on.
    worker: Option<JoinHandle<()>>,
    /// When units and health checks were last found well.
    probed: Option<Instant>,
    overdue: Option<Instant>,
    silence: Option<Instant>,
    /// What a fresh connection has to bring, so that nobody can have made it before.
    token: Option<String>,
}

impl Drive {
    fn run(mut self, entered: Attempt, told: &Receiver<Input>) -> Report {
        let mut attempt = entered;
        loop {
            if let Some(report) = report(&self.places, &attempt) {
                self.clients.tell_and_close(&Told::Ended { report: Box::new(report.clone()) });
                return report;
            }
            let event = self.next(&attempt, told);
            let Some(event) = event else { continue };
            let was = attempt.clone();
            attempt = attempt.on(event);
            if attempt != was {
                attempt = if same_effect_goes_on(&was, &attempt) {
                    self.learn(attempt)
                } else {
                    self.enter(attempt)
                };
            }
        }
    }

    /// Waits for something to happen.
    fn next(&mut self, attempt: &Attempt, told: &Receiver<Input>) -> Option<Event> {
        let deadline = [self.overdue, self.silence].into_iter().flatten().min();
        let left =
            deadline.map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(Instant::now()));
        match told.recv_timeout(left) {
            Ok(Input::Came(turn, event)) => {
                if matches!(event, Event::Done(Found::Probed(_))) {
                    self.probed = Some(Instant::now());
                }
                (turn == self.turn).then_some(event)
            }
            Ok(Input::Asked(asked)) => self.answer(attempt, asked),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                let now = Instant::now();
                if self.silence.is_some_and(|at| at <= now) {
                    self.silence = None;
                    return Some(Event::Silence);
                }
                if self.overdue.is_some_and(|at| at <= now) {
                    self.overdue = None;
                    return Some(Event::Overdue);
                }
                None
            }
        }
    }

    fn answer(&mut self, attempt: &Attempt, asked: Asked) -> Option<Event> {
        let Asked { question, mut client } = asked;
        match question {
            Question::Follow { id } | Question::Confirm { id, .. } if id != attempt.request.id => {
                client.tell(&Told::Unknown);
                None
            }
            Question::Follow { .. } => {
                client.tell(&Told::Begun { seconds: self.settings.activation().as_secs() });
                if let Some(told) = self.present(attempt) {
                    client.tell(&told);
                }
                self.clients.add(client);
                None
            }
            Question::Confirm { .. } if !attempt.wants_connection() => {
                // Confirmed by another one, or nothing is to be confirmed any more: it may follow to the end.
                if attempt.can_be_followed() {
                    self.clients.add(client);
                } else {
                    client.tell(&Told::Early);
                }
                None
            }
            Question::Confirm { token, .. } if token.is_some() && token == self.token => {
                self.hands.note("bosco: a fresh connection has come");
                self.clients.add(client);
                Some(Event::Connected { stale: self.probed.is_some_and(|at| at.elapsed() > STALE) })
            }
            // It was made before anybody could know that it is wanted: another one has to be made.
            Question::Confirm { .. } => {
                client.tell(&self.waiting());
                None
            }
        }
    }

    fn waiting(&self) -> Told {
        let left = self.silence.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now()));
        Told::Waiting { seconds: left.as_secs(), token: self.token.clone().unwrap_or_default() }
    }

    /// What who comes later has to know of the state.
    fn present(&self, attempt: &Attempt) -> Option<Told> {
        if attempt.wants_connection() {
            return Some(self.waiting());
        }
        attempt.effect().map(|effect| Told::Doing { effect })
    }

    /// Writes a state down, and begins with its effect.
    fn enter(&mut self, attempt: Attempt) -> Attempt {
        self.end_effect();
        let attempt = self.keep(attempt);
        let Some(effect) = attempt.effect() else { return attempt };
        if effect == Effect::Arm && attempt.may_reboot && attempt.needs != Needs::Nothing {
            self.warn(&attempt);
        }
        let Request { toplevel, profiles, .. } = &attempt.request;
        if effect == Effect::Arm && !profiles.only && profiles::has_own_script(toplevel) {
            let text = "its profile `system` has an activation of its own (`activate.custom`), which is not run: bosco switches to \
                        what `activate.nixos` wraps";
            self.clients.tell(&Told::Warning { text: text.into() });
        }
        self.set_deadlines(&attempt);
        self.clients.tell(&Told::Doing { effect });
        if attempt.wants_connection() {
            let waiting = self.waiting();
            self.clients.tell(&waiting);
        }
        if let State::Rebooting { .. } = attempt.state {
            let seconds = (GO_DOWN + self.settings.activation().max(COME_UP)).as_secs();
            self.clients.tell(&Told::Rebooting { seconds });
        }
        self.begin(&attempt);
        attempt
    }

    /// Says, before anything is done, what a reboot can't promise on this host.
    fn warn(&mut self, attempt: &Attempt) {
        if !attempt.proves_boot {
            let text = "unproven: it can't be tried by one boot, as bosco's module is not in its configuration, or its boot loader \
                        can't boot an entry once; it becomes the default first";
            self.clients.tell(&Told::Warning { text: text.into() });
        }
        let missing = check::unprotected(attempt.request.toplevel.as_ref());
        if !missing.is_empty() {
            let text =
                format!("unprotected: if its boot panics or hangs, it stays down: {}", missing.join(", "));
            self.clients.tell(&Told::Warning { text });
        }
    }

    /// Writes down what was learnt in a state that goes on.
    fn learn(&mut self, attempt: Attempt) -> Attempt {
        if !attempt.wants_connection() {
            self.silence = None;
        }
        self.keep(attempt)
    }

    fn begin(&mut self, attempt: &Attempt) {
        self.turn += 1;
        self.stop = Arc::default();
        let (turn, stop, tell) = (self.turn, Arc::clone(&self.stop), self.tell.clone());
        let (hands, settings, attempt) = (self.hands.clone(), self.settings.clone(), attempt.clone());
        let deadline = self.overdue.unwrap_or_else(|| Instant::now() + CLOSE);
        // A probe says what does not hold before it is too late for that.
        let deadline = deadline.checked_sub(SAY).unwrap_or(deadline);
        let pause = attempt.state == State::Reverting && attempt.reverts > 0;
        self.worker = Some(thread::spawn(move || {
            if pause {
                thread::sleep(BREATH);
            }
            let event = hands.perform(&attempt, &settings, deadline, &stop);
            let _ = tell.send(Input::Came(turn, event));
        }));
    }

    /// What is still at work for a state that is left is ended: two effects must never be at work at once.
    fn end_effect(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let until = Instant::now() + LET_GO;
        // One that has just told what came of it ends at once.
        let mut pause = Duration::from_micros(100);
        while let Some(worker) = self.worker.take_if(|worker| !worker.is_finished()) {
            leftover::end();
            if Instant::now() >= until {
                self.hands.note("bosco: what was at work does not end; going on without it");
                return;
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LET_GO / 500);
            self.worker = Some(worker);
        }
        leftover::end();
    }

    fn set_deadlines(&mut self, attempt: &Attempt) {
        let now = Instant::now();
        self.token = attempt.wants_connection().then(new_token);
        self.silence = None;
        match &attempt.state {
            State::Proving { connected, .. } => {
                let window =
                    if attempt.booted { self.settings.activation() } else { self.settings.confirm() };
                self.silence = (!connected).then_some(now + window);
            }
            State::Retesting { connected, .. } => {
                self.silence = (!connected).then_some(now + RETEST);
                self.overdue = Some(now + RETEST + CLOSE);
            }
            State::Rebooting { .. } => self.overdue = Some(now + GO_DOWN),
            _ if attempt.ends_by_itself() => self.overdue = None,
            State::Closing { .. } => self.overdue = Some(now + CLOSE),
            _ => {}
        }
    }

    /// Writes an attempt down. What would change the default is not begun without that.
    fn keep(&mut self, attempt: Attempt) -> Attempt {
        self.journal.attempt = Some(attempt.clone());
        if attempt.ending().is_some() {
            self.journal.close(now());
        }
        let Err(why) = self.memory.save(&self.journal) else {
            if attempt.ending().is_some() {
                secrets::prune(&self.places, &self.journal.secrets_in_use());
            }
            return attempt;
        };
        self.hands.note(&format!("bosco: {why}"));
        if !attempt.must_be_kept() {
            return attempt;
        }
        let doing = attempt.effect().unwrap_or(Effect::Check);
        let next = attempt.on(Event::Failed(Cause::Failed { doing, why }));
        self.journal.attempt = Some(next.clone());
        let _ = self.memory.save(&self.journal);
        next
    }
}

/// What came of an attempt that has ended.
pub(crate) fn report(places: &Places, attempt: &Attempt) -> Option<Report> {
    attempt.ending()?;
    let running = places.store_path(&places.current_system());
    let generation = running.as_ref().and_then(|running| generations::of(places, running));
    let log = Hands::new(places.clone(), &attempt.request.id).log_path().display().to_string();
    Report::of(attempt, running, generation, log)
}

/// Whether an attempt that has only learnt something goes on with what it is at.
fn same_effect_goes_on(was: &Attempt, is: &Attempt) -> bool {
    match (&was.state, &is.state) {
        // It has to be looked at again.
        (State::Proving { healthy: true, .. }, State::Proving { healthy: false, .. }) => false,
        (State::Proving { .. }, State::Proving { .. })
        | (State::Retesting { .. }, State::Retesting { .. }) => true,
        (one, other) => one == other && was.reverts == is.reverts && was.resumed == is.resumed,
    }
}

/// The system that says how an attempt wants to be activated: the candidate, or what runs where no other is asked for.
fn system(places: &Places, request: &Request) -> PathBuf {
    if request.profiles.only { places.current_system() } else { request.toplevel.as_str().into() }
}

/// How an attempt that was found in the journal is taken up: by whoever finds it, with nobody at it any more.
pub(crate) fn taken_up(places: &Places, journal: &Journal) -> Event {
    if journal.boot == this_boot() {
        Event::Resumed
    } else {
        let booted = places.store_path(&places.booted_system());
        // By the name that it was asked for.
        let asked = journal.attempt.as_ref().map(|attempt| &attempt.request.toplevel);
        let is_asked = |asked: &&StorePath| Some(places.system(asked)) == booted;
        Event::Booted { running: asked.filter(is_asked).cloned().or(booted) }
    }
}

/// What an attempt is refused with before it begins, if it is.
pub(crate) fn unwanted(places: &Places, journal: &Journal, request: &Request) -> Option<Refused> {
    let refused = journal.refusal(request);
    if refused.is_some() {
        return refused;
    }
    // What a host says of itself before is not relied on: it may be told by others than root.
    if request.keeps_system && !check::runs_and_boots(places, &request.toplevel) {
        let why = format!("{} is not what it runs and boots, and only secrets are brought", request.toplevel);
        return Some(Refused::Failed { doing: Effect::Check, why });
    }
    if request.profiles.only {
        return None;
    }
    // How it wants to be activated has to be known; a system that is not there is told by the check.
    let toplevel = request.toplevel.as_ref();
    let why = check::settings(toplevel).err()?;
    let damaged = check::damaged_settings(toplevel, VERIFY);
    damaged.or(Some(Refused::Failed { doing: Effect::Check, why }))
}

/// A word that nobody can know who was not told it.
fn new_token() -> String {
    use std::hash::{BuildHasher, Hasher};
    // Its keys are random, for each process and each of its values.
    let random = || std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::testing::TempDir;

    #[test]
    fn secrets_alone_are_brought_to_nothing_but_what_runs_and_boots() {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let path = |name: &str| format!("/nix/store/{}-nixos-system-{name}", "0".repeat(32));
        for name in ["own", "forged"] {
            dir.write(&format!("{}/init", &path(name)[1..]), "");
        }
        for link in [places.current_system(), places.profile()] {
            std::fs::create_dir_all(link.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(dir.path().join(&path("own")[1..]), link).unwrap();
        }
        let refused = |name: &str, keeps: bool| {
            let text = format!(
                r#"{{"id":"1","goal":"switch","toplevel":"{}","by":"ada","keepsSystem":{keeps}}}"#,
                path(name)
            );
            let request: Request = serde_json::from_str(&text).unwrap();
            unwanted(&places, &Journal::default(), &request)
        };
        assert_eq!(refused("own", true), None);
        let Some(Refused::Failed { why, .. }) = refused("forged", true) else { panic!("it is switched to") };
        assert!(why.ends_with("is not what it runs and boots, and only secrets are brought"), "{why}");
        assert_eq!(refused("forged", false), None, "that is what a push is for");
    }
}
