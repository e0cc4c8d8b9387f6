//! The command line: what can be asked, in which words. Help, completions and man pages come from here.

mod apply;
mod exec;
mod secrets;

use std::path::PathBuf;

use bosco_model::{Goal, HostName, Selector};
use bosco_nix::Settings;
use clap::builder::PossibleValue;
use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;

pub(crate) use self::apply::{Apply, ApplyLocal, Habits};
pub(crate) use self::exec::Exec;
pub(crate) use self::secrets::{Secrets, SecretsCommand};
use crate::error::{Error, Exit};

/// What each exit code means; part of every help and man page.
const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    bosco could not work at all: no Nix, no ssh, an answer of theirs that can't be read
  2    a mistake in the question: arguments, a selector without match, no fleet here
  3    the fleet, or a host of it, could not be evaluated or built; a check has found something
  4    a host could not be deployed, refused, or did not let bosco in; a command failed on it; you said no
  5    a host could not be reached; all others are done
  130  interrupted";

/// Keeps a fleet of NixOS machines at what one git repository says.
///
/// The fleet is the `flake.nix`, `hive.nix` or tree of `hosts/NAME` in this directory, or else the nearest one above it; a
/// flake declares `colmenaHive`, `colmena`, `deploy` (deploy-rs) or `nixosConfigurations`. Hosts are reached with your own
/// `ssh`; nothing but Nix and sshd has to be on them.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Answer in JSON: one document, or one event per line where it takes its time
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to use colours; `auto` also honours NO_COLOR
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Show what builders say
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,
    /// Where something does not evaluate, show all of Nix's trace
    #[arg(long, global = true)]
    pub(crate) show_trace: bool,
    /// Let evaluations read what is not of the flake: the environment, files of this machine
    #[arg(long, global = true)]
    pub(crate) impure: bool,
    /// Set something of Nix, as `--option` does it there
    #[arg(long, global = true, num_args = 2, value_names = ["NAME", "VALUE"])]
    nix_option: Vec<String>,
}

impl Cli {
    /// How Nix is to work.
    pub(crate) fn settings(&self) -> Settings {
        let options = self.nix_option.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone()));
        Settings { trace: self.show_trace, impure: self.impure, options: options.collect() }
    }
}

/// Reads the command line; where that is wrong, says so and ends.
pub(crate) fn read() -> Cli {
    let arguments: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    Cli::try_parse().unwrap_or_else(|error| exec::explained(error, &arguments).exit())
}

