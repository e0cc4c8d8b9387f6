//! `bosco secrets list`.

use std::collections::{BTreeMap, BTreeSet};

use bosco_model::{HostName, Selector};
use serde_json::{Value, json};

use crate::cli::Cli;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::secrets::readers::{Asked, Book, Line, Reader, lines};
use crate::secrets::{Secrets, survey};
use crate::show::{self, Table};
use crate::suggest::instead_of;

pub(crate) async fn run(cli: &Cli, selector: Option<Selector>) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let Secrets { book, .. } = stoppable(&show, survey(cli, watch(&show))).await?;
    for name in selector.iter().flat_map(Selector::names) {
        knows(&book, &name)?;
    }
    let all = book.hosts.iter();
    let hosts: BTreeSet<HostName> = all
        .filter(|(host, keys)| selector.as_ref().is_none_or(|selector| selector.matches(host, &keys.tags)))
        .map(|(host, _)| host.clone())
        .collect();
    if let Some(selector) = selector.filter(|_| hosts.is_empty()) {
        return Err(Error::new(Exit::Usage, format!("no host matches `{selector}`"))
            .hint("`bosco hosts` lists them with their tags"));
    }
    let lines = lines(&book, &hosts);
    if cli.json {
        show::json(&lines);
    } else if lines.is_empty() {
        show::text("no host asks for a secret of sops, and none can read any");
    } else {
        print(&lines);
    }
    Ok(Exit::Done)
}

fn print(lines: &[Line]) {
    let mut table = Table::new(["HOST", "FILE", "CAN READ", "ASKS FOR", "WHO ELSE"]);
    for line in lines {
        let hosts = line.hosts.iter().map(|host| format!("host {host}"));
        let others = line.others.iter().map(|other| format!("unknown {other}"));
        let else_: Vec<String> = line.operators.iter().cloned().chain(hosts).chain(others).collect();
        let asked = if line.asks_for.is_empty() { "-".to_owned() } else { line.asks_for.join(", ") };
        let can_read = if line.can_read { "yes" } else { "no" };
        table.row([line.host.to_string(), line.file.clone(), can_read.into(), asked, else_.join(", ")]);
    }
    table.print();
}

fn knows(book: &Book, name: &str) -> Result<(), Error> {
    let names: Vec<&str> = book.hosts.keys().map(HostName::as_str).collect();
    if names.contains(&name) {
        return Ok(());
    }
    Err(Error::new(Exit::Usage, format!("no host is called `{name}`")).hint(instead_of(name, &names)))
}

/// `--host`: what could be read with its keys.
pub(crate) async fn one(cli: &Cli, host: &HostName) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let Secrets { book, .. } = stoppable(&show, survey(cli, watch(&show))).await?;
    knows(&book, host.as_str())?;
    let keys = book.hosts.get(host).map(|keys| keys.readers.clone()).unwrap_or_default();
    if keys.is_empty() {
        return Err(Error::new(Exit::NotBuilt, format!("{host}: its key is not known"))
            .hint(crate::secrets::audit::no_key(host)));
    }
    let read = read_by(&book, &keys);
    if cli.json {
        show::json(&stolen(host, &keys, &read));
    } else if read.is_empty() {
        show::text(&format!("{host} can read no secret of sops"));
    } else {
        let mut table = Table::new(["FILE", "KEY", "ASKED FOR AS"]);
        for (file, values) in &read {
            for value in *values {
                let is_it = |asked: &&Asked| asked.host == *host && asked.takes(value);
                let names: Vec<&str> =
                    book.asked_of(file).filter(is_it).map(|asked| asked.name.as_str()).collect();
                let names = if names.is_empty() { "-".to_owned() } else { names.join(", ") };
                table.row([(*file).to_owned(), value.clone(), names]);
            }
        }
        table.print();
    }
    Ok(Exit::Done)
}

/// The values that somebody with these keys can read, by their files.
pub(crate) fn read_by<'a>(book: &'a Book, keys: &[Reader]) -> BTreeMap<&'a str, &'a [String]> {
    book.readable(keys).into_iter().map(|(file, kept)| (file, kept.names.as_slice())).collect()
}

/// The same, for the JSON answer.
pub(crate) fn stolen(host: &HostName, keys: &[Reader], read: &BTreeMap<&str, &[String]>) -> Value {
    let files: Vec<Value> =
        read.iter().map(|(file, values)| json!({ "file": file, "keys": values })).collect();
    json!({ "host": host, "recipients": keys, "canRead": files })
}
