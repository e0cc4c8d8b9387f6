//! What is carried to a host: sealed for it, and only one way to write it down.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use std::collections::BTreeMap;

use bosco_secrets::sops::Format;
use bosco_secrets::{
    Bundle, BundleError, Ciphertext, CiphertextKind, FileId, FileName, Identity, InvalidIdentity, Key,
    Recipient, SecretName, Source, UnsealError, seal, unseal,
};
use proptest::prelude::*;

// Made by ssh-keygen for these tests.
const SSH_KEY: &str = include_str!("keys/ed25519");
const SSH_PUB: &str = include_str!("keys/ed25519.pub");

#[test]
fn what_is_sealed_to_a_key_of_a_host_is_opened_with_it_and_with_no_other() {
    let host = Identity::parse(SSH_KEY).unwrap();
    let to = Recipient::parse(SSH_PUB).unwrap();
    assert_eq!(host.recipient(), &to.age_form());
    let (other, _) = Identity::generate();
    let sealed = seal("pässword\n".as_bytes(), &[to]).unwrap();
    assert!(unseal(&sealed, &[host]).unwrap().expose() == "pässword\n".as_bytes());
    assert!(matches!(unseal(&sealed, &[other]), Err(UnsealError::NotForUs)));
}

#[test]
fn what_age_encrypts_to_an_ssh_key_in_its_own_way_is_opened_too() {
    let to: age::ssh::Recipient = SSH_PUB.parse().unwrap();
    let sealed = age::encrypt(&to, b"x").unwrap();
    let host = Identity::parse(SSH_KEY).unwrap();
    assert!(unseal(&sealed, &[host]).unwrap().expose() == b"x");
    let (other, _) = Identity::generate();
    assert!(matches!(unseal(&sealed, &[other]), Err(UnsealError::NotForUs)));
}

#[test]
fn each_of_several_recipients_opens_it_which_is_how_a_key_is_replaced() {
    let (old, _) = Identity::generate();
    let (new, text) = Identity::generate();
    let sealed = seal(b"x", &[old.recipient().clone(), new.recipient().clone()]).unwrap();
    let new = Identity::parse(std::str::from_utf8(text.expose()).unwrap()).unwrap();
    for identity in [old, new] {
        assert!(unseal(&sealed, &[identity]).unwrap().expose() == b"x");
    }
    assert!(seal(b"x", &[]).is_err());
}

#[test]
fn a_private_key_that_cannot_open_secrets_is_refused_by_name_and_never_shown() {
    let error = |text: &str| Identity::parse(text).unwrap_err();
    assert!(matches!(error(include_str!("keys/encrypted")), InvalidIdentity::Encrypted));
    assert!(error(include_str!("keys/ecdsa")).to_string().contains("ecdsa-sha2-nistp256"));
    assert!(error(include_str!("keys/rsa")).to_string().contains("ssh-rsa"));
    assert!(matches!(error("-----BEGIN RSA PRIVATE KEY-----\nx"), InvalidIdentity::Kind(_)));
    assert!(matches!(error("hello"), InvalidIdentity::Unknown));
    let damaged = SSH_KEY.replace("b3Bl", "b3Bm");
    assert!(matches!(error(&damaged), InvalidIdentity::Ssh(_)));
    let shown = format!("{:?}", Identity::parse(SSH_KEY).unwrap());
    assert!(shown.contains("age1") && !shown.contains("AGE-SECRET"), "{shown}");
}

#[test]
fn a_file_of_age_keygen_is_read_with_its_comments() {
    let (one, text) = Identity::generate();
    let text = std::str::from_utf8(text.expose()).unwrap();
    let found = Identity::parse_all(&format!("# created: now\n# public key: age1…\n{text}\n\n")).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].recipient(), one.recipient());
    assert_eq!(Identity::parse_all(SSH_KEY).unwrap().len(), 1);
    assert!(Identity::parse_all("# nothing\n").is_err());
}

fn bundle() -> Bundle {
    let file = |text: &str| FileId::parse(text).unwrap();
    let name = FileName::parse("wifi").unwrap();
    Bundle::new(
        BTreeMap::from([
            (
                file("secrets/web.yaml"),
                Ciphertext { kind: CiphertextKind::Sops { format: Format::Yaml }, data: b"a: b\n".to_vec() },
            ),
            (file("keys/wifi"), Ciphertext { kind: CiphertextKind::Age, data: vec![0, 255, 1] }),
        ]),
        BTreeMap::from([(
            SecretName::parse("postgres/password").unwrap(),
            Source { file: file("secrets/web.yaml") },
        )]),
        BTreeMap::from([(name.clone(), Key::with_defaults(&name, file("keys/wifi")).unwrap())]),
    )
    .unwrap()
}

