//! What an answer of the KMS means, and how often it is asked again.

use std::error::Error;
use std::time::Duration;

use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use heirloom_participant::custodian::CustodianError;

/// How often one request is sent in all. Four within a second: the caller knows better whether to
/// wait longer.
const ATTEMPTS_MAX: u32 = 4;
/// Before the second one; doubled before each other.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// Of the words of an error.
const WORDS_MAX: usize = 400;

/// Whether a request may be sent again when nobody knows if it was carried out.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Repeat {
    /// It changes nothing, or nothing more.
    Always,
    /// It would make a second key.
    IfRefused,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// There is no such key or alias.
    NotFound,
    /// The alias is taken.
    Exists,
    /// Each of so many attempts was refused for its rate.
    Throttled(u32),
    /// It says no.
    Refused(String),
    /// It cannot do this.
    Unsupported(String),
    /// It is there and does not work now.
    Unavailable(String),
    /// It did not answer, or not in time.
    Silent(String),
    /// It answered something else.
    Strange(String),
}

impl Fault {
    /// As an error about a request that may (not) have changed something.
    pub(super) fn in_words(self, place: &str, what: &str, repeat: Repeat) -> CustodianError {
        let (place, what) = (place.to_owned(), what.to_owned());
        match self {
            Self::NotFound => CustodianError::Missing { key: what, place },
            Self::Throttled(attempts) => CustodianError::Throttled { place, attempts },
            Self::Refused(why) => CustodianError::Refused { place, what, why },
            Self::Unsupported(why) => {
                CustodianError::Unsupported { place, what: format!("{what} ({why})") }
            }
            Self::Unavailable(why) | Self::Silent(why) if repeat == Repeat::Always => {
                CustodianError::Unreachable { place, why }
            }
            Self::Unavailable(why) | Self::Silent(why) | Self::Strange(why) => {
                CustodianError::Unknown { place, what, why }
            }
            Self::Exists => {
                CustodianError::Unknown { place, what, why: "the name is taken".to_owned() }
            }
        }
    }
}

/// Sends a request, and again if that is right.
pub(super) async fn ask<T, E, R, F>(
    repeat: Repeat,
    request: impl Fn() -> F + Send + Sync,
) -> Result<T, Fault>
where
    E: ProvideErrorMetadata + Error + Send + 'static,
    R: std::fmt::Debug + Send + 'static,
    F: Future<Output = Result<T, SdkError<E, R>>> + Send,
{
    let mut wait = FIRST_WAIT;
    let mut attempts = 0;
    loop {
        attempts += 1;
        let fault = match request().await {
            Ok(answer) => return Ok(answer),
            Err(error) => fault_of(&error, attempts),
        };
        let again = match &fault {
            Fault::Throttled(_) => true,
            Fault::Unavailable(_) | Fault::Silent(_) => repeat == Repeat::Always,
            Fault::NotFound
            | Fault::Exists
            | Fault::Refused(_)
            | Fault::Unsupported(_)
            | Fault::Strange(_) => false,
        };
        if !again || attempts == ATTEMPTS_MAX {
            return Err(fault);
        }
        tokio::time::sleep(wait).await;
        wait *= 2;
    }
}

fn fault_of<E, R>(error: &SdkError<E, R>, attempts: u32) -> Fault
where
    E: ProvideErrorMetadata + Error + 'static,
    R: std::fmt::Debug + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            let service = service.err();
            let code = service.code().unwrap_or_default();
            let words = format!("{code}: {}", service.message().unwrap_or("no reason given"));
            fault_of_code(code, shortened(&words), attempts)
        }
        SdkError::TimeoutError(_) => Fault::Silent("no answer in time".to_owned()),
        SdkError::DispatchFailure(_) => {
            Fault::Silent(shortened(&DisplayErrorContext(error).to_string()))
        }
        SdkError::ConstructionFailure(_) => {
            Fault::Refused(shortened(&DisplayErrorContext(error).to_string()))
        }
        _ => Fault::Strange(shortened(&DisplayErrorContext(error).to_string())),
    }
}

fn fault_of_code(code: &str, words: String, attempts: u32) -> Fault {
    match code {
        "NotFoundException" => Fault::NotFound,
        "AlreadyExistsException" => Fault::Exists,
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "SlowDown" => Fault::Throttled(attempts),
        "UnsupportedOperationException" | "ValidationException" | "InvalidKeySpecException" => {
            Fault::Unsupported(words)
        }
        "DependencyTimeoutException"
        | "InternalError"
        | "InternalFailure"
        | "KMSInternalException"
        | "KeyUnavailableException"
        | "ServiceUnavailable"
        | "ServiceUnavailableException" => Fault::Unavailable(words),
        "AccessDeniedException"
        | "DisabledException"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "IncorrectKeyException"
        | "IncorrectKeyMaterialException"
        | "InvalidArnException"
        | "InvalidCiphertextException"
        | "InvalidClientTokenId"
        | "InvalidKeyUsageException"
        | "InvalidSignatureException"
        | "KMSInvalidStateException"
        | "LimitExceededException"
        | "MissingAuthenticationToken"
        | "OptInRequired"
        | "TagException"
        | "UnrecognizedClientException" => Fault::Refused(words),
        _ => Fault::Strange(words),
    }
}

fn shortened(words: &str) -> String {
    words.chars().take(WORDS_MAX).collect()
}
