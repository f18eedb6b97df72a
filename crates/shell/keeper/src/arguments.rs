//! How a keeper is called. Everything here is said by the agent and believed for nothing: which
//! network and domain the keeper serves is in its measured manifest.

use std::net::SocketAddr;
use std::path::PathBuf;

use heirloom_model::identifier::NodeId;

/// How to call it.
pub const USAGE: &str = "usage: heirloom-keeper --platform SOCKET --manifest-fd N --node NAME \
                         --state DIRECTORY --admin SOCKET --listen ADDRESS:PORT";

/// What an agent says when it launches a keeper.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Arguments {
    /// Socket of the platform.
    pub platform: PathBuf,
    /// Where it runs.
    pub node: NodeId,
    /// Directory for sealed files.
    pub state: PathBuf,
    /// Socket for the agent.
    pub admin: PathBuf,
    /// Address for peers and applications.
    pub listen: SocketAddr,
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
    const OPTIONS: [&str; 6] =
        ["--platform", "--manifest-fd", "--node", "--state", "--admin", "--listen"];
    let mut values: [Option<String>; 6] = Default::default();
    let mut arguments = arguments.into_iter();
    while let Some(option) = arguments.next() {
        let found = OPTIONS.iter().zip(&mut values).find(|(known, _)| **known == option);
        let (known, slot) = found.ok_or(ArgumentError::Unknown(option))?;
        let value = arguments.next().ok_or(ArgumentError::Value(known))?;
        if slot.replace(value).is_some() {
            return Err(ArgumentError::Value(known));
        }
    }
    // The manifest is asked of the platform, which measured it; its copy is not needed.
    let [platform, _manifest, node, state, admin, listen] = values;
    Ok(Arguments {
        platform: PathBuf::from(needed("--platform", platform)?),
        node: parsed("--node", node)?,
        state: PathBuf::from(needed("--state", state)?),
        admin: PathBuf::from(needed("--admin", admin)?),
        listen: parsed("--listen", listen)?,
    })
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
        let network = "--network".to_owned();
        assert_eq!(parse_text("--network n"), Err(ArgumentError::Unknown(network)));
        let malformed = GOOD.replace("n1", "../n1");
        assert!(matches!(parse_text(&malformed), Err(ArgumentError::Malformed { .. })));
    }
}
