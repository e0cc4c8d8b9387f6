//! What a host says of one activation, signed by it.

use bosco_model::{FleetName, HostName};
use serde::{Deserialize, Serialize};

use crate::sealed::verify;
use crate::{Key, Number, REPORT_NAMESPACE, Unsealed};

/// The longest log that a report carries, in bytes: its end.
const LOG: usize = 60_000;

/// What a host says of one activation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostReport<R> {
    /// The fleet.
    pub fleet: FleetName,
    /// The host.
    pub host: HostName,
    /// What the activation is known by: a report that comes twice is one.
    pub id: String,
    /// The release that it was for; 0: none, but a push.
    pub number: Number,
    /// Whether nobody has asked for it: the host has updated the inputs of its flake by itself.
    #[serde(default)]
    pub automatic: bool,
    /// When it began and ended, in seconds since 1970 by the host's clock.
    pub began: u64,
    /// The same of its end.
    pub ended: u64,
    /// What came of it.
    pub report: R,
    /// What was said meanwhile: the end of it, where it is long.
    pub log: String,
}

/// A report with the host's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedReport {
    /// A [`HostReport`], as text.
    pub report: String,
    /// Its SSHSIG.
    pub signature: String,
}

impl<R> HostReport<R> {
    /// The end of a log, as much as a report carries.
    #[must_use]
    pub fn log(log: &str) -> String {
        let from = (log.len().saturating_sub(LOG)..=log.len()).find(|at| log.is_char_boundary(*at));
        from.and_then(|from| log.get(from..)).unwrap_or_default().to_owned()
    }
}

impl SignedReport {
    /// Reads a report that one of a host's keys has signed. That it names this host and its fleet is left to compare: who has a
    /// key can sign what it likes.
    ///
    /// # Errors
    /// [`Unsealed`].
    pub fn open<R: for<'de> Deserialize<'de>>(&self, keys: &[Key]) -> Result<HostReport<R>, Unsealed> {
        verify(REPORT_NAMESPACE, &self.report, &self.signature, |key| keys.contains(key).then_some(()))?;
        serde_json::from_str(&self.report).map_err(|error| Unsealed::Unknown(error.to_string()))
    }
}
