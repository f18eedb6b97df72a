//! `heirloom-keeper`: the code inside the TEE.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use heirloom_keeper::keeper::KeeperConfig;
use heirloom_keeper::port::PlatformError;
use heirloom_keeper_shell::arguments::{self, ArgumentError};
use heirloom_keeper_shell::log::event;
use heirloom_keeper_shell::run::{self, End, RunError, Settings};
use heirloom_launcher::client::{PlatformClient, wait_until_daemon_ends};
use heirloom_model::causes::with_causes;
use heirloom_model::release::ReleaseKind;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};

/// Why the process ends without having served.
#[derive(Debug, thiserror::Error)]
enum MainError {
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    #[error("core dumps cannot be switched off")]
    CoreDumps(#[source] nix::Error),
    #[error(transparent)]
    Platform(#[from] PlatformError),
    #[error("the measured manifest names no domain: this is not a keeper's manifest")]
    NoDomain,
    #[error("the measured manifest is of an {}: this is not a keeper's manifest", .0.name())]
    Kind(ReleaseKind),
    #[error("signals cannot be received")]
    Signals(#[source] nix::Error),
    #[error(transparent)]
    Run(#[from] RunError),
}

fn main() -> ExitCode {
    match keep() {
        Ok(end) => {
            event("ended", format_args!("{end:?}"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            event("failed", with_causes(&error));
            match error {
                MainError::Arguments(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn keep() -> Result<End, MainError> {
    // Keys are in this process's memory; a core dump would be a file of them.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(MainError::CoreDumps)?;
    let arguments = arguments::parse(std::env::args().skip(1))?;
    let platform = PlatformClient::connect(&arguments.platform)?;
    let manifest = platform.manifest()?;
    let config = KeeperConfig {
        network: manifest.network,
        domain: manifest.domain.ok_or(MainError::NoDomain)?,
        node: arguments.node,
        // Keepers and upgraders are one binary; which of the two this is was measured with it.
        role: manifest.kind.role().ok_or(MainError::Kind(manifest.kind))?,
    };
    // Blocked before there is another thread, so that only the one that waits for them gets them.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().map_err(MainError::Signals)?;
    let settings = Settings {
        config,
        state: arguments.state,
        admin: arguments.admin,
        listen: arguments.listen,
    };
    let running = run::start(settings, Arc::new(platform))?;
    let end = running.end();
    thread::spawn(move || {
        // Waiting fails only for a set that is not one.
        if signals.wait().is_ok() {
            end.send(End::Signal).ok();
        }
    });
    let end = running.end();
    thread::spawn(move || {
        wait_until_daemon_ends(&arguments.platform);
        end.send(End::PlatformEnded).ok();
    });
    let end = running.wait();
    running.stop();
    Ok(end)
}
