//! What has to change for each file to be encrypted to whom it should be. Pure.

use std::collections::{BTreeMap, BTreeSet};

use bosco_secrets::sops::Format;

use super::audit::{Unsettled, wanted};
use super::readers::{Book, Kept, Reader};
use super::rules::Rule;

/// Who reads a file from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) file: String,
    pub(crate) format: Format,
    /// Who it is from then on.
    pub(crate) readers: BTreeSet<Reader>,
    /// In words, who is added and who is taken out.
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Whom `.sops.yaml` should say, for each file that is bosco's to say, by the file's path.
    pub(crate) rules: BTreeMap<String, Rule>,
    /// The files that are there and are encrypted to others.
    pub(crate) changes: Vec<Change>,
    /// The files that can't be decided, as a host's key is not known.
    pub(crate) undecided: Vec<(String, Unsettled)>,
}

/// Decides it for all files, those that are only asked for included.
pub(crate) fn plan(book: &Book) -> Plan {
    let mut plan = Plan::default();
    let asked = book.asked.iter().filter_map(|asked| asked.file.clone().ok());
    let files: BTreeSet<String> = book.files.keys().cloned().chain(asked).collect();
    for file in files {
        let readers = match wanted(book, &file) {
            Ok(Some(readers)) => readers,
            Ok(None) => continue,
            Err(why) => {
                plan.undecided.push((file, why));
                continue;
            }
        };
        let present = book.files.get(&file).and_then(|kept| kept.as_ref().ok());
        if let Some(Kept { format, readers: present, .. }) = present.filter(|kept| kept.readers != readers) {
            let names = |these: &BTreeSet<Reader>, those: &BTreeSet<Reader>| {
                these.difference(those).map(|reader| book.name(reader)).collect()
            };
            let (added, removed) = (names(&readers, present), names(present, &readers));
            let change =
                Change { file: file.clone(), format: *format, readers: readers.clone(), added, removed };
            plan.changes.push(change);
        }
        let who: BTreeSet<String> = readers.iter().map(|reader| book.name(reader)).collect();
        let who = who.into_iter().collect::<Vec<_>>().join(", ");
        let recipients = readers.iter().map(|reader| book.recipient(reader).to_owned()).collect();
        plan.rules.insert(file.clone(), Rule { file, readers, recipients, who });
    }
    plan
}
