//! The TPM as its user sees it.

use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use heirloom_model::secret::Secret;
use zeroize::Zeroizing;

use crate::call::{Answer, Authorisation, Call, Sent};
use crate::code::{CommandCode, ResponseCode};
use crate::error::TpmError;
use crate::key::StorageRoot;
use crate::limit::{RANDOM_BYTES, RETRIES_MAX, RETRY_PAUSE_MAX};
use crate::session::Session;
use crate::structure::{LOCKOUT, OWNER, Target};
use crate::transport::Transport;
use crate::wire::{Reader, Writer};

/// A TPM 2.0.
///
/// Everything that it loads for a caller (keys, sessions, sealed secrets) is unloaded when the
/// value that stands for it is dropped, also after errors. A TPM that says "later" is asked again
/// within [limits](crate::limit); nothing else is repeated.
pub struct Tpm {
    transport: Mutex<Box<dyn Transport + Send>>,
    owner: Option<Secret<32>>,
}

/// What [`Tpm::startup`] found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Startup {
    /// It runs now, with registers at zero.
    Started,
    /// It ran already: firmware or kernel started it.
    Running,
}

impl Tpm {
    /// A TPM whose owner never set an authorisation value.
    pub fn new(transport: impl Transport + Send + 'static) -> Self {
        Self { transport: Mutex::new(Box::new(transport)), owner: None }
    }

    /// A TPM whose owner set this authorisation value; see [`Self::change_owner`].
    pub fn owned(transport: impl Transport + Send + 'static, owner: Secret<32>) -> Self {
        Self { transport: Mutex::new(Box::new(transport)), owner: Some(owner) }
    }

    /// Begins to work with a TPM that nobody else started, or finds that somebody did.
    pub fn startup(&self) -> Result<Startup, TpmError> {
        let clear = Writer::new().u16(0);
        match self.run(Call::new(CommandCode::Startup, clear), Vec::new()) {
            Ok(_) => Ok(Startup::Started),
            Err(error) if error.refusal() == Some(ResponseCode::INITIALIZE) => Ok(Startup::Running),
            Err(error) => Err(error),
        }
    }

    /// Prepares for the loss of power. A TPM that is not told counts that against whoever guesses
    /// authorisation values.
    pub fn shutdown(&self) -> Result<(), TpmError> {
        let clear = Writer::new().u16(0);
        self.run(Call::new(CommandCode::Shutdown, clear), Vec::new()).map(drop)
    }

    /// Makes the TPM test all that was not tested yet.
    pub fn self_test(&self) -> Result<(), TpmError> {
        let untested = Writer::new().u8(0);
        self.run(Call::new(CommandCode::SelfTest, untested), Vec::new()).map(drop)
    }

    /// Fills `bytes` with random numbers of the TPM. They cross the bus in the clear: mix them with
    /// others where they shall be secret.
    pub fn random(&self, bytes: &mut [u8]) -> Result<(), TpmError> {
        for chunk in bytes.chunks_mut(RANDOM_BYTES) {
            let length = u16::try_from(chunk.len()).expect("chunks are short");
            let call = Call::new(CommandCode::GetRandom, Writer::new().u16(length));
            let answer = self.run(call, Vec::new())?;
            let mut reader = answer.reader();
            let random = reader.sized()?;
            if random.len() != chunk.len() {
                return Err(reader.corrupt("it has fewer random bytes than were asked for"));
            }
            chunk.copy_from_slice(random);
            reader.end()?;
        }
        Ok(())
    }

    /// Sets the owner's authorisation value. From then on nobody else makes permanent objects, or
    /// makes or removes counters.
    ///
    /// Whoever loses the value can only clear the whole TPM. After [`TpmError::Unknown`] either
    /// value may be the right one.
    pub fn change_owner(&mut self, owner: Secret<32>) -> Result<(), TpmError> {
        let root = StorageRoot::transient(self)?;
        let mut session = Session::salted(&root)?;
        let old = self.owner_value();
        let parameters = owner.expose(|owner| Writer::new().sized(owner));
        let call = Call::new(CommandCode::HierarchyChangeAuth, parameters)
            .about([Target::bare(OWNER)])
            .with_secret_parameter();
        // The response is authenticated with the new value.
        let new = owner.expose(|owner| Zeroizing::new(owner.to_vec()));
        session.expect_new_value(new);
        self.run(call, vec![Authorisation::Session(&mut session, &old)])?;
        drop(session);
        drop(root);
        self.owner = Some(owner);
        Ok(())
    }

    /// Forgets wrong authorisations, and every loss of power that was counted as one.
    ///
    /// Nothing of ours is affected by them; keys that others made in the TPM are.
    pub fn reset_lockout(&self) -> Result<(), TpmError> {
        let call = Call::new(CommandCode::DictionaryAttackLockReset, Writer::new())
            .about([Target::bare(LOCKOUT)]);
        self.run(call, vec![Authorisation::Empty]).map(drop)
    }

    /// Gives a command and takes its answer.
    pub(crate) fn run(
        &self,
        call: Call,
        authorisations: Vec<Authorisation<'_, '_>>,
    ) -> Result<Answer, TpmError> {
        let command = call.command;
        let sent = Sent::new(call, authorisations);
        let mut pause = Duration::from_millis(1);
        for _ in 0..RETRIES_MAX {
            let response = self.transmit(command, sent.message.as_slice())?;
            let mut reader = Reader::new(command.name(), &response);
            let (tag, _length, code) = (reader.u16()?, reader.u32()?, reader.u32()?);
            if code == 0 {
                return sent.receive(tag, reader.rest());
            }
            let code = ResponseCode::new(code);
            if !code.says_later() {
                return Err(TpmError::Refused { command, code });
            }
            thread::sleep(pause);
            pause = RETRY_PAUSE_MAX.min(pause * 2);
        }
        Err(TpmError::Unreachable { reason: "the TPM is busy".to_owned() })
    }

    /// Gives a command with the owner's authorisation.
    pub(crate) fn run_as_owner(&self, call: Call) -> Result<Answer, TpmError> {
        if self.owner.is_none() {
            return self.run(call, vec![Authorisation::Empty]);
        }
        let mut session = Session::plain(self)?;
        let value = self.owner_value();
        self.run(call.ending_session(), vec![Authorisation::Session(&mut session, &value)])
    }

    /// The owner's authorisation value, which is empty if there is none.
    pub(crate) fn owner_value(&self) -> Zeroizing<Vec<u8>> {
        let value = self.owner.as_ref().map(|owner| owner.expose(|owner| owner.to_vec()));
        Zeroizing::new(value.unwrap_or_default())
    }

    /// Unloads an object or session.
    pub(crate) fn flush(&self, handle: u32) -> Result<(), TpmError> {
        let call = Call::new(CommandCode::FlushContext, Writer::new().u32(handle));
        self.run(call, Vec::new()).map(drop)
    }

    fn transmit(
        &self,
        command: CommandCode,
        message: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        // One command is one step: a thread that panicked left nothing half done.
        let mut transport = self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        transport.transmit(message).map_err(|error| TpmError::of_transport(command, error))
    }
}

impl std::fmt::Debug for Tpm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tpm").finish_non_exhaustive()
    }
}
