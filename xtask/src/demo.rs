//! `cargo xtask demo`: what bosco does, on machines that are booted for it.

use std::io::{IsTerminal, stdin};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use testbed::fleet::{Fleet, lay_out};
use testbed::{Lab, LabSpec, Operator};

use crate::tools::{build, root};

const HOSTS: [&str; 3] = ["db", "web-1", "web-2"];

pub(crate) fn run(once: bool) -> Result<ExitCode> {
    testbed::require_root()?;
    build("testbed", "bosco-lab", false)?;
    let bosco = build("bosco", "bosco", false)?;
    let started = Instant::now();

    say("Three machines boot: systemd, sshd and Nix, each with a network of its own");
    let lab = Lab::up(&LabSpec::named(HOSTS))?;
    let operator = lab.operator();
    println!("{} after {:.1} s", HOSTS.join(", "), started.elapsed().as_secs_f64());

    say("The fleet: examples/, a flake with three nixosConfigurations");
    let fleet = lay_out(operator, &root().join("examples"), "fleet")?;
    let key = operator.ssh_key().with_extension("pub");
    fleet.write("operator.pub", &std::fs::read_to_string(&key).context("the lab's key can't be read")?)?;
    fleet.commit()?;
    bosco_says(operator, &bosco, &fleet, &["hosts"])?;

    say("Deploy it");
    bosco_says(operator, &bosco, &fleet, &["apply"])?;
    println!("$ ssh web-1 busybox wget -qO- localhost");
    print!("{}", page(&lab)?);

    say("Change the page, deploy again: what has not changed is left alone");
    let web = std::fs::read_to_string(fleet.path().join("web.nix"))?;
    fleet.write("web.nix", &web.replace("Hello from", "Greetings from"))?;
    fleet.commit()?;
    bosco_says(operator, &bosco, &fleet, &["apply"])?;
    println!("$ ssh web-1 busybox wget -qO- localhost");
    let page = page(&lab)?;
    print!("{page}");
    ensure!(page.contains("Greetings from web-1"), "web-1 serves the old page");

    if !once && stdin().is_terminal() {
        say("Look around");
        println!("the fleet is in {}", fleet.path().display());
        println!(
            "a shell in which `bosco` and `ssh -F $SSH_CONFIG_FILE web-1` work; leave it to end the demo"
        );
        let mut shell = operator.command("bash");
        shell.args(["--norc", "-i"]).current_dir(fleet.path()).env("PS1", "\\w$ ");
        let path = format!("{}:{}", bosco.parent().unwrap_or(Path::new("")).display(), path_of(&shell));
        shell.env("PATH", path).status().context("could not start a shell")?;
    }

    say("How they stand");
    bosco_says(operator, &bosco, &fleet, &["status"])?;
    lab.down()?;
    Ok(ExitCode::SUCCESS)
}

fn say(text: &str) {
    println!("\n── {text}\n");
}

/// What a visitor of web-1 sees. The site may need a moment longer than the activation.
fn page(lab: &Lab) -> Result<String> {
    lab.host("web-1")?.ssh_ok(
        "for try in 1 2 3 4 5 6 7 8 9 10; do busybox wget -qO- http://localhost/ && exit; sleep 0.2; done; exit 1",
    )
}

fn bosco_says(operator: &Operator, bosco: &Path, fleet: &Fleet<'_>, args: &[&str]) -> Result<()> {
    println!("$ bosco {}", args.join(" "));
    let status = operator
        .command(bosco)
        .args(args)
        .current_dir(fleet.path())
        .status()
        .context("could not run bosco")?;
    ensure!(status.success(), "`bosco {}` ended with {status}", args.join(" "));
    Ok(())
}

fn path_of(command: &Command) -> String {
    let set = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    set.map_or_else(
        || std::env::var("PATH").unwrap_or_default(),
        |value| value.to_string_lossy().into_owned(),
    )
}
