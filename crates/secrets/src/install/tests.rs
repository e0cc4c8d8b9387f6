//! What a host would do with its secrets.

#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::sops::sample;
use crate::{Ciphertext, DeclaredError, Source, seal};

fn id(text: &str) -> FileId {
    FileId::parse(text).unwrap()
}

fn secret(name: &str, key: &str, format: &str, restart: &[&str]) -> Json {
    json!({
        "name": name, "key": key, "format": format, "owner": "root", "group": "keys", "mode": "0440",
        "path": format!("/run/secrets/{name}"), "restartUnits": restart, "reloadUnits": ["all.service"],
        "neededForUsers": false,
    })
}

fn template(name: &str, content: &str) -> Json {
    json!({
        "name": name, "content": content, "owner": "nginx", "group": "nginx", "mode": "0400",
        "path": format!("/run/secrets/rendered/{name}"), "restartUnits": ["nginx.service"],
    })
}

fn placeholder(name: &str) -> String {
    format!("<SOPS:{}:PLACEHOLDER>", hash(&SecretName::parse(name).unwrap()))
}

fn declared(secrets: &[Json], templates: &[Json]) -> Declared {
    Declared::parse(
        json!({ "version": 1, "secrets": secrets, "templates": templates }).to_string().as_bytes(),
    )
    .unwrap()
}

/// A bundle in which `secrets.yaml` has the values of all secrets.
fn bundle(identity: &Identity, yaml: &str, secrets: &[&str]) -> Bundle {
    let to = identity.recipient();
    let sops = |text: &str, format| Ciphertext {
        kind: CiphertextKind::Sops { format },
        data: sample(text, format, to),
    };
    let files = [
        (id("secrets.yaml"), sops(yaml, Format::Yaml)),
        (id("app.env"), sops("A=1\n", Format::Dotenv)),
        (
            id("key"),
            Ciphertext { kind: CiphertextKind::Age, data: seal(b"wifi", std::slice::from_ref(to)).unwrap() },
        ),
    ];
    let from = |name: &&str| {
        let file = if *name == "env" { "app.env" } else { "secrets.yaml" };
        (SecretName::parse(name).unwrap(), Source { file: id(file) })
    };
    let key = FileName::parse("wifi").unwrap();
    let keys = [(key.clone(), Key::with_defaults(&key, id("key")).unwrap())];
    Bundle::new(files.into(), secrets.iter().map(from).collect(), keys.into()).unwrap()
}

fn text(placed: &Placed<'_>) -> String {
    String::from_utf8(placed.bytes.expose().to_vec()).unwrap()
}

#[test]
fn the_placeholder_is_the_one_of_sops_nix() {
    // `builtins.hashString "sha256" "hello"`.
    let hello = "<SOPS:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824:PLACEHOLDER>";
    assert_eq!(placeholder("hello"), hello);
}

#[test]
fn what_is_declared_and_carried_is_put_in_its_place() {
    let (identity, _) = Identity::generate();
    let bundle =
        bundle(&identity, "db: {pw: geheim}\ntoken: \"<SOPS:x\"\n", &["db/pw", "token", "all", "env"]);
    let content =
        format!("a={}\nb={}<SOPS:{}", placeholder("db/pw"), placeholder("token"), placeholder("db/pw"));
    let declared = declared(
        &[
            secret("db/pw", "db/pw", "yaml", &[]),
            secret("token", "token", "yaml", &[]),
            secret("all", "", "yaml", &[]),
            secret("env", "ignored", "dotenv", &[]),
        ],
        &[template("app.conf", &content), template("plain", "no secret")],
    );
    let (placed, failed) = secrets(&declared, &bundle, &[identity]);
    assert_eq!(failed, []);
    let found: Vec<_> = placed.iter().map(|it| (it.name.as_str(), text(it))).collect();
    assert_eq!(
        found,
        [
            ("db/pw", "geheim".to_owned()),
            ("token", "<SOPS:x".to_owned()),
            ("all", "db:\n    pw: geheim\ntoken: \"<SOPS:x\"\n".to_owned()),
            ("env", "A=1\n".to_owned()),
            ("app.conf", "a=geheim\nb=<SOPS:x<SOPS:geheim".to_owned()),
            ("plain", "no secret".to_owned()),
        ]
    );
    assert_eq!((placed[0].owned.group.as_str(), placed[0].owned.mode.bits()), ("keys", 0o440));
    assert_eq!(
        placed.iter().map(|it| it.template).collect::<Vec<_>>(),
        [false, false, false, false, true, true]
    );
}

