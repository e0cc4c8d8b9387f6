//! The always-on side of bosco: one port, an SSH server of its own, and what hosts and operators reach through it.

pub mod sftp;
