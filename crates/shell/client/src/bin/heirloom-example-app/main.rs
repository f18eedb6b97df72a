//! An application that asks for its keys again and again, and remembers what it got.
//!
//! It is launched by a platform like any measured code, and shows what an application sees while
//! keepers are upgraded: how many requests failed, the longest time without an answer, and for
//! every key a digest that must never change. It never writes a key anywhere.

mod arguments;
mod presence;
mod report;
mod workload;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;
use heirloom_client::client::Client;
use heirloom_keeper::port::Platform;
use heirloom_launcher::client::{PlatformClient, wait_until_daemon_ends};
use heirloom_model::causes::with_causes;
use heirloom_registry_shell::client::RegistryClient;

use arguments::Arguments;
use presence::Announced;
use report::Report;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // If nobody reads the message, the exit code still says it.
            writeln!(std::io::stderr(), "heirloom-example-app: {}", with_causes(error.as_ref()))
                .ok();
            ExitCode::FAILURE
        }
    }
}

/// Runs to the end, and says whether every request was answered, and always with the same key.
fn run(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let socket = arguments.platform.clone();
    thread::spawn(move || {
        wait_until_daemon_ends(&socket);
        // Without its platform this process is no TEE any more.
        std::process::abort();
    });
    let platform = PlatformClient::connect(&arguments.platform)?;
    let manifest = platform.manifest()?;
    let domain = arguments::agreed("domain", manifest.domain, arguments.domain)?;
    let application =
        arguments::agreed("application", manifest.application, arguments.application.clone())?;
    let measurement = platform.identity()?.measurement;
    let registry = Arc::new(RegistryClient::new(&arguments.registry));
    let presence = Arc::new(Announced::new(Arc::clone(&registry)));
    let client = Client::builder(manifest.network, domain, application.clone()).start(
        Box::new(platform),
        registry,
        presence,
    )?;
    let report = Report::new(manifest.network, domain, application, measurement);
    let report = workload::run(arguments, client, report)?;
    Ok(report.is_flawless())
}
