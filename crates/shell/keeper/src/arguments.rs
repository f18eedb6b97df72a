//! How a keeper is called. Everything here is said by the agent and believed for nothing: which
//! network and domain the keeper serves is in its measured manifest, and a TEE that is named must
//! be the one that is here.

use std::net::SocketAddr;
use std::path::PathBuf;

use heirloom_hardware::tee::Tee;
use heirloom_model::identifier::NodeId;

use crate::door::Door;
use crate::limit::CERTIFICATES_MAX;

/// How to call it.
pub const USAGE: &str = "usage: heirloom-keeper --platform SOCKET --manifest-fd N, \
                         or --tee gramine|tdx|snp|nitro [--certificate FILE]...; \
                         --node NAME --state DIRECTORY --admin SOCKET|LOOPBACK:PORT \
                         --listen ADDRESS:PORT";

/// What an agent says when it starts a keeper.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Arguments {
    /// What it runs on.
    pub ground: Ground,
    /// Where it runs.
    pub node: NodeId,
    /// Directory for sealed files.
    pub state: PathBuf,
    /// Where the agent comes in.
    pub admin: Door,
    /// Address for peers and applications.
    pub listen: SocketAddr,
}

/// What a keeper runs on. Never guessed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ground {
    /// Our launcher measured it, and is its platform.
    Launcher {
        /// Socket of the platform.
        socket: PathBuf,
    },
    /// A TEE that it speaks to itself.
    Tee {
        /// Which.
        tee: Tee,
        /// Certificates in DER of the key of a SEV-SNP machine and of its issuer, for hosts that
        /// do not supply them.
        certificates: Vec<PathBuf>,
    },
}

