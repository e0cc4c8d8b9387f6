//! `bosco check`: what CI and git's hooks run.

use std::collections::BTreeSet;
use std::path::Path;

use bosco_model::{DerivationPath, HostName};
use bosco_release::FleetFile;
use bosco_secrets::sops::{File, MAX_FILE};
use zeroize::Zeroizing;

use crate::check::clear::{self, Patterns, not_encrypted};
use crate::check::derivations::{Needle, Search};
use crate::check::fleet_file::fleet_file;
use crate::check::format::{self, Formatted, format, unformatted};
use crate::check::lock::lock;
use crate::check::place::unevaluated;
use crate::cli::Cli;
use crate::commands::secrets::apply;
use crate::commands::{stoppable, watch};
use crate::error::{Error, Exit};
use crate::event::Sink;
use crate::finding::Finding;
use crate::fleet::{Context, source};
use crate::hub;
use crate::outcome::Outcome;
use crate::secrets::audit::audit;
use crate::secrets::identities::identities;
use crate::secrets::readers::Book;
use crate::secrets::rekey::plan;
use crate::secrets::tree::Tree;
use crate::secrets::{Answers, book, files, here, inspect, operators, rules};
use crate::show;

/// What was found, and what was put right before.
#[derive(Default)]
struct Checked {
    findings: Vec<Finding>,
    fixed: Vec<String>,
}

pub(crate) async fn run(cli: &Cli, fix: bool) -> Result<Exit, Error> {
    let show = show::for_answer(cli);
    let Checked { mut findings, fixed } = stoppable(&show, check(cli, fix, watch(&show))).await?;
    findings.sort();
    findings.dedup();
    Ok(show::findings(&findings, &fixed, cli.json))
}

async fn check(cli: &Cli, fix: bool, events: Sink) -> Result<Checked, Error> {
    let source = source(&cli.place)?;
    here(&source)?;
    let mut tree = Tree::of(&source.dir).await?;
    let mut checked = Checked::default();
    let valid = of_fleet_file(cli, &tree, &mut checked)?;
    // Without it nobody knows whom to encrypt to; what needs no evaluation is looked at all the same.
    let mut answers = Answers::new();
    let context =
        if valid { of_evaluation(cli, &tree, &events, &mut answers, &mut checked).await? } else { None };
    of_format(&tree, fix, &mut checked);
    if let Some(context) = &context {
        let mut book = book(context, &tree, &answers).await?;
        if fix && answers.iter().all(|(_, answer)| answer.is_ok()) {
            rekey(&tree, &book, &mut checked).await;
            tree = Tree::of(&source.dir).await?;
            book.files = files(&tree, &book.asked);
        }
        of_secrets(&answers, &book, &mut checked);
        of_derivations(context, &tree, &answers, &book, &mut checked).await?;
        of_clear(&tree, &book, &mut checked);
    } else {
        let book = Book { files: files(&tree, &[]), ..Book::default() };
        of_clear(&tree, &book, &mut checked);
    }
    for file in tree.files.iter().filter(|file| is_named(file, "flake.lock")) {
        let text = tree.text(file, MAX_FILE).unwrap_or_default();
        checked.findings.extend(lock(file, &text, show::now()));
    }
    Ok(checked)
}

/// Whether a file is called so, in whatever directory.
fn is_named(file: &str, name: &str) -> bool {
    Path::new(file).file_name().is_some_and(|found| found == name)
}

/// `bosco.toml`, where there is one. It may lie above the fleet's files.
fn of_fleet_file(cli: &Cli, tree: &Tree, checked: &mut Checked) -> Result<bool, Error> {
    let Some(path) = hub::fleet_file(&cli.place)? else { return Ok(true) };
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::new(Exit::Usage, format!("{} can't be read: {error}", path.display())))?;
    let root = tree.root.canonicalize().unwrap_or_else(|_| tree.root.clone());
    let shown = path.canonicalize().unwrap_or_else(|_| path.clone());
    let shown = shown.strip_prefix(root).unwrap_or(&path).display().to_string();
    let readers = |file: FleetFile| operators(&file).err();
    let finding = fleet_file(&shown, &text).or_else(|| {
        let why = FleetFile::parse(&text).ok().and_then(readers)?;
        Some(Finding::error(why, "give a recipient of age's, or an ed25519 key").at(&shown))
    });
    let valid = finding.is_none();
    checked.findings.extend(finding);
    Ok(valid)
}

