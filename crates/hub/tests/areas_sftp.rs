//! What a host can do in each area, with OpenSSH's own client and by the byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use common::raw::{
    APPEND, CREATE, EXCLUDE, LSTAT, MKDIR, READ, REALPATH, REMOVE, RENAME, RMDIR, Reply, STAT, TRUNCATE,
    WRITE,
};
use common::{HOSTS, Hub, ROOM, text};

#[test]
fn a_host_finds_its_three_folders() {
    let hub = Hub::start(ROOM);
    let said = hub.sftp_ok("ada", "pwd\nls -1\ncd backup\nmkdir a\ncd a\ncd ../..\npwd\n");
    assert_eq!(said.matches("Remote working directory: /\n").count(), 2, "{said}");
    for area in ["backup", "config", "logs"] {
        assert!(said.contains(&format!("{area}\n")), "{said}");
        assert!(hub.on_disk("ada", area).is_dir());
    }
}

#[test]
fn config_can_be_read_and_nothing_else() {
    let hub = Hub::start(ROOM);
    fs::create_dir_all(hub.on_disk("ada", "config/sub/deep")).unwrap();
    fs::write(hub.on_disk("ada", "config/flake.nix"), "{ }").unwrap();
    fs::write(hub.on_disk("ada", "config/sub/deep/.x"), "hidden").unwrap();
    hub.sftp_ok("ada", "get -r config got\n");
    assert!(common::same(&hub.on_disk("ada", "config"), &hub.beside("got")));

    fs::write(hub.beside("mine"), "mine").unwrap();
    for line in [
        "put mine /config/flake.nix",
        "put mine /config/new",
        "rm /config/flake.nix",
        "rename /config/flake.nix /config/other",
        "rename /config/flake.nix /backup/other",
        "rename /config /backup/other",
        "mkdir /config/new",
        "rmdir /config/sub",
        "rmdir /config",
        "chmod 777 /config/flake.nix",
        "chmod 777 /config",
    ] {
        let output = hub.sftp("ada", line);
        assert!(!output.status.success(), "{line}");
        assert!(text(&output).contains("ermission denied"), "{line}: {}", text(&output));
    }
    assert_eq!(fs::read(hub.on_disk("ada", "config/flake.nix")).unwrap(), b"{ }");
}

#[test]
fn a_log_is_written_once() {
    let hub = Hub::start(ROOM);
    fs::write(hub.beside("one"), "one").unwrap();
    fs::write(hub.beside("two"), "two").unwrap();
    hub.sftp_ok("ada", "put one /logs/1.log\nget /logs/1.log back\nls -l /logs\n");
    assert_eq!(fs::read(hub.beside("back")).unwrap(), b"one");
    for line in [
        "put two /logs/1.log",
        "put -a two /logs/1.log",
        "rm /logs/1.log",
        "rename /logs/1.log /logs/2.log",
        "rename /logs/1.log /backup/1.log",
        "put two /backup/2\nrename /backup/2 /logs/1.log",
        "put two /backup/2\nrename /backup/2 /logs/3.log",
        "chmod 600 /logs/1.log",
        "mkdir /logs/sub",
        "put two /logs/.hidden",
        "put two /logs/sub/2.log",
    ] {
        assert!(!hub.sftp("ada", line).status.success(), "{line}");
    }
    assert_eq!(fs::read(hub.on_disk("ada", "logs/1.log")).unwrap(), b"one");
    assert_eq!(hub.raw("ada").list("/logs"), ["1.log"]);
    let long = "x".repeat(129);
    for (name, flags) in [
        ("1.log", READ | WRITE),
        ("1.log", WRITE | APPEND),
        ("2.log", WRITE),
        (&long, WRITE | CREATE),
        ("a\nb", WRITE | CREATE),
    ] {
        assert!(!hub.raw("ada").open(format!("/logs/{name}"), flags).is_ok(), "{name}");
    }
    assert!(!hub.raw("ada").truncate("/logs/1.log", 0).is_ok());
}

#[test]
fn a_log_is_there_when_it_was_closed_and_not_before() {
    let hub = Hub::start(ROOM);
    let mut ada = hub.raw("ada");
    let handle = ada.open("/logs/a", WRITE | READ | CREATE | EXCLUDE).handle();
    // Out of order, and read back while it is open.
    assert!(ada.write(&handle, 3, b"def").is_ok());
    assert!(ada.write(&handle, 0, b"abc").is_ok());
    assert_eq!(ada.read(&handle, 0, 100), Reply::Data(b"abcdef".to_vec()));
    let mut other = hub.raw("ada");
    assert_eq!(other.list("/logs"), [""; 0]);
    assert!(matches!(other.at(STAT, "/logs/a"), Reply::Status(2, _)));
    assert!(ada.close(&handle).is_ok());
    assert_eq!(other.list("/logs"), ["a"]);
    assert_eq!(fs::read(hub.on_disk("ada", "logs/a")).unwrap(), b"abcdef");
    assert_eq!(fs::read_dir(hub.on_disk("ada", "logs")).unwrap().count(), 1);
}

