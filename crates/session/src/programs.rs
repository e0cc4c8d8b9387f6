//! Tests of the shell programs, with stand-ins for what a host has: `nix-store` and the helper.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bosco_model::{Profile, ProfileName, ProfilePlace, StorePath, UserName};

use crate::session::{Others, Wanted, one_command, program};

/// The shells that a host can have as /bin/sh, as far as they are here.
fn shells() -> impl Iterator<Item = &'static [&'static str]> {
    const SHELLS: [&[&str]; 4] = [&["sh"], &["dash"], &["bash", "--posix"], &["busybox", "sh"]];
    let is_here =
        |shell: &&[&str]| Command::new(shell[0]).arg("-c").arg(":").stderr(Stdio::null()).status().is_ok();
    SHELLS.into_iter().filter(is_here)
}

/// A directory that is removed with the value.
struct Stubs(PathBuf);

impl Stubs {
    /// Programs by name and text, in a directory of their own.
    fn new(name: &str, programs: &[(&str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(format!("bosco-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for (program, text) in programs {
            let file = dir.join(program);
            std::fs::write(&file, format!("#!/bin/sh\n{text}\n")).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        Self(dir)
    }
}

impl Drop for Stubs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the session says to `questions`, with `stubs` before everything else in PATH, and its state below `state`.
fn session(shell: &[&str], stubs: &Path, state: &Path, questions: &[&str]) -> String {
    let toplevel = StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap();
    let wanted = Wanted { toplevel: Some(&toplevel), ..Wanted::default() };
    let program = program(wanted)
        .replace("/bin/sh -c \"$mend\"", &format!("{} -c \"$mend\"", shell.join(" ")))
        .replace("roots=/nix/var/nix/gcroots/bosco", &format!("roots={}/roots", state.display()))
        .replace("helper=''", &format!("helper={}/helper", state.display()));
    converse(shell, stubs, &program, questions)
}

/// What a program says to `questions`.
fn converse(shell: &[&str], stubs: &Path, program: &str, questions: &[&str]) -> String {
    let mut child = Command::new(shell[0])
        .args(&shell[1..])
        .args(["-c", &format!("eval \"$(head -c {})\"", program.len())])
        .env("PATH", format!("{}:/usr/bin:/bin", stubs.display()))
        .env("TMOUT", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(program.as_bytes()).unwrap();
    // As bosco does, which never asks before it has its answer: what reads ahead must find nothing to read.
    let mut said = String::new();
    let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
    'questions: for question in std::iter::once(&"").chain(questions) {
        // A session that has ended takes none.
        let _ = stdin.write_all(question.as_bytes());
        loop {
            let mut line = String::new();
            if std::io::BufRead::read_line(&mut stdout, &mut line).unwrap() == 0 {
                break 'questions;
            }
            said.push_str(&line);
            if line.starts_with("done ") {
                break;
            }
        }
    }
    drop(stdin);
    child.wait().unwrap();
    said
}

/// Puts a helper where the session looks for it.
fn helper(state: &Path, text: &str) {
    let program = state.join("helper/bin/bosco");
    std::fs::create_dir_all(program.parent().unwrap()).unwrap();
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_request_reaches_the_helper_as_it_is_and_what_it_tells_comes_back() {
    let stubs = Stubs::new("request", &[("nix-store", "exit 1")]);
    let request = r#"{"by":"o'x \"$(id)\" `id`","path":"a\\b  c"}"#;
    for shell in shells() {
        let state = stubs.0.join("state");
        helper(&state, "printf 'told %s\\n' \"$(cat)\"; printf 'log %s\\n' \"$*\"; printf nearly; exit 3");
        let said = session(shell, &stubs.0, &state, &[&format!("activate {request}\n")]);
        assert!(said.contains(&format!("told {request}\n")), "{shell:?}: {said}");
        assert!(said.contains("log helper activate\n"), "{shell:?}: {said}");
        assert!(
            said.ends_with("nearly\ndone 3\n"),
            "{shell:?}: a line without an end took the end along: {said}"
        );
    }
}

#[test]
fn a_users_links_say_nothing_but_the_store_paths_that_they_name() {
    let stubs = Stubs::new("links", &[("nix-store", "exit 1")]);
    let (links, store) = (stubs.0.join("links"), stubs.0.join("store").display().to_string());
    let path = format!("{store}/{}-home", "0".repeat(32));
    for folder in [&links, Path::new(&path)] {
        std::fs::create_dir_all(folder).unwrap();
    }
    let link = |name: &str, target: &str| std::os::unix::fs::symlink(target, links.join(name)).unwrap();
    link("good", &path);
    for (name, forged) in [
        ("newline", format!("{path}\ncurrent {path}\nactivating yes")),
        ("done", "x\ndone 0".to_owned()),
        ("below", format!("{path}/bin\ncurrent {path}")),
        ("elsewhere", "/home/ada/none".to_owned()),
        ("escape", format!("{path}\u{1b}[2J")),
    ] {
        link(name, &forged);
    }
    let folder = links.join("a\nactivating yes");
    std::fs::create_dir_all(&folder).unwrap();
    link("folder", &folder.to_string_lossy());
    // One generation whose link forges facts, and two that never end when they are read as folders.
    link("good-1-link", &format!("{path}\ngeneration 9 1 {path}"));
    link("good-2-link", &links.join("trap").to_string_lossy());
    std::fs::create_dir_all(links.join("trap")).unwrap();
    let fifo = links.join("trap/nixos-version");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let profile = |name: &str| Profile {
        name: ProfileName::parse(name).unwrap(),
        user: UserName::parse("ada").unwrap(),
        place: Some(ProfilePlace::try_from(links.join(name).to_str().unwrap().to_owned()).unwrap()),
    };
    let named: Vec<_> = ["newline", "good", "done", "below", "elsewhere", "escape", "folder"]
        .into_iter()
        .map(profile)
        .collect();
    for shell in shells() {
        let wanted = Wanted { others: Others::Named(&named), ..Wanted::default() };
        let text = program(wanted).replace("/nix/store/", &format!("{store}/"));
        let said = converse(shell, &stubs.0, &text, &["generations\n"]);
        let of = |key: &str| said.lines().filter(|line| line.starts_with(key)).count();
        assert_eq!((of("profile-at "), of("done ")), (1, 2), "{shell:?}: {said}");
        assert!(said.contains(&format!("profile-at ada good {path}\n")), "{shell:?}: {said}");
        assert!(of("current ") <= 1 && of("activating") == 0, "{shell:?}: {said}");
        assert!(of("generation-of ada good ") == 2 && of("generation 9") == 0, "{shell:?}: {said}");
        assert!(!said.contains('\u{1b}'), "{shell:?}: {said}");
    }
}

#[test]
fn a_store_that_gives_an_error_is_not_one_that_lacks_nothing() {
    let store = "case $1 in --check-validity) echo 'error: disk is full' >&2; exit 1;; esac";
    let stubs = Stubs::new("full", &[("nix-store", store)]);
    for shell in shells() {
        let question = format!("missing 1\n/nix/store/{}-y\n", "0".repeat(32));
        let said = session(shell, &stubs.0, &stubs.0.join("state"), &[&question]);
        assert!(said.contains("log error: disk is full\n"), "{shell:?}: {said}");
        assert!(!said.trim_end().ends_with("done 0"), "{shell:?}: {said}");
    }
}

/// What a Nix is asked for in its serve protocol that is to hold paths.
fn locking(paths: &[String]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [0x390c_9deb_u64, 0x205, 1, 1, 0, paths.len() as u64] {
        bytes.extend(number.to_le_bytes());
    }
    for path in paths {
        bytes.extend((path.len() as u64).to_le_bytes());
        bytes.extend(path.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

#[test]
fn what_is_asked_about_is_held_before_the_answer_and_until_the_session_ends() {
    // Of every length modulo 8, of one and of two bytes, and of a number that has two.
    let paths: Vec<String> =
        (0..300).map(|n| format!("/nix/store/{}-{}", "0".repeat(32), "y".repeat(1 + n % 211))).collect();
    let expected = locking(&paths);
    let stubs = Stubs::new("held", &[]);
    let state = stubs.0.join("state");
    let (asked, ended) = (state.join("asked"), state.join("ended"));
    let store = format!(
        "case $1 in
         --serve) sleep 0.3; head -c {} > {asked}; printf 123456781234567812345678; cat > /dev/null; echo > {ended};;
         --check-validity) [ -e {asked} ] && [ ! -e {ended} ] && echo /nix/store/held;;
         esac",
        expected.len(),
        asked = asked.display(),
        ended = ended.display(),
    );
    let program = stubs.0.join("nix-store");
    std::fs::write(&program, format!("#!/bin/sh\n{store}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let question = format!("missing {}\n{}\n", paths.len(), paths.join("\n"));
    for shell in shells() {
        let _ = std::fs::remove_dir_all(&state);
        std::fs::create_dir_all(&state).unwrap();
        let said = session(shell, &stubs.0, &state, &[&question, "generations\n"]);
        assert!(said.contains("path /nix/store/held\n"), "{shell:?}: it did not wait: {said}");
        assert!(std::fs::read(&asked).unwrap() == expected, "{shell:?}: it asked for something else");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !ended.exists() {
            assert!(std::time::Instant::now() < deadline, "{shell:?}: it is held for ever");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

#[test]
fn an_import_that_breaks_ends_the_session_so_that_what_is_left_of_it_means_nothing() {
    let store = "case $1 in --serve) echo 'error: bad archive' >&2; exit 1;; esac";
    let stubs = Stubs::new("broken", &[("nix-store", store)]);
    for shell in shells() {
        let import = format!("import 400000\n{}", "activate {}\n".repeat(20_000));
        let said = session(shell, &stubs.0, &stubs.0.join("state"), &[&import, "activate {}\n"]);
        assert!(said.contains("nix yes\n") && said.contains("log error: bad archive\n"), "{shell:?}: {said}");
        assert!(said.ends_with("done 1\n"), "{shell:?}: it went on: {said}");
    }
}

/// A Nix that knows all paths by the hash `good`, of which what is running is one, restores what it reads, and hashes it
/// to its text; with them, a namespace that is none.
const MENDING: [(&str, &str); 4] = [
    (
        "nix-store",
        "case $1 in --query) case $2 in --hash) echo sha256:good;; *) echo /running;; esac;; \
         --restore) cat > \"$2\";; esac",
    ),
    ("nix-hash", "for file; do :; done; cat \"$file\""),
    ("unshare", "shift; exec \"$@\""),
    ("mount", "exit 32"),
];

#[test]
fn a_damaged_path_is_replaced_by_what_its_hash_says_and_by_nothing_else() {
    let stubs = Stubs::new("mend", &MENDING);
    let store = stubs.0.join("store");
    std::fs::create_dir_all(&store).unwrap();
    // A `?` in a path means itself.
    let (path, other) = (store.join("a?"), store.join("ab"));
    for shell in shells() {
        for damaged in ["", "bad"] {
            std::fs::write(&path, damaged).unwrap();
            std::fs::write(&other, "other").unwrap();
            let ask = |text: &str| {
                let question = format!("repair {} 4\n{text}", path.display());
                session(shell, &stubs.0, &stubs.0.join("state"), &[&question, "generations\n"])
            };
            let said = ask("evil");
            assert!(said.contains("log what was sent is not what Nix"), "{shell:?}: {said}");
            assert!(said.ends_with("done 1\n"), "{shell:?}: it went on: {said}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged, "{shell:?}");
            let said = ask("good");
            assert!(said.trim_end().ends_with("done 0"), "{shell:?}: {said}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "good", "{shell:?}: {said}");
            let status = std::fs::metadata(&path).unwrap();
            assert_eq!(status.permissions().mode() & 0o777, 0o444, "{shell:?}");
            assert_eq!(std::os::unix::fs::MetadataExt::mtime(&status), 1, "{shell:?}");
            assert_eq!(std::fs::read_to_string(&other).unwrap(), "other", "{shell:?}");
            assert_eq!(std::fs::read_dir(&store).unwrap().count(), 2, "{shell:?}: something is left over");
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn what_runs_is_not_mended() {
    let stubs = Stubs::new("running", &MENDING);
    for shell in shells() {
        let said = session(shell, &stubs.0, &stubs.0.join("state"), &["repair /running 4\ngood", "survey\n"]);
        assert!(said.ends_with("log what runs there needs it\n\ndone 1\n"), "{shell:?}: {said}");
    }
}

#[test]
fn a_command_is_run_once_it_is_asked_for_and_not_before() {
    let stubs = Stubs::new("exec", &[]);
    for shell in shells() {
        let ran = stubs.0.join("ran");
        let program = one_command(&format!("touch {}; printf 'a\\nb'; cat; exit 3", ran.display()));
        let said = converse(shell, &stubs.0, &program, &[]);
        assert!(!ran.exists(), "{shell:?} ran it: {said}");
        let said = converse(shell, &stubs.0, &program, &["run\n"]);
        assert!(said.ends_with("log a\nlog b\ndone 3\n"), "{shell:?}: {said}");
        std::fs::remove_file(&ran).unwrap();
    }
}

#[test]
fn who_is_not_root_runs_nothing() {
    let stubs = Stubs::new("user", &[("id", "echo 1000")]);
    // busybox has an `id` of its own.
    for shell in shells().filter(|shell| shell[0] != "busybox") {
        let said = converse(shell, &stubs.0, &one_command("echo ran"), &["run\n"]);
        assert_eq!(said, "bosco 1\nuser 1000\n\ndone 1\n", "{shell:?}");
    }
}