/// Where the fleet is.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// The flake with the fleet, by any reference that Nix knows; without it, the nearest one here
    #[arg(long, global = true, value_name = "REF", conflicts_with = "hive", value_hint = ValueHint::DirPath)]
    pub(crate) flake: Option<String>,
    /// The file with the fleet, without flakes, or the directory where its `hive.nix` is
    #[arg(long, global = true, alias = "config", short_alias = 'f', value_name = "FILE", value_hint = ValueHint::AnyPath)]
    pub(crate) hive: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring hosts to what the fleet says
    ///
    /// Evaluates and builds the selected hosts here, copies what each lacks, and activates it. Nothing is delivered if
    /// one of them fails to evaluate, or one that answers fails to build. A host that already runs what it should is left
    /// alone; one that can't be reached is skipped and said so.
    #[command(after_help = EXIT_CODES)]
    Apply(Apply),
    /// Build hosts here, touch none
    ///
    /// The same as `apply --goal build`.
    #[command(after_help = EXIT_CODES)]
    Build {
        #[command(flatten)]
        selection: Selection,
        /// Let a link to what was built stay for each host, in .gcroots beside the fleet
        #[arg(long)]
        keep_result: bool,
        #[command(flatten)]
        habits: Habits,
    },
    /// Bring this machine to what the fleet says, without ssh
    ///
    /// The machine is the host of its own name, and `deployment.allowLocalDeployment` of it has to be set. It is activated
    /// like any other host; what waits for a fresh connection gets one of its own.
    #[command(after_help = EXIT_CODES)]
    ApplyLocal(ApplyLocal),
    /// Write the files of a new fleet, or those that the one here lacks
    ///
    /// In a folder without a fleet a `flake.nix` with one host, and a `bosco.toml`; in a fleet what it lacks of that. Nothing
    /// is overwritten.
    #[command(after_help = EXIT_CODES)]
    Init,
    /// Bring hosts their secrets, and nothing else: the same as `apply --goal keys`, by Colmena's name
    #[command(after_help = EXIT_CODES, hide = true)]
    UploadKeys {
        #[command(flatten)]
        selection: Selection,
        #[command(flatten)]
        habits: Habits,
    },
    /// List the hosts that the fleet declares
    #[command(after_help = EXIT_CODES)]
    Hosts(Selection),
    /// Compare what hosts run with what they should run
    ///
    /// Where the fleet has a hub, it says how the hosts stand that it knows; all others are asked over SSH.
    #[command(after_help = EXIT_CODES)]
    Status {
        #[command(flatten)]
        selection: Selection,
        /// Stay, and show each change that the hub hears of; Ctrl-C ends it
        #[arg(long, short)]
        watch: bool,
    },
    /// Publish at the hub what every host should run
    ///
    /// Evaluates and builds all hosts here, signs once, sends the hub what it lacks. Hosts that pull fetch it from there. If
    /// one host fails, or nothing has changed, there is no release. The hosts of a tree are evaluated here, and build themselves.
    #[command(after_help = EXIT_CODES)]
    Release(Release),
    /// List the releases that the hub has
    #[command(after_help = EXIT_CODES)]
    Releases,
    /// Say what would change on hosts, or what two releases differ in
    ///
    /// Without numbers, what `apply` would change on each host: packages, units, and whether it has to reboot. It evaluates
    /// and builds, asks the hosts what they run, and changes nothing. With the number of a release, or of two, what the one
    /// and the other (the newest, without it) differ in. Hosts that have the same to say are shown once.
    #[command(after_help = EXIT_CODES, override_usage = "bosco diff [OPTIONS] [SELECTOR]...\n       bosco diff [OPTIONS] <A> [B]")]
    Diff(Diff),
    /// Show what came of a host's activations, as it has reported to the hub
    #[command(after_help = EXIT_CODES)]
    Log {
        /// The host
        #[arg(value_parser = HostName::parse)]
        host: HostName,
        /// How many, the newest first
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
        last: u32,
    },
    /// Let hosts stay as they are, whatever is released
    #[command(after_help = EXIT_CODES, override_usage = "bosco hold [OPTIONS] <SELECTOR>...")]
    Hold {
        #[command(flatten)]
        selection: Needed,
        /// Why, for others to read
        #[arg(long, value_name = "TEXT", default_value = "")]
        why: String,
    },
    /// Let hosts go on that were told to stay, or were pushed to
    #[command(after_help = EXIT_CODES, override_usage = "bosco resume [OPTIONS] <SELECTOR>...")]
    Resume {
        #[command(flatten)]
        selection: Needed,
    },
    /// Have hosts update now, whatever their time, line and last try
    #[command(after_help = EXIT_CODES, override_usage = "bosco trigger [OPTIONS] <SELECTOR>...")]
    Trigger {
        #[command(flatten)]
        selection: Needed,
    },
    /// Let a host pull from the hub
    ///
    /// Logs in to it as the fleet says how, reads its public key, writes there whom it trusts, and has the hub let that key
    /// in. The same again sets it anew: after a reinstallation, or where its trust is lost.
    #[command(after_help = EXIT_CODES)]
    Enroll {
        /// The host
        #[arg(value_parser = HostName::parse)]
        host: HostName,
        /// The public key that it is going to have: both are let in until it is enrolled again
        #[arg(long, value_name = "KEYFILE", value_hint = ValueHint::FilePath)]
        next: Option<PathBuf>,
    },
    /// Let in a machine that shows a code; without one, list who asks
    #[command(after_help = EXIT_CODES)]
    Approve {
        /// All of what the machine shows
        #[arg(value_name = "CODE")]
        code: Option<String>,
    },
    /// Let a host in no more: it has left the fleet, or was stolen
    #[command(after_help = EXIT_CODES)]
    Forget {
        /// The host
        #[arg(value_parser = HostName::parse)]
        host: HostName,
    },
    /// Say who can read which secret, and keep it in order
    #[command(after_help = EXIT_CODES)]
    Secrets(Secrets),
    /// Find what is wrong with the fleet before anybody deploys it
    ///
    /// Every host evaluates, `bosco.toml` is valid, Nix files are formatted, secrets are encrypted to those who are to read
    /// them, and none stands in clear in the files or in what is built. It builds nothing and reaches no host; made for CI
    /// and for git's hooks.
    #[command(after_help = EXIT_CODES)]
    Check {
        /// Format the Nix files, and encrypt secrets to whom they should be, before looking
        #[arg(long)]
        fix: bool,
    },
    /// List the systems that are still on hosts
    #[command(after_help = EXIT_CODES)]
    Generations(Selection),
    /// Bring hosts back to an older system that they still have
    ///
    /// The generation before, or the one of a number. It is activated like any other system: what is there now comes back
    /// where the older one does not hold either. What its services have migrated stays migrated.
    #[command(after_help = EXIT_CODES, override_usage = "bosco rollback [OPTIONS] <SELECTOR>...")]
    Rollback {
        #[command(flatten)]
        selection: Needed,
        /// The number of the generation, as `bosco generations` lists it
        #[arg(long, value_name = "N")]
        to: Option<u32>,
        /// Another profile than the system's, as deploy-rs has them: its name, or USER/NAME
        #[arg(long, value_name = "NAME")]
        profile: Option<String>,
    },
    /// Reboot hosts, and wait until they are back with what they boot by default
    #[command(after_help = EXIT_CODES, override_usage = "bosco reboot [OPTIONS] <SELECTOR>...")]
    Reboot {
        #[command(flatten)]
        selection: Needed,
        /// Only those whose kernel, initrd or system waits for it
        #[arg(long)]
        if_needed: bool,
    },
    /// On a host: keep it at what its hub's releases say
    ///
    /// It waits for releases, takes those that whom it trusts has signed, fetches and activates them, and reports. A host
    /// is let in once, by `bosco agent join`.
    #[command(after_help = EXIT_CODES)]
    Agent(Agent),
    /// At a host's own console: how its activations stand, going back, taking up what was interrupted
    ///
    /// `bosco local status`, `bosco local rollback [--to N]`, `bosco local resume`. On a host without bosco the same is
    /// `/nix/var/nix/gcroots/bosco/helper/bin/bosco local …`.
    #[command(disable_help_flag = true)]
    Local {
        /// `status`, `rollback` or `resume`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WHAT")]
        arguments: Vec<String>,
    },
    /// Run a command on hosts, as root
    ///
    /// One word is a command line for the host's shell, several are a program with its arguments. What the hosts said is
    /// shown at the end, once where many said the same. For example: `bosco exec @web -- systemctl is-active nginx`, or
    /// `bosco exec '*' -- 'df -h / | tail -1'`.
    #[command(
        after_help = EXIT_CODES,
        override_usage = "bosco exec [OPTIONS] <SELECTOR>... -- <COMMAND>..."
    )]
    Exec(Exec),
    /// Log in to a host, or run a command there
    ///
    /// This is your own `ssh`, with the address, user, port and options that the fleet declares; it ends as `ssh` does.
    #[command(override_usage = "bosco ssh [OPTIONS] <HOST> [-- <COMMAND>...]")]
    Ssh {
        /// The host
        #[arg(value_parser = HostName::parse)]
        host: HostName,
        /// A command, as for `ssh`; a login shell without one
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<String>,
    },
    /// Be the fleet's hub: hosts fetch what they should run from it, operators see every host through it
    ///
    /// It needs no user of the system and no rights but those on its folder; one port is all that it listens at.
    #[command(after_help = EXIT_CODES)]
    Hub(Hub),
    /// Ask the fleet's configuration for something
    ///
    /// `nodes`, `lib` and `pkgs` are in scope, and a function gets them as its argument. For example:
    /// `bosco eval 'lib.mapAttrs (_: node: node.config.networking.hostName) nodes'`, or as with Colmena
    /// `bosco eval '{ nodes, ... }: nodes.web.config.networking.hostName'`. The answer is in Nix's notation, with
    /// `--json` in JSON.
    #[command(after_help = EXIT_CODES)]
    Eval {
        /// A Nix expression, or a file with one, which may read what lies beside it; `-` reads it from the standard input
        #[arg(value_name = "EXPR", required_unless_present = "of")]
        expression: Option<String>,
        /// The same, as Colmena has it
        #[arg(short = 'E', hide = true, value_name = "EXPR", conflicts_with = "expression")]
        of: Option<String>,
    },
    /// Look around in the fleet's configuration, with `nodes`, `lib` and `pkgs` in scope
    #[command(after_help = EXIT_CODES)]
    Repl,
    /// Print completions for a shell
    ///
    /// For example: `bosco completions fish > ~/.config/fish/completions/bosco.fish`
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages into a directory
    Man {
        /// Where to; it is made if it is not there
        #[arg(value_hint = ValueHint::DirPath)]
        directory: PathBuf,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Hub {
    #[command(subcommand)]
    pub(crate) command: Option<HubCommand>,
    /// The hub's folder; it is made if it is not there
    #[arg(long, global = true, default_value = "/var/lib/bosco-hub", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) state: PathBuf,
    /// Where to listen
    #[arg(long, default_value = "[::]:2222", value_name = "ADDRESS:PORT")]
    pub(crate) listen: String,
    /// The fleet's `bosco.toml`; it is read again on SIGHUP
    #[arg(long, default_value = "bosco.toml", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) fleet: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum HubCommand {
    /// Print the hub's public key, as `bosco.toml` has it; it is made if there is none
    Key,
}

#[derive(Debug, Args)]
pub(crate) struct Release {
    /// Sign with this private key, or with the public half of one that your agent has
    ///
    /// Without it, with the first key of the operators in bosco.toml that your agent has, or that lies in ~/.ssh.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) sign_with: Option<PathBuf>,
    /// After how many days a host that has heard of nothing newer raises the alarm
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(crate) expires: u32,
    /// Say what would change; sign and publish nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Selection {
    /// Which hosts; all without it
    ///
    /// `web-*` by name, `@tag` by tag, `a,b` or `a b` either, `@web & !@canary` both, `!` not, parentheses group. Quote
    /// what means something to your shell.
    #[arg(value_parser = Selector::parse, value_name = "SELECTOR")]
    selectors: Vec<Selector>,
    /// The same, as Colmena has it
    #[arg(long, value_parser = Selector::parse, value_name = "SELECTOR", conflicts_with = "selectors")]
    on: Vec<Selector>,
}

#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// Which hosts, all without it; or the numbers of one or two releases
    #[arg(value_name = "SELECTOR")]
    what: Vec<String>,
    /// Which hosts, also such whose name is a number
    #[arg(long, value_parser = Selector::parse, value_name = "SELECTOR", conflicts_with = "what")]
    on: Vec<Selector>,
}

