//! Reports that the hub has not taken yet, on the disk: a file each. They go to the hub, the oldest first, whenever it is there,
//! and keep nothing else waiting.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use bosco_activation::Report;
use bosco_host::durable;
use bosco_release::HostReport;

use crate::keep;

/// How many reports are kept.
const MOST: usize = 100;
/// The longest report that is read, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// What waits. It is signed when it goes: the host may have another key by then.
pub(crate) type Said = HostReport<Report>;

/// The reports that wait.
#[derive(Debug, Clone)]
pub(crate) struct Queue {
    folder: PathBuf,
}

impl Queue {
    pub(crate) fn new(state: &Path) -> Self {
        Self { folder: state.join("reports") }
    }

    /// Adds one. Gives how many had to go for it.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn put(&self, report: &Said) -> Result<u64, String> {
        keep::prepare(&self.folder)?;
        let text =
            serde_json::to_vec(report).map_err(|error| format!("a report can't be written: {error}"))?;
        let all = self.all();
        let excess = (all.len() + 1).saturating_sub(MOST);
        // First: it may be the disk that is full.
        for file in &all[..excess] {
            durable::remove(file)?;
        }
        durable::write(&self.folder.join(format!("{}.json", report.id)), &text)?;
        Ok(excess as u64)
    }

    /// The oldest one, with its file. What can't be read is set aside.
    pub(crate) fn oldest(&self) -> Option<(PathBuf, Said)> {
        for file in self.all() {
            if let Some(report) = read(&file) {
                return Some((file, report));
            }
            self.set_aside(&file);
        }
        None
    }

    /// Forgets one that was taken.
    ///
    /// # Errors
    /// In words.
    pub(crate) fn taken(&self, file: &Path) -> Result<(), String> {
        durable::remove(file)
    }

    /// Takes one out of the queue that nobody will ever take; the last such one stays, for people.
    pub(crate) fn set_aside(&self, file: &Path) {
        if fs::rename(file, self.folder.join("unreadable")).is_err() {
            let _ = fs::remove_file(file);
        }
    }

    /// All of them, the oldest first.
    fn all(&self) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(&self.folder) else { return Vec::new() };
        let files = files.flatten().map(|file| file.path());
        let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
        let when = |file: &PathBuf| fs::metadata(file).and_then(|metadata| metadata.modified()).ok();
        let mut files: Vec<_> = files.map(|file| (when(&file), file)).collect();
        files.sort();
        files.into_iter().map(|(_, file)| file).collect()
    }
}

fn read(file: &Path) -> Option<Said> {
    let mut text = Vec::new();
    fs::File::open(file).ok()?.take(LONGEST).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bosco_activation::Ending;
    use bosco_model::{FleetName, HostName, StorePath};

    use super::*;
    use crate::testing::TempDir;

    fn said(id: &str) -> Said {
        let toplevel = StorePath::parse(&format!("/nix/store/{}-x", "0".repeat(32))).unwrap();
        let report = Report {
            id: id.into(),
            toplevel,
            ending: Ending::Committed { reboot: false, proven: true },
            running: None,
            generation: None,
            stuck: None,
            log: String::new(),
        };
        HostReport {
            fleet: FleetName::parse("home").unwrap(),
            host: HostName::parse("web").unwrap(),
            id: id.into(),
            number: 1,
            automatic: false,
            began: 0,
            ended: 0,
            report,
            log: String::new(),
        }
    }

    fn put(queue: &Queue, number: u64) -> u64 {
        let id = format!("{number}");
        let dropped = queue.put(&said(&id)).unwrap();
        let file = fs::File::options().write(true).open(queue.folder.join(format!("{id}.json"))).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(number)).unwrap();
        dropped
    }

    #[test]
    fn reports_go_the_oldest_first_and_once() {
        let dir = TempDir::new();
        let queue = Queue::new(dir.path());
        assert!(queue.oldest().is_none());
        for number in [3, 1, 2] {
            assert_eq!(put(&queue, number), 0);
        }
        let mut order = Vec::new();
        while let Some((file, report)) = queue.oldest() {
            order.push(report.id);
            queue.taken(&file).unwrap();
        }
        assert_eq!(order, ["1", "2", "3"]);
    }

    #[test]
    fn of_too_many_the_oldest_goes_and_is_counted() {
        let dir = TempDir::new();
        let queue = Queue::new(dir.path());
        let dropped: u64 = (1..=MOST as u64 + 5).map(|number| put(&queue, number)).sum();
        assert_eq!((dropped, queue.all().len()), (5, MOST));
        assert_eq!(queue.oldest().unwrap().1.id, "6");
    }

    #[test]
    fn a_broken_one_is_in_nobodys_way() {
        let dir = TempDir::new();
        let queue = Queue::new(dir.path());
        put(&queue, 7);
        fs::write(queue.folder.join("0.json"), "{\"report\": \"").unwrap();
        fs::create_dir(queue.folder.join("1.json")).unwrap();
        assert_eq!(queue.oldest().unwrap().1.id, "7");
        assert_eq!(queue.oldest().unwrap().1.id, "7");
    }
}
