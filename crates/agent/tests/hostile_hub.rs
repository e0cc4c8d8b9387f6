//! What a hub that lies, floods, drips or is silent can do to an agent: keep it waiting, and nothing else. The agent is the real
//! one, with a store and a name of its own; only the hub is made up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as loudly as tests"
)]

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bosco_release::Digest;
use bosco_wire::api::{Orders, Phase};
use bosco_wire::pack::{HEAD, Head};
use bytes::Bytes;
use common::liar::{Answer, Liar, Pieces, Silent, pack};
use common::{Machine, is_valid, most_memory, nar, on_a_machine, signed, until};
use simulated::key;
use tokio::time::sleep;

const MIB: u64 = 1024 * 1024;

/// Tells the agent to try, and waits for what comes of it.
async fn tries(hub: &Liar, machine: &Machine, words: &str) {
    let from = machine.said().len();
    hub.order(&Orders { trigger: true, ..Orders::default() });
    until(&format!("it comes to `{words}`"), || machine.said()[from..].contains(words)).await;
}

/// A hub that says what is in the closure of a release of these archives, and a machine that has heard of it.
async fn released(archives: &[&[u8]]) -> (Liar, Machine, common::Signed) {
    let hub = Liar::start(Silent::Never).await;
    let machine = Machine::new(&hub, key("hub").as_str()).await;
    let release = signed(&hub, 1, archives);
    *hub.script.contents.lock().unwrap() =
        Answer::This(serde_json::to_vec(&release.contents).unwrap().into());
    hub.order(&Orders { sealed: Some(release.web.clone()), ..Orders::default() });
    (hub, machine, release)
}

/// Archives as they were asked for.
fn honest(archives: &[Vec<u8>]) -> Answer {
    let archives = archives.to_vec();
    let find = move |hash: Digest| archives.iter().find(|one| Digest::of(&[one]) == hash).unwrap().clone();
    Answer::Asked(Arc::new(move |asked| {
        let all: Vec<Vec<u8>> = asked.into_iter().map(&find).collect();
        pack(all.iter().map(Vec::as_slice))
    }))
}

fn nothing_came(machine: &Machine, release: &common::Signed) {
    for one in release.contents.iter() {
        assert!(!is_valid(&one.path), "{} is in the store", one.path);
    }
    assert!(!machine.was_asked_to_activate(), "the helper was asked to activate");
    assert!(machine.runs(), "the agent has ended");
}

#[test]
fn what_was_signed_is_taken_and_activated() {
    on_a_machine("what_was_signed_is_taken_and_activated", async {
        let archives = [nar(b"a system"), nar(&[7; 300_000])];
        let (hub, mut machine, release) = released(&[&archives[0], &archives[1]]).await;
        *hub.script.paths.lock().unwrap() = honest(&archives);
        machine.start().await;
        machine.says("activates release 1").await;
        until("the helper is asked", || machine.was_asked_to_activate()).await;
        assert!(release.contents.iter().all(|one| is_valid(&one.path)));
    });
}

#[test]
fn an_archive_other_than_was_signed_never_counts_in_the_store() {
    on_a_machine("an_archive_other_than_was_signed_never_counts_in_the_store", async {
        let archive = nar(&b"what was signed".repeat(1000));
        let (hub, mut machine, release) = released(&[&archive]).await;
        let honest = pack([archive.as_slice()]);
        let head = Head::read(honest[..HEAD].try_into().unwrap());
        let with = |head: Head, stored: &[u8]| -> Bytes {
            let head = Head { stored: stored.len() as u64, ..head };
            [head.to_bytes().as_slice(), stored].concat().into()
        };
        let mut flipped = archive.clone();
        flipped[200] ^= 1;
        let flipped = zstd::encode_all(flipped.as_slice(), 3).unwrap();
        let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 100 << 20), 3).unwrap();
        let far = Head { stored: 1 << 40, ..head };
        let lies = [
            ("one bit", with(head, &flipped), "other contents than were signed"),
            ("a bomb", with(head, &bomb), "more than was signed"),
            ("another path's", pack([nar(b"bob's").as_slice()]), "another archive than that of"),
            ("another size", with(Head { size: head.size + 1, ..head }, &honest[HEAD..]), "another archive"),
            ("more behind it", with(head, &[&honest[HEAD..], b"x"].concat()), "something behind its end"),
            ("very much", far.to_bytes().to_vec().into(), "bytes for an archive of"),
            ("half of it", honest.slice(..honest.len() / 2), "less than what was asked for"),
            ("nothing", Bytes::new(), "less than what was asked for"),
            ("no archive", with(head, b"no zstd"), "the hub does not give what was signed"),
        ];
        machine.start().await;
        machine.says("connected to the hub").await;
        for (what, bytes, words) in lies {
            println!("{what}");
            *hub.script.paths.lock().unwrap() = Answer::This(bytes);
            tries(&hub, &machine, words).await;
            nothing_came(&machine, &release);
        }
    });
}