impl Diff {
    /// The two releases that were asked for; `None` where it is about hosts.
    pub(crate) fn releases(&self) -> Result<Option<(u64, Option<u64>)>, Error> {
        let numbers: Vec<u64> = self.what.iter().map_while(|word| word.parse().ok()).collect();
        match (numbers.as_slice(), self.what.len()) {
            ([], _) => Ok(None),
            ([from], 1) => Ok(Some((*from, None))),
            ([from, to], 2) => Ok(Some((*from, Some(*to)))),
            _ => Err(Error::new(Exit::Usage, "one or two releases are compared, and not with hosts")
                .hint("a host whose name is a number is meant by `--on`")),
        }
    }

    /// The hosts that were asked for; all without one.
    pub(crate) fn selector(&self) -> Result<Option<Selector>, Error> {
        let words = selector(&self.what)?;
        Ok(Selector::any(words.into_iter().chain(self.on.iter().cloned()).collect()))
    }
}

/// What some words select together; `None` without one.
fn selector(words: &[String]) -> Result<Option<Selector>, Error> {
    let selectors = words.iter().map(|word| {
        Selector::parse(word)
            .map_err(|error| Error::new(Exit::Usage, format!("`{word}` is no selector: {error}")))
    });
    Ok(Selector::any(selectors.collect::<Result<_, _>>()?))
}

