//! Requests through the SDK, and what its errors mean.

use std::error::Error;

use aws_sdk_kms::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};

use crate::fault::{ATTEMPTS_MAX, FIRST_WAIT, Fault, Repeat, shortened};

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
        if !fault.is_worth_repeating(repeat) || attempts == ATTEMPTS_MAX {
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
