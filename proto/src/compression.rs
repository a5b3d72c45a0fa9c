//! How objects are compressed, at rest and on the wire: one zstd frame each, which declares its size.

use std::io;

/// zstd's level 3: twice the speed of its default's next step for 2 % more bytes on manifests.
const LEVEL: i32 = 3;

/// One frame that declares its size, as [`decompress`] wants it. For an object; what is larger goes through
/// [`deflate_stream`].
pub fn compress(bytes: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(bytes, LEVEL).expect("compressing into memory cannot fail")
}

/// `None` when the frame is damaged, or would be larger than `bytes_max`: nothing is allocated beyond that.
pub fn decompress(frame: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    let declared = zstd::zstd_safe::get_frame_content_size(frame).ok()??;
    let size = usize::try_from(declared).ok().filter(|&size| size <= bytes_max)?;
    zstd::bulk::decompress(frame, size).ok()
}

/// Compresses while it is written: nothing is kept but the frame. The frame does not declare its size.
pub fn deflate_stream(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> io::Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), LEVEL)?;
    write(&mut encoder)?;
    encoder.finish()
}

/// Reads what [`deflate_stream`] or [`compress`] made, up to that many bytes, after which it ends.
pub fn inflate_stream(frame: Vec<u8>, bytes_max: u64) -> io::Result<impl io::Read> {
    Ok(io::Read::take(zstd::stream::read::Decoder::new(io::Cursor::new(frame))?, bytes_max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_read_back_up_to_its_bound() {
        let frame = deflate_stream(|to| io::Write::write_all(to, &vec![b'x'; 100_000])).expect("it is in memory");

        let read = |bytes_max| {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut inflate_stream(frame.clone(), bytes_max).expect("is a frame"), &mut bytes)
                .expect("is whole");
            bytes.len()
        };

        assert!(frame.len() < 1_000);
        assert_eq!((read(200_000), read(10)), (100_000, 10));
    }

    #[test]
    fn what_is_compressed_is_decompressed_only_under_the_bound() {
        let bytes = vec![b'x'; 100_000];
        let frame = compress(&bytes);

        assert_eq!(decompress(&frame, 100_000), Some(bytes));
        assert_eq!(decompress(&frame, 99_999), None);
        assert_eq!(decompress(&frame[..frame.len() - 1], 100_000), None);
        assert_eq!(decompress(b"", 100_000), None);
    }
}
