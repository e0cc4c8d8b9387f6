use super::*;

/// Units' files in memory. A text of `mask` is a mask.
#[derive(Default)]
struct Memory(BTreeMap<String, String>);

impl Units for Memory {
    fn has(&self, unit: &str) -> bool {
        self.0.contains_key(unit)
    }
    fn runs(&self, unit: &str) -> bool {
        self.0.get(unit).is_some_and(|text| text != "mask")
    }
    fn load(&self, unit: &str, base: &str) -> Result<UnitFile> {
        let mut file = UnitFile::default();
        file.add(&self.0[base]);
        if unit != base
            && let Some(drop_in) = self.0.get(&format!("{unit}.d"))
        {
            file.add(drop_in);
        }
        Ok(file)
    }
}

fn memory(units: &[(&str, &str)]) -> Memory {
    Memory(units.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
}

fn active(names: &[&str]) -> Active {
    let state = UnitState { active: "active".into(), sub: "running".into() };
    names.iter().map(|name| ((*name).to_owned(), state.clone())).collect()
}

fn names(set: &BTreeSet<String>) -> Vec<&str> {
    set.iter().map(String::as_str).collect()
}

fn plan(running: &[&str], old: &[(&str, &str)], new: &[(&str, &str)]) -> Plan {
    let (active, current, new) = (active(running), memory(old), memory(new));
    let mut plan = Plan::default();
    plan.compare(&World { active: &active, current: &current, new: &new, show_all: false }).unwrap();
    plan
}

/// A service whose file differs between `a` and `b`, with more lines.
fn service(version: &str, more: &str) -> String {
    format!("[Service]\nExecStart=/bin/{version}\n{more}\n")
}

#[test]
fn a_changed_service_is_stopped_and_started() {
    let plan = plan(&["x.service"], &[("x.service", &service("a", ""))], &[("x.service", &service("b", ""))]);
    assert_eq!(names(&plan.stop), ["x.service"]);
    assert_eq!(names(&plan.start), ["x.service"]);
    assert!(plan.restart.is_empty());
}

#[test]
fn an_unchanged_service_is_left_alone() {
    let plan = plan(&["x.service"], &[("x.service", &service("a", ""))], &[("x.service", &service("a", ""))]);
    assert!(
        plan.stop.is_empty() && plan.start.is_empty() && plan.restart.is_empty() && plan.reload.is_empty()
    );
}

#[test]
fn a_transient_unit_is_left_alone() {
    let plan = plan(&["run-1.service"], &[], &[]);
    assert!(plan.stop.is_empty() && plan.start.is_empty());
}

#[test]
fn a_unit_that_failed_or_stopped_is_not_restarted() {
    let (old, new) =
        (memory(&[("x.service", &service("a", ""))]), memory(&[("x.service", &service("b", ""))]));
    let failed =
        Active::from([("x.service".to_owned(), UnitState { active: "failed".into(), sub: "failed".into() })]);
    let mut plan = Plan::default();
    plan.compare(&World { active: &failed, current: &old, new: &new, show_all: false }).unwrap();
    assert!(plan.stop.is_empty() && plan.start.is_empty());
}

#[test]
fn each_flag_of_a_changed_service_is_obeyed() {
    for (more, stop, restart, reload, skip) in [
        ("X-StopIfChanged=false", 0, 1, 0, 0),
        ("X-RestartIfChanged=false", 0, 0, 0, 1),
        ("X-ReloadIfChanged=true", 0, 0, 1, 0),
        ("[Unit]\nRefuseManualStop=true", 0, 0, 0, 1),
        ("[Unit]\nX-OnlyManualStart=true", 0, 0, 0, 1),
    ] {
        let plan =
            plan(&["x.service"], &[("x.service", &service("a", ""))], &[("x.service", &service("b", more))]);
        let found = (plan.stop.len(), plan.restart.len(), plan.reload.len(), plan.skip.len());
        assert_eq!(found, (stop, restart, reload, skip), "for {more}");
    }
}

#[test]
fn a_removed_unit_is_stopped_unless_it_says_otherwise() {
    let stays = format!("{}[Unit]\nX-StopOnRemoval=false\n", service("a", ""));
    let plan = plan(
        &["gone.service", "masked.service", "stays.service"],
        &[
            ("gone.service", &service("a", "")),
            ("masked.service", &service("a", "")),
            ("stays.service", &stays),
        ],
        &[("masked.service", "mask")],
    );
    assert_eq!(names(&plan.stop), ["gone.service", "masked.service"]);
}

#[test]
fn an_active_target_is_started_again_without_a_word() {
    let stopped = "[Unit]\nX-StopOnReconfiguration=true\n";
    let units = [
        ("multi-user.target", "[Unit]\n"),
        ("local-fs.target", stopped),
        ("network-pre.target", "[Unit]\nRefuseManualStart=yes\n"),
        ("suspend.target", ""),
    ];
    let plan = plan(
        &["multi-user.target", "local-fs.target", "network-pre.target", "suspend.target"],
        &units,
        &units,
    );
    assert_eq!(names(&plan.start), ["local-fs.target", "multi-user.target"]);
    assert_eq!(names(&plan.stop), ["local-fs.target"]);
    assert!(plan.start_shown().is_empty());
}

#[test]
fn a_service_that_sockets_start_is_left_to_them() {
    let socket = ("x.socket", "[Socket]\nListenStream=/run/x\n");
    let running = ["x.service", "x.socket"];
    let new = service("b", "");
    let by_socket =
        plan(&running, &[("x.service", &service("a", "")), socket], &[("x.service", &new), socket]);
    assert_eq!(names(&by_socket.stop), ["x.service", "x.socket"]);
    assert_eq!(names(&by_socket.start), ["x.socket"]);

    let not = service("b", "X-NotSocketActivated=true");
    let itself = plan(&running, &[("x.service", &service("a", "")), socket], &[("x.service", &not), socket]);
    assert_eq!(names(&itself.start), ["x.service", "x.socket"]);
}

#[test]
fn an_instance_is_compared_by_its_template() {
    let plan =
        plan(&["x@1.service"], &[("x@.service", &service("a", ""))], &[("x@.service", &service("b", ""))]);
    assert_eq!(names(&plan.stop), ["x@1.service"]);
    assert_eq!(names(&plan.start), ["x@1.service"]);
}

#[test]
fn timers_and_paths_are_restarted_in_one_go_and_sockets_and_slices_not_at_all() {
    let plan = plan(
        &["t.timer", "s.socket", "l.slice"],
        &[
            ("t.timer", "[Timer]\nOnBootSec=1\n"),
            ("s.socket", "[Socket]\na=1\n"),
            ("l.slice", "[Slice]\na=1\n"),
        ],
        &[
            ("t.timer", "[Timer]\nOnBootSec=2\n"),
            ("s.socket", "[Socket]\na=2\n"),
            ("l.slice", "[Slice]\na=2\n"),
        ],
    );
    assert_eq!(names(&plan.restart), ["t.timer"]);
    assert!(plan.stop.is_empty() && plan.start.is_empty());
}

#[test]
fn the_activation_script_can_ask_for_restarts_and_reloads() {
    let units = memory(&[
        ("a.service", &service("a", "")),
        ("b.service", &service("a", "")),
        ("c.service", &service("a", "X-RestartIfChanged=false")),
    ]);
    let active = active(&["a.service", "c.service"]);
    let world = World { active: &active, current: &units, new: &units, show_all: false };
    let mut plan = Plan::default();
    let asked = ["a.service", "b.service", "c.service"].map(str::to_owned);
    plan.asked(&world, &asked, &["a.service".to_owned(), "c.service".to_owned(), "d.service".to_owned()])
        .unwrap();
    assert_eq!(names(&plan.restart), ["a.service"]);
    assert_eq!(names(&plan.start), ["b.service"]);
    assert_eq!(names(&plan.skip), ["c.service"]);
    assert_eq!(names(&plan.reload), ["c.service"]);
}

#[test]
fn what_an_interrupted_run_must_know_is_noted() {
    let mut plan = plan(
        &["x.service", "y.service"],
        &[("x.service", &service("a", "")), ("y.service", &service("a", ""))],
        &[("x.service", &service("b", "")), ("y.service", &service("b", "X-StopIfChanged=false"))],
    );
    let notes = plan.take_notes();
    assert!(notes.contains(&Note::Add(List::Start, "x.service".into())));
    assert!(notes.contains(&Note::Add(List::Restart, "y.service".into())));
    assert!(plan.take_notes().is_empty());
}