/// Every host evaluates. `None` where there is no fleet to be evaluated.
async fn of_evaluation(
    cli: &Cli,
    tree: &Tree,
    events: &Sink,
    answers: &mut Answers,
    checked: &mut Checked,
) -> Result<Option<Context>, Error> {
    let context = match Context::find(cli, events.clone()).await {
        Ok(context) => context,
        Err(error) if error.exit == Exit::NotBuilt => {
            let hint = error.hint.unwrap_or_else(|| "`bosco hosts --show-trace` shows more".into());
            checked.findings.push(Finding::error(error.message, hint));
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    *answers = inspect(&context, true).await?;
    for (host, answer) in answers.iter() {
        match answer {
            Ok(_) => {}
            Err(Outcome::Interrupted { .. }) => {
                return Err(Error::new(Exit::Interrupted, "interrupted; nothing was changed"));
            }
            Err(outcome) => {
                let finding = unevaluated(host, &outcome.reason(), outcome.hint(), &tree.files);
                checked.findings.push(finding);
            }
        }
    }
    Ok(Some(context))
}

/// Every Nix file is formatted, or with `fix` will be.
fn of_format(tree: &Tree, fix: bool, checked: &mut Checked) {
    // Who has treefmt has their formatters there.
    if tree
        .files
        .iter()
        .any(|file| ["treefmt.toml", ".treefmt.toml", "treefmt.nix"].iter().any(|name| is_named(file, name)))
    {
        return;
    }
    for file in tree.files.iter().filter(|file| file.ends_with(".nix")) {
        let Some(text) = tree.text(file, format::MAX_FILE) else { continue };
        match format(file, &text) {
            Formatted::Same => {}
            Formatted::Unreadable(finding) => checked.findings.push(finding),
            Formatted::Other(formatted) if fix => match std::fs::write(tree.root.join(file), formatted) {
                Ok(()) => checked.fixed.push(format!("{file}: formatted")),
                Err(error) => {
                    let what = format!("it is not formatted, and can't be written: {error}");
                    checked.findings.push(Finding::error(what, "may you write it?").at(file));
                }
            },
            Formatted::Other(formatted) => checked.findings.push(unformatted(file, &text, &formatted)),
        }
    }
}

async fn rekey(tree: &Tree, book: &Book, checked: &mut Checked) {
    match apply(tree, &plan(book)).await {
        Ok(done) => {
            checked.fixed.extend(done.written.iter().map(|file| format!("{file}: written")));
            checked.fixed.extend(done.rekeyed.iter().map(|one| format!("{}: encrypted anew", one.file)));
            checked.findings.extend(done.failed.into_iter().map(|one| {
                let hint = one.error.hint.unwrap_or_default();
                Finding::error(one.error.message, hint).at(&one.file)
            }));
        }
        Err(error) => {
            let hint = error.hint.unwrap_or_else(|| "`bosco secrets rekey` tries it again".into());
            checked.findings.push(Finding::error(error.message, hint));
        }
    }
}

fn of_secrets(answers: &Answers, book: &Book, checked: &mut Checked) {
    if answers.iter().all(|(_, answer)| answer.is_ok()) {
        checked.findings.extend(audit(book));
    } else {
        let what = "who can read which secret was not looked at, as not all hosts evaluate";
        checked.findings.push(Finding::warning(what, "it is once they do"));
    }
}

/// Nothing that the operator can open stands in what is to be built.
async fn of_derivations(
    context: &Context,
    tree: &Tree,
    answers: &Answers,
    book: &Book,
    checked: &mut Checked,
) -> Result<(), Error> {
    let mut needles = Vec::new();
    let mut texts = BTreeSet::new();
    let mut hosts: Vec<(HostName, DerivationPath)> = Vec::new();
    for (host, answer) in answers {
        let Ok(inspected) = answer else { continue };
        hosts.extend(inspected.derivation.clone().map(|derivation| (host.clone(), derivation)));
        for text in inspected.texts.iter().filter(|text| texts.insert(text.as_str())) {
            let text = Zeroizing::new(text.as_bytes().to_vec());
            needles.push(Needle { what: format!("one of `deployment.keys` of {host}"), text });
        }
    }
    needles.extend(opened(tree, book));
    if let Some(search) = Search::new(&needles)? {
        checked.findings.extend(search.run(&context.nix, &hosts).await?);
    }
    Ok(())
}

/// All values that can be opened here.
fn opened(tree: &Tree, book: &Book) -> Vec<Needle> {
    let (identities, _) = identities();
    let mut needles = Vec::new();
    if identities.is_empty() {
        return needles;
    }
    for (file, kept) in &book.files {
        let Ok(kept) = kept else { continue };
        let Some(bytes) = tree.read(file, MAX_FILE) else { continue };
        // What is meant for others is none of ours, and what is damaged is told elsewhere.
        let Ok(opened) = File::parse(&bytes, kept.format).and_then(|file| file.open(&identities)) else {
            continue;
        };
        for (name, secret) in opened.values() {
            let text = Zeroizing::new(secret.expose().to_vec());
            needles.push(Needle { what: format!("the value `{name}` of {file}"), text });
        }
    }
    needles
}

/// Nothing secret stands in the files themselves.
fn of_clear(tree: &Tree, book: &Book, checked: &mut Checked) {
    let patterns = Patterns::new();
    for file in &tree.files {
        if let Some(text) = tree.text(file, clear::MAX_FILE) {
            checked.findings.extend(patterns.scan(file, &text));
        }
    }
    for config in tree.files.iter().filter(|file| is_named(file, rules::FILE)) {
        let Some(text) = tree.text(config, MAX_FILE) else { continue };
        let read = match rules::read(&text) {
            Ok(read) => read,
            Err(why) => {
                let finding = Finding::error(why.to_string(), "sops could not use it either").at(config);
                checked.findings.push(finding);
                continue;
            }
        };
        let dir = config.strip_suffix(rules::FILE).unwrap_or_default();
        let below = tree.files.iter().filter_map(|file| file.strip_prefix(dir));
        let is_sops = |file: &str| {
            let file = format!("{dir}{file}");
            // An empty file has nothing to hide.
            book.files.contains_key(&file) || tree.read(&file, MAX_FILE).is_some_and(|bytes| bytes.is_empty())
        };
        for file in not_encrypted(&read, below, is_sops) {
            let what = format!("{config} says that sops encrypts it, and it stands here in clear");
            let hint = "change what is in it, and encrypt it: `sops --encrypt --in-place FILE`";
            checked.findings.push(Finding::error(what, hint).at(&format!("{dir}{file}")));
        }
    }
}
