//! How messages become bytes and come out of them: as everywhere, but what cannot be read is marked
//! as such, so that nobody takes a server's words for it.

use std::marker::PhantomData;
use std::sync::Arc;

use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The cause of a status that this side made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the message cannot be read")]
pub struct Unreadable;

/// The codec of every service.
#[derive(Debug)]
pub struct MarkingCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for MarkingCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for MarkingCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = MarkingDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        MarkingDecoder(ProstCodec::<T, U>::default().decoder())
    }
}

/// Reads messages.
#[derive(Debug)]
pub struct MarkingDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default> Decoder for MarkingDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        self.0.decode(from).map_err(|mut status| {
            status.set_source(Arc::new(Unreadable));
            status
        })
    }
}
