//! The fleet's secrets, as an operator sees them: who can read which, and who should.
//!
//! `readers` and `audit` decide, `rules` writes `.sops.yaml`; what is read, asked and run for that is in `tree`, `sops` and
//! `identities`. Files are never written here but by `sops` itself.

pub(crate) mod audit;
pub(crate) mod identities;
pub(crate) mod readers;
pub(crate) mod rekey;
pub(crate) mod rules;
pub(crate) mod sops;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

use std::collections::BTreeMap;

use bosco_model::HostName;
use bosco_nix::{Inspected, Source};
use bosco_release::{FleetFile, Key};
use bosco_secrets::Recipient;
use bosco_secrets::sops::{Error as SopsError, File, Format, MAX_FILE};
use bosco_wire::api::Next;

use self::readers::{Asked, Book, HostKeys, Kept, Operator, Reader};
use self::rules::Named;
use self::tree::Tree;
use crate::cli::Cli;
use crate::error::{Error, Exit};
use crate::event::{Event, Sink};
use crate::fleet::{Chosen, Context};
use crate::hub::{Hub, Rules, Vouched};
use crate::outcome::Outcome;
use crate::release::newest;

/// What a fleet says of its hosts: of each what was found, or why it does not evaluate.
pub(crate) type Answers = Vec<(HostName, Result<Inspected, Outcome>)>;

/// A fleet, with all that is known of its secrets.
pub(crate) struct Secrets {
    pub(crate) tree: Tree,
    pub(crate) book: Book,
}

/// Evaluates all hosts, and with `system` what makes their toplevels.
pub(crate) async fn inspect(context: &Context, system: bool) -> Result<Answers, Error> {
    let ask = move |context: Context, chosen: Chosen| async move {
        let answer = context.inspect(&chosen, system).await;
        Some((chosen.name, answer))
    };
    context.ask(None, ask).await
}

/// All that is known of the secrets of the fleet here, without opening any. A host that does not evaluate is an error:
/// without it nobody could say who is a stranger.
pub(crate) async fn survey(cli: &Cli, events: Sink) -> Result<Secrets, Error> {
    let context = Context::find(cli, events).await?;
    here(&context.fleet.source)?;
    let tree = Tree::of(&context.fleet.source.dir).await?;
    let answers = inspect(&context, false).await?;
    if let Some((host, Err(outcome))) = answers.iter().find(|(_, answer)| answer.is_err()) {
        return Err(Error::of(host, outcome));
    }
    let book = book(&context, &tree, &answers).await?;
    Ok(Secrets { tree, book })
}

/// That the fleet's files lie here.
pub(crate) fn here(source: &Source) -> Result<(), Error> {
    if source.is_here() {
        return Ok(());
    }
    Err(Error::new(Exit::Usage, format!("{source} is not a directory here"))
        .hint("this command looks at the fleet's files; run it in a checkout"))
}

