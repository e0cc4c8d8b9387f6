//! `bosco secrets show`.

use bosco_model::HostName;
use bosco_secrets::Secret;
use bosco_secrets::sops::{File, Format, MAX_FILE};

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::fleet::{Chosen, Context};
use crate::secrets::identities::identities;
use crate::secrets::tree::Tree;
use crate::secrets::{format, here};
use crate::show;
use crate::suggest::{first_of, near};

pub(crate) async fn run(cli: &Cli, host: &HostName, name: &str) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let secret = stoppable(&show, async {
        let context = Context::find(cli, watch(&show)).await?;
        here(&context.fleet.source)?;
        context.knows(host.as_str())?;
        let chosen = Chosen { name: host.clone(), condition: None };
        let inspected = context.inspect(&chosen, false).await.map_err(|outcome| Error::of(host, &outcome))?;
        let names: Vec<String> = inspected.secrets.iter().map(|secret| secret.name.clone()).collect();
        let Some(asked) = inspected.secrets.into_iter().find(|secret| secret.name == name) else {
            if inspected.keys.contains(name) {
                let message =
                    format!("`{name}` is one of the `deployment.keys` of {host}, and in no sops file");
                let hint =
                    format!("`bosco eval 'nodes.{host}.config.deployment.keys'` says where each comes from");
                return Err(Error::new(Exit::Usage, message).hint(hint));
            }
            let message = format!("{host} asks for no secret `{name}`");
            return Err(Error::new(Exit::Usage, message).hint(instead(name, &names)));
        };
        let tree = Tree::of(&context.fleet.source.dir).await?;
        let gone = |file: &str| Error::new(Exit::NotBuilt, format!("{file}: it can't be read here"));
        let file = tree.place_of(&context.fleet.source.dir, host, &asked.file).map_err(|path| gone(&path))?;
        let bytes = tree.read(&file, MAX_FILE).ok_or_else(|| gone(&file))?;
        let form = format(&asked.format).unwrap_or_else(|| Format::of_name(&file));
        open(&bytes, form, &asked.key).map_err(|why| {
            let (_, unusable) = identities();
            let error = Error::new(Exit::NotDeployed, format!("{file}: {why}"));
            if unusable.is_empty() { error } else { error.hint(unusable.join("; ")) }
        })
    })
    .await?;
    show::bytes(secret.expose());
    Ok(Exit::Done)
}

fn open(bytes: &[u8], form: Format, key: &str) -> Result<Secret, bosco_secrets::sops::Error> {
    File::parse(bytes, form)?.open(&identities().0)?.value(key)
}

fn instead(name: &str, names: &[String]) -> String {
    let near: Vec<String> =
        near(name, names.iter().map(String::as_str)).map(|one| format!("`{one}`")).collect();
    match (near.as_slice(), names) {
        (_, []) => "it asks for none".into(),
        ([], _) => format!("it asks for {}", first_of(names)),
        (near, _) => format!("did you mean {}?", near.join(" or ")),
    }
}
