//! Those who have come and have not said yet who they are. There is room for so many; where it is full, nobody who comes from
//! elsewhere waits for those that fill it: whoever has the most at the door loses the oldest of them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::timeout;

/// How many may be at it at once.
const MOST: usize = 512;
/// How many more may wait for their turn, all of them from where there are the most already.
const WAITING: usize = 2048;
/// How long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Those who are at the door.
pub(crate) struct Logins {
    most: usize,
    all: Mutex<All>,
    /// Somebody has left the door.
    left: Notify,
    waiting: Semaphore,
}

#[derive(Default)]
struct All {
    next: u64,
    /// By when they came: where from, and how to send them away.
    there: BTreeMap<u64, (Source, oneshot::Sender<()>)>,
    of: HashMap<Source, usize>,
}

/// Where somebody comes from, as far as it costs something to come from elsewhere: an address, or a network of IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Source(u64, bool);

impl Source {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(u64::from(address.to_bits()), false),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64, true),
        }
    }
}

/// A place at the door.
pub(crate) struct Turn {
    logins: Arc<Logins>,
    number: u64,
    /// Comes when somebody else needs the place.
    pub(crate) lost: oneshot::Receiver<()>,
}

impl Default for Logins {
    fn default() -> Self {
        Self::new(MOST)
    }
}

impl Logins {
    fn new(most: usize) -> Self {
        Self { most, all: Mutex::default(), left: Notify::new(), waiting: Semaphore::new(WAITING) }
    }

    /// A place for who comes from there. `None`: there is none to be had.
    pub(crate) async fn turn(self: &Arc<Self>, from: IpAddr) -> Option<Turn> {
        let source = Source::of(from);
        if let Some(turn) = self.take(source) {
            return Some(turn);
        }
        let _waits = self.waiting.try_acquire().ok()?;
        let wait = async {
            loop {
                let mut left = pin!(self.left.notified());
                left.as_mut().enable();
                if let Some(turn) = self.take(source) {
                    return turn;
                }
                left.await;
            }
        };
        timeout(PATIENCE, wait).await.ok()
    }

    fn take(self: &Arc<Self>, source: Source) -> Option<Turn> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.there.len() >= self.most {
            let own = all.of.get(&source).copied().unwrap_or_default();
            let (busiest, count) = all.of.iter().max_by_key(|(_, count)| **count)?;
            let (busiest, count) = (*busiest, *count);
            if own + 1 >= count {
                return None;
            }
            let oldest =
                all.there.iter().find(|(_, (from, _))| *from == busiest).map(|(number, _)| *number)?;
            if let Some(lost) = all.remove(oldest) {
                let _ = lost.send(());
            }
        }
        let number = all.next;
        all.next += 1;
        let (tell, lost) = oneshot::channel();
        all.there.insert(number, (source, tell));
        *all.of.entry(source).or_default() += 1;
        Some(Turn { logins: Arc::clone(self), number, lost })
    }
}

impl All {
    fn remove(&mut self, number: u64) -> Option<oneshot::Sender<()>> {
        let (source, tell) = self.there.remove(&number)?;
        if let Some(count) = self.of.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.of.remove(&source);
            }
        }
        Some(tell)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let removed = self.logins.all.lock().unwrap_or_else(PoisonError::into_inner).remove(self.number);
        if removed.is_some() {
            self.logins.left.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn who_fills_the_door_loses_the_oldest_to_who_comes_from_elsewhere() {
        let logins = Arc::new(Logins::new(4));
        let come = |from: &str| logins.take(Source::of(address(from)));
        let mut attacker = Vec::new();
        for number in 0..4 {
            attacker.push(come(&format!("2001:db8::{number}")).unwrap());
        }
        assert!(come("2001:db8::99").is_none(), "more of the same network wait");
        let first = come("192.0.2.1").unwrap();
        let second = come("::ffff:192.0.2.1").unwrap();
        let lost: Vec<bool> = attacker.iter_mut().map(|turn| turn.lost.try_recv().is_ok()).collect();
        assert_eq!(lost, [true, true, false, false], "the oldest go first");
        assert!(come("192.0.2.1").is_none(), "nobody gets more than the busiest so");
        drop((attacker, first, second));
        assert!(logins.all.lock().unwrap().of.is_empty());
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_of_who_has_left() {
        let logins = Arc::new(Logins::new(1));
        let first = logins.turn(address("192.0.2.1")).await.unwrap();
        let waiting = tokio::spawn({
            let logins = Arc::clone(&logins);
            async move { logins.turn(address("192.0.2.1")).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert!(waiting.await.unwrap());
    }
}
