//! Decisions about who reads what, by a small fleet: `web` and `db` with operators `ada`, for all, and `bo`, for `web`.

use std::collections::{BTreeMap, BTreeSet};

use bosco_model::{HostName, Selector};
use bosco_secrets::sops::Format;
use proptest::prelude::*;

use super::audit::{audit, wanted};
use super::public_keys;
use super::readers::{Asked, Book, HostKeys, Kept, Operator, Reader, Who, lines};
use super::rekey::plan;
use super::rules::Named;
use crate::finding::{Finding, Level};
use crate::hub::Unproven;

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

/// Readers that are their names.
fn readers(names: &str) -> Vec<Reader> {
    names.split_whitespace().map(Reader::of).collect()
}

fn kept(names: &str) -> Result<Kept, String> {
    Ok(Kept {
        format: Format::Yaml,
        readers: readers(names).into_iter().collect(),
        others: Vec::new(),
        groups: false,
        names: vec!["db/password".into(), "token".into()],
    })
}

fn asked(of: &str, file: &str, key: &str) -> Asked {
    Asked {
        host: host(of),
        name: key.replace('/', "-"),
        file: Ok(file.into()),
        key: key.into(),
        format: "yaml".into(),
    }
}

fn book() -> Book {
    let keys = |names: &str| HostKeys {
        tags: BTreeSet::new(),
        readers: readers(names),
        invalid: None,
        unproven: BTreeMap::new(),
    };
    let operator = |hosts: &str, names: &str| Operator {
        hosts: Selector::parse(hosts).unwrap(),
        readers: readers(names),
        ssh: BTreeMap::new(),
    };
    Book {
        hosts: [(host("web"), keys("web web-next")), (host("db"), keys("db"))].into(),
        operators: [("ada".into(), operator("*", "ada")), ("bo".into(), operator("web", "bo"))].into(),
        named: BTreeMap::new(),
        files: [("web.yaml".into(), kept("ada bo web web-next")), ("db.yaml".into(), kept("ada db"))].into(),
        asked: vec![asked("web", "web.yaml", "token"), asked("db", "db.yaml", "db/password")],
    }
}

fn named(name: &str) -> Named {
    Named { name: Some(name.into()), file: ".sops.yaml".into(), line: 3 }
}

fn words(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(Finding::words).collect()
}

#[test]
fn a_fleet_that_is_in_order_is_told_nothing() {
    assert_eq!(words(&audit(&book())), [""; 0]);
    let plan = plan(&book());
    assert!(plan.changes.is_empty() && plan.undecided.is_empty());
    assert_eq!(plan.rules["web.yaml"].who, "ada, bo, web");
}

