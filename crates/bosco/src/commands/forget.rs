//! `bosco forget`.

use bosco_model::HostName;
use bosco_release::Key;
use bosco_wire::api::{Next, Why};
use hyper::Method;

use crate::cli::Cli;
use crate::commands::secrets::{read_by, stolen};
use crate::commands::stoppable;
use crate::error::{Error, Exit};
use crate::fleet::source;
use crate::hub::Hub;
use crate::secrets::readers::Book;
use crate::secrets::tree::Tree;
use crate::secrets::{files, readers_of};
use crate::show;

pub(crate) async fn run(cli: &Cli, host: &HostName) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let (keys, book) = stoppable(&show, async {
        let mut connection = Hub::of(&cli.place).await?.open().await?;
        connection.hosts().await?.knows(host.as_str())?;
        // Once it is forgotten, nobody knows its keys.
        let mut next: Next = connection.get("/v1/next").await?;
        let keys = readers_of(next.keys.remove(host).unwrap_or_default().iter().map(Key::as_str));
        let book = match source(&cli.place) {
            Ok(source) if source.is_here() => {
                Book { files: files(&Tree::of(&source.dir).await?, &[]), ..Book::default() }
            }
            _ => Book::default(),
        };
        connection.send(Method::DELETE, &format!("/v1/hosts/{host}"), &Why::default()).await?;
        Ok((keys, book))
    })
    .await?;
    let read = read_by(&book, &keys);
    if cli.json {
        let mut answer = stolen(host, &keys, &read);
        answer["forgotten"] = true.into();
        show::json(&answer);
        return Ok(Exit::Done);
    }
    show::text(&format!("{host}: the hub lets it in no more"));
    if !read.is_empty() {
        show::text(
            "it could read these secrets, and can until it is out of the fleet and `bosco secrets rekey` has run; change them if it was stolen:",
        );
        for (file, values) in read {
            show::text(&format!("  {file}: {}", values.join(", ")));
        }
    }
    Ok(Exit::Done)
}
