//! Visits: somebody wants to reach the host's own sshd, through the hub. Each is a connection of its own.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosco_wire::api::SSHD;
use bosco_wire::link::Width;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

use crate::agent::Agent;

/// How many there may be at once.
pub(crate) const MOST: usize = 16;
/// How many are remembered: a hub that asks for one twice gets it once.
const REMEMBERED: usize = 64;
/// The longest name of one.
const LONGEST: usize = 100;
/// How long nothing may flow.
const IDLE: Duration = Duration::from_secs(3600);
/// How long the host's own sshd may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How much is read at once, in bytes.
const CHUNK: usize = 32 * 1024;

/// The visits of a host.
#[derive(Clone)]
pub(crate) struct Visits {
    places: Arc<Semaphore>,
    known: Arc<Mutex<VecDeque<String>>>,
}

impl Default for Visits {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MOST)), known: Arc::default() }
    }
}

impl Visits {
    /// Lets somebody in, in the background.
    pub(crate) fn open(&self, agent: &Arc<Agent>, visit: String) {
        if !is_name(&visit) || !self.is_new(&visit) {
            return;
        }
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            agent.say("there are too many visits at once");
            return;
        };
        let agent = Arc::clone(agent);
        tokio::spawn(async move {
            let _place = place;
            if let Err(why) = join(&agent, &visit).await {
                agent.say(&format!("a visit failed: {why}"));
            }
        });
    }

    fn is_new(&self, visit: &str) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.iter().any(|one| one == visit) {
            return false;
        }
        if known.len() >= REMEMBERED {
            known.pop_front();
        }
        known.push_back(visit.to_owned());
        true
    }
}

fn is_name(visit: &str) -> bool {
    (1..=LONGEST).contains(&visit.len())
        && visit.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

async fn join(agent: &Agent, visit: &str) -> Result<(), String> {
    // At the same address only: the hub says who comes, not where to.
    let connect = timeout(CONNECT, TcpStream::connect(&agent.config.sshd)).await;
    let connect = connect.map_err(|_| "the host's own sshd does not answer".to_owned())?;
    let sshd = connect.map_err(|error| format!("the host's own sshd: {error}"))?;
    let link = agent.connect("visit", Width::Wide).await.map_err(|error| error.to_string())?;
    let stream = link.open(&format!("visit-{visit}"), SSHD).await.map_err(|error| error.to_string())?;
    let joined = pipe(stream, sshd, IDLE).await;
    link.close().await;
    joined.map_err(|error| error.to_string())
}

/// Joins two streams until both directions have ended, one has failed, or nothing has flowed for so long.
async fn pipe<A, B>(a: A, b: B, idle: Duration) -> std::io::Result<()>
where
    A: AsyncRead + AsyncWrite,
    B: AsyncRead + AsyncWrite,
{
    let began = Instant::now();
    // When something last flowed, in milliseconds from then on.
    let last = AtomicU64::new(0);
    let elapsed = || u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let moved = || last.store(elapsed(), Ordering::Relaxed);
    let (mut from_a, mut to_a) = split(a);
    let (mut from_b, mut to_b) = split(b);
    let both = async {
        tokio::try_join!(copy(&mut from_a, &mut to_b, &moved), copy(&mut from_b, &mut to_a, &moved)).map(drop)
    };
    let silence = async {
        loop {
            let since = Duration::from_millis(elapsed().saturating_sub(last.load(Ordering::Relaxed)));
            let Some(left) = idle.checked_sub(since).filter(|left| !left.is_zero()) else { return };
            sleep(left).await;
        }
    };
    tokio::select! {
        ended = both => ended,
        () = silence => Ok(()),
    }
}

/// Copies one direction to its end, and passes the end on.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    moved: &impl Fn(),
) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).await?;
        moved();
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
        moved();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    #[tokio::test]
    async fn each_direction_ends_by_itself() {
        let (mut a, near) = duplex(16);
        let (far, mut b) = duplex(16);
        let joined = tokio::spawn(pipe(near, far, IDLE));
        a.write_all(b"a question").await.unwrap();
        a.shutdown().await.unwrap();
        let mut question = String::new();
        b.read_to_string(&mut question).await.unwrap();
        b.write_all(b"a rather longer answer").await.unwrap();
        b.shutdown().await.unwrap();
        let mut answer = String::new();
        a.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("a question", "a rather longer answer"));
        joined.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn silence_ends_a_visit() {
        let (_a, near) = duplex(16);
        let (far, _b) = duplex(16);
        let joined = timeout(Duration::from_secs(5), pipe(near, far, Duration::from_millis(20))).await;
        joined.unwrap().unwrap();
    }

    #[test]
    fn a_visit_that_is_asked_for_twice_is_one() {
        let visits = Visits::default();
        assert!(visits.is_new("a") && !visits.is_new("a") && visits.is_new("b"));
        assert!(is_name("0f-1") && !is_name("") && !is_name("a b") && !is_name(&"a".repeat(200)));
    }
}
