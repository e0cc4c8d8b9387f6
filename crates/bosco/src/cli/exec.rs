//! What `exec` is asked with.

use bosco_model::Selector;
use bosco_wire::quote;
use clap::Args;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::selector;
use crate::error::{Error, Exit};

/// Where the command stands.
const BEHIND: &str = "the command stands behind `--`";

#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// Which hosts; `*` means all
    ///
    /// `web-*` by name, `@tag` by tag, `a,b` or `a b` either, `@web & !@canary` both, `!` not, parentheses group. Quote
    /// what means something to your shell.
    #[arg(value_name = "SELECTOR")]
    words: Vec<String>,
    /// The same, as Colmena has it
    #[arg(long, value_parser = Selector::parse, value_name = "SELECTOR")]
    on: Vec<Selector>,
    /// The command
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Exec {
    /// On which hosts, and what.
    pub(crate) fn what(&self) -> Result<(Selector, &[String]), Error> {
        let wrong = |what: &str| Error::new(Exit::Usage, what);
        if self.command.is_empty() {
            return Err(wrong("there is no command").hint(format!("{BEHIND}: `{}`", self.meant())));
        }
        if !self.on.is_empty() && !self.words.is_empty() {
            return Err(wrong("hosts stand either behind `exec` or behind `--on`"));
        }
        let selected =
            if self.on.is_empty() { selector(&self.words)? } else { Selector::any(self.on.clone()) };
        let selected = selected.ok_or_else(|| wrong("which hosts?").hint("`'*'` is all of them"))?;
        Ok((selected, &self.command))
    }

    /// What was meant, most likely, by who has left `--` out.
    fn meant(&self) -> String {
        let on = self.on.iter().map(|on| format!("--on {}", word(&on.to_string())));
        let mut words = self.words.iter().map(|each| word(each));
        let mut hosts: Vec<String> = on.collect();
        if hosts.is_empty() {
            hosts.push(words.next().unwrap_or_else(|| "SELECTOR".into()));
        }
        let command = Some(words.collect::<Vec<_>>().join(" ")).filter(|command| !command.is_empty());
        format!("bosco exec {} -- {}", hosts.join(" "), command.as_deref().unwrap_or("COMMAND"))
    }
}

/// A word as one types it for a shell: in quotes only where it needs them.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "-_./:@,=%+".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) { text.to_owned() } else { quote(text) }
}

/// Says of an option of the command's that was taken for one of `exec` what was meant.
pub(super) fn explained(mut error: clap::Error, arguments: &[String]) -> clap::Error {
    let is_exec = arguments.iter().any(|word| word == "exec") && !arguments.iter().any(|word| word == "--");
    if is_exec && error.kind() == ErrorKind::UnknownArgument {
        let hint = format!("{BEHIND}: bosco exec SELECTOR -- COMMAND");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![hint.into()]));
    }
    error
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn what(arguments: &[&str]) -> Result<(String, Vec<String>), String> {
        let words: Vec<String> = ["bosco", "exec"].iter().chain(arguments).map(ToString::to_string).collect();
        let cli = Cli::try_parse_from(&words).map_err(|error| explained(error, &words).to_string())?;
        let Command::Exec(exec) = cli.command else { unreachable!() };
        let of = |(selector, command): (Selector, &[String])| (selector.to_string(), command.to_vec());
        exec.what().map(of).map_err(|error| format!("{}; {}", error.message, error.hint.unwrap_or_default()))
    }

    #[test]
    fn hosts_stand_before_the_dashes_and_the_command_behind_them() {
        let uptime = || vec!["uptime".to_owned()];
        assert_eq!(what(&["web", "--", "uptime"]), Ok(("web".into(), uptime())));
        assert_eq!(what(&["--on", "web", "--", "uptime"]), Ok(("web".into(), uptime())));
        assert!(what(&["db", "--on", "web", "--", "uptime"]).unwrap_err().contains("either behind"));
        assert!(what(&["--", "uptime"]).unwrap_err().contains("which hosts?"));
    }

    #[test]
    fn who_leaves_the_dashes_out_is_told_where_they_stand() {
        for (arguments, meant) in [
            (&["web"][..], "`bosco exec web -- COMMAND`"),
            (&["@web", "df -h /"], "`bosco exec @web -- 'df -h /'`"),
            (&["*", "systemctl", "is-active", "nginx"], "`bosco exec '*' -- systemctl is-active nginx`"),
            (&["--on", "web", "uptime"], "`bosco exec --on web -- uptime`"),
            (&[], "`bosco exec SELECTOR -- COMMAND`"),
            (&["web", "ls", "-l"], "bosco exec SELECTOR -- COMMAND"),
        ] {
            let said = what(arguments).unwrap_err();
            assert!(said.contains("the command stands behind `--`") && said.contains(meant), "{said}");
            assert!(!said.contains("'-- -l'"), "{said}");
        }
    }
}
