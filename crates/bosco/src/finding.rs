//! What a check finds: where, and what to do about it. Pure.

use bosco_model::HostName;
use serde::Serialize;

/// Whether a check fails for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// It does.
    Error,
    /// It is good to know.
    Warning,
}

/// Something that is not as it should be. Findings are in the order of their files, lines and hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Finding {
    /// The file, from the fleet's root.
    pub(crate) file: Option<String>,
    /// The line in it, from 1.
    pub(crate) line: Option<usize>,
    pub(crate) host: Option<HostName>,
    pub(crate) level: Level,
    /// What it is.
    pub(crate) what: String,
    /// What to do.
    pub(crate) hint: String,
}

impl Finding {
    pub(crate) fn error(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { file: None, line: None, host: None, level: Level::Error, what: what.into(), hint: hint.into() }
    }

    pub(crate) fn warning(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { level: Level::Warning, ..Self::error(what, hint) }
    }

    pub(crate) fn of(mut self, host: &HostName) -> Self {
        self.host = Some(host.clone());
        self
    }

    pub(crate) fn at(mut self, file: &str) -> Self {
        self.file = Some(file.to_owned());
        self
    }

    pub(crate) fn line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    /// `FILE:LINE: HOST: WHAT`, as far as known.
    pub(crate) fn words(&self) -> String {
        let line = self.line.map(|line| format!(":{line}")).unwrap_or_default();
        let file = self.file.as_ref().map(|file| format!("{file}{line}: ")).unwrap_or_default();
        let host = self.host.as_ref().map(|host| format!("{host}: ")).unwrap_or_default();
        format!("{file}{host}{}", self.what)
    }
}

/// Whether a check fails.
pub(crate) fn fails(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Error)
}
