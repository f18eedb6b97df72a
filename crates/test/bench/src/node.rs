//! Keepers, and how an agent would talk to them.

use std::os::unix::net::UnixStream;
use std::path::Path;

use heirloom_keeper::keeper::KeeperConfig;
use heirloom_keeper_shell::admin;
use heirloom_keeper_shell::door::Door;
use heirloom_keeper_shell::run::{Running, Settings, start};
use heirloom_keeper_shell::service::SharedPlatform;
use heirloom_model::admin::{AdminRequest, AdminResponse};
use heirloom_model::domain::LogPosition;
use heirloom_model::log::LogEntry;
use heirloom_model::policy::HolderRole;

use crate::network::{Network, node_name};

/// Entries in one message to a keeper: they carry evidence, and a message has a limit.
const ENTRIES_PER_MESSAGE: usize = 64;

/// Starts a keeper in this process, with real sockets and files.
pub(crate) fn run(
    network: &Network,
    number: u8,
    platform: SharedPlatform,
    state: &Path,
    admin: &Path,
) -> Running {
    let (network, domain) = (network.ceremony.network, network.ceremony.domain);
    let settings = Settings {
        config: KeeperConfig { network, domain, node: node_name(number), role: HolderRole::Keeper },
        state: state.to_owned(),
        admin: Door::File(admin.to_owned()),
        listen: "127.0.0.1:0".parse().expect("it is an address"),
    };
    start(settings, platform).expect("a keeper starts in a directory of its own")
}

/// An agent's connection to a keeper.
pub(crate) struct Agent(UnixStream);

impl Agent {
    /// Connects to the socket of a keeper.
    pub(crate) fn connect(socket: &Path) -> Self {
        Self(UnixStream::connect(socket).expect("the keeper listens"))
    }

    /// Asks for something that has no content.
    pub(crate) fn demand(&mut self, request: &AdminRequest) {
        let answer = self.ask(request);
        assert_eq!(answer, AdminResponse::Done, "the keeper does what it is told");
    }

    /// Asks for a statement.
    pub(crate) fn statement(&mut self, request: &AdminRequest) -> Vec<u8> {
        match self.ask(request) {
            AdminResponse::Statement(statement) => statement,
            other => panic!("{other:?} is no statement"),
        }
    }

    /// Feeds entries of the log.
    pub(crate) fn feed(&mut self, entries: &[LogEntry]) {
        let mut reached = LogPosition::START;
        for some in entries.chunks(ENTRIES_PER_MESSAGE) {
            match self.ask(&AdminRequest::Follow { entries: some.to_vec(), attended: None }) {
                AdminResponse::Position(position) => reached = position,
                other => panic!("{other:?} is no position"),
            }
        }
        assert_ne!(reached, LogPosition::START, "the keeper follows the log");
    }

    fn ask(&mut self, request: &AdminRequest) -> AdminResponse {
        admin::ask(&mut self.0, request).expect("the keeper answers")
    }
}