/// As [`Selection`], for what is never done to all hosts by leaving a word out.
#[derive(Debug, Args)]
#[group(id = "needed", required = true, multiple = true)]
pub(crate) struct Needed {
    /// Which hosts; `*` means all
    #[arg(value_parser = Selector::parse, value_name = "SELECTOR")]
    selectors: Vec<Selector>,
    /// The same, as Colmena has it
    #[arg(long, value_parser = Selector::parse, value_name = "SELECTOR", conflicts_with = "selectors")]
    on: Vec<Selector>,
}

impl Needed {
    /// The hosts that were asked for.
    pub(crate) fn selector(&self) -> Option<Selector> {
        Selector::any([self.selectors.as_slice(), &self.on].concat())
    }
}

impl Selection {
    /// The hosts that were asked for; all without one.
    pub(crate) fn selector(&self) -> Option<Selector> {
        Selector::any([self.selectors.as_slice(), &self.on].concat())
    }
}

/// What an agent is started with.
#[derive(Debug, Args)]
pub(crate) struct Agent {
    #[command(subcommand)]
    pub(crate) verb: Option<AgentVerb>,
    /// Take one turn and end, as for a timer
    #[arg(long)]
    pub(crate) once: bool,
    /// Where it keeps what it must not forget
    #[arg(long, global = true, value_name = "DIR", default_value = "/nix/var/bosco", value_hint = ValueHint::DirPath)]
    pub(crate) state: PathBuf,
    /// The host's own key
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/ssh/ssh_host_ed25519_key", value_hint = ValueHint::FilePath)]
    pub(crate) identity: PathBuf,
    /// What the host is called in the fleet; the machine's own name without it
    #[arg(long, global = true, value_name = "NAME", value_parser = HostName::parse)]
    pub(crate) host: Option<HostName>,
    /// The helper, a program or the folder with its `bin/bosco`; the one that came with this program without it
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub(crate) helper: Option<PathBuf>,
    /// The port of its page, on this machine only
    #[arg(long, value_name = "PORT", default_value_t = 9999)]
    pub(crate) page_port: u16,
    /// Serve no page
    #[arg(long)]
    pub(crate) no_page: bool,
}

