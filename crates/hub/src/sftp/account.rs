//! What an area's quota allows, and what of it is used. Pure: it is told what happens on the disk, and says beforehand
//! whether it may.
//!
//! Bytes are apparent sizes, so that a hole counts as if it were full: nobody can promise themselves more than they have.
//! Files are counted with folders, as each takes an inode.

use std::collections::HashMap;

use super::path::Area;
use super::refusal::{Full, Limit};

/// How much room an area has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// The sizes of all files together, in bytes.
    pub bytes: u64,
    /// The number of files and folders.
    pub files: u64,
}

/// How much of it is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

/// A file as the kernel tells one from another: device and inode.
pub(crate) type FileId = (u64, u64);

/// A file that is open.
#[derive(Debug, Default)]
struct Held {
    handles: usize,
    /// Its size when its name was taken away: so much stays used until it is closed everywhere.
    removed: Option<u64>,
}

/// The books of one area.
#[derive(Debug)]
pub(crate) struct Account {
    area: Area,
    quota: Quota,
    used: Usage,
    held: HashMap<FileId, Held>,
}

impl Account {
    /// The books of an area in which so much was found.
    pub(crate) fn new(area: Area, quota: Quota, used: Usage) -> Self {
        Self { area, quota, used, held: HashMap::new() }
    }

    /// What is left of the quota.
    pub(crate) fn left(&self) -> Usage {
        Usage {
            bytes: self.quota.bytes.saturating_sub(self.used.bytes),
            files: self.quota.files.saturating_sub(self.used.files),
        }
    }

    /// The quota as it is now.
    pub(crate) fn quota(&self) -> Quota {
        self.quota
    }

    /// Another quota from now on. If less than what is used, nothing more can be added until enough was taken away.
    pub(crate) fn set_quota(&mut self, quota: Quota) {
        self.quota = quota;
    }

    /// The disk was counted anew; what has no name any more was not found, but is still there.
    pub(crate) fn recount(&mut self, found: Usage) {
        let removed = self.held.values().filter_map(|held| held.removed).fold(0, u64::saturating_add);
        self.used = Usage { bytes: found.bytes.saturating_add(removed), files: found.files };
    }

    /// Asks whether a file may grow from one size to another. Nothing is booked.
    ///
    /// # Errors
    /// Where that is more than is left.
    pub(crate) fn may_grow(&self, from: u64, to: u64) -> Result<(), Full> {
        let growth = to.saturating_sub(from);
        if growth > 0 && growth > self.left().bytes {
            return Err(Full { area: self.area, limit: Limit::Bytes(self.quota.bytes) });
        }
        Ok(())
    }

    /// A file of the one size has the other now.
    pub(crate) fn resized(&mut self, from: u64, to: u64) {
        self.used.bytes = self.used.bytes.saturating_sub(from).saturating_add(to);
    }

    /// Asks whether one more file or folder may be. Nothing is booked.
    ///
    /// # Errors
    /// Where there are as many as there may be.
    pub(crate) fn may_add(&self) -> Result<(), Full> {
        if self.left().files == 0 {
            return Err(Full { area: self.area, limit: Limit::Files(self.quota.files) });
        }
        Ok(())
    }

    /// There is one more file, empty yet, or folder.
    pub(crate) fn added(&mut self) {
        self.used.files = self.used.files.saturating_add(1);
    }

    /// A file of this size was opened, or opened once more.
    pub(crate) fn hold(&mut self, id: FileId) {
        self.held.entry(id).or_default().handles += 1;
    }

    /// A file that was held was closed once.
    pub(crate) fn release(&mut self, id: FileId) {
        let Some(held) = self.held.get_mut(&id) else { return };
        held.handles = held.handles.saturating_sub(1);
        if held.handles == 0 {
            let size = held.removed.unwrap_or(0);
            self.held.remove(&id);
            self.used.bytes = self.used.bytes.saturating_sub(size);
        }
    }

    /// The last name of a file of this size was taken away. While it is held it stays on the disk, and so in the books.
    pub(crate) fn removed(&mut self, id: FileId, size: u64) {
        match self.held.get_mut(&id) {
            Some(held) => held.removed = Some(size),
            None => self.used.bytes = self.used.bytes.saturating_sub(size),
        }
        self.removed_name();
    }

    /// A folder was taken away, or a name of a file that has others.
    pub(crate) fn removed_name(&mut self) {
        self.used.files = self.used.files.saturating_sub(1);
    }

