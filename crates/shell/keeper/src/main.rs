//! `heirloom-keeper`: the code inside the TEE.

use std::process::ExitCode;
use std::thread;

use heirloom_keeper::keeper::KeeperConfig;
use heirloom_keeper_shell::arguments::{self, ArgumentError, Ground};
use heirloom_keeper_shell::ground::{self, GroundError};
use heirloom_keeper_shell::log::event;
use heirloom_keeper_shell::run::{self, End, RunError, Settings};
use heirloom_launcher::client::wait_until_daemon_ends;
use heirloom_model::causes::with_causes;
use heirloom_model::measurement::TeeKind;
use heirloom_model::release::ReleaseKind;
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, Signal};

/// Why the process ends without having served.
#[derive(Debug, thiserror::Error)]
enum MainError {
    #[error(transparent)]
    Arguments(#[from] ArgumentError),
    #[error("core dumps cannot be switched off")]
    CoreDumps(#[source] nix::Error),
    #[error("tracing cannot be forbidden")]
    Tracing(#[source] nix::Error),
    #[error(transparent)]
    Ground(#[from] GroundError),
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

/// Nobody but root traces this process or reads its memory, not even its own user. An emulated CPU
/// may be an ordinary user's, and its launcher has to see which program it talks to: there, what
/// isolates is what the emulation stands for.
fn forbid_tracing(kind: TeeKind) -> Result<(), MainError> {
    match kind {
        TeeKind::Sgx => Ok(()),
        TeeKind::Tdx | TeeKind::Snp | TeeKind::Nitro | TeeKind::Tpm | TeeKind::Vtpm => {
            set_dumpable(false).map_err(MainError::Tracing)
        }
    }
}

fn keep() -> Result<End, MainError> {
    // Keys are in this process's memory; a core dump would be a file of them.
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(MainError::CoreDumps)?;
    let arguments = arguments::parse(std::env::args().skip(1))?;
    let (manifest, platform) = match &arguments.ground {
        Ground::Launcher { socket } => ground::launched(socket)?,
        Ground::Tee { tee, certificates } => ground::in_tee(*tee, certificates)?,
    };
    let identity = platform.identity().map_err(GroundError::from)?;
    forbid_tracing(identity.measurement.kind())?;
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
    let running = run::start(settings, platform)?;
    let end = running.end();
    thread::spawn(move || {
        // Waiting fails only for a set that is not one.
        if signals.wait().is_ok() {
            end.send(End::Signal).ok();
        }
    });
    // A TEE does not end before what runs in it.
    if let Ground::Launcher { socket } = arguments.ground {
        let end = running.end();
        thread::spawn(move || {
            wait_until_daemon_ends(&socket);
            end.send(End::PlatformEnded).ok();
        });
    }
    let end = running.wait();
    running.stop();
    Ok(end)
}
