//! Where hosts wait for those that go first (`deployment.after`): a host is not touched before they are done, and not at
//! all where one of them failed.

use std::collections::BTreeMap;

use bosco_model::{Cycle, Host, HostName, Order, Placed};
use tokio::sync::watch;

use crate::event::Stage;
use crate::outcome::Outcome;

/// How the hosts of a push stand, as far as others wait for them.
#[derive(Debug, Clone, Default)]
struct Hosts {
    /// How many are not evaluated yet.
    unknown: usize,
    placed: BTreeMap<HostName, Placed>,
    /// How those ended that have: well, or in these words.
    ended: BTreeMap<HostName, Result<(), String>>,
}

/// The order in which the hosts of a push are touched.
#[derive(Debug)]
pub(crate) struct Sequence(watch::Sender<Hosts>);

/// What a host is to do.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Wait,
    Go,
    /// It stays as it is: one that goes first did not get there.
    Stay(HostName, String),
}

impl Hosts {
    /// The order, once all are known.
    fn order(&self) -> Option<Result<Order, Cycle>> {
        (self.unknown == 0).then(|| Order::of(&self.placed))
    }

    fn turn(&self, order: &Order, host: &HostName) -> Turn {
        let mut turn = Turn::Go;
        for first in order.before(host) {
            match self.ended.get(first) {
                Some(Ok(())) => {}
                Some(Err(how)) => return Turn::Stay(first.clone(), how.clone()),
                None => turn = Turn::Wait,
            }
        }
        turn
    }
}

impl Sequence {
    /// For so many hosts, none of which is evaluated yet.
    pub(crate) fn new(hosts: usize) -> Self {
        Self(watch::Sender::new(Hosts { unknown: hosts, ..Hosts::default() }))
    }

    /// A host is evaluated: how it stands to others is known, or it is none of the hosts after all.
    pub(crate) fn known(&self, host: Option<&Host>) {
        self.0.send_modify(|hosts| {
            hosts.unknown = hosts.unknown.saturating_sub(1);
            if let Some(host) = host {
                let placed = Placed { tags: host.tags.clone(), after: host.after.clone() };
                hosts.placed.insert(host.name.clone(), placed);
            }
        });
    }

    /// A host could not be evaluated: who names it waits in vain.
    pub(crate) fn lost(&self, host: &HostName, outcome: &Outcome) {
        self.0.send_modify(|hosts| {
            hosts.unknown = hosts.unknown.saturating_sub(1);
            hosts.placed.insert(host.clone(), Placed::default());
            hosts.ended.insert(host.clone(), Err(how(outcome)));
        });
    }

    /// A host is through.
    pub(crate) fn ended(&self, host: &HostName, outcome: &Outcome) {
        let ended = if outcome.is_settled() { Ok(()) } else { Err(how(outcome)) };
        self.0.send_modify(|hosts| _ = hosts.ended.entry(host.clone()).or_insert(ended));
    }

    /// Waits until all hosts are known, and says whether there is an order in which they can go.
    pub(crate) async fn settle(&self, host: &Host) -> Result<(), Outcome> {
        if host.after.is_empty() {
            return Ok(());
        }
        let order = self.order().await;
        let hint = || Some("one of them has to go first: mend its `deployment.after`".to_owned());
        match order {
            Err(cycle) if cycle.0.contains(&host.name) => {
                Err(Outcome::failed(Stage::Evaluate, cycle.to_string(), hint()))
            }
            _ => Ok(()),
        }
    }

    /// Waits until all hosts have ended that go before this one; `Err` where it is not to be touched.
    pub(crate) async fn pass(&self, host: &Host) -> Result<(), Outcome> {
        if host.after.is_empty() {
            return Ok(());
        }
        // Where others are in a circle, whoever goes after them does not wait for them for ever: they have failed.
        let order = self.order().await.unwrap_or_default();
        let mut hosts = self.0.subscribe();
        loop {
            let turn = hosts.borrow_and_update().turn(&order, &host.name);
            match turn {
                Turn::Go => return Ok(()),
                Turn::Stay(first, how) => return Err(Outcome::Waits { host: first, how }),
                Turn::Wait => {
                    // The sender is here, so it can't be gone.
                    let _ = hosts.changed().await;
                }
            }
        }
    }

