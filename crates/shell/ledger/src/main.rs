//! `heirloom-ledger`: a node of the reference ledger, and the tools of its operator.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;
use heirloom_client::client::Client;
use heirloom_launcher::client::{PlatformClient, wait_until_daemon_ends};
use heirloom_ledger::schema::schema_of;
use heirloom_ledger_shell::command::{Command, NodeArguments, in_order};
use heirloom_ledger_shell::configuration;
use heirloom_ledger_shell::keys::Keepers;
use heirloom_ledger_shell::log::event;
use heirloom_ledger_shell::run::{self, Begin, End, Place, Settings, Surroundings};
use heirloom_ledger_shell::tool::outcome::{ToolError, failed};
use heirloom_ledger_shell::tool::{data, exercise, load, prepare, status};
use heirloom_model::service::{Height, Tip};
use heirloom_registry_shell::client::RegistryClient;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};

fn main() -> ExitCode {
    match carry_out(Command::parse_from(in_order(std::env::args_os()))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            failed(&error);
            ExitCode::from(error.ending() as u8)
        }
    }
}

fn carry_out(command: Command) -> Result<(), ToolError> {
    match command {
        Command::Node(arguments) => node(&arguments),
        Command::Prepare(asked) => prepare::prepare(&asked),
        Command::Configuration(asked) => prepare::configuration(&asked),
        Command::Inspect(asked) => data::inspect(&asked),
        Command::Snapshot(asked) => data::snapshot(&asked),
        Command::Migrate(asked) => data::migrate(&asked),
        Command::Revert(asked) => data::revert(&asked),
        Command::Distribute(asked) => data::distribute(&asked),
        Command::Exercise(asked) => exercise::exercise(&asked),
        Command::Load(asked) => load::load(&asked),
        Command::Status(asked) => status::status(&asked),
    }
}

fn node(arguments: &NodeArguments) -> Result<(), ToolError> {
    // Keys are in this process's memory; a core dump would be a file of them.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(|error| {
        ToolError::TryAgain(format!("core dumps cannot be switched off: {error}"))
    })?;
    let socket = arguments.platform.clone();
    let connect = || PlatformClient::connect(&socket).map_err(run::RunError::from);
    let platform = connect()?;
    let settings = settings(arguments.clone(), &platform)?;
    // Blocked before there is another thread, so that only the one that waits for them gets them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().map_err(|error| ToolError::TryAgain(error.to_string()))?;
    let registry = Arc::new(RegistryClient::new(&arguments.registry));
    let builder = Client::builder(settings.network, settings.domain, settings.application.clone());
    let keys = Keepers::new(builder, Box::new(connect()?), &registry);
    let keys = keys.map_err(|error| ToolError::TryAgain(error.to_string()))?;
    let abandoned = socket.clone();
    thread::spawn(move || {
        wait_until_daemon_ends(&abandoned);
        // Without its platform this process is no TEE any more.
        std::process::abort();
    });
    // Until it runs, a signal ends it at once: nothing is promised yet.
    let (started, is_started) = std::sync::mpsc::channel::<std::sync::mpsc::Sender<End>>();
    thread::spawn(move || {
        // Waiting fails only for a set that is not one.
        if signals.wait().is_err() {
            return;
        }
        match is_started.try_recv() {
            Ok(end) => drop(end.send(End::Signal)),
            Err(_) => std::process::abort(),
        }
    });
    let around = Surroundings { platform: Arc::new(platform), log: registry, keys: Box::new(keys) };
    let running = run::start(&settings, around)?;
    // The thread that waits for signals may have gone.
    started.send(running.end()).ok();
    let end = running.wait();
    running.stop();
    event("ended", format_args!("{end:?}"));
    Ok(())
}

/// What the node is: the manifest is measured, arguments only repeat it.
fn settings(told: NodeArguments, platform: &PlatformClient) -> Result<Settings, ToolError> {
    let manifest = platform.manifest().map_err(run::RunError::from)?;
    let differs = |what: &str| {
        ToolError::Refused(format!("the argument names another {what} than the measured manifest"))
    };
    if manifest.network != told.network {
        return Err(differs("network"));
    }
    if manifest.domain.is_some_and(|domain| domain != told.domain) {
        return Err(differs("domain"));
    }
    if manifest.application.as_ref() != Some(&told.application) {
        return Err(differs("application"));
    }
    let schema = schema_of(&manifest.release);
    let schema = schema.map_err(|error| ToolError::Refused(error.to_string()))?;
    let begin = match (told.expect_height, told.expect_tip) {
        (Some(height), Some(id)) => {
            let tip = Tip { height: Height(height), id };
            if told.frozen { Begin::Frozen(tip) } else { Begin::At(tip) }
        }
        _ => Begin::Anywhere,
    };
    let place =
        match (told.data, told.votes, told.client_listen, told.peer_listen, told.door_listen) {
            (
                Some(data),
                Some(votes),
                Some(client_listen),
                Some(peer_listen),
                Some(door_listen),
            ) => {
                let peers = told.peer;
                Some(Place {
                    data,
                    votes,
                    schema,
                    begin,
                    client_listen,
                    peer_listen,
                    door_listen,
                    peers,
                })
            }
            _ => None,
        };
    Ok(Settings {
        network: told.network,
        domain: told.domain,
        application: told.application,
        node: told.node,
        configuration: configuration::read(&told.configuration)?,
        control: told.control,
        place,
    })
}
