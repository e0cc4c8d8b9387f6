//! How a session begins: with a shell on the host, as root, that runs a program which the connection brings.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bosco_model::Target;
use bosco_secrets::Secret;
use bosco_wire::{Ssh, Trouble, Wire, quote};
use tokio::time::Instant;

use crate::session::Error;

/// What the program says first. What a login script prints before it is passed over.
const GREETING: &str = "bosco 1";
/// What is said before that by a host whose sudo may ask: it does not, or has its answer.
const ROOT: &str = "bosco is root";
/// What sudo asks with: it says so beside the answer, in these words, whatever language it speaks otherwise.
const PROMPT: &str = "bosco needs the password of sudo";
/// How much a login script may print, in lines.
const MAX_CHATTER: usize = 1000;
/// How long a host may take to connect and to begin to speak. A key's passphrase or touch is within it.
const GREET: Duration = Duration::from_secs(120);

/// Whose sessions they are: with which `ssh` they connect, and how they become root.
#[derive(Debug, Clone)]
pub struct Operator {
    /// How they connect.
    pub ssh: Ssh,
    /// How they become root where the host wants a password for that.
    pub sudo: Sudo,
}

impl Operator {
    /// The same, but every connection is one of its own, whatever the operator's ssh shares.
    pub(crate) fn fresh(&self) -> Self {
        Self { ssh: self.ssh.fresh(), sudo: self.sudo.clone() }
    }
}

/// What an operator is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The host whose sudo wants the password, as it is reached.
    pub target: String,
    /// Whether it has just refused one.
    pub again: bool,
}

/// What the operator answers; `None` where they give none.
pub type Answer = Pin<Box<dyn Future<Output = Option<Secret>> + Send>>;

/// The password of the operator's user for `sudo`, which is asked for once, when the first host wants it. It goes to that
/// host's sudo over the connection, and is kept in memory for the other hosts and connections of this command.
#[derive(Clone, Default)]
pub struct Sudo {
    ask: Option<Arc<dyn Fn(Asked) -> Answer + Send + Sync>>,
    password: Arc<tokio::sync::Mutex<Password>>,
    /// The hosts that have asked, as they are reached.
    wanting: Arc<Mutex<HashSet<String>>>,
}

/// What is known of the password.
#[derive(Default)]
enum Password {
    /// Nobody has needed it, or the last one was wrong.
    #[default]
    Unknown,
    /// It was entered, and no host has taken it yet.
    Entered(Secret),
    /// A host has taken it.
    Proven(Secret),
    /// The operator does not give it.
    Withheld,
}

impl Password {
    /// What is known once a host was given one; `again` is whether it had refused another one before. sudo asks some times, and
    /// ends; or it takes the password, and there is another trouble.
    fn after(entered: Secret, came: &Came, again: bool) -> Self {
        match (came, again) {
            (Came::Root, _) => Self::Proven(entered),
            (Came::Asked, _) | (Came::Wrong, false) | (Came::Gone, true) => Self::Unknown,
            (Came::Wrong, true) => Self::Withheld,
            (Came::Gone, false) => Self::Entered(entered),
        }
    }
}

/// What came of a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// The shell is root.
    Root,
    /// It is asked for once more.
    Asked,
    /// sudo has ended, as it was wrong.
    Wrong,
    /// The connection has ended, and does not say that.
    Gone,
}

impl Came {
    fn of(heard: &Result<Heard, Error>) -> Self {
        match heard {
            Ok(Heard::Root) => Self::Root,
            Ok(Heard::Prompt) => Self::Asked,
            Err(Error::Wire(wire)) if wire.trouble == Trouble::WrongPassword => Self::Wrong,
            Err(_) => Self::Gone,
        }
    }
}

/// What a host says that may ask for the password.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    Root,
    Prompt,
}

impl fmt::Debug for Sudo {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sudo").finish_non_exhaustive()
    }
}

impl Sudo {
    /// For an operator who can be asked.
    pub fn asking(ask: impl Fn(Asked) -> Answer + Send + Sync + 'static) -> Self {
        Self { ask: Some(Arc::new(ask)), ..Self::default() }
    }

    /// Whether a password may be what is lacking to become root there.
    fn helps(&self, target: &Target) -> bool {
        self.ask.is_some() && is_sudo(target)
    }

