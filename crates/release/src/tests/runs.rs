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
    let system = system_of(path.clone(), closure);
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

fn profiles(only: bool, all: &[(&str, &str, &str)]) -> Runs {
    let at = |(user, name, to): &(&str, &str, &str)| ProfileAt {
        profile: Profile {
            name: ProfileName::parse(name).unwrap(),
            user: UserName::parse(user).unwrap(),
            place: None,
        },
        path: path(to),
    };
    let all: Vec<ProfileAt> = all.iter().map(at).collect();
    let toplevel = all.first().filter(|_| only).map_or(path("system"), |first| first.path.clone());
    Runs::System { toplevel, profiles: Profiles { all, only }, closure: Digest::of(&[b"x"]) }
}

#[test]
fn a_manifest_says_which_profiles_go_with_a_system_and_which_go_alone() {
    let runs = profiles(false, &[("ada", "home", "home")]);
    let said = serde_json::json!({ "system": { "toplevel": path("system"), "closure": Digest::of(&[b"x"]),
        "profiles": [{ "user": "ada", "name": "home", "path": path("home") }] } });
    assert_eq!(serde_json::to_value(&runs).unwrap(), said);
    assert_eq!(runs.paths(), [&path("system"), &path("home")]);
    assert_eq!(runs.system(), Some(&path("system")));
    let alone = profiles(true, &[("root", "tool", "tool"), ("ada", "home", "home"), ("bob", "home", "home")]);
    assert_eq!(serde_json::to_value(&alone).unwrap()["system"]["profilesOnly"], true);
    assert_eq!(alone.paths(), [&path("tool"), &path("home")], "each once");
    assert_eq!(alone.system(), None);
    for runs in [runs, alone] {
        let text = serde_json::to_string(&runs).unwrap();
        assert_eq!(serde_json::from_str::<Runs>(&text).unwrap(), runs);
    }
}

#[test]
fn profiles_that_no_host_could_have_are_refused() {
    let read = |runs: &Runs| {
        assert!(Runs::can_have(runs.path(), runs.profiles()).is_err());
        let text = serde_json::to_string(runs).unwrap();
        serde_json::from_str::<Runs>(&text).unwrap_err().to_string()
    };
    let many: Vec<String> = (0..=MAX_PROFILES).map(|number| format!("p{number}")).collect();
    let many: Vec<(&str, &str, &str)> = many.iter().map(|name| ("ada", name.as_str(), "x")).collect();
    assert!(read(&profiles(false, &many)).contains("at most 32 profiles"));
    assert_eq!(Runs::can_have(&path("x"), profiles(false, &many[1..]).profiles()), Ok(()));
    let twice = [("ada", "home", "a"), ("bob", "home", "b"), ("ada", "home", "c")];
    assert!(read(&profiles(false, &twice)).contains("ada's profile home is there twice"));
    assert!(read(&profiles(true, &[])).contains("profiles only"));
    let Runs::System { profiles: alone, closure, .. } = profiles(true, &[("ada", "home", "home")]) else {
        panic!()
    };
    let other = Runs::System { toplevel: path("system"), profiles: alone, closure };
    assert!(read(&other).contains("profiles only"));
    let mut placed = profiles(false, &twice[..2]);
    if let Runs::System { profiles, .. } = &mut placed {
        let place = ProfilePlace::try_from("/srv/app".to_owned()).unwrap();
        profiles.all.iter_mut().for_each(|one| one.profile.place = Some(place.clone()));
    }
    assert!(read(&placed).contains("bob's profile home is there twice"));
    let said = serde_json::to_value(profiles(false, &twice[..1])).unwrap();
    for (field, with) in
        [("secretly", "x"), ("name", "a b"), ("user", "a;b"), ("place", "../x"), ("path", "/x")]
    {
        let mut said = said.clone();
        said["system"]["profiles"][0][field] = with.into();
        assert!(serde_json::from_value::<Runs>(said).is_err(), "{field}");
    }
}

#[test]
fn a_manifest_with_the_longest_profiles_is_read() {
    let (name, place) = ("n".repeat(200), format!("/{}", "p".repeat(999)));
    let store_path = format!("/nix/store/{}-{name}", "0".repeat(32));
    let one = |number: usize| ProfileAt {
        profile: Profile {
            name: ProfileName::parse(&format!("{name}{number}")).unwrap(),
            user: UserName::parse("ada").unwrap(),
            place: Some(ProfilePlace::try_from(format!("{}{number:02}", &place[..998])).unwrap()),
        },
        path: StorePath::parse(&store_path).unwrap(),
    };
    let profiles = Profiles { all: (0..MAX_PROFILES).map(one).collect(), only: false };
    let runs = Runs::System { toplevel: path("x"), profiles, closure: Digest::of(&[b"x"]) };
    let release = release(1, 7, vec![Manifest { runs: runs.clone(), ..manifest("home", "web", 7, "x") }]);
    let sealed = release.seal().next().unwrap();
    let opened = sealed.open(&trust_in("home", vec![signer("ada", 1)])).unwrap();
    assert_eq!(opened.manifest.runs, runs);
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
            hold: Some(hold_of(5, "pushed")),
            now: START + 8 * DAY,
        };
        judge(&known, &sealed)
    };
    assert!(matches!(judged(0), Judged::Held(..)));
    assert!(matches!(judged(5), Judged::Take(_)));
}
