//! Where hosts wait for one another: nothing is delivered where one of them could not be evaluated or built.

use std::time::Duration;

use bosco_model::HostName;
use tokio::sync::watch;

use crate::event::{Event, Sink};
use crate::outcome::Outcome;

/// How long hosts that are ready wait for the next one that does not answer: longer than `push` waits each time before it
/// tries a dropped connection again.
const PATIENCE: Duration = Duration::from_secs(3);

/// When hosts may be delivered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Each as soon as it is built.
    Each,
    /// Once all that answer are built; none if one can't be evaluated or built.
    AllBuilt,
    /// Once all are built; none if one is away or refuses.
    All,
}

/// Where a host is, as far as the others have to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// It is evaluated, or waits for its turn to be asked.
    Evaluating,
    /// It was asked what it runs, and has not answered.
    Asked,
    Building,
    /// It is built, has nothing to do, or has failed.
    Through,
}

/// Where all hosts are.
#[derive(Debug, Clone, Default)]
struct Hosts {
    evaluating: usize,
    asked: usize,
    building: usize,
    /// Those that the others are held back for.
    missing: Vec<HostName>,
    decided: Option<bool>,
}

/// What is to be done at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Open,
    Held,
    /// Somebody is still to come.
    Wait,
    /// Somebody is still to come, and is not worth waiting for long.
    WaitALittle,
}

impl Hosts {
    fn count(&mut self, place: Place) -> Option<&mut usize> {
        match place {
            Place::Evaluating => Some(&mut self.evaluating),
            Place::Asked => Some(&mut self.asked),
            Place::Building => Some(&mut self.building),
            Place::Through => None,
        }
    }

    fn verdict(&self, rule: Rule) -> Verdict {
        match rule {
            Rule::Each => Verdict::Open,
            _ if self.evaluating + self.building > 0 => Verdict::Wait,
            Rule::All if self.asked > 0 => Verdict::Wait,
            _ if self.asked > 0 => Verdict::WaitALittle,
            _ => self.after_all(),
        }
    }

    /// What it comes to where nobody is waited for any more.
    fn after_all(&self) -> Verdict {
        if self.missing.is_empty() { Verdict::Open } else { Verdict::Held }
    }
}

/// The gate before the delivery, which all hosts of a push pass together or not at all.
#[derive(Debug)]
pub(crate) struct Gate {
    rule: Rule,
    hosts: watch::Sender<Hosts>,
}

impl Gate {
    /// A gate for so many hosts, all of them to be evaluated.
    pub(crate) fn new(rule: Rule, hosts: usize) -> Self {
        Self { rule, hosts: watch::Sender::new(Hosts { evaluating: hosts, ..Hosts::default() }) }
    }

    /// A host goes on.
    pub(crate) fn go(&self, from: Place, to: Place) {
        self.hosts.send_modify(|hosts| {
            if let Some(count) = hosts.count(from) {
                *count = count.saturating_sub(1);
            }
            if let Some(count) = hosts.count(to) {
                *count += 1;
            }
        });
    }

    /// A host has ended without being delivered to; whether that holds back the others is in the rule.
    pub(crate) fn ended(&self, host: &HostName, outcome: &Outcome) {
        let holds_back = match self.rule {
            Rule::Each => false,
            Rule::AllBuilt => outcome.is_unbuilt(),
            Rule::All => !outcome.is_settled(),
        };
        if holds_back {
            self.miss(host);
        }
    }

    /// A host is not ready, and holds back the others.
    pub(crate) fn miss(&self, host: &HostName) {
        self.hosts.send_modify(|hosts| hosts.missing.push(host.clone()));
    }

    pub(crate) fn rule(&self) -> Rule {
        self.rule
    }

    /// Waits until no host is evaluated or asked any more: nobody is left who could still want to be built.
    pub(crate) async fn all_known(&self) {
        // The sender is here, so it can't be gone.
        let _ = self.hosts.subscribe().wait_for(|hosts| hosts.evaluating + hosts.asked == 0).await;
    }

    /// Waits until this host may be delivered to, or none may. Who finds that none may tells so.
    pub(crate) async fn pass(&self, events: &Sink) -> bool {
        let mut hosts = self.hosts.subscribe();
        loop {
            let now = hosts.borrow_and_update().clone();
            if let Some(open) = now.decided {
                return open;
            }
            match now.verdict(self.rule) {
                Verdict::Wait => {
                    let _ = hosts.changed().await;
                }
                Verdict::WaitALittle => {
                    if tokio::time::timeout(PATIENCE, hosts.changed()).await.is_err() {
                        self.decide(now.after_all(), events);
                    }
                }
                decided => self.decide(decided, events),
            }
        }
    }

