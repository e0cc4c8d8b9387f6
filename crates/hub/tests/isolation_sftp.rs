//! A host reaches its own world and nothing else of the hub, whatever it sends and whatever is planted there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bosco_hub::sftp::Ended;
use common::raw::{
    APPEND, CREATE, LSTAT, MKDIR, OPEN, OPENDIR, READ, READLINK, REALPATH, REMOVE, RENAME, RMDIR, Reply,
    SETSTAT, STAT, SYMLINK, TRUNCATE, WRITE, string,
};
use common::{Hub, ROOM, text};

const SECRET: &str = "bob's secret";

/// A hub with something that ada must not see: of bob, and of the hub itself.
fn hub() -> Hub {
    let hub = Hub::start(ROOM);
    for path in ["backup/secret", "config/secret", "logs/secret"] {
        fs::write(hub.on_disk("bob", path), SECRET).unwrap();
    }
    fs::write(hub.beside("secret"), SECRET).unwrap();
    for area in ["backup", "config", "logs"] {
        fs::create_dir_all(hub.on_disk("ada", area)).unwrap();
    }
    fs::write(hub.on_disk("ada", "backup/own"), "own").unwrap();
    hub
}

/// Nothing of it was changed.
fn untouched(hub: &Hub, after: &str) {
    for path in ["hosts/bob/backup/secret", "hosts/bob/config/secret", "hosts/bob/logs/secret", "secret"] {
        assert_eq!(fs::read_to_string(hub.beside(path)).unwrap(), SECRET, "{path} after {after}");
    }
    assert_eq!(fs::read_dir(hub.beside("hosts/bob/backup")).unwrap().count(), 1, "after {after}");
    let mut worlds: Vec<_> =
        fs::read_dir(hub.beside("hosts")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    worlds.sort();
    assert_eq!(worlds, ["ada", "bob"], "after {after}");
}

/// Everything that can be asked with a path, and none of it is done or tells anything.
fn nothing_is_done_at(hub: &Hub, path: &[u8]) {
    let mut ada = hub.raw("ada");
    let shown = String::from_utf8_lossy(path).chars().take(100).collect::<String>();
    for flags in [READ, WRITE, WRITE | CREATE, WRITE | CREATE | TRUNCATE, READ | WRITE, APPEND | CREATE] {
        assert!(!ada.open(path, flags).is_ok(), "open {flags} {shown}");
    }
    for kind in [OPENDIR, LSTAT, STAT, READLINK, REMOVE, RMDIR, MKDIR] {
        assert!(!ada.at(kind, path).is_ok(), "{kind} {shown}");
    }
    let attributes = [&string(path), &5_u32.to_be_bytes()[..], &[0; 8], &0o777_u32.to_be_bytes()].concat();
    assert!(!ada.ask(SETSTAT, &attributes).is_ok(), "setstat {shown}");
    for (from, to) in [(path, &b"/backup/new"[..]), (b"/backup/own", path)] {
        assert!(!ada.between(RENAME, from, to).is_ok(), "rename {shown}");
        let both = [string(from), string(to)].concat();
        assert!(!ada.extended("posix-rename@openssh.com", &both).is_ok(), "posix-rename {shown}");
        assert!(!ada.extended("hardlink@openssh.com", &both).is_ok(), "hardlink {shown}");
        assert!(!ada.between(SYMLINK, from, to).is_ok(), "symlink {shown}");
    }
    assert_eq!(fs::read_to_string(hub.on_disk("ada", "backup/own")).unwrap(), "own", "{shown}");
    untouched(hub, &shown);
}

#[test]
fn a_path_with_dots_reaches_nothing_of_another_host() {
    let hub = hub();
    let up = "../".repeat(20);
    let outside = hub.beside("secret").display().to_string();
    for path in [
        "../bob/backup/secret",
        "/../bob/backup/secret",
        "/backup/../../bob/backup/secret",
        "/backup/own/../../../bob/backup/secret",
        "/backup/./.././../bob//backup/secret",
        "/backup/..//../hosts/bob/backup/secret",
        "/config/../../../secret",
        "//etc/passwd",
        "/etc/passwd",
        "/backup\\..\\..\\bob/secret",
        "/backup/..\\../bob/backup/secret",
        "/%2e%2e/bob/backup/secret",
        "~bob/backup/secret",
        "/proc/self/root/etc/passwd",
        &format!("/backup/{up}etc/passwd"),
        &outside,
        &format!("/backup/{up}{outside}"),
    ] {
        nothing_is_done_at(&hub, path.as_bytes());
        let output = hub.sftp("ada", &format!("get \"{path}\" stolen\n"));
        assert!(!output.status.success() && !hub.beside("stolen").exists(), "{path}: {}", text(&output));
    }
    for line in ["ls ../bob", "cd /../bob", "ls /backup/../../bob/backup", "put secret ../bob/backup/new"] {
        let output = hub.sftp("ada", line);
        assert!(!output.status.success() && !text(&output).contains(SECRET), "{line}: {}", text(&output));
    }
    untouched(&hub, "sftp");
}

#[test]
fn odd_and_long_names_are_refused_and_break_nothing() {
    let hub = hub();
    let long = [b"/backup/".to_vec(), vec![b'x'; 256]].concat();
    let endless = [b"/backup/".to_vec(), vec![b'x'; 200_000]].concat();
    let deep = [b"/backup".to_vec(), b"/x".repeat(60)].concat();
    let dots = [b"/backup".to_vec(), b"/..".repeat(60_000)].concat();
    for path in [
        &b"/backup/a\0b"[..],
        b"/backup/own\0",
        b"\0",
        b"/backup/\xff\xfe",
        b"/backup/caf\xe9",
        b"/backup/\xed\xa0\x80",
        b"/backup/\xc0\xae\xc0\xae/\xc0\xae\xc0\xae/bob",
        "/backup/\u{FFFD}".as_bytes(),
        &long,
        &endless,
        &deep,
        &dots,
    ] {
        nothing_is_done_at(&hub, path);
    }
    // These are names as any others, in the backup.
    let mut ada = hub.raw("ada");
    for name in
        ["-rf", "...", ".. ", "a\nb", "\u{202e}x", "\u{1b}[2J", "ü", "~", "*", "x".repeat(255).as_str()]
    {
        assert!(ada.put(format!("/backup/{name}"), name.as_bytes()).is_ok(), "{name:?}");
        assert_eq!(fs::read(hub.on_disk("ada", "backup").join(name)).unwrap(), name.as_bytes());
        assert!(ada.list("/backup").contains(&name.to_owned()), "{name:?}");
        assert!(ada.at(REMOVE, format!("/backup/{name}")).is_ok(), "{name:?}");
    }
}

#[test]
fn names_that_are_not_utf8_are_not_listed() {
    use std::os::unix::ffi::OsStrExt;
    let hub = hub();
    let odd = std::ffi::OsStr::from_bytes(b"caf\xe9");
    fs::write(hub.on_disk("ada", "config").join(odd), "").unwrap();
    assert_eq!(hub.raw("ada").list("/config"), [""; 0]);
}

#[test]
fn a_link_that_an_operator_has_planted_is_not_followed() {
    let hub = hub();
    let bob = hub.on_disk("bob", "backup");
    for area in ["backup", "config", "logs"] {
        let link = |target: &Path, name: &str| symlink(target, hub.on_disk("ada", area).join(name)).unwrap();
        link(&bob.join("secret"), "file");
        link(&bob, "folder");
        link(Path::new("../../bob/backup/secret"), "relative");
        link(Path::new("/proc/self/root"), "magic");
        link(Path::new("own"), "inside");
        fs::create_dir_all(hub.on_disk("ada", area).join("real")).unwrap();
        fs::write(hub.on_disk("ada", area).join("real/own"), "own").unwrap();
        link(Path::new("real"), "within");
        link(Path::new("/nowhere"), "dangling");
        for name in [
            "file",
            "folder",
            "folder/secret",
            "folder/new",
            "relative",
            "magic",
            "magic/etc/passwd",
            "inside",
            "within",
            "within/own",
            "within/new",
            "dangling",
        ] {
            nothing_is_done_at(&hub, format!("/{area}/{name}").as_bytes());
        }
        assert!(hub.raw("ada").list(&format!("/{area}")).iter().all(|name| name == "own" || name == "real"));
        // What stands behind them is not counted as the host's either, nor is it taken along.
        hub.sftp("ada", &format!("get -r /{area} {area}\n"));
        let found = Command::new("grep").args(["-r", SECRET]).arg(hub.beside(area)).output().unwrap();
        assert!(found.stdout.is_empty(), "{area}: {}", text(&found));
    }
    untouched(&hub, "links");
}

#[test]
fn an_area_that_is_a_link_is_closed() {
    for area in ["backup", "config", "logs"] {
        let hub = hub();
        fs::remove_dir_all(hub.on_disk("ada", area)).unwrap();
        symlink(hub.on_disk("bob", area), hub.on_disk("ada", area)).unwrap();
        let mut ada = hub.raw("ada");
        for path in [area.to_owned(), format!("{area}/secret")] {
            assert!(!ada.open(&path, READ).is_ok() && !ada.open(&path, WRITE | CREATE).is_ok());
            assert!(!ada.at(OPENDIR, &path).is_ok() && !ada.at(STAT, &path).is_ok());
        }
        untouched(&hub, area);
    }
}

#[test]
fn a_world_that_is_a_link_is_closed() {
    let hub = hub();
    fs::remove_dir_all(hub.beside("hosts/ada")).unwrap();
    symlink(hub.beside("hosts/bob"), hub.beside("hosts/ada")).unwrap();
    let mut ada = hub.stranger("ada");
    ada.send(&[0, 0, 0, 5, 1, 0, 0, 0, 3]);
    assert!(matches!(ada.end(), Err(Ended::World(_))));
}

#[test]
fn no_link_can_be_made() {
    let hub = hub();
    for line in [
        "symlink /backup/own /backup/link",
        "ln -s ../../bob/backup /backup/link",
        "ln /backup/own /backup/link",
    ] {
        assert!(!hub.sftp("ada", line).status.success(), "{line}");
    }
    assert_eq!(hub.raw("ada").list("/backup"), ["own"]);
    assert_eq!(fs::read_dir(hub.on_disk("ada", "backup")).unwrap().count(), 1);
}

#[test]
fn a_file_with_a_second_name_is_not_changed() {
    let hub = hub();
    fs::hard_link(hub.on_disk("bob", "backup/secret"), hub.on_disk("ada", "backup/second")).unwrap();
    let mut ada = hub.raw("ada");
    for flags in [WRITE, READ | WRITE, WRITE | CREATE | TRUNCATE, APPEND, READ | TRUNCATE] {
        assert!(ada.open("/backup/second", flags).message().contains("second name"), "{flags}");
    }
    assert!(!ada.truncate("/backup/second", 0).is_ok());
    assert!(!ada.chmod("/backup/second", 0o777).is_ok());
    assert!(ada.put("/backup/new", b"new").is_ok());
    let over = [string("/backup/new"), string("/backup/second")].concat();
    assert!(ada.extended("posix-rename@openssh.com", &over).is_ok());
    assert_eq!(fs::read(hub.on_disk("ada", "backup/second")).unwrap(), b"new");
    untouched(&hub, "second");
}

#[test]
fn what_is_neither_file_nor_folder_is_not_opened() {
    let hub = hub();
    for area in ["backup", "config", "logs"] {
        let planted = |name: &str| hub.on_disk("ada", area).join(name);
        let mkfifo = Command::new("mkfifo").arg(planted("pipe")).status().unwrap();
        assert!(mkfifo.success());
        // Only root can make devices; what is left holds everywhere.
        let _ = Command::new("mknod").arg(planted("null")).args(["c", "1", "3"]).status();
        let _socket = UnixListener::bind(planted("socket")).unwrap();
        for name in ["pipe", "null", "socket"] {
            nothing_is_done_at(&hub, format!("/{area}/{name}").as_bytes());
        }
        assert!(!hub.raw("ada").list(&format!("/{area}")).iter().any(|name| name != "own"), "{area}");
    }
}

#[test]
fn nothing_outside_is_reached_while_folders_are_renamed() {
    let hub = hub();
    // The same names inside and outside: what is read shows where one has come to.
    for path in ["backup/a/b/c", "backup/x"] {
        fs::create_dir_all(hub.on_disk("ada", path)).unwrap();
    }
    fs::write(hub.on_disk("ada", "backup/a/b/c/secret"), "inside").unwrap();
    fs::write(hub.on_disk("ada", "backup/a/secret"), "inside").unwrap();
    let stop = AtomicBool::new(false);
    let mover = |from: &'static str, to: &'static str| {
        let mut raw = hub.raw("ada");
        let stop = &stop;
        move || {
            let mut moved = 0_u32;
            while !stop.load(Ordering::Relaxed) {
                moved += u32::from(raw.between(RENAME, from, to).is_ok());
                moved += u32::from(raw.between(RENAME, to, from).is_ok());
            }
            moved
        }
    };
    // The operator's hand: a folder, and a link in its place.
    let bob = hub.on_disk("bob", "backup");
    let swapped = hub.on_disk("ada", "backup/s");
    let swapper = || {
        while !stop.load(Ordering::Relaxed) {
            let _ = fs::create_dir(&swapped);
            let _ = fs::remove_dir_all(&swapped);
            let _ = symlink(&bob, &swapped);
            let _ = fs::remove_file(&swapped);
        }
    };
    let (moved, opened) = thread::scope(|scope| {
        let movers = [
            scope.spawn(mover("/backup/a/b/c", "/backup/x/c")),
            scope.spawn(mover("/backup/a/b", "/backup/x/b")),
        ];
        scope.spawn(swapper);
        let mut ada = hub.raw("ada");
        let mut opened = 0_u32;
        for _ in 0..700 {
            for path in [
                "/backup/a/b/c/secret",
                "/backup/x/c/secret",
                "/backup/a/b/c/../../../../../bob/backup/secret",
                "/backup/a/b/c/../../secret",
                "/backup/s/secret",
            ] {
                if let Reply::Handle(handle) = ada.open(path, READ) {
                    assert_eq!(ada.read(&handle, 0, 100), Reply::Data(b"inside".to_vec()), "{path}");
                    assert!(ada.close(&handle).is_ok());
                    opened += 1;
                }
            }
            ada.put("/backup/s/new", b"new");
            ada.at(REMOVE, "/backup/s/secret");
        }
        stop.store(true, Ordering::Relaxed);
        (movers.map(|mover| mover.join().unwrap()).into_iter().sum::<u32>(), opened)
    });
    assert!(moved > 10 && opened > 10, "nothing was tried: {moved} renames, {opened} opens");
    untouched(&hub, "races");
}

#[test]
fn what_a_handle_stands_for_is_not_another_sessions() {
    let hub = hub();
    let mut bob = hub.raw("bob");
    let handle = bob.open("/backup/secret", READ).handle();
    let mut ada = hub.raw("ada");
    let spelled = [b"+".to_vec(), handle.clone()].concat();
    for handle in [&handle[..], &spelled, b"0", b"-1", b"", b"99999999999999999999", b"\xff"] {
        assert!(!ada.read(handle, 0, 100).is_ok());
        assert!(!ada.write(handle, 0, b"x").is_ok());
        assert!(!ada.close(handle).is_ok());
    }
    // A handle that was closed is nobody's, and its number is not given out again.
    let first = ada.open("/backup/own", READ).handle();
    assert!(ada.close(&first).is_ok() && !ada.close(&first).is_ok());
    assert_ne!(ada.open("/backup/own", READ).handle(), first);
    assert!(!ada.read(&first, 0, 1).is_ok());
}

#[test]
fn a_session_has_so_many_handles_and_no_more() {
    let hub = hub();
    let mut ada = hub.raw("ada");
    let mut handles: Vec<_> = (0..32).map(|_| ada.open("/backup/own", READ).handle()).collect();
    handles.extend((0..32).map(|_| ada.at(OPENDIR, "/backup").handle()));
    assert!(ada.open("/backup/own", READ).message().contains("64"));
    assert!(ada.open("/backup/new", WRITE | CREATE).message().contains("64"));
    assert!(ada.open("/logs/new", WRITE | CREATE).message().contains("64"));
    assert!(ada.at(OPENDIR, "/").message().contains("64"));
    assert_eq!(fs::read_dir(hub.on_disk("ada", "backup")).unwrap().count(), 1);
    assert!(ada.close(&handles[0]).is_ok());
    assert!(ada.open("/backup/own", READ).is_ok());
}

#[test]
fn a_packet_that_can_not_be_read_is_refused_and_the_next_one_is_not() {
    let hub = hub();
    let mut ada = hub.raw("ada");
    for kind in 1..=255_u8 {
        for body in [&b""[..], b"\0", &[255; 4], &[0, 0, 0, 200, 1, 2], &[255; 64]] {
            let asked = ada.begin(kind, body);
            let packet = ada.receive();
            // What has a number gets it back; a greeting has none.
            let number = u32::from_be_bytes(packet[1..5].try_into().unwrap());
            assert!(number == asked || matches!(kind, 1 | 2 | 101..=105 | 201), "{kind}");
            assert_eq!(packet[0], 101, "{kind}");
            assert_ne!(packet[5..9], [0; 4], "{kind}");
        }
    }
    assert!(ada.open("/backup/own", READ).is_ok());
    untouched(&hub, "noise");
}

#[test]
fn what_is_no_sftp_ends_the_session() {
    let hub = hub();
    let greeting = [0, 0, 0, 5, 1, 0, 0, 0, 3];
    let old = [0, 0, 0, 5, 1, 0, 0, 0, 2];
    let too_long = [&greeting[..], &u32::MAX.to_be_bytes()].concat();
    let just_too_long = [&greeting[..], &(256 * 1024 + 1_u32).to_be_bytes()].concat();
    let empty = [&greeting[..], &[0; 4]].concat();
    let unread = [0, 0, 0, 5, OPEN, 0, 0, 0, 3];
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], &old, &too_long, &just_too_long, &empty, &unread] {
        let mut stranger = hub.stranger("ada");
        stranger.send(bytes);
        assert!(matches!(stranger.end(), Err(Ended::NotSftp(_))), "{bytes:?}");
    }
    let mut half = hub.stranger("ada");
    half.send(&[&greeting[..], &[0, 0, 1]].concat());
    assert!(matches!(half.end(), Err(Ended::Connection(_))));
    assert!(hub.stranger("ada").end().is_ok());
    assert!(hub.raw("ada").end().is_ok());
}

