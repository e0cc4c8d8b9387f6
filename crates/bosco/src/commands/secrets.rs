//! `bosco secrets`: a verb, a file.

mod accept;
mod check;
mod edit;
mod list;
mod rekey;
mod show;

pub(crate) use self::list::{read_by, stolen};
pub(crate) use self::rekey::apply;
use crate::cli::{Cli, SecretsCommand};
use crate::error::{Error, Exit};

pub(crate) async fn run(cli: &Cli, command: &SecretsCommand) -> Result<Exit, Error> {
    match command {
        SecretsCommand::List { selection, host } => match host {
            Some(host) => list::one(cli, host).await,
            None => list::run(cli, selection.selector()).await,
        },
        SecretsCommand::Check => check::run(cli).await,
        SecretsCommand::Rekey => rekey::run(cli).await,
        SecretsCommand::Accept { host, fingerprint } => accept::run(cli, host, fingerprint).await,
        SecretsCommand::Edit { file } => edit::run(cli, file).await,
        SecretsCommand::Show { host, name } => show::run(cli, host, name).await,
    }
}
