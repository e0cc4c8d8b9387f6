use std::sync::Arc;

use proptest::prelude::*;

use super::*;

fn path(name: &str, hash: char) -> StorePath {
    StorePath::parse(&format!("/nix/store/{}-{name}", hash.to_string().repeat(32))).unwrap()
}

fn unit(text: &str) -> UnitFile {
    let mut file = UnitFile::default();
    file.add(text);
    file
}

/// A system of some paths, each with its hash and bytes, and units with their texts.
fn system(paths: &[(&str, char, u64)], units: &[(&str, &str)]) -> System {
    let files = units.iter().map(|(name, text)| ((*name).to_owned(), Arc::new(unit(text))));
    let wants = units.iter().map(|(name, _)| ("multi-user.target".to_owned(), (*name).to_owned()));
    System {
        toplevel: path("nixos-system-web-26.05", '0'),
        version: Some("26.05".into()),
        closure: paths.iter().map(|(name, hash, size)| (path(name, *hash), *size)).collect(),
        units: Some(Units { files: files.collect(), wants: wants.collect() }),
        boot: BTreeMap::new(),
    }
}

fn packages_of(before: &[(&str, char, u64)], after: &[(&str, char, u64)]) -> Vec<String> {
    let difference = Difference::between(&system(before, &[]), &system(after, &[]), None);
    let told = |change: &PackageChange| {
        format!("{}: {:?} → {:?}, {:+}", change.name, change.before, change.after, change.bytes)
    };
    difference.packages.iter().map(told).collect()
}

