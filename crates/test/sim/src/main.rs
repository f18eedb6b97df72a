//! Runs seeds of the simulated world on all processors, and replays a failing one.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use clap::Parser;
use heirloom_model::policy::Sharing;
use heirloom_sim::scenario::{Failure, Fixture, Outcome, Scenario, run};

/// Simulates whole fleets, seed by seed.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Only this scenario; otherwise seeds take turns.
    #[arg(long)]
    scenario: Option<String>,
    /// How many runs at once.
    #[arg(long, default_value_t = 2)]
    threads: u32,
}

#[derive(Default)]
struct Totals {
    runs: u64,
    finished: u64,
    rolled_back: u64,
    operations: u64,
    crashes: u64,
    holders_min: Option<u32>,
    active_max: u32,
    payments: usize,
    flag_days_finished: u64,
    flag_days_rolled_back: u64,
    migrations_finished: u64,
    migrations_rolled_back: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let only = match &arguments.scenario {
        None => None,
        Some(name) => match Scenario::ALL.iter().find(|(_, known)| known == name) {
            Some((scenario, _)) => Some(*scenario),
            None => return say(2, &format!("no scenario is called {name}")),
        },
    };
    let (totals, failed) = (Mutex::new(Totals::default()), AtomicBool::new(false));
    let (next, fixture) = (AtomicU64::new(arguments.first), Fixture::new());
    let end = arguments.first.saturating_add(arguments.seeds);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads.max(1) {
            scope.spawn(|| work(&fixture, only, (&next, end), &totals, &failed));
        }
    });
    let totals = totals.into_inner().unwrap_or_default();
    let summary = format!(
        "{} runs: {} finished, {} rolled back; {} operations, {} crashes; \
         fewest holders at any moment: {}; most active holders of an exclusive domain: {}; \
         flag days: {} finished, {} rolled back; payments: {}; \
         migrations: {} finished, {} rolled back",
        totals.runs,
        totals.finished,
        totals.rolled_back,
        totals.operations,
        totals.crashes,
        totals.holders_min.map_or("none".to_owned(), |fewest| fewest.to_string()),
        totals.active_max,
        totals.flag_days_finished,
        totals.flag_days_rolled_back,
        totals.payments,
        totals.migrations_finished,
        totals.migrations_rolled_back,
    );
    say(u8::from(failed.load(Ordering::Relaxed)), &summary)
}

fn work(
    fixture: &Fixture,
    only: Option<Scenario>,
    (next, end): (&AtomicU64, u64),
    totals: &Mutex<Totals>,
    failed: &AtomicBool,
) {
    while !failed.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return;
        }
        let turn = usize::try_from(seed).unwrap_or(0) % Scenario::ALL.len();
        let (scenario, name) = Scenario::ALL
            .into_iter()
            .find(|(scenario, _)| {
                only.map_or(*scenario == Scenario::ALL[turn].0, |it| it == *scenario)
            })
            .unwrap_or(Scenario::ALL[0]);
        match run(fixture, seed, scenario) {
            Ok(outcome) => add(totals, scenario, &outcome),
            Err((failure, trace)) => {
                failed.store(true, Ordering::Relaxed);
                let text = describe(&failure, &trace, (seed, name));
                let _code = say(1, &text);
            }
        }
    }
}

/// What happened last, what is wrong, and how to see it again.
fn describe(failure: &Failure, trace: &[String], (seed, name): (u64, &str)) -> String {
    let mut lines = trace.to_vec();
    let mut wrong = vec![failure.to_string()];
    let mut cause = std::error::Error::source(failure);
    while let Some(error) = cause {
        wrong.push(error.to_string());
        cause = error.source();
    }
    lines.push(format!("seed {seed}, scenario {name}: {}", wrong.join(": ")));
    lines.push(format!("replay: cargo xtask sim --seeds 1 --first {seed} --scenario {name}"));
    lines.join("\n")
}

fn add(totals: &Mutex<Totals>, scenario: Scenario, outcome: &Outcome) {
    use heirloom_registry::plan::PlanStatus;
    let mut totals = totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    totals.runs += 1;
    totals.finished += u64::from(outcome.status == PlanStatus::Finished);
    totals.rolled_back += u64::from(outcome.status == PlanStatus::RolledBack);
    if scenario.is_flag_day() {
        totals.flag_days_finished += u64::from(outcome.status == PlanStatus::Finished);
        totals.flag_days_rolled_back += u64::from(outcome.status == PlanStatus::RolledBack);
    }
    if scenario.moves_participants() {
        totals.migrations_finished += u64::from(outcome.status == PlanStatus::Finished);
        totals.migrations_rolled_back += u64::from(outcome.status == PlanStatus::RolledBack);
    }
    totals.payments = totals.payments.saturating_add(outcome.payments);
    totals.operations += outcome.operations;
    totals.crashes += outcome.crashes;
    match outcome.sharing {
        // One host is all that these runs have.
        Sharing::Exclusive => {
            totals.active_max = totals.active_max.max(outcome.active_max);
            return;
        }
        Sharing::Replicated => {}
    }
    let fewest = outcome.holders_min;
    totals.holders_min = Some(totals.holders_min.map_or(fewest, |so_far| so_far.min(fewest)));
}

fn say(code: u8, text: &str) -> ExitCode {
    // Nobody can be told that the output is closed.
    let _written = writeln!(std::io::stdout(), "{text}");
    ExitCode::from(code)
}
