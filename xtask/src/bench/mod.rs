//! `cargo xtask bench NAME`: the home of every figure. Each benchmark runs its peer, or the floor that nobody can beat,
//! in the same run; what counts is the ratio.

mod activation;
mod apply;
mod colmena;
mod commands;
mod deploy_rs;
mod diff;
mod hub;
mod keys;
mod peer;
mod pull;
mod secrets;
mod transfer;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

/// One thing that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What it is.
    pub(crate) name: String,
    /// How much, a median.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// The peer's or the floor's median, in the same unit.
    pub(crate) against: f64,
    /// `value / against`.
    pub(crate) ratio: f64,
    /// What is wanted; none where the figure is there to be known.
    #[serde(flatten)]
    pub(crate) goal: Option<Goal>,
}

/// What is wanted of a figure.
#[derive(Debug, Serialize)]
pub(crate) struct Goal {
    /// In words.
    pub(crate) goal: String,
    /// Whether it is so.
    pub(crate) ok: bool,
}

impl Figure {
    /// A figure that is beside another, and has no goal.
    pub(crate) fn beside(name: impl Into<String>, value: f64, unit: &'static str, against: f64) -> Self {
        Self { name: name.into(), value, unit, against, ratio: value / against, goal: None }
    }

    /// A figure that is to be at most `most` times the other.
    pub(crate) fn at_most(
        name: impl Into<String>,
        value: f64,
        unit: &'static str,
        against: f64,
        most: f64,
    ) -> Self {
        let figure = Self::beside(name, value, unit, against);
        let goal = Goal { goal: format!("at most {most:.2} ×"), ok: figure.ratio <= most };
        Self { goal: Some(goal), ..figure }
    }
}

#[derive(Serialize)]
struct Figures {
    figures: Vec<Figure>,
}

/// What measures.
type Measure = fn() -> Result<Vec<Figure>>;

/// The benchmarks, by name, and what each consists of.
const ALL: [(&str, &str, &[Measure]); 9] = [
    ("push", "all that a push costs: `apply` and `transfer`", &[apply::run, transfer::run]),
    (
        "apply",
        "10 hosts at 50 ms: nothing to do and a change, beside ssh, deploy-rs and Colmena",
        &[apply::run],
    ),
    ("activation", "a change with everything armed, beside the same with nothing armed", &[activation::run]),
    ("diff", "what changes on 20 hosts, beside `nix store diff-closures` for one", &[diff::run]),
    ("hub", "all of a hub: 2,000 agents beside limits and `sftp`, and `pull`", &[hub::run, pull::run]),
    ("keys", "20 keys of 20 hosts at 50 ms, beside one ssh for each", &[keys::run]),
    ("pull", "a release to 3 hosts; 200 MB to one at 0 and 50 ms, beside `nix copy`", &[pull::run]),
    ("secrets", "a change on a host with 100 secrets, beside one without any", &[secrets::run]),
    ("transfer", "200 paths, 200 MB to one host at 0 and 50 ms, beside `nix copy`", &[transfer::run]),
];

pub(crate) fn run(name: Option<&str>, json: bool) -> Result<ExitCode> {
    let Some(name) = name else {
        for (name, about, _) in ALL {
            println!("{name:<12} {about}");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let Some((.., parts)) = ALL.iter().find(|(known, ..)| *known == name) else {
        bail!("there is no benchmark `{name}`; `cargo xtask bench` lists them");
    };
    testbed::require_root()?;
    let mut figures = Figures { figures: Vec::new() };
    for measure in *parts {
        figures.figures.extend(measure()?);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        show(&figures.figures);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(figures: &[Figure]) {
    println!("{:<80} {:>12} {:>12} {:>7}  goal", "figure", "value", "against", "ratio");
    for f in figures {
        let goal = f.goal.as_ref().map_or_else(String::new, |goal| {
            format!("  {}: {}", goal.goal, if goal.ok { "holds" } else { "MISSED" })
        });
        println!(
            "{:<80} {:>7.2} {:<4} {:>7.2} {:<4} {:>7.2}{goal}",
            f.name, f.value, f.unit, f.against, f.unit, f.ratio
        );
    }
}

/// How long something takes.
pub(crate) fn time(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let started = Instant::now();
    work()?;
    Ok(started.elapsed())
}

/// The median of some times, in seconds.
pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times.get(times.len() / 2).map_or(f64::NAN, Duration::as_secs_f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_in_json_whether_its_goal_holds_where_it_has_one() {
        let json = |figure| serde_json::to_value(figure).unwrap();
        let missed = json(Figure::at_most("a", 3.0, "s", 1.5, 1.0));
        assert_eq!((&missed["ratio"], &missed["ok"]), (&2.0.into(), &false.into()), "{missed}");
        assert_eq!(missed["goal"], "at most 1.00 ×");
        let beside = json(Figure::beside("a", 3.0, "s", 1.5));
        assert!(beside.get("goal").is_none() && beside.get("ok").is_none(), "{beside}");
    }
}
