//! A session with a token that outlives a removed token: opened when needed, dropped when dead.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use heirloom_participant::custodian::CustodianError;
use heirloom_participant::custodian::key::{KeyScheme, Label, Operation};

use crate::pkcs11::{TokenConfig, object, sign_with};
use crate::secret_file;

/// Modules are initialized once in a process, and never finalized: another custodian may use the
/// same one.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());
/// Tokens that a module shows. Real ones show some; this stops a module that shows no end.
const TOKENS_MAX: usize = 256;
/// What a trial signs.
const TRIAL: &[u8] = b"heirloom: a trial of a session key";

/// Why something was not done in a session: the token's word, or ours.
pub(super) enum Failure {
    Token(Error),
    Custodian(CustodianError),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Token(error)
    }
}

impl From<CustodianError> for Failure {
    fn from(error: CustodianError) -> Self {
        Self::Custodian(error)
    }
}

/// One token.
pub(super) struct Token {
    config: TokenConfig,
    module: Pkcs11,
    session: RefCell<Option<Session>>,
    /// A PIN that was refused is not tried again: the token would lock itself.
    pin_refused: Cell<bool>,
}

impl Token {
    pub(super) fn new(config: &TokenConfig) -> Result<Self, CustodianError> {
        let config = config.clone();
        let module = module(&config.module).map_err(|error| CustodianError::Unreachable {
            place: place(&config),
            why: error.to_string(),
        })?;
        let (session, pin_refused) = (RefCell::default(), Cell::new(false));
        Ok(Self { config, module, session, pin_refused })
    }

    pub(super) fn place(&self) -> String {
        place(&self.config)
    }

    /// Does something in a session that is logged in.
    pub(super) fn with<R>(
        &self,
        act: impl FnOnce(&Session) -> Result<R, Failure>,
    ) -> Result<R, CustodianError> {
        let mut held = self.session.borrow_mut();
        let session = match held.take() {
            Some(session) => held.insert(session),
            None => held.insert(self.log_in()?),
        };
        let done = act(session);
        let is_dead = matches!(&done, Err(Failure::Token(error)) if is_dead(error));
        if is_dead {
            *held = None;
        }
        done.map_err(|failure| self.in_words(failure))
    }

    /// What the token says about itself.
    pub(super) fn product(&self) -> Result<String, CustodianError> {
        let info = self.module.get_token_info(self.slot()?).map_err(|error| self.error(&error))?;
        Ok(format!("{} {}, token {}", info.manufacturer_id(), info.model(), info.label()))
    }

    /// Makes a key that ends with its session, and uses it.
    pub(super) fn try_session_key(&self, scheme: KeyScheme) -> Result<(), CustodianError> {
        // Logged in first: the login belongs to the process.
        self.with(|_| Ok(()))?;
        let failed = |error: Error| self.error(&error);
        let session = self.module.open_rw_session(self.slot()?).map_err(failed)?;
        let (public, private) = object::trial(scheme);
        let mechanism = object::generation(scheme);
        let (_, key) = session.generate_key_pair(&mechanism, &public, &private).map_err(failed)?;
        if scheme.operation() == Operation::Sign {
            sign_with(&session, key, scheme, TRIAL).map_err(failed)?;
        } else {
            // The smallest number of this length that is below every modulus.
            let mut ciphertext = [0; 256];
            ciphertext[255] = 1;
            session.decrypt(&Mechanism::RsaX509, key, &ciphertext).map_err(failed)?;
        }
        Ok(())
    }

    pub(super) fn vanished(&self, label: &Label) -> Failure {
        Failure::Custodian(CustodianError::Unknown {
            place: self.place(),
            what: format!("make key {label}"),
            why: "it said so, and does not have it".to_owned(),
        })
    }

