//! `bosco-lab`: labs by hand, and the program that delays a lab's frames.

use std::process::ExitCode;

fn main() -> ExitCode {
    testbed::cli::main(std::env::args_os())
}