#[test]
fn a_secret_that_is_not_there_for_its_host_is_told() {
    let mut book = book();
    book.files.insert("web.yaml".into(), kept("ada bo"));
    book.files.insert("db.yaml".into(), Err("it has no MAC".into()));
    book.asked.push(asked("web", "none.yaml", "token"));
    book.asked.push(asked("web", "web.yaml", "tokn"));
    book.asked.push(asked("web", "web.yaml", "db"));
    let said = words(&audit(&book)).join("\n");
    for expected in [
        "web.yaml: web: the file is not encrypted to this host",
        "db.yaml: db: the secret `db-password` can't be read: it has no MAC",
        "none.yaml: web: the secret `token` is to be in this file, which is not there",
        "web.yaml: web: the secret `tokn` is `tokn`, which is not in this file",
        "web.yaml: web: the secret `db` is `db`, which is not one value",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    let near = audit(&book).into_iter().find(|finding| finding.what.contains("`tokn`")).unwrap();
    assert!(near.hint.contains("`token`"), "{}", near.hint);
}

#[test]
fn a_hosts_next_key_and_its_operators_are_to_read_its_secrets_too() {
    let mut book = book();
    book.files.insert("web.yaml".into(), kept("ada web"));
    let said = words(&audit(&book)).join("\n");
    assert!(said.contains("web: the file is encrypted to one of the host's keys"), "{said}");
    assert!(said.contains("it is not encrypted to the operator bo"), "{said}");
    let plan = plan(&book);
    assert_eq!(plan.changes.len(), 1);
    assert_eq!(plan.changes[0].added, ["bo", "web"]);
}

#[test]
fn whom_the_fleet_does_not_know_is_told_until_it_is_taken_out() {
    let mut book = book();
    book.files.insert("db.yaml".into(), kept("ada db gone"));
    book.named.insert(Reader::of("gone"), named("server_old"));
    let found = audit(&book);
    assert_eq!(
        words(&found),
        [
            ".sops.yaml:3: it names server_old (gone), who is not of the fleet",
            "db.yaml: it is encrypted to server_old (gone), who is not of the fleet"
        ]
    );
    assert_eq!(found.iter().map(|finding| finding.level).collect::<Vec<_>>(), [Level::Warning, Level::Error]);
    assert_eq!(plan(&book).changes[0].removed, ["server_old (gone)"]);
    // A host that left is one of them.
    book.hosts.remove(&host("web"));
    book.asked.retain(|asked| asked.host != host("web"));
    assert!(
        words(&audit(&book)).join("\n").contains("web.yaml: it is encrypted to web, who is not of the fleet")
    );
    let plan = plan(&book);
    let web = plan.changes.iter().find(|change| change.file == "web.yaml").unwrap();
    assert_eq!(web.removed, ["web", "web-next"]);
}

#[test]
fn without_operators_those_whom_sops_yaml_names_are_known_and_nobody_is_taken_out() {
    let mut book = Book { operators: BTreeMap::new(), ..book() };
    book.named.insert(Reader::of("ada"), named("admin_ada"));
    book.files.remove("web.yaml");
    assert_eq!(book.who(&Reader::of("ada")), Who::Unknown(Some("admin_ada")));
    book.asked.remove(0);
    assert_eq!(words(&audit(&book)), [""; 0]);
    book.files.insert("db.yaml".into(), kept("ada db gone"));
    assert_eq!(audit(&book).len(), 1);
    assert!(plan(&book).changes.is_empty());
}

#[test]
fn who_has_no_host_keeps_the_files_that_they_read() {
    let mut book = book();
    let cluster =
        Operator { hosts: Selector::parse("!*").unwrap(), readers: readers("cluster"), ssh: BTreeMap::new() };
    book.operators.insert("cluster".into(), cluster);
    book.files.insert("cluster.yaml".into(), kept("ada cluster"));
    assert_eq!(words(&audit(&book)), [""; 0]);
    assert!(plan(&book).changes.is_empty());
}

#[test]
fn a_host_without_a_known_key_keeps_its_files_from_being_changed() {
    let mut book = book();
    book.hosts.get_mut(&host("db")).unwrap().readers.clear();
    let found = audit(&book);
    assert!(words(&found).contains(&"db: it asks for secrets, and its key is not known".into()), "{found:?}");
    let undecided = plan(&book).undecided;
    assert_eq!(undecided.len(), 1);
    assert_eq!((undecided[0].0.as_str(), &undecided[0].1.host), ("db.yaml", &host("db")));
    assert!(plan(&book).changes.is_empty());
}

#[test]
fn files_with_keys_of_other_kinds_are_named_and_left_alone() {
    let mut book = book();
    let pgp = Kept { readers: BTreeSet::new(), others: vec!["pgp ABCD".into()], ..kept("").unwrap() };
    book.files.insert("old.yaml".into(), Ok(pgp.clone()));
    let found = audit(&book);
    assert_eq!(words(&found), ["old.yaml: it is encrypted to pgp ABCD only, which no host opens"]);
    assert_eq!(found[0].level, Level::Warning, "nobody asks for it");
    book.files.insert("web.yaml".into(), Ok(pgp));
    assert!(audit(&book).iter().any(|finding| finding.level == Level::Error));
    assert!(!plan(&book).rules.contains_key("web.yaml"));
    let groups = Kept { groups: true, ..kept("ada").unwrap() };
    book.files.insert("db.yaml".into(), Ok(groups));
    assert_eq!(wanted(&book, "db.yaml"), Ok(None));
}

#[test]
fn a_list_says_who_else_reads_and_what_is_not_asked_for() {
    let mut book = book();
    book.files.insert("all.yaml".into(), kept("ada web db gone"));
    let lines = lines(&book, &[host("db")].into());
    assert_eq!(lines.iter().map(|line| line.file.as_str()).collect::<Vec<_>>(), ["all.yaml", "db.yaml"]);
    assert!(lines[0].can_read && lines[0].asks_for.is_empty());
    assert_eq!(
        (lines[0].hosts.as_slice(), lines[0].operators.as_slice()),
        ([host("web")].as_slice(), ["ada".to_owned()].as_slice())
    );
    assert_eq!(lines[0].others, ["gone"]);
    assert_eq!(lines[1].asks_for, ["db-password"]);
    let stolen = book.readable(&readers("web-next"));
    assert_eq!(stolen.into_keys().collect::<Vec<_>>(), ["web.yaml"]);
}

#[test]
fn an_ssh_key_and_what_is_derived_from_it_are_one_reader() {
    let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBI1+Q+ntzANebtnicCiAY29uqLGWOaOGLEa8bUqOVmS x@y";
    assert_eq!(Reader::of(ssh), Reader::of("age1a8pk4akrdamj7nvqy3zywgtny8dxz7t5xzu7u8v9mhrayp9freqsqatyrs"));
}

const NAMES: [&str; 7] = ["web", "web-next", "db", "ada", "bo", "gone", "other"];

proptest! {
    /// What rekeying comes to is in order, as far as recipients go, and there is nothing left to do.
    #[test]
    fn what_is_rekeyed_is_in_order(
        web in proptest::sample::subsequence(NAMES.to_vec(), 1..7),
        both in proptest::sample::subsequence(NAMES.to_vec(), 1..7),
        by_both in any::<bool>(),
    ) {
        let mut book = book();
        book.files.insert("web.yaml".into(), kept(&web.join(" ")));
        book.files.insert("both.yaml".into(), kept(&both.join(" ")));
        if by_both {
            book.asked.extend([asked("web", "both.yaml", "token"), asked("db", "both.yaml", "token")]);
        }
        for (file, rule) in plan(&book).rules {
            if let Some(Ok(kept)) = book.files.get_mut(&file) {
                kept.readers = rule.readers;
            }
        }
        prop_assert_eq!(audit(&book), []);
        prop_assert!(plan(&book).changes.is_empty());
    }
}

#[test]
fn an_operators_ssh_key_is_written_as_it_is_for_sops_to_open_the_file_with_it() {
    let ssh = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBI1+Q+ntzANebtnicCiAY29uqLGWOaOGLEa8bUqOVmS";
    let text = format!("fleet = \"home\"\n[operators.ada]\nkeys = [\"{ssh} ada@laptop\"]\n");
    let operators = super::operators(&bosco_release::FleetFile::parse(&text).unwrap()).unwrap();
    let mut book = book();
    book.hosts.get_mut(&host("db")).unwrap().readers = vec![Reader::of("age1db")];
    book.operators = operators;
    let plan = plan(&book);
    let rule = &plan.rules["db.yaml"];
    assert!(rule.recipients.contains(&ssh.to_owned()), "{rule:?}");
    assert!(rule.readers.contains(&Reader::of(ssh)), "{rule:?}");
}

#[test]
fn a_key_that_the_hub_alone_names_gets_into_no_file() {
    let mut book = book();
    let stolen = Unproven::for_tests(&host("db"));
    let db = book.hosts.get_mut(&host("db")).unwrap();
    *db =
        HostKeys { readers: readers("hubs"), unproven: [(Reader::of("hubs"), stolen)].into(), ..db.clone() };
    let planned = plan(&book);
    assert!(planned.changes.is_empty() && !planned.rules.contains_key("db.yaml"), "{planned:?}");
    let (file, why) = &planned.undecided[0];
    assert_eq!(file, "db.yaml");
    assert!(why.why.starts_with("db: the hub says that its key is SHA256:"), "{}", why.why);
    assert!(why.hint.contains("bosco secrets accept db SHA256:"), "{}", why.hint);
    assert!(words(&audit(&book)).join("\n").contains("the hub says that its key is"));
    // Nor into one that is not there yet.
    book.asked.push(asked("db", "new.yaml", "x"));
    assert!(plan(&book).undecided.iter().any(|(file, _)| file == "new.yaml"));
    // Where it was put by somebody else before, it stays.
    book.files.insert("db.yaml".into(), kept("ada hubs gone"));
    let planned = plan(&book);
    assert_eq!((planned.changes[0].file.as_str(), planned.changes[0].removed.len()), ("db.yaml", 1));
}

#[test]
fn a_typo_in_a_hosts_key_is_told_and_takes_nobody_out() {
    let mut book = book();
    let web = book.hosts.get_mut(&host("web")).unwrap();
    *web =
        HostKeys { readers: Vec::new(), invalid: Some("`ssh-ed25519 AAAA` is no key".into()), ..web.clone() };
    let said = words(&audit(&book)).join("\n");
    assert!(said.contains("web: `ssh-ed25519 AAAA` is no key"), "{said}");
    assert!(!said.contains("its key is not known"), "{said}");
    let plan = plan(&book);
    assert!(plan.changes.is_empty() && plan.undecided[0].1.why.contains("is no key"), "{plan:?}");
}

#[test]
fn keys_of_other_kinds_are_passed_over_and_what_is_none_is_not() {
    let good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBI1+Q+ntzANebtnicCiAY29uqLGWOaOGLEa8bUqOVmS ada@x";
    let rsa = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC98a+rhvtgUAUsKmsQg5MNYrahcZQK2KTxaBujRqiHnSjoJ5a1oVnI6Vtf6iDocEXITpA3XIeFz0hKQS1qIlprJE2XzPcCSFlda7AtEHHUgnA5Xw8I0Edr4PgN2Gcfq5NYSuenOU5aPu4paZe+S3Jw4eFoHaz8eoIgvWWAbsI8aM7o7nNJJwVZhRS9lVb14wygYJ/v3OT0Klu8Nj9sdCbccLZzijkAuo0mYPGB5VYm1p3KP3PUuTUEW5TUHJdiheBzXBYRul6oX72jL9x6l2ivi6rWLJRfrCfEe5FUX7JUf4gJ/rUdtS+tuN3oImiZz2Ef5UwQgL7NHD+yNh0MOzgn";
    let yubikey = "age1yubikey1q2w7u3vpya839jxxuq8g0sedh3d740d4xvn639sqhr95ejj8vu3hyfumptt";
    let keys = |texts: &[&str]| public_keys(&texts.iter().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(keys(&[good, yubikey]).unwrap().len(), 1);
    assert_eq!(keys(&[rsa, good]).map(|keys| keys.len()), Ok(1));
    let typos = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5",
        "ed25519 AAAA",
        "",
        "age1a8pk4akrdamj7nvqy3zywgtny8dxz7t5xzu7u8v9mhrayp9freqsqatyrz",
    ];
    for typo in typos {
        assert!(keys(&[good, typo]).unwrap_err().contains("`deployment.publicKeys`"), "{typo}");
    }
}
