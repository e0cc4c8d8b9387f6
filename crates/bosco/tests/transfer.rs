//! What goes to a host, from where, and when none of it does.
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::path::{Path, PathBuf};

use common::follow::Apply;
use common::{Said, bosco, state};
use serde_json::Value;
use testbed::fleet::{Fleet, sample};
use testbed::{Lab, LabSpec, Operator};

/// The plain fleet's host1, with a path of three megabytes, and what else there is of it.
fn with_large(more: &str) -> String {
    format!(
        "{{ pkgs, ... }}: {{ networking.hostName = \"host1\"; {more} environment.etc.large.source = \
         pkgs.runCommand \"large\" {{ }} \"head -c 3000000 /dev/urandom > $out\"; }}"
    )
}

/// A file with a key of that name.
fn secret_key(operator: &Operator, name: &str) -> PathBuf {
    let file = operator.dir().join(name);
    let key = operator.nix(["key", "generate-secret", "--key-name", name]).unwrap();
    std::fs::write(&file, key).unwrap();
    file
}

/// Builds host1's large path, as it comes from a cache: signed.
fn build_and_sign(operator: &Operator, fleet: &Fleet<'_>, key: &Path) -> String {
    let large = "nixosConfigurations.host1.config.environment.etc.large.source";
    let large = format!("{}#{large}", fleet.path().display());
    let path = operator.nix(["build", "--no-link", "--print-out-paths", &large]).unwrap();
    operator.nix(["store", "sign", "--key-file", key.to_str().unwrap(), path.trim()]).unwrap();
    path.trim().to_owned()
}

/// The events of one kind.
fn events(said: &Said, kind: &str) -> Vec<Value> {
    let all = said.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|event| event["event"] == kind).collect()
}

#[test]
fn what_a_hosts_own_caches_have_is_fetched_from_there_and_the_rest_comes_from_here() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    let apply = || bosco(operator, &fleet, &["apply", "--on", "host1", "--json"]).exits(0);

    let secret = secret_key(operator, "cache-1");
    let mut convert = operator.command("nix");
    convert.args(["key", "convert-secret-to-public"]).stdin(std::fs::File::open(&secret).unwrap());
    let public = String::from_utf8(convert.output().unwrap().stdout).unwrap();
    let settings = format!(
        "nix.settings = {{ substituters = [ \"file:///var/lib/cache\" ]; trusted-public-keys = [ \"{}\" ]; }};",
        public.trim()
    );
    // A host without the path, that knows a cache which is not there yet.
    fleet.write("host1.nix", &format!("{{ networking.hostName = \"host1\"; {settings} }}")).unwrap();
    assert_eq!(events(&apply(), "fetching").len(), 0, "nothing of it is in any cache");

    fleet.write("host1.nix", &with_large(&settings)).unwrap();
    let large = build_and_sign(operator, &fleet, &secret);
    let cache = format!("file://{}/var/lib/cache", host.root().display());
    operator.nix(["copy", "--to", &cache, &large]).unwrap();

    let said = apply();
    let fetched = events(&said, "fetching");
    assert_eq!(fetched.len(), 1, "{}", said.out);
    assert_eq!(fetched[0]["paths"], 1);
    let copied = events(&said, "copied");
    assert!(copied[0]["of"].as_u64().unwrap() < 1_000_000, "it was sent all the same: {copied:?}");
    assert_eq!(host.ssh_ok("wc -c < /etc/large").unwrap().trim(), "3000000");
    assert_eq!(state(operator, &fleet, "host1"), "up-to-date");
}

#[test]
fn a_path_that_no_cache_of_the_host_has_comes_from_here_with_its_signature() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    // The cache is a machine that nobody has.
    let settings = "nix.settings.substituters = [ \"http://127.0.0.1:9\" ];";
    fleet.write("host1.nix", &format!("{{ networking.hostName = \"host1\"; {settings} }}")).unwrap();
    bosco(operator, &fleet, &["apply", "--on", "host1"]).exits(0);

    fleet.write("host1.nix", &with_large(settings)).unwrap();
    let large = build_and_sign(operator, &fleet, &secret_key(operator, "somebody-1"));
    bosco(operator, &fleet, &["apply", "--on", "host1"])
        .exits(0)
        .says("fetching 1 path from its caches")
        .says("committed");
    let signed = host
        .ssh_ok(&format!("nix --extra-experimental-features nix-command path-info --sigs {large}"))
        .unwrap();
    assert!(signed.contains("somebody-1:"), "{signed}");
    host.ssh_ok("nix-store --verify --check-contents").unwrap();
}

#[test]
fn without_substitutes_a_host_gets_all_from_here_and_asks_no_cache() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    fleet.write("host1.nix", &with_large("")).unwrap();
    build_and_sign(operator, &fleet, &secret_key(operator, "somebody-1"));
    bosco(operator, &fleet, &["apply", "--on", "host1", "--no-substitute"])
        .exits(0)
        .does_not_say("fetching")
        .says("committed");
    assert_eq!(host.ssh_ok("wc -c < /etc/large").unwrap().trim(), "3000000");
}

