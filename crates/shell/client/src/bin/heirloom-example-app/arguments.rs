//! What the application is told. Only the manifest is measured; arguments are the agent's word.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser};
use heirloom_model::identifier::{ApplicationId, DomainId};

/// Asks for keys again and again, and writes down what happened.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Socket of the platform that launched this process; the platform adds this.
    #[arg(long, value_name = "SOCKET")]
    pub(crate) platform: PathBuf,

    /// Where the platform left the manifest; the platform adds this. The platform is asked instead.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) manifest_fd: Option<i32>,

    /// Where the registry is, such as `http://127.0.0.1:7000`
    #[arg(long, value_name = "URL")]
    pub(crate) registry: String,

    /// Whose keys to ask for, if the manifest does not say
    #[arg(long, value_name = "NAME")]
    pub(crate) application: Option<ApplicationId>,

    /// Which domain to ask, if the manifest does not say
    #[arg(long, value_name = "HEX")]
    pub(crate) domain: Option<DomainId>,

    /// Where to write the report, again and again
    #[arg(long, value_name = "FILE")]
    pub(crate) report: PathBuf,

    /// How many key names to ask for, each in every kind and generation
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    pub(crate) keys: u32,

    /// How many keys to ask for at once
    #[arg(long, value_name = "NUMBER", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) batch: u16,

    /// How long to rest after each batch
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 2)]
    pub(crate) pause_ms: u64,

    /// How long one batch may take before its requests count as failed
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10_000)]
    pub(crate) deadline_ms: u64,

    /// How long the first answer may take
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 60_000)]
    pub(crate) start_deadline_ms: u64,

    /// When to end.
    #[command(flatten)]
    pub(crate) end: End,
}

/// When to end: exactly one of these.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct End {
    /// End after this many requests
    #[arg(long, value_name = "NUMBER")]
    pub(crate) requests: Option<u64>,

    /// End after this time
    #[arg(long, value_name = "MILLISECONDS")]
    pub(crate) duration_ms: Option<u64>,

    /// End as soon as this file exists
    #[arg(long, value_name = "FILE")]
    pub(crate) until_file: Option<PathBuf>,
}

impl End {
    pub(crate) fn is_reached(&self, requests: u64, elapsed: Duration) -> bool {
        self.requests.is_some_and(|limit| requests >= limit)
            || self.duration_ms.is_some_and(|limit| elapsed >= Duration::from_millis(limit))
            || self.until_file.as_ref().is_some_and(|file| file.exists())
    }
}

/// Why it is not known what to ask for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgreementError {
    /// Nobody says.
    #[error("neither the manifest nor an argument names the {0}")]
    Missing(&'static str),
    /// They contradict each other.
    #[error("the argument names another {0} than the measured manifest")]
    Different(&'static str),
}

/// What the manifest says; an argument may only repeat it, or fill in what it leaves open.
pub(crate) fn agreed<T: PartialEq>(
    what: &'static str,
    measured: Option<T>,
    told: Option<T>,
) -> Result<T, AgreementError> {
    match (measured, told) {
        (Some(measured), Some(told)) if measured != told => Err(AgreementError::Different(what)),
        (Some(agreed), _) | (None, Some(agreed)) => Ok(agreed),
        (None, None) => Err(AgreementError::Missing(what)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_never_overrides_the_manifest() {
        assert_eq!(agreed("x", Some(1), None).ok(), Some(1));
        assert_eq!(agreed("x", Some(1), Some(1)).ok(), Some(1));
        assert_eq!(agreed("x", None, Some(2)).ok(), Some(2));
        assert!(matches!(agreed("x", Some(1), Some(2)), Err(AgreementError::Different("x"))));
        assert!(matches!(agreed::<u8>("x", None, None), Err(AgreementError::Missing("x"))));
    }

    #[test]
    fn exactly_one_end_is_named() {
        let parse = |end: &[&str]| {
            let common = ["app", "--platform", "p", "--registry", "r", "--report", "f"];
            Arguments::try_parse_from(common.iter().chain(end)).is_ok()
        };
        assert!(parse(&["--requests", "5"]));
        assert!(parse(&["--until-file", "stop", "--manifest-fd", "7"]));
        assert!(!parse(&[]));
        assert!(!parse(&["--requests", "5", "--duration-ms", "5"]));
    }
}
