//! One command and its response (TPM 2.0 part 1, 18 and 19).

use zeroize::Zeroizing;

use crate::code::CommandCode;
use crate::crypto::{decrypt, encrypt, equal, hmac, random, sha256};
use crate::error::TpmError;
use crate::limit::MESSAGE_BYTES_MAX;
use crate::session::Session;
use crate::structure::{PASSWORD, TAG_NO_SESSIONS, TAG_SESSIONS, Target};
use crate::wire::{Reader, Writer};

/// A command before it is authorised.
pub(crate) struct Call {
    pub(crate) command: CommandCode,
    targets: Vec<Target>,
    parameters: Writer,
    secrecy: Secrecy,
    ends_session: bool,
    answers_handle: bool,
}

/// What must not be readable on the way to the TPM.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Secrecy {
    Nothing,
    FirstParameter,
    FirstAnswer,
}

impl Call {
    pub(crate) fn new(command: CommandCode, parameters: Writer) -> Self {
        Self {
            command,
            targets: Vec::new(),
            parameters,
            secrecy: Secrecy::Nothing,
            ends_session: false,
            answers_handle: false,
        }
    }

    /// About these objects, in the order of the specification.
    pub(crate) fn about<const N: usize>(mut self, targets: [Target; N]) -> Self {
        self.targets = targets.into();
        self
    }

    /// The first parameter is a secret for the TPM.
    pub(crate) fn with_secret_parameter(mut self) -> Self {
        self.secrecy = Secrecy::FirstParameter;
        self
    }

    /// The first part of the response is a secret for us.
    pub(crate) fn with_secret_answer(mut self) -> Self {
        self.secrecy = Secrecy::FirstAnswer;
        self
    }

    /// The session is not used again; the TPM forgets it if it carries the command out.
    pub(crate) fn ending_session(mut self) -> Self {
        self.ends_session = true;
        self
    }

    /// The response names a new object or session.
    pub(crate) fn answering_handle(mut self) -> Self {
        self.answers_handle = true;
        self
    }
}

/// By what right a command is given: one for each of its first targets that needs one.
pub(crate) enum Authorisation<'call, 'tpm> {
    /// The empty authorisation value, as a password.
    Empty,
    /// A session, with the authorisation value of what it authorises.
    Session(&'call mut Session<'tpm>, &'call [u8]),
}

/// What a TPM answered, without its header. Wiped when dropped.
pub(crate) struct Answer {
    command: CommandCode,
    pub(crate) handle: u32,
    parameters: Zeroizing<Vec<u8>>,
}

impl Answer {
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader::new(self.command.name(), &self.parameters)
    }
}

/// A command ready to be sent, and what is needed to understand its response.
pub(crate) struct Sent<'call, 'tpm> {
    pub(crate) message: Writer,
    call: Call,
    authorisations: Vec<Authorisation<'call, 'tpm>>,
    nonce: [u8; 32],
}

impl<'call, 'tpm> Sent<'call, 'tpm> {
    /// Encrypts and authorises a command.
    pub(crate) fn new(mut call: Call, authorisations: Vec<Authorisation<'call, 'tpm>>) -> Self {
        let nonce = random();
        if call.secrecy == Secrecy::FirstParameter {
            let (session, auth) = only_session(&authorisations);
            let key = session.parameter_key(auth, &nonce, session.nonce());
            encrypt(&key, first_sized(call.parameters.as_mut_slice()));
        }
        let area = authorisations.iter().enumerate().fold(Writer::new(), |area, (at, by)| {
            write_authorisation(area, &call, (at, by), &nonce)
        });
        let tag = if authorisations.is_empty() { TAG_NO_SESSIONS } else { TAG_SESSIONS };
        let body = call.targets.iter().fold(Writer::new(), |body, target| body.u32(target.handle));
        let body = if authorisations.is_empty() {
            body
        } else {
            body.u32(length(area.as_slice())).bytes(area.as_slice())
        };
        let body = body.bytes(call.parameters.as_slice());
        let message = Writer::new().u16(tag).u32(length(body.as_slice()) + HEADER);
        let message = message.u32(call.command.code()).bytes(body.as_slice());
        assert!(message.as_slice().len() <= MESSAGE_BYTES_MAX, "inputs of commands have limits");
        Self { message, call, authorisations, nonce }
    }

