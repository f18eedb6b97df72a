//! The access token: from a file that somebody keeps fresh, or from the machine's metadata server.

use std::path::{Path, PathBuf};

use heirloom_model::secret::SecretBytes;
use heirloom_participant::custodian::CustodianError;
use serde_json::Value;

use crate::fault::{Fault, Repeat};
use crate::gcp::Access;
use crate::http::{Method, SYSTEM_AUTHORITIES, Service};
use crate::secret_file::{self, SecretText};

/// The metadata server, by its fixed address: a name could be somebody else.
const METADATA: &str = "http://169.254.169.254";
const PATH: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
const HEADER: (&str, &str) = ("Metadata-Flavor", "Google");

/// Asked for each request: tokens are replaced while we run.
pub(super) enum Token {
    File(PathBuf),
    Metadata(Service),
}

impl Token {
    pub(super) fn new(access: &Access) -> Result<Self, CustodianError> {
        match access {
            Access::File(path) => {
                secret_file::read_text(path)?;
                Ok(Self::File(path.clone()))
            }
            Access::Metadata => {
                let authorities = Path::new(SYSTEM_AUTHORITIES);
                Ok(Self::Metadata(Service::new(METADATA, authorities, meaning)?))
            }
        }
    }

    pub(super) fn read(&self) -> Result<SecretText, CustodianError> {
        let service = match self {
            Self::File(path) => return secret_file::read_text(path),
            Self::Metadata(service) => service,
        };
        let asked = service.ask(Repeat::Always, Method::Get, PATH, HEADER, None);
        let place = "the metadata server";
        let mut answer =
            asked.map_err(|fault| fault.in_words(place, "an access token", Repeat::Always))?;
        let Value::String(token) = answer["access_token"].take() else {
            return Err(CustodianError::Unknown {
                place: place.to_owned(),
                what: "an access token".to_owned(),
                why: "its answer has none".to_owned(),
            });
        };
        Ok(SecretText::new(SecretBytes::new(token.into_bytes())))
    }
}

fn meaning(status: u16, _: &Value, attempts: u32) -> Fault {
    match status {
        429 => Fault::Throttled(attempts),
        400..=499 => Fault::Refused(format!("status {status}")),
        _ => Fault::Unavailable(format!("status {status}")),
    }
}
