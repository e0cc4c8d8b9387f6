//! Evaluating a fleet: first which hosts there are, then each host for itself.

use std::path::{Path, PathBuf};

use bosco_model::{Condition, Declaration, Host, HostName, Target};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::run;
use crate::message;
use crate::source::Place;
use crate::trees::{self, Trees};
use crate::{Error, LogLine, Nix, Source};

/// What makes the same of each form that a fleet comes in.
const SOURCE: &str = include_str!("../../../nix/source.nix");
/// What evaluates a hive that is as its author wrote it.
const HIVE: &str = include_str!("../../../nix/hive.nix");
/// What reads deploy-rs's nodes.
const DEPLOY: &str = include_str!("../../../nix/deploy.nix");
/// What makes a host of its directory of a tree.
pub(crate) const TREE: &str = include_str!("../../../nix/tree.nix");
/// The modules that it needs, by the names that it knows them by.
const MODULES: [(&str, &str); 8] = [
    ("deployment", include_str!("../../../nix/modules/deployment.nix")),
    ("activation", include_str!("../../../nix/modules/activation.nix")),
    ("host", include_str!("../../../nix/modules/host.nix")),
    ("secrets", include_str!("../../../nix/modules/secrets.nix")),
    ("agent", include_str!("../../../nix/modules/agent.nix")),
    ("hub", include_str!("../../../nix/modules/hub.nix")),
    ("colmena", include_str!("../../../nix/modules/colmena.nix")),
    ("meta", include_str!("../../../nix/modules/meta.nix")),
];
/// What says which hosts a source declares.
const FLEET: &str = include_str!("../../../nix/fleet.nix");
/// What says how to deploy one host, and what it should run.
const EVALUATE: &str = include_str!("../../../nix/evaluate.nix");
/// What evaluates an expression of the operator's.
const EVAL: &str = include_str!("../../../nix/eval.nix");
/// The schema of `colmenaHive` that bosco knows (Colmena's `makeHive`).
const HIVE_SCHEMA: &str = "v0.5";

/// The form in which a source declares its hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    /// What Colmena's `makeHive` gives.
    #[serde(rename = "colmenaHive")]
    ColmenaHive,
    /// A hive in a flake, as its author wrote it.
    #[serde(rename = "colmena")]
    Colmena,
    /// A hive in a file, without flakes.
    #[serde(rename = "hive.nix")]
    Hive,
    /// deploy-rs's nodes.
    #[serde(rename = "deploy")]
    Deploy,
    /// Plain NixOS systems.
    #[serde(rename = "nixosConfigurations")]
    NixosConfigurations,
    /// A directory for each host, from which it can build itself.
    #[serde(rename = "tree")]
    Tree,
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
    /// What the hosts of a tree build themselves from.
    pub trees: Trees,
    /// Who builds, where that is not for Nix's own settings to say.
    pub builders: Option<Builders>,
}

/// Who builds a fleet's systems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Builders {
    /// The machines in this file, in the format of Nix's `builders`, beside this one.
    File(String),
    /// This machine and no other, not even this one.
    Only {
        /// How it is reached.
        target: Target,
        /// Nix's name of its kind of machine.
        system: String,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FleetAnswer {
    form: Option<Form>,
    schema: Option<String>,
    machines_file: Option<String>,
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
    #[serde(default)]
    tags: Vec<String>,
}

/// An expression of the operator's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Expression {
    /// In so many words.
    Text(String),
    /// In a file, by an absolute path.
    File(PathBuf),
}

/// How a source is asked.
#[derive(Debug, Clone, Copy)]
struct How {
    /// Whether the answer is JSON.
    json: bool,
    /// Whether what is not of the source may be read.
    impure: bool,
}

/// What Nix says of a flake.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resolved_url: String,
}

/// What came of evaluating a host that a selector may mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evaluated<T> {
    /// It is selected.
    Selected(T),
    /// It is not: these are its tags.
    Tagged(Vec<String>),
}

#[derive(Serialize)]
struct HostQuestion<'a> {
    host: &'a HostName,
    condition: Option<&'a Condition>,
    system: bool,
    operator: String,
}

