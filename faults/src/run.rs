//! A run: hosts side by side, each with its own worker, until every effect has been hit often enough.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use bosco_activation::Effect;

use crate::case::{Outcome, Worker};
use crate::cell::{Cell, Fault};
use crate::judge::{self, Verdict};
use crate::random::Random;
use crate::tally::{Goals, Tally};
use crate::watch::Durations;
use crate::world::{World, has_module};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The program `bosco`.
    pub bosco: PathBuf,
    /// How many hosts, of which every other one has bosco's module.
    pub hosts: usize,
    /// How often each effect is to be hit by a power cut.
    pub cuts_each: usize,
    /// How often each effect is to be hit by each other fault.
    pub others_each: usize,
    /// Of so many cases, one ends with an attempt of its own that has to succeed. The next case shows it for the others, as
    /// it begins with one.
    pub proofs_one_in: usize,
    /// After which time no case is begun any more.
    pub limit: Option<Duration>,
    /// What the choices are made from.
    pub seed: u64,
    /// Where what goes wrong is kept.
    pub keep: PathBuf,
}

impl Spec {
    /// Every effect by every fault, once.
    #[must_use]
    pub fn sample(bosco: PathBuf, keep: PathBuf, seed: u64) -> Self {
        Self { bosco, hosts: 4, cuts_each: 1, others_each: 1, proofs_one_in: 4, limit: None, seed, keep }
    }

    /// So many power cuts, evenly over the effects, and a tenth as many of each other fault.
    #[must_use]
    pub fn full(bosco: PathBuf, keep: PathBuf, seed: u64, cuts: usize) -> Self {
        let cuts_each = cuts.div_ceil(Effect::ALL.len());
        Self {
            bosco,
            hosts: 6,
            cuts_each,
            others_each: cuts_each.div_ceil(10),
            proofs_one_in: 1,
            limit: None,
            seed,
            keep,
        }
    }
}

struct Shared<'a> {
    spec: &'a Spec,
    tally: Mutex<Tally>,
    goals: Mutex<Goals>,
    started: Instant,
    tell: &'a (dyn Fn(&Tally, &str) + Sync),
}

/// Runs the matrix. `tell` hears of every case as it ends.
///
/// # Errors
/// Where the machines can't be had. What goes wrong in a case is in the tally.
pub fn run(spec: &Spec, tell: &(dyn Fn(&Tally, &str) + Sync)) -> Result<Tally> {
    let world = World::up(spec.hosts, &spec.bosco)?;
    let durations = Durations::default();
    let shared = Shared {
        spec,
        tally: Mutex::new(Tally { seed: spec.seed, ..Tally::default() }),
        goals: Mutex::new(Goals::new(spec.cuts_each, spec.others_each, spec.seed)),
        started: Instant::now(),
        tell,
    };
    thread::scope(|scope| {
        let workers: Vec<_> = world
            .lab
            .hosts()
            .iter()
            .map(|host| {
                let (world, durations, shared) = (&world, &durations, &shared);
                scope.spawn(move || {
                    let stands = judge::look(host)?;
                    shared.work(&mut Worker { world, host, durations, stands })
                })
            })
            .collect();
        for worker in workers {
            // What the others have found must not be lost with it.
            let ended = worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked")));
            if let Err(error) = ended {
                shared.tally().failures.push(format!("a host was given up: {error:#}"));
            }
        }
    });
    let mut tally = shared.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.millis = Effect::ALL
        .into_iter()
        .map(|effect| (effect.word(), durations.of(effect).as_secs_f64() * 1000.0))
        .collect::<BTreeMap<_, _>>();
    world.lab.down()?;
    Ok(tally)
}

