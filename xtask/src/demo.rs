//! `cargo xtask demo`: what bosco does, on machines that are booted for it.

use std::io::{IsTerminal, stdin};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use testbed::fleet::{Fleet, create, lay_out};
use testbed::{Lab, LabSpec, Operator};

use crate::tools::{build, root};

const HOSTS: [&str; 5] = ["db", "hub", "laptop", "web-1", "web-2"];
/// The longest that the laptop may take to get anywhere.
const SETTLES: Duration = Duration::from_secs(120);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) fn run(once: bool) -> Result<ExitCode> {
    testbed::require_root()?;
    build("testbed", "bosco-lab", false)?;
    let bosco = build("bosco", "bosco", false)?;
    let started = Instant::now();

    say("Five machines boot: systemd, sshd and Nix, each with a network of its own");
    let lab = Lab::up(&LabSpec::named(HOSTS))?;
    println!("{} after {:.1} s", HOSTS.join(", "), started.elapsed().as_secs_f64());

    say("The fleet: examples/, a flake with five nixosConfigurations");
    let demo = Demo { lab: &lab, fleet: fleet(lab.operator(), &bosco)?, bosco };
    demo.edit("common.nix", "10.0.0.1", &lab.host("hub")?.address().to_string())?;
    demo.says(&["hosts"])?;

    say("Deploy it: bosco reaches each machine, and brings it what it should run");
    demo.says(&["apply"])?;
    println!("$ ssh web-1 busybox wget -qO- localhost");
    print!("{}", page(&lab)?);

    say("Change the page, deploy again: what has not changed is left alone");
    demo.edit("web.nix", "Hello from", "Greetings from")?;
    demo.says(&["apply"])?;
    println!("$ ssh web-1 busybox wget -qO- localhost");
    let page = page(&lab)?;
    print!("{page}");
    ensure!(page.contains("Greetings from web-1"), "web-1 serves the old page");

    demo.pull()?;

    if !once && stdin().is_terminal() {
        demo.shell()?;
    }
    say("How they stand");
    demo.says(&["status"])?;
    lab.down()?;
    Ok(ExitCode::SUCCESS)
}

/// `examples/`, with what is this operator's and this machine's own put in.
fn fleet<'a>(operator: &'a Operator, bosco: &Path) -> Result<Fleet<'a>> {
    let fleet = lay_out(operator, &root().join("examples"), "fleet")?;
    let key = std::fs::read_to_string(operator.ssh_key().with_extension("pub"));
    let key = key.context("the lab's key can't be read")?;
    fleet.write("operator.pub", &key)?;
    let own = create(operator, "checkout")?;
    own.add_bosco()?;
    let modules = format!("path:{}", own.path().join("bosco").display());
    let program = format!("path:{}", testbed::package(bosco)?.display());
    edit(&fleet, "flake.nix", "git+file:///src/bosco", &modules)?;
    edit(&fleet, "flake.nix", "path:/opt/bosco", &program)?;
    edit(&fleet, "bosco.toml", "ssh-ed25519 AAAA… of ada", key.trim())?;
    // The key that signs releases is found where it usually lies.
    let home = format!("mkdir -p ~/.ssh && ln -s {0} {0}.pub ~/.ssh/", operator.ssh_key().display());
    let made = operator.command("sh").args(["-c", &home]).status().context("could not run sh")?;
    ensure!(made.success(), "the operator has no ~/.ssh");
    fleet.commit()?;
    Ok(fleet)
}

/// Puts something else in the place of what a file of the fleet says. It has to say it.
fn edit(fleet: &Fleet<'_>, file: &str, from: &str, to: &str) -> Result<()> {
    let text = std::fs::read_to_string(fleet.path().join(file)).with_context(|| format!("no {file}"))?;
    ensure!(text.contains(from), "examples/{file} does not say `{from}`");
    fleet.write(file, &text.replace(from, to))
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

struct Demo<'a> {
    lab: &'a Lab,
    fleet: Fleet<'a>,
    bosco: PathBuf,
}

