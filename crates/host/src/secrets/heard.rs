//! Which units hear of secrets that have changed, and how a switch is told.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use bosco_secrets::{Changes, UnitName};

use super::inventory::Inventory;
use crate::places::Places;
use crate::run::{program, run};

/// How long systemd may take to say which units run.
const LIMIT: Duration = Duration::from_secs(30);

/// The unit that is active while a secret is there.
pub(super) fn unit_of(name: &str) -> String {
    format!("{}-key.service", name.replace('/', "-"))
}

/// Of the units that are to hear of it those that the system has.
pub(super) fn known(toplevel: &Path, mut changes: Changes) -> Changes {
    let units = toplevel.join("etc/systemd/system");
    let is_known = |unit: &UnitName| {
        // `app@1.service` is made of `app@.service`.
        let name = unit.as_str();
        let template = name.split_once('@').zip(name.rsplit_once('.'));
        let template = template.map(|((prefix, _), (_, kind))| format!("{prefix}@.{kind}"));
        units.join(name).exists() || template.is_some_and(|template| units.join(template).exists())
    };
    changes.restart.retain(is_known);
    changes.reload.retain(is_known);
    changes
}

/// Of the units that are to hear of it those that run, or would if they had not failed: a switch would start the others. Where systemd does not say, all of them.
pub(super) fn running(places: &Places, mut changes: Changes) -> Changes {
    let units: Vec<UnitName> = changes.restart.iter().chain(&changes.reload).cloned().collect();
    if units.is_empty() || !places.is_machine() {
        return changes;
    }
    let mut systemctl = program("systemctl");
    systemctl.args(["is-active", "--"]).args(units.iter().map(UnitName::as_str));
    let Ok(ran) = run(&mut systemctl, LIMIT) else { return changes };
    let runs = of_those(&units, &ran.said);
    changes.restart.retain(|unit| runs.contains(&unit));
    changes.reload.retain(|unit| runs.contains(&unit));
    changes
}

/// Those of the units that run, by a line for each of them.
fn of_those<'a>(units: &'a [UnitName], said: &str) -> Vec<&'a UnitName> {
    let lines: Vec<&str> = said.lines().map(str::trim).collect();
    if lines.len() != units.len() {
        return units.iter().collect();
    }
    let runs = |line: &str| matches!(line, "active" | "activating" | "reloading" | "refreshing" | "failed");
    units.iter().zip(lines).filter(|(_, line)| runs(line)).map(|(unit, _)| unit).collect()
}

/// With the units of secrets that have come or gone, as far as the system has them.
pub(super) fn with_units(toplevel: &Path, inventory: &Inventory, mut changes: Changes) -> Changes {
    let names = inventory.came.iter().chain(&inventory.went);
    changes.restart.extend(names.filter_map(|name| UnitName::parse(&unit_of(name)).ok()));
    known(toplevel, changes)
}

/// Has the switch that is under way restart and reload units, as far as the system has them.
///
/// # Errors
/// In words.
pub(super) fn tell_switch(places: &Places, changes: &Changes) -> Result<(), String> {
    let lists = [("activation-restart-list", &changes.restart), ("activation-reload-list", &changes.reload)];
    for (list, units) in lists {
        if units.is_empty() {
            continue;
        }
        let path = places.run_nixos().join(list);
        let lines: String = units.iter().map(|unit| format!("{unit}\n")).collect();
        let file = File::options().create(true).append(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(lines.as_bytes()))
            .map_err(|error| format!("can't write {}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::places::testing::TempDir;

    fn unit(name: &str) -> UnitName {
        UnitName::parse(name).unwrap()
    }

    #[test]
    fn what_does_not_run_is_not_started_because_its_secret_has_changed() {
        let units = ["app.service", "stopped.service", "failed.service", "starting.service"].map(unit);
        let named = |said| of_those(&units, said).into_iter().map(UnitName::as_str).collect::<Vec<_>>();
        let said = "active\ninactive\nfailed\nactivating\n";
        // What has failed may have failed by the secret from before.
        assert_eq!(named(said), ["app.service", "failed.service", "starting.service"]);
        assert_eq!(named("systemd is not there").len(), 4, "it is not known");
    }

    #[test]
    fn what_a_system_does_not_have_is_not_told() {
        let dir = TempDir::new();
        for unit in ["app.service", "many@.service", "token-key.service"] {
            dir.write(&format!("etc/systemd/system/{unit}"), "");
        }
        let mut changes = Changes::default();
        changes.restart.extend(["app.service", "many@1.service", "gone.service"].map(unit));
        changes.reload.extend(["gone@1.service"].map(unit));
        let mut inventory = Inventory::default();
        inventory.came.extend(["token".to_owned(), "other".to_owned()]);
        let changes = with_units(dir.path(), &inventory, changes);
        let names: Vec<&str> = changes.restart.iter().map(UnitName::as_str).collect();
        assert_eq!(names, ["app.service", "many@1.service", "token-key.service"]);
        assert!(changes.reload.is_empty());
    }
}