impl Nix {
    /// Asks a source which hosts it declares.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words; [`Error::Fleet`] where it declares none in a form that bosco reads.
    pub async fn fleet(
        &self,
        source: &Source,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Fleet, Error> {
        let trees = self.trees(source).await?;
        let answer: FleetAnswer = self.evaluate(source, &trees, FLEET, listen).await?;
        let Some(form) = answer.form else {
            return Err(no_hosts(&answer.outputs, source.hive_beside().as_deref()));
        };
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
        Ok(Fleet {
            source: source.clone(),
            form,
            hosts,
            allow_apply_all: answer.allow_apply_all,
            builders: answer.machines_file.map(Builders::File),
            trees,
        })
    }

    /// Evaluates one host: how to deploy it and what it should run, in one pass. Where `condition` does not hold for its
    /// tags, its toplevel is not evaluated.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn declaration(
        &self,
        fleet: &Fleet,
        host: &HostName,
        condition: Option<&Condition>,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Evaluated<Declaration>, Error> {
        self.evaluate_host(
            fleet,
            &HostQuestion { host, condition, system: true, operator: operator() },
            listen,
        )
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
    ) -> Result<Evaluated<Host>, Error> {
        self.evaluate_host(
            fleet,
            &HostQuestion { host, condition, system: false, operator: operator() },
            listen,
        )
        .await
    }

    async fn evaluate_host<T: DeserializeOwned>(
        &self,
        fleet: &Fleet,
        question: &HostQuestion<'_>,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Evaluated<T>, Error> {
        fleet.tree(question.host).transpose()?;
        let expression = Self::question(EVALUATE, question)?;
        let answer: HostAnswer<T> = self.evaluate(&fleet.source, &fleet.trees, &expression, listen).await?;
        Ok(answer.selected.map_or(Evaluated::Tagged(answer.tags), Evaluated::Selected))
    }

    /// A function of ours with what it is asked: what is left is a function of the source.
    pub(crate) fn question(function: &str, question: &impl Serialize) -> Result<String, Error> {
        let question = serde_json::to_string(question)
            .map_err(|error| Error::Answer { program: "nix eval".into(), why: error.to_string() })?;
        Ok(format!("({function}) (builtins.fromJSON {})", nix_string(&question)))
    }

    /// Evaluates an expression with `nodes`, `lib` and `pkgs` of a source in scope, and gives its value in Nix's own
    /// notation, or as JSON.
    ///
    /// # Errors
    /// [`Error::Failed`] with Nix's own words.
    pub async fn eval(
        &self,
        source: &Source,
        expression: &Expression,
        as_json: bool,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<String, Error> {
        let question = Self::question(EVAL, expression)?;
        let trees = self.trees(source).await?;
        // Nothing but the flake can be read otherwise.
        let how = How { json: as_json, impure: matches!(expression, Expression::File(_)) };
        let answer = self.ask(source, &trees, &question, how, listen).await.map_err(|error| match error {
            Error::Failed { message, log } => {
                Error::Failed { message: message::with_place_in_expression(&message), log }
            }
            other => other,
        })?;
        Ok(String::from_utf8_lossy(&answer).trim_end().to_owned())
    }

    /// A `nix repl` with `nodes`, `lib` and `pkgs` of a source in scope.
    ///
    /// # Errors
    /// Where Nix can't be told of the place.
    pub async fn repl(&self, source: &Source) -> Result<std::process::Command, Error> {
        let (kind, value) = match source.place() {
            Place::Flake => ("flake", self.flake(source, ".").await?),
            Place::Reference(reference) => ("flake", self.flake(source, reference).await?),
            Place::Hive(file) => ("hive", nix_path(file)?),
            Place::Tree => ("tree", trees::value(&self.trees(source).await?)),
        };
        let mut command = self.nix("repl", source.working_directory());
        command.args(["--impure", "--expr", &format!("({} ({value})).scope", reader(kind))]);
        Ok(command.into_std())
    }

    /// An expression for the flake that a reference means where all else is evaluated. `getFlake` alone would take a directory
    /// for all that lies in it, what git does not know as well, and put it into the store where anybody can read it.
    async fn flake(&self, source: &Source, reference: &str) -> Result<String, Error> {
        let mut command = self.nix("flake", source.working_directory());
        command.args(["metadata", "--json", "--no-write-lock-file", reference]);
        let answer = run(command, source.copied(), &mut |_| {}).await?;
        let Metadata { resolved_url } = serde_json::from_slice(&answer).map_err(|error| Error::Answer {
            program: "nix flake metadata".into(),
            why: error.to_string(),
        })?;
        Ok(format!("builtins.getFlake {}", nix_string(&resolved_url)))
    }

    /// Applies a function to what a source declares.
    pub(crate) async fn evaluate<T: DeserializeOwned>(
        &self,
        source: &Source,
        trees: &Trees,
        function: &str,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<T, Error> {
        let answer = self.ask(source, trees, function, How { json: true, impure: false }, listen).await?;
        serde_json::from_slice(&answer)
            .map_err(|error| Error::Answer { program: "nix eval".into(), why: error.to_string() })
    }

    async fn ask(
        &self,
        source: &Source,
        trees: &Trees,
        function: &str,
        how: How,
        listen: &mut (dyn FnMut(LogLine) + Send),
    ) -> Result<Vec<u8>, Error> {
        let mut command = self.nix("eval", source.working_directory());
        if how.json {
            command.arg("--json");
        }
        // `REF#.` is all outputs, without a search for packages. The evaluation cache would replay a failure without its
        // reason, and processes side by side would wait for its lock.
        let outputs = |reference: &str| {
            let apply = format!("value: ({function}) ({} value)", reader("flake"));
            ["--no-eval-cache".into(), format!("{reference}#."), "--apply".into(), apply]
        };
        match source.place() {
            Place::Flake => command.args(outputs(".")),
            Place::Reference(reference) => command.args(outputs(reference)),
            // A hive without flakes finds its nixpkgs, and what it reads besides, on this machine.
            Place::Hive(file) => {
                let file = nix_path(file)?;
                command.args(["--impure", "--expr", &format!("({function}) ({} ({file}))", reader("hive"))])
            }
            Place::Tree => {
                let hosts = trees::value(trees);
                command.args(["--impure", "--expr", &format!("({function}) ({} {hosts})", reader("tree"))])
            }
        };
        if self.settings.trace {
            command.arg("--show-trace");
        }
        if self.settings.impure || how.impure {
            command.arg("--impure");
        }
        run(command, source.copied(), listen).await.map_err(|error| match error {
            Error::Failed { log, .. } if self.settings.trace => {
                let from = log.find("error:").unwrap_or_default();
                Error::Failed { message: log[from..].trim().to_owned(), log }
            }
            Error::Failed { message, log } => Error::Failed { message: trees::named(message, trees), log },
            other => other,
        })
    }
}

/// Who asks: deploy-rs takes a profile that says of no user for the operator's own.
fn operator() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "root".into())
}

/// The expression that makes of a source's value what all other expressions work on.
fn reader(kind: &str) -> String {
    let modules: String = MODULES.iter().map(|(name, module)| format!("{name} = ({module});\n")).collect();
    let hive = format!("args: ({HIVE}) (args // {{ modules = {{ {modules} }}; }})");
    format!("({SOURCE}) {{ kind = \"{kind}\"; hive = {hive}; tree = ({TREE}); deploy = ({DEPLOY}); }}")
}

/// What imports a file.
fn nix_path(file: &Path) -> Result<String, Error> {
    let text = file.to_str().ok_or_else(|| Error::Fleet {
        why: format!("the name of {} is not UTF-8, and Nix can't be told of it", file.display()),
        hint: "rename it, or the directory".into(),
    })?;
    Ok(format!("import (/. + {})", nix_string(text)))
}

fn no_hosts(outputs: &[String], hive: Option<&Path>) -> Error {
    let why = "the flake has none of `colmenaHive`, `colmena`, `deploy` and `nixosConfigurations`".into();
    let hint = match hive {
        Some(hive) => {
            format!("a hive lies beside it, which does without the flake: `--hive {}`", hive.display())
        }
        None if outputs.is_empty() => "it declares no outputs at all".into(),
        None => format!("hosts go into `nixosConfigurations`; it has {}", outputs.join(", ")),
    };
    Error::Fleet { why, hint }
}

/// A text as a Nix string literal.
pub(crate) fn nix_string(text: &str) -> String {
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
    fn a_flake_without_hosts_is_told_of_the_hive_beside_it() {
        let hint = |hive: Option<&str>| no_hosts(&["packages".into()], hive.map(Path::new)).hint().unwrap();
        assert!(hint(Some("hive.nix")).contains("`--hive hive.nix`"));
        assert!(hint(None).contains("packages"));
    }
}
