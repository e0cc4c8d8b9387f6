//! `bosco apply-local`: a push to this machine itself.

use bosco_model::{HostName, Selector};

use crate::activate::Ask;
use crate::cli::{ApplyLocal, Cli};
use crate::commands::{root, work};
use crate::error::{Error, Exit};
use crate::gate::Rule;
use crate::push::{Wish, push};
use crate::reach::Reach;

pub(crate) async fn run(cli: &Cli, args: &ApplyLocal) -> Result<Exit, Error> {
    let name = match &args.node {
        Some(name) => name.clone(),
        None => own_name()?,
    };
    let selector =
        Selector::parse(name.as_str()).map_err(|error| Error::new(Exit::Usage, error.to_string()))?;
    let ask = Ask { again: args.again, ..Ask::default() };
    let wish = Wish { ask, yes: true, ..Wish::new(args.goal.0, Rule::Each) };
    work(cli, Some(&selector), async |context, chosen| {
        let root = root()?;
        let reach = Reach::here(&context);
        push(context, &wish, root, None, reach, chosen).await
    })
    .await
}

/// What the machine calls itself.
fn own_name() -> Result<HostName, Error> {
    let uname = rustix::system::uname();
    let name = uname.nodename().to_string_lossy();
    let name = name.split('.').next().unwrap_or_default();
    HostName::parse(name).map_err(|error| {
        Error::new(Exit::Usage, format!("this machine's own name is that of no host: {error}"))
            .hint("`--node` says what it is called in the fleet")
    })
}
