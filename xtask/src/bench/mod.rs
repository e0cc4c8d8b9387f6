//! `cargo xtask bench NAME`: the home of every figure. Each benchmark runs its peer, or the floor that nobody can beat,
//! in the same run; what counts is the ratio.

mod push;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde::Serialize;

/// One thing that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    /// What it is.
    pub(crate) name: &'static str,
    /// How much, a median.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
    /// The peer's or the floor's median, in the same unit.
    pub(crate) against: f64,
    /// `value / against`.
    pub(crate) ratio: f64,
    /// What is wanted.
    pub(crate) goal: String,
    /// Whether it is so.
    pub(crate) ok: bool,
}

impl Figure {
    /// A figure that is to be at most `most` times the floor.
    pub(crate) fn at_most(
        name: &'static str,
        value: f64,
        unit: &'static str,
        against: f64,
        most: f64,
    ) -> Self {
        let ratio = value / against;
        Self { name, value, unit, against, ratio, goal: format!("at most {most} ×"), ok: ratio <= most }
    }
}

#[derive(Serialize)]
struct Figures {
    figures: Vec<Figure>,
}

/// What measures.
type Measure = fn() -> Result<Vec<Figure>>;

/// The benchmarks, by name.
const ALL: [(&str, &str, Measure); 1] =
    [("push", "10 hosts at 50 ms: an apply with nothing to do and one with a change", push::run)];

pub(crate) fn run(name: Option<&str>, json: bool) -> Result<ExitCode> {
    let Some(name) = name else {
        for (name, about, _) in ALL {
            println!("{name:<12} {about}");
        }
        return Ok(ExitCode::SUCCESS);
    };
    let Some((.., measure)) = ALL.iter().find(|(known, ..)| *known == name) else {
        bail!("there is no benchmark `{name}`; `cargo xtask bench` lists them");
    };
    testbed::require_root()?;
    let figures = Figures { figures: measure()? };
    if json {
        println!("{}", serde_json::to_string_pretty(&figures)?);
    } else {
        println!("{:<52} {:>10} {:>10} {:>7}  goal", "figure", "value", "against", "ratio");
        for f in &figures.figures {
            let holds = if f.ok { "holds" } else { "MISSED" };
            println!(
                "{:<52} {:>7.2} {:<2} {:>7.2} {:<2} {:>7.2}  {}: {holds}",
                f.name, f.value, f.unit, f.against, f.unit, f.ratio, f.goal
            );
        }
    }
    Ok(ExitCode::SUCCESS)
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
