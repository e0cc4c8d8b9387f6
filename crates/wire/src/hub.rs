//! The way to a hub, and through it to its hosts, for an operator: their own `ssh`, and keys that the fleet says. What their
//! `known_hosts` say of it counts for nothing.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bosco_model::{HostName, Target};
use tokio::io::{AsyncRead, AsyncWrite, join};
use tokio::net::TcpStream;
use tokio::process::{ChildStdin, ChildStdout};
use tokio::time::timeout;

use crate::api::{HTTP, SSHD};
use crate::process::Process;
use crate::{Error, Ssh, quote};

/// What the hub is called in a file of known keys: no host can be called that.
pub const ALIAS: &str = "bosco:hub";
/// Who an operator logs in as. The hub knows them by their key; this only keeps the local name out of it.
const USER: &str = "operator";

/// Where a hub is, and which keys are known of it and its hosts.
#[derive(Debug, Clone)]
pub struct Via {
    /// The name or address that it has.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// A file in the format of `known_hosts`: the hub as [`ALIAS`], hosts by their names.
    pub known_hosts: PathBuf,
}

/// A way into the hub: an `ssh -W`. It ends with the value.
#[derive(Debug)]
pub struct Tunnel {
    process: Process,
}

impl Ssh {
    /// Opens a way to the hub's HTTP. Whether it is there is seen by who uses it; where it is not, the tunnel knows
    /// [why](Tunnel::gone).
    ///
    /// # Errors
    /// Where `ssh` can't be started.
    pub fn tunnel(
        &self,
        via: &Via,
    ) -> Result<(Tunnel, impl AsyncRead + AsyncWrite + Send + Unpin + use<>), Error> {
        let (host, port) = HTTP;
        let display = format!("{}:{}", via.host, via.port);
        let (process, stdin, stdout): (_, ChildStdin, ChildStdout) =
            Process::start("ssh", self.into(via, host, port, |path| path.to_owned()), display)?;
        Ok((Tunnel { process }, join(stdout, stdin)))
    }

    /// The same host, reached through the hub: its key has to be the one that the file of known keys has.
    #[must_use]
    pub fn through(&self, via: &Via, name: &HostName, target: &Target) -> Target {
        // The command stands in an option, where `%` means something.
        let proxy = self.into(via, name.as_str(), SSHD, |path| path.replace('%', "%%"));
        let words = proxy.iter().map(|word| quote(&word.to_string_lossy()));
        let proxy = std::iter::once("ssh".to_owned()).chain(words).collect::<Vec<_>>().join(" ");
        let known = pinned(via, name.as_str(), str::to_owned);
        let ours = ["-o".to_owned(), format!("ProxyCommand={proxy}")].into_iter().chain(known);
        let theirs = without_jumps(&target.ssh_options);
        Target {
            host: name.to_string(),
            user: target.user.clone(),
            port: None,
            ssh_options: ours.chain(theirs).collect(),
            privilege: target.privilege.clone(),
        }
    }

    /// Whether something listens where a host's sshd should, as the operator's configuration has it. `None` where only `ssh`
    /// knows the way.
    pub async fn is_there(&self, target: &Target, limit: Duration) -> Option<bool> {
        let mut ssh = tokio::process::Command::new("ssh");
        ssh.arg("-G").args(self.way(target)).stdin(Stdio::null()).kill_on_drop(true);
        let said = ssh.output().await.ok().filter(|said| said.status.success())?;
        let (host, port) = direct(&String::from_utf8_lossy(&said.stdout))?;
        Some(timeout(limit, TcpStream::connect((host, port))).await.is_ok_and(|came| came.is_ok()))
    }

    /// The arguments of an `ssh` to something inside the hub.
    fn into(&self, via: &Via, name: &str, port: u32, escape: fn(&str) -> String) -> Vec<OsString> {
        let mut args: Vec<OsString> = self.configuration().collect();
        // A connection that the operator's ssh keeps open may be another one's, and must not outlive this.
        let alone = ["ControlMaster=no", "ControlPath=none"].into_iter().flat_map(|option| ["-o", option]);
        args.extend(alone.map(OsString::from));
        args.extend(pinned(via, ALIAS, escape).into_iter().map(OsString::from));
        args.extend(self.settings());
        args.extend(["-T", "-a", "-x", "-l", USER, "-p"].map(OsString::from));
        args.push(via.port.to_string().into());
        args.extend(["-W".into(), format!("{name}:{port}").into()]);
        args.extend(["--".into(), OsString::from(&via.host)]);
        args
    }
}

