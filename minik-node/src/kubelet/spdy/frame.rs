//! Frames of SPDY/3.1 to bytes and back: pure, and the only part that knows their layout.
//!
//! ```text
//! control  1 version:15 type:16 | flags:8 length:24 | payload       data  0 stream:31 | flags:8 length:24 | payload
//! ```
//! Each direction compresses its headers as one zlib stream with a [`dictionary`](super::dictionary), so frames must be
//! written in the order in which they were encoded. Frames that a server of Kubernetes has no use for (SETTINGS,
//! WINDOW_UPDATE, GOAWAY, HEADERS, SYN_REPLY) are passed over, as its own library does.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, CompressError, Compression, Decompress, DecompressError, FlushCompress, FlushDecompress};

use super::dictionary::dictionary;

/// Longest control frame taken, in bytes.
const MAX_CONTROL: usize = 64 << 10;
/// Most that the headers of one frame may be, decompressed.
const MAX_HEADERS: usize = 64 << 10;
const VERSION: u16 = 3;
const FLAG_FIN: u8 = 1;
/// The stream that is reset is not wanted.
pub const REFUSED_STREAM: u32 = 3;
/// The stream that is reset has no reader any more.
pub const CANCEL: u32 = 5;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const HEADERS: u16 = 8;

/// Headers by name, in lower case.
pub type Headers = BTreeMap<String, String>;

/// What one end tells the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins.
    SynStream {
        /// Its number: odd, when a client began it.
        stream: u32,
        /// Nothing follows in this direction.
        fin: bool,
        /// What it is for.
        headers: Headers,
    },
    /// A stream that the other end began is accepted.
    SynReply {
        /// Which.
        stream: u32,
    },
    /// Bytes of a stream; a long frame arrives in pieces.
    Data {
        /// Which.
        stream: u32,
        /// Nothing follows in this direction.
        fin: bool,
        /// Some of its bytes.
        bytes: Bytes,
    },
    /// A stream is over in both directions.
    RstStream {
        /// Which.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// Asks for the same frame back.
    Ping(u32),
}

/// The other end does not speak SPDY/3.1 as we know it; nothing that follows can be understood.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Another version of the protocol.
    #[error("SPDY version {0}")]
    Version(u16),
    /// A control frame beyond [`MAX_CONTROL`], or headers beyond [`MAX_HEADERS`].
    #[error("a frame is too long")]
    TooLong,
    /// A frame that ends before its content does.
    #[error("a frame is cut short")]
    Short,
    /// Headers are no UTF-8.
    #[error("headers are not text")]
    Text(#[source] std::string::FromUtf8Error),
    /// Headers of the other end.
    #[error("decompress headers")]
    Decompress(#[source] DecompressError),
    /// Headers of ours.
    #[error("compress headers")]
    Compress(#[source] CompressError),
}

/// Bytes to frames.
#[derive(Debug)]
pub struct Decoder {
    buffer: BytesMut,
    inflate: Decompress,
    /// The data frame under way: stream, what is left of it, whether it is the last.
    data: Option<(u32, usize, bool)>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            inflate: Decompress::new(true),
            data: None,
        }
    }
}

