//! SPDY frames, arriving in pieces as long as the first byte says: what is read does not depend on where they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use minik_node::kubelet::spdy::frame::{Decoder, Frame};

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    let whole = read(bytes, bytes.len().max(1));
    let pieces = read(bytes, usize::from(*size).max(1));
    assert_eq!(joined(whole), joined(pieces));
});

/// The frames that pieces of `size` bytes hold, up to the first that is none.
fn read(bytes: &[u8], size: usize) -> Vec<Frame> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for piece in bytes.chunks(size) {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_broken) => return frames,
            }
        }
    }
    frames
}

/// The frames as text, with data that came in pieces put together.
fn joined(frames: Vec<Frame>) -> Vec<String> {
    let mut out = Vec::new();
    let mut data: Vec<(u32, Vec<u8>)> = Vec::new();
    for frame in frames {
        match frame {
            Frame::Data { stream, bytes, fin } => {
                match data.last_mut() {
                    Some((last, collected)) if *last == stream => collected.extend_from_slice(&bytes),
                    _ => data.push((stream, bytes.to_vec())),
                }
                if fin {
                    out.push(format!("end of {stream}"));
                }
            }
            other => out.push(format!("{other:?}")),
        }
    }
    out.extend(data.into_iter().map(|(stream, bytes)| format!("{stream}: {bytes:?}")));
    out
}