/// What becomes of `a.service`, which is active, and of others.
fn units_of(before: &[(&str, &str)], after: &[(&str, &str)], active: &[&str]) -> UnitChanges {
    let active = active.iter().map(ToString::to_string).collect();
    let (before, after) = (system(&[], before), system(&[], after));
    Difference::between(&before, &after, Some(&active)).units.unwrap()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn packages_are_told_by_version_and_size_and_small_files_not_at_all() {
    assert_eq!(
        packages_of(
            &[
                ("openssl-3.0.14", '1', 5000),
                ("vim-9.1", '2', 100),
                ("etc-fstab", '3', 20),
                ("glibc-2.39", '4', 9)
            ],
            &[
                ("openssl-3.0.15", '5', 7000),
                ("htop-3.3", '6', 50),
                ("etc-hosts", '7', 30),
                ("glibc-2.39", '4', 9)
            ],
        ),
        [
            "htop: [] → [\"3.3\"], +50",
            "openssl: [\"3.0.14\"] → [\"3.0.15\"], +2000",
            "vim: [\"9.1\"] → [], -100",
        ]
    );
}

#[test]
fn of_several_versions_only_those_are_told_that_come_and_go() {
    assert_eq!(
        packages_of(
            &[("python3-3.11", '1', 10), ("python3-3.12", '2', 10)],
            &[("python3-3.12", '2', 10), ("python3-3.13", '3', 10)],
        ),
        ["python3: [\"3.11\"] → [\"3.13\"], +0"]
    );
}

#[test]
fn the_same_package_built_anew_is_told_where_its_size_changes_much() {
    let built = |hash, size| [("app", hash, size)];
    assert_eq!(packages_of(&built('1', 1000), &built('2', 1000)), [""; 0]);
    assert_eq!(packages_of(&built('1', 1000), &built('2', 10_000)), ["app: [] → [], +9000"]);
}

#[test]
fn a_change_of_a_unit_restarts_it_unless_it_says_otherwise() {
    let start = "[Service]\nExecStart=/a\n";
    for (after, becomes) in [
        ("[Service]\nExecStart=/b\n", "restart"),
        ("[Service]\nExecStart=/b\nX-ReloadIfChanged=true\n", "reload"),
        ("[Service]\nExecStart=/b\nX-RestartIfChanged=false\n", "keep"),
        ("[Unit]\nRefuseManualStop=true\n[Service]\nExecStart=/b\n", "keep"),
        ("[Unit]\nDescription=x\n[Service]\nExecStart=/a\n", "nothing"),
        ("[Unit]\nX-Reload-Triggers=/b\n[Service]\nExecStart=/a\n", "reload"),
        ("[Unit]\nX-Restart-Triggers=/b\n[Service]\nExecStart=/a\n", "restart"),
        ("[Service]\nExecStart=/a\n[Install]\nWantedBy=x\n", "nothing"),
    ] {
        let changes = units_of(&[("a.service", start)], &[("a.service", after)], &["a.service"]);
        let expected = |word| if becomes == word { set(&["a.service"]) } else { set(&[]) };
        let UnitChanges { stop, start, restart, reload, keep } = changes;
        assert_eq!(
            (restart, reload, keep),
            (expected("restart"), expected("reload"), expected("keep")),
            "{after}"
        );
        assert_eq!((stop, start), (set(&[]), set(&[])), "{after}");
    }
}

#[test]
fn what_is_not_active_is_left_alone_and_what_is_new_starts_with_what_is() {
    let (old, new) = ("[Service]\nExecStart=/a\n", "[Service]\nExecStart=/b\n");
    let changes = units_of(
        &[("a.service", old), ("gone.service", old)],
        &[("a.service", new), ("new.timer", "[Timer]\n")],
        &["multi-user.target", "gone.service", "session.scope"],
    );
    assert_eq!(
        changes,
        UnitChanges { stop: set(&["gone.service"]), start: set(&["new.timer"]), ..UnitChanges::default() }
    );
}

#[test]
fn an_instance_follows_its_template_and_a_socket_its_service() {
    let (old, new) = ("[Service]\nExecStart=/a\n", "[Service]\nExecStart=/b\n");
    let changes = units_of(
        &[("tty@.service", old), ("a.service", old), ("a.socket", "[Socket]\n")],
        &[("tty@.service", new), ("a.service", new), ("a.socket", "[Socket]\n")],
        &["tty@1.service", "a.service", "a.socket"],
    );
    assert_eq!(changes.restart, set(&["tty@1.service", "a.service", "a.socket"]));
}

#[test]
fn another_kernel_waits_for_a_reboot_and_a_container_has_none() {
    let with = |kernel: &str| {
        let boot = BTreeMap::from([("kernel".to_owned(), kernel.to_owned())]);
        System { boot, ..system(&[], &[]) }
    };
    let reboot = |before: &System, after: &System| Difference::between(before, after, None).reboot;
    assert_eq!(reboot(&with("/a"), &with("/b")), ["kernel"]);
    assert_eq!(reboot(&with("/a"), &with("/a")), [""; 0]);
    assert_eq!(reboot(&system(&[], &[]), &with("/b")), [""; 0]);
}

#[test]
fn what_was_booted_and_not_what_runs_is_replaced_by_a_reboot() {
    let with = |kernel: &str, params: &str| {
        let boot = [("kernel", kernel), ("kernel-params", params)];
        let boot = boot.map(|(name, is)| (name.to_owned(), is.to_owned())).into();
        System { boot, ..system(&[], &[]) }
    };
    let kernel = |kernel: &str, params: &str| Kernel(vec![kernel.into(), format!("{params} ")]);
    let reboot = |runs: (&str, &str), after: (&str, &str), booted: (&str, &str)| {
        let (before, after) = (with(runs.0, runs.1), with(after.0, after.1));
        let difference = Difference::between(&before, &after, None);
        difference.since_boot(&before, &after, &kernel(runs.0, runs.1), &kernel(booted.0, booted.1)).reboot
    };
    assert_eq!(reboot(("/b", "quiet"), ("/b", "quiet"), ("/a", "quiet")), ["kernel"], "it waits already");
    assert_eq!(reboot(("/b", "quiet"), ("/a", "quiet"), ("/a", "quiet")), [""; 0], "back to what was booted");
    assert_eq!(reboot(("/a", "quiet"), ("/b", "loud"), ("/a", "quiet")), ["kernel", "kernel-params"]);
}

#[test]
fn what_many_hosts_have_to_say_alike_is_one_even_if_a_name_is_longer() {
    let of = |name: &str, version: &str| {
        let before = system(&[("app-1", '1', 100), ("etc-hosts", '2', 10)], &[]);
        let app = format!("app-{version}");
        let after = system(&[(app.as_str(), '3', 200), ("etc-hosts", '4', name.len() as u64)], &[]);
        (name.to_owned(), Difference::between(&before, &after, None))
    };
    let groups = alike([of("a", "2"), of("other", "3"), of("long", "2")]);
    let hosts: Vec<Vec<String>> = groups.into_iter().map(|(hosts, _)| hosts).collect();
    assert_eq!(hosts, [vec!["a".to_owned(), "long".to_owned()], vec!["other".to_owned()]]);
}

fn any_system() -> impl Strategy<Value = System> {
    let paths = prop::collection::vec(
        ("[ab]-[12](-bin)?", prop::sample::select(vec!['1', '2', '3']), 0..20_000_u64),
        0..6,
    );
    let units = prop::collection::vec(
        ("[ab]@?1?[.](service|socket|target|mount)", "(\\[(Unit|Service)\\]\n)?((X-)?[AB]=[12]?\n){0,3}"),
        0..5,
    );
    (paths, units).prop_map(|(paths, units)| {
        let paths: Vec<_> = paths.iter().map(|(name, hash, size)| (name.as_str(), *hash, *size)).collect();
        let units: Vec<_> = units.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        system(&paths, &units)
    })
}

proptest! {
    #[test]
    fn a_system_does_not_differ_from_itself(one in any_system()) {
        let difference = Difference::between(&one, &one, None);
        prop_assert!(difference.is_silent() && difference.bytes == 0, "{difference:?}");
    }

    #[test]
    fn what_comes_one_way_goes_the_other_way(one in any_system(), two in any_system()) {
        let (there, back) = (Difference::between(&one, &two, None), Difference::between(&two, &one, None));
        prop_assert_eq!(there.bytes, -back.bytes);
        prop_assert_eq!(there.packages.len(), back.packages.len());
        for (there, back) in there.packages.iter().zip(&back.packages) {
            prop_assert_eq!((&there.before, &there.after, there.bytes), (&back.after, &back.before, -back.bytes));
        }
    }

    #[test]
    fn a_unit_has_one_fate_and_only_new_ones_start(one in any_system(), two in any_system()) {
        let UnitChanges { stop, start, restart, reload, keep } = Difference::between(&one, &two, None).units.unwrap();
        let sets = [&stop, &start, &restart, &reload, &keep];
        let all: BTreeSet<_> = sets.iter().copied().flatten().collect();
        prop_assert_eq!(all.len(), sets.iter().map(|set| set.len()).sum::<usize>());
    }

    #[test]
    fn no_text_of_a_unit_makes_reading_it_panic(text in "(\\[?[A-Z]*\\]?=?\\\\?\n?\\PC{0,5}){0,10}") {
        let mut file = UnitFile::default();
        file.add(&text);
        file.add(&text);
    }
}
