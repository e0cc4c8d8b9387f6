//! What is secret is in bosco's memory only, and that is written to no disk.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)] // A test fails by panicking.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Nobody's user: what root starts belongs to root however it is kept.
const NOBODY: u32 = 65_534;

#[test]
fn the_memory_of_every_command_is_kept_from_dumps_and_other_processes() {
    let folder = std::env::temp_dir().join(format!("bosco-memory-{}", std::process::id()));
    fs::create_dir_all(folder.join("home")).unwrap();
    for open in [&folder, &folder.join("home")] {
        fs::set_permissions(open, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let bosco = folder.join("bosco");
    fs::copy(env!("CARGO_BIN_EXE_bosco"), &bosco).unwrap();
    fs::write(folder.join("home/hive.nix"), "{ }").unwrap();
    // What a process that is not dumped has in /proc is root's, and another one's its own user's.
    let nix = "#!/bin/sh\nstat -c %u /proc/$PPID/mem >> whose\nstat -c %u /proc/$$/mem >> whose\nexit 1\n";
    fs::write(folder.join("nix"), nix).unwrap();
    fs::set_permissions(folder.join("nix"), fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&bosco);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    command.arg("hosts").current_dir(folder.join("home")).env("PATH", path).env("HOME", folder.join("home"));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    let said = command.output().unwrap();
    let whose = fs::read_to_string(folder.join("home/whose")).unwrap_or_default();
    let own = fs::metadata(folder.join("home/whose")).map(|it| std::os::unix::fs::MetadataExt::uid(&it));
    let own = own.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&said.stderr)));
    let lines: Vec<&str> = whose.lines().collect();
    assert_eq!(lines[..2], ["0".to_owned(), own.to_string()], "{}", String::from_utf8_lossy(&said.stderr));
    assert_ne!(own, 0, "it shows nothing of root's own");
    fs::remove_dir_all(folder).unwrap();
}