#[test]
fn a_hub_without_a_place_is_asked_again_and_blamed_for_nothing() {
    on_a_machine("a_hub_without_a_place_is_asked_again_and_blamed_for_nothing", async {
        let archive = nar(b"a system");
        let (hub, mut machine, _) = released(&[&archive]).await;
        *hub.script.paths.lock().unwrap() = Answer::Busy;
        machine.start().await;
        until("it has asked twice", || hub.script.busy.load(Ordering::Relaxed) > 1).await;
        *hub.script.paths.lock().unwrap() = honest(&[archive]);
        machine.says("activates release 1").await;
        let said = machine.said();
        assert_eq!(said.matches("fetches release 1").count(), 1, "it began once more:\n{said}");
    });
}

#[test]
fn archives_in_another_order_or_without_one_are_refused() {
    on_a_machine("archives_in_another_order_or_without_one_are_refused", async {
        let archives = [nar(b"one"), nar(b"two")];
        let (hub, mut machine, release) = released(&[&archives[0], &archives[1]]).await;
        let all = archives.clone();
        let reversed = move |asked: Vec<Digest>| {
            let of = |hash: &Digest| all.iter().find(|one| Digest::of(&[one]) == *hash).unwrap().as_slice();
            pack(asked.iter().rev().map(of))
        };
        *hub.script.paths.lock().unwrap() = Answer::Asked(Arc::new(reversed));
        machine.start().await;
        machine.says("another archive than that of").await;
        nothing_came(&machine, &release);
        let Answer::Asked(whole) = honest(&archives) else { panic!("they are asked for") };
        *hub.script.paths.lock().unwrap() = Answer::Asked(Arc::new(move |asked| whole(asked[..1].to_vec())));
        tries(&hub, &machine, "less than what was asked for").await;
        assert!(!machine.was_asked_to_activate());
        assert!(release.contents.iter().any(|one| !is_valid(&one.path)));
    });
}

#[test]
fn a_closure_other_than_was_signed_is_refused_before_anything_of_it_comes() {
    on_a_machine("a_closure_other_than_was_signed_is_refused_before_anything_of_it_comes", async {
        let archive = nar(b"signed");
        let (hub, mut machine, release) = released(&[&archive]).await;
        let say = |bytes: Vec<u8>| *hub.script.contents.lock().unwrap() = Answer::This(bytes.into());
        let other = simulated::contents("web", &[&archive, b"and a back door"]);
        say(serde_json::to_vec(&other).unwrap());
        *hub.script.paths.lock().unwrap() = honest(&[archive]);
        machine.start().await;
        machine.says("the hub does not give what was signed: another closure").await;
        for bytes in ["[]", "{}", "", "[[[[[[", "\u{1b}[2J"] {
            say(bytes.into());
            let words = if bytes == "[]" { "another closure" } else { "the hub's answer can't be read" };
            tries(&hub, &machine, words).await;
        }
        nothing_came(&machine, &release);
    });
}

fn endless(piece: Bytes, first: Bytes, most: u64) -> Answer {
    let pieces = move || -> Pieces {
        let count = usize::try_from(most).unwrap() / piece.len();
        Box::new(std::iter::once(first.clone()).chain(std::iter::repeat_n(piece.clone(), count)))
    };
    Answer::Pieces(Arc::new(pieces), Duration::ZERO)
}