#[test]
fn one_secret_that_cannot_be_opened_does_not_keep_the_others_from_their_places() {
    let (identity, _) = Identity::generate();
    let bundle = bundle(&identity, "a: x\nmap: {b: c}\n", &["a", "map", "gone", "env"]);
    let declared = declared(
        &[
            secret("a", "a", "yaml", &[]),
            secret("map", "map", "yaml", &[]),
            secret("gone", "gone", "yaml", &[]),
            secret("new", "new", "yaml", &[]),
            secret("env", "", "binary", &[]),
        ],
        &[
            template("good", &placeholder("a")),
            template("bad", &placeholder("gone")),
            template("unknown", &placeholder("nobody")),
        ],
    );
    let (placed, failed) = secrets(&declared, &bundle, &[identity]);
    assert_eq!(placed.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["a", "good"]);
    let said: Vec<String> = failed.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "the secret `map`: its file `secrets.yaml` can't be opened: `map` is not one value",
            "the secret `gone`: its file `secrets.yaml` can't be opened: it has no `gone`",
            "the secret `new`: its file was not carried to this host; deploy the host again",
            "the secret `env`: its file `app.env` was carried as dotenv, and the system declares it as binary",
            "the template `bad`: it needs the secret `gone`, which can't be opened",
            "the template `unknown`: it has a placeholder of a secret that the system does not declare",
        ]
    );
}

#[test]
fn with_the_wrong_key_nothing_is_opened_and_each_says_why() {
    let (ours, _) = Identity::generate();
    let (other, _) = Identity::generate();
    let bundle = bundle(&ours, "a: x\n", &["a"]);
    let declared = declared(&[secret("a", "a", "yaml", &[])], &[]);
    let (placed, failed) = secrets(&declared, &bundle, std::slice::from_ref(&other));
    assert!(placed.is_empty() && failed[0].to_string().contains(ours.recipient().as_str()), "{failed:?}");
    let (placed, failed) = keys(&bundle, &[other]);
    assert!(placed.is_empty());
    assert_eq!(failed[0].trouble, Trouble::Unseal(UnsealError::NotForUs));
    let (placed, failed) = keys(&bundle, &[ours]);
    assert!(failed.is_empty() && placed[0].bytes.expose() == b"wifi");
}

#[test]
fn units_hear_of_what_is_new_or_has_changed_and_of_nothing_else() {
    let (identity, _) = Identity::generate();
    let identities = [identity];
    let declared = declared(
        &[secret("a", "a", "yaml", &["a.service"]), secret("b", "b", "yaml", &["b.service", "all.service"])],
        &[template("t", &placeholder("a"))],
    );
    let place = |yaml: &str| secrets(&declared, &bundle(&identities[0], yaml, &["a", "b"]), &identities).0;
    let before = Hashes::of(&place("a: x\nb: y\n"));
    let changed = |yaml: &str, before: &Hashes| {
        let Changes { restart, reload } = changes(&place(yaml), before);
        let names =
            |units: BTreeSet<UnitName>| units.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        (names(restart), names(reload))
    };
    let said = |restart: &str, reload: &str| (restart.to_owned(), reload.to_owned());
    assert_eq!(changed("a: x\nb: y\n", &before), said("", ""));
    assert_eq!(changed("a: z\nb: y\n", &before), said("a.service nginx.service", "all.service"));
    assert_eq!(changed("a: x\nb: z\n", &before), said("all.service b.service", ""));
    let everything = said("a.service all.service b.service nginx.service", "");
    assert_eq!(changed("a: x\nb: y\n", &Hashes::default()), everything);
}

