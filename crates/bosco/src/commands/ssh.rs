//! `bosco ssh`.

use std::os::unix::process::CommandExt;

use bosco_model::HostName;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::fleet::{Chosen, Context};
use crate::reach::Reach;
use crate::show;

pub(crate) async fn run(cli: &Cli, host: &HostName, command: &[String]) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let work = async {
        let context = Context::find(cli, watch(&show)).await?;
        context.knows(host.as_str())?;
        let answer = context.host(&Chosen { name: host.clone(), condition: None }).await;
        let declared = answer.map_err(|outcome| Error::of(host, &outcome))?;
        let Some(target) = declared.and_then(|host| host.target) else {
            return Err(Error::new(Exit::Usage, format!("{host} is deployed on itself only"))
                .hint("its `deployment.targetHost` is null: the fleet does not say how to reach it"));
        };
        let reach = Reach::find(&context).await?;
        let login = reach.login(host, &target, command).await;
        Ok((login, reach))
    };
    let ((mut ssh, through), reach) = stoppable(&show, work).await?;
    let failed = |error| Error::new(Exit::Unable, format!("`ssh` could not be started: {error}"));
    if !through {
        drop(reach);
        // It takes the place of this process, and so ends as it ends.
        return Err(failed(ssh.exec()));
    }
    // The keys that it is to know are a file of this process. A Ctrl-C at the terminal is for it alone.
    let ended = ssh.status().map_err(failed)?;
    drop(reach);
    std::process::exit(ended.code().unwrap_or(255));
}
