//! What can be asked: one command, one file.

#[cfg(target_os = "linux")]
mod agent;
mod apply;
mod apply_local;
mod approve;
mod check;
mod completions;
mod diff;
mod enroll;
mod eval;
mod exec;
mod forget;
mod generations;
mod hold;
mod hosts;
mod hub;
mod init;
mod log;
mod man;
mod order;
mod reboot;
mod release;
mod releases;
mod repl;
mod resume;
mod rollback;
mod secrets;
mod ssh;
mod status;
mod trigger;

use std::future::Future;
use std::sync::Arc;

use bosco_model::{Goal, HostName, Selector};
use bosco_nix::Root;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command};
use crate::error::{Error, Exit};
use crate::event::{Event, Ledger, Sink};
use crate::fleet::{Chosen, Context};
use crate::gate::Rule;
use crate::outcome::{self, Outcome};
use crate::push::Wish;
use crate::show::{self, Show};

/// Runs the command that was asked for.
pub(crate) async fn run(cli: &Cli) -> Result<Exit, Error> {
    match &cli.command {
        Command::Apply(args) => {
            let (goal, selector) = args.what()?;
            apply::run(cli, selector, &args.wish(goal)).await
        }
        Command::ApplyLocal(args) => apply_local::run(cli, args).await,
        Command::Build { selection, keep_result } => {
            let wish = Wish { keep_result: *keep_result, ..Wish::new(Goal::Build, Rule::Each) };
            apply::run(cli, selection.selector(), &wish).await
        }
        Command::Init => init::run(cli),
        Command::UploadKeys(selection) => {
            apply::run(cli, selection.selector(), &Wish::new(Goal::Keys, Rule::AllBuilt)).await
        }
        Command::Hosts(selection) => hosts::run(cli, selection.selector()).await,
        Command::Status { selection, watch } => status::run(cli, selection.selector(), *watch).await,
        Command::Release(args) => release::run(cli, args).await,
        Command::Releases => releases::run(cli).await,
        Command::Diff(args) => diff::run(cli, args).await,
        Command::Log { host, last } => log::run(cli, host, *last).await,
        Command::Hold { selection, why } => hold::run(cli, selection.selector(), why).await,
        Command::Resume { selection } => resume::run(cli, selection.selector()).await,
        Command::Trigger { selection } => trigger::run(cli, selection.selector()).await,
        Command::Enroll { host, next } => enroll::run(cli, host, next.as_deref()).await,
        Command::Approve { code } => approve::run(cli, code.as_deref()).await,
        Command::Forget { host } => forget::run(cli, host).await,
        Command::Rollback { selection, to, profile } => {
            rollback::run(cli, selection.selector(), *to, profile.clone()).await
        }
        Command::Reboot { selection, if_needed } => reboot::run(cli, selection.selector(), *if_needed).await,
        #[cfg(target_os = "linux")]
        Command::Agent(args) => agent::run(args).await,
        #[cfg(not(target_os = "linux"))]
        Command::Agent(_) => Err(Error::new(Exit::Usage, "this machine is no NixOS")),
        Command::Hub(hub) => hub::run(hub).await,
        Command::Local { arguments } => local(arguments),
        Command::Secrets(secrets) => secrets::run(cli, &secrets.command).await,
        Command::Check { fix } => check::run(cli, *fix).await,
        Command::Generations(selection) => generations::run(cli, selection.selector()).await,
        Command::Exec(args) => {
            let (selector, command) = args.what()?;
            exec::run(cli, &selector, command).await
        }
        Command::Ssh { host, command } => ssh::run(cli, host, command).await,
        Command::Eval { expression, of } => eval::run(cli, expression.as_deref().or(of.as_deref())).await,
        Command::Repl => repl::run(cli).await,
        Command::Completions { shell } => completions::run(*shell),
        Command::Man { directory } => man::run(directory),
    }
}

/// `bosco local`: the helper's own words, at the console of a host.
#[cfg(target_os = "linux")]
fn local(arguments: &[String]) -> Result<Exit, Error> {
    use std::os::unix::process::CommandExt;

    let places = bosco_host::places::Places::host();
    // An activation goes on in units that run the helper, so it has to be the helper that begins one.
    let system = format!("{}-linux", std::env::consts::ARCH);
    let folder = crate::helper::find(&system).unwrap_or_else(|| places.gcroots().join("helper"));
    let helper = folder.join("bin/bosco");
    if helper.is_file() {
        let why = std::process::Command::new(&helper).arg("local").args(arguments).exec();
        return Err(Error::new(Exit::Unable, format!("{} can't be run: {why}", helper.display())));
    }
    match bosco_host::local::main(&places, arguments) {
        0 => Ok(Exit::Done),
        2 => Ok(Exit::Usage),
        4 => Ok(Exit::NotDeployed),
        _ => Ok(Exit::Unable),
    }
}

/// `bosco local`, where there is no host.
#[cfg(not(target_os = "linux"))]
fn local(_arguments: &[String]) -> Result<Exit, Error> {
    Err(Error::new(Exit::Usage, "this machine is no NixOS"))
}

/// Does something to the hosts that a selector means, shows how it goes on, and what came of each.
async fn work<F>(
    cli: &Cli,
    selector: Option<&Selector>,
    drive: impl FnOnce(Context, Vec<Chosen>) -> F,
) -> Result<Exit, Error>
where
    F: Future<Output = Result<Vec<(HostName, Outcome)>, Error>>,
{
    let show = show::for_work(cli);
    let ledger = Arc::new(Ledger::default());
    let events: Sink = {
        let (show, ledger) = (Arc::clone(&show), Arc::clone(&ledger));
        Arc::new(move |event: Event| {
            if ledger.record(&event) {
                show.event(&event);
            }
        })
    };
    let work = async {
        let context = Context::find(cli, events).await?;
        let chosen = context.choose(selector)?;
        let outcomes = drive(context.clone(), chosen).await?;
        if outcomes.is_empty() {
            return Err(context.no_match(selector));
        }
        context.warn_of_tags(selector);
        Ok(outcomes)
    };
    // What was asked to stop is not told as failed: its processes hear of the interrupt at the same time.
    let outcomes = tokio::select! {
        biased;
        () = stopped() => ledger.stop(),
        outcomes = work => outcomes.inspect_err(|_| show.clear())?,
    };
    if outcomes.is_empty() {
        show.clear();
        return Err(Error::new(Exit::Interrupted, "interrupted; nothing was done to any host"));
    }
    show.summary(&outcomes);
    Ok(outcome::exit(outcomes.iter().map(|(_, outcome)| outcome)))
}

/// What keeps what is built from being collected, for as long as the command needs it.
fn root() -> Result<Root, Error> {
    Root::new().map_err(|error| {
        Error::new(Exit::Unable, format!("no temporary directory can be made: {error}"))
            .hint("XDG_RUNTIME_DIR has to be a directory of your own, or not to be set")
    })
}

/// Where the events of a command go that only reads.
fn watch(show: &Arc<dyn Show>) -> Sink {
    let show = Arc::clone(show);
    Arc::new(move |event| show.event(&event))
}

/// Waits until the operator, or the system, wants the command to stop.
async fn stopped() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signal) => {
            signal.recv().await;
        }
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

/// Does what changes nothing, until it is stopped, and takes away what is shown meanwhile.
async fn stoppable<T>(
    show: &Arc<dyn Show>,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let ended = tokio::select! {
        biased;
        () = stopped() => Err(Error::new(Exit::Interrupted, "interrupted; nothing was changed")),
        ended = work => ended,
    };
    show.clear();
    ended
}
