//! `restic` and `rclone` keep a host's backups on the hub, up to the quota and again when there is room; and nobody gets
//! past it, however they go about it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;

use bosco_hub::sftp::{Limits, Quota};
use common::raw::{APPEND, CREATE, MKDIR, READ, REMOVE, RENAME, RMDIR, Raw, Reply, STAT, WRITE, string};
use common::{Hub, ROOM, finish, noise, same, succeed, text};

const MB: u64 = 1_000_000;

fn limits(bytes: u64, files: u64) -> Limits {
    Limits { backup: Quota { bytes, files }, logs: Quota { bytes: MB, files: 3 } }
}

/// A folder with so many bytes of data, in files of all sizes and odd names.
fn data(hub: &Hub, name: &str, bytes: u64) -> PathBuf {
    let dir = hub.beside(name);
    fs::create_dir_all(dir.join("deep/er/and ü deeper")).unwrap();
    fs::create_dir_all(dir.join("empty")).unwrap();
    fs::write(dir.join("deep/er/nothing"), "").unwrap();
    fs::write(dir.join("-rf *"), "odd").unwrap();
    for part in 0..5 {
        let place = ["one", "deep/two", "deep/er/three", "deep/er/and ü deeper/four", ".five"][part];
        fs::write(dir.join(place), noise(part as u64, usize::try_from(bytes / 5).unwrap())).unwrap();
    }
    dir
}

/// What is there on the disk, as it is counted.
fn on_disk(hub: &Hub) -> u64 {
    fn size(dir: &std::path::Path) -> u64 {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| match entry.metadata().unwrap() {
                folder if folder.is_dir() => size(&entry.path()),
                file => file.len(),
            })
            .sum()
    }
    size(&hub.beside("hosts/ada/backup"))
}

/// Numbers that `statvfs` tells: of bytes all and free, of files all and free.
fn room(raw: &mut Raw) -> [u64; 4] {
    let Reply::Extended(bytes) = raw.extended("statvfs@openssh.com", &string("/backup")) else {
        panic!("no statvfs")
    };
    let number = |index: usize| u64::from_be_bytes(bytes[index * 8..][..8].try_into().unwrap());
    [number(2) * number(1), number(3) * number(1), number(5), number(6)]
}

#[test]
fn restic_backs_up_and_restores() {
    let hub = Hub::start(ROOM);
    let data = data(&hub, "data", 20 * MB);
    succeed(hub.restic("ada").arg("init"));
    succeed(hub.restic("ada").args(["backup", "data"]));
    fs::write(data.join("more"), "more").unwrap();
    succeed(hub.restic("ada").args(["backup", "data"]));
    succeed(hub.restic("ada").args(["check", "--read-data"]));
    succeed(hub.restic("ada").args(["restore", "latest", "--target", "restored"]));
    assert!(same(&data, &hub.beside("restored/data")));
    succeed(hub.restic("ada").args(["forget", "--keep-last", "1", "--prune"]));
    succeed(hub.restic("ada").args(["check"]));
    assert!(!finish(hub.restic("bob").arg("snapshots"), "").status.success());
}

