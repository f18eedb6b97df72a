//! The command line. Its doc comments are its help.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use heirloom_model::digest::{BlockId, NetworkId, PlanDigest};
use heirloom_model::identifier::{ApplicationId, DomainId, MigrationName, NodeId, TestName};

/// A node of the reference ledger, and the tools of its operator.
#[derive(Debug, clap::Parser)]
#[command(name = "heirloom-ledger", version)]
pub enum Command {
    /// Serve one node: launched and measured by a platform.
    Node(Box<NodeArguments>),
    /// Make a first ledger, its configuration and the keys of its faucets.
    Prepare(Prepare),
    /// Say what peers must have configured alike.
    Configuration(ConfigurationOf),
    /// Say what a data directory has.
    Inspect(Inspect),
    /// Keep a copy of a ledger that has stopped at a tip.
    Snapshot(Snapshot),
    /// Make the working copy of a plan, migrate it, and let it take the original's place.
    Migrate(Migrate),
    /// Give the original its place back.
    Revert(Revert),
    /// Copy blocks to an archive as they come, until SIGTERM.
    Distribute(Distribute),
    /// Try a node through its side door.
    Exercise(Exercise),
    /// Keep paying through public addresses, and say at the end what became of every payment.
    #[command(alias = "pay")]
    Load(Load),
    /// Say how nodes are, and whom each of them has attested.
    Status(Status),
}

/// What a node is told. Only the manifest is measured; arguments are the agent's word.
#[derive(Clone, Debug, clap::Args)]
pub struct NodeArguments {
    /// Socket of the platform that launched this process; the platform adds this.
    #[arg(long, value_name = "SOCKET")]
    pub platform: PathBuf,
    /// Where the platform left the manifest; the platform adds this. The platform is asked instead.
    #[arg(long, value_name = "NUMBER")]
    pub manifest_fd: Option<i32>,
    /// The node's name.
    #[arg(long, value_name = "NAME")]
    pub node: NodeId,
    /// The network; the manifest must agree.
    #[arg(long, value_name = "HEX")]
    pub network: NetworkId,
    /// The domain whose keys are used; the manifest must agree.
    #[arg(long, value_name = "HEX")]
    pub domain: DomainId,
    /// The application whose keys are used; the manifest must agree.
    #[arg(long, value_name = "NAME")]
    pub application: ApplicationId,
    /// Where the registry is, such as `http://127.0.0.1:7000`.
    #[arg(long, value_name = "URL")]
    pub registry: String,
    /// The agent's socket.
    #[arg(long, value_name = "SOCKET")]
    pub control: PathBuf,
    /// What peers must have configured alike.
    #[arg(long, value_name = "FILE")]
    pub configuration: PathBuf,
    /// Only show that this code starts here, gets its keys and is configured: no data, no peers.
    #[arg(long = "try", conflicts_with_all = ["data", "votes", "client_listen", "peer_listen", "door_listen", "peer"])]
    pub trial: bool,
    /// The ledger's directory.
    #[arg(long, value_name = "DIR", required_unless_present = "trial")]
    pub data: Option<PathBuf>,
    /// Votes and consensus log of this measurement. Never part of the ledger.
    #[arg(long, value_name = "DIR", required_unless_present = "trial")]
    pub votes: Option<PathBuf>,
    /// Where clients come in, behind the proxy.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "trial")]
    pub client_listen: Option<SocketAddr>,
    /// Where peers come in.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "trial")]
    pub peer_listen: Option<SocketAddr>,
    /// The side door.
    #[arg(long, value_name = "ADDRESS", required_unless_present = "trial")]
    pub door_listen: Option<SocketAddr>,
    /// Other nodes of the ledger and where they are, with commas between or once for each.
    #[arg(long, value_name = "NODE=ADDRESS", value_delimiter = ',')]
    pub peer: Vec<PeerAddress>,
    /// Refuse to serve unless the ledger has so many blocks.
    #[arg(long, value_name = "HEIGHT", requires = "expect_tip")]
    pub expect_height: Option<u64>,
    /// Refuse to serve unless the ledger ends with this block.
    #[arg(long, value_name = "HEX", requires = "expect_height")]
    pub expect_tip: Option<BlockId>,
    /// Begin frozen: this node has promised that its ledger ends there until a plan is called off.
    #[arg(long, requires = "expect_tip")]
    pub frozen: bool,
}

/// A peer as the command line names it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerAddress {
    /// Its node.
    pub node: NodeId,
    /// `host:port`.
    pub address: String,
}

/// Why text names no peer.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParsePeerError {
    /// It has no `=`.
    #[error("a peer is written as node=host:port")]
    NoAddress,
    /// The node's name is none.
    #[error(transparent)]
    Node(#[from] heirloom_model::identifier::ParseNameError),
}