#[test]
fn what_a_host_said_to_have_is_not_collected_before_what_needs_it_has_come() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let (operator, host) = (lab.operator(), lab.host("host1").unwrap());
    // A cache that takes connections and says nothing: a host that looks there takes its time.
    host.ssh_ok("systemd-run --quiet --unit hole --socket-property ListenStream=127.0.0.1:9 sleep 1000")
        .unwrap();
    let settings = "nix.settings.substituters = [ \"http://127.0.0.1:9\" ];";
    fleet.write("host1.nix", &format!("{{ networking.hostName = \"host1\"; {settings} }}")).unwrap();
    bosco(operator, &fleet, &["apply", "--on", "host1"]).exits(0);
    // It has a path that nothing needs any more, and lacks one that it looks for in its cache.
    let only_there = "environment.etc.only.text = \"only there\";";
    fleet
        .write("host1.nix", &format!("{{ networking.hostName = \"host1\"; {settings} {only_there} }}"))
        .unwrap();
    bosco(operator, &fleet, &["apply", "--on", "host1", "--goal", "push"]).exits(0);
    let path = host.ssh_ok("readlink -f $(readlink /nix/var/nix/gcroots/bosco/pushed)/etc/only").unwrap();
    let path = path.trim().to_owned();
    fleet.write("host1.nix", &with_large(&format!("{settings} {only_there}"))).unwrap();
    build_and_sign(operator, &fleet, &secret_key(operator, "somebody-1"));

    let mut apply = Apply::start(operator, &fleet, &["--on", "host1"]);
    apply.until_fetching("host1");
    host.ssh_ok("nix-collect-garbage").unwrap();
    assert!(host.root().join(path.trim_start_matches('/')).exists(), "{path} was collected");
    host.ssh_ok("systemctl stop hole.socket; systemctl stop hole.service").unwrap();
    apply.ends().exits(0);
    assert_eq!(host.ssh_ok("cat /etc/only").unwrap(), "only there");
    host.ssh_ok("nix-store --verify --check-contents").unwrap();
}

#[test]
fn by_default_one_host_that_fails_holds_back_all_and_keep_going_lets_the_others_go_on() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let apply = |more: &[&str]| bosco(lab.operator(), &fleet, &[&["apply"], more].concat());
    for broken in [
        "{ servces.x = true; }",
        "{ pkgs, ... }: { environment.etc.x.source = pkgs.runCommand \"x\" { } \"exit 1\"; }",
    ] {
        fleet.write("host1.nix", broken).unwrap();
        apply(&[]).exits(3).says("nothing is delivered, because of host1").says("1 held back: host2");
        assert_eq!(greeting(&lab, "host2"), "none");
    }
    apply(&["--keep-going"]).exits(3).says("1 committed: host2").does_not_say("nothing is delivered");
    assert_eq!(greeting(&lab, "host2"), "one");
}

#[test]
fn with_keep_going_a_host_that_is_built_does_not_wait_for_the_build_of_another() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    let slow = "{ pkgs, ... }: { networking.hostName = \"host1\"; environment.etc.x.source = pkgs.runCommand \"x\" { } \
                \"${pkgs.busybox}/bin/sleep 15; echo > $out\"; }";
    fleet.write("host1.nix", slow).unwrap();
    let said = bosco(lab.operator(), &fleet, &["apply", "--keep-going", "--json"]).exits(0);
    let ended = events(&said, "ended");
    assert_eq!((&ended[0]["host"], &ended[1]["host"]), (&"host2".into(), &"host1".into()), "{ended:?}");
    let apart = ended[1]["seconds"].as_f64().unwrap() - ended[0]["seconds"].as_f64().unwrap();
    assert!(apart > 4.0, "host2 waited for the build of host1: it was through {apart} s before");
}

#[test]
fn require_all_delivers_to_none_where_one_is_away() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let fleet = sample(lab.operator(), "plain").unwrap();
    lab.host("host1").unwrap().cut().unwrap();
    bosco(lab.operator(), &fleet, &["apply", "--require-all"])
        .exits(5)
        .says("nothing is delivered, because of host1")
        .says("1 held back: host2");
    assert_eq!(greeting(&lab, "host2"), "none");
    lab.host("host1").unwrap().heal().unwrap();
    bosco(lab.operator(), &fleet, &["apply", "--require-all"]).exits(0).says("2 committed: host1, host2");
    bosco(lab.operator(), &fleet, &["apply", "--require-all", "--keep-going"])
        .exits(2)
        .says("cannot be used with");
}

fn greeting(lab: &Lab, host: &str) -> String {
    lab.host(host).unwrap().ssh_ok("cat /etc/greeting 2>/dev/null || echo none").unwrap().trim().to_owned()
}