#[test]
fn a_bundle_reads_as_what_was_carried() {
    let bundle = bundle();
    let bytes = bundle.to_bytes().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&bytes),
        concat!(
            r#"{"files":{"keys/wifi":{"kind":"age","data":"AP8B"},"#,
            r#""secrets/web.yaml":{"kind":{"sops":{"format":"yaml"}},"data":"YTogYgo="}},"#,
            r#""secrets":{"postgres/password":{"file":"secrets/web.yaml"}},"#,
            r#""keys":{"wifi":{"file":"keys/wifi","destDir":"/run/keys","fileName":"wifi","user":"root","#,
            r#""group":"root","permissions":"0600","uploadAt":"preActivation"}}}"#
        )
    );
    assert_eq!(Bundle::parse(&bytes).unwrap(), bundle);
}

#[test]
fn the_same_bundle_written_in_another_way_is_refused() {
    let bytes = String::from_utf8(bundle().to_bytes().unwrap()).unwrap();
    for (from, to) in [
        (r#"{"files""#, r#"{ "files""#),
        (r#""0600""#, r#""600""#),
        ("AP8B", r"AP8\u0042"),
        (
            r#""secrets":{"postgres"#,
            r#""secrets":{"postgres/password":{"file":"secrets/web.yaml"},"postgres"#,
        ),
        (r#""kind":"age","data":"AP8B""#, r#""data":"AP8B","kind":"age""#),
        ("}}}", "}}}\n"),
    ] {
        let changed = bytes.replacen(from, to, 1);
        assert_ne!(changed, bytes, "{from}");
        let error = Bundle::parse(changed.as_bytes()).unwrap_err();
        assert!(matches!(error, BundleError::NotCanonical), "{from}: {error}");
    }
}

#[test]
fn what_would_reach_beyond_its_place_is_refused() {
    let bytes = String::from_utf8(bundle().to_bytes().unwrap()).unwrap();
    for (from, to, says) in [
        ("postgres/password", "../shadow", "`..`"),
        (r#""fileName":"wifi""#, r#""fileName":"a/b""#, "`/`"),
        ("/run/keys", "/run/keys/../../etc", "`..`"),
        ("/run/keys", "keys", "begin with `/`"),
        ("0600", "4755", "0777"),
        (r#""user":"root""#, r#""user":"-R""#, "begin with"),
        ("preActivation", "now", "now"),
        (r#""destDir""#, r#""more":1,"destDir""#, "more"),
        (r#"{"file":"keys/wifi""#, r#"{"file":"keys/lan""#, "missing"),
        (r#"{"file":"keys/wifi""#, r#"{"file":"secrets/web.yaml""#, "another way"),
        (r#"{"file":"secrets/web.yaml"}"#, r#"{"file":"keys/wifi"}"#, "another way"),
        ("AP8B", "AP8", "can't be read"),
    ] {
        let changed = bytes.replacen(from, to, 1);
        assert_ne!(changed, bytes, "{from}");
        let error = Bundle::parse(changed.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(says), "{to}: {error}");
    }
}

#[test]
fn a_bundle_has_a_size_that_a_host_can_hold() {
    let too_large = vec![b' '; bosco_secrets::MAX_BUNDLE + 1];
    assert!(matches!(Bundle::parse(&too_large), Err(BundleError::TooLarge(_))));
    let data = vec![0; 4 << 20];
    let large = |count: usize| {
        let files = (0..count).map(|n| {
            let data = Ciphertext { kind: CiphertextKind::Age, data: data.clone() };
            (FileId::parse(&n.to_string()).unwrap(), data)
        });
        Bundle::new(files.collect(), BTreeMap::new(), BTreeMap::new()).unwrap().to_bytes()
    };
    assert!(large(2).is_ok());
    assert!(matches!(large(3), Err(BundleError::TooLarge(_))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_bundle_with_a_byte_changed_has_another_digest_or_is_refused(at in any::<prop::sample::Index>(), to: u8) {
        let bundle = bundle();
        let mut bytes = bundle.to_bytes().unwrap();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if let Ok(changed) = Bundle::parse(&bytes) {
            prop_assert_ne!(changed.to_bytes().unwrap(), bundle.to_bytes().unwrap());
        }
    }

    #[test]
    fn what_was_sealed_comes_back_and_a_damaged_one_never_does(plain: Vec<u8>, at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let (identity, _) = Identity::generate();
        let mut sealed = seal(&plain, &[identity.recipient().clone()]).unwrap();
        let identities = [identity];
        prop_assert!(unseal(&sealed, &identities).unwrap().expose() == plain);
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(unseal(&sealed, &identities).is_err());
        prop_assert!(unseal(&sealed[..at], &identities).is_err());
    }
}
