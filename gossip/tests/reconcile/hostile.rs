//! Whatever the far end sends, the worst is an error.

use gossip::FRAME_BYTES_MAX;
use gossip::reconcile::{Action, Answerer, Asker, Purpose, ReconcileError};

use crate::model::{Distance, Draw, Replica, Talk, talk, writer};
use crate::seeds;

fn pair(draw: &mut Draw) -> (Replica, Replica) {
    let (mut asking, keys) = Replica::with_records(draw, 500);
    let mut answering = asking.clone();
    asking.write(writer(1), &keys[0], 5);
    for key in &keys[10..40] {
        answering.change(key, 6);
    }
    answering.cells.insert(vec![1; 100]);
    (asking, answering)
}

/// Feeds one end with `frames` instead of a peer's; says how it ended.
fn feed(
    asker: Option<Purpose>,
    nonce: [u8; 16],
    cut: &Replica,
    frames: &[Vec<u8>],
) -> Result<bool, ReconcileError> {
    let mut answerer = Answerer::new();
    let mut asker = asker.map(|purpose| Asker::new(purpose, nonce));
    if let Some(asker) = &mut asker {
        asker.begin(cut)?;
    }
    let mut done = false;
    for frame in frames {
        let mut actions = match &mut asker {
            Some(asker) => asker.handle(cut, frame)?,
            None => answerer.handle(cut, frame)?,
        };
        loop {
            done |= actions.iter().any(|action| matches!(action, Action::Done(_)));
            actions = match &mut asker {
                Some(asker) => asker.more(cut)?,
                None => answerer.more(cut)?,
            };
            if actions.is_empty() {
                break;
            }
        }
    }
    Ok(done)
}

fn frames(talk: &Talk, by_asker: bool) -> Vec<Vec<u8>> {
    let sent = talk.frames.iter().filter(|(asker, _)| *asker == by_asker);
    sent.map(|(_, frame)| frame.clone()).collect()
}

const PURPOSES: [Purpose; 3] = [Purpose::Look, Purpose::Repair, Purpose::CatchUp];

#[test]
fn spoilt_conversations_end_in_an_error_or_in_nothing() {
    let mut ended = [0, 0, 0];
    for seed in seeds(2_000) {
        let mut draw = Draw(seed);
        let (asking, answering) = pair(&mut draw);
        let purpose = PURPOSES[draw.below(3) as usize];
        let nonce = draw.nonce();
        let good = talk(purpose, nonce, [&asking, &answering], Distance::Near).unwrap();
        let to_asker = draw.below(2) == 0;
        let mut spoilt = frames(&good, !to_asker);
        let at = draw.below(spoilt.len() as u64) as usize;
        match draw.below(6) {
            0 => spoilt[at].truncate(draw.next() as usize % good.frames.len()),
            1 => spoilt.insert(at, spoilt[at].clone()),
            2 => drop(spoilt.remove(at)),
            3 => spoilt.swap(0, at),
            4 => spoilt[at] = frames(&good, to_asker)[0].clone(),
            _ => {
                for _ in 0..1 + draw.below(4) {
                    let position = draw.below(spoilt[at].len() as u64) as usize;
                    spoilt[at][position] = draw.next() as u8;
                }
            }
        }
        let end = if to_asker {
            feed(Some(purpose), nonce, &asking, &spoilt)
        } else {
            feed(None, nonce, &answering, &spoilt)
        };
        ended[match end {
            Ok(true) => 0,
            Ok(false) => 1,
            Err(_) => 2,
        }] += 1;
    }
    println!(
        "{} came to an end, {} waited, {} errors",
        ended[0], ended[1], ended[2]
    );
    assert!(
        seeds(2).len() == 1 || ended.iter().all(|count| *count > 50),
        "{ended:?}"
    );
}

#[test]
fn symbols_that_never_come_to_anything_are_refused() {
    let mut draw = Draw(1);
    let (asking, answering) = pair(&mut draw);
    let nonce = draw.nonce();
    let good = talk(Purpose::Look, nonce, [&asking, &answering], Distance::Near).unwrap();
    let sent = frames(&good, false);
    // {"symbols": {"s": 4 KiB}}: symbols of no set, which mostly cannot be peeled.
    let junk = |draw: &mut Draw| {
        let mut frame = b"\xa1gsymbols\xa1asY".to_vec();
        let mut symbols = Vec::new();
        for _ in 0..120 {
            (0..4).for_each(|_| symbols.extend_from_slice(&draw.next().to_le_bytes()));
            symbols.extend_from_slice(&[9]);
        }
        frame.extend_from_slice(&(symbols.len() as u16).to_be_bytes());
        frame.extend_from_slice(&symbols);
        frame
    };
    let mut asker = Asker::new(Purpose::Look, nonce);
    asker.begin(&asking).unwrap();
    asker.handle(&asking, &sent[0]).unwrap();
    let mut first = sent[1].clone();
    // Not the symbols of these elements: no key is right any more.
    let spoil = first.len() - 200;
    first[spoil..].iter_mut().for_each(|byte| *byte ^= 1);
    let mut outcome = asker.handle(&asking, &first).map(|_| ());
    let mut taken = 0;
    while outcome.is_ok() {
        taken += 120;
        assert!(taken < 10_000, "it goes on for ever");
        outcome = asker.handle(&asking, &junk(&mut draw)).map(|_| ());
    }
    assert!(matches!(outcome, Err(ReconcileError::Malformed(_))));
}

#[test]
fn frames_of_nothing_are_errors() {
    let mut draw = Draw(2);
    let (asking, answering) = pair(&mut draw);
    for junk in [
        &b""[..],
        b"\xa0",
        b"\xa1erepor\xa0",
        &[0x9f; 4_000],
        &vec![0; FRAME_BYTES_MAX + 1],
    ] {
        assert!(feed(Some(Purpose::Repair), [1; 16], &asking, &[junk.to_vec()]).is_err());
        assert!(feed(None, [1; 16], &answering, &[junk.to_vec()]).is_err());
    }
}

#[test]
fn nothing_is_taken_after_the_end() {
    let mut draw = Draw(3);
    let (asking, answering) = pair(&mut draw);
    let nonce = draw.nonce();
    for purpose in PURPOSES {
        let good = talk(purpose, nonce, [&asking, &answering], Distance::Near).unwrap();
        for to_asker in [true, false] {
            let mut sent = frames(&good, !to_asker);
            sent.extend(sent.last().cloned());
            let cut = if to_asker { &asking } else { &answering };
            let end = feed(to_asker.then_some(purpose), nonce, cut, &sent);
            assert!(end.is_err(), "{purpose:?} {to_asker}");
        }
    }
}
