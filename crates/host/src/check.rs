//! What is true of a host and of a candidate before anything is changed, in small facts. Nothing here writes.

mod room;
mod verify;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use bosco_activation::{Before, Needs, Refused, Settings};
use bosco_model::StorePath;

use crate::places::Places;
use crate::{generations, loader};

pub(crate) use room::room;
use verify::damaged_file;
pub(crate) use verify::{closure, sync};
pub(crate) use verify::{sync_store, verify_new};

/// The longest settings of a system, in bytes.
const LONGEST_SETTINGS: u64 = 1024 * 1024;
/// Where they are.
const SETTINGS: &str = "etc/bosco/activation.json";
/// The unit of a system that goes on with an attempt after a boot.
const BOOT_UNIT: &str = "etc/systemd/system/bosco-boot.service";

/// Whether something is a NixOS system that can be activated.
#[must_use]
pub(crate) fn is_system(candidate: &Path) -> bool {
    ["bin/switch-to-configuration", "init", "etc"].iter().all(|part| candidate.join(part).exists())
}

/// What only a boot can bring in of the candidate.
#[must_use]
pub(crate) fn needs(places: &Places, candidate: &Path) -> Needs {
    let text = |system: &Path, file: &str| fs::read(system.join(file)).ok();
    let differs = |system: &Path, file| text(candidate, file) != text(system, file);
    if differs(&places.current_system(), "init-interface-version") {
        return Needs::Init;
    }
    let booted = places.booted_system();
    let part = |system: &Path, part: &str| fs::canonicalize(system.join(part)).ok();
    let moved = |name: &str| part(candidate, name) != part(&booted, name);
    if ["kernel", "initrd", "kernel-modules"].into_iter().any(moved) || differs(&booted, "kernel-params") {
        Needs::Kernel
    } else {
        Needs::Nothing
    }
}

/// What the host is now, but for its units and its other profiles: what a revert goes back to.
///
/// # Errors
/// In words, where it is not known what runs.
pub(crate) fn before(places: &Places) -> Result<Before, String> {
    let link = places.current_system();
    let running = places
        .store_path(&link)
        .ok_or_else(|| format!("{} does not lead to a system: it is not known what runs", link.display()))?;
    Ok(Before {
        specialisation: specialisation(places, &running),
        running,
        profile: places.store_path(&places.profile()),
        generation: generations::present(places),
        failed: BTreeSet::new(),
        profiles: Vec::new(),
    })
}

/// The name under which some system of the host has what runs as a specialisation.
fn specialisation(places: &Places, running: &StorePath) -> Option<String> {
    let mut systems = vec![places.profile(), places.booted_system(), places.gcroots().join("candidate")];
    systems
        .extend(generations::all(places).into_iter().rev().map(|number| generations::link(places, number)));
    systems.iter().find_map(|system| {
        let links = fs::read_dir(system.join("specialisation")).ok()?.flatten();
        let mut names = links.filter(|link| places.store_path(&link.path()).as_ref() == Some(running));
        names.next()?.file_name().into_string().ok()
    })
}

/// What a system says of how it wants to be activated. One that says nothing wants what is usual.
///
/// # Errors
/// In words, with the file's name, where it can't be read.
pub(crate) fn settings(candidate: &Path) -> Result<Settings, String> {
    let path = candidate.join(SETTINGS);
    let wrong = |why: String| format!("{} can't be read: {why}", path.display());
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Settings::default()),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let mut text = Vec::new();
    file.take(LONGEST_SETTINGS + 1).read_to_end(&mut text).map_err(|error| wrong(error.to_string()))?;
    if text.len() as u64 > LONGEST_SETTINGS {
        return Err(wrong("it is longer than 1 MiB".into()));
    }
    serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))
}

/// That a system's settings are damaged, where that is why they can't be read.
pub(crate) fn damaged_settings(candidate: &Path, limit: Duration) -> Option<Refused> {
    damaged_file(&candidate.join(SETTINGS), limit)
}

/// Whether the candidate goes on with its attempt by itself after a boot, and can be booted once.
#[must_use]
pub(crate) fn proves_boot(places: &Places, candidate: &Path) -> bool {
    fs::symlink_metadata(candidate.join(BOOT_UNIT)).is_ok() && loader::can_boot_once(places)
}

