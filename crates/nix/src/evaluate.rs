//! Evaluating a fleet: first which hosts there are, then each host for itself.

use bosco_model::{Condition, Declaration, Host, HostName};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::run;
use crate::{Error, LogLine, Nix, Source};

/// What says which hosts a flake declares.
const FLEET: &str = include_str!("../../../nix/fleet.nix");
/// What says how to deploy one host, and what it should run.
const EVALUATE: &str = include_str!("../../../nix/evaluate.nix");
/// The schema of `colmenaHive` that bosco knows (Colmena's `makeHive`).
const HIVE_SCHEMA: &str = "v0.5";

/// The form in which a flake declares its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// What Colmena's `makeHive` gives.
    #[serde(rename = "colmenaHive")]
    ColmenaHive,
    /// Plain NixOS systems.
    #[serde(rename = "nixosConfigurations")]
    NixosConfigurations,
}

/// Which hosts there are, before any of them is evaluated.
#[derive(Debug, Clone)]
pub struct Fleet {
    /// Where it is declared.
    pub source: Source,
    /// In which form.
    pub form: Form,
    /// All hosts, in the order of their names.
    pub hosts: Vec<HostName>,
    /// Whether `apply` may be called without a selector.
    pub allow_apply_all: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FleetAnswer {
    form: Option<Form>,
    schema: Option<String>,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    outputs: Vec<String>,
    #[serde(default)]
    allow_apply_all: bool,
}

#[derive(Deserialize)]
struct HostAnswer<T> {
    selected: Option<T>,
}

#[derive(Serialize)]
struct HostQuestion<'a> {
    form: Form,
    host: &'a HostName,
    condition: Option<&'a Condition>,
    system: bool,
}

impl Nix {
    /// Asks a flake which hosts it declares.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words; [`Error::Fleet`] where it declares none in a form that bosco reads.
    pub async fn fleet(
        &self,
        source: &Source,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Fleet, Error> {
        let answer: FleetAnswer = self.evaluate(source, FLEET, listen).await?;
        let Some(form) = answer.form else { return Err(no_hosts(&answer.outputs)) };
        if form == Form::ColmenaHive && answer.schema.as_deref() != Some(HIVE_SCHEMA) {
            let found = answer.schema.unwrap_or_else(|| "none".into());
            return Err(Error::Fleet {
                why: format!("`colmenaHive` has schema {found}, bosco reads {HIVE_SCHEMA}"),
                hint: "it is made by the flake's own `colmena` input: update that, or bosco".into(),
            });
        }
        let mut hosts = Vec::with_capacity(answer.hosts.len());
        for name in answer.hosts {
            let host = HostName::try_from(name).map_err(|error| Error::Fleet {
                why: format!("a host's name can't be used: {error}"),
                hint: "rename it; hosts are named by letters, digits, `_`, `-` and `.`".into(),
            });
            hosts.push(host?);
        }
        hosts.sort();
        Ok(Fleet { source: source.clone(), form, hosts, allow_apply_all: answer.allow_apply_all })
    }

    /// Evaluates one host: how to deploy it and what it should run, in one pass. `None` where `condition` does not hold
    /// for its tags; its toplevel is not evaluated then.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn declaration(
        &self,
        fleet: &Fleet,
        host: &HostName,
        condition: Option<&Condition>,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Option<Declaration>, Error> {
        self.evaluate_host(fleet, &HostQuestion { form: fleet.form, host, condition, system: true }, listen)
            .await
    }

    /// Evaluates how to deploy one host, and not what it should run.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn host(
        &self,
        fleet: &Fleet,
        host: &HostName,
        condition: Option<&Condition>,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Option<Host>, Error> {
        self.evaluate_host(fleet, &HostQuestion { form: fleet.form, host, condition, system: false }, listen)
            .await
    }

    async fn evaluate_host<T: DeserializeOwned>(
        &self,
        fleet: &Fleet,
        question: &HostQuestion<'_>,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Option<T>, Error> {
        let question = serde_json::to_string(question)
            .map_err(|error| Error::Answer { program: "nix eval".into(), why: error.to_string() })?;
        let expression = format!("({EVALUATE}) (builtins.fromJSON {})", nix_string(&question));
        let answer: HostAnswer<T> = self.evaluate(&fleet.source, &expression, listen).await?;
        Ok(answer.selected)
    }

    /// Applies an expression to all of a flake's outputs.
    async fn evaluate<T: DeserializeOwned>(
        &self,
        source: &Source,
        expression: &str,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<T, Error> {
        let mut command = self.nix("eval", &source.dir);
        // `.#.` is all outputs, without a search for packages. The evaluation cache would replay a failure without its
        // reason, and processes side by side would wait for its lock.
        command.args(["--json", "--no-eval-cache", ".#.", "--apply", expression]);
        let answer = run(command, Some(&source.dir), listen).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Error::Answer { program: "nix eval".into(), why: error.to_string() })
    }
}

fn no_hosts(outputs: &[String]) -> Error {
    let why = "the flake has neither `nixosConfigurations` nor `colmenaHive`".into();
    let hint = if outputs.iter().any(|output| output == "colmena") {
        "it has `colmena`: add `colmenaHive = colmena.lib.makeHive self.outputs.colmena;` beside it"
    } else {
        "bosco deploys what `nixosConfigurations` declares"
    };
    Error::Fleet { why, hint: hint.into() }
}

/// A text as a Nix string literal.
fn nix_string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '$') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_in_an_expression_stays_a_text() {
        assert_eq!(nix_string(r#"a"${b}\"#), r#""a\"\${b}\\""#);
    }

    #[test]
    fn a_raw_hive_is_told_what_is_missing() {
        assert!(no_hosts(&["colmena".into()]).hint().unwrap().contains("makeHive"));
    }
}
