//! `bosco enroll`.

use std::path::Path;

use bosco_model::{HIGHEST, HostName};
use bosco_release::{Key, Trust};
use bosco_wire::api::Enroll;
use bosco_wire::quote;
use hyper::Method;
use serde::Serialize;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::event::{Event, Stage};
use crate::fleet::{Chosen, Context};
use crate::hub::Hub;
use crate::outcome::Outcome;
use crate::reach::{Reach, troubled};
use crate::show;

/// What stands before the host's key in what the program says: a login script may say something too.
const MARK: &str = "bosco-host-key ";
/// What it says where nothing there will ask the hub.
const NO_AGENT: &str = "bosco-no-agent";

/// The unit of the agent.
const AGENT: &str = "bosco-agent.service";

/// The helper that a push has left there.
const HELPER: &str = "/nix/var/nix/gcroots/bosco/helper/bin/bosco";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Enrolled<'a> {
    host: &'a HostName,
    keys: &'a [Key],
    trust: &'a Trust,
    /// Whether it has an agent, which asks the hub.
    agent: bool,
}

pub(crate) async fn run(cli: &Cli, host: &HostName, next: Option<&Path>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let next = next.map(key_in).transpose()?;
    let events = watch(&show);
    let (keys, trust, agent) = stoppable(&show, async {
        let hub = Hub::of(&cli.place).await?;
        // Whether it is there is asked before anything is written to the host.
        let mut connection = hub.open().await?;
        connection.hosts().await?;
        let context = Context::find(cli, events).await?;
        context.knows(host.as_str())?;
        let answer = context.host(&Chosen { name: host.clone(), condition: None }).await;
        let declared = answer.map_err(|outcome| Error::of(host, &outcome))?;
        let Some(declared) = declared.filter(|declared| declared.target.is_some()) else {
            return Err(Error::new(Exit::Usage, format!("{host} is deployed on itself only"))
                .hint("let it ask by itself, and `bosco approve` the code that it shows"));
        };
        let trust = hub.rules().trust_of(host, &declared.tags);
        let said = on_host(&context, &declared, &trust).await.map_err(|outcome| Error::of(host, &outcome))?;
        let mut keys = vec![read_key(host, &said)?];
        keys.extend(next);
        keys.dedup();
        connection.send(Method::PUT, &format!("/v1/hosts/{host}"), &Enroll { keys: keys.clone() }).await?;
        Ok((keys, trust, !said.lines().any(|line| line == NO_AGENT)))
    })
    .await?;
    if cli.json {
        show::json(&Enrolled { host, keys: &keys, trust: &trust, agent });
        return Ok(Exit::Done);
    }
    let fingerprints: Vec<String> = keys.iter().map(Key::fingerprint).collect();
    let mut signers: Vec<&str> = trust.signers.iter().map(|signer| signer.name.as_str()).collect();
    signers.dedup();
    show::text(&format!(
        "{host}: enrolled with {}; it trusts {}",
        fingerprints.join(" and "),
        signers.join(", ")
    ));
    if !agent {
        show::text(&format!(
            "no agent asks for it yet: set `services.bosco.agent.enable = true;` and `bosco apply --on {host}`"
        ));
    }
    Ok(Exit::Done)
}

/// A public key in a file.
fn key_in(file: &Path) -> Result<Key, Error> {
    let unreadable = |why: String| {
        Error::new(Exit::Usage, format!("{}: {why}", file.display()))
            .hint("`--next` takes a public key's file")
    };
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(error.to_string()))?;
    Key::parse(&text).map_err(|error| unreadable(error.to_string()))
}

/// Writes on the host whom it trusts, and reads its key.
async fn on_host(context: &Context, host: &bosco_model::Host, trust: &Trust) -> Result<String, Outcome> {
    let target = host.target.as_ref().ok_or(Outcome::LocalOnly)?;
    let turn = || (context.events)(Event::Stage { host: host.name.clone(), stage: Stage::Connect });
    let reach = Reach::find(context)
        .await
        .map_err(|error| Outcome::failed(Stage::Connect, error.message, error.hint))?;
    let trust = serde_json::to_string(trust).map_err(|error| {
        Outcome::failed(Stage::Run, format!("whom it trusts can't be written: {error}"), None)
    })?;
    let session = reach.prepare(&host.name, target, &program(&trust), turn).await?;
    let ran = session.run().await.map_err(|error| troubled(Stage::Run, &error))?;
    match ran.exit_code {
        0 => Ok(ran.output),
        code => {
            let last = ran.output.lines().last().unwrap_or("it says nothing").to_owned();
            Err(Outcome::failed(Stage::Run, format!("it could not be enrolled (exit {code}): {last}"), None))
        }
    }
}

/// What is run there, as root. The key comes first: where there is none, nothing is written. What a host was pushed before it
/// could pull holds it no more.
fn program(trust: &str) -> String {
    let trust = quote(trust);
    format!(
        "set -e\n\
         key=$(cat /etc/ssh/ssh_host_ed25519_key.pub)\n\
         umask 022\n\
         mkdir -p /nix/var/bosco\n\
         cd /nix/var/bosco\n\
         if [ ! -e trust.json ] && [ -x {HELPER} ]; then {HELPER} helper lift {HIGHEST}; fi\n\
         printf '%s\\n' {trust} > trust.json.new\n\
         sync trust.json.new 2>/dev/null || sync\n\
         mv trust.json.new trust.json\n\
         sync . 2>/dev/null || sync\n\
         printf '{MARK}%s\\n' \"$key\"\n\
         systemctl cat {AGENT} >/dev/null 2>&1 || echo {NO_AGENT}\n"
    )
}

/// The key that the host has said.
fn read_key(host: &HostName, said: &str) -> Result<Key, Error> {
    let key = said.lines().find_map(|line| line.strip_prefix(MARK)).unwrap_or_default();
    Key::parse(key).map_err(|error| {
        Error::new(Exit::NotDeployed, format!("{host}: its host key can't be read: {error}"))
            .hint("it is /etc/ssh/ssh_host_ed25519_key.pub there, which sshd makes when it starts")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_behind_what_a_login_script_says() {
        let host = HostName::parse("web").unwrap();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let said = format!("welcome\n{MARK}{key} root@web\n");
        assert_eq!(read_key(&host, &said).unwrap().as_str(), key);
        assert!(read_key(&host, "welcome\n").is_err());
    }

    #[test]
    fn whom_it_trusts_is_one_word_of_the_program_whatever_stands_in_it() {
        let place = std::env::temp_dir().join(format!("bosco-enroll-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        let key = place.join("key.pub");
        std::fs::write(&key, "ssh-ed25519 AAAA root@web\n").unwrap();
        let program = program("{\"fleet\":\"it's $(id) `x`\"}")
            .replace("/etc/ssh/ssh_host_ed25519_key.pub", &key.display().to_string())
            .replace("/nix/var/bosco", &place.display().to_string())
            .replace(HELPER, "/nonexistent")
            .replace(AGENT, "nonexistent.service");
        let ran = std::process::Command::new("sh").arg("-c").arg(program).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(
            String::from_utf8_lossy(&ran.stdout),
            format!("{MARK}ssh-ed25519 AAAA root@web\n{NO_AGENT}\n")
        );
        let written = std::fs::read_to_string(place.join("trust.json")).unwrap();
        assert_eq!(written, "{\"fleet\":\"it's $(id) `x`\"}\n");
        std::fs::remove_dir_all(place).unwrap();
    }
}
