//! What is wrong with a host's network is wrong in just that way, and can be made right.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly, in their helpers too")]

use std::io::Read;
use std::time::{Duration, Instant};

use testbed::{Host, Lab, LabSpec, Operator, Unsynced};

const SOON: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_secs(1);

fn answers(host: &Host) -> bool {
    host.connect(22, MOMENT).is_ok()
}

fn reaches(from: &Host, to: &Host) -> bool {
    let script = format!("timeout 1 bash -c '</dev/tcp/{}/22'", to.address());
    from.ssh(&script).unwrap().status.success()
}

#[test]
fn a_cut_host_does_not_answer_and_a_healed_one_does() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let [one, other] = lab.hosts() else { unreachable!() };
    one.cut().unwrap();
    assert!(!answers(one));
    assert!(answers(other));
    assert!(one.is_running());
    // The cable is still out when the power comes back.
    one.power_cut(Unsynced::Kept).unwrap();
    assert!(!one.is_running());
    one.boot().unwrap();
    assert!(!answers(one));
    one.heal().unwrap();
    one.wait_for_ssh(SOON).unwrap();
    one.ssh_ok("true").unwrap();
}

#[test]
fn a_host_behind_nat_reaches_others_and_lets_nobody_in() {
    let lab = Lab::up(&LabSpec::new(2)).unwrap();
    let [one, other] = lab.hosts() else { unreachable!() };
    one.behind_nat().unwrap();
    assert!(!answers(one));
    assert!(!reaches(other, one));
    let out = |host: &Host| {
        let script = format!("timeout 3 bash -c '</dev/tcp/{}/22'", host.address());
        one.at_keyboard(&script)
    };
    out(other).unwrap();
    assert_eq!(one.at_keyboard("hostname").unwrap().trim(), one.name());
    // It is where it stands, and not what is wrong with it.
    one.cut().unwrap();
    assert!(out(other).is_err());
    one.heal().unwrap();
    out(other).unwrap();
    assert!(!answers(one));
    one.power_cut(Unsynced::Kept).unwrap();
    assert!(one.at_keyboard("true").is_err());
    one.boot().unwrap();
    let start = Instant::now();
    while out(other).is_err() {
        assert!(start.elapsed() < SOON, "the host does not come up: {}", one.console());
    }
    assert!(!answers(one));
    assert!(answers(other));
}

/// Sends a tick to the operator again and again, and notes what comes.
const HOST: &str = r#"systemd-run --quiet perl -e '
use IO::Socket::INET; use IO::Select; use IO::Handle;
my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => 7777) or die;
my $to = sockaddr_in(7777, inet_aton("10.77.0.1"));
open(my $got, ">>", "/root/got"); $got->autoflush(1);
while (1) {
  send($s, "tick", 0, $to);
  if (IO::Select->new($s)->can_read(0.05)) { recv($s, my $m, 99, 0); print $got "$m\n"; }
}'"#;
/// Sends one word to the host, and says how many ticks came within half a second.
const OPERATOR: &str = r#"
use IO::Socket::INET; use IO::Select; use Time::HiRes "time";
my $s = IO::Socket::INET->new(Proto => "udp", LocalPort => 7777) or die;
send($s, $ARGV[0], 0, sockaddr_in(7777, inet_aton("host1")));
my ($n, $end) = (0, time + 0.5);
while ((my $left = $end - time) > 0) { if (IO::Select->new($s)->can_read($left)) { recv($s, my $m, 99, 0); $n++; } }
print $n;"#;

/// Whether a word came to the host, and whether the host's ticks came to the operator.
fn ways(operator: &Operator, host: &Host, word: &str) -> (bool, bool) {
    let mut perl = operator.command("perl");
    let ticks = testbed::run_ok(perl.args(["-e", OPERATOR, word]), SOON).unwrap();
    let got = std::fs::read_to_string(host.root().join("root/got")).unwrap();
    (got.lines().any(|line| line == word), ticks != "0")
}

