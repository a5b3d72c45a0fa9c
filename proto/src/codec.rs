//! Messages as bytes: as prost writes them, with buffers of their size, and none read that would be many times as large.
//!
//! A stream keeps a buffer for each direction for as long as it lives, and a hub keeps ten thousand streams: tonic's own
//! 8 KiB would be most of what it needs for a quiet agent.

use std::marker::PhantomData;

use prost::Message;
use prost::bytes::Buf as _;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::ProstCodec;

use crate::weight::{Received, count_fields};

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
    U: Message + Default + Received + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = <ProstCodec<T, U> as Codec>::Encoder;
    type Decoder = WeighingDecoder<<ProstCodec<T, U> as Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }

    fn decoder(&mut self) -> Self::Decoder {
        WeighingDecoder(ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)))
    }
}

/// Reads no message that would be many times its bytes.
#[derive(Debug)]
pub(crate) struct WeighingDecoder<D>(D);

impl<D: Decoder<Error = Status, Item: Received>> Decoder for WeighingDecoder<D> {
    type Item = D::Item;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<D::Item>, Status> {
        // It is all in one piece: tonic collects it in one buffer.
        let (fields, bytes) = (count_fields(message.chunk()), message.remaining());
        if !D::Item::is_sound(fields, bytes) {
            return Err(Status::invalid_argument(format!("a message of {fields} fields in {bytes} bytes is refused")));
        }
        self.0.decode(message)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use prost::encoding::{WireType, encode_key, encode_varint};
    use tonic::{Status, Streaming};

    use super::*;
    use crate::v1::{FromAgent, FromHub, from_agent};

    /// What the hub makes of one message of an agent: the fields of a message with this tag.
    async fn read(tag: u32, fields: &[u8]) -> Result<Option<FromAgent>, Status> {
        let mut message = Vec::new();
        encode_key(tag, WireType::LengthDelimited, &mut message);
        encode_varint(fields.len() as u64, &mut message);
        message.extend_from_slice(fields);
        let length = u32::try_from(message.len()).expect("it is small");
        let framed = [&[0], &length.to_be_bytes()[..], &message].concat();
        let decoder = SmallCodec::<FromHub, FromAgent>::default().decoder();
        let body = Full::new(std::collections::VecDeque::from(framed));
        Streaming::new_request(decoder, body, None, None).message().await
    }

    const EMPTY: [u8; 1] = [0];

    /// A list of so many elements of these bytes.
    fn list(tag: u32, element: &[u8], count: usize) -> Vec<u8> {
        let mut one = Vec::new();
        encode_key(tag, WireType::LengthDelimited, &mut one);
        one.extend_from_slice(element);
        one.repeat(count)
    }

    #[tokio::test]
    async fn what_would_be_many_times_its_bytes_is_not_decoded() {
        // Lines of a report, fields of a drift, targets of an inventory, objects that are asked for.
        for (message, field) in [(2, 10), (4, 10), (5, 1), (6, 1)] {
            let mut fields = list(field, &EMPTY, 150_000);
            let refused = read(message, &fields).await.map(drop).expect_err("it is small on the wire only");
            assert!(refused.message().contains("fields"), "{refused}");

            // prost keeps what it has read until it finds that the rest cannot be.
            fields.push(0xff);
            let refused = read(message, &fields).await.map(drop).expect_err("it is small on the wire only");
            assert!(refused.message().contains("fields"), "{refused}");
        }
    }

    #[tokio::test]
    async fn lists_as_long_as_honest_agents_send_them_are_decoded() {
        let digest = [&[32][..], &[7; 32]].concat();
        let target = [&[0x0a, 16][..], &[7; 16], &[0x10, 1, 0x18, 1, 0x22, 32], &[7; 32]].concat();
        let target = [&[u8::try_from(target.len()).expect("it is short")][..], &target].concat();
        let fact = [&[10, 0x0a, 3][..], b"cpu", &[0x12, 3], b"two"].concat();

        for (message, fields) in [(1, list(6, &fact, 64)), (2, list(10, &EMPTY, 50)), (4, list(10, &EMPTY, 20))] {
            assert!(read(message, &fields).await.expect("few fields").is_some());
        }
        let need = read(6, &list(1, &digest, 10_000)).await.expect("a full bundle's").and_then(|read| read.message);
        let inventory = read(5, &list(1, &target, 10_000)).await.expect("many targets").and_then(|read| read.message);

        assert!(matches!(need, Some(from_agent::Message::Need(need)) if need.objects.len() == 10_000));
        assert!(matches!(inventory, Some(from_agent::Message::Inventory(all)) if all.listed.len() == 10_000));
    }
}