#[test]
fn declarations_that_would_be_in_each_others_way_are_refused_before_a_switch() {
    let parse = |secrets: &[Json], templates: &[Json]| {
        let text = json!({ "version": 1, "secrets": secrets, "templates": templates }).to_string();
        Declared::parse(text.as_bytes()).map_err(|error| error.to_string())
    };
    let of = |name: &str| secret(name, "a", "yaml", &[]);
    let why = parse(&[of("db"), of("db/password")], &[]).unwrap_err();
    assert!(why.contains("`db` and `db/password` can't both be there"), "{why}");
    // Those for users are in another folder.
    let mut for_users = of("db");
    for_users["neededForUsers"] = true.into();
    assert!(parse(&[for_users, of("db/password")], &[]).is_ok());
    let why = parse(&[of("a/b"), of("a-b")], &[]).unwrap_err();
    assert!(why.contains("`a/b` and `a-b` have the same unit, a-b-key.service"), "{why}");
    assert!(parse(&[of("rendered")], &[template("a", "")]).unwrap_err().contains("`rendered/a`"));
    assert!(parse(&[of("rendered/a")], &[template("a", "")]).unwrap_err().contains("rendered/a`"));
    assert!(parse(&[of("a/b"), of("a/c")], &[template("a", "")]).is_ok());
}

#[test]
fn declarations_that_would_overwrite_each_other_are_refused() {
    let parse = |secrets: &[Json], templates: &[Json]| {
        Declared::parse(
            json!({ "version": 1, "secrets": secrets, "templates": templates }).to_string().as_bytes(),
        )
    };
    let a = secret("a", "a", "yaml", &[]);
    assert!(matches!(parse(&[a.clone(), a.clone()], &[]), Err(DeclaredError::Twice(_))));
    let mut b = template("a", "");
    assert!(parse(std::slice::from_ref(&a), std::slice::from_ref(&b)).is_ok());
    b["path"] = a["path"].clone();
    assert!(matches!(parse(std::slice::from_ref(&a), &[b]), Err(DeclaredError::Twice(_))));
    for (field, wrong) in
        [("path", "run/x"), ("path", "/run/../x"), ("mode", "4755"), ("owner", "-x"), ("format", "xml")]
    {
        let mut changed = a.clone();
        changed[field] = json!(wrong);
        assert!(parse(&[changed], &[]).is_err(), "{field}");
    }
    assert_eq!(Declared::parse(b"{\"version\":1}").unwrap(), Declared::default());
    assert!(matches!(Declared::parse(b"{\"version\":2}"), Err(DeclaredError::Version(2))));
    assert!(Declared::parse(b"{}").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_template_is_its_text_with_each_placeholder_replaced_once(
        pieces in prop::collection::vec(prop_oneof![
            "[<SOPS:>a-f0-9]{0,8}".prop_map(Some),
            Just(None),
        ], 0..8),
        value: Vec<u8>,
    ) {
        let name = SecretName::parse("a").unwrap();
        let value = Secret::new(value);
        let by_hash = HashMap::from([(hash(&name), (&name, Some(&value)))]);
        let (mut content, mut expected) = (String::new(), Vec::<u8>::new());
        for piece in pieces {
            match piece {
                Some(text) => {
                    content += &text;
                    expected.extend(text.as_bytes());
                }
                None => {
                    content += &placeholder("a");
                    expected.extend(value.expose());
                }
            }
        }
        let Json::Object(owned) = template("t", &content) else { panic!("no object") };
        let template: DeclaredTemplate = serde_json::from_value(Json::Object(owned)).unwrap();
        prop_assert!(render(&template, &by_hash).ok().unwrap().expose() == expected);
    }
}
