//! What can be asked: one command, one file.

mod apply;
mod completions;
mod eval;
mod exec;
mod generations;
mod hosts;
mod man;
mod ssh;
mod status;

use std::future::Future;
use std::sync::Arc;

use bosco_model::Goal;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{Cli, Command};
use crate::error::{Error, Exit};
use crate::event::Sink;
use crate::gate::Rule;
use crate::push::Wish;
use crate::show::Show;

/// Runs the command that was asked for.
pub(crate) async fn run(cli: &Cli) -> Result<Exit, Error> {
    match &cli.command {
        Command::Apply(args) => apply::run(cli, args.selection.selector(), &args.wish()).await,
        Command::Build(selection) => {
            let wish = Wish { goal: Goal::Build, rule: Rule::Each };
            apply::run(cli, selection.selector(), &wish).await
        }
        Command::Hosts(selection) => hosts::run(cli, selection.selector()).await,
        Command::Status(selection) => status::run(cli, selection.selector()).await,
        Command::Generations(selection) => generations::run(cli, selection.selector()).await,
        Command::Exec { selection, command } => exec::run(cli, selection.selector(), command).await,
        Command::Ssh { host, command } => ssh::run(cli, host, command).await,
        Command::Eval { expression } => eval::run(cli, expression).await,
        Command::Completions { shell } => completions::run(*shell),
        Command::Man { directory } => man::run(directory),
    }
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
