//! What a host may do in which area. Pure.

use super::path::{Area, MAX_LOG_NAME, Name};
use super::refusal::Refusal;

/// What a request does to a place inside an area.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Look at it: what it is, what is in it, what room there is.
    Look,
    /// Read a file.
    Read,
    /// Open a file to write it, a new one or one that is there.
    Write,
    /// Change a file's size, mode or times by its name.
    Change,
    /// Make a folder, or take a file or folder away, or rename it, either end.
    Arrange,
}

/// Whether a host may do that with what is at these names of an area.
///
/// # Errors
/// Where it may not, with the reason.
pub(crate) fn may(area: Area, names: &[Name], act: Act) -> Result<(), Refusal> {
    if area == Area::Logs
        && let Some(first) = names.first()
        && !is_log(first.as_str())
    {
        // What is hidden there is half a log, for nobody to see.
        return Err(match act {
            Act::Look | Act::Read => Refusal::Missing,
            _ => Refusal::Failed(format!(
                "a log's name has at most {MAX_LOG_NAME} bytes, no dot at its beginning and no control characters"
            )),
        });
    }
    match (area, act) {
        (_, Act::Look) => Ok(()),
        (_, Act::Read) if !names.is_empty() => Ok(()),
        (_, _) if names.is_empty() => Err(Refusal::Denied("an area itself stays as it is")),
        (Area::Config, _) => Err(Refusal::Denied("config is read only")),
        (Area::Logs, Act::Write) if names.len() == 1 => Ok(()),
        (Area::Logs, _) => Err(Refusal::Denied("a log is written once, and there are no folders of logs")),
        (Area::Backup, _) => Ok(()),
    }
}

/// Whether a log can have this name. What begins with a dot is the hub's own.
pub(crate) fn is_log(name: &str) -> bool {
    name.len() <= MAX_LOG_NAME && !name.starts_with('.') && !name.chars().any(char::is_control)
}

/// The permissions that a file gets where a host asks for these: nobody but its owner may write to it, and its owner, who
/// is the hub, always may; it could not count or delete it otherwise.
pub(crate) fn file_mode(asked: u32) -> u32 {
    asked & 0o755 | 0o600
}

/// The same for a folder.
pub(crate) fn folder_mode(asked: u32) -> u32 {
    asked & 0o755 | 0o700
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::path::{Place, parse};
    use super::*;

    const ACTS: [Act; 5] = [Act::Look, Act::Read, Act::Write, Act::Change, Act::Arrange];

    fn allowed(path: &str) -> Vec<Act> {
        let Ok(Place::Inside(area, names)) = parse(path) else { panic!("{path}") };
        ACTS.into_iter().filter(|act| may(area, &names, *act).is_ok()).collect()
    }

    #[test]
    fn each_area_has_its_rules() {
        use Act::{Look, Read, Write};
        for area in ["/config", "/logs", "/backup"] {
            assert_eq!(allowed(area), [Look], "{area}");
        }
        assert_eq!(allowed("/config/a/b"), [Look, Read]);
        assert_eq!(allowed("/logs/a"), [Look, Read, Write]);
        assert_eq!(allowed("/logs/.a"), []);
        assert_eq!(allowed("/logs/a\nb"), []);
        assert_eq!(allowed(&format!("/logs/{}", "a".repeat(MAX_LOG_NAME + 1))), []);
        assert_eq!(allowed("/logs/a/b"), [Look, Read]);
        assert_eq!(allowed("/backup/.a/\nb"), ACTS);
    }

    proptest! {
        #[test]
        fn no_mode_locks_the_hub_out_or_lets_others_in(asked: u32) {
            for mode in [file_mode(asked), folder_mode(asked)] {
                prop_assert_eq!(mode & !0o755, 0);
                prop_assert_eq!(mode & 0o600, 0o600);
            }
            prop_assert_eq!(folder_mode(asked) & 0o700, 0o700);
        }
    }
}