#[test]
fn a_one_way_drop_lets_the_other_way_through() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let (host, operator) = (&lab.hosts()[0], lab.operator());
    host.ssh_ok(HOST).unwrap();
    let start = Instant::now();
    while ways(operator, host, "first") != (true, true) {
        assert!(start.elapsed() < SOON, "the host does not listen");
    }
    host.drop_to().unwrap();
    assert_eq!(ways(operator, host, "dropped"), (false, true));
    host.heal().unwrap();
    host.drop_from().unwrap();
    assert_eq!(ways(operator, host, "silent"), (true, false));
    host.heal().unwrap();
    assert_eq!(ways(operator, host, "healed"), (true, true));
}

#[test]
fn two_hosts_apart_are_both_reached_by_all_others() {
    let lab = Lab::up(&LabSpec::new(3)).unwrap();
    let [one, two, three] = lab.hosts() else { unreachable!() };
    assert!(reaches(one, two));
    one.partition_from(two).unwrap();
    assert!(!reaches(one, two) && !reaches(two, one));
    assert!(reaches(one, three) && reaches(three, two) && answers(one) && answers(two));
    two.heal().unwrap();
    assert!(reaches(one, two));
}

#[test]
fn a_delay_is_added_each_way_and_taken_back() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let host = &lab.hosts()[0];
    // The best of some, since the machine below may be busy: a connection takes one round trip.
    let round_trip = || {
        let take = |_| {
            let start = Instant::now();
            host.connect(22, SOON).unwrap();
            start.elapsed()
        };
        (0..5).map(take).min().unwrap()
    };
    assert!(round_trip() < Duration::from_millis(50));
    host.delay(Duration::from_millis(50)).unwrap();
    let slow = round_trip();
    assert!((95..150).contains(&slow.as_millis()), "{slow:?}");
    // It is the cable's, and stays with it.
    host.power_cut(Unsynced::Kept).unwrap();
    host.boot().unwrap();
    host.wait_for_ssh(SOON).unwrap();
    let slow = round_trip();
    assert!((95..150).contains(&slow.as_millis()), "{slow:?}");
    host.ssh_ok("true").unwrap();
    host.delay(Duration::ZERO).unwrap();
    assert!(round_trip() < Duration::from_millis(50));
}

#[test]
fn a_lossy_cable_still_works_and_one_that_loses_all_does_not() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let host = &lab.hosts()[0];
    host.loss(100).unwrap();
    assert!(!answers(host));
    host.loss(5).unwrap();
    assert_eq!(host.ssh_ok("seq 2000 | wc -l").unwrap(), "2000\n");
    assert!(host.loss(101).is_err());
}

#[test]
fn a_narrow_cable_takes_its_time() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let host = &lab.hosts()[0];
    let take = || {
        let start = Instant::now();
        assert_eq!(host.ssh_ok("head -c 250000 /dev/zero | tr '\\0' x").unwrap().len(), 250_000);
        start.elapsed()
    };
    host.bandwidth(1000).unwrap();
    // 2,000 kbit through 1,000 kbit/s, less what the bucket holds.
    let narrow = take();
    assert!(narrow > Duration::from_millis(1600), "{narrow:?}");
    host.bandwidth(0).unwrap();
    let wide = take();
    assert!(wide < Duration::from_millis(1500), "{wide:?}");
}

#[test]
fn a_frozen_host_takes_connections_and_says_nothing() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let host = &lab.hosts()[0];
    host.freeze().unwrap();
    let mut stream = host.connect(22, MOMENT).unwrap();
    stream.set_read_timeout(Some(MOMENT)).unwrap();
    stream.read_exact(&mut [0]).unwrap_err();
    let error = format!("{:#}", host.ssh_within("true", MOMENT).unwrap_err());
    assert!(error.contains("did not end within 1s"), "{error}");
    host.thaw().unwrap();
    stream.read_exact(&mut [0]).unwrap();
    host.ssh_ok("true").unwrap();
}
