//! Reading what a host answers. Pure, and distrustful: the other side may be broken or hostile.

use bosco_activation::Told;
use bosco_model::{
    Digest, Generation, Generations, HIGHEST, Hold, Kernel, Number, Observed, Profile, ProfileAt,
    ProfileName, StorePath, UserName,
};
use thiserror::Error;

/// How many systems a host may say that it has in quarantine.
const MAX_QUARANTINED: usize = 100;

/// Of how many profiles a host may speak.
const MAX_PROFILES: usize = 100;

/// An answer that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unreadable(pub(crate) String);

/// One line of an answer: `KEY VALUE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    /// The answer ends; with 0, all went well.
    Done(i32),
    /// Something that a program on the host said.
    Log(&'a str),
    /// Anything else.
    Fact(&'a str, &'a str),
}

pub(crate) fn line(text: &str) -> Result<Line<'_>, Unreadable> {
    let (key, value) = text.split_once(' ').unwrap_or((text, ""));
    match key {
        "done" => value.parse().map(Line::Done).map_err(|_| Unreadable(format!("`done {value}`"))),
        "log" => Ok(Line::Log(value)),
        _ => Ok(Line::Fact(key, value)),
    }
}

/// Adds one fact to what is known of a host. A key that is not known is left alone: a newer host may say more.
pub(crate) fn observe(observed: &mut Observed, key: &str, value: &str) {
    // What is no store path is as good as not there: /run/current-system is missing on a machine that is not NixOS.
    let path = || StorePath::parse(value).ok();
    match key {
        "system" => observed.system = Some(machine(value)),
        "nixos" => observed.nixos = true,
        "nix" => observed.nix = true,
        "boot" => observed.boot = Some(value.to_owned()),
        "booted" => observed.booted = path(),
        "current" => observed.current = path(),
        "profile" => observed.profile = path(),
        "profile-at" if observed.profiles.len() < MAX_PROFILES => {
            let at = profile(value)
                .and_then(|(profile, path)| Some(ProfileAt { profile, path: StorePath::parse(path).ok()? }));
            observed.profiles.extend(at);
        }
        "specialisation" => observed.specialisation = Some(value.to_owned()),
        "boots" => observed.boots = path(),
        "activity" => observed.activity = serde_json::from_str(value).ok(),
        "number" => observed.number = number(value).unwrap_or_default(),
        "hold" => {
            let hold: Option<Hold> = serde_json::from_str(value).ok();
            observed.hold = hold.filter(|hold| hold.number <= HIGHEST);
        }
        "secrets" => observed.secrets = Digest::parse(value).ok(),
        "host-key" => observed.host_key = host_key(value),
        "unprotected" if observed.unprotected.len() < 10 => observed.unprotected.push(value.to_owned()),
        "quarantined" if observed.quarantined.len() < MAX_QUARANTINED => {
            let (path, why) = value.split_once(' ').unwrap_or((value, ""));
            observed.quarantined.extend(StorePath::parse(path).ok().map(|path| (path, why.to_owned())));
        }
        "pushed" => observed.pushed = path(),
        "activating" => observed.activating = true,
        "has-toplevel" => observed.has_toplevel = true,
        "has-helper" => observed.has_helper = true,
        "keeps-helper" => observed.keeps_helper = true,
        "booted-kernel" => part(&mut observed.booted_kernel, value),
        "current-kernel" => part(&mut observed.current_kernel, value),
        "free" => observed.free = value.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024)),
        _ => {}
    }
}

/// A number that there can be: one that a host makes up must not be the last.
fn number(value: &str) -> Option<Number> {
    value.parse().ok().filter(|number| *number <= HIGHEST)
}

/// A line as in `ssh_host_ed25519_key.pub`, without its comment.
fn host_key(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (kind, key) = (words.next()?, words.next()?);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    (kind == "ssh-ed25519" && key.len() <= 200 && key.bytes().all(plain)).then(|| format!("{kind} {key}"))
}

/// One generation: `NUMBER TIME TOPLEVEL VERSION`. What can't be read is none that anybody could go back to.
pub(crate) fn generation(value: &str) -> Option<Generation> {
    let mut words = value.splitn(4, ' ');
    let number = words.next()?.parse().ok()?;
    let made = words.next()?.parse().ok()?;
    let toplevel = StorePath::parse(words.next()?).ok()?;
    let version = words.next().map(str::trim).filter(|version| !version.is_empty()).map(str::to_owned);
    Some(Generation { number, made, toplevel, version })
}

/// `USER NAME` of a profile, and what stands behind them.
fn profile(value: &str) -> Option<(Profile, &str)> {
    let (user, rest) = value.split_once(' ')?;
    let (name, rest) = rest.split_once(' ')?;
    let (user, name) = (UserName::parse(user).ok()?, ProfileName::parse(name).ok()?);
    Some((Profile { name, user, place: None }, rest))
}

/// Generations as they are listed.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    system: OfOne,
    others: Vec<(Profile, OfOne)>,
}

/// Those of one profile.
#[derive(Debug, Default)]
struct OfOne {
    all: Vec<Generation>,
    present: Option<u32>,
}

