//! A hub that has every release there ever was, and signatures of whom it likes, and delivers what it likes, whenever.

use std::sync::LazyLock;

use super::*;

/// Who signs: ada may for all hosts here, bob for others only, and mallory for none.
const ADA: u8 = 1;
const BOB: u8 = 2;
const MALLORY: u8 = 9;
/// The numbers of the honest releases.
const NUMBERS: std::ops::RangeInclusive<u64> = 1..=8;
const YEAR: u64 = 365 * DAY;

/// What the hub has.
struct Hub {
    /// What it could give to some host, of whatever release: the honest ones are the first.
    all: Vec<Sealed>,
    /// What a host may believe: statement and manifest, as ada has signed them for it.
    believable: BTreeSet<(String, String)>,
}

/// A release of the number, with something of its own.
fn honest(number: Number, mark: &str) -> Release {
    let one = |name: &str| {
        let mut one = manifest("home", name, number, &format!("{name}-{number}{mark}"));
        // Every third release contains what was pushed before it.
        one.lifts = if number.is_multiple_of(3) { number - 1 } else { 0 };
        // Every second one has profiles.
        if let Runs::System { profiles, .. } = &mut one.runs
            && number.is_multiple_of(2)
        {
            *profiles = home(&format!("home-{number}{mark}"));
        }
        one
    };
    release(ADA, number, ["db", "lab", "mail", "web"].map(one).to_vec())
}

static HUB: LazyLock<Hub> = LazyLock::new(|| {
    let mut good: Vec<Release> = NUMBERS.map(|number| honest(number, "")).collect();
    // ada has made a number twice; one that has expired from its beginning; one from the future.
    good.push(honest(4, "-again"));
    for (made, expires) in [(START, START), (START + 9 * YEAR, START + 10 * YEAR)] {
        let times = Statement { made, expires, ..statement("home", 9) };
        good.push(signed(Draft::new(times, vec![manifest("home", "web", 9, "timed")]).unwrap(), ADA));
    }
    let believable = good.iter().flat_map(Release::seal);
    let believable = believable
        .filter(|one| one.manifest.contains("\"host\":\"web\""))
        .map(|one| (one.statement, one.manifest))
        .collect();
    let evil = |who, fleet_name: &str, number| {
        let draft =
            Draft::new(statement(fleet_name, number), vec![manifest(fleet_name, "web", number, "evil")]);
        signed(draft.unwrap(), who)
    };
    let mut bad = vec![
        evil(BOB, "home", 7),
        evil(MALLORY, "home", 8),
        evil(ADA, "work", 8),
        evil(ADA, "home", 0),
        evil(ADA, "home", u64::MAX),
    ];
    // What ada has signed for something else.
    let other = honest(8, "-elsewhere");
    bad.push(Release { signature: sign(&private(ADA), "file", &other.statement), ..other });
    let all = good.iter().chain(&bad).flat_map(|release| release.seal().collect::<Vec<_>>()).collect();
    Hub { all, believable }
});

/// What the hub delivers.
#[derive(Debug, Clone)]
enum Delivery {
    /// Something as it is.
    Whole(usize),
    /// A part of each of four, and perhaps another place in the tree.
    Spliced([usize; 4], Option<u64>),
    /// Something with a bit of one field altered.
    Altered(usize, u8, usize, u8),
    /// Something with one field being anything.
    Anything(usize, u8, String),
}

fn delivery() -> impl Strategy<Value = Delivery> {
    let one = || 0..HUB.all.len();
    prop_oneof![
        6 => one().prop_map(Delivery::Whole),
        2 => ([one(), one(), one(), one()], prop::option::of(0..5_u64))
            .prop_map(|(parts, index)| Delivery::Spliced(parts, index)),
        2 => (one(), 0..5_u8, any::<usize>(), 0..8_u8).prop_map(|(of, field, at, bit)| Delivery::Altered(of, field, at, bit)),
        1 => (one(), 0..5_u8, "\\PC{0,60}|[\\x00-\\xff]{0,200}").prop_map(|(of, field, text)| Delivery::Anything(of, field, text)),
    ]
}

