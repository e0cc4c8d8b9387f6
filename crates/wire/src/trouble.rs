//! Why a connection could not be had, read from what `ssh` says. Pure.

use thiserror::Error;

/// A connection that could not be had, or broke.
#[derive(Debug, Clone, Error)]
#[error("{trouble}{}", detail(.said))]
pub struct Error {
    /// What it comes down to.
    pub trouble: Trouble,
    /// The last that `ssh` said, as far as the trouble's own words leave anything out.
    pub said: String,
    /// How to reach the host, for hints.
    pub target: String,
}

/// What a failed connection comes down to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Trouble {
    /// The `ssh` program is missing.
    #[error("`ssh` was not found")]
    NoSsh,
    /// The name means no address.
    #[error("its name can't be resolved")]
    UnknownName,
    /// Nothing answered in time.
    #[error("it does not answer")]
    NoAnswer,
    /// The network has no way there.
    #[error("there is no route to it")]
    NoRoute,
    /// The machine is there, sshd is not.
    #[error("it refuses the connection")]
    Refused,
    /// Its key is not the known one.
    #[error("its host key is not the one that is known")]
    OtherHostKey,
    /// Its key is not known, and nobody is there to be asked.
    #[error("its host key is not known")]
    UnknownHostKey,
    /// It does not take the operator's key.
    #[error("it does not let this user in")]
    Denied,
    /// The user there may not become root, or not without a password.
    #[error("this user can't become root there")]
    NoRoot,
    /// What makes its users root does not take the operator's password.
    #[error("`sudo` there does not take the password")]
    WrongPassword,
    /// The connection was there and is not any more.
    #[error("the connection was lost")]
    Lost,
    /// It connects, and then says nothing.
    #[error("it is connected and says nothing")]
    Silent,
    /// It can be reached only through another machine, which does not pass anything on to it.
    #[error("what is before it does not pass on to it")]
    NotPassed,
    /// The operator stopped `ssh`, as a Ctrl-C at the terminal does.
    #[error("it was stopped from here")]
    Stopped,
    /// Something connects, but does not speak as it should.
    #[error("it gave an answer that can't be read")]
    Garbled,
    /// Anything else.
    #[error("ssh failed")]
    Other,
}

/// How many of the last lines are looked at.
const RECENT: usize = 16;

impl Trouble {
    /// Whether the host may simply be switched off or away, as laptops are.
    #[must_use]
    pub fn is_offline(self) -> bool {
        matches!(self, Self::NoAnswer | Self::NoRoute | Self::Refused | Self::UnknownName | Self::NotPassed)
    }

    /// Whether the trouble's own words say all that there is to say.
    fn is_plain(self) -> bool {
        !matches!(self, Self::Other | Self::Denied | Self::NoRoot | Self::Garbled)
    }

    /// Reads what `ssh` said before it ended.
    #[must_use]
    pub fn read(said: &str) -> Self {
        // The order matters: a changed key is also a failed verification. The words are OpenSSH's (sshconnect.c,
        // ssh.c, packet.c, clientloop.c), those of libc for errno, and sudo's.
        const SIGNS: [(&str, Trouble); 23] = [
            ("Killed by signal 2", Trouble::Stopped),
            ("stdio forwarding failed", Trouble::NotPassed),
            ("REMOTE HOST IDENTIFICATION HAS CHANGED", Trouble::OtherHostKey),
            ("host key is revoked", Trouble::OtherHostKey),
            ("Host key verification failed", Trouble::UnknownHostKey),
            ("Could not resolve hostname", Trouble::UnknownName),
            ("Connection refused", Trouble::Refused),
            ("No route to host", Trouble::NoRoute),
            ("Network is unreachable", Trouble::NoRoute),
            ("Timeout, server", Trouble::Lost),
            (" timed out", Trouble::NoAnswer),
            ("Permission denied", Trouble::Denied),
            ("Too many authentication failures", Trouble::Denied),
            ("incorrect password attempt", Trouble::WrongPassword),
            ("sudo: ", Trouble::NoRoot),
            ("is not in the sudoers file", Trouble::NoRoot),
            ("doas: ", Trouble::NoRoot),
            ("closed by remote host", Trouble::Lost),
            ("Connection reset by", Trouble::Lost),
            ("Connection closed by", Trouble::Lost),
            ("Broken pipe", Trouble::Lost),
            ("send disconnect", Trouble::Lost),
            ("kex_exchange_identification", Trouble::Lost),
        ];
        // A banner or a login script may say anything before; the changed key is told in a box of many lines.
        let lines = said.lines().rev();
        let recent: Vec<&str> = lines.filter(|line| !line.trim().is_empty()).take(RECENT).collect();
        let is_said = |sign: &str| recent.iter().any(|line| line.contains(sign));
        SIGNS.iter().find(|(sign, _)| is_said(sign)).map_or(Self::Other, |(_, trouble)| *trouble)
    }
}