    /// Takes the response to a command that was carried out apart, and refuses it unless every
    /// session vouches for it.
    pub(crate) fn receive(mut self, tag: u16, body: &[u8]) -> Result<Answer, TpmError> {
        let command = self.call.command;
        let mut reader = Reader::new(command.name(), body);
        let expected = if self.authorisations.is_empty() { TAG_NO_SESSIONS } else { TAG_SESSIONS };
        if tag != expected {
            return Err(reader.corrupt("it is of another form than the command"));
        }
        let handle = if self.call.answers_handle { reader.u32()? } else { 0 };
        if self.authorisations.is_empty() {
            let parameters = Zeroizing::new(reader.rest().to_vec());
            return Ok(Answer { command, handle, parameters });
        }
        let length = usize::try_from(reader.u32()?)
            .map_err(|_| reader.corrupt("it is longer than any response"))?;
        let mut parameters = Zeroizing::new(reader.take(length)?.to_vec());
        let digest = sha256(&[&[0; 4], &command.code().to_be_bytes(), &parameters]);
        for (at, authorisation) in self.authorisations.iter_mut().enumerate() {
            let attributes = attributes(&self.call, at);
            let nonce = reader.sized()?;
            let answered = reader.u8()?;
            let code = reader.sized()?;
            let Authorisation::Session(session, auth) = authorisation else { continue };
            if let Some(key) = session.answer_key(auth) {
                let parts = [digest.as_slice(), nonce, &self.nonce, &[answered]];
                if answered != attributes || !equal(&hmac(&key, &parts), code) {
                    return Err(reader.corrupt("the session does not vouch for it"));
                }
            }
            session.advance(nonce, answered & CONTINUE == 0);
        }
        reader.end()?;
        if self.call.secrecy == Secrecy::FirstAnswer {
            let (session, auth) = only_session(&self.authorisations);
            let key = session.parameter_key(auth, session.nonce(), &self.nonce);
            let length = sized_length(&parameters)
                .ok_or(TpmError::Corrupt { subject: command.name(), what: "it ends too early" })?;
            decrypt(&key, &mut parameters[2..2 + length]);
        }
        Ok(Answer { command, handle, parameters })
    }
}

/// The one session that encrypts: the first authorisation, which is one where anything is secret.
/// Then no session has to vouch for the nonce of another one (part 1, 19.6.5).
fn only_session<'list, 'tpm>(
    authorisations: &'list [Authorisation<'_, 'tpm>],
) -> (&'list Session<'tpm>, &'list [u8]) {
    match authorisations.first() {
        Some(Authorisation::Session(session, auth)) => (session, auth),
        Some(Authorisation::Empty) | None => unreachable!("what is secret has a session, first"),
    }
}

/// `TPMS_AUTH_COMMAND` (part 1, 19.6.5).
fn write_authorisation(
    area: Writer,
    call: &Call,
    (at, authorisation): (usize, &Authorisation<'_, '_>),
    nonce: &[u8; 32],
) -> Writer {
    let Authorisation::Session(session, auth) = authorisation else {
        return area.u32(PASSWORD).sized(&[]).u8(0).sized(&[]);
    };
    let attributes = attributes(call, at);
    let area = area.u32(session.handle()).sized(nonce).u8(attributes);
    let Some(key) = session.command_key(auth) else { return area.sized(&[]) };
    let named = Writer::new().u32(call.command.code());
    let named = call.targets.iter().fold(named, |named, target| target.write_name(named));
    let digest = sha256(&[named.as_slice(), call.parameters.as_slice()]);
    area.sized(&hmac(&key, &[&digest, nonce, session.nonce(), &[attributes]]))
}

/// Attributes of the authorisation at this place.
fn attributes(call: &Call, at: usize) -> u8 {
    let end = if call.ends_session { 0 } else { CONTINUE };
    end | match call.secrecy {
        Secrecy::FirstParameter if at == 0 => DECRYPT,
        Secrecy::FirstAnswer if at == 0 => ENCRYPT,
        Secrecy::Nothing | Secrecy::FirstParameter | Secrecy::FirstAnswer => 0,
    }
}

/// The content of the sized structure that parameters begin with.
fn first_sized(parameters: &mut [u8]) -> &mut [u8] {
    let length = sized_length(parameters).expect("secret parameters are sized");
    &mut parameters[2..2 + length]
}

fn sized_length(parameters: &[u8]) -> Option<usize> {
    let (size, rest) = parameters.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*size));
    (length <= rest.len()).then_some(length)
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("messages are short")
}

/// Tag, length and code.
const HEADER: u32 = 10;
const CONTINUE: u8 = 0x01;
/// The TPM decrypts the first parameter.
const DECRYPT: u8 = 0x20;
/// The TPM encrypts the first part of its answer.
const ENCRYPT: u8 = 0x40;
