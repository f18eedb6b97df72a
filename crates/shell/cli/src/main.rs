//! The heirloom command.

mod anchor;
mod cli;
mod code;
mod command;
mod context;
mod custodian_error;
mod diagnostic;
mod exit;
mod file;
mod input;
mod interrupt;
mod key;
mod ledger;
mod meter;
mod output;
mod participant_error;
mod participant_file;
mod participant_setup;
mod progress;
mod reference;
mod statement;
mod time;
mod view;
mod view_appraisal;
mod view_file;
mod view_participant;
mod view_service;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let context = context::Context::new(cli.global);
    let exit = match command::run(cli.command, &cli.measured, context) {
        Ok(report) => context.output.report(&report),
        Err(diagnostic) => context.output.diagnostic(&diagnostic),
    };
    ExitCode::from(exit.code())
}
