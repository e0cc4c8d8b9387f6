//! How and when a host updates.

use serde::{Deserialize, Serialize};

/// How a new system comes to a host, as `deployment.update.mode` of its configuration says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// An operator brings it.
    #[default]
    Push,
    /// The host's agent fetches it.
    Pull,
    /// Either.
    Both,
}

/// When a host takes up a release by itself, as `deployment.update` of its configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Policy {
    /// How long to wait between two polls where nothing is announced, in seconds.
    pub interval: u64,
    /// When it may be updated; at any time without one.
    pub windows: Vec<Window>,
    /// Whether it may be updated while it runs on battery.
    pub on_battery: bool,
    /// Whether it may fetch over a line that is paid by volume.
    pub on_metered: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self { interval: 900, windows: Vec::new(), on_battery: true, on_metered: true }
    }
}

/// A span of each week, by the host's local time. One that ends before it begins goes past midnight.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Window {
    /// On which days it begins, Monday is 0; on every day where there are none.
    #[serde(default)]
    pub days: Vec<u8>,
    /// When it begins, in minutes of the day.
    pub from: u16,
    /// When it ends, in minutes of the day.
    pub to: u16,
}