/// Why the arguments are none.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ArgumentError {
    /// An option that does not exist.
    #[error("unknown option {0:?}; {USAGE}")]
    Unknown(String),
    /// An option without its value, or given twice.
    #[error("{0} needs exactly one value; {USAGE}")]
    Value(&'static str),
    /// Two options that exclude each other, or an option without the one that it belongs to.
    #[error("{0}; {USAGE}")]
    Together(&'static str),
    /// A value that cannot be read.
    #[error("{option} {value:?} is not what it should be; {USAGE}")]
    Malformed {
        /// Which option.
        option: &'static str,
        /// Its value.
        value: String,
    },
}

/// Parses arguments, without the program's name.
pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Arguments, ArgumentError> {
    const OPTIONS: [&str; 7] =
        ["--platform", "--manifest-fd", "--tee", "--node", "--state", "--admin", "--listen"];
    let mut values: [Option<String>; 7] = Default::default();
    let mut certificates = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(option) = arguments.next() {
        if option == CERTIFICATE {
            let value = arguments.next().filter(|_| certificates.len() < CERTIFICATES_MAX);
            certificates.push(PathBuf::from(value.ok_or(ArgumentError::Value(CERTIFICATE))?));
            continue;
        }
        let found = OPTIONS.iter().zip(&mut values).find(|(known, _)| **known == option);
        let (known, slot) = found.ok_or(ArgumentError::Unknown(option))?;
        let value = arguments.next().ok_or(ArgumentError::Value(known))?;
        if slot.replace(value).is_some() {
            return Err(ArgumentError::Value(known));
        }
    }
    let [platform, manifest, tee, node, state, admin, listen] = values;
    let in_tee = tee.is_some();
    Ok(Arguments {
        ground: ground(platform, manifest.as_deref(), tee, certificates)?,
        node: parsed("--node", node)?,
        state: PathBuf::from(needed("--state", state)?),
        admin: door(admin, in_tee)?,
        listen: parsed("--listen", listen)?,
    })
}

const CERTIFICATE: &str = "--certificate";

/// A launcher or a TEE, and nothing that belongs to the other.
fn ground(
    platform: Option<String>,
    manifest: Option<&str>,
    tee: Option<String>,
    certificates: Vec<PathBuf>,
) -> Result<Ground, ArgumentError> {
    let together = |why| Err(ArgumentError::Together(why));
    match (platform, tee) {
        (Some(_), Some(_)) => together("--platform and --tee exclude each other"),
        (None, None) => together("either --platform or --tee says what it runs on"),
        // The manifest is asked of the launcher, which measured it; its copy is not needed.
        (Some(socket), None) if certificates.is_empty() => {
            Ok(Ground::Launcher { socket: PathBuf::from(socket) })
        }
        (Some(_), None) => together("--certificate belongs to --tee snp"),
        (None, Some(_)) if manifest.is_some() => {
            together("--manifest-fd belongs to --platform: in a TEE the manifest has a fixed place")
        }
        (None, Some(tee)) => {
            let tee = parsed("--tee", Some(tee))?;
            if tee != Tee::Snp && !certificates.is_empty() {
                return together("--certificate belongs to --tee snp");
            }
            Ok(Ground::Tee { tee, certificates })
        }
    }
}

/// A socket in the file system, or in a TEE an address that nobody else's host reaches.
fn door(admin: Option<String>, in_tee: bool) -> Result<Door, ArgumentError> {
    let admin = needed("--admin", admin)?;
    match admin.parse::<SocketAddr>() {
        Ok(address) if in_tee && address.ip().is_loopback() && address.port() != 0 => {
            Ok(Door::Loopback(address))
        }
        Ok(_) => Err(ArgumentError::Together(
            "--admin is an address only with --tee, and only a loopback address with a port",
        )),
        Err(_) => Ok(Door::File(PathBuf::from(admin))),
    }
}

fn needed(option: &'static str, value: Option<String>) -> Result<String, ArgumentError> {
    value.ok_or(ArgumentError::Value(option))
}

fn parsed<T: std::str::FromStr>(
    option: &'static str,
    value: Option<String>,
) -> Result<T, ArgumentError> {
    let value = needed(option, value)?;
    value.parse().map_err(|_| ArgumentError::Malformed { option, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "--platform p --manifest-fd 3 --node n1 --state s --admin a \
                        --listen 127.0.0.1:7000";

    fn parse_text(text: &str) -> Result<Arguments, ArgumentError> {
        parse(text.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn every_option_has_exactly_one_value() {
        let parsed = parse_text(GOOD).unwrap();
        assert_eq!(parsed.node.as_str(), "n1");
        assert_eq!(parsed.listen.port(), 7000);
        assert_eq!(parse_text("--platform"), Err(ArgumentError::Value("--platform")));
        let twice = format!("{GOOD} --node n2");
        assert_eq!(parse_text(&twice), Err(ArgumentError::Value("--node")));
        assert_eq!(parse_text("--platform p"), Err(ArgumentError::Value("--node")));
        assert_eq!(parsed.ground, Ground::Launcher { socket: "p".into() });
        let network = "--network".to_owned();
        assert_eq!(parse_text("--network n"), Err(ArgumentError::Unknown(network)));
        let malformed = GOOD.replace("n1", "../n1");
        assert!(matches!(parse_text(&malformed), Err(ArgumentError::Malformed { .. })));
    }

    #[test]
    fn what_it_runs_on_is_said_once_and_never_guessed() {
        let with = |ground: &str| parse_text(&GOOD.replace("--platform p --manifest-fd 3", ground));
        let certificates = vec![PathBuf::from("a"), PathBuf::from("b")];
        let ground = with("--tee snp --certificate a --certificate b").unwrap().ground;
        assert_eq!(ground, Ground::Tee { tee: Tee::Snp, certificates });
        for tee in Tee::ALL {
            let ground = with(&format!("--tee {tee}")).unwrap().ground;
            assert_eq!(ground, Ground::Tee { tee, certificates: Vec::new() });
        }
        let refused = |text: &str| {
            assert!(matches!(parse_text(text), Err(ArgumentError::Together(_))), "{text}");
        };
        for wrong in [
            "",
            "--manifest-fd 3",
            "--platform p --tee gramine",
            "--tee gramine --manifest-fd 3",
            "--tee tdx --certificate a",
            "--platform p --certificate a",
        ] {
            refused(&GOOD.replace("--platform p --manifest-fd 3", wrong));
        }
        // Who may come in by an address is for the host that has it.
        for (wrong, address) in [
            ("--tee gramine", "10.0.0.1:7"),
            ("--tee gramine", "127.0.0.1:0"),
            ("--platform p", "127.0.0.1:7"),
        ] {
            let text = GOOD.replace("--platform p --manifest-fd 3", wrong);
            refused(&text.replace("--admin a", &format!("--admin {address}")));
        }
        let text = GOOD.replace("--platform p --manifest-fd 3", "--tee nitro");
        let own = parse_text(&text.replace("--admin a", "--admin 127.0.0.1:7")).unwrap();
        assert_eq!(own.admin, Door::Loopback("127.0.0.1:7".parse().unwrap()));
        let malformed = ArgumentError::Malformed { option: "--tee", value: "sgx".to_owned() };
        assert_eq!(with("--tee sgx"), Err(malformed));
        let many = "--tee snp --certificate a --certificate b --certificate c";
        assert_eq!(with(many), Err(ArgumentError::Value("--certificate")));
    }
}
