//! One file per command, or per noun if its verbs are small: arguments, and one function that
//! makes a report.

pub(crate) mod agent;
pub(crate) mod appraisal_input;
pub(crate) mod custodian;
pub(crate) mod custody;
pub(crate) mod custody_prove;
pub(crate) mod endorsements;
pub(crate) mod epoch;
pub(crate) mod evidence;
mod evidence_appraise;
mod evidence_collect;
pub(crate) mod evidence_decode;
mod evidence_input;
pub(crate) mod flag_day;
mod flag_day_report;
pub(crate) mod fleet;
pub(crate) mod generation;
pub(crate) mod host;
pub(crate) mod host_show;
pub(crate) mod init;
pub(crate) mod journal;
pub(crate) mod key;
pub(crate) mod key_get;
pub(crate) mod ledger;
pub(crate) mod manual;
pub(crate) mod node;
pub(crate) mod participant;
mod participant_agree;
mod participant_inspect;
mod participant_map;
mod participant_migrate;
mod participant_plan;
mod participant_preflight;
mod participant_rewrite;
mod participant_status;
mod participant_verify;
pub(crate) mod plan;
pub(crate) mod plan_create;
pub(crate) mod plan_make;
pub(crate) mod plan_show;
pub(crate) mod policy;
pub(crate) mod policy_diff;
pub(crate) mod policy_input;
pub(crate) mod policy_lint;
pub(crate) mod publish;
pub(crate) mod registry;
pub(crate) mod release;
pub(crate) mod release_input;
pub(crate) mod root;
pub(crate) mod root_input;
pub(crate) mod seat;
pub(crate) mod signer;
pub(crate) mod terms_input;
pub(crate) mod upgrade;
pub(crate) mod upgrade_watch;

use crate::cli::{Command, Measured};
use crate::context::Context;
use crate::diagnostic::Diagnostic;
use crate::output::Report;

/// Runs a command.
pub(crate) fn run(
    command: Command,
    measured: &Measured,
    context: Context,
) -> Result<Report, Diagnostic> {
    match command {
        Command::Init(args) => init::run(&args),
        Command::Signer(command) => signer::run(&command),
        Command::Root(command) => root::run(&command),
        Command::Fleet(command) => fleet::run(&command),
        Command::Release(command) => release::run(&command),
        Command::Policy(command) => policy::run(&command),
        Command::Epoch(command) => epoch::run(&command),
        Command::Endorsements(command) => endorsements::run(&command),
        Command::Generation(command) => generation::run(&command, context),
        Command::Plan(command) => plan::run(&command, context),
        Command::Upgrade(command) => upgrade::run(&command, context),
        Command::Node(command) => node::run(&command),
        Command::Host(command) => host::run(&command),
        Command::Journal(command) => journal::run(&command, context),
        Command::Custody(command) => custody::run(&command),
        Command::Evidence(command) => evidence::run(&command),
        Command::Registry(command) => registry::run(&command, context),
        Command::Agent(command) => agent::run(&command),
        Command::Participant(command) => participant::run(&command, context),
        Command::Custodian(command) => custodian::run(&command),
        Command::Ledger(args) => ledger::run(&args),
        Command::Key(command) => key::run(&command, measured),
        Command::Completions(args) => Ok(manual::completions(&args)),
        Command::Man(args) => manual::man(&args),
        Command::Reference(args) => Ok(manual::reference(&args)),
    }
}