/// The text of a field that is one.
fn field(sealed: &mut Sealed, field: u8) -> Option<&mut String> {
    match field {
        0 => Some(&mut sealed.statement),
        1 => Some(&mut sealed.signature),
        2 => Some(&mut sealed.manifest),
        _ => None,
    }
}

impl Delivery {
    fn sealed(&self) -> Sealed {
        let hub = &*HUB;
        match self {
            Self::Whole(of) => hub.all[*of].clone(),
            Self::Spliced([statement, signature, manifest, way], index) => Sealed {
                statement: hub.all[*statement].statement.clone(),
                signature: hub.all[*signature].signature.clone(),
                manifest: hub.all[*manifest].manifest.clone(),
                index: index.unwrap_or(hub.all[*way].index),
                way: hub.all[*way].way.clone(),
            },
            Self::Altered(of, what, at, bit) => {
                let mut sealed = hub.all[*of].clone();
                if let Some(text) = field(&mut sealed, *what) {
                    let mut bytes = std::mem::take(text).into_bytes();
                    let at = at % bytes.len();
                    bytes[at] ^= 1 << bit;
                    *text = String::from_utf8_lossy(&bytes).into_owned();
                } else if *what == 3 || sealed.way.is_empty() {
                    sealed.index ^= 1 << (at % 64);
                } else {
                    let at = at % sealed.way.len();
                    let mut digest = *sealed.way[at].as_bytes();
                    digest[usize::from(*bit)] ^= 1 << bit;
                    sealed.way[at] = Digest::from_bytes(digest);
                }
                sealed
            }
            Self::Anything(of, what, anything) => {
                let mut sealed = hub.all[*of].clone();
                match field(&mut sealed, *what) {
                    Some(text) => text.clone_from(anything),
                    None => sealed.way = anything.bytes().map(|byte| Digest::of(&[&[byte]])).collect(),
                }
                sealed
            }
        }
    }
}

/// What happens to a host.
#[derive(Debug, Clone)]
enum Happens {
    /// It is given something, and what it takes is committed, or not.
    Given(Delivery, bool),
    /// Somebody pushes, which is committed.
    Pushed,
    /// Somebody lets go of holds with at most that number: the hub can say so too.
    Lifted(Number),
    /// Its clock is set, so many days after the first release.
    Clock(i64),
    /// It forgets what it has seen.
    Forgets,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        12 => (delivery(), any::<bool>()).prop_map(|(delivery, commits)| Happens::Given(delivery, commits)),
        1 => Just(Happens::Pushed),
        1 => (0..12_u64).prop_map(Happens::Lifted),
        1 => prop::sample::select(vec![-3650, 3, 5, 20, 3650]).prop_map(Happens::Clock),
        1 => Just(Happens::Forgets),
    ]
}

