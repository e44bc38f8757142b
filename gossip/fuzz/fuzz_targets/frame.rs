//! Frames from a peer: any bytes, cut anywhere. A message that decodes comes back from its own bytes.
//! `RUSTC_BOOTSTRAP=1 cargo fuzz run frame` in `gossip/`.
#![no_main]

use gossip::{FrameDecoder, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut decoder = FrameDecoder::new();
    let (first, second) = data.split_at(data.len() / 2);
    for piece in [first, second] {
        decoder.push(piece);
        while let Ok(Some(message)) = decoder.next_message() {
            check(&message);
        }
    }
    // Without a length in the way, so that the payload is reached at once.
    if let Ok(message) = Message::decode(data) {
        check(&message);
    }
});

fn check(message: &Message) {
    assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(message));
}
