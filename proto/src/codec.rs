//! Messages as bytes: as prost writes them, with buffers of their size.
//!
//! A stream keeps a buffer for each direction for as long as it lives, and a hub keeps ten thousand streams: tonic's own
//! 8 KiB would be most of what it needs for a quiet agent.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::ProstCodec;

/// A heartbeat is a few bytes, a report on what is well about a hundred. Larger messages make a buffer grow.
const BUFFER_BYTES: usize = 512;
/// tonic's own: so much is put together before it is sent.
const YIELD_BYTES: usize = 32 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct SmallCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = <ProstCodec<T, U> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}