/// What is missing for the machine to come back by itself from a boot of the candidate that panics or hangs, in words.
#[must_use]
pub(crate) fn unprotected(candidate: &Path) -> Vec<&'static str> {
    let read = |file: &str| fs::read_to_string(candidate.join(file)).unwrap_or_default();
    let device = ["/dev/watchdog", "/dev/watchdog0"].iter().any(|path| Path::new(path).exists());
    lacks(&read("kernel-params"), &read("etc/systemd/system.conf"), device)
}

fn lacks(parameters: &str, system_conf: &str, device: bool) -> Vec<&'static str> {
    // Of a parameter that is given twice, the kernel takes the last one.
    let parameter = |names: &[&str]| {
        let mut given = parameters.split_whitespace().filter_map(|word| word.split_once('='));
        given.rfind(|(name, _)| names.contains(name)).map(|(_, value)| value)
    };
    let configured = system_conf
        .lines()
        .filter_map(|line| line.trim().split_once('='))
        .rfind(|(name, _)| name.trim() == "RuntimeWatchdogSec")
        .map(|(_, value)| value.trim().trim_matches('"'));
    let is_on = |value: &str| {
        let number = value.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        !matches!(value, "" | "off") && !number.bytes().all(|byte| matches!(byte, b'0' | b'.' | b' '))
            || matches!(value, "default" | "infinity")
    };
    let watchdog = parameter(&["systemd.watchdog_sec", "systemd.watchdog-sec"]).or(configured);
    let mut lacks = Vec::new();
    let panic = parameter(&["panic"]).and_then(|value| value.parse::<i64>().ok());
    if panic.is_none_or(|seconds| seconds == 0) {
        lacks.push("the kernel does not restart the machine when it panics: there is no `panic=` in boot.kernelParams");
    }
    if !watchdog.is_some_and(is_on) {
        lacks.push("nothing restarts the machine when it hangs: systemd's RuntimeWatchdogSec is not set");
    } else if !device {
        lacks.push("nothing restarts the machine when it hangs: it has no /dev/watchdog");
    }
    lacks
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use std::os::unix::fs::symlink;

    use super::*;
    use crate::places::testing::TempDir;

    /// A machine with systems in its store.
    struct Machine {
        dir: TempDir,
        places: Places,
    }

    impl Machine {
        fn new() -> Self {
            let dir = TempDir::new();
            let places = Places::below(dir.path());
            Self { dir, places }
        }

        fn name(number: u8) -> String {
            format!("nix/store/{number:032}-nixos-system-a-{number}")
        }

        /// A system with files of its own.
        fn system(&self, number: u8, files: &[(&str, &str)]) -> PathBuf {
            for (file, text) in
                [("init", ""), ("bin/switch-to-configuration", ""), ("etc/x", "")].iter().chain(files)
            {
                self.dir.write(&format!("{}/{file}", Self::name(number)), text);
            }
            self.dir.path().join(Self::name(number))
        }

        fn link(&self, to: &Path, at: &Path) {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(to, at).unwrap();
        }
    }

    fn store_path(number: u8) -> StorePath {
        StorePath::parse(&format!("/{}", Machine::name(number))).unwrap()
    }

    #[test]
    fn a_system_is_known_by_what_can_be_done_with_it() {
        let machine = Machine::new();
        let system = machine.system(1, &[]);
        assert!(is_system(&system));
        fs::remove_file(system.join("init")).unwrap();
        assert!(!is_system(&system));
    }

    #[test]
    fn only_another_kernel_or_init_takes_a_boot() {
        let machine = Machine::new();
        let files = |init, params| [("init-interface-version", init), ("kernel-params", params)];
        let old = machine.system(1, &files("systemd 1", "quiet"));
        let same = machine.system(2, &files("systemd 1", "quiet"));
        let init = machine.system(3, &files("systemd 2", "panic=1"));
        let params = machine.system(4, &files("systemd 1", "panic=1"));
        let kernel = machine.system(5, &files("systemd 1", "quiet"));
        let without = machine.system(6, &[("kernel-params", "quiet")]);
        machine.link(&old, &machine.places.current_system());
        machine.link(&old, &machine.places.booted_system());
        assert_eq!(needs(&machine.places, &same), Needs::Nothing, "containers have no kernel");
        assert_eq!(needs(&machine.places, &init), Needs::Init);
        assert_eq!(needs(&machine.places, &params), Needs::Kernel);
        assert_eq!(needs(&machine.places, &without), Needs::Init);
        machine.dir.write("linux-1/bzImage", "");
        machine.dir.write("linux-2/bzImage", "");
        for (system, linux) in [(&old, "linux-1"), (&same, "linux-1"), (&kernel, "linux-2")] {
            machine.link(&machine.dir.path().join(linux).join("bzImage"), &system.join("kernel"));
        }
        assert_eq!(needs(&machine.places, &same), Needs::Nothing);
        assert_eq!(needs(&machine.places, &kernel), Needs::Kernel);
    }

    #[test]
    fn what_a_revert_goes_back_to_is_what_runs_and_not_what_the_profile_says() {
        let machine = Machine::new();
        let (one, two, three) = (machine.system(1, &[]), machine.system(2, &[]), machine.system(3, &[]));
        let places = &machine.places;
        assert!(before(places).unwrap_err().ends_with("it is not known what runs"));
        machine.link(&one, &places.profile().with_file_name("system-9-link"));
        machine.link(&two, &places.profile().with_file_name("system-10-link"));
        machine.link(Path::new("system-10-link"), &places.profile());
        machine.link(&three, &places.current_system());
        let expected = Before {
            running: store_path(3),
            specialisation: None,
            profile: Some(store_path(2)),
            generation: Some(10),
            failed: BTreeSet::new(),
            profiles: Vec::new(),
        };
        assert_eq!(before(places).unwrap(), expected);
        // It is a specialisation of an older generation.
        machine.link(&three, &one.join("specialisation/tracing"));
        let named = Before { specialisation: Some("tracing".into()), ..expected };
        assert_eq!(before(places).unwrap(), named);
    }

    #[test]
    fn settings_that_can_not_be_read_are_an_error_that_names_the_file() {
        let machine = Machine::new();
        let silent = machine.system(1, &[]);
        assert_eq!(settings(&silent).unwrap(), Settings::default());
        let set = machine.system(2, &[("etc/bosco/activation.json", r#"{"confirmTimeout":5}"#)]);
        assert_eq!(settings(&set).unwrap().confirm_timeout, 5);
        let broken = machine.system(3, &[("etc/bosco/activation.json", "{")]);
        let error = settings(&broken).unwrap_err();
        assert!(error.contains("etc/bosco/activation.json can't be read: EOF"), "{error}");
        let long = machine.system(4, &[("etc/bosco/activation.json", &" ".repeat(1 << 21))]);
        assert!(settings(&long).unwrap_err().ends_with("it is longer than 1 MiB"));
    }

    #[test]
    fn what_keeps_a_machine_from_coming_back_by_itself_is_said() {
        let on = "[Manager]\nRuntimeWatchdogSec=30s\n";
        assert_eq!(lacks("quiet panic=10", on, true), Vec::<&str>::new());
        assert_eq!(lacks("panic=-1 systemd.watchdog_sec=20", "", true).len(), 0);
        assert_eq!(lacks("panic=1", "RuntimeWatchdogSec=default", true).len(), 0);
        for (parameters, conf, device, count) in [
            ("", "", false, 2),
            ("panic=0", on, true, 1),
            ("panic=5 panic=0", on, true, 1),
            ("nopanic=5", on, true, 1),
            ("panic=1", on, false, 1),
            ("panic=1", "#RuntimeWatchdogSec=30s", true, 1),
            ("panic=1", "RuntimeWatchdogSec=0s", true, 1),
            ("panic=1", "RuntimeWatchdogSec=off", true, 1),
            ("panic=1 systemd.watchdog_sec=0", on, true, 1),
        ] {
            assert_eq!(lacks(parameters, conf, device).len(), count, "{parameters} {conf} {device}");
        }
    }

    #[test]
    fn a_boot_proves_nothing_where_nobody_goes_on_after_it() {
        let machine = Machine::new();
        assert!(!proves_boot(&machine.places, &machine.system(1, &[])));
        let unit = machine.system(2, &[(BOOT_UNIT, "")]);
        assert!(!proves_boot(&machine.places, &unit), "there is no boot loader");
    }
}