#[test]
fn who_takes_no_answers_is_not_answered_without_end() {
    let hub = hub();
    let mut ada = hub.raw("ada");
    // Their answers don't fit between the two, so the hub waits for this one to take some, and others need not.
    for _ in 0..300 {
        ada.begin(REALPATH, &string(format!("/backup/{}", "x".repeat(200))));
    }
    assert!(hub.raw("ada").open("/backup/own", READ).is_ok());
    assert!(ada.hang_up().is_err());
}

#[test]
fn folders_can_not_be_made_deeper_than_can_be_walked() {
    let hub = hub();
    let mut ada = hub.raw("ada");
    let path = |start: &str, depth: usize| format!("/backup{}", format!("/{start}").repeat(depth));
    for depth in 1..=40 {
        assert!(ada.at(MKDIR, path("d", depth)).is_ok(), "{depth}");
    }
    assert!(!ada.at(MKDIR, path("d", 41)).is_ok());
    assert!(ada.at(MKDIR, "/backup/e").is_ok());
    assert!(ada.between(RENAME, "/backup/d", "/backup/e/d").message().contains("in each other"));
    assert!(ada.between(RENAME, path("d", 40), "/backup/e/d").is_ok());
    assert!(ada.between(RENAME, "/backup/d", "/backup/e/f").is_ok());
}