impl std::str::FromStr for PeerAddress {
    type Err = ParsePeerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (node, address) = text.split_once('=').ok_or(ParsePeerError::NoAddress)?;
        if address.is_empty() {
            return Err(ParsePeerError::NoAddress);
        }
        Ok(Self { node: node.parse()?, address: address.to_owned() })
    }
}

/// Makes a first ledger. Everything is written below one directory, which must not be there.
#[derive(Clone, Debug, clap::Args)]
pub struct Prepare {
    /// Where everything goes: `ledger.toml`, `wallet-N.json`, and `data` for every node to copy.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// What the ledger is called.
    #[arg(long, value_name = "NAME", default_value = "ledger")]
    pub name: String,
    /// The network.
    #[arg(long, value_name = "HEX")]
    pub network: NetworkId,
    /// How many blocks it has, the first one included.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub blocks: u64,
    /// Schema of the database.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    pub schema: u32,
    /// How many wallets have something to begin with.
    #[arg(long, value_name = "NUMBER", default_value_t = 4)]
    pub wallets: u32,
    /// What each wallet has.
    #[arg(long, value_name = "AMOUNT", default_value_t = 1_000_000_000)]
    pub amount: u64,
    /// Into how many outputs that is split: one is needed for each payment under way.
    #[arg(long, value_name = "NUMBER", default_value_t = 64)]
    pub outputs: u32,
    /// What a payment costs at least.
    #[arg(long, value_name = "AMOUNT", default_value_t = 1)]
    pub minimum_fee: u64,
    /// How many blocks a payment may be good for.
    #[arg(long, value_name = "BLOCKS", default_value_t = 1_000)]
    pub tombstone_distance_max: u64,
    /// Payments of one block at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    pub block_payments_max: u32,
    /// How often blocks are made while there is something to put into them.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 100)]
    pub block_interval_ms: u64,
}

/// Says what peers must have configured alike.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigurationOf {
    /// The file.
    #[arg(long, value_name = "FILE")]
    pub configuration: PathBuf,
}

/// Says what a data directory has.
#[derive(Clone, Debug, clap::Args)]
pub struct Inspect {
    /// The ledger's directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where the distribution remembers how far it came.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
}

/// Keeps a copy of a ledger that has stopped.
#[derive(Clone, Debug, clap::Args)]
pub struct Snapshot {
    /// The ledger's directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where the distribution remembers how far it came: kept with the copy.
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
    /// Which plan, and where the ledger must have stopped.
    #[command(flatten)]
    pub at: At,
}

/// Makes the working copy of a plan.
#[derive(Clone, Debug, clap::Args)]
pub struct Migrate {
    /// The ledger's directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Which plan, and where the ledger must have stopped.
    #[command(flatten)]
    pub at: At,
    /// The schema that the copy must have at the end.
    #[arg(long, value_name = "NUMBER")]
    pub schema_to: u32,
    /// What is applied, in this order.
    #[arg(long, value_name = "NAME")]
    pub migration: Vec<MigrationName>,
}

/// Gives the original its place back.
#[derive(Clone, Debug, clap::Args)]
pub struct Revert {
    /// The ledger's directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Which plan, and where the ledger had stopped.
    #[command(flatten)]
    pub at: At,
}

/// A plan and a tip.
#[derive(Clone, Debug, clap::Args)]
pub struct At {
    /// The plan.
    #[arg(long, value_name = "HEX")]
    pub plan: PlanDigest,
    /// How many blocks.
    #[arg(long, value_name = "HEIGHT")]
    pub height: u64,
    /// The last of them.
    #[arg(long, value_name = "HEX")]
    pub tip: BlockId,
}

/// Copies blocks to an archive as they come.
#[derive(Clone, Debug, clap::Args)]
pub struct Distribute {
    /// The ledger's directory.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where to remember how far it came.
    #[arg(long, value_name = "FILE")]
    pub state: PathBuf,
    /// Where blocks go.
    #[arg(long, value_name = "DIR")]
    pub archive: PathBuf,
}

/// Tries a node through its side door.
#[derive(Clone, Debug, clap::Args)]
pub struct Exercise {
    /// The node's side door.
    #[arg(long, value_name = "ADDRESS")]
    pub door: String,
    /// Where the registry is: the node's evidence is appraised under the policy in force.
    #[arg(long, value_name = "URL")]
    pub registry: String,
    /// The network.
    #[arg(long, value_name = "HEX")]
    pub network: NetworkId,
    /// The domain.
    #[arg(long, value_name = "HEX")]
    pub domain: DomainId,
    /// What to try; once for each.
    #[arg(long, value_name = "NAME", required = true)]
    pub test: Vec<TestName>,
    /// What peers have configured alike.
    #[arg(long, value_name = "FILE")]
    pub configuration: PathBuf,
    /// Who pays, if not the wallets that the configuration names.
    #[arg(long, value_name = "DIR")]
    pub wallets: Option<PathBuf>,
}

