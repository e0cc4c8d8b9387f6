//! Tests of what a host believes and takes, against a hub that does what it likes, and against OpenSSH.

use std::collections::BTreeSet;

use bosco_model::{
    FleetName, HostName, Profile, ProfileAt, ProfileName, ProfilePlace, StorePath, Tag, UserName,
};
use proptest::prelude::*;
use ssh_key::private::{Ed25519Keypair, PrivateKey};
use ssh_key::{LineEnding, SshSig};

use super::*;

mod closures;
mod fleets;
mod hostile;
mod openssh;
mod proofs;
mod runs;

const DAY: u64 = 24 * 3600;
/// When the first release was made.
const START: u64 = 1_750_000_000;

/// The key of somebody, by a number.
fn private(who: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[who; 32]))
}

fn public(who: u8) -> Key {
    Key::of(private(who).public_key()).unwrap()
}

fn sign(key: &PrivateKey, namespace: &str, text: &str) -> String {
    let signature = SshSig::sign(key, namespace, ssh_key::HashAlg::Sha512, text.as_bytes()).unwrap();
    signature.to_pem(LineEnding::LF).unwrap()
}

fn host(name: &str) -> HostName {
    HostName::parse(name).unwrap()
}

fn fleet(name: &str) -> FleetName {
    FleetName::parse(name).unwrap()
}

fn path(name: &str) -> StorePath {
    StorePath::parse(&format!("/nix/store/{}-{name}", "0".repeat(32))).unwrap()
}

fn signer(name: &str, who: u8) -> Signer {
    Signer { name: name.into(), key: public(who), kind: SignerKind::Operator }
}

fn trust_in(fleet_name: &str, signers: Vec<Signer>) -> Trust {
    Trust { version: 1, fleet: fleet(fleet_name), signers, hub: "hub:2222".into(), hub_keys: Vec::new() }
}

fn system_of(toplevel: StorePath, closure: Digest) -> Runs {
    Runs::System { toplevel, profiles: Profiles::default(), closure }
}

/// ada's home, and what it names.
fn home(to: &str) -> Profiles {
    let (name, user) = (ProfileName::parse("home").unwrap(), UserName::parse("ada").unwrap());
    let profile = Profile { name, user, place: None };
    Profiles { all: vec![ProfileAt { profile, path: path(to) }], only: false }
}

/// What somebody has pushed.
fn hold_of(number: Number, toplevel: &str) -> Hold {
    Hold { number, toplevel: path(toplevel), profiles: Profiles::default() }
}

fn manifest(fleet_name: &str, of: &str, number: Number, system: &str) -> Manifest {
    Manifest {
        fleet: fleet(fleet_name),
        host: host(of),
        keys: vec![public(100)],
        number,
        runs: system_of(path(system), Digest::of(&[system.as_bytes()])),
        secrets: None,
        tags: [Tag::parse("prod").unwrap()].into(),
        policy: Policy::default(),
        trust: trust_in(fleet_name, vec![signer("ada", 1)]),
        lifts: 0,
    }
}

fn statement(fleet_name: &str, number: Number) -> Statement {
    Statement {
        fleet: fleet(fleet_name),
        number,
        root: Digest::of(&[]),
        hosts: 0,
        commit: None,
        made: START + number.min(1000) * DAY,
        expires: START + (number.min(1000) + 30) * DAY,
        hub_builds: false,
    }
}

fn signed(draft: Draft, who: u8) -> Release {
    let signature = sign(&private(who), RELEASE_NAMESPACE, &draft.statement);
    draft.signed(signature)
}

/// A release of these manifests, by somebody.
fn release(who: u8, number: Number, manifests: Vec<Manifest>) -> Release {
    signed(Draft::new(statement("home", number), manifests).unwrap(), who)
}