impl Listed {
    /// Takes one fact of an answer.
    pub(crate) fn take(&mut self, key: &str, value: &str) {
        match key {
            "present" => self.system.present = value.parse().ok(),
            "generation" => self.system.all.extend(generation(value)),
            "present-of" | "generation-of" => {
                let Some((profile, value)) = profile(value) else { return };
                let is = |(other, _): &(Profile, _)| profile.is(other);
                let at = self.others.iter().position(is).unwrap_or(self.others.len());
                if at == self.others.len() && at < MAX_PROFILES {
                    self.others.push((profile, OfOne::default()));
                }
                let Some((_, listed)) = self.others.get_mut(at) else { return };
                match key {
                    "present-of" => listed.present = value.parse().ok(),
                    _ => listed.all.extend(generation(value)),
                }
            }
            _ => {}
        }
    }

    /// All that was listed: of the system, and of each other profile.
    pub(crate) fn generations(self) -> (Generations, Vec<(Profile, Generations)>) {
        let of = |listed: OfOne| Generations::new(listed.all, listed.present);
        (of(self.system), self.others.into_iter().map(|(profile, listed)| (profile, of(listed))).collect())
    }
}

/// What `uname -m` calls a machine, in Nix's words.
fn machine(uname: &str) -> String {
    match uname {
        "i386-linux" | "i486-linux" | "i586-linux" => "i686-linux",
        "armv8l-linux" => "armv7l-linux",
        other => other,
    }
    .to_owned()
}

fn part(kernel: &mut Kernel, value: &str) {
    // Four parts are asked for; more are not kept.
    if kernel.0.len() < 4 {
        kernel.0.push(value.to_owned());
    }
}

/// Reads what a host tells of an activation.
pub(crate) fn told(value: &str) -> Result<Told, Unreadable> {
    serde_json::from_str(value).map_err(|error| Unreadable(format!("`told`: {error}")))
}

#[cfg(test)]
mod tests {
    use bosco_model::Profiles;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_host_says_is_read() {
        let mut observed = Observed::default();
        let path = format!("/nix/store/{}-nixos-system-web", "0".repeat(32));
        let hold = format!(r#"{{"number":7,"toplevel":"{path}"}}"#);
        for (key, value) in [
            ("system", "x86_64-linux"),
            ("nixos", "yes"),
            ("nix", "2.26.3"),
            ("current", path.as_str()),
            ("booted", "/run/booted-system"),
            ("booted-kernel", "/nix/store/k"),
            ("free", "1024"),
            ("number", "7"),
            ("hold", hold.as_str()),
            ("tomorrow", "more"),
        ] {
            observe(&mut observed, key, value);
        }
        assert_eq!(observed.current, Some(StorePath::parse(&path).unwrap()));
        assert_eq!(observed.booted, None, "what is no store path is not known");
        assert_eq!((observed.nixos, observed.free), (true, Some(1024 * 1024)));
        assert_eq!(observed.booted_kernel, Kernel(vec!["/nix/store/k".into()]));
        let toplevel = StorePath::parse(&path).unwrap();
        assert_eq!(
            (observed.number, observed.hold),
            (7, Some(Hold { number: 7, toplevel, profiles: Profiles::default() }))
        );
    }

    #[test]
    fn profiles_and_their_generations_are_told_apart() {
        let path = format!("/nix/store/{}-app", "0".repeat(32));
        let mut observed = Observed::default();
        observe(&mut observed, "profile-at", &format!("ada app {path}"));
        observe(&mut observed, "profile-at", "ada other /home/ada/none");
        observe(&mut observed, "profile-at", &format!("a;b app {path}"));
        assert_eq!(observed.profiles.len(), 1);
        let mut listed = Listed::default();
        for (key, value) in [
            ("present", "7".to_owned()),
            ("generation", format!("7 100 {path} 26.05")),
            ("generation-of", format!("ada app 1 100 {path} ")),
            ("generation-of", format!("ada app other-2 100 {path} ")),
            ("present-of", "ada app 1".to_owned()),
            ("present-of", "ada".to_owned()),
        ] {
            listed.take(key, &value);
        }
        let (system, others) = listed.generations();
        assert_eq!((system.all().len(), others.len()), (1, 1));
        let (profile, generations) = &others[0];
        assert!(profile.is(&observed.profiles[0].profile));
        assert_eq!(generations.all().len(), 1, "another profile's is none of its own");
        assert!(generations.is_present(&generations.all()[0]));
    }

    #[test]
    fn a_number_that_would_be_the_last_is_not_believed() {
        let path = format!("/nix/store/{}-nixos-system-web", "0".repeat(32));
        for number in ["18446744073709551615", "9007199254740993", "-1", "7.5", "many", ""] {
            let mut observed = Observed::default();
            observe(&mut observed, "number", number);
            observe(&mut observed, "hold", &format!(r#"{{"number":{number},"toplevel":"{path}"}}"#));
            assert_eq!(observed, Observed::default(), "{number}");
        }
    }

    #[test]
    fn what_is_told_of_an_activation_is_read_or_refused() {
        assert_eq!(
            told(r#"{"told":"waiting","seconds":5,"token":"x"}"#),
            Ok(Told::Waiting { seconds: 5, token: "x".into() })
        );
        for wrong in ["", "{}", r#"{"told":"dance"}"#, r#"{"told":"waiting","seconds":-1}"#] {
            assert!(told(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_host_says_makes_reading_it_panic(text in "(done|log|told|activity|free|current|number|hold|profile-at|generation-of) ?\\PC{0,40}") {
            let mut observed = Observed::default();
            if let Ok(Line::Fact(key, value)) = line(&text) {
                observe(&mut observed, key, value);
                let _ = told(value);
            }
        }
    }
}