impl Demo<'_> {
    /// The half in which nobody reaches the machine.
    fn pull(&self) -> Result<()> {
        say("Now one that nobody can reach. The hub's key goes into bosco.toml, and the laptop is let in");
        let key = self.hears(&["ssh", "hub", "--", "runuser -u bosco-hub -- bosco hub key"])?;
        self.edit("bosco.toml", "# [hub]\n# address", "[hub]\naddress")?;
        self.edit(
            "bosco.toml",
            "# keys = [\"ssh-ed25519 AAAA… of the hub\"]",
            &format!("keys = [\"{key}\"]"),
        )?;
        self.says(&["apply", "--on", "hub"])?;
        self.says(&["enroll", "laptop"])?;
        let laptop = self.lab.host("laptop")?;
        laptop.behind_nat()?;
        laptop.at_keyboard("systemctl restart bosco-agent")?;
        println!("(the laptop goes home, behind a router)");

        say("Release the fleet: what every host should run, signed once. Push and pull are in one table");
        self.says(&["release"])?;
        self.until_up_to_date()?;
        self.says(&["status"])?;

        say("Change the laptop's greeting, release again: it hears of it, fetches it, and proves it");
        self.edit("hosts/laptop.nix", "Good morning", "Good evening")?;
        self.says(&["release"])?;
        self.until_up_to_date()?;
        self.says(&["log", "laptop"])?;

        say("Log in to it all the same: through the hub, and the hub can't read along");
        self.says(&["ssh", "laptop", "--", "cat /etc/greeting"])?;
        let greeting = laptop.at_keyboard("cat /etc/greeting")?;
        ensure!(greeting.contains("Good evening"), "the laptop says: {greeting}");
        Ok(())
    }

    /// Waits until the laptop runs what the newest release says.
    fn until_up_to_date(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            let said = self.hears(&["status", "--on", "laptop", "--json"])?;
            let status: Value = serde_json::from_str(&said).context("`bosco status --json` is no JSON")?;
            if status[0]["state"] == "up-to-date" {
                println!("(the laptop is there after {:.1} s)\n", started.elapsed().as_secs_f64());
                return Ok(());
            }
            if started.elapsed() > SETTLES {
                let log = self.lab.host("laptop")?.at_keyboard("journalctl --no-pager -n 30 -u bosco-agent");
                bail!("the laptop does not get there: {said}\n{}", log.unwrap_or_default());
            }
            std::thread::sleep(LOOK);
        }
    }

    fn edit(&self, file: &str, from: &str, to: &str) -> Result<()> {
        edit(&self.fleet, file, from, to)?;
        self.fleet.commit()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.lab.operator().command(&self.bosco);
        command.args(args).current_dir(self.fleet.path());
        command
    }

    /// Runs bosco where everybody sees it.
    fn says(&self, args: &[&str]) -> Result<()> {
        println!("$ bosco {}", args.join(" "));
        let status = self.command(args).status().context("could not run bosco")?;
        ensure!(status.success(), "`bosco {}` ended with {status}", args.join(" "));
        Ok(())
    }

    /// Runs bosco for its answer.
    fn hears(&self, args: &[&str]) -> Result<String> {
        let mut command = self.command(args);
        let output = command.stdin(Stdio::null()).output().context("could not run bosco")?;
        let why = String::from_utf8_lossy(&output.stderr);
        // 5: not every host could be reached, which the answer says too.
        let is_answer = matches!(output.status.code(), Some(0 | 5));
        ensure!(is_answer, "`bosco {}` ended with {}:\n{why}", args.join(" "), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Lets who watches play.
    fn shell(&self) -> Result<()> {
        say("Look around");
        println!("the fleet is in {}", self.fleet.path().display());
        println!(
            "a shell in which `bosco` and `ssh -F $SSH_CONFIG_FILE web-1` work; leave it to end the demo"
        );
        let mut shell = self.lab.operator().command("bash");
        shell.args(["--norc", "-i"]).current_dir(self.fleet.path()).env("PS1", "\\w$ ");
        let bin = self.bosco.parent().unwrap_or(Path::new(""));
        let path = format!("{}:{}", bin.display(), path_of(&shell));
        shell.env("PATH", path).status().context("could not start a shell").map(drop)
    }
}

fn path_of(command: &Command) -> String {
    let set = command.get_envs().find(|(name, _)| *name == "PATH").and_then(|(_, value)| value);
    set.map_or_else(
        || std::env::var("PATH").unwrap_or_default(),
        |value| value.to_string_lossy().into_owned(),
    )
}
