//! What of a host's secrets is where, whatever was cut short and whatever was booted in between.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use bosco_secrets::{Ciphertext, CiphertextKind, Directory, FileId, FileName, Identity, Key, seal};

use super::*;
use crate::places::testing::TempDir;

/// A host with a key of its own.
struct Host {
    dir: TempDir,
    places: Places,
    identities: Identities,
}

impl Host {
    fn new() -> Self {
        let dir = TempDir::new();
        let places = Places::below(dir.path());
        let (identity, _) = Identity::generate();
        Self { dir, places, identities: Identities { found: vec![identity], missing: Vec::new() } }
    }

    /// Keys by name and folder; one is somebody's whom there is not, where its name begins with `ghost`.
    fn bundle(&self, keys: &[(&str, &str)]) -> Bundle {
        let to = self.identities.found[0].recipient();
        let file = FileId::parse("key").unwrap();
        let data = seal(b"key-in-clear", std::slice::from_ref(to)).unwrap();
        let ciphertext = Ciphertext { kind: CiphertextKind::Age, data };
        let key = |(name, folder): &(&str, &str)| {
            let name = FileName::parse(name).unwrap();
            let mut key = Key::with_defaults(&name, file.clone()).unwrap();
            key.dest_dir = Directory::parse(folder).unwrap();
            key.group = key.user.clone();
            if name.as_str().starts_with("ghost") {
                key.user = bosco_secrets::Account::parse("ghost").unwrap();
            }
            (name, key)
        };
        let keys = keys.iter().map(key).collect();
        Bundle::new([(file, ciphertext)].into(), BTreeMap::new(), keys).unwrap()
    }

    /// Puts the keys of a bundle in their places, by what is known, and writes down what is there.
    fn put(&self, rule: Rule, system: Option<&System>, bundle: &Bundle) -> Result<(), String> {
        let mut inventory = Inventory::load(&self.places);
        let put = put_all(&self.places, system, Some(bundle), &self.identities, rule, &mut inventory);
        inventory.save(&self.places)?;
        put.map(drop)
    }

    fn has(&self, path: &str) -> bool {
        self.dir.path().join(path).exists()
    }

    fn reboot(&self) {
        fs::remove_dir_all(self.dir.path().join("run")).unwrap();
    }
}

#[test]
fn nothing_is_put_anywhere_before_it_is_known_whose_all_of_it_is() {
    let host = Host::new();
    let error = host.put(Rule::Switch, None, &host.bundle(&[("a", "/run/keys"), ("ghost", "/run/keys")]));
    assert_eq!(error.unwrap_err(), "the key `ghost`: there is no user `ghost` on this host");
    assert!(!host.has("run/keys/a"));
    // At a boot nothing is there from before.
    let system = System { keys: vec!["a".into(), "ghost".into(), "gone".into()], ..System::default() };
    let bundle = host.bundle(&[("a", "/run/keys"), ("ghost", "/run/keys")]);
    host.put(Rule::Boot, Some(&system), &bundle).unwrap();
    assert!(host.has("run/keys/a") && !host.has("run/keys/ghost"));
    let inventory = Inventory::load(&host.places);
    assert!(inventory.present("ghost").unwrap_err().contains("no user `ghost`"));
    assert!(inventory.present("gone").unwrap_err().contains("what was brought to this host last"));
    // Only what was revoked says nothing against a system.
    assert_eq!(units_without(&host.places), ["gone-key.service"]);
}

