//! What a host runs, as a manifest says it.

use super::*;

fn tree() -> Runs {
    Runs::Tree { tree: path("source"), closure: Digest::of(&[b"x"]), self_update: true, reboot: false }
}

#[test]
fn a_manifest_says_plainly_what_its_host_runs() {
    let text = |runs: &Runs| serde_json::to_value(runs).unwrap();
    let (path, closure) = (path("source"), Digest::of(&[b"x"]));
    let said = serde_json::json!({ "tree": { "tree": path, "closure": closure, "selfUpdate": true, "reboot": false } });
    assert_eq!(text(&tree()), said);
    let system = Runs::System { toplevel: path.clone(), closure };
    assert_eq!(text(&system), serde_json::json!({ "system": { "toplevel": path, "closure": closure } }));
    for runs in [tree(), system] {
        assert_eq!(serde_json::from_value::<Runs>(text(&runs)).unwrap(), runs);
    }
}

#[test]
fn what_a_host_does_not_know_of_what_it_is_to_run_it_does_not_pass_over() {
    let mut more = serde_json::to_value(tree()).unwrap();
    more["tree"]["secretly"] = true.into();
    assert!(serde_json::from_value::<Runs>(more).is_err());
    assert!(serde_json::from_value::<Runs>(serde_json::json!({ "other": {} })).is_err());
}

#[test]
fn a_hold_gives_way_to_a_tree_only_where_the_release_says_that_it_contains_what_was_pushed() {
    let judged = |lifts| {
        let runs = tree();
        let manifest = Manifest { runs, lifts, ..manifest("home", "web", 7, "x") };
        let sealed = release(1, 7, vec![manifest]).seal().next().unwrap();
        let known = Known {
            host: host("web"),
            trust: trust_in("home", vec![signer("ada", 1)]),
            highest: 5,
            seen: None,
            hold: Some(Hold { number: 5, toplevel: path("pushed") }),
            now: START + 8 * DAY,
        };
        judge(&known, &sealed)
    };
    assert!(matches!(judged(0), Judged::Held(..)));
    assert!(matches!(judged(5), Judged::Take(_)));
}