#[test]
fn a_log_that_was_never_closed_vanishes() {
    let hub = Hub::start(ROOM);
    let mut ada = hub.raw("ada");
    let handle = ada.open("/logs/a", WRITE | CREATE).handle();
    for part in 0..5 {
        assert!(ada.write(&handle, part * 200_000, &[1; 200_000]).is_ok());
    }
    assert!(hub.raw("ada").put("/logs/b", b"more").message().starts_with("no space"));
    assert_eq!(fs::read_dir(hub.on_disk("ada", "logs")).unwrap().count(), 1);
    ada.end().unwrap();
    assert_eq!(fs::read_dir(hub.on_disk("ada", "logs")).unwrap().count(), 0);
    // Its room is free again, and so is its name.
    let mut ada = hub.raw("ada");
    assert!(ada.put("/logs/a", b"whole").is_ok());
    assert_eq!(ada.list("/logs"), ["a"]);
}

#[test]
fn a_log_vanishes_too_where_the_hub_drops_the_session() {
    let hub = Hub::start(ROOM);
    let mut ada = hub.raw("ada");
    let handle = ada.open("/logs/a", WRITE | CREATE).handle();
    assert!(ada.write(&handle, 0, b"half").is_ok());
    ada.dropped();
    let logs = hub.on_disk("ada", "logs");
    // It goes on a thread of its own; there is nothing that tells when.
    let gone = |_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::read_dir(&logs).unwrap().count() == 0
    };
    assert!((0..500).any(gone));
}

#[test]
fn half_a_log_that_a_hub_left_is_gone_with_the_next_one() {
    let hub = Hub::start(ROOM);
    fs::write(hub.on_disk("ada", "logs/.half-7"), "half").unwrap();
    fs::write(hub.on_disk("ada", "logs/whole"), "whole").unwrap();
    let mut ada = hub.raw("ada");
    assert_eq!(ada.list("/logs"), ["whole"]);
    assert!(!ada.open("/logs/.half-7", READ).is_ok());
    assert!(ada.put("/logs/b", b"b").is_ok());
    assert!(!hub.on_disk("ada", "logs/.half-7").exists());
    assert_eq!(ada.list("/logs"), ["b", "whole"]);
}

#[test]
fn of_two_that_write_the_same_log_the_first_to_close_has_it() {
    let hub = Hub::start(ROOM);
    let (mut one, mut two) = (hub.raw("ada"), hub.raw("ada"));
    let (first, second) =
        (one.open("/logs/a", WRITE | CREATE).handle(), two.open("/logs/a", WRITE | CREATE).handle());
    assert!(one.write(&first, 0, b"one").is_ok());
    assert!(two.write(&second, 0, b"two").is_ok());
    assert!(two.close(&second).is_ok());
    assert!(one.close(&first).message().contains("already"));
    assert_eq!(fs::read(hub.on_disk("ada", "logs/a")).unwrap(), b"two");
    assert_eq!(fs::read_dir(hub.on_disk("ada", "logs")).unwrap().count(), 1);
}

#[test]
fn a_log_that_could_not_be_written_whole_is_not_kept() {
    let hub = Hub::start(ROOM);
    let mut ada = hub.raw("ada");
    let handle = ada.open("/logs/a", WRITE | CREATE).handle();
    assert!(ada.write(&handle, 0, b"beginning").is_ok());
    assert_eq!(ada.write(&handle, 1_000_000, b"x").message(), "no space: the logs quota of 1 MB is used up");
    assert!(ada.close(&handle).message().contains("not kept"));
    assert_eq!(ada.list("/logs"), [""; 0]);
}

#[test]
fn the_backup_is_the_hosts_own() {
    let hub = Hub::start(ROOM);
    fs::write(hub.beside("big"), common::noise(1, 5_000_000)).unwrap();
    fs::write(hub.beside("small"), "small").unwrap();
    hub.sftp_ok(
        "ada",
        "mkdir /backup/a\nput big /backup/a/b\nput small /backup/c\nrename /backup/c /backup/a/b\n\
         put big /backup/a/big\nchmod 755 /backup/a/big\nget /backup/a/big big.back\nput -p small /backup/d\n\
         get /backup/a/b b.back\nrm /backup/d\nmkdir /backup/e\nrmdir /backup/e\nls -la /backup/a\ndf /backup\n",
    );
    assert_eq!(fs::read(hub.beside("big.back")).unwrap(), fs::read(hub.beside("big")).unwrap());
    assert_eq!(fs::read(hub.beside("b.back")).unwrap(), b"small");
    assert_eq!(hub.raw("ada").list("/backup"), ["a"]);
}