impl Error {
    /// An error from what `ssh` said before it ended.
    #[must_use]
    pub fn read(target: &str, said: &str) -> Self {
        Self::new(Trouble::read(said), target, said)
    }

    /// An error whose trouble is known.
    #[must_use]
    pub fn new(trouble: Trouble, target: &str, said: &str) -> Self {
        let said = if trouble.is_plain() { String::new() } else { last_lines(said) };
        Self { trouble, said, target: target.to_owned() }
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        let target = &self.target;
        match self.trouble {
            Trouble::NoSsh => "install OpenSSH's client, or add it to PATH".into(),
            Trouble::UnknownName => {
                format!(
                    "is `{target}` spelled right? Set `deployment.targetHost`, or add it to ~/.ssh/config"
                )
            }
            Trouble::NoAnswer | Trouble::NoRoute => {
                "is it switched on, and reachable from here? It is left as it is; try again when it is back"
                    .into()
            }
            Trouble::Refused => "is sshd running there, and is `deployment.targetPort` right?".into(),
            Trouble::OtherHostKey => format!(
                "if the machine was reinstalled, remove the old key with `ssh-keygen -R {target}` and connect once \
                 by hand; if not, somebody may be in between"
            ),
            Trouble::UnknownHostKey => {
                format!("connect once by hand, `ssh {target}`, and compare the fingerprint")
            }
            Trouble::Denied => {
                format!("`ssh {target}` has to work; is the key loaded (`ssh-add -l`) and allowed there?")
            }
            Trouble::NoRoot => {
                "log in as root, or allow the user `sudo`: without a password, or from a terminal, where \
                 bosco asks for it; `deployment.privilegeEscalationCommand` names another command"
                    .into()
            }
            Trouble::WrongPassword => {
                "is it another one there? A command for this host alone, with `--on`, asks for its own".into()
            }
            Trouble::NotPassed => {
                "is it switched on, and connected to its hub? `bosco status` says so".into()
            }
            Trouble::Lost | Trouble::Stopped => {
                "`bosco status` says where the host stands; try again to go on".into()
            }
            Trouble::Silent => format!(
                "does `ssh {target} true` end? It may be overloaded, or ask for a password where nobody sees it"
            ),
            Trouble::Garbled => {
                format!("does `ssh {target} true` print anything? A login script may be in the way")
            }
            Trouble::Other => format!("try `ssh -v {target}`"),
        }
    }
}

fn detail(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

/// The last lines that say something, on one line.
fn last_lines(said: &str) -> String {
    let lines: Vec<_> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let text = lines[lines.len().saturating_sub(3)..].join("; ");
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(500).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_trouble_is_told_from_what_ssh_says() {
        for (said, trouble) in [
            ("ssh: Could not resolve hostname nope: Name or service not known", Trouble::UnknownName),
            ("ssh: connect to host web port 22: Connection refused", Trouble::Refused),
            ("ssh: connect to host web port 22: Connection timed out", Trouble::NoAnswer),
            ("Connection timed out during banner exchange", Trouble::NoAnswer),
            ("ssh: connect to host web port 22: No route to host", Trouble::NoRoute),
            (
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
                Trouble::OtherHostKey,
            ),
            ("No ED25519 host key is known for web\nHost key verification failed.", Trouble::UnknownHostKey),
            ("root@web: Permission denied (publickey).", Trouble::Denied),
            ("sudo: a password is required", Trouble::NoRoot),
            ("Connection to web closed by remote host.", Trouble::Lost),
            ("client_loop: send disconnect: Broken pipe", Trouble::Lost),
            ("Timeout, server web not responding.", Trouble::Lost),
            (
                "channel 0: open failed: connect failed: not connected\nstdio forwarding failed\n\
                 Connection closed by UNKNOWN port 65535",
                Trouble::NotPassed,
            ),
            ("", Trouble::Other),
        ] {
            assert_eq!(Trouble::read(said), trouble, "{said}");
        }
    }

    #[test]
    fn a_host_that_may_be_switched_off_is_not_one_with_the_wrong_key() {
        assert!(Trouble::NoAnswer.is_offline() && Trouble::Refused.is_offline());
        assert!(!Trouble::OtherHostKey.is_offline() && !Trouble::Denied.is_offline());
    }

    #[test]
    fn what_is_not_known_is_passed_on_as_it_was_said() {
        let error = Error::read("web", "Bad configuration option: foo\n\x1b[31mline 3\n");
        assert_eq!(error.to_string(), "ssh failed: Bad configuration option: foo; [31mline 3");
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_a_trouble_panic(said in any::<String>()) {
            let _ = Error::read("x", &said).to_string();
        }
    }
}