    /// Settles it, once: who comes later finds it settled.
    fn decide(&self, verdict: Verdict, events: &Sink) {
        let open = verdict == Verdict::Open;
        let mut held = None;
        self.hosts.send_if_modified(|hosts| {
            let first = hosts.decided.is_none();
            if first {
                hosts.decided = Some(open);
                held = (!open).then(|| hosts.missing.clone());
            }
            first
        });
        if let Some(missing) = held {
            events(Event::HeldBack { missing });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(evaluating: usize, asked: usize, building: usize, missing: usize) -> Hosts {
        let missing = vec![HostName::parse("web").unwrap(); missing];
        Hosts { evaluating, asked, building, missing, decided: None }
    }

    #[test]
    fn who_does_not_answer_is_waited_for_a_little_and_never_where_all_are_required() {
        assert_eq!(hosts(0, 3, 0, 0).verdict(Rule::AllBuilt), Verdict::WaitALittle);
        assert_eq!(hosts(0, 3, 0, 0).verdict(Rule::All), Verdict::Wait);
        assert_eq!(hosts(0, 3, 0, 0).verdict(Rule::Each), Verdict::Open);
    }

    proptest! {
        #[test]
        fn it_never_opens_while_somebody_is_evaluated_or_built_or_after_one_has_failed(
            evaluating in 0_usize..3, asked in 0_usize..3, building in 0_usize..3, missing in 0_usize..3,
            rule in prop_oneof![Just(Rule::AllBuilt), Just(Rule::All)],
        ) {
            let verdict = hosts(evaluating, asked, building, missing).verdict(rule);
            if verdict == Verdict::Open {
                prop_assert_eq!((evaluating, asked, building, missing), (0, 0, 0, 0));
            }
            // And it always comes to an end once nobody is under way.
            if evaluating + asked + building == 0 {
                prop_assert!(matches!(verdict, Verdict::Open | Verdict::Held));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_gate_opens_a_while_after_the_last_sign_of_those_that_do_not_answer() {
        let gate = std::sync::Arc::new(Gate::new(Rule::AllBuilt, 3));
        let events: Sink = std::sync::Arc::new(|_| {});
        for to in [Place::Through, Place::Asked, Place::Asked] {
            gate.go(Place::Evaluating, to);
        }
        let started = tokio::time::Instant::now();
        let passing = tokio::spawn({
            let gate = std::sync::Arc::clone(&gate);
            async move { gate.pass(&events).await }
        });
        tokio::time::sleep(PATIENCE / 2).await;
        gate.go(Place::Asked, Place::Through);
        assert!(passing.await.unwrap());
        assert_eq!(started.elapsed(), PATIENCE / 2 + PATIENCE);
    }

    #[tokio::test]
    async fn where_all_are_required_whoever_is_not_ready_holds_back_all() {
        use crate::event::Stage;
        let web = HostName::parse("web").unwrap();
        let events: Sink = std::sync::Arc::new(|_| {});
        let offline = Outcome::Offline { reason: String::new(), hint: None };
        let refused = Outcome::Refused { reason: String::new(), hint: String::new() };
        let interrupted = Outcome::Interrupted { stage: Stage::Connect };
        let up_to_date = Outcome::UpToDate { goal: bosco_model::Goal::Switch };
        for (outcome, all_built, all) in [
            (offline, true, false),
            (refused, true, false),
            (interrupted, true, false),
            (Outcome::failed(Stage::Connect, "", None), true, false),
            (Outcome::failed(Stage::Build, "", None), false, false),
            (Outcome::LocalOnly, true, true),
            (up_to_date, true, true),
        ] {
            for (rule, opens) in [(Rule::Each, true), (Rule::AllBuilt, all_built), (Rule::All, all)] {
                let gate = Gate::new(rule, 1);
                gate.ended(&web, &outcome);
                gate.go(Place::Evaluating, Place::Through);
                assert_eq!(gate.pass(&events).await, opens, "{rule:?}: {outcome:?}");
            }
        }
    }

    #[tokio::test]
    async fn once_it_is_open_a_late_failure_holds_nobody_back() {
        let (gate, web) = (Gate::new(Rule::AllBuilt, 1), HostName::parse("web").unwrap());
        let events: Sink = std::sync::Arc::new(|_| {});
        gate.go(Place::Evaluating, Place::Through);
        assert!(gate.pass(&events).await);
        gate.ended(&web, &Outcome::failed(crate::event::Stage::Build, "", None));
        assert!(gate.pass(&events).await);
    }
}