impl Decoder {
    /// Takes what has arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next frame, if enough of it has arrived.
    ///
    /// # Errors
    /// [`FrameError`]; the connection is of no use from then on.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some((stream, left, fin)) = self.data {
                return Ok(self.data_piece(stream, left, fin));
            }
            let Some(head) = self.buffer.first_chunk::<8>() else {
                return Ok(None);
            };
            let [first, second, third, fourth, flags, length @ ..] = *head;
            let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
            if first & 0x80 == 0 {
                let stream = u32::from_be_bytes([first, second, third, fourth]);
                self.buffer.advance(8);
                self.data = Some((stream, length, flags & FLAG_FIN != 0));
                continue;
            }
            let version = u16::from_be_bytes([first & 0x7f, second]);
            if version != VERSION {
                return Err(FrameError::Version(version));
            }
            if length > MAX_CONTROL {
                return Err(FrameError::TooLong);
            }
            if self.buffer.len() < 8 + length {
                return Ok(None);
            }
            self.buffer.advance(8);
            let payload = self.buffer.split_to(length).freeze();
            if let Some(frame) = self.control(u16::from_be_bytes([third, fourth]), flags, payload)? {
                return Ok(Some(frame));
            }
        }
    }

    fn data_piece(&mut self, stream: u32, left: usize, fin: bool) -> Option<Frame> {
        let now = left.min(self.buffer.len());
        if now == 0 && left > 0 {
            return None;
        }
        let bytes = self.buffer.split_to(now).freeze();
        let after = left - now;
        self.data = (after > 0).then_some((stream, after, fin));
        Some(Frame::Data {
            stream,
            fin: fin && after == 0,
            bytes,
        })
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: Bytes) -> Result<Option<Frame>, FrameError> {
        let mut word = || payload.try_get_u32().map_err(|_short| FrameError::Short);
        Ok(match kind {
            SYN_STREAM => {
                let stream = word()? & 0x7fff_ffff;
                word()?; // the stream it belongs to
                payload.try_get_u16().map_err(|_short| FrameError::Short)?; // priority and slot
                Some(Frame::SynStream {
                    stream,
                    fin: flags & FLAG_FIN != 0,
                    headers: self.headers(&payload)?,
                })
            }
            // Their headers are part of the one compressed text, which has to be followed.
            SYN_REPLY | HEADERS => {
                word()?;
                self.headers(&payload)?;
                None
            }
            RST_STREAM => Some(Frame::RstStream {
                stream: word()? & 0x7fff_ffff,
                status: word()?,
            }),
            PING => Some(Frame::Ping(word()?)),
            _ => None,
        })
    }

    fn headers(&mut self, block: &[u8]) -> Result<Headers, FrameError> {
        let mut plain = Bytes::from(self.inflate(block)?);
        let mut headers = Headers::new();
        let text = |plain: &mut Bytes| {
            let length = plain.try_get_u32().map_err(|_short| FrameError::Short)? as usize;
            if plain.len() < length {
                return Err(FrameError::Short);
            }
            String::from_utf8(plain.split_to(length).to_vec()).map_err(FrameError::Text)
        };
        for _ in 0..plain.try_get_u32().map_err(|_short| FrameError::Short)? {
            let name = text(&mut plain)?.to_ascii_lowercase();
            headers.insert(name, text(&mut plain)?);
        }
        Ok(headers)
    }

    fn inflate(&mut self, mut block: &[u8]) -> Result<Vec<u8>, FrameError> {
        let mut plain = Vec::with_capacity(1024);
        loop {
            let (read, written) = (self.inflate.total_in(), plain.len());
            match self.inflate.decompress_vec(block, &mut plain, FlushDecompress::Sync) {
                Ok(_) => {}
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate
                        .set_dictionary(&dictionary())
                        .map_err(FrameError::Decompress)?;
                }
                Err(error) => return Err(FrameError::Decompress(error)),
            }
            let read = (self.inflate.total_in() - read) as usize;
            block = &block[read..];
            if plain.len() > MAX_HEADERS {
                return Err(FrameError::TooLong);
            }
            if block.is_empty() && plain.len() < plain.capacity() {
                return Ok(plain);
            }
            if read == 0 && plain.len() == written && plain.len() < plain.capacity() {
                return Err(FrameError::Short);
            }
            plain.reserve(1024);
        }
    }
}

/// Frames to bytes.
#[derive(Debug)]
pub struct Encoder {
    deflate: Compress,
}

impl Encoder {
    /// For one direction of a connection.
    ///
    /// # Errors
    /// [`FrameError::Compress`]
    pub fn new() -> Result<Self, FrameError> {
        let mut deflate = Compress::new(Compression::fast(), true);
        deflate.set_dictionary(&dictionary()).map_err(FrameError::Compress)?;
        Ok(Self { deflate })
    }

    /// The bytes of a frame.
    ///
    /// # Errors
    /// [`FrameError::Compress`]
    pub fn encode(&mut self, frame: &Frame) -> Result<Bytes, FrameError> {
        let mut payload = BytesMut::new();
        Ok(match frame {
            Frame::Data { stream, fin, bytes } => {
                payload.reserve(8 + bytes.len());
                payload.put_u32(*stream);
                payload.put_u8(u8::from(*fin));
                payload.put_uint(bytes.len() as u64, 3);
                payload.put_slice(bytes);
                payload.freeze()
            }
            Frame::SynStream { stream, fin, headers } => {
                payload.put_u32(*stream);
                payload.put_u32(0);
                payload.put_u16(0);
                payload.put_slice(&self.deflate(headers)?);
                control(SYN_STREAM, u8::from(*fin), &payload)
            }
            Frame::SynReply { stream } => {
                payload.put_u32(*stream);
                payload.put_slice(&self.deflate(&Headers::new())?);
                control(SYN_REPLY, 0, &payload)
            }
            Frame::RstStream { stream, status } => {
                payload.put_u32(*stream);
                payload.put_u32(*status);
                control(RST_STREAM, 0, &payload)
            }
            Frame::Ping(number) => control(PING, 0, &number.to_be_bytes()),
        })
    }