fn web() -> Known {
    Known {
        host: host("web"),
        trust: trust_in("home", vec![signer("ada", ADA)]),
        highest: 0,
        seen: None,
        hold: None,
        now: START + 5 * DAY,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn a_host_goes_its_way_whatever_the_hub_delivers(all in prop::collection::vec(happens(), 1..15)) {
        let mut web = web();
        for one in all {
            match one {
                Happens::Clock(days) => web.now = START.saturating_add_signed(days * 24 * 3600),
                Happens::Forgets => web.seen = None,
                Happens::Lifted(number) => drop(web.hold.take_if(|hold| hold.number <= number)),
                Happens::Pushed => {
                    web.highest += 1;
                    web.hold = Some(hold_of(web.highest, "pushed"));
                }
                Happens::Given(delivery, commits) => {
                    let sealed = delivery.sealed();
                    let judged = judge(&web, &sealed);
                    check(&web, &sealed, &judged)?;
                    let (taken, opened) = match judged {
                        Judged::Take(opened) => (true, opened),
                        Judged::Held(opened, _) | Judged::Late(opened, _) => (false, opened),
                        Judged::Refused(_) => continue,
                    };
                    web.seen = Some((opened.manifest.number, opened.leaf));
                    if taken && commits {
                        web.highest = opened.manifest.number;
                        web.hold = None;
                    }
                }
            }
        }
    }

    #[test]
    fn an_honest_release_that_is_new_and_in_time_is_taken(
        number in NUMBERS, seen in prop::option::of(NUMBERS), highest in 0..=8_u64, late in 0..31_u64,
    ) {
        let all = honest(number, "");
        let sealed = all.seal().nth(3).unwrap();
        let leaf = |number| honest(number, "").seal().nth(3).map(|one| tree::leaf(one.manifest.as_bytes())).unwrap();
        let seen = seen.map(|number| (number, leaf(number)));
        let known = Known { seen, highest, now: START + (number + late) * DAY, ..web() };
        let judged = judge(&known, &sealed);
        match judged {
            Judged::Take(opened) => {
                prop_assert_eq!(opened.manifest.number, number);
                prop_assert!(number >= highest.max(seen.map_or(0, |(number, _)| number)));
            }
            Judged::Refused(Refusal::Older { .. }) => prop_assert!(seen.is_some_and(|(seen, _)| seen > number)),
            Judged::Refused(Refusal::Overtaken { .. }) => prop_assert!(highest > number),
            other => prop_assert!(false, "{other:?}"),
        }
    }
}

/// What has to hold of a judgement, whatever was delivered.
fn check(web: &Known, sealed: &Sealed, judged: &Judged) -> Result<(), TestCaseError> {
    let opened = match judged {
        Judged::Take(opened) | Judged::Late(opened, _) | Judged::Held(opened, _) => opened,
        Judged::Refused(why) => {
            let is_ours = HUB.believable.contains(&(sealed.statement.clone(), sealed.manifest.clone()));
            match why {
                Refusal::Overtaken { number, highest } => {
                    prop_assert!(number < highest && web.hold.is_none());
                    prop_assert!(!why.is_alarm(), "a push is no attack");
                }
                Refusal::Older { .. } | Refusal::Forked(_) => {
                    prop_assert!(is_ours && why.is_alarm(), "{why}");
                }
                Refusal::Unsealed(Unsealed::Stranger(_) | Unsealed::OtherKind { .. }) => {
                    prop_assert!(!why.is_alarm(), "{why}");
                }
                // What is not understood was signed, or it would not have been read.
                Refusal::Unsealed(Unsealed::Unknown(_)) => prop_assert!(false, "nobody has signed it: {why}"),
                _ => prop_assert!(why.is_alarm(), "{why}"),
            }
            return Ok(());
        }
    };
    let manifest = &opened.manifest;
    prop_assert!(
        HUB.believable.contains(&(sealed.statement.clone(), sealed.manifest.clone())),
        "nobody has signed it for this host: {opened:?}"
    );
    prop_assert_eq!((&manifest.host, &manifest.fleet), (&web.host, &web.trust.fleet));
    prop_assert_eq!(&opened.signer.key, &public(ADA));
    if let Some((number, leaf)) = web.seen {
        prop_assert!(manifest.number >= number, "{number} was seen, and {} is believed", manifest.number);
        prop_assert!(manifest.number > number || opened.leaf == leaf, "another {number} was seen");
    }
    match judged {
        Judged::Take(_) => {
            prop_assert!(manifest.number >= web.highest, "it goes back from {}: {manifest:?}", web.highest);
            let hold = web.hold.as_ref();
            let contains = |hold: &Hold| {
                manifest.lifts >= hold.number || manifest.runs.toplevel() == Some(&hold.toplevel)
            };
            prop_assert!(hold.is_none_or(|hold| manifest.number > hold.number && contains(hold)), "{hold:?}");
            prop_assert!(web.now <= opened.statement.expires && web.now + DAY >= opened.statement.made);
        }
        Judged::Held(_, hold) => prop_assert_eq!(Some(hold), web.hold.as_ref()),
        Judged::Late(_, Late::Expired) => prop_assert!(web.now > opened.statement.expires),
        Judged::Late(_, Late::Future) => prop_assert!(web.now < opened.statement.made),
        Judged::Refused(_) => {}
    }
    Ok(())
}

/// What is judged of web's part of a release.
fn judged(known: &Known, release: &Release) -> Judged {
    let of_web = release.seal().find(|one| one.manifest.contains("\"host\":\"web\"")).unwrap();
    judge(known, &of_web)
}

fn refusal(known: &Known, release: &Release) -> Refusal {
    match judged(known, release) {
        Judged::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_lie_is_told_by_what_it_is() {
    let web = web();
    let five = honest(5, "");
    let leaf = tree::leaf(five.manifests[3].as_bytes());
    let seen = Known { seen: Some((5, leaf)), highest: 5, ..web.clone() };
    assert!(matches!(judged(&seen, &five), Judged::Take(_)), "it is what it goes by");
    assert_eq!(refusal(&seen, &honest(4, "")), Refusal::Older { number: 4, highest: 5 });
    assert_eq!(refusal(&seen, &honest(5, "-again")), Refusal::Forked(5));
    assert_eq!(judge(&web, &five.seal().next().unwrap()), Judged::Refused(Refusal::OtherHost(host("db"))));
    let work = signed(Draft::new(statement("work", 5), vec![manifest("work", "web", 5, "x")]).unwrap(), ADA);
    assert_eq!(refusal(&web, &work), Refusal::OtherFleet);
    let of =
        |who| signed(Draft::new(statement("home", 5), vec![manifest("home", "web", 5, "x")]).unwrap(), who);
    assert_eq!(refusal(&web, &of(MALLORY)), Unsealed::Stranger(public(MALLORY).fingerprint()).into());
    let years =
        |years: i64| Known { now: START.saturating_add_signed(years * 365 * 24 * 3600), ..web.clone() };
    assert!(matches!(judged(&years(10), &five), Judged::Late(_, Late::Expired)));
    assert!(matches!(judged(&years(-10), &five), Judged::Late(_, Late::Future)));
}

#[test]
fn a_push_holds_until_a_newer_release_contains_it_or_it_is_let_go() {
    let hold = Some(hold_of(5, "pushed"));
    let pushed = Known {
        now: START + 8 * DAY,
        highest: 5,
        hold,
        seen: Some((4, tree::leaf(honest(4, "").manifests[3].as_bytes()))),
        ..web()
    };
    for number in [4, 5, 7] {
        assert!(matches!(judged(&pushed, &honest(number, "")), Judged::Held(..)), "{number}");
    }
    assert!(matches!(judged(&pushed, &honest(6, "")), Judged::Take(_)), "it lifts the hold");
    let further = Known { highest: 7, ..pushed.clone() };
    assert!(matches!(judged(&further, &honest(6, "")), Judged::Held(..)), "it is older than what runs");
    let same = release(ADA, 7, vec![manifest("home", "web", 7, "pushed")]);
    assert!(matches!(judged(&pushed, &same), Judged::Take(_)), "it is what was pushed");
    let let_go = Known { hold: None, ..pushed };
    assert!(matches!(judged(&let_go, &honest(5, "")), Judged::Take(_)));
    let before = refusal(&let_go, &honest(4, ""));
    assert_eq!(before, Refusal::Overtaken { number: 4, highest: 5 }, "a hub that lets go undoes no push");
    assert!(!before.is_alarm());
}