#[test]
fn what_has_no_end_is_read_no_further_than_it_can_be_true() {
    on_a_machine("what_has_no_end_is_read_no_further_than_it_can_be_true", async {
        let archive = nar(&[1; 100_000]);
        let (hub, mut machine, release) = released(&[&archive]).await;
        let head = Head { hash: Digest::of(&[&archive]), size: archive.len() as u64, stored: 160_000 };
        // An empty frame of zstd's: the decoder would go on for ever.
        let frames = Bytes::from([0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0].repeat(8192));
        *hub.script.paths.lock().unwrap() = endless(frames, head.to_bytes().to_vec().into(), 2048 * MIB);
        let taken = || hub.script.taken.swap(0, Ordering::Relaxed);
        machine.start().await;
        machine.says("the hub does not give what was signed").await;
        let came = taken();
        assert!(came < 32 * MIB, "an archive: {} MiB", came / MIB);

        *hub.script.contents.lock().unwrap() = endless(" ".repeat(256 * 1024).into(), "[".into(), 2048 * MIB);
        tries(&hub, &machine, "length limit exceeded").await;
        let came = taken();
        assert!(came < 160 * MIB, "a closure: {} MiB", came / MIB);

        let orders = endless("x".repeat(64 * 1024).into(), "{\"held\":\"".into(), 2048 * MIB);
        hub.script.orders.lock().unwrap().insert(0, orders);
        let from = machine.said().len();
        until("orders are given up on", || machine.said()[from..].contains("length limit exceeded")).await;
        let came = taken();
        assert!(came < 8 * MIB, "orders: {} MiB", came / MIB);
        until("it comes back", || hub.logins("agent") > 1).await;
        nothing_came(&machine, &release);
        let most = most_memory();
        assert!(most < 500 * MIB, "{} MiB were needed", most / MIB);
    });
}

#[test]
fn secrets_other_than_were_signed_are_not_kept_and_nothing_is_activated_with_them() {
    on_a_machine("secrets_other_than_were_signed_are_not_kept_and_nothing_is_activated_with_them", async {
        let archive = nar(b"a system");
        let hub = Liar::start(Silent::Never).await;
        let mut machine = Machine::new(&hub, key("hub").as_str()).await;
        let [older, own, bobs] = ["older", "own", "bob's"].map(simulated::bundle);
        let say = |bytes: &[u8]| {
            *hub.script.secrets.lock().unwrap() = Answer::This(Bytes::copy_from_slice(bytes));
        };
        let release = |number, bundle: &[u8]| {
            let release =
                common::signed_with(&hub, number, &[archive.as_slice()], Some(Digest::of(&[bundle])));
            let contents = serde_json::to_vec(&release.contents).unwrap();
            *hub.script.contents.lock().unwrap() = Answer::This(contents.into());
            hub.order(&Orders { sealed: Some(release.web), ..Orders::default() });
        };
        *hub.script.paths.lock().unwrap() = honest(std::slice::from_ref(&archive));
        let altered = |at: usize| {
            let mut bytes = own.clone();
            bytes[at] ^= 1;
            bytes
        };
        say(&[]);
        release(1, &own);
        machine.start().await;
        machine.says("the hub does not give what was signed: other secrets").await;
        let in_data = own.windows(4).position(|four| four == b"data").unwrap() + 8;
        for (what, bytes) in [
            ("another host's", bobs.clone()),
            ("older ones", older.clone()),
            ("none", bosco_secrets::NO_SECRETS.to_vec()),
            ("one byte of what is encrypted", altered(in_data)),
            ("one byte of where it goes", altered(own.len() - 10)),
            ("half of them", own[..own.len() / 2].to_vec()),
            ("more behind them", [own.as_slice(), b" "].concat()),
            ("words", b"\x1b[2J".to_vec()),
        ] {
            println!("{what}");
            say(&bytes);
            tries(&hub, &machine, "the hub does not give what was signed: other secrets").await;
            assert_eq!(machine.secrets(), [""; 0], "{what}");
        }
        *hub.script.secrets.lock().unwrap() = endless(" ".repeat(256 * 1024).into(), "{".into(), 2048 * MIB);
        tries(&hub, &machine, "length limit exceeded").await;
        let came = hub.script.taken.swap(0, Ordering::Relaxed);
        assert!(came < 64 * MIB, "{} MiB", came / MIB);
        *hub.script.secrets.lock().unwrap() = Answer::Half(Bytes::from_static(b"{"));
        tries(&hub, &machine, "the hub does not answer").await;
        assert!(machine.secrets().is_empty() && !machine.was_asked_to_activate() && machine.runs());

        // What was signed is taken, and what it has of an older release is nothing for a newer one.
        say(&own);
        tries(&hub, &machine, "activates release 1").await;
        until("the helper is asked", || machine.was_asked_to_activate()).await;
        assert_eq!(machine.secrets(), [format!("{}.json", Digest::of(&[&own]))]);
        let from = machine.said().len();
        release(2, &older);
        until("it is refused", || machine.said()[from..].contains("signed: other secrets")).await;
        assert!(!machine.said()[from..].contains("activates"));
    });
}