    fn deflate(&mut self, headers: &Headers) -> Result<Vec<u8>, FrameError> {
        let mut plain = Vec::new();
        plain.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(text.len() as u32);
            plain.put_slice(text.as_bytes());
        }
        let mut block = Vec::with_capacity(plain.len() + 64);
        let mut rest = plain.as_slice();
        loop {
            let read = self.deflate.total_in();
            self.deflate
                .compress_vec(rest, &mut block, FlushCompress::Sync)
                .map_err(FrameError::Compress)?;
            rest = &rest[(self.deflate.total_in() - read) as usize..];
            // Room left means that all of it is out.
            if rest.is_empty() && block.len() < block.capacity() {
                return Ok(block);
            }
            block.reserve(256);
        }
    }
}

fn control(kind: u16, flags: u8, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(8 + payload.len());
    bytes.put_u16(0x8000 | VERSION);
    bytes.put_u16(kind);
    bytes.put_u8(flags);
    bytes.put_uint(payload.len() as u64, 3);
    bytes.put_slice(payload);
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let headers = proptest::collection::btree_map("[a-z-]{1,12}", "[ -~]{0,40}", 0..5);
        let bytes = proptest::collection::vec(any::<u8>(), 1..300).prop_map(Bytes::from);
        let stream = 1..0x7fff_ffff_u32;
        prop_oneof![
            (stream.clone(), any::<bool>(), headers).prop_map(|(stream, fin, headers)| Frame::SynStream {
                stream,
                fin,
                headers
            }),
            (stream.clone(), any::<bool>(), bytes).prop_map(|(stream, fin, bytes)| Frame::Data { stream, fin, bytes }),
            (stream, any::<u32>()).prop_map(|(stream, status)| Frame::RstStream { stream, status }),
            any::<u32>().prop_map(Frame::Ping),
        ]
    }

    /// Pieces of one data frame put together again.
    fn joined(frames: Vec<Frame>) -> Vec<Frame> {
        let mut joined: Vec<(Frame, bool)> = Vec::new();
        for frame in frames {
            match (joined.last_mut(), frame) {
                (
                    Some((Frame::Data { stream, fin, bytes }, _)),
                    Frame::Data {
                        stream: of,
                        fin: last,
                        bytes: more,
                    },
                ) if *stream == of && !*fin => {
                    *bytes = [bytes.as_ref(), &more].concat().into();
                    *fin = last;
                }
                (_, frame) => joined.push((frame, false)),
            }
        }
        joined.into_iter().map(|(frame, _)| frame).collect()
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_in_pieces_of_any_size(frames in proptest::collection::vec(frames(), 1..12), piece in 1..64_usize) {
            let mut encoder = Encoder::new().unwrap();
            let bytes: Vec<u8> = frames.iter().flat_map(|frame| encoder.encode(frame).unwrap()).collect();
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(piece) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(joined(seen), joined(frames));
        }

        #[test]
        fn no_bytes_are_too_much_for_it(bytes in proptest::collection::vec(any::<u8>(), 0..600), version in any::<bool>()) {
            let mut decoder = Decoder::default();
            if version {
                decoder.push(&[0x80, 3]);
            }
            decoder.push(&bytes);
            for _ in 0..bytes.len() + 2 {
                if !matches!(decoder.next_frame(), Ok(Some(_))) {
                    break;
                }
            }
        }
    }

    #[test]
    fn headers_that_grow_without_end_are_refused() {
        let mut encoder = Encoder::new().unwrap();
        let headers = Headers::from([("a".to_owned(), "x".repeat(MAX_HEADERS + 4096))]);
        let frame = Frame::SynStream {
            stream: 1,
            fin: false,
            headers,
        };
        let mut decoder = Decoder::default();
        decoder.push(&encoder.encode(&frame).unwrap());
        assert!(matches!(decoder.next_frame(), Err(FrameError::TooLong)));
    }
}
