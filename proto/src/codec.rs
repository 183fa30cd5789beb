//! Encoding and bounded decoding: the only place that knows the wire format.
//!
//! bincode counts what a decode claims, containers included, before it allocates for it; with a limit, a length
//! prefix of 2^60 is an error and not an allocation.
use alloc::vec::Vec;

use bincode::{Decode, Encode, error::DecodeError};

use crate::{MAX_MESSAGE, MAX_PLAN};

/// Encodes a value. Types of this crate always encode; the `Option` is bincode's out-of-range enum case.
pub fn encode<T: Encode>(value: &T) -> Option<Vec<u8>> {
    bincode::encode_to_vec(value, bincode::config::standard()).ok()
}

/// A value of at most four bytes as a number; 0 for a longer one.
pub fn encode_word<T: Encode>(value: &T) -> u32 {
    let mut word = [0; 4];
    bincode::encode_into_slice(value, &mut word, bincode::config::standard()).map_or(0, |_| u32::from_le_bytes(word))
}

/// The value that a number is.
pub fn decode_word<T: Decode<()>>(word: u32) -> Result<T, DecodeError> {
    bincode::decode_from_slice(&word.to_le_bytes(), bincode::config::standard()).map(|(value, _)| value)
}

/// Decodes a plan under [`MAX_PLAN`].
pub fn decode_plan<T: Decode<()>>(bytes: &[u8]) -> Result<T, &'static str> {
    decode_with(bytes, bincode::config::standard().with_limit::<{ 8 * MAX_PLAN }>(), MAX_PLAN)
}

/// Decodes any other message under [`MAX_MESSAGE`].
pub fn decode_message<T: Decode<()>>(bytes: &[u8]) -> Result<T, &'static str> {
    decode_with(bytes, bincode::config::standard().with_limit::<{ 8 * MAX_MESSAGE }>(), MAX_MESSAGE)
}

fn decode_with<T, C>(bytes: &[u8], config: C, most: usize) -> Result<T, &'static str>
where
    T: Decode<()>,
    C: bincode::config::Config,
{
    if bytes.len() > most {
        return Err("the message is larger than its limit");
    }
    match bincode::decode_from_slice(bytes, config) {
        Ok((value, used)) if used == bytes.len() => Ok(value),
        Ok(_) => Err("the message has bytes after its end"),
        Err(DecodeError::Other(reason)) => Err(reason),
        Err(_) => Err("the message is not well formed"),
    }
}

/// A value that travels between the stages.
pub trait Message: Encode + Decode<()> {}

impl<T: Encode + Decode<()>> Message for T {}