    /// Whether the host is known to want it.
    fn is_wanted(&self, target: &Target) -> bool {
        self.wanting.lock().unwrap_or_else(PoisonError::into_inner).contains(&target.display())
    }

    /// Waits until the shell there is root, and gives its sudo the password if that asks for it. Hosts that want it wait for
    /// the first one to take it, so that a wrong one is not tried everywhere.
    async fn become_root(&self, wire: &mut Wire, target: &Target) -> Result<(), Error> {
        if heard(wire).await? == Heard::Root {
            return Ok(());
        }
        self.wanting.lock().unwrap_or_else(PoisonError::into_inner).insert(target.display());
        let mut password = self.password.lock().await;
        if let Password::Proven(proven) = &*password {
            let proven = proven.clone();
            drop(password);
            give(wire, &proven).await;
            return match heard(wire).await? {
                Heard::Root => Ok(()),
                Heard::Prompt => Err(wire.trouble(Trouble::WrongPassword, "").into()),
            };
        }
        let mut again = false;
        loop {
            let entered = match &*password {
                Password::Entered(entered) | Password::Proven(entered) => Some(entered.clone()),
                Password::Unknown => match &self.ask {
                    Some(ask) => ask(Asked { target: target.display(), again }).await,
                    None => None,
                },
                Password::Withheld => None,
            };
            let Some(entered) = entered else {
                *password = Password::Withheld;
                return Err(wire.trouble(Trouble::NoRoot, "sudo's password was not given").into());
            };
            give(wire, &entered).await;
            let heard = heard(wire).await;
            *password = Password::after(entered, &Came::of(&heard), again);
            match heard {
                Ok(Heard::Root) => return Ok(()),
                Ok(Heard::Prompt) => {}
                Err(error) => return Err(error),
            }
            again = true;
        }
    }
}

/// Whether sudo is what makes users root there.
fn is_sudo(target: &Target) -> bool {
    let program = target.privilege.0.first().map(Path::new).and_then(Path::file_name);
    program.is_some_and(|name| name == "sudo")
}

/// Gives sudo the password: a line of its own.
async fn give(wire: &mut Wire, password: &Secret) {
    wire.send(password.expose()).await;
    wire.send(b"\n").await;
}

/// Waits until the shell there is root, or is asked for the password.
async fn heard(wire: &mut Wire) -> Result<Heard, Error> {
    let deadline = Instant::now() + GREET;
    for _ in 0..MAX_CHATTER {
        match wire.line_or(PROMPT, deadline).await? {
            Some(line) if line.ends_with(ROOT) => return Ok(Heard::Root),
            Some(_) => {}
            None => return Ok(Heard::Prompt),
        }
    }
    Err(wire.trouble(Trouble::Garbled, "it prints without end").into())
}

/// Connects, and starts a program there, as root.
///
/// # Errors
/// [`Error::Wire`] with what the trouble comes down to.
pub(crate) async fn begin(operator: &Operator, target: &Target, program: &str) -> Result<Wire, Error> {
    let Operator { ssh, sudo } = operator;
    // On this machine sudo would find the terminal by itself, and ask in the midst of what is shown there.
    let asks = sudo.helps(target) && (ssh.is_here() || sudo.is_wanted(target));
    if !asks {
        let wire = ssh.connect(target, &bootstrap(target, program.len(), false))?;
        match greeted(wire, program).await {
            Err(Error::Wire(error)) if error.trouble == Trouble::NoRoot && sudo.helps(target) => {}
            came => return came,
        }
    }
    let mut wire = ssh.connect(target, &bootstrap(target, program.len(), true))?;
    sudo.become_root(&mut wire, target).await?;
    greeted(wire, program).await
}

/// Sends the program, and waits until it speaks.
async fn greeted(mut wire: Wire, program: &str) -> Result<Wire, Error> {
    wire.send(program.as_bytes()).await;
    let deadline = Instant::now() + GREET;
    let mut chatter = 0;
    // A login script may leave a line without an end before the greeting.
    while !wire.line(deadline).await?.ends_with(GREETING) {
        chatter += 1;
        if chatter > MAX_CHATTER {
            return Err(wire.trouble(Trouble::Garbled, "it prints without end").into());
        }
    }
    match wire.line(deadline).await?.strip_prefix("user ") {
        Some("0") => Ok(wire),
        Some(user) => Err(wire.trouble(Trouble::NoRoot, &format!("it runs commands as user {user}")).into()),
        None => Err(wire.trouble(Trouble::Garbled, "it does not say who it is").into()),
    }
}

