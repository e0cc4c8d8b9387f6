//! The helper: the part of bosco that runs on a host, as a program that needs nothing there but Nix and systemd.

use std::process::ExitCode;

use bosco_host::places::Places;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let places = Places::host();
    match arguments.split_first() {
        Some((first, rest)) if first == "helper" => bosco_host::carry::main(&places, rest),
        Some((first, rest)) if first == "local" => bosco_host::local::main(&places, rest).into(),
        _ => bosco_host::local::usage().into(),
    }
}
