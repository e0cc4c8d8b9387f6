//! `bosco secrets`.

use std::path::PathBuf;

use bosco_model::HostName;
use clap::{Args, Subcommand, ValueHint};

use super::Selection;

#[derive(Debug, Args)]
pub(crate) struct Secrets {
    #[command(subcommand)]
    pub(crate) command: SecretsCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// List which host can read which file, what it asks for, and who else can
    List {
        #[command(flatten)]
        selection: Selection,
        /// All that this host could read, value by value: what has to be changed if it is stolen
        #[arg(long, value_name = "HOST", value_parser = HostName::parse, conflicts_with_all = ["selectors", "on"])]
        host: Option<HostName>,
    },
    /// Find secrets that hosts ask for and can't read, and others who can
    Check,
    /// Encrypt each file to its hosts and operators, and to nobody else
    ///
    /// Writes them into a marked block of `.sops.yaml`, and has `sops` encrypt each file that is encrypted to others: with a
    /// new data key where somebody is taken out. Your own rules stay as they are.
    Rekey,
    /// Say that a key is a host's, by its fingerprint, where the hub alone says so
    ///
    /// Nothing is encrypted to a key that only the hub names for a host. Who has not let the host in from this machine
    /// compares the key with `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there. It is kept on this machine;
    /// `deployment.publicKeys` says it for all operators.
    Accept {
        /// The host
        #[arg(value_parser = HostName::parse)]
        host: HostName,
        /// The key's fingerprint: `SHA256:…`
        fingerprint: String,
    },
    /// Open a file with `sops`, once `.sops.yaml` says whom to encrypt it to
    Edit {
        /// The file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Print a secret of a host, with your own key
    Show {
        /// The host
        #[arg(value_parser = HostName::parse)]
        host: HostName,
        /// The secret, as the host's configuration names it
        name: String,
    },
}
