//! `heirloom-participant`: a reference participant, its synchronizer, and clients of it.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use heirloom_model::causes::with_causes;
use heirloom_participant_shell::client::{self, ClientError, load};
use heirloom_participant_shell::command::{Command, Serve, Verb};
use heirloom_participant_shell::configuration::{read_participant, read_synchronizer};
use heirloom_participant_shell::log::event;
use heirloom_participant_shell::run::{RunError, Running, RunningSynchronizer};
use serde::Serialize;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
enum MainError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("signals cannot be waited for")]
    Signal(#[source] std::io::Error),
    #[error("standard output cannot be written")]
    Output(#[source] std::io::Error),
}

fn main() -> ExitCode {
    let command = Command::parse();
    match carry_out(&command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            event("failed", with_causes(&error));
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: &Command) -> Result<(), MainError> {
    let runtime = Runtime::new().map_err(RunError::Runtime)?;
    let json = command.json;
    runtime.block_on(async {
        match &command.verb {
            Verb::Serve(asked) => serve(asked).await,
            Verb::Synchronizer(asked) => synchronizer(asked).await,
            Verb::Connect(asked) => say(json, &client::connect(asked).await?),
            Verb::Load(asked) => say(json, &load::load(asked).await?),
            Verb::Transact(asked) => say(json, &client::transact(asked).await?),
            Verb::Contracts(asked) => say(json, &client::contracts(asked).await?),
        }
    })
}

async fn serve(asked: &Serve) -> Result<(), MainError> {
    let settings = read_participant(&asked.config).map_err(RunError::from)?;
    let running = Running::start(settings).await?;
    wait().await?;
    running.stop().await?;
    event("ended", "a signal asked for it");
    Ok(())
}

async fn synchronizer(asked: &Serve) -> Result<(), MainError> {
    let settings = read_synchronizer(&asked.config).map_err(RunError::from)?;
    let running = RunningSynchronizer::start(settings).await?;
    wait().await?;
    running.stop();
    event("ended", "a signal asked for it");
    Ok(())
}

async fn wait() -> Result<(), MainError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(MainError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(MainError::Signal)?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// One object, or one line for each of its fields.
fn say(json: bool, outcome: &impl Serialize) -> Result<(), MainError> {
    let value = serde_json::to_value(outcome).unwrap_or_default();
    let mut out = std::io::stdout().lock();
    match (&value, json) {
        (serde_json::Value::Object(fields), false) => {
            for (name, value) in fields {
                writeln!(out, "{name}: {value}").map_err(MainError::Output)?;
            }
        }
        _ => writeln!(out, "{value}").map_err(MainError::Output)?,
    }
    Ok(())
}
