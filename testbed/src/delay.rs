//! A cable that is longer than it looks: frames that come in at one end leave at the other one later, in order. Runs as a
//! program of its own between two TAP devices, because the kernel's own way of doing it may be missing.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::ioctl::open_tap;

const PROGRAM: &str = "bosco-lab";
/// The longest frame, with room for what offloading puts together.
const LONGEST: usize = 66 * 1024;
/// How many frames can be on their way; more are lost, as in any cable.
const UNDER_WAY: usize = 10_000;

struct Frame {
    due: Instant,
    bytes: Vec<u8>,
}

/// Carries frames between two TAP devices of this network namespace, each way so much later, until one of them is gone.
///
/// # Errors
/// Where a device can't be opened, and when it is gone.
pub fn delay_frames(near: &str, far: &str, by: Duration) -> Result<()> {
    let (near, far) = (Arc::new(open_tap(near)?), Arc::new(open_tap(far)?));
    let (ended, end) = sync_channel(4);
    for (from, to) in [(&near, &far), (&far, &near)] {
        let (sender, receiver) = sync_channel(UNDER_WAY);
        let (from, to) = (Arc::clone(from), Arc::clone(to));
        let (take_ended, give_ended) = (ended.clone(), ended.clone());
        thread::spawn(move || take_ended.send(take(&from, by, &sender)));
        thread::spawn(move || give_ended.send(give(&to, &receiver)));
    }
    end.recv().context("nothing carries frames any more")?
}

fn take(mut from: &File, by: Duration, under_way: &SyncSender<Frame>) -> Result<()> {
    let mut buffer = vec![0; LONGEST];
    loop {
        let count = from.read(&mut buffer).context("can't take a frame")?;
        let frame = Frame { due: Instant::now() + by, bytes: buffer[..count].to_vec() };
        if let Err(TrySendError::Disconnected(_)) = under_way.try_send(frame) {
            bail!("nothing gives frames any more");
        }
    }
}

fn give(mut to: &File, under_way: &Receiver<Frame>) -> Result<()> {
    while let Ok(frame) = under_way.recv() {
        thread::sleep(frame.due.saturating_duration_since(Instant::now()));
        // A device that is down refuses what a dead cable would swallow.
        let _ = to.write(&frame.bytes);
    }
    bail!("nothing takes frames any more")
}

/// Where the program is: beside the one that runs, or, for a test, one folder above.
pub(crate) fn program() -> Result<PathBuf> {
    let running = std::env::current_exe().context("can't tell which program runs")?;
    let folders = running.ancestors().skip(1).take(2);
    let found = folders.map(|folder: &Path| folder.join(PROGRAM)).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "delays need the program `{PROGRAM}` beside {}; build it with `cargo build -p testbed`",
            running.display()
        )
    })
}