#[test]
fn a_plain_rename_replaces_nothing_and_posix_rename_does() {
    let hub = Hub::start(ROOM);
    let mut ada = hub.raw("ada");
    assert!(ada.put("/backup/a", b"a").is_ok() && ada.put("/backup/b", b"b").is_ok());
    assert!(ada.between(RENAME, "/backup/a", "/backup/b").message().contains("already"));
    let both = [common::raw::string("/backup/a"), common::raw::string("/backup/b")].concat();
    assert!(ada.extended("posix-rename@openssh.com", &both).is_ok());
    assert_eq!(ada.list("/backup"), ["b"]);
    assert_eq!(fs::read(hub.on_disk("ada", "backup/b")).unwrap(), b"a");
    assert!(ada.between(RENAME, "/backup/b", "/backup/c").is_ok());
    // A folder can't go into itself, and not in place of a full one.
    assert!(ada.at(MKDIR, "/backup/d").is_ok() && ada.at(MKDIR, "/backup/e").is_ok());
    assert!(ada.put("/backup/e/f", b"").is_ok());
    assert!(!ada.between(RENAME, "/backup/d", "/backup/d/x").is_ok());
    let both = [common::raw::string("/backup/d"), common::raw::string("/backup/e")].concat();
    assert!(ada.extended("posix-rename@openssh.com", &both).message().contains("not empty"));
}

#[test]
fn an_append_goes_to_the_end_whatever_the_offset() {
    let hub = Hub::start(ROOM);
    let mut ada = hub.raw("ada");
    assert!(ada.put("/backup/a", b"one").is_ok());
    let handle = ada.open("/backup/a", APPEND).handle();
    assert!(ada.write(&handle, 0, b"two").is_ok());
    assert!(!ada.read(&handle, 0, 1).is_ok());
    assert!(ada.close(&handle).is_ok());
    assert_eq!(fs::read(hub.on_disk("ada", "backup/a")).unwrap(), b"onetwo");
    assert!(!ada.open("/backup/a", WRITE | CREATE | EXCLUDE).is_ok());
    let handle = ada.open("/backup/a", READ | TRUNCATE).handle();
    assert_eq!(ada.read(&handle, 0, 1), Reply::Status(1, "the end".into()));
}

#[test]
fn a_mode_is_made_harmless() {
    let hub = Hub::start(ROOM);
    let mut ada = hub.raw("ada");
    assert!(ada.put("/backup/a", b"").is_ok() && ada.at(MKDIR, "/backup/d").is_ok());
    let mode = |path: &str| fs::metadata(hub.on_disk("ada", path)).unwrap().permissions().mode() & 0o7777;
    for (asked, file, folder) in [(0o000, 0o600, 0o700), (0o6777, 0o755, 0o755), (0o440, 0o640, 0o740)] {
        assert!(ada.chmod("/backup/a", asked).is_ok() && ada.chmod("/backup/d", asked).is_ok());
        assert_eq!((mode("backup/a"), mode("backup/d")), (file, folder), "{asked:o}");
    }
    // Flag 2 is owner and group.
    let owner = [&common::raw::string("/backup/a"), &2_u32.to_be_bytes()[..], &[0; 8]].concat();
    assert!(!ada.ask(common::raw::SETSTAT, &owner).is_ok());
}

#[test]
fn requests_sent_ahead_are_answered_in_their_order() {
    let hub = Hub::start(ROOM);
    let mut ada = hub.raw("ada");
    let handle = ada.open("/backup/a", WRITE | READ | CREATE).handle();
    let write = |offset: u64| {
        let data = common::raw::string(offset.to_be_bytes());
        [&common::raw::string(&handle), &offset.to_be_bytes()[..], &data].concat()
    };
    // Backwards, so that each but the first is written into a hole.
    let asked: Vec<_> = (0..200).rev().map(|number| ada.begin(6, &write(number * 8))).collect();
    for number in asked {
        assert!(ada.reply(number).is_ok());
    }
    let all: Vec<u8> = (0..200_u64).flat_map(|number| (number * 8).to_be_bytes()).collect();
    assert_eq!(ada.read(&handle, 0, 10_000), Reply::Data(all));
}

#[test]
fn a_key_opens_its_hosts_world() {
    let hub = Hub::start(ROOM);
    for host in HOSTS {
        fs::write(hub.on_disk(host, "config/name"), host).unwrap();
        hub.sftp_ok(host, "get /config/name who\n");
        assert_eq!(fs::read_to_string(hub.beside("who")).unwrap(), host);
    }
}

#[test]
fn what_is_asked_of_the_top_and_of_areas_is_answered() {
    let hub = Hub::start(ROOM);
    let mut ada = hub.raw("ada");
    assert_eq!(ada.list("/"), ["backup", "config", "logs"]);
    assert_eq!(ada.at(REALPATH, "."), Reply::Names(vec!["/".into()]));
    assert_eq!(ada.at(REALPATH, "backup/x/../y"), Reply::Names(vec!["/backup/y".into()]));
    for path in ["/", "/backup", "/config", "/logs", "."] {
        assert!(ada.at(STAT, path).is_ok() && ada.at(LSTAT, path).is_ok(), "{path}");
        for kind in [REMOVE, RMDIR, MKDIR] {
            assert!(!ada.at(kind, path).is_ok(), "{kind} {path}");
        }
        assert!(!ada.open(path, READ).is_ok() && !ada.open(path, WRITE | CREATE).is_ok(), "{path}");
        assert!(
            !ada.between(RENAME, path, "/backup/x").is_ok()
                && !ada.between(RENAME, "/backup/x", path).is_ok()
        );
    }
    assert!(!ada.at(MKDIR, "/new").is_ok());
}
