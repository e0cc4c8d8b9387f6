//! `bosco agent`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bosco_agent::{AgentConfig, JoinConfig, JoinError, Once, Patience};
use bosco_host::places::Places;
use bosco_model::HostName;

use crate::cli::{Agent, AgentVerb};
use crate::commands::stopped;
use crate::error::{Error, Exit};
use crate::{helper, show};

/// The host's own sshd, for those who come through the hub.
const SSHD: &str = "127.0.0.1:22";

pub(crate) async fn run(args: &Agent) -> Result<Exit, Error> {
    let places = Places::host();
    let config = AgentConfig {
        state: args.state.clone(),
        identity: args.identity.clone(),
        host: name(args)?,
        helper: program(args.helper.as_deref(), &places),
        sshd: SSHD.into(),
        page: (!args.no_page).then_some(args.page_port),
        version: env!("CARGO_PKG_VERSION").into(),
        say: Arc::new(show::log),
        patience: Patience::default(),
        places,
    };
    tokio::select! {
        biased;
        // An activation goes on by itself; what is fetched is taken up where it stopped.
        () = stopped() => Ok(Exit::Done),
        ended = work(args, config) => ended,
    }
}

async fn work(args: &Agent, config: AgentConfig) -> Result<Exit, Error> {
    let unable = |why: String| Error::new(Exit::Unable, why);
    match &args.verb {
        Some(AgentVerb::Join { hub, hub_key }) => {
            let hub_key = hub_key.as_deref().map(bosco_release::Key::parse).transpose();
            let hub_key = hub_key.map_err(|error| Error::new(Exit::Usage, error.to_string()))?;
            let asked = JoinConfig { hub: hub.clone(), hub_key, host: config.host.clone() };
            let mut shown = |code: &str| {
                show::log(&format!("an operator lets this machine in as {}:", asked.host));
                show::text(code);
            };
            let trust = bosco_agent::join(&config, &asked, &mut shown).await;
            let trust = trust.map_err(|error| not_joined(&error))?;
            show::log(&format!("it is in; its fleet is {}", trust.fleet.as_str()));
            Ok(Exit::Done)
        }
        None if args.once => match bosco_agent::once(config).await.map_err(unable)? {
            Once::Done => Ok(Exit::Done),
            Once::NotActivated => Ok(Exit::NotDeployed),
            Once::Unreachable => Ok(Exit::Unreachable),
        },
        None => match bosco_agent::run(config).await.map_err(unable)? {},
    }
}

fn not_joined(error: &JoinError) -> Error {
    match error {
        JoinError::Link(_) => Error::new(Exit::Unreachable, error.to_string())
            .hint("is the address right, as HOST:PORT, and does the hub run there?"),
        JoinError::Refused(_) => Error::new(Exit::NotDeployed, error.to_string()),
        JoinError::Here(_) => Error::new(Exit::Unable, error.to_string()),
    }
}

/// The host's name: the machine's own, where no other is given.
fn name(args: &Agent) -> Result<HostName, Error> {
    if let Some(name) = &args.host {
        return Ok(name.clone());
    }
    let uname = rustix::system::uname();
    HostName::parse(&uname.nodename().to_string_lossy()).map_err(|error| {
        Error::new(Exit::Usage, error.to_string()).hint("`--host` gives the name that it has in the fleet")
    })
}

/// The helper's program: the one that is named, or else the one that came with this program, or that a push has brought.
fn program(named: Option<&Path>, places: &Places) -> PathBuf {
    let inside = |folder: &Path| folder.join("bin/bosco");
    match named {
        Some(folder) if folder.is_dir() => inside(folder),
        Some(program) => program.to_owned(),
        None => {
            let beside = helper::find(&format!("{}-linux", std::env::consts::ARCH));
            inside(&beside.unwrap_or_else(|| places.gcroots().join("helper")))
        }
    }
}
