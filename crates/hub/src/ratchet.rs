//! Two machines with one key: told by what the hub gave the host last time, which only one of them can have. Pure.
//!
//! Each time that a host says hello it is given the next token. A host whose answer was lost still has the one before, and
//! that counts until the newer one was confirmed. What comes with an older one than that is another machine, or one that was
//! set back; what comes with a newer one than the hub remembers shows that the hub was set back.

use bosco_model::HostName;
use bosco_release::Digest;

/// What the hub remembers of a host's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ratchet {
    /// The number of the last token that was given out; 0: none yet.
    pub(crate) last: u64,
    /// Whether the host is known to have it.
    pub(crate) confirmed: bool,
}

/// What only the hub knows, so that nobody else makes tokens.
#[derive(Clone)]
pub(crate) struct Secret(pub(crate) Digest);

impl Secret {
    fn token(&self, host: &HostName, number: u64) -> String {
        let secret = self.0.as_bytes();
        let mark = Digest::of(&[secret, host.as_str().as_bytes(), b"\n", &number.to_le_bytes(), secret]);
        format!("{number}.{mark}")
    }

    /// The number of a token of this hub's, for this host.
    fn number(&self, host: &HostName, token: &str) -> Option<u64> {
        let number: u64 = token.split_once('.')?.0.parse().ok()?;
        // Both are digests of what nobody else knows: comparing them tells nothing in its time that helps.
        (self.token(host, number) == token).then_some(number)
    }
}

impl Ratchet {
    /// What is known of a host's tokens by a hub that has just begun: its last answer may not have arrived.
    pub(crate) fn remembered(last: u64) -> Self {
        Self { last, confirmed: false }
    }

    /// A host says hello with what it was given last. Gives what to give it now, and whether something is wrong.
    pub(crate) fn hello(
        self,
        secret: &Secret,
        host: &HostName,
        token: Option<&str>,
    ) -> (Self, String, Option<&'static str>) {
        let shown = token.and_then(|token| secret.number(host, token));
        let lost = self.last.saturating_sub(1);
        let alarm = match (token, shown) {
            (None, _) if self.last == 0 || (self.last == 1 && !self.confirmed) => None,
            (None, _) => Some(
                "it came without what the hub gave it last: it was set up anew, or two machines have its key",
            ),
            (Some(_), None) => Some(
                "it came with what this hub never gave it: two machines have its key, or the hub's own key is new",
            ),
            (_, Some(shown)) if shown >= self.last || (!self.confirmed && shown == lost) => None,
            _ => Some(
                "it came with what the hub gave it earlier, not last: two machines have its key, or it was set back to an older disk",
            ),
        };
        // Who is given the same one again may lose that answer, too, however often.
        let again = alarm.is_none() && self.last > 0 && shown.unwrap_or_default() < self.last;
        let next = if again { self.last } else { self.last.max(shown.unwrap_or_default()).saturating_add(1) };
        (Self { last: next, confirmed: false }, secret.token(host, next), alarm)
    }

    /// The host has gone on after its hello: it has what it was given.
    pub(crate) fn confirm(self) -> Self {
        Self { confirmed: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret() -> Secret {
        Secret(Digest::of(&[b"only the hub knows"]))
    }

    /// What can happen to one hello.
    #[derive(Debug, Clone, Copy)]
    enum Goes {
        Well,
        /// The answer does not arrive.
        Lost,
        /// The answer does not arrive, and the hub begins anew.
        LostByRestart,
        /// The hub has begun anew since the last one.
        Restarted,
    }

    proptest! {
        #[test]
        fn one_machine_gives_no_alarm_whatever_answers_are_lost(
            all in prop::collection::vec(
                prop_oneof![Just(Goes::Well), Just(Goes::Lost), Just(Goes::LostByRestart), Just(Goes::Restarted)],
                1..40,
            )
        ) {
            let (secret, host) = (secret(), HostName::parse("web").unwrap());
            let mut hub = Ratchet { last: 0, confirmed: true };
            let mut token: Option<String> = None;
            for goes in all {
                if matches!(goes, Goes::Restarted) {
                    hub = Ratchet::remembered(hub.last);
                }
                let (next, given, alarm) = hub.hello(&secret, &host, token.as_deref());
                prop_assert_eq!(alarm, None, "{:?} with {:?}", hub, token);
                hub = next;
                match goes {
                    Goes::Well | Goes::Restarted => {
                        token = Some(given);
                        hub = hub.confirm();
                    }
                    Goes::Lost => {}
                    Goes::LostByRestart => hub = Ratchet::remembered(hub.last),
                }
            }
        }

        #[test]
        fn two_machines_with_one_key_are_told_when_the_second_one_says_hello(before in 1_u32..10) {
            let (secret, host) = (secret(), HostName::parse("web").unwrap());
            let mut hub = Ratchet { last: 0, confirmed: true };
            let mut hello = |token: Option<&str>| {
                let (next, given, alarm) = hub.hello(&secret, &host, token);
                hub = next.confirm();
                (given, alarm)
            };
            let mut token = None;
            for _ in 0..before {
                token = Some(hello(token.as_deref()).0);
            }
            let copied = token.clone();
            let (_, alarm) = hello(token.as_deref());
            prop_assert_eq!(alarm, None);
            prop_assert!(hello(copied.as_deref()).1.is_some());
        }
    }
}