#[test]
fn restic_stops_at_the_quota_and_goes_on_when_there_is_room() {
    let hub = Hub::start(limits(30 * MB, 1000));
    data(&hub, "data", 20 * MB);
    succeed(hub.restic("ada").arg("init"));
    let mut ada = hub.raw("ada");
    let filler = ada.open("/backup/filler", WRITE | CREATE).handle();
    assert!(ada.write(&filler, 20 * MB - 1, b"x").is_ok());
    assert!(ada.close(&filler).is_ok());
    let mut backup = hub.restic("ada");
    let mut backup =
        backup.args(["backup", "data"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(backup.stderr.take().unwrap()).lines().map_while(Result::ok);
    let refused = said.find(|line| line.contains("no space"));
    let Some(refused) = refused else { panic!("restic was not refused: {:?}", backup.wait()) };
    // It asks again for a while; as soon as there is room it goes on by itself.
    assert!(on_disk(&hub) <= 30 * MB, "{refused}");
    assert!(refused.contains("the backup quota of 30 MB is used up"), "{refused}");
    assert!(ada.at(REMOVE, "/backup/filler").is_ok());
    let rest: Vec<_> = said.collect();
    assert!(backup.wait().unwrap().success(), "{rest:?}");
    succeed(hub.restic("ada").args(["check", "--read-data"]));
}

#[test]
fn rclone_copies_both_ways() {
    let hub = Hub::start(ROOM);
    let data = data(&hub, "data", 20 * MB);
    succeed(hub.rclone("ada").args(["copy", "--create-empty-src-dirs", "data", "hub:/backup/copy"]));
    succeed(hub.rclone("ada").args(["check", "--download", "data", "hub:/backup/copy"]));
    assert!(same(&data, &hub.on_disk("ada", "backup/copy")));
    succeed(hub.rclone("ada").args(["copy", "--create-empty-src-dirs", "hub:/backup/copy", "back"]));
    assert!(same(&data, &hub.beside("back")));
    // Times were kept, so nothing is to be done; what has changed is.
    let again = succeed(hub.rclone("ada").args(["-v", "sync", "data", "hub:/backup/copy"]));
    assert!(again.contains("There was nothing to transfer"), "{again}");
    fs::write(data.join("one"), "changed").unwrap();
    fs::remove_file(data.join(".five")).unwrap();
    succeed(hub.rclone("ada").args(["sync", "data", "hub:/backup/copy"]));
    succeed(hub.rclone("ada").args(["moveto", "hub:/backup/copy", "hub:/backup/moved"]));
    assert!(same(&data, &hub.on_disk("ada", "backup/moved")));
    let about = succeed(hub.rclone("ada").args(["about", "--json", "hub:"]));
    assert!(about.contains("\"total\": 50000") || about.contains("\"total\": 4999"), "{about}");
    succeed(hub.rclone("ada").args(["purge", "hub:/backup/moved"]));
    assert_eq!(on_disk(&hub), 0);
}

#[test]
fn rclone_stops_at_the_quota_and_goes_on_when_there_is_room() {
    let hub = Hub::start(limits(30 * MB, 1000));
    let data = data(&hub, "data", 20 * MB);
    succeed(hub.rclone("ada").args(["copy", "data", "hub:/backup/first"]));
    let output = finish(hub.rclone("ada").args(["copy", "data", "hub:/backup/second"]), "");
    assert!(!output.status.success());
    assert!(text(&output).contains("no space: the backup quota of 30 MB is used up"), "{}", text(&output));
    assert!(on_disk(&hub) <= 30 * MB);
    succeed(hub.rclone("ada").args(["purge", "hub:/backup/first"]));
    succeed(hub.rclone("ada").args(["copy", "--create-empty-src-dirs", "data", "hub:/backup/second"]));
    assert!(same(&data, &hub.on_disk("ada", "backup/second")));
}

#[test]
fn a_large_file_goes_both_ways_however_much_is_asked_ahead() {
    let hub = Hub::start(limits(500 * MB, 10));
    fs::write(hub.beside("big"), noise(1, 60_000_000)).unwrap();
    for options in [&[][..], &["-R", "512"], &["-R", "256", "-B", "4096"], &["-B", "261120"]] {
        let output = hub.sftp_with("ada", options, "put big /backup/big\nget /backup/big back\n");
        assert!(output.status.success(), "{options:?}: {}", text(&output));
        assert!(same(&hub.beside("big"), &hub.beside("back")), "{options:?}");
        fs::remove_file(hub.beside("back")).unwrap();
    }
}

#[test]
fn openssh_stops_at_the_quota() {
    let hub = Hub::start(limits(MB, 10));
    fs::write(hub.beside("big"), noise(1, 2_000_000)).unwrap();
    let output = hub.sftp("ada", "put big /backup/big\n");
    // It shows its own word for a failure, whatever the server says.
    assert!(!output.status.success() && text(&output).contains("Failure"), "{}", text(&output));
    assert!(on_disk(&hub) <= MB);
    hub.sftp_ok("ada", "df /backup\nrm /backup/big\n");
    assert_eq!(on_disk(&hub), 0);
}

#[test]
fn no_way_of_growing_leads_past_the_quota() {
    let hub = Hub::start(limits(MB, 1000));
    let mut ada = hub.raw("ada");
    let full = "no space: the backup quota of 1 MB is used up";
    let handle = ada.open("/backup/a", WRITE | READ | CREATE).handle();
    for offset in [MB, 1 << 32, 1 << 60, (1 << 63) - 1, 1 << 63, u64::MAX] {
        assert_eq!(ada.write(&handle, offset, b"x").message(), full, "{offset}");
    }
    assert_eq!(ada.truncate("/backup/a", MB + 1).message(), full);
    assert_eq!(ada.truncate("/backup/a", u64::MAX).message(), full);
    let size = [&string(&handle), &1_u32.to_be_bytes()[..], &(1_u64 << 62).to_be_bytes()].concat();
    assert_eq!(ada.ask(10, &size).message(), full);
    assert_eq!(on_disk(&hub), 0);
    // A hole counts as what it looks like.
    assert!(ada.write(&handle, MB - 1, b"x").is_ok());
    assert_eq!(ada.put("/backup/b", b"x").message(), full);
    // What is there can be written again, and read.
    assert!(ada.write(&handle, 0, &[7; 1000]).is_ok());
    assert_eq!(ada.read(&handle, 0, 3), Reply::Data(vec![7; 3]));
    let end = ada.open("/backup/a", APPEND).handle();
    assert_eq!(ada.write(&end, 0, b"x").message(), full);
    assert!(ada.truncate("/backup/a", 1000).is_ok());
    assert!(ada.write(&end, 0, b"x").is_ok());
    assert_eq!(room(&mut ada)[1] / 1024, (MB - 1001) / 1024);
}

#[test]
fn files_that_have_no_name_any_more_count_until_they_are_closed() {
    let hub = Hub::start(limits(MB, 1000));
    let mut ada = hub.raw("ada");
    let handle = ada.open("/backup/a", WRITE | CREATE).handle();
    assert!(ada.write(&handle, MB - 1, b"x").is_ok());
    assert!(ada.at(REMOVE, "/backup/a").is_ok());
    assert!(ada.put("/backup/b", b"x").message().starts_with("no space"));
    assert!(ada.write(&handle, MB, b"x").message().contains("removed"));
    assert!(ada.close(&handle).is_ok());
    // The same where another file takes its name; and where the session ends without a close.
    let handle = ada.open("/backup/a", WRITE | CREATE).handle();
    assert!(ada.write(&handle, MB - 2, b"x").is_ok());
    assert!(ada.at(REMOVE, "/backup/b").is_ok());
    assert!(ada.put("/backup/b", b"").is_ok());
    let both = [string("/backup/b"), string("/backup/a")].concat();
    assert!(ada.extended("posix-rename@openssh.com", &both).is_ok());
    let mut other = hub.raw("ada");
    assert!(other.put("/backup/c", b"xx").message().starts_with("no space"));
    ada.end().unwrap();
    assert!(other.put("/backup/c", &[1; 100_000]).is_ok());
}

#[test]
fn there_are_so_many_files_and_no_more() {
    let hub = Hub::start(limits(MB, 5));
    let mut ada = hub.raw("ada");
    let full = "no space: the backup quota of 5 files is used up";
    for name in ["a", "b", "c"] {
        assert!(ada.put(format!("/backup/{name}"), b"").is_ok());
        assert!(ada.put(format!("/backup/{name}"), b"again").is_ok());
    }
    assert!(ada.at(MKDIR, "/backup/d").is_ok() && ada.at(MKDIR, "/backup/d/e").is_ok());
    assert_eq!(room(&mut ada)[2..], [5, 0]);
    assert_eq!(ada.put("/backup/f", b"").message(), full);
    assert_eq!(ada.at(MKDIR, "/backup/f").message(), full);
    assert!(ada.at(MKDIR, "/backup/d").message().contains("already"));
    let both = [string("/backup/a"), string("/backup/b")].concat();
    assert!(ada.extended("posix-rename@openssh.com", &both).is_ok());
    assert!(ada.at(RMDIR, "/backup/d/e").is_ok() && ada.between(RENAME, "/backup/b", "/backup/d/b").is_ok());
    assert_eq!(room(&mut ada)[3], 2);
    for name in ["1", "2", "3"] {
        assert!(ada.put(format!("/logs/{name}"), b"x").is_ok());
    }
    assert_eq!(ada.put("/logs/4", b"x").message(), "no space: the logs quota of 3 files is used up");
}

#[test]
fn sessions_at_once_do_not_overrun_the_quota() {
    let hub = Hub::start(limits(MB, 100));
    let shared = hub.raw("ada").put("/backup/shared", b"");
    assert!(shared.is_ok());
    let written: u64 = thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                let mut raw = hub.raw("ada");
                scope.spawn(move || {
                    let own = raw.open(format!("/backup/{writer}"), WRITE | CREATE).handle();
                    let shared = raw.open("/backup/shared", WRITE).handle();
                    let mut written = 0;
                    for turn in 0..60 {
                        written += u64::from(raw.write(&own, turn * 7000, &[1; 7000]).is_ok());
                        raw.write(&shared, turn * 1000, &[1; 1000]);
                        if turn % 20 == 19 {
                            raw.truncate("/backup/shared", 0);
                        }
                    }
                    written
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let there = on_disk(&hub);
    assert!(written > 100 && there <= MB, "{written} writes, {there} bytes");
    // The books are what is on the disk, to the last byte.
    let left = MB - there;
    let mut ada = hub.raw("ada");
    let handle = ada.open("/backup/rest", WRITE | CREATE).handle();
    assert!(!ada.write(&handle, left, b"x").is_ok());
    assert!(left == 0 || ada.write(&handle, left - 1, b"x").is_ok());
}

#[test]
fn what_was_there_before_the_hub_counts() {
    let hub = Hub::start(limits(MB, 4));
    fs::create_dir_all(hub.on_disk("ada", "backup/old/er")).unwrap();
    fs::write(hub.on_disk("ada", "backup/old/er/file"), noise(1, 900_000)).unwrap();
    let mut ada = hub.raw("ada");
    assert_eq!(room(&mut ada)[3], 1);
    assert!(
        ada.put("/backup/new", &[0; 100_001]).message().starts_with("no space: the backup quota of 1 MB")
    );
    assert!(ada.put("/backup/new", &[0; 100_000]).is_ok());
    assert!(ada.at(MKDIR, "/backup/more").message().contains("4 files"));
}

#[test]
fn other_limits_hold_at_once() {
    let hub = Hub::start(limits(1000, 10));
    let mut ada = hub.raw("ada");
    let handle = ada.open("/backup/a", WRITE | CREATE).handle();
    assert!(!ada.write(&handle, 1000, b"x").is_ok());
    hub.set_limits("ada", limits(2000, 10));
    assert!(ada.write(&handle, 1000, b"x").is_ok());
    hub.set_limits("ada", limits(500, 10));
    assert!(!ada.write(&handle, 1001, b"x").is_ok());
    assert!(ada.at(STAT, "/backup/a").is_ok() && ada.truncate("/backup/a", 10).is_ok());
    assert!(ada.write(&handle, 499, b"x").is_ok());
}
