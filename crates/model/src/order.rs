//! Which hosts go before which others. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use thiserror::Error;

use crate::{HostName, Selector, Tag};

/// What a host says of its place among others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placed {
    /// Its tags.
    pub tags: BTreeSet<Tag>,
    /// Whom it goes after.
    pub after: Vec<Selector>,
}

/// For each host those that it waits for; a way along it never comes back to where it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Order(BTreeMap<HostName, BTreeSet<HostName>>);

/// Hosts that wait for one another, each for the next one and the last one for the first.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("hosts wait for one another in a circle: {}", Circle(.0))]
pub struct Cycle(pub Vec<HostName>);

struct Circle<'a>(&'a [HostName]);

impl fmt::Display for Circle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().chain(self.0.first()).map(HostName::as_str);
        f.write_str(&names.collect::<Vec<_>>().join(" after "))
    }
}

impl Order {
    /// The order of these hosts, and the circles in it: whoever is in one waits for nobody, and those behind it wait for it as for
    /// all others. Whoever is not among the hosts is not waited for, and nobody waits for itself.
    #[must_use]
    pub fn of(hosts: &BTreeMap<HostName, Placed>) -> (Self, Vec<Cycle>) {
        let waits = |(name, placed): (&HostName, &Placed)| {
            let goes_first = |(other, its): &(&HostName, &Placed)| {
                *other != name && placed.after.iter().any(|selector| selector.matches(other, &its.tags))
            };
            // Most go after nobody.
            let first = if placed.after.is_empty() { None } else { Some(hosts.iter().filter(goes_first)) };
            (name.clone(), first.into_iter().flatten().map(|(other, _)| other.clone()).collect())
        };
        let mut order = Self(hosts.iter().map(waits).collect());
        let mut cycles = Vec::new();
        while let Some(cycle) = order.cycle() {
            order.0.extend(cycle.iter().map(|host| (host.clone(), BTreeSet::new())));
            cycles.push(Cycle(cycle));
        }
        (order, cycles)
    }

    /// Those that a host waits for.
    pub fn before(&self, host: &HostName) -> impl Iterator<Item = &HostName> {
        self.0.get(host).into_iter().flatten()
    }

    /// Hosts that wait for one another.
    fn cycle(&self) -> Option<Vec<HostName>> {
        // Who waits for nobody that is left goes, round by round; who stays waits for somebody who stays.
        let mut left: BTreeMap<&HostName, BTreeSet<&HostName>> =
            self.0.iter().map(|(host, first)| (host, first.iter().collect())).collect();
        loop {
            let gone: Vec<&HostName> =
                left.iter().filter(|(_, first)| first.is_empty()).map(|(host, _)| *host).collect();
            if gone.is_empty() {
                break;
            }
            for host in gone {
                left.remove(host);
                left.values_mut().for_each(|first| _ = first.remove(host));
            }
        }
        let mut way: Vec<&HostName> = vec![left.keys().next().copied()?];
        loop {
            let next = left.get(way.last()?)?.iter().next().copied()?;
            if let Some(at) = way.iter().position(|host| *host == next) {
                return Some(way[at..].iter().map(|host| (*host).clone()).collect());
            }
            way.push(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn host(name: &str) -> HostName {
        HostName::parse(name).unwrap()
    }

    /// Hosts with their tags and whom they go after.
    fn hosts(all: &[(&str, &[&str], &[&str])]) -> BTreeMap<HostName, Placed> {
        let placed = |tags: &[&str], after: &[&str]| Placed {
            tags: tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect(),
            after: after.iter().map(|text| Selector::parse(text).unwrap()).collect(),
        };
        all.iter().map(|(name, tags, after)| (host(name), placed(tags, after))).collect()
    }

    #[test]
    fn hosts_in_circles_wait_for_nobody_and_all_others_for_whom_they_name() {
        let (order, cycles) = Order::of(&hosts(&[
            ("a", &[], &["b"]),
            ("b", &[], &["a", "db"]),
            ("c", &[], &["d"]),
            ("d", &[], &["c"]),
            ("db", &[], &[]),
            ("web", &[], &["a", "db"]),
        ]));
        assert_eq!(cycles, [Cycle(vec![host("a"), host("b")]), Cycle(vec![host("c"), host("d")])]);
        let before = |name: &str| order.before(&host(name)).map(HostName::as_str).collect::<Vec<_>>();
        assert_eq!((before("web"), before("b")), (vec!["a", "db"], vec![]));
    }

    #[test]
    fn hosts_wait_for_those_they_name_and_those_with_a_tag_and_not_for_who_is_not_there() {
        let (order, _) = Order::of(&hosts(&[
            ("db-1", &["db"], &[]),
            ("db-2", &["db"], &["db-1"]),
            ("web", &[], &["@db", "elsewhere"]),
            ("all", &["db"], &["*-1"]),
        ]));
        let before = |name: &str| order.before(&host(name)).map(HostName::as_str).collect::<Vec<_>>();
        assert_eq!(before("db-1"), [""; 0]);
        assert_eq!(before("db-2"), ["db-1"]);
        assert_eq!(before("web"), ["all", "db-1", "db-2"]);
        assert_eq!(before("all"), ["db-1"]);
    }

    #[test]
    fn a_host_does_not_wait_for_itself() {
        assert_eq!(Order::of(&hosts(&[("db-1", &["db"], &["@db"])])).1, []);
    }

    #[test]
    fn a_circle_is_named() {
        let circle = hosts(&[("a", &[], &["b"]), ("b", &[], &["c"]), ("c", &[], &["b"]), ("d", &[], &[])]);
        let (_, cycles) = Order::of(&circle);
        assert_eq!(cycles[0].to_string(), "hosts wait for one another in a circle: b after c after b");
    }

    proptest! {
        #[test]
        fn there_is_an_order_or_a_circle_that_is_one(edges in prop::collection::vec((0_usize..8, 0_usize..8), 0..14)) {
            let names: Vec<String> = (0..8).map(|number| format!("h{number}")).collect();
            let mut all = hosts(&names.iter().map(|name| (name.as_str(), &[][..], &[][..])).collect::<Vec<_>>());
            for (one, other) in edges {
                let placed = all.get_mut(&host(&names[one])).unwrap();
                placed.after.push(Selector::parse(&names[other]).unwrap());
            }
            let (order, cycles) = Order::of(&all);
            // All come to their turn.
            let mut done = BTreeSet::new();
            for _ in 0..8 {
                let ready: Vec<_> =
                    all.keys().filter(|host| order.before(host).all(|first| done.contains(first))).collect();
                done.extend(ready);
            }
            prop_assert_eq!(done.len(), 8);
            for Cycle(circle) in &cycles {
                prop_assert!(circle.len() > 1);
                for (at, one) in circle.iter().enumerate() {
                    let next = &circle[(at + 1) % circle.len()];
                    prop_assert!(all[one].after.iter().any(|selector| selector.matches(next, &BTreeSet::new())));
                }
            }
            // Who is in none waits for all whom it names.
            for (one, placed) in all.iter().filter(|(one, _)| cycles.iter().all(|Cycle(circle)| !circle.contains(one))) {
                let named = placed.after.iter().flat_map(Selector::names).map(|name| host(&name)).filter(|other| other != one);
                prop_assert_eq!(order.before(one).cloned().collect::<BTreeSet<_>>(), named.collect::<BTreeSet<_>>());
            }
        }
    }
}