/// The command that reads the program from the connection and runs it, as root. It is short, and means the same to all of
/// POSIX's shells and to fish, as long as no word of `privilege` has a quote in it.
///
/// Where sudo may ask, it reads the password from the connection and nothing more, and the shell says so before it reads
/// the program: so the password never is taken for a part of that, whether it was asked for or not.
fn bootstrap(target: &Target, length: usize, may_ask: bool) -> String {
    let mut words = target.privilege.0.clone();
    if may_ask && !words.is_empty() {
        words.splice(1..1, ["-S", "-p", PROMPT].map(str::to_owned));
    }
    let escalation: String = words.iter().map(|word| format!("{} ", quote(word))).collect();
    let become_root = if escalation.is_empty() {
        String::new()
    } else {
        format!("if [ \"$(id -u)\" -ne 0 ]; then set -- {escalation}; fi; ")
    };
    let path = "PATH=$PATH:/run/current-system/sw/bin:/usr/bin:/bin";
    let tell = if may_ask { format!("echo {ROOT}; ") } else { String::new() };
    let read = format!("{path}; {tell}eval \"$(head -c {length})\"");
    format!(
        "exec /bin/sh -c {}",
        quote(&format!("{path}; {become_root}exec \"$@\" /bin/sh -c {}", quote(&read)))
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use bosco_model::Privilege;

    use super::*;

    fn target(privilege: &[&str]) -> Target {
        Target {
            host: "web".into(),
            user: None,
            port: None,
            ssh_options: Vec::new(),
            privilege: Privilege(privilege.iter().map(ToString::to_string).collect()),
        }
    }

    /// What a login shell makes of the command, with `program` on its input.
    fn run(shell: &str, may_ask: bool, program: &str) -> String {
        let mut child = Command::new(shell)
            .args(["-c", &bootstrap(&target(&[]), program.len(), may_ask)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn the_program_reaches_the_hosts_shell_whatever_is_in_it() {
        let program = "printf '%s\\n' \"it's $((1 + 1))\" '\\' 'a  b'\nprintf 'c\\n'";
        for shell in ["sh", "bash"] {
            assert_eq!(run(shell, false, program), "it's 2\n\\\na  b\nc\n", "{shell}");
            assert_eq!(run(shell, true, program), format!("{ROOT}\nit's 2\n\\\na  b\nc\n"), "{shell}");
        }
    }

    #[test]
    fn a_password_is_kept_until_a_host_refuses_it_and_asked_for_no_more_where_it_is_refused_for_good() {
        let after = |came, again| match Password::after(Secret::new(b"x".to_vec()), &came, again) {
            Password::Unknown => "asked for",
            Password::Entered(_) => "tried elsewhere",
            Password::Proven(_) => "given to all",
            Password::Withheld => "given up",
        };
        for (came, first, again) in [
            (Came::Root, "given to all", "given to all"),
            (Came::Asked, "asked for", "asked for"),
            (Came::Wrong, "asked for", "given up"),
            (Came::Gone, "tried elsewhere", "asked for"),
        ] {
            assert_eq!((after(came, false), after(came, true)), (first, again), "{came:?}");
        }
    }

    #[test]
    fn a_password_is_for_sudo_alone_and_only_where_somebody_can_be_asked() {
        let asking = Sudo::asking(|_| Box::pin(async { None }));
        for (privilege, helps) in [
            (&["sudo", "-H", "--"][..], true),
            (&["/run/wrappers/bin/sudo", "-u", "root"], true),
            (&["doas"], false),
            (&[], false),
        ] {
            assert_eq!(asking.helps(&target(privilege)), helps, "{privilege:?}");
            assert!(!Sudo::default().helps(&target(privilege)), "nobody is there to be asked");
        }
        let command = bootstrap(&target(&["sudo", "-H", "--"]), 10, true);
        let words = format!("'sudo' '-S' '-p' '{PROMPT}' '-H' '--' ");
        assert!(command.contains(&words.replace('\'', r"'\''")), "{command}");
    }
}
