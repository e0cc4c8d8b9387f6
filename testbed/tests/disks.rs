//! What happens to what a host has written.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly, in their helpers too")]

use std::time::Duration;

use testbed::{Host, Lab, LabSpec, Unsynced};

const SOON: Duration = Duration::from_secs(20);

fn boot_again(host: &Host) {
    host.boot().unwrap();
    host.wait_for_ssh(SOON).unwrap();
}

#[test]
fn a_power_cut_keeps_what_was_synced_and_loses_the_rest_where_that_is_asked() {
    let lab = Lab::up(&LabSpec::new(1).own_disk(256)).unwrap();
    let host = &lab.hosts()[0];
    host.ssh_ok("echo 1 > /root/synced && sync && echo 2 > /root/unsynced").unwrap();
    host.power_cut(Unsynced::Lost).unwrap();
    assert!(!host.is_running());
    // It can be looked into while it is off.
    assert_eq!(std::fs::read_to_string(host.root().join("root/synced")).unwrap(), "1\n");
    boot_again(host);
    assert_eq!(host.ssh_ok("cat /root/synced; cat /root/unsynced 2> /dev/null; true").unwrap(), "1\n");
    // And once more: the disk is a disk again.
    host.ssh_ok("echo 3 > /root/unsynced").unwrap();
    host.power_cut(Unsynced::Kept).unwrap();
    boot_again(host);
    assert_eq!(host.ssh_ok("cat /root/synced /root/unsynced").unwrap(), "1\n3\n");
}

#[test]
fn a_file_replaced_without_a_sync_is_empty_after_a_power_cut() {
    let lab = Lab::up(&LabSpec::new(1).own_disk(256)).unwrap();
    let host = &lab.hosts()[0];
    // Its name is synced with the folder, its contents are not.
    host.ssh_ok("cd /root && echo 1 > new && mv new file && sync /root").unwrap();
    host.power_cut(Unsynced::Lost).unwrap();
    boot_again(host);
    let file = host.ssh_ok("cat /root/file").unwrap_or_default();
    assert_eq!(file, "");
}

#[test]
fn without_a_disk_of_its_own_a_host_can_lose_nothing() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let host = &lab.hosts()[0];
    host.ssh_ok("echo 1 > /root/unsynced").unwrap();
    assert!(host.power_cut(Unsynced::Lost).unwrap_err().to_string().contains("own_disk"));
    assert!(host.is_running());
    assert!(host.fill_disk().is_err());
    host.power_cut(Unsynced::Kept).unwrap();
    boot_again(host);
    assert_eq!(host.ssh_ok("cat /root/unsynced").unwrap(), "1\n");
}

#[test]
fn a_full_disk_takes_nothing_until_it_is_freed() {
    let lab = Lab::up(&LabSpec::new(1).own_disk(128)).unwrap();
    let host = &lab.hosts()[0];
    host.fill_disk().unwrap();
    let output = host.ssh("head -c 100000 /dev/zero > /root/zeros").unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("No space left on device"), "{output:?}");
    host.free_disk().unwrap();
    host.ssh_ok("head -c 100000 /dev/zero > /root/zeros").unwrap();
}

#[test]
fn a_reboot_from_inside_comes_back_with_the_same_disk() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let host = &lab.hosts()[0];
    for _ in 0..2 {
        host.wait_for_boot(SOON).unwrap();
        host.ssh_ok("echo x >> /root/kept && touch /run/gone").unwrap();
        // The connection may or may not see the command's end.
        host.ssh("systemctl reboot").unwrap();
        let start = std::time::Instant::now();
        while !host.ssh("test ! -e /run/gone").unwrap().status.success() {
            assert!(start.elapsed() < SOON, "it has not rebooted: {}", host.console());
        }
    }
    assert_eq!(host.ssh_ok("cat /root/kept").unwrap(), "x\nx\n");
}

#[test]
fn a_host_that_was_switched_off_from_inside_boots_again() {
    let lab = Lab::up(&LabSpec::new(1)).unwrap();
    let host = &lab.hosts()[0];
    host.wait_for_boot(SOON).unwrap();
    host.ssh("systemctl poweroff").unwrap();
    let start = std::time::Instant::now();
    while host.is_running() {
        assert!(start.elapsed() < SOON, "it is still on: {}", host.console());
        std::thread::sleep(Duration::from_millis(20));
    }
    boot_again(host);
    host.ssh_ok("true").unwrap();
}