/// Keeps paying.
#[derive(Clone, Debug, clap::Args)]
pub struct Load {
    /// A public address of a node; once for each.
    #[arg(long, value_name = "URL", required = true)]
    pub edge: Vec<String>,
    /// Who pays whom: a directory of wallets whose names begin with `pay-`.
    #[arg(long, value_name = "DIR")]
    pub wallets: PathBuf,
    /// Where to write the report, again and again.
    #[arg(long, value_name = "FILE")]
    pub report: PathBuf,
    /// When to end.
    #[command(flatten)]
    pub end: End,
    /// How long to rest after each payment.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 50)]
    pub pause_ms: u64,
}

/// When to end: exactly one of these.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct End {
    /// End after this many payments.
    #[arg(long, value_name = "NUMBER")]
    pub payments: Option<u64>,
    /// End as soon as this file exists.
    #[arg(long, value_name = "FILE")]
    pub until_file: Option<PathBuf>,
}

/// Says how nodes are.
#[derive(Clone, Debug, clap::Args)]
pub struct Status {
    /// The side door of a node; once for each.
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub door: Vec<String>,
    /// One JSON object on standard output.
    #[arg(long)]
    pub json: bool,
}

/// Brings the words of a launch into the order of the command line.
///
/// A platform puts its own arguments in front of everything else, and a launched program is a
/// node whether or not its agent says so.
pub fn in_order(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = arguments.into_iter();
    let mut ordered: Vec<OsString> = words.next().into_iter().collect();
    let mut rest: Vec<OsString> = words.collect();
    let is_platforms = |word: &OsString| word == "--platform" || word == "--manifest-fd";
    let count = rest.iter().step_by(2).take_while(|word| is_platforms(word)).count();
    let given: Vec<OsString> = rest.drain(..count.saturating_mul(2).min(rest.len())).collect();
    if !given.is_empty() {
        if rest.first().is_some_and(|word| word == "node") {
            rest.remove(0);
        }
        ordered.push("node".into());
    }
    ordered.extend(given);
    ordered.extend(rest);
    ordered
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const HEX: &str = "0101010101010101010101010101010101010101010101010101010101010101";

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let line = line.replace("HEX", HEX);
        Command::try_parse_from(in_order(line.split(' ').map(OsString::from)))
    }

    #[test]
    fn a_launched_program_is_a_node_whether_or_not_it_is_said() {
        let common = "--node n1 --network HEX --domain HEX --application ledger --registry \
                      http://r --control c --configuration f"
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        let live = "--data d --votes v --client-listen 127.0.0.1:1 --peer-listen 127.0.0.1:2 \
                    --door-listen 127.0.0.1:3 --peer n2=127.0.0.1:4,n3=127.0.0.1:5 \
                    --expect-height 7 --expect-tip HEX"
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        for word in ["", "node "] {
            let line = format!("l --platform p --manifest-fd 3 {word}{common} {live}");
            let Ok(Command::Node(node)) = parse(&line) else { panic!("{:?}", parse(&line)) };
            assert_eq!((node.peer.len(), node.expect_height), (2, Some(7)));
            let line = format!("l --platform p --manifest-fd 3 {word}{common} --try");
            assert!(matches!(parse(&line), Ok(Command::Node(node)) if node.trial));
        }
        let unfinished = format!("l --platform p --manifest-fd 3 {common}");
        assert!(parse(&unfinished).is_err(), "neither data nor a trial");
        assert!(parse(&format!("{unfinished} --try --data d")).is_err(), "both");
    }

    #[test]
    fn tools_take_what_the_agent_gives_them() {
        for line in [
            "l inspect --data d --state s",
            "l snapshot --data d --state s --plan HEX --height 3 --tip HEX",
            "l migrate --data d --plan HEX --height 3 --tip HEX --schema-to 3 --migration a \
             --migration b",
            "l revert --data d --plan HEX --height 3 --tip HEX",
            "l exercise --door 127.0.0.1:1 --registry http://r --network HEX --domain HEX --test \
             self-public --configuration f",
            "l distribute --data d --state s --archive a",
            "l status --door 127.0.0.1:1 --json",
            "l prepare --out o --network HEX",
            "l prepare --out o --network HEX --blocks 7 --schema 2",
            "l configuration --configuration f",
            "l load --wallets w --edge http://e --edge http://f --report r --until-file u",
            "l pay --wallets w --edge http://e --report r --payments 5",
        ] {
            let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(parse(&line).is_ok(), "{line}: {}", parse(&line).unwrap_err());
        }
    }

    #[test]
    fn a_peer_has_a_name_and_an_address() {
        assert!("n2=127.0.0.1:1".parse::<PeerAddress>().is_ok());
        for wrong in ["n2", "n2=", "=127.0.0.1:1", "N2=127.0.0.1:1"] {
            assert!(wrong.parse::<PeerAddress>().is_err(), "{wrong}");
        }
    }
}