#[test]
fn what_was_put_before_another_one_failed_is_taken_away_on_the_way_back() {
    let host = Host::new();
    let old = host.bundle(&[("old", "/run/keys")]);
    host.put(Rule::Switch, None, &old).unwrap();
    // Somebody leads root elsewhere.
    let home = host.dir.path().join("home");
    fs::create_dir_all(&home).unwrap();
    symlink("/", home.join("z")).unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o777)).unwrap();
    let new = host.bundle(&[("a", "/run/keys"), ("b", "/var/lib"), ("z", "/home/z")]);
    assert!(host.put(Rule::Switch, None, &new).unwrap_err().contains("is a link"));
    assert!(host.has("run/keys/a") && host.has("var/lib/b"));
    host.put(Rule::Switch, None, &old).unwrap();
    assert!(!host.has("run/keys/a") && !host.has("var/lib/b") && host.has("run/keys/old"));
    // Cut short, by the power.
    host.put(Rule::Switch, None, &new).unwrap_err();
    host.reboot();
    host.put(Rule::Boot, None, &old).unwrap();
    assert!(!host.has("var/lib/b") && host.has("run/keys/old"));
}

#[test]
fn a_key_on_a_disk_goes_with_the_first_bundle_that_does_not_have_it_also_after_a_boot() {
    let host = Host::new();
    let keys = [("disk", "/var/lib/app"), ("moves", "/var/lib/app")];
    host.put(Rule::Switch, None, &host.bundle(&keys)).unwrap();
    assert!(host.has("var/lib/app/disk") && host.has("var/lib/app/moves"));
    host.reboot();
    host.put(Rule::Boot, None, &host.bundle(&[("moves", "/var/lib/other")])).unwrap();
    assert!(!host.has("var/lib/app/disk") && !host.has("var/lib/app/moves"));
    assert!(host.has("var/lib/other/moves"));
    // A system without bosco's module, and without keys.
    host.reboot();
    beside_switch(&host.places, host.dir.path(), UploadAt::PreActivation).unwrap();
    assert!(!host.has("var/lib/other/moves"));
}

#[test]
fn secrets_that_are_needed_for_users_go_with_the_last_of_them() {
    let host = Host::new();
    host.dir.write("run/secrets-for-users.d/1/ada", "hash-in-clear");
    let path = |path: &str| host.dir.path().join(path);
    symlink(path("run/secrets-for-users.d/1"), path("run/secrets-for-users")).unwrap();
    let mut inventory = Inventory::default();
    inventory.sets.insert(path("run/secrets-for-users"), path("run/secrets-for-users.d/1"));
    inventory.secrets.insert("ada".into(), path("run/secrets-for-users/ada"));
    inventory.save(&host.places).unwrap();
    host.put(Rule::Switch, Some(&System::default()), &host.bundle(&[])).unwrap();
    assert!(!host.has("run/secrets-for-users.d/1") && !host.has("run/secrets-for-users"));
    assert!(Inventory::load(&host.places).present("ada").is_err());
}

#[test]
fn what_can_not_be_installed_at_a_boot_says_why() {
    let host = Host::new();
    let (places, memory) = (&host.places, crate::memory::Memory::new(host.places.clone()));
    memory.prepare().unwrap();
    let lost = Digest::of(&[b"lost"]);
    memory.save(&bosco_activation::Journal { secrets: Some(lost), ..Default::default() }).unwrap();
    host.dir.write("system/etc/bosco/secrets.json", r#"{"version":1,"keys":["token"]}"#);
    let toplevel: PathBuf = host.dir.path().join("system");
    let error = install(places, &toplevel, false).unwrap_err();
    assert!(error.contains("can't be read"), "{error}");
    let said = Inventory::load(places).present("token").unwrap_err();
    assert_eq!(said, format!("`token` is not there: {error}"));
    assert!(units_without(places).is_empty(), "it is held against the system");
}

#[test]
fn who_starts_the_script_by_hand_loses_nothing() {
    let host = Host::new();
    let mut inventory = Inventory::default();
    let rule = |inventory: &Inventory| Rule::of_script(&host.places, false, inventory);
    assert_eq!(rule(&inventory), Rule::Boot);
    let folder = |name: &str| host.dir.path().join("run").join(name);
    inventory.sets.insert(folder("secrets-for-users"), folder("secrets-for-users.d/1"));
    assert_eq!(rule(&inventory), Rule::Boot, "these come first");
    inventory.sets.insert(folder("secrets"), folder("secrets.d/1"));
    assert_eq!(rule(&inventory), Rule::Switch);
}
