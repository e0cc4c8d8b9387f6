//! `bosco ssh`.

use std::os::unix::process::CommandExt;

use bosco_model::HostName;
use bosco_wire::Ssh;

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::fleet::{Chosen, Context};
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
        Ok(Ssh::find().await?.login(&target, command))
    };
    let mut ssh = stoppable(&show, work).await?;
    // It takes the place of this process, and so ends as it ends.
    Err(Error::new(Exit::Unable, format!("`ssh` could not be started: {}", ssh.exec())))
}