    /// Whether a file that is open has no name any more. It must not grow then, or its size would be in no book.
    pub(crate) fn is_removed(&self, id: FileId) -> bool {
        self.held.get(&id).is_some_and(|held| held.removed.is_some())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const QUOTA: Quota = Quota { bytes: 1000, files: 5 };

    #[test]
    fn nothing_grows_past_the_quota_however_far() {
        let account = Account::new(Area::Backup, QUOTA, Usage { bytes: 900, files: 1 });
        assert!(account.may_grow(0, 100).is_ok());
        let full = Full { area: Area::Backup, limit: Limit::Bytes(1000) };
        for to in [101, 1 << 60, u64::MAX] {
            assert_eq!(account.may_grow(0, to), Err(full));
        }
    }

    #[test]
    fn who_is_above_the_quota_can_make_room_but_not_take_more() {
        let mut account = Account::new(Area::Backup, QUOTA, Usage { bytes: 5000, files: 9 });
        assert!(account.may_grow(0, 1).is_err());
        assert!(account.may_add().is_err());
        assert!(account.may_grow(5000, 10).is_ok());
        assert!(account.may_grow(7, 7).is_ok());
        account.resized(5000, 10);
        assert!(account.may_grow(10, 1000).is_ok());
    }

    #[test]
    fn a_file_that_is_still_open_counts_until_it_is_closed() {
        let mut account = Account::new(Area::Backup, QUOTA, Usage { bytes: 600, files: 1 });
        account.hold((1, 1));
        account.hold((1, 1));
        account.removed((1, 1), 600);
        assert!(account.is_removed((1, 1)));
        account.release((1, 1));
        account.recount(Usage::default());
        assert!(account.may_grow(0, 401).is_err());
        account.release((1, 1));
        assert!(account.may_grow(0, 1000).is_ok());
    }

    /// Something that a host does; numbers are taken for those of files.
    #[derive(Debug, Clone)]
    enum Step {
        Create(u8),
        Open(u8),
        Resize(u8, u64),
        Remove(u8),
        Close(u8),
        Recount,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let file = 0..8_u8;
        let step = prop_oneof![
            file.clone().prop_map(Step::Create),
            file.clone().prop_map(Step::Open),
            (file.clone(), prop_oneof![0..1500_u64, any::<u64>()])
                .prop_map(|(file, to)| Step::Resize(file, to)),
            file.clone().prop_map(Step::Remove),
            file.prop_map(Step::Close),
            Just(Step::Recount),
        ];
        proptest::collection::vec(step, 0..80)
    }

    /// A disk that does what the books allow.
    #[derive(Debug, Default)]
    struct Disk {
        /// By number: size, handles, whether it has a name.
        files: BTreeMap<u8, (u64, usize, bool)>,
    }

    impl Disk {
        fn named(&self) -> Usage {
            let named = self.files.values().filter(|(_, _, named)| *named);
            Usage { bytes: named.clone().map(|file| file.0).sum(), files: named.count() as u64 }
        }
    }

    proptest! {
        #[test]
        fn what_is_on_the_disk_is_what_is_in_the_books_and_never_more_than_the_quota(steps in steps()) {
            let mut account = Account::new(Area::Backup, QUOTA, Usage::default());
            let mut disk = Disk::default();
            for step in steps {
                match step {
                    Step::Create(file) => if !disk.files.contains_key(&file) && account.may_add().is_ok() {
                        disk.files.insert(file, (0, 0, true));
                        account.added();
                    },
                    Step::Open(file) => if let Some((_, handles, true)) = disk.files.get_mut(&file) {
                        *handles += 1;
                        account.hold((0, file.into()));
                    },
                    Step::Resize(file, to) => if let Some((size, _, _)) = disk.files.get_mut(&file)
                        && !account.is_removed((0, file.into())) && account.may_grow(*size, to).is_ok() {
                        account.resized(*size, to);
                        *size = to;
                    },
                    Step::Remove(file) => if let Some((size, handles, named @ true)) = disk.files.get_mut(&file) {
                        account.removed((0, file.into()), *size);
                        *named = false;
                        if *handles == 0 {
                            disk.files.remove(&file);
                        }
                    },
                    Step::Close(file) => if let Some((_, handles @ 1.., named)) = disk.files.get_mut(&file) {
                        *handles -= 1;
                        account.release((0, file.into()));
                        if *handles == 0 && !*named {
                            disk.files.remove(&file);
                        }
                    },
                    Step::Recount => account.recount(disk.named()),
                }
                let bytes = disk.files.values().map(|file| file.0).sum::<u64>();
                prop_assert_eq!(account.used, Usage { bytes, files: disk.named().files });
                prop_assert!(bytes <= QUOTA.bytes);
                prop_assert!(account.used.files <= QUOTA.files);
            }
        }
    }
}
