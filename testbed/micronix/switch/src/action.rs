//! What is asked for.

/// What to do with a toplevel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run the checks and nothing else.
    Check,
    /// Make it the boot default, and activate it.
    Switch,
    /// Make it the boot default.
    Boot,
    /// Activate it.
    Test,
    /// Say what activating it would do.
    DryActivate,
}

impl Action {
    pub(crate) fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "check" => Self::Check,
            "switch" => Self::Switch,
            "boot" => Self::Boot,
            "test" => Self::Test,
            "dry-activate" => Self::DryActivate,
            _ => return None,
        })
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Switch => "switch",
            Self::Boot => "boot",
            Self::Test => "test",
            Self::DryActivate => "dry-activate",
        }
    }

    pub(crate) fn usage(name: &str) -> String {
        format!(
            "Usage: {name} [check|switch|boot|test|dry-activate]\n\
             check:        run pre-switch checks and exit\n\
             switch:       make the configuration the boot default and activate now\n\
             boot:         make the configuration the boot default\n\
             test:         activate the configuration, but don't make it the boot default\n\
             dry-activate: show what would be done if this configuration were activated\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_known_by_its_word() {
        for action in [Action::Check, Action::Switch, Action::Boot, Action::Test, Action::DryActivate] {
            assert_eq!(Action::parse(action.word()), Some(action));
        }
        assert_eq!(Action::parse("reboot"), None);
    }
}