    async fn order(&self) -> Result<Order, Cycle> {
        let mut hosts = self.0.subscribe();
        loop {
            if let Some(order) = hosts.borrow_and_update().order() {
                return order;
            }
            let _ = hosts.changed().await;
        }
    }
}

/// How a host ended that others waited for, behind its name.
fn how(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reverted { .. } => "was reverted".into(),
        Outcome::Refused { .. } => "refused".into(),
        Outcome::Inconclusive { .. } => "came to no end that is known".into(),
        Outcome::Offline { .. } => "could not be reached".into(),
        Outcome::Failed { stage, .. } => format!("failed while {}", stage.doing()),
        Outcome::Interrupted { .. } => "was interrupted".into(),
        _ => "was not deployed".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bosco_model::{Goal, Selector};

    use super::*;

    fn host(name: &str, after: &[&str]) -> Host {
        let after = after.iter().map(|text| Selector::parse(text).unwrap()).collect();
        Host { after, ..Host::new(HostName::parse(name).unwrap(), "x86_64-linux") }
    }

    fn failed() -> Outcome {
        Outcome::failed(Stage::Copy, "", None)
    }

    #[tokio::test]
    async fn a_host_goes_when_those_before_it_have_ended_well() {
        let sequence = Arc::new(Sequence::new(2));
        let (db, web) = (host("db", &[]), host("web", &["db"]));
        sequence.known(Some(&web));
        let waiting = tokio::spawn({
            let (sequence, web) = (Arc::clone(&sequence), web.clone());
            async move { sequence.pass(&web).await }
        });
        sequence.known(Some(&db));
        sequence.pass(&db).await.unwrap();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "it went before the other had ended");
        sequence.ended(&db.name, &Outcome::UpToDate { goal: Goal::Switch });
        assert_eq!(waiting.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn a_host_stays_as_it_is_where_one_before_it_failed_and_so_do_those_behind_it() {
        let sequence = Sequence::new(3);
        let (db, web, cache) = (host("db", &[]), host("web", &["db"]), host("cache", &["web"]));
        [&db, &web, &cache].into_iter().for_each(|one| sequence.known(Some(one)));
        sequence.ended(&db.name, &failed());
        let came = sequence.pass(&web).await.unwrap_err();
        assert_eq!(came.words(), "not deployed: waits for db, which failed while copying");
        sequence.ended(&web.name, &came);
        let came = sequence.pass(&cache).await.unwrap_err();
        assert_eq!(came.words(), "not deployed: waits for web, which was not deployed");
    }

    #[tokio::test]
    async fn hosts_in_a_circle_fail_with_its_name_and_others_do_not_wait_for_ever() {
        let sequence = Sequence::new(4);
        let (a, b, c) = (host("a", &["b"]), host("b", &["a"]), host("c", &["a"]));
        [&a, &b, &c].into_iter().for_each(|one| sequence.known(Some(one)));
        sequence.known(None);
        let came = sequence.settle(&a).await.unwrap_err();
        assert!(came.words().contains("a after b after a"), "{}", came.words());
        assert!(came.is_unbuilt(), "it holds back the others");
        assert_eq!(sequence.settle(&c).await, Ok(()));
        sequence.pass(&c).await.unwrap();
    }

    #[tokio::test]
    async fn one_that_can_not_be_evaluated_is_waited_for_in_vain() {
        let sequence = Sequence::new(2);
        let web = host("web", &["db"]);
        sequence.known(Some(&web));
        sequence.lost(&HostName::parse("db").unwrap(), &Outcome::failed(Stage::Evaluate, "", None));
        assert!(sequence.pass(&web).await.unwrap_err().words().contains("failed while evaluating"));
    }
}
