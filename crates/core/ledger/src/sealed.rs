//! Requests and answers that nobody between a client and an instance can read.
//!
//! Each instance makes a key at its start, which its evidence names. A client seals a request to
//! it, together with a key for the answer. Both have one size, whatever is in them.

use heirloom_model::fixed_bytes;
use heirloom_model::secret::Secret;
use heirloom_model::wire::WireError;

use crate::client::{Answer, ClientRequest, pad, unpad};
use crate::context;
use crate::hpke::{self, KEY_BYTES, TAG_BYTES};
use crate::limit::{ANSWER_BYTES, REQUEST_BYTES};

fixed_bytes! {
    /// The key of an instance to which clients seal requests (X25519).
    DoorPublic[32];
    /// The key of a client to which one answer is sealed (X25519).
    ReplyPublic[32];
}

/// Bytes of a sealed request.
pub const SEALED_REQUEST_BYTES: usize = KEY_BYTES + KEY_BYTES + REQUEST_BYTES + TAG_BYTES;
/// Bytes of a sealed answer.
pub const SEALED_ANSWER_BYTES: usize = KEY_BYTES + ANSWER_BYTES + TAG_BYTES;

/// Why sealed bytes say nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SealedError {
    /// They were sealed to another key, or changed on the way.
    #[error("the message is not for this key")]
    NotForThisKey,
    /// They open, and are not what was expected.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// The public half of the secret of an instance.
pub fn door_public(secret: &Secret<KEY_BYTES>) -> DoorPublic {
    DoorPublic::new(secret.expose(hpke::public_of))
}

/// Seals a request to an instance. `ephemeral` and `reply` are random, and used once.
pub fn seal_request(
    request: &ClientRequest,
    door: &DoorPublic,
    ephemeral: &Secret<KEY_BYTES>,
    reply: &Secret<KEY_BYTES>,
) -> Result<Vec<u8>, SealedError> {
    let reply = reply.expose(hpke::public_of);
    let message = [reply.as_slice(), &pad(request)].concat();
    seal(door.as_bytes(), ephemeral, context::SEALED_REQUEST, &message)
}

/// Opens a request as the instance to which it was sealed.
pub fn open_request(
    bytes: &[u8],
    door: &Secret<KEY_BYTES>,
) -> Result<(ClientRequest, ReplyPublic), SealedError> {
    let message = open(bytes, door, context::SEALED_REQUEST)?;
    let split = message.split_first_chunk::<KEY_BYTES>();
    let (reply, request) = split.ok_or(SealedError::NotForThisKey)?;
    Ok((unpad(request)?, ReplyPublic::new(*reply)))
}

/// Seals an answer to who asked. `ephemeral` is random, and used once.
pub fn seal_answer(
    answer: &Answer,
    reply: &ReplyPublic,
    ephemeral: &Secret<KEY_BYTES>,
) -> Result<Vec<u8>, SealedError> {
    seal(reply.as_bytes(), ephemeral, context::SEALED_ANSWER, &pad(answer))
}

/// Opens the answer to a request.
pub fn open_answer(bytes: &[u8], reply: &Secret<KEY_BYTES>) -> Result<Answer, SealedError> {
    Ok(unpad(&open(bytes, reply, context::SEALED_ANSWER)?)?)
}

fn seal(
    to: &[u8; KEY_BYTES],
    ephemeral: &Secret<KEY_BYTES>,
    info: &[u8],
    message: &[u8],
) -> Result<Vec<u8>, SealedError> {
    let sealed = ephemeral.expose(|ephemeral| hpke::seal(to, ephemeral, info, &[], message));
    let (encapsulated, sealed) = sealed.map_err(|_| SealedError::NotForThisKey)?;
    Ok([encapsulated.as_slice(), &sealed].concat())
}

fn open(
    bytes: &[u8],
    secret: &Secret<KEY_BYTES>,
    info: &[u8],
) -> Result<zeroize::Zeroizing<Vec<u8>>, SealedError> {
    let split = bytes.split_first_chunk::<KEY_BYTES>();
    let (encapsulated, sealed) = split.ok_or(SealedError::NotForThisKey)?;
    let opened = secret.expose(|secret| hpke::open(secret, encapsulated, info, &[], sealed));
    opened.map_err(|_| SealedError::NotForThisKey)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Ask, CLIENT_PROTOCOL};

    #[test]
    fn only_the_instance_reads_the_request_and_only_the_client_the_answer() {
        let [door, reply, other] = [1, 2, 3].map(|byte| Secret::new([byte; 32]));
        let [one, two] = [4, 5].map(|byte| Secret::new([byte; 32]));
        let request = ClientRequest { protocol: CLIENT_PROTOCOL, ask: Ask::Node };
        let sealed = seal_request(&request, &door_public(&door), &one, &reply).unwrap();
        assert_eq!(sealed.len(), SEALED_REQUEST_BYTES);
        let (opened, to) = open_request(&sealed, &door).unwrap();
        assert_eq!(opened, request);
        assert_eq!(open_request(&sealed, &other), Err(SealedError::NotForThisKey));
        let answer = Answer::NotYet { reason: "later".to_owned() };
        let back = seal_answer(&answer, &to, &two).unwrap();
        assert_eq!(back.len(), SEALED_ANSWER_BYTES);
        assert_eq!(open_answer(&back, &reply), Ok(answer));
        assert_eq!(open_answer(&back, &other), Err(SealedError::NotForThisKey));
        assert_eq!(open_answer(&sealed, &door), Err(SealedError::NotForThisKey), "other purpose");
        for at in [0, 40, sealed.len() - 1] {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open_request(&changed, &door), Err(SealedError::NotForThisKey), "{at}");
        }
        assert_eq!(open_request(&[], &door), Err(SealedError::NotForThisKey));
    }
}