/// The options by which nobody but who has the known key of that name is taken.
fn pinned(via: &Via, alias: &str, escape: fn(&str) -> String) -> Vec<String> {
    // In the option itself `%` means something too.
    let file = via.known_hosts.to_string_lossy().replace('%', "%%");
    let options = [
        // It is younger than other options.
        "IgnoreUnknown=KnownHostsCommand".to_owned(),
        "KnownHostsCommand=none".to_owned(),
        format!("UserKnownHostsFile=\"{}\"", escape(&file)),
        "GlobalKnownHostsFile=/dev/null".to_owned(),
        "StrictHostKeyChecking=yes".to_owned(),
        "VerifyHostKeyDNS=no".to_owned(),
        "UpdateHostKeys=no".to_owned(),
        "CheckHostIP=no".to_owned(),
        format!("HostKeyAlias={alias}"),
    ];
    options.into_iter().flat_map(|option| ["-o".to_owned(), option]).collect()
}

/// Options without jump hosts, which exclude the way through the hub.
fn without_jumps(options: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut options = options.iter();
    while let Some(option) = options.next() {
        match option.as_str() {
            "-J" => {
                options.next();
            }
            jump if jump.starts_with("-J") => {}
            _ => kept.push(option.clone()),
        }
    }
    kept
}

/// Where `ssh -G` says that it would connect to by itself.
fn direct(said: &str) -> Option<(String, u16)> {
    let value = |key: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))
            .filter(|value| *value != "none")
    };
    if value("proxycommand").is_some() || value("proxyjump").is_some() {
        return None;
    }
    Some((value("hostname")?.to_owned(), value("port")?.parse().ok()?))
}

impl Tunnel {
    /// Why it ended.
    pub async fn gone(&mut self) -> Error {
        self.process.gone().await
    }
}

#[cfg(test)]
mod tests {
    use bosco_model::Privilege;

    use super::*;

    #[test]
    fn jump_hosts_give_way_to_the_hub_and_other_options_stay() {
        let options = ["-J", "gate", "-o", "Compression=yes", "-Jother", "-4"].map(str::to_owned);
        assert_eq!(without_jumps(&options), ["-o", "Compression=yes", "-4"]);
    }

    #[test]
    fn only_what_ssh_connects_to_by_itself_is_looked_for() {
        let plain = "user root\nhostname 192.0.2.1\nport 2200\nproxycommand none\n";
        assert_eq!(direct(plain), Some(("192.0.2.1".into(), 2200)));
        assert_eq!(direct(&format!("{plain}proxyjump gate\n")), None);
        assert_eq!(direct("hostname x\n"), None);
    }

    #[tokio::test]
    async fn a_host_is_reached_through_the_hub_by_the_keys_that_are_known_of_both() {
        let Ok(ssh) = Ssh::find().await else { return };
        let via = Via { host: "hub.example".into(), port: 2222, known_hosts: "/run/a%b/known".into() };
        let target = Target {
            host: "192.0.2.1".into(),
            user: Some("root".into()),
            port: Some(2200),
            ssh_options: vec!["-J".into(), "gate".into()],
            privilege: Privilege::default(),
        };
        let through = ssh.through(&via, &HostName::parse("laptop").unwrap(), &target);
        assert_eq!((through.host.as_str(), through.port), ("laptop", None));
        let options = through.ssh_options.join("\n");
        assert!(options.contains("'-W' 'laptop:22' '--' 'hub.example'"), "{options}");
        assert!(options.contains("HostKeyAlias=laptop") && options.contains("HostKeyAlias=bosco:hub"));
        assert!(options.contains("/run/a%%%%b/known"), "twice, where it is read twice: {options}");
        assert!(!options.contains("gate"), "{options}");
    }
}
