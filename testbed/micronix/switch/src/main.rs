//! `switch-to-configuration` of micronix: makes a running machine what a toplevel says.
//!
//! It keeps to what NixOS' own does: the order, the exit codes, the rules for units, the files under /run/nixos and
//! the words that it prints. What is to be done is decided in `plan`, from values alone; `switch` does it.
//!
//! Never: anything that NixOS' own does not do. A test that passes here must mean something on NixOS.

mod action;
mod fstab;
mod lists;
mod plan;
mod say;
mod switch;
mod systemd;
mod unit_file;
mod units;
mod user;

use action::Action;
use say::say;
use std::process::ExitCode;

/// Set for the part that runs as a user, by the part that runs as root.
const PARENT_EXE: &str = "__NIXOS_SWITCH_TO_CONFIGURATION_PARENT_EXE";

fn main() -> ExitCode {
    let mut args = std::env::args();
    let argv0 = args.next().unwrap_or_default();
    let name = argv0.rsplit('/').next().unwrap_or("switch-to-configuration");
    let result = if let Ok(parent) = std::env::var(PARENT_EXE) {
        user::run(&parent).map(|()| 0)
    } else {
        match args.next().as_deref().and_then(Action::parse) {
            None => {
                say(&Action::usage(name));
                Ok(1)
            }
            Some(_) if !rustix::process::geteuid().is_root() => {
                Err(anyhow::anyhow!("{name} must be run as the root user"))
            }
            Some(action) => switch::run(action),
        }
    };
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("Error: {error:?}"));
            ExitCode::FAILURE
        }
    }
}
