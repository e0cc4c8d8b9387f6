//! The always-on side on a host.
