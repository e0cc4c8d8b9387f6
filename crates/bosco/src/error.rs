//! How a command ends when it can't do its work, and the exit codes.

use std::process::ExitCode;

use bosco_model::HostName;
use serde::Serialize;

use crate::outcome::Outcome;

/// How a command ended; `cli::EXIT_CODES` says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    Done,
    Unreachable,
    NotDeployed,
    NotBuilt,
    Usage,
    Unable,
    Interrupted,
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Unable => 1,
            Self::Usage => 2,
            Self::NotBuilt => 3,
            Self::NotDeployed => 4,
            Self::Unreachable => 5,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command could not do its work: what happened, and what to do next.
#[derive(Debug, Serialize)]
pub(crate) struct Error {
    #[serde(skip)]
    pub(crate) exit: Exit,
    #[serde(rename = "error")]
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl Error {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// What came of a host, where it is the only one.
    pub(crate) fn of(host: &HostName, outcome: &Outcome) -> Self {
        let message = format!("{host}: {}", outcome.words());
        Self { exit: outcome.exit(), message, hint: outcome.hint().map(str::to_owned) }
    }

    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl From<bosco_nix::Error> for Error {
    fn from(error: bosco_nix::Error) -> Self {
        let exit = match error {
            bosco_nix::Error::Failed { .. } => Exit::NotBuilt,
            bosco_nix::Error::Fleet { .. } => Exit::Usage,
            bosco_nix::Error::Stopped => Exit::Interrupted,
            _ => Exit::Unable,
        };
        Self { exit, hint: error.hint(), message: error.to_string() }
    }
}

impl From<bosco_wire::Error> for Error {
    fn from(error: bosco_wire::Error) -> Self {
        Self { exit: Exit::Unable, hint: Some(error.hint()), message: error.to_string() }
    }
}