/// Puts together what the fleet's files, its hosts and its hub say.
pub(crate) async fn book(context: &Context, tree: &Tree, answers: &Answers) -> Result<Book, Error> {
    let rules = context.rules.as_ref();
    let mut book = Book::default();
    let is_rules = |file: &&String| file.rsplit('/').next() == Some(rules::FILE);
    for file in tree.files.iter().filter(is_rules) {
        // What is wrong with it is told where it is used.
        let Ok(read) = rules::read(&tree.text(file, MAX_FILE).unwrap_or_default()) else { continue };
        let named = read.named.into_iter();
        book.named.extend(named.map(|(reader, named)| (reader, Named { file: file.clone(), ..named })));
    }
    if let Some(rules) = rules {
        book.operators = operators(&rules.file)
            .map_err(|why| Error::new(Exit::Usage, format!("{}: {why}", rules.path.display())))?;
    }
    for (host, answer) in answers {
        let Ok(inspected) = answer else { continue };
        let (readers, invalid) = match public_keys(&inspected.public_keys) {
            Ok(keys) => (keys.iter().map(Reader::from).collect(), None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let tags = inspected.tags.clone();
        let keys = HostKeys { tags, readers, invalid, unproven: BTreeMap::new() };
        book.hosts.insert(host.clone(), keys);
        book.asked.extend(inspected.secrets.iter().map(|secret| Asked {
            host: host.clone(),
            name: secret.name.clone(),
            file: tree.place_of(&context.fleet.source.dir, host, &secret.file),
            key: secret.key.clone(),
            format: secret.format.clone(),
        }));
    }
    book.files = files(tree, &book.asked);
    if context.fleet.source.is_what_git_knows() {
        for file in book.asked.iter().filter_map(|asked| asked.file.as_ref().ok()) {
            if tree.unknown.contains(file) {
                book.files
                    .insert(file.clone(), Err("git does not know the file, so Nix does not see it".into()));
            }
        }
    }
    let is_open = |keys: &HostKeys| keys.readers.is_empty() && keys.invalid.is_none();
    if book.hosts.values().any(is_open) {
        let (enrolled, vouched) = enrolled(rules, &context.events).await?;
        for (host, keys) in enrolled {
            let entry = book.hosts.get_mut(&host).filter(|entry| is_open(entry));
            if let Some(entry) = entry {
                entry.readers = readers_of(keys.iter().map(Key::as_str));
                for (key, unproven) in
                    keys.iter().filter_map(|key| Some((key, vouched.one(&host, key).err()?)))
                {
                    let readers = readers_of([key.as_str()]);
                    entry.unproven.extend(readers.into_iter().map(|reader| (reader, unproven.clone())));
                }
            }
        }
    }
    Ok(book)
}

/// What to do about a key that is none.
pub(crate) const MEND_KEYS: &str = "copy the line of its /etc/ssh/ssh_host_ed25519_key.pub, or take it out";

/// A host's declared keys, those that something can be encrypted to. `Err` says which is no key at all: where a typo went
/// unsaid, one of two keys would be missing.
pub(crate) fn public_keys(texts: &[String]) -> Result<Vec<Recipient>, String> {
    let mut keys = Vec::new();
    for text in texts {
        match Recipient::parse(text) {
            Ok(key) => keys.push(key),
            Err(_) if is_of_another_kind(text.trim()) => {}
            Err(why) => return Err(format!("`deployment.publicKeys`: {why}")),
        }
    }
    Ok(keys)
}

/// An RSA key, say, or a recipient of one of age's plugins: `age1NAME1…`, which in age's own has no second `1`.
fn is_of_another_kind(text: &str) -> bool {
    let of_plugin = text.strip_prefix("age1").is_some_and(|rest| rest.contains('1'));
    of_plugin || Key::parse(text).is_ok_and(|key| !key.as_str().starts_with("ssh-ed25519 "))
}

/// Those of some keys that something can be encrypted to.
pub(crate) fn readers_of<T: AsRef<str>>(keys: impl IntoIterator<Item = T>) -> Vec<Reader> {
    let keys = keys.into_iter().filter_map(|key| Recipient::parse(key.as_ref()).ok());
    keys.map(|recipient| Reader::from(&recipient)).collect()
}

/// The operators, with what they read by. `Err` says what of it can't be one.
pub(crate) fn operators(file: &FleetFile) -> Result<BTreeMap<String, Operator>, String> {
    let operator = |(name, one): (&String, &bosco_release::OperatorFile)| {
        let recipients: Vec<Recipient> = match &one.recipients {
            None => one.keys.iter().filter_map(|key| Recipient::parse(key.as_str()).ok()).collect(),
            Some(texts) => {
                let recipients: Result<_, _> = texts.iter().map(|text| Recipient::parse(text)).collect();
                recipients.map_err(|why| format!("`operators.{name}.recipients`: {why}"))?
            }
        };
        let is_ssh = |recipient: &&Recipient| recipient.as_str() != recipient.age_form().as_str();
        let ssh = recipients.iter().filter(is_ssh);
        let ssh = ssh.map(|recipient| (Reader::from(recipient), recipient.as_str().to_owned())).collect();
        let readers = recipients.iter().map(Reader::from).collect();
        Ok((name.clone(), Operator { hosts: one.hosts.clone(), readers, ssh }))
    };
    file.operators.iter().map(operator).collect()
}

/// The keys by which the hub knows hosts, where there is one, and who else says so.
async fn enrolled(
    rules: Option<&Rules>,
    events: &Sink,
) -> Result<(BTreeMap<HostName, Vec<Key>>, Vouched), Error> {
    let Some(rules) = rules else { return Ok(Default::default()) };
    let ask = async {
        let Some(hub) = Hub::from(rules.clone()).await? else { return Ok::<_, Error>(None) };
        let mut connection = hub.open().await?;
        let next: Next = connection.get("/v1/next").await?;
        let before = newest(&mut connection, &rules.file.all_signers()).await?;
        Ok(Some((next.keys, before)))
    };
    match ask.await {
        Ok(None) => Ok(Default::default()),
        Ok(Some((keys, before))) => Ok((keys, Vouched::of(&rules.file, before.as_ref())?)),
        Err(error) => {
            let text =
                format!("not all hosts declare their key, and the hub can't be asked: {}", error.message);
            events(Event::Warning { host: None, text });
            Ok(Default::default())
        }
    }
}

/// The sops files among the fleet's files. Their form is the one that they are asked for in, or else that of their name.
pub(crate) fn files(tree: &Tree, asked: &[Asked]) -> BTreeMap<String, Result<Kept, String>> {
    let asked: BTreeMap<&str, Format> = asked
        .iter()
        .filter_map(|asked| Some((asked.file.as_deref().ok()?, format(&asked.format)?)))
        .collect();
    let read = |file: &String| {
        let bytes = tree.read(file, MAX_FILE)?;
        let asked = asked.get(file.as_str()).copied();
        let kept = match kept(&bytes, asked.unwrap_or_else(|| Format::of_name(file))) {
            None if asked.is_some() && !bytes.is_empty() => {
                Err("it stands there in clear, not encrypted by sops".into())
            }
            kept => kept?,
        };
        Some((file.clone(), kept))
    };
    tree.files.iter().filter_map(read).collect()
}

/// To which of age's recipients a file is encrypted, as it has them. `None` where it can't be read.
pub(crate) fn recipients(tree: &Tree, file: &str, format: Format) -> Option<Vec<String>> {
    let file = File::parse(&tree.read(file, MAX_FILE)?, format).ok()?;
    let age = file.recipients().into_iter().filter(|key| key.kind == "age");
    Some(age.map(|key| key.name).collect())
}

/// The form that a configuration names.
pub(crate) fn format(name: &str) -> Option<Format> {
    let all = [Format::Yaml, Format::Json, Format::Dotenv, Format::Ini, Format::Binary];
    all.into_iter().find(|format| format.as_str() == name)
}

/// What is known of a file; nothing where it is none of sops'.
fn kept(bytes: &[u8], format: Format) -> Option<Result<Kept, String>> {
    // Most files are not, and each would be read as JSON.
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    if !has(b"sops") || !has(b"ENC[") {
        return None;
    }
    let file = match File::parse(bytes, format) {
        Ok(file) => file,
        Err(SopsError::NotSops | SopsError::Syntax { .. } | SopsError::NotAMap(_))
            if format == Format::Binary =>
        {
            return None;
        }
        Err(SopsError::NotSops) => return None,
        Err(why) => return Some(Err(why.to_string())),
    };
    if !file.has_mac() {
        return Some(Err(SopsError::NoMac.to_string()));
    }
    let (age, others): (Vec<_>, Vec<_>) = file.recipients().into_iter().partition(|key| key.kind == "age");
    Some(Ok(Kept {
        format,
        readers: age.iter().map(|key| Reader::of(&key.name)).collect(),
        others: others.iter().map(ToString::to_string).collect(),
        groups: has(b"key_groups"),
        names: file.names(),
    }))
}
