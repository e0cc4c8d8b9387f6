//! What sops can be told to encrypt, and what it can encrypt, in files made here.

use super::encryptor::encrypt;
use super::*;

fn samples() -> [(Format, &'static str); 5] {
    [
        (
            Format::Yaml,
            "text: \"ä \\u2028 'x'\\n  two\\n\\n\"\nint: -5\nfloat: 2.50\nyes: true\nno: false\nnothing: null\nempty: ''\n\
             when: 2026-01-02T03:04:05Z\ndeep: {er: {a: [x, {b: y}, [z]]}, n: {}}\n",
        ),
        (Format::Json, r#"{"b": "1", "a": {"x": [1, 2.5, "\u0000", true, null, ""]}, "": "no name"}"#),
        (Format::Dotenv, "# über\nA=1\nB= two words \nC=one\\ntwo\nD=\n"),
        (
            Format::Ini,
            "first = 1\n\n; about it\n[a b]\nk = v\nquoted = \" v \"\nhash = `a#b`\n[c]\nlines = \"\"\"x\ny\"\"\"\n",
        ),
        (Format::Binary, "{\"data\": \"a\\u0000b\"}"),
    ]
}

#[test]
fn every_form_and_type_comes_back_as_it_was() {
    let (identity, _) = Identity::generate();
    for (format, text) in samples() {
        let map = plain(text.as_bytes(), format);
        let bytes = encrypt(&map, format, &[identity.recipient()], |_| true, &[]);
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        let file = File::parse(&bytes, format).unwrap_or_else(|error| panic!("{error}: {shown}"));
        let opened =
            file.open(std::slice::from_ref(&identity)).unwrap_or_else(|error| panic!("{error}: {shown}"));
        assert!(opened.values == map, "{shown}");
        let whole = opened.whole().unwrap();
        match format {
            Format::Binary => assert_eq!(whole.expose(), b"a\0b"),
            Format::Dotenv => assert_eq!(whole.expose(), text.as_bytes()),
            _ => assert!(plain(whole.expose(), format) == map, "{}", String::from_utf8_lossy(whole.expose())),
        }
    }
}

#[test]
fn binary_files_may_hold_any_bytes() {
    let (identity, _) = Identity::generate();
    let bytes: Vec<u8> = (0..=255).collect();
    let map = Map(vec![Item::Entry("data".into(), Value::Text(bytes.clone().into()))]);
    let file = encrypt(&map, Format::Binary, &[identity.recipient()], |_| true, &[]);
    let opened = File::parse(&file, Format::Binary).unwrap().open(&[identity]).unwrap();
    assert!(opened.whole().unwrap().expose() == bytes);
}

#[test]
fn one_value_is_taken_out_by_its_keys() {
    let (identity, _) = Identity::generate();
    let map = plain(b"a: {b: [x, {c: 5}]}\nf: 1.0\nt: true\nn: null\n", Format::Yaml);
    let file = encrypt(&map, Format::Yaml, &[identity.recipient()], |_| true, &[]);
    let opened = File::parse(&file, Format::Yaml).unwrap().open(&[identity]).unwrap();
    for (path, text) in [("a/b/0", "x"), ("a/b/1/c", "5"), ("f", "1"), ("t", "true")] {
        assert_eq!(opened.extract(path).unwrap().expose(), text.as_bytes(), "{path}");
    }
    for path in ["", "a/", "a/b/2", "a/b/x", "b", "a/b/0/x", "/a"] {
        assert_eq!(opened.extract(path).err(), Some(Error::NoKey(path.into())));
    }
    for path in ["a", "a/b", "n"] {
        assert_eq!(opened.extract(path).err(), Some(Error::NotOneValue(path.into())));
    }
}

#[test]
fn what_sops_was_told_to_leave_in_the_clear_is_read_as_it_is() {
    type Encrypts = fn(&[&str]) -> bool;
    let rules: [(&str, &str, Encrypts); 7] = [
        ("unencrypted_suffix", "_clear", |path| !path.iter().any(|key| key.ends_with("_clear"))),
        ("encrypted_suffix", "_secret", |path| path.iter().any(|key| key.ends_with("_secret"))),
        ("unencrypted_regex", "^(port|host)", |path| !path.iter().any(|key| key.starts_with("port"))),
        ("encrypted_regex", "^pass", |path| path.iter().any(|key| key.starts_with("pass"))),
        ("unencrypted_comment_regex", "clear", |path| path != ["port"]),
        ("encrypted_comment_regex", "secret", |path| path == ["password"]),
        // None of them: sops leaves these alone then.
        ("created_at", "2026", |path| !path.iter().any(|key| key.ends_with("_unencrypted"))),
    ];
    let map = plain(
        b"port: 80\npassword: x\ndeep_secret: {a: 1.5}\nlist_clear: [a, true]\nd_unencrypted: 2026-01-02\n",
        Format::Yaml,
    );
    let (identity, _) = Identity::generate();
    let identities = [identity];
    for (key, value, encrypts) in rules {
        for only in [false, true] {
            let mut more = vec![(key, Value::text(value))];
            if only {
                more.push(("mac_only_encrypted", Value::Bool(true)));
            }
            let bytes = encrypt(&map, Format::Yaml, &[identities[0].recipient()], encrypts, &more);
            let opened = File::parse(&bytes, Format::Yaml)
                .unwrap()
                .open(&identities)
                .unwrap_or_else(|error| panic!("{key}: {error}"));
            assert!(opened.values == map, "{key}");
            if !only {
                let text = String::from_utf8(bytes).unwrap();
                for (from, to) in [("port: 80", "port: 81"), ("- true", "- false")] {
                    let changed = text.replace(from, to);
                    let refused =
                        File::parse(changed.as_bytes(), Format::Yaml).unwrap().open(&identities).err();
                    assert!(changed == text || refused == Some(Error::WrongMac), "{key}: {from}");
                }
            }
        }
    }
}

#[test]
fn rules_that_contradict_each_other_or_make_no_sense_are_refused() {
    for rules in [
        "encrypted_suffix: a\n    unencrypted_regex: b",
        "encrypted_regex: \"(\"",
        "encrypted_regex: \"(?P<\"",
    ] {
        let (identity, _) = Identity::generate();
        let bytes = sample("a: b\n", Format::Yaml, identity.recipient());
        let text = String::from_utf8(bytes).unwrap().replace("version:", &format!("{rules}\n    version:"));
        assert!(
            matches!(File::parse(text.as_bytes(), Format::Yaml).err(), Some(Error::Metadata(_))),
            "{rules}"
        );
    }
}

#[test]
fn key_groups_that_have_to_work_together_are_named() {
    let (identity, _) = Identity::generate();
    let to = identity.recipient().to_string();
    let map = plain(b"a: b\n", Format::Yaml);
    let text = String::from_utf8(encrypt(&map, Format::Yaml, &[], |_| true, &[])).unwrap();
    let group = |name: &str| format!("{{age: [{{recipient: {name}, enc: x}}]}}");
    let groups = format!(
        "age: []\n    shamir_threshold: 2\n    key_groups: [{}, {}, {}]",
        group(&to),
        group("y"),
        group("z")
    );
    let text = text.replace("age: []", &groups);
    let error = File::parse(text.as_bytes(), Format::Yaml).unwrap().open(&[identity]).unwrap_err();
    assert_eq!(error, Error::KeyGroups(2, format!("{to}, y, z")));
}

#[test]
fn a_file_that_sops_has_not_encrypted_is_told_from_a_damaged_one() {
    for (format, text) in samples() {
        assert_eq!(File::parse(text.as_bytes(), format).err(), Some(Error::NotSops));
    }
    let damaged = b"a: b\nsops: {version: x}\n";
    assert!(matches!(File::parse(damaged, Format::Yaml).err(), Some(Error::Metadata(_))));
}