impl Shared<'_> {
    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goals(&self) -> std::sync::MutexGuard<'_, Goals> {
        self.goals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self, worker: &mut Worker<'_>) -> Result<()> {
        let mut number = 0;
        loop {
            let over = self.spec.limit.is_some_and(|limit| self.started.elapsed() > limit);
            let next = if over { None } else { self.goals().next(has_module(worker.host.name())) };
            let Some(cell) = next else { return self.end(worker) };
            number += 1;
            let name = format!("{:x}-{}-{number}", self.spec.seed, worker.host.name());
            let seed =
                name.bytes().fold(self.spec.seed, |seed, byte| seed.wrapping_mul(31) ^ u64::from(byte));
            let mut random = Random::of_case(self.spec.seed, seed);
            let prove = random.one_in(self.spec.proofs_one_in);
            match worker.case(cell, &name, prove, &mut random) {
                Ok(outcome) => {
                    let well = outcome.verdict.is_well();
                    self.count(cell, &name, worker, &outcome);
                    if !well {
                        self.recover(worker, &name)?;
                    }
                }
                Err(error) => {
                    let target = format!("{} × {}", cell.effect.word(), cell.fault.word());
                    self.fail(worker, &name, &format!("{target}: {error:#}"));
                    self.recover(worker, &name)?;
                }
            }
        }
    }

    /// Whatever was done to a host, the last thing is that it can be deployed to.
    fn end(&self, worker: &mut Worker<'_>) -> Result<()> {
        let name = format!("{:x}-{}-last", self.spec.seed, worker.host.name());
        let mut verdict = Verdict::default();
        worker.prove(&name, false, &mut verdict, &mut Random::new(self.spec.seed))?;
        if !verdict.is_well() {
            self.tally().half += 1;
            self.fail(worker, &name, &words(&verdict));
        }
        Ok(())
    }

    fn recover(&self, worker: &mut Worker<'_>, name: &str) -> Result<()> {
        worker.recover().with_context(|| format!("after {name}, {} can't be had again", worker.host.name()))
    }

    fn count(&self, cell: Cell, name: &str, worker: &Worker<'_>, outcome: &Outcome) {
        let Outcome { hit, struck, verdict, ended, by_bosco } = outcome;
        let mut tally = self.tally();
        tally.cases += 1;
        tally.by_bosco += usize::from(*by_bosco);
        tally.cuts += usize::from(*struck && cell.fault == Fault::PowerCut);
        match hit {
            Some(effect) => {
                tally.hit(*effect, cell.fault);
                self.goals().hit(*effect, cell.fault);
            }
            None if *struck => tally.between += 1,
            None => tally.missed += 1,
        }
        let kind = ended.split([' ', '(', '{']).next().unwrap_or_default().to_owned();
        *tally.endings.entry(cell.fault.word()).or_default().entry(kind).or_default() += 1;
        tally.lost += usize::from(!verdict.lost.is_empty());
        tally.unknown += usize::from(!verdict.unknown.is_empty());
        tally.half += usize::from(!verdict.half.is_empty());
        let target = format!("{} × {}", cell.effect.word(), cell.fault.word());
        let came = hit.map_or("between", Effect::word);
        (self.tell)(&tally, &format!("{name}: {target}: hit {came}, ended {ended}"));
        drop(tally);
        if !verdict.is_well() {
            self.fail(worker, name, &format!("{target}: hit {came}, ended {ended}\n{}", words(verdict)));
        }
    }

    /// Keeps what is to be seen of a host that went wrong.
    fn fail(&self, worker: &Worker<'_>, name: &str, why: &str) {
        let folder = self.spec.keep.join(name);
        let kept = keep(worker, &folder, why)
            .map_or_else(|error| format!("not kept: {error:#}"), |()| folder.display().to_string());
        let mut tally = self.tally();
        tally.failures.push(format!("{name}: {why}\n({kept})"));
        (self.tell)(&tally, &format!("WRONG {name}: {why} ({kept})"));
    }
}

fn words(verdict: &Verdict) -> String {
    let Verdict { lost, unknown, half } = verdict;
    let of =
        |kind: &str, all: &[String]| all.iter().map(|one| format!("{kind}: {one}\n")).collect::<String>();
    of("lost", lost) + &of("unknown", unknown) + &of("half", half)
}

fn keep(worker: &Worker<'_>, folder: &Path, why: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("can't create {}", folder.display()))?;
    fs::write(folder.join("why"), why)?;
    fs::copy(worker.host.console_log(), folder.join("console.log"))?;
    let state = worker.host.root().join("nix/var/bosco");
    let Ok(entries) = fs::read_dir(&state) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
        // What a cut has left of a file may not be readable.
        let _ = fs::copy(entry.path(), folder.join(entry.file_name()));
    }
    if let Ok(output) =
        worker.host.ssh("journalctl --boot --no-pager --lines=300; systemctl list-units 'bosco*' --all")
    {
        fs::write(folder.join("systemd.log"), output.stdout)?;
    }
    Ok(())
}
