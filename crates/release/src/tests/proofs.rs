//! A release that was signed opens for its hosts and its readers, and one that was touched for nobody.

use super::*;

const NAMES: [&str; 5] = ["web", "db", "mail", "lab", "git"];

fn of_hosts(count: usize) -> Release {
    let one = |at: usize| {
        let name = NAMES.get(at).map_or_else(|| format!("host-{at}"), |name| (*name).to_owned());
        manifest("home", &name, 3, &format!("system-{name}"))
    };
    release(1, 3, (0..count).map(one).collect())
}

#[test]
fn one_signature_opens_every_hosts_manifest() {
    let trust = trust_in("home", vec![signer("ada", 1)]);
    for count in [1, 2, 3, 7, 64, 65] {
        let release = of_hosts(count);
        let (statement, by, manifests) = release.open(&trust.signers).unwrap();
        assert_eq!((statement.hosts, by.name.as_str(), manifests.len()), (count as u64, "ada", count));
        let mut seen = BTreeSet::new();
        for sealed in release.seal() {
            let opened = sealed.open(&trust).unwrap();
            assert_eq!(manifests[&opened.manifest.host], opened.manifest);
            assert_eq!(opened.leaf, tree::leaf(sealed.manifest.as_bytes()));
            let text = serde_json::to_string(&sealed).unwrap();
            assert_eq!(serde_json::from_str::<Sealed>(&text).unwrap(), sealed);
            seen.insert(opened.manifest.host);
        }
        assert_eq!(seen.len(), count);
    }
}

#[test]
fn a_release_without_hosts_says_that_there_are_none() {
    let (statement, _, manifests) = of_hosts(0).open(&[signer("ada", 1)]).unwrap();
    assert_eq!((statement.hosts, manifests.len()), (0, 0));
}

#[test]
fn a_release_that_was_touched_opens_for_nobody() {
    let signers = [signer("ada", 1)];
    let good = of_hosts(4);
    let touched = |touch: &dyn Fn(&mut Release)| {
        let mut release = good.clone();
        touch(&mut release);
        release.open(&signers).map(|_| ())
    };
    assert_eq!(touched(&|_| ()), Ok(()));
    assert_eq!(touched(&|release| release.manifests.swap(0, 1)), Err(Unsealed::Elsewhere));
    assert_eq!(touched(&|release| drop(release.manifests.pop())), Err(Unsealed::Elsewhere));
    assert_eq!(touched(&|release| release.manifests.push(String::new())), Err(Unsealed::Elsewhere));
    assert_eq!(touched(&|release| release.manifests[2].push(' ')), Err(Unsealed::Elsewhere));
    assert!(matches!(touched(&|release| release.statement.push(' ')), Err(Unsealed::Forged(_))));
    let by = |who, namespace: &'static str| {
        let signature = sign(&private(who), namespace, &good.statement);
        touched(&|release| release.signature.clone_from(&signature))
    };
    assert_eq!(by(1, RELEASE_NAMESPACE), Ok(()));
    assert!(matches!(by(2, RELEASE_NAMESPACE), Err(Unsealed::Stranger(_))));
    assert!(matches!(by(1, REPORT_NAMESPACE), Err(Unsealed::Forged(_))), "it was signed for something else");
    assert!(matches!(touched(&|release| release.signature.clear()), Err(Unsealed::Signature(_))));
}

#[test]
fn what_a_signer_has_put_together_wrongly_is_not_a_release() {
    let signers = [signer("ada", 1)];
    let open = |number, manifests| release(1, number, manifests).open(&signers).map(|_| ());
    let of = |name| manifest("home", name, 3, "system");
    assert!(matches!(open(3, vec![of("web"), of("web")]), Err(Unsealed::Unknown(_))), "twice the same host");
    assert_eq!(open(4, vec![of("web")]), Err(Unsealed::Mixed), "of another number");
    assert_eq!(open(3, vec![manifest("work", "web", 3, "system")]), Err(Unsealed::Mixed), "of another fleet");
    let gives_away = Manifest { trust: trust_in("work", Vec::new()), ..of("web") };
    assert_eq!(open(3, vec![gives_away]), Err(Unsealed::Mixed), "the host would take nothing any more");
    for number in [0, bosco_model::HIGHEST + 1, u64::MAX] {
        assert_eq!(open(number, vec![manifest("home", "web", number, "x")]), Err(Unsealed::Number(number)));
    }
    let long = Manifest {
        policy: Policy {
            windows: vec![Window { days: vec![1; 200_000], from: 0, to: 1 }],
            ..Policy::default()
        },
        ..of("web")
    };
    assert_eq!(open(3, vec![long]), Err(Unsealed::TooLong), "every host would refuse it");
}

#[test]
fn a_manifest_with_something_new_in_it_is_refused_as_not_understood() {
    let newer = |text: String| text.replacen('{', "{\"tomorrow\":1,", 1);
    let trust = trust_in("home", vec![signer("ada", 1)]);
    let text = newer(serde_json::to_string(&manifest("home", "web", 3, "x")).unwrap());
    let mut statement = statement("home", 3);
    (statement.root, statement.hosts) = (tree::leaf(text.as_bytes()), 1);
    let statement = serde_json::to_string(&statement).unwrap();
    let open = |statement: String, manifest: &str| {
        let signature = sign(&private(1), RELEASE_NAMESPACE, &statement);
        Sealed { statement, signature, manifest: manifest.to_owned(), index: 0, way: Vec::new() }.open(&trust)
    };
    for came in [open(statement.clone(), &text), open(newer(statement), &text)] {
        let why = came.unwrap_err();
        assert!(matches!(&why, Unsealed::Unknown(why) if why.contains("tomorrow")), "{why}");
        assert!(!Refusal::from(why).is_alarm(), "somebody has a newer bosco");
    }
}

#[test]
fn a_report_is_its_hosts_own() {
    let (number, began, ended) = (7, 1, 2);
    let report = HostReport {
        fleet: fleet("home"),
        host: host("web"),
        id: "1".into(),
        number,
        automatic: false,
        began,
        ended,
        report: 5_u8,
        log: HostReport::<u8>::log(&"ä".repeat(40_000)),
    };
    assert_eq!(report.log.len(), 60_000);
    let text = serde_json::to_string(&report).unwrap();
    let by = |who, namespace| SignedReport {
        report: text.clone(),
        signature: sign(&private(who), namespace, &text),
    };
    assert_eq!(by(100, REPORT_NAMESPACE).open::<u8>(&[public(100)]), Ok(report));
    assert!(matches!(by(1, REPORT_NAMESPACE).open::<u8>(&[public(100)]), Err(Unsealed::Stranger(_))));
    assert!(matches!(by(100, RELEASE_NAMESPACE).open::<u8>(&[public(100)]), Err(Unsealed::Forged(_))));
    let mut other = by(100, REPORT_NAMESPACE);
    other.report = other.report.replace("\"number\":7", "\"number\":8");
    assert!(matches!(other.open::<u8>(&[public(100)]), Err(Unsealed::Forged(_))));
}