#[test]
fn a_byte_now_and_then_is_too_slow() {
    on_a_machine("a_byte_now_and_then_is_too_slow", async {
        let archive = nar(&[1; 100_000]);
        let (hub, mut machine, release) = released(&[&archive]).await;
        let honest = pack([archive.as_slice()]);
        let bytes = honest.clone();
        let drip =
            move || -> Pieces { Box::new(bytes.clone().into_iter().map(|byte| Bytes::from(vec![byte]))) };
        *hub.script.paths.lock().unwrap() = Answer::Pieces(Arc::new(drip), Duration::from_millis(300));
        machine.start().await;
        machine.says("the hub sends too slowly; it is tried again later").await;
        *hub.script.paths.lock().unwrap() = Answer::Half(honest.slice(..HEAD + 2));
        tries(&hub, &machine, "the hub sends too slowly").await;
        *hub.script.paths.lock().unwrap() = Answer::Nothing;
        tries(&hub, &machine, "the hub does not answer").await;
        *hub.script.contents.lock().unwrap() = Answer::Half(Bytes::from_static(b"["));
        tries(&hub, &machine, "the hub does not answer").await;
        nothing_came(&machine, &release);
        until("it says that it waits", || hub.heard().phase == Phase::Backoff).await;
    });
}

/// A hub that is silent from somewhere on is given up on, and come back to: one connection at a time, later and later.
fn is_given_up_on(name: &str, silent: Silent, words: &'static str) {
    on_a_machine(name, async move {
        let hub = Liar::start(silent).await;
        let mut machine = Machine::new(&hub, key("hub").as_str()).await;
        machine.start().await;
        machine.says(words).await;
        let connections = || hub.script.connections.load(Ordering::Relaxed);
        until("it comes back", || connections() >= 3).await;
        let most = hub.script.most_open.load(Ordering::Relaxed);
        assert!(most == 1, "{most} connections at once");
        let before = connections();
        sleep(Duration::from_secs(4)).await;
        assert!(connections() - before <= 1, "it does not come back at once each time");
        // Where the hub speaks again, so does the agent.
        *hub.script.silent.lock().unwrap() = Silent::Never;
        machine.says("connected to the hub").await;
    });
}

#[test]
fn a_hub_that_says_nothing_is_given_up_on() {
    let name = "a_hub_that_says_nothing_is_given_up_on";
    is_given_up_on(name, Silent::FromTheStart, "no answer within 3 s");
}

#[test]
fn a_hub_that_never_exchanges_keys_is_given_up_on() {
    let name = "a_hub_that_never_exchanges_keys_is_given_up_on";
    is_given_up_on(name, Silent::AtTheKeys, "no answer within 3 s");
}

#[test]
fn a_hub_that_opens_nothing_behind_the_login_is_given_up_on() {
    let name = "a_hub_that_opens_nothing_behind_the_login_is_given_up_on";
    is_given_up_on(name, Silent::AfterTheLogin, "no answer");
}

#[test]
fn a_hub_that_does_not_answer_a_hello_is_given_up_on() {
    let name = "a_hub_that_does_not_answer_a_hello_is_given_up_on";
    is_given_up_on(name, Silent::AtTheHello, "the hub does not answer");
}

#[test]
fn a_hub_that_is_silent_behind_the_hello_is_given_up_on() {
    let name = "a_hub_that_is_silent_behind_the_hello_is_given_up_on";
    is_given_up_on(name, Silent::AfterTheHello, "the hub does not answer");
}

#[test]
fn a_hub_that_never_gives_orders_is_given_up_on() {
    let name = "a_hub_that_never_gives_orders_is_given_up_on";
    is_given_up_on(name, Silent::AtTheOrders, "the hub does not answer");
}

#[test]
fn a_hub_with_another_key_is_told_nothing_and_named() {
    on_a_machine("a_hub_with_another_key_is_told_nothing_and_named", async {
        let hub = Liar::start(Silent::Never).await;
        let mut machine = Machine::new(&hub, key("another").as_str()).await;
        machine.start().await;
        let found = key("hub").fingerprint();
        machine.says(&format!("{} is not the hub: its key is {found}", hub.address)).await;
        until("it comes back", || hub.script.connections.load(Ordering::Relaxed) > 1).await;
        assert!(hub.script.logins.lock().unwrap().is_empty(), "nobody has logged in");
        assert!(hub.script.standings.lock().unwrap().is_empty());
    });
}

