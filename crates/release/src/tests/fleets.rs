//! Whom `bosco.toml` makes a host trust.

use super::*;

/// A key of a kind of which no signature can be verified here.
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDV";

fn read(text: &str) -> FleetFile {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn example() -> FleetFile {
    read(&format!(
        "fleet = \"home\"
         trust = 3
         [hub]
         address = \"hub.example.org:2222\"
         keys = [\"{hub} root@hub\"]
         [operators.ada]
         keys = [\"{ada} ada@laptop\", \"{yubikey}\"]
         [operators.bob]
         keys = [\"{bob}\"]
         hosts = \"web-* & !web-2, @lab\"
         [operators.carol]
         keys = [\"{carol}\"]
         signs = false",
        hub = public(50),
        ada = public(1),
        yubikey = public(2),
        bob = public(3),
        carol = public(4),
    ))
}

fn trusted(file: &FleetFile, name: &str, tags: &[&str]) -> Vec<String> {
    let tags = tags.iter().map(|tag| Tag::parse(tag).unwrap()).collect();
    file.trust_of(&host(name), &tags).signers.into_iter().map(|signer| signer.name).collect()
}

#[test]
fn a_host_trusts_who_is_granted_it() {
    let file = example();
    assert_eq!(file.check(), Ok(()));
    assert_eq!(trusted(&file, "db", &[]), ["ada", "ada"]);
    assert_eq!(trusted(&file, "web-1", &[]), ["ada", "ada", "bob"]);
    assert_eq!(trusted(&file, "web-2", &[]), ["ada", "ada"]);
    assert_eq!(trusted(&file, "db", &["lab"]), ["ada", "ada", "bob"]);
    let trust = file.trust_of(&host("db"), &BTreeSet::new());
    assert_eq!((trust.version, trust.hub.as_str()), (3, "hub.example.org:2222"));
    assert_eq!(trust.hub_keys, [public(50)], "without its comment");
    assert_eq!(Level::of(&file.all_signers(), true), Level::HubBuilds);
}

#[test]
fn a_hub_that_signs_is_trusted_by_every_host() {
    let mut file = example();
    file.hub.as_mut().unwrap().signs = true;
    assert_eq!(trusted(&file, "db", &[]), ["ada", "ada", "hub"]);
    assert_eq!(Level::of(&file.all_signers(), false), Level::HubSigns);
    file.operators.clear();
    assert_eq!(file.check(), Ok(()));
}

#[test]
fn a_small_fleet_needs_no_more_than_its_name() {
    let file = read("fleet = \"home\"");
    assert_eq!((file.check(), file.trust), (Ok(()), 1));
    assert_eq!(trusted(&file, "web", &[]), [""; 0]);
}

#[test]
fn what_cannot_be_is_told() {
    let key = public(7);
    let hub = format!("[hub]\naddress = \"hub:22\"\nkeys = [\"{}\"]\n", public(50));
    let rsa = rsa();
    for (more, says) in [
        (format!("[operators]\nada.keys = [\"{key}\"]\nbob.keys = [\"{key} b\"]"), "two owners, ada and bob"),
        (format!("{hub}[operators]\nada.keys = [\"{}\"]", public(50)), "two owners, the hub and ada"),
        ("[hub]\naddress = \"hub:22\"\nkeys = []".to_owned(), "`hub.keys` is empty"),
        (hub.clone(), "nobody may sign"),
        (format!("{hub}[operators.ada]\nkeys = []"), "nobody may sign"),
        (format!("{hub}[operators.ada]\nkeys = [\"{key}\"]\nsigns = false"), "nobody may sign"),
        (
            format!("[operators.ada]\nkeys = [\"{rsa}\"]"),
            "ada may sign releases, and has a key which is an RSA key",
        ),
        (format!("{hub}[operators.hub]\nkeys = [\"{key}\"]"), "an operator can't be called `hub`"),
        (format!("{hub}[operators.\"the hub\"]\nkeys = [\"{}\"]", public(50)), "can't be called `the hub`"),
    ] {
        let file = read(&format!("fleet = \"home\"\n{more}"));
        let said = file.check().map_err(|error| error.to_string());
        assert!(said.as_ref().is_err_and(|said| said.contains(says)), "{more}: {said:?}");
    }
    let operator = read(&format!("fleet = \"home\"\n[operators.ada]\nkeys = [\"{rsa}\"]\nsigns = false"));
    assert_eq!(operator.check(), Ok(()), "who signs nothing may have any key");
}

/// An RSA key; nobody has its other half.
fn rsa() -> Key {
    let number = |bytes: &[u8]| ssh_key::Mpint::from_positive_bytes(bytes);
    let key = ssh_key::public::RsaPublicKey::new(number(&[1, 0, 1]), number(&[0xc5; 256])).unwrap();
    Key::of(&ssh_key::public::KeyData::Rsa(key).into()).unwrap()
}

#[test]
fn what_is_written_wrongly_is_refused() {
    for text in [
        "",
        "fleet = \"\"",
        "fleet = \"home\"\ncolour = \"red\"",
        "fleet = \"home\"\ntrust = -1",
        "fleet = \"home\"\n[operators.ada]\nkeys = [\"nonsense\"]",
        "fleet = \"home\"\n[operators.ada]\nkeys = []\nhosts = \"web &\"",
        "fleet = \"home\"\n[operators.ada]\nkeys = []\nroles = []",
        "fleet = \"home\"\n[hub]\nkeys = []",
    ] {
        assert!(toml::from_str::<FleetFile>(text).is_err(), "{text}");
    }
    assert!(Key::parse(RSA).is_err(), "it is cut short");
}

proptest! {
    #[test]
    fn nothing_that_is_written_in_a_key_or_a_file_makes_reading_it_panic(
        text in "\\PC{0,80}", blob in "[A-Za-z0-9+/]{0,100}={0,2}",
        kind in prop::sample::select(vec!["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "sk-ssh-ed25519@openssh.com", "ssh-dss", "x"]),
    ) {
        let _ = toml::from_str::<FleetFile>(&text);
        for text in [text, format!("{kind} {blob}")] {
            if let Ok(key) = Key::parse(&text) {
                let _ = (key.fingerprint(), key.unverifiable());
                prop_assert_eq!(Key::parse(key.as_str()), Ok(key));
            }
        }
    }
}
