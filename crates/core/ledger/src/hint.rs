//! How the owner of a private output finds it.
//!
//! Who pays seals the owner's key and the blinding to the network's view key. Who has the view
//! secret finds in this way whose an output is, and tells its owner only. The view secret is a
//! long-lived key of the service: without it nobody finds what was paid to them privately.

use heirloom_model::fixed_bytes;
use heirloom_model::secret::Secret;
use heirloom_model::signature::PublicKey;

use crate::amount::Amount;
use crate::context;
use crate::hpke::{self, KEY_BYTES, TAG_BYTES};
use crate::output::{Blinding, Commitment, Output, OutputId, SealedHint};

fixed_bytes! {
    /// The public half of the network's view key (X25519).
    ViewPublic[32];
}

/// The network's view key. Wiped when dropped; it does not print, clone or compare.
pub struct ViewSecret {
    secret: Secret<KEY_BYTES>,
    public: ViewPublic,
}

/// What a hint says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hint {
    /// Whose the output is.
    pub recipient: PublicKey,
    /// What hides it in the commitment.
    pub blinding: Blinding,
}

/// A private output whose owner was found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Match {
    /// The output.
    pub output: OutputId,
    /// Whose it is.
    pub hint: Hint,
    /// How much it is.
    pub amount: Amount,
}

/// Why a hint says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HintError {
    /// It was sealed for another key, or for another output, or changed.
    #[error("the hint is not for this key and this output")]
    NotForThisKey,
    /// It opens, and does not belong to the commitment: who paid lost the money.
    #[error("the hint does not belong to the commitment")]
    NotOfThisOutput,
}

impl ViewSecret {
    /// The key with these bytes.
    pub fn new(secret: Secret<KEY_BYTES>) -> Self {
        let public = ViewPublic::new(secret.expose(hpke::public_of));
        Self { secret, public }
    }

    /// The public half, which who pays needs.
    pub fn public(&self) -> ViewPublic {
        self.public
    }

    /// Finds out whose a private output is.
    pub fn open(&self, commitment: &Commitment, hint: &SealedHint) -> Result<Hint, HintError> {
        let (encapsulated, sealed) = hint.as_bytes().split_at(KEY_BYTES);
        let encapsulated = <&[u8; KEY_BYTES]>::try_from(encapsulated);
        let encapsulated = encapsulated.expect("the hint was split there");
        let opened = self.secret.expose(|secret| {
            hpke::open(secret, encapsulated, context::HINT, commitment.as_bytes(), sealed)
        });
        let opened = opened.map_err(|_| HintError::NotForThisKey)?;
        let (recipient, blinding) = opened.split_at(PublicKey::BYTES);
        let recipient = <[u8; PublicKey::BYTES]>::try_from(recipient);
        let blinding = <[u8; Blinding::BYTES]>::try_from(blinding);
        let (Ok(recipient), Ok(blinding)) = (recipient, blinding) else {
            return Err(HintError::NotForThisKey);
        };
        let hint = Hint { recipient: PublicKey::new(recipient), blinding: Blinding::new(blinding) };
        if *commitment != Commitment::of(&hint.recipient, &hint.blinding) {
            return Err(HintError::NotOfThisOutput);
        }
        Ok(hint)
    }
}

impl Output {
    /// An output that everybody sees.
    pub fn public(owner: PublicKey, amount: Amount) -> Self {
        Self::Public { owner, amount }
    }

    /// An output whose owner only the view key finds. Blinding and ephemeral key are random, and
    /// used once.
    pub fn private(
        owner: PublicKey,
        amount: Amount,
        view: &ViewPublic,
        blinding: Blinding,
        ephemeral: &Secret<KEY_BYTES>,
    ) -> Result<Self, HintError> {
        let commitment = Commitment::of(&owner, &blinding);
        let message = [owner.as_bytes().as_slice(), blinding.as_bytes()].concat();
        let sealed = ephemeral.expose(|ephemeral| {
            let aad = commitment.as_bytes();
            hpke::seal(view.as_bytes(), ephemeral, context::HINT, aad, &message)
        });
        let (encapsulated, sealed) = sealed.map_err(|_| HintError::NotForThisKey)?;
        let bytes = [encapsulated.as_slice(), &sealed].concat();
        let bytes = <[u8; SealedHint::BYTES]>::try_from(bytes);
        let hint = SealedHint::new(bytes.expect("a sealed hint has one size"));
        Ok(Self::Private { commitment, hint, amount })
    }
}

/// Finds the owners of all private outputs whose hints the key opens.
pub fn scan<'a>(
    view: &ViewSecret,
    outputs: impl IntoIterator<Item = (OutputId, &'a Output)>,
) -> Vec<Match> {
    let found = |(id, output): (OutputId, &Output)| match output {
        Output::Public { .. } => None,
        Output::Private { commitment, hint, amount } => {
            let hint = view.open(commitment, hint).ok()?;
            Some(Match { output: id, hint, amount: *amount })
        }
    };
    outputs.into_iter().filter_map(found).collect()
}

const _: () =
    assert!(SealedHint::BYTES == KEY_BYTES + PublicKey::BYTES + Blinding::BYTES + TAG_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    fn view(byte: u8) -> ViewSecret {
        ViewSecret::new(Secret::new([byte; 32]))
    }

    fn paid(view: &ViewSecret) -> Output {
        let (owner, blinding) = (PublicKey::new([1; 32]), Blinding::new([2; 32]));
        let ephemeral = Secret::new([3; 32]);
        Output::private(owner, Amount(5), &view.public(), blinding, &ephemeral).unwrap()
    }

    #[test]
    fn the_view_key_finds_private_outputs_and_no_other_key_does() {
        let outputs = [paid(&view(7)), Output::public(PublicKey::new([1; 32]), Amount(1))];
        let named = |outputs: &'static str| {
            OutputId::new(heirloom_model::digest::sha256(&[outputs.as_bytes()]))
        };
        let ids = [named("a"), named("b")];
        let found = scan(&view(7), ids.into_iter().zip(&outputs));
        let hint = Hint { recipient: PublicKey::new([1; 32]), blinding: Blinding::new([2; 32]) };
        assert_eq!(found, [Match { output: ids[0], hint, amount: Amount(5) }]);
        assert_eq!(scan(&view(8), ids.into_iter().zip(&outputs)), []);
    }

    #[test]
    fn a_hint_belongs_to_one_output() {
        let view = view(7);
        let Output::Private { commitment, hint, .. } = paid(&view) else { unreachable!() };
        assert!(view.open(&commitment, &hint).is_ok());
        let other = Commitment::new([9; 32]);
        assert_eq!(view.open(&other, &hint), Err(HintError::NotForThisKey));
        for place in [0, 40, 111] {
            let mut bytes = *hint.as_bytes();
            bytes[place] ^= 1;
            let changed = view.open(&commitment, &SealedHint::new(bytes));
            assert_eq!(changed, Err(HintError::NotForThisKey), "byte {place}");
        }
        let lie = [[1; 32], [4; 32]].concat();
        let aad = commitment.as_bytes();
        let (key, sealed) =
            hpke::seal(view.public().as_bytes(), &[3; 32], context::HINT, aad, &lie).unwrap();
        let lie = SealedHint::new([key.as_slice(), &sealed].concat().try_into().unwrap());
        assert_eq!(view.open(&commitment, &lie), Err(HintError::NotOfThisOutput));
    }
}