#[test]
fn a_manifest_that_is_not_this_hosts_next_one_raises_the_alarm_and_changes_nothing() {
    on_a_machine("a_manifest_that_is_not_this_hosts_next_one_raises_the_alarm_and_changes_nothing", async {
        let hub = Liar::start(Silent::Never).await;
        let mut machine = Machine::new(&hub, key("hub").as_str()).await;
        let [older, good, newer] = [1, 2, 3].map(|number| signed(&hub, number, &[b"it"]));
        let forked = signed(&hub, 2, &[b"something else"]);
        let give = |sealed: &bosco_release::Sealed| {
            hub.order(&Orders { sealed: Some(sealed.clone()), ..Orders::default() });
        };
        give(&good.web);
        machine.start().await;
        until("it goes by release 2", || hub.heard().leaf == Some(good.leaf)).await;
        let spliced = bosco_release::Sealed { manifest: good.web.manifest.clone(), ..newer.web.clone() };
        for (sealed, words) in [
            (&newer.bob, "it is bob's"),
            (&older.web, "somebody replays an old one"),
            (&forked.web, "somebody signs two with one number"),
            (&spliced, "its proof does not lead to the release that was signed"),
        ] {
            give(sealed);
            let alarms = || hub.heard().alarms.iter().any(|alarm| alarm.contains(words));
            until(&format!("the alarm for `{words}`"), alarms).await;
            // It stays: who looks an hour later sees it as well.
            hub.order(&Orders { trigger: true, ..Orders::default() });
            sleep(Duration::from_secs(2)).await;
            assert!(alarms(), "the alarm for `{words}` is gone: {:?}", hub.heard().alarms);
            assert_eq!(hub.heard().leaf, Some(good.leaf), "it goes by what it has");
        }
        // Also after a restart, and until what is right comes.
        machine.start().await;
        give(&older.web);
        until("the alarm, again", || hub.heard().alarms.iter().any(|one| one.contains("replays"))).await;
        give(&newer.web);
        let calm = || hub.heard().leaf == Some(newer.leaf) && hub.heard().alarms.is_empty();
        until("it goes by release 3, and all is well", calm).await;
        assert!(machine.runs() && !machine.was_asked_to_activate());
    });
}

#[test]
fn however_many_visits_a_hub_wants_the_host_has_sixteen_and_only_to_its_own_sshd() {
    on_a_machine("however_many_visits_a_hub_wants_the_host_has_sixteen_and_only_to_its_own_sshd", async {
        let hub = Liar::start(Silent::Never).await;
        let mut machine = Machine::new(&hub, key("hub").as_str()).await;
        let long = "x".repeat(5000);
        let odd =
            ["", "../../x", "a b", "x\n", "192.0.2.1:25", "\u{1b}[2J", "é", long.as_str()].map(String::from);
        let many = |turn: usize| (0..3000).map(move |number| format!("{turn}-{number}"));
        for turn in 0..5 {
            hub.order(&Orders {
                visits: odd.iter().cloned().chain(many(turn)).collect(),
                ..Orders::default()
            });
        }
        machine.start().await;
        until("somebody comes", || !hub.script.visits.lock().unwrap().is_empty()).await;
        until("all orders are heard", || hub.script.orders.lock().unwrap().is_empty()).await;
        sleep(Duration::from_secs(3)).await;
        let visits = hub.script.visits.lock().unwrap().clone();
        assert!((1..=16).contains(&visits.len()), "{} visits", visits.len());
        assert_eq!(machine.sshd.load(Ordering::Relaxed), visits.len(), "each is one to the host's own sshd");
        let plain = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        assert!(visits.iter().all(plain), "{visits:?}");
        assert!(machine.said().lines().count() < 100, "it does not talk of each of them");
        assert!(machine.runs());
    });
}

#[test]
fn what_a_hub_gives_to_keep_or_to_show_has_bounds() {
    on_a_machine("what_a_hub_gives_to_keep_or_to_show_has_bounds", async {
        let hub = Liar::start(Silent::Never).await;
        let mut machine = Machine::new(&hub, key("hub").as_str()).await;
        let good = signed(&hub, 2, &[b"it"]);
        hub.order(&Orders { sealed: Some(good.web.clone()), ..Orders::default() });
        hub.script.welcome.lock().unwrap().alarm = Some("\u{1b}[2J\r\nall is well".repeat(1000));
        machine.start().await;
        until("it goes by release 2", || hub.heard().leaf == Some(good.leaf)).await;
        until("the alarm", || !hub.heard().alarms.is_empty()).await;
        let alarm = hub.heard().alarms.remove(0);
        assert!(alarm.len() <= 300 && !alarm.contains(char::is_control), "{alarm:?}");
        assert!(!machine.said().contains('\u{1b}'));
        // What is kept beside it must not push out how far the host has seen.
        hub.script.welcome.lock().unwrap().ratchet = "x".repeat(1_000_000);
        machine.start().await;
        machine.says("too long").await;
        assert!(machine.pull()["seen"][0] == 2, "what it has seen is known still");
    });
}