/// What an agent does besides.
#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// Ask a hub to let this machine in
    ///
    /// Shows a code, and waits until an operator has approved it at the hub. The code proves both sides to each other.
    Join {
        /// The hub
        #[arg(long, value_name = "HOST:PORT")]
        hub: String,
        /// Its key, where it is known here already
        #[arg(long, value_name = "KEY")]
        hub_key: Option<String>,
    },
}

/// When output is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

impl Color {
    /// Makes it so for the whole process.
    pub(crate) fn write_global(self) {
        match self {
            Self::Auto => anstream::ColorChoice::Auto,
            Self::Always => anstream::ColorChoice::Always,
            Self::Never => anstream::ColorChoice::Never,
        }
        .write_global();
    }
}

/// A goal, as an argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GoalArg(pub(crate) Goal);

impl ValueEnum for GoalArg {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [GoalArg; 7] = {
            let [a, b, c, d, e, f, g] = Goal::ALL;
            [GoalArg(a), GoalArg(b), GoalArg(c), GoalArg(d), GoalArg(e), GoalArg(f), GoalArg(g)]
        };
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self.0 {
            Goal::Build => "build here, touch no host",
            Goal::Push => "build and copy, activate nothing",
            Goal::Keys => "bring its secrets to the system that runs",
            Goal::DryActivate => "say what an activation would do",
            Goal::Test => "run it until the next boot",
            Goal::Boot => "run it from the next boot on",
            Goal::Switch => "run it now and at every boot",
        };
        Some(PossibleValue::new(self.0.word()).help(help))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
