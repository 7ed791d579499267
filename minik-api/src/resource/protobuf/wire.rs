//! Varints, tags and lengths: reading with the words of gogo-protobuf's generated decoders, and writing.

use prost::encoding::{decode_varint, encode_varint};

/// How deep messages may lie in each other. Kubernetes' own are less than twenty deep.
pub const MOST_DEPTH: usize = 64;

/// The wire types that protobuf still has, and the two of its groups.
pub(super) const VARINT: u8 = 0;
pub(super) const FIXED64: u8 = 1;
pub(super) const LENGTH: u8 = 2;
const GROUP_START: u8 = 3;
const GROUP_END: u8 = 4;
const FIXED32: u8 = 5;

/// What is wrong with a message's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end inside a value.
    #[error("unexpected EOF")]
    UnexpectedEnd,
    /// A varint of more than 64 bits.
    #[error("proto: integer overflow")]
    Overflow,
    /// A length beyond what a length can be.
    #[error("proto: negative length found during unmarshaling")]
    NegativeLength,
    /// A field number of zero, or beyond 32 bits.
    #[error("proto: {message}: illegal tag {number} (wire type {wire_type})")]
    IllegalTag {
        /// The message.
        message: String,
        /// The number.
        number: i32,
        /// The wire type.
        wire_type: u8,
    },
    /// The end of a group that did not begin.
    #[error("proto: {0}: wiretype end group for non-group")]
    GroupEnd(String),
    /// The end of a group that did not begin, inside an unknown field.
    #[error("proto: unexpected end of group")]
    UnexpectedGroupEnd,
    /// A wire type that does not exist.
    #[error("proto: illegal wireType {0}")]
    IllegalWireType(u8),
    /// A known field in the wrong form.
    #[error("proto: wrong wireType = {wire_type} for field {field}")]
    WrongWireType {
        /// The wire type.
        wire_type: u8,
        /// The field's name in Go.
        field: String,
    },
    /// Messages in messages beyond [`MOST_DEPTH`].
    #[error("proto: messages are nested more than {MOST_DEPTH} deep")]
    TooDeep,
    /// A time that has no year of four digits.
    #[error("Time.MarshalJSON: year outside of range [0,9999]")]
    Year,
    /// An IntOrString that is neither.
    #[error("impossible IntOrString.Type")]
    IntOrString,
    /// Raw JSON that is none.
    #[error("json: error calling MarshalJSON for type runtime.RawExtension: {0}")]
    Json(String),
}

/// The rest of a message.
pub(super) struct Reader<'b>(pub(super) &'b [u8]);

/// A field's number and wire type.
#[derive(Clone, Copy)]
pub(super) struct Tag {
    pub(super) number: u32,
    pub(super) wire_type: u8,
}

impl<'b> Reader<'b> {
    pub(super) fn varint(&mut self) -> Result<u64, WireError> {
        // Ten bytes hold 64 bits: what goes on after them is no varint, what ends before them is cut off.
        let cut_off = self.0.len() < 10 && self.0.iter().all(|byte| byte & 0x80 != 0);
        decode_varint(&mut self.0).map_err(|_no_varint| {
            if cut_off {
                WireError::UnexpectedEnd
            } else {
                WireError::Overflow
            }
        })
    }

    pub(super) fn take(&mut self, length: usize) -> Result<&'b [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::UnexpectedEnd)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn bytes(&mut self) -> Result<&'b [u8], WireError> {
        let length = self.varint()?;
        if length > i64::MAX as u64 {
            return Err(WireError::NegativeLength);
        }
        self.take(usize::try_from(length).map_err(|_too_long| WireError::NegativeLength)?)
    }

    /// The next field's tag; none at the end of the message called `message`.
    pub(super) fn tag(&mut self, message: &str) -> Result<Option<Tag>, WireError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let wire_type = (tag & 7) as u8;
        // Go keeps the number's low 32 bits.
        #[expect(clippy::cast_possible_truncation, reason = "as the generated decoders do")]
        let number = (tag >> 3) as i32;
        if wire_type == GROUP_END {
            return Err(WireError::GroupEnd(message.to_owned()));
        }
        match u32::try_from(number) {
            Ok(number) if number > 0 => Ok(Some(Tag { number, wire_type })),
            _ => Err(WireError::IllegalTag {
                message: message.to_owned(),
                number,
                wire_type,
            }),
        }
    }

    /// Goes past the value of an unknown field.
    pub(super) fn skip(&mut self, wire_type: u8) -> Result<(), WireError> {
        let mut groups = 0_usize;
        let mut wire_type = wire_type;
        loop {
            match wire_type {
                VARINT => {
                    self.varint()?;
                }
                FIXED64 => {
                    self.take(8)?;
                }
                LENGTH => {
                    self.bytes()?;
                }
                GROUP_START => groups += 1,
                GROUP_END => groups = groups.checked_sub(1).ok_or(WireError::UnexpectedGroupEnd)?,
                FIXED32 => {
                    self.take(4)?;
                }
                other => return Err(WireError::IllegalWireType(other)),
            }
            if groups == 0 {
                return Ok(());
            }
            wire_type = (self.varint()? & 7) as u8;
        }
    }
}

/// Appends a tag.
pub(super) fn put_tag(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    encode_varint(u64::from(number) << 3 | u64::from(wire_type), out);
}

/// Appends a number.
pub(super) fn put_varint(out: &mut Vec<u8>, value: u64) {
    encode_varint(value, out);
}

/// Appends a tag and bytes with their length.
pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_tag(out, number, LENGTH);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a tag and what `write` appends, with its length before it.
pub(super) fn put_nested<E>(
    out: &mut Vec<u8>,
    number: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    put_tag(out, number, LENGTH);
    let start = out.len();
    write(out)?;
    let mut length = Vec::with_capacity(10);
    put_varint(&mut length, (out.len() - start) as u64);
    out.splice(start..start, length);
    Ok(())
}
