//! What the hub keeps, and for how long. Releases themselves stay: they are the history. Their closures, reports, logs, and
//! what hosts have left that are gone, go after their time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use std::{fs, io};

use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::Error;
use crate::hub::{Hub, now};

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(3600);
/// How long a closure stays that no release names, and an archive that no closure needs: an operator who was told that it is here
/// may be about to publish.
const UNUSED: u64 = 24 * 3600;
/// How many reports of a host stay however old they are.
const REPORTS: u32 = 10;
const DAY: u64 = 24 * 3600;
/// How many archives go at once; nobody brings any meanwhile.
const AT_ONCE: u32 = 100;
/// What the folder of a host begins with that is known no more; no host's name does.
const ERASED: &str = ".erased-";

/// Throws away what is past its time, now and then, for ever.
pub(crate) async fn keep(hub: Arc<Hub>) {
    loop {
        if let Err(error) = tidy(&hub, now()).await {
            crate::say(&format!("bosco hub: what is past its time could not be thrown away: {error}"));
        }
        sleep(LOOK).await;
    }
}

/// Throws away what is past its time at that moment.
pub(crate) async fn tidy(hub: &Hub, now: u64) -> Result<(), Error> {
    let retention = hub.fleet().retention;
    hub.store.forget_reports(now.saturating_sub(retention.reports_days * DAY), REPORTS).await?;
    let before = now.saturating_sub(UNUSED);
    {
        // Nobody publishes meanwhile: what was there when somebody looked is there when it is written down.
        let _deciding = hub.deciding.lock().await;
        hub.store.forget_closures(retention.releases.max(1), before).await?;
        hub.store.forget_bundles(retention.releases.max(1), before).await?;
    }
    loop {
        let _storing = hub.storing.lock().await;
        // First what says that it is there: a file that nobody knows is only room.
        let gone = hub.store.forget_objects(before, AT_ONCE).await?;
        if gone.is_empty() {
            break;
        }
        let objects = hub.objects.clone();
        let _ = spawn_blocking(move || gone.iter().for_each(|hash| objects.remove(hash))).await;
    }
    let hosts = hub.state.join("hosts");
    // What a hub that was cut short has left.
    remove_erased(hosts.clone()).await;
    for host in hub.hosts() {
        let gone = host.now().gone.is_some_and(|gone| gone < now.saturating_sub(retention.gone_days * DAY));
        let folder = hosts.join(host.name.as_str());
        if gone {
            let _deciding = hub.deciding.lock().await;
            // It may have come back.
            if host.now().gone.is_some() {
                // Before the name is free: what is left in its folder must not become the next one's.
                let erased = folder.with_file_name(format!("{ERASED}{}", host.name));
                match fs::rename(&folder, &erased) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::disk(&folder, &error));
                    }
                    _ => {}
                }
                let synced = fs::File::open(&hosts).and_then(|hosts| hosts.sync_all());
                synced.map_err(|error| Error::disk(&hosts, &error))?;
                hub.erase(&host.name).await?;
            }
        } else {
            let oldest = SystemTime::now().checked_sub(Duration::from_secs(retention.logs_days * DAY));
            let logs = folder.join("logs");
            let _ = spawn_blocking(move || oldest.map(|oldest| remove_older(&logs, oldest))).await;
        }
    }
    // It may be much, and nobody has to wait for it.
    remove_erased(hosts).await;
    Ok(())
}

/// Removes the folders of hosts that are known no more. What can't be removed is told, and tried again the next time.
async fn remove_erased(hosts: PathBuf) {
    let remove = move || {
        for entry in fs::read_dir(hosts).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(ERASED.as_bytes())
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                let place = entry.path();
                crate::say(&format!("bosco hub: {} can't be removed: {error}", place.display()));
            }
        }
    };
    let _ = spawn_blocking(remove).await;
}

/// Removes the files of a folder that were written before a moment. What can't be removed is tried again the next time.
fn remove_older(folder: &Path, oldest: SystemTime) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        // Of the entry itself, wherever it may point.
        let old =
            entry.metadata().and_then(|metadata| metadata.modified()).is_ok_and(|written| written < oldest);
        if old {
            let _ = fs::remove_file(entry.path());
        }
    }
}