    fn log_in(&self) -> Result<Session, CustodianError> {
        let refused = |why: String| CustodianError::Refused {
            place: self.place(),
            what: "the login".to_owned(),
            why,
        };
        if self.pin_refused.get() {
            return Err(refused("the PIN was wrong and is not tried again".to_owned()));
        }
        let pin = secret_file::read_text(&self.config.pin_file)?;
        let failed = |error: Error| self.error(&error);
        let session = self.module.open_rw_session(self.slot()?).map_err(failed)?;
        let pin = pin.expose(|pin| AuthPin::new(pin.into()));
        match session.login(UserType::User, Some(&pin)) {
            // The login belongs to the process: another custodian here may have done it.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error @ Error::Pkcs11(RvError::PinIncorrect | RvError::PinLocked, _)) => {
                self.pin_refused.set(true);
                Err(refused(short(&error)))
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn slot(&self) -> Result<Slot, CustodianError> {
        let failed = |error: Error| self.error(&error);
        let slots = self.module.get_slots_with_initialized_token().map_err(failed)?;
        let mut found = Vec::new();
        for slot in slots.into_iter().take(TOKENS_MAX) {
            let info = self.module.get_token_info(slot).map_err(failed)?;
            if info.label() == self.config.token {
                found.push(slot);
            }
        }
        match found.as_slice() {
            [slot] => Ok(*slot),
            // A token that is not plugged in still has its keys.
            [] => Err(CustodianError::Unreachable {
                place: self.place(),
                why: "the module shows no such token".to_owned(),
            }),
            several => Err(CustodianError::Refused {
                place: self.place(),
                what: "the token".to_owned(),
                why: format!("{} tokens have this label", several.len()),
            }),
        }
    }

    fn in_words(&self, failure: Failure) -> CustodianError {
        match failure {
            Failure::Custodian(error) => error,
            Failure::Token(error) => self.error(&error),
        }
    }

    fn error(&self, error: &Error) -> CustodianError {
        let place = self.place();
        let why = short(error);
        let what = "what was asked".to_owned();
        if is_dead(error) {
            return CustodianError::Unreachable { place, why };
        }
        if is_unsupported(error) {
            return CustodianError::Unsupported { place, what: format!("this ({why})") };
        }
        match error {
            Error::Pkcs11(
                RvError::ActionProhibited
                | RvError::AttributeReadOnly
                | RvError::KeyFunctionNotPermitted
                | RvError::PinExpired
                | RvError::PinIncorrect
                | RvError::PinLocked
                | RvError::SessionReadOnly
                | RvError::TokenWriteProtected
                | RvError::UserPinNotInitialized,
                _,
            ) => CustodianError::Refused { place, what, why },
            _ => CustodianError::Unknown { place, what, why },
        }
    }
}

/// Whether the session or its token is gone.
fn is_dead(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::DeviceRemoved
                | RvError::SessionClosed
                | RvError::SessionHandleInvalid
                | RvError::TokenNotPresent
                | RvError::TokenNotRecognized
                | RvError::UserNotLoggedIn,
            _
        )
    )
}

/// Whether the token does not do this with any key.
pub(super) fn is_unsupported(error: &Error) -> bool {
    matches!(
        error,
        Error::NotSupported
            | Error::NullFunctionPointer
            | Error::Pkcs11(
                RvError::ArgumentsBad
                    | RvError::AttributeTypeInvalid
                    | RvError::AttributeValueInvalid
                    | RvError::CurveNotSupported
                    | RvError::DomainParamsInvalid
                    | RvError::FunctionNotSupported
                    | RvError::MechanismInvalid
                    | RvError::MechanismParamInvalid,
                _
            )
    )
}

/// Whether the ciphertext was not made for the key.
pub(super) fn is_bad_ciphertext(error: &Error) -> bool {
    matches!(
        error,
        Error::Pkcs11(
            RvError::DataInvalid
                | RvError::DataLenRange
                | RvError::EncryptedDataInvalid
                | RvError::EncryptedDataLenRange,
            _
        )
    )
}

/// The function and the name of the answer, without the paragraph of the standard.
fn short(error: &Error) -> String {
    match error {
        Error::Pkcs11(code, function) => format!("{function}: {code:?}"),
        other => other.to_string(),
    }
}

fn place(config: &TokenConfig) -> String {
    format!("token {} of {}", config.token, config.module.display())
}

fn module(path: &Path) -> Result<Pkcs11, Error> {
    let mut modules = MODULES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(module) = modules.get(path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path)?;
    match module.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
        // Somebody else in this process did it.
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(error),
    }
    modules.insert(path.to_owned(), module.clone());
    Ok(module)
}
