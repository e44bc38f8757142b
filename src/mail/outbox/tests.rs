use std::{os::unix::fs::PermissionsExt, time::UNIX_EPOCH};

use super::*;

fn entry(to: &str) -> Entry {
    Entry {
        posted: UNIX_EPOCH + Duration::from_secs(1_795_000_000),
        from: "no-reply@persona.example".to_owned(),
        to: to.to_owned(),
        message: Zeroizing::new(b"Subject: hello\r\n\r\nworld\r\n".to_vec()),
    }
}

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            directory: tempfile::tempdir().expect("a directory"),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("outbox")
    }

    fn open(&self) -> (Outbox, Vec<Found>) {
        let (outbox, found) = Outbox::open(&self.path(), Room::default()).expect("an outbox");
        assert!(found.kept_back.is_empty());
        (outbox, found.mails)
    }

    fn aside(&self) -> usize {
        fs::read_dir(self.path().join(ASIDE))
            .expect("a directory")
            .count()
    }

    /// An outbox with one good mail, and this beside it.
    #[track_caller]
    fn check(name: &str, bytes: &[u8], aside: usize, left: bool) {
        let place = Place::new();
        let (outbox, _) = place.open();
        outbox
            .keep(MailId::of(1), &entry("ada@example.org"))
            .expect("kept");
        drop(outbox);
        fs::write(place.path().join(name), bytes).expect("written");

        let (outbox, found) = place.open();
        assert_eq!(found.len(), 1, "{name}");
        assert_eq!(found[0].id, MailId::of(1));
        assert_eq!(outbox.read(MailId::of(1)), Ok(entry("ada@example.org")));
        assert_eq!(place.aside(), aside, "{name}");
        assert_eq!(place.path().join(name).exists(), left, "{name}");
    }
}

#[test]
fn a_mail_is_found_again_until_it_is_erased() {
    let place = Place::new();
    let (outbox, found) = place.open();
    assert!(found.is_empty());
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&place.path()), 0o700);
    outbox
        .keep(MailId::of(1), &entry("ada@example.org"))
        .expect("kept");
    outbox
        .keep(MailId::of(2), &entry("bob@example.org"))
        .expect("kept");
    assert_eq!(mode(&outbox.mail(MailId::of(1))), 0o600);
    drop(outbox);

    let (outbox, mut found) = place.open();
    found.sort_by_key(|found| found.id);
    let posted = entry("").posted;
    let expected = [1, 2].map(|number| Found {
        id: MailId::of(number),
        posted,
    });
    assert_eq!(found, expected);
    outbox.erase(MailId::of(1)).expect("erased");
    outbox.erase(MailId::of(1)).expect("erased already");
    drop(outbox);
    assert_eq!(place.open().1, expected[1..]);
}

#[test]
fn what_is_kept_back_is_no_mail_before_the_word_comes() {
    let place = Place::new();
    let (outbox, _) = place.open();
    let matter = |number: u8| Matter([number; 32]);
    for number in [1, 2, 3] {
        let kept = outbox.keep_back(MailId::of(number), matter(number), &entry("ada@example.org"));
        kept.expect("kept");
    }
    assert_eq!(*outbox.count().borrow(), 3);
    assert_eq!(
        outbox.read(MailId::of(1)),
        Err(Damage::Unreadable(io::ErrorKind::NotFound))
    );
    outbox.release(MailId::of(1), matter(1)).expect("released");
    assert_eq!(outbox.read(MailId::of(1)), Ok(entry("ada@example.org")));
    outbox.withdraw(MailId::of(2), matter(2)).expect("withdrawn");
    assert!(
        outbox.release(MailId::of(2), matter(2)).is_err(),
        "it is gone from disk"
    );
    // Nor is it swept away while it waits.
    let day = Duration::from_secs(86_400);
    assert_eq!(outbox.sweep(SystemTime::now() + 2 * day, day).expect("swept"), 0);
    drop(outbox);

    let (outbox, found) = Outbox::open(&place.path(), Room::default()).expect("an outbox");
    let found_again = |number| Found {
        id: MailId::of(number),
        posted: entry("").posted,
    };
    assert_eq!(found.mails, [found_again(1)]);
    assert_eq!(found.kept_back, [(found_again(3), matter(3))]);
    assert_eq!(*outbox.count().borrow(), 2);
}

#[test]
fn what_is_no_mail_is_set_aside_and_holds_up_nothing() {
    let good = entry("bob@example.org").encode().expect("short");
    let mut flipped = good.to_vec();
    flipped[40] ^= 4;
    let mut newer = good.to_vec();
    newer[7] = b'2';
    let mail = file_name(MailId::of(2));
    Place::check(&mail, b"", 1, false);
    Place::check(&mail, &good[..good.len() / 2], 1, false);
    Place::check(&mail, &vec![0; good.len()], 1, false);
    Place::check(&mail, &flipped, 1, false);
    Place::check(&mail, &vec![b'x'; 2 * FILE_BYTES_MAX], 1, false);
    Place::check("notes.txt", b"by an operator", 1, false);
    Place::check("0202.mail", &good, 1, false);
    Place::check(&format!("{}.0202.kept-back", MailId::of(2)), &good, 1, false);
    Place::check(&mail, &newer, 0, true);
    // A crash came before the answer.
    Place::check(&format!("{}.unfinished", MailId::of(2)), &good[..9], 0, false);
}

#[test]
fn damage_is_also_seen_by_who_comes_to_send() {
    let place = Place::new();
    let (outbox, _) = place.open();
    let id = MailId::of(1);
    outbox.keep(id, &entry("ada@example.org")).expect("kept");
    let mut bytes = fs::read(outbox.mail(id)).expect("read");
    bytes[50] ^= 1;
    fs::write(outbox.mail(id), bytes).expect("written");
    assert_eq!(outbox.read(id), Err(Damage::Sum));
    outbox.set_aside(id).expect("set aside");
    assert_eq!(outbox.read(id), Err(Damage::Unreadable(io::ErrorKind::NotFound)));
    assert_eq!(place.aside(), 1);

    // A day later it is nobody's any more.
    let day = Duration::from_secs(86_400);
    outbox
        .keep(MailId::of(2), &entry("bob@example.org"))
        .expect("kept");
    assert_eq!(outbox.sweep(SystemTime::now(), day).expect("swept"), 0);
    assert_eq!(outbox.sweep(SystemTime::now() + 2 * day, day).expect("swept"), 1);
    assert_eq!(place.aside(), 0);
    assert!(outbox.read(MailId::of(2)).is_ok());
}

#[test]
fn one_process_has_it() {
    let place = Place::new();
    let (outbox, _) = place.open();
    assert!(matches!(
        Outbox::open(&place.path(), Room::default()),
        Err(OutboxError::InUse { .. })
    ));
    drop(outbox);
    place.open();
}

#[test]
fn its_room_ends_and_comes_back() {
    let place = Place::new();
    let size = entry("ada@example.org").encode().expect("short").len() as u64;
    let open = |mails_max, bytes_max| {
        let room = Room { mails_max, bytes_max };
        Outbox::open(&place.path(), room).expect("an outbox").0
    };
    let outbox = open(2, 100 * size);
    let keep = |outbox: &Outbox, number| outbox.keep(MailId::of(number), &entry("ada@example.org"));
    keep(&outbox, 1).expect("kept");
    keep(&outbox, 2).expect("kept");
    assert!(matches!(keep(&outbox, 3), Err(KeepError::Full)));
    outbox.erase(MailId::of(1)).expect("erased");
    keep(&outbox, 3).expect("kept");
    drop(outbox);

    // What waited counts after a restart.
    let outbox = open(100, 2 * size);
    assert!(matches!(keep(&outbox, 4), Err(KeepError::Full)));
    outbox.set_aside(MailId::of(2)).expect("set aside");
    keep(&outbox, 4).expect("kept");
}

#[test]
fn a_disk_that_says_no_leaves_nothing_and_takes_no_room() {
    let place = Place::new();
    let room = Room {
        mails_max: 1,
        bytes_max: 1 << 20,
    };
    let (outbox, _) = Outbox::open(&place.path(), room).expect("an outbox");
    // Whoever runs this may be root, whom no mode stops: the name is taken by a directory.
    let id = MailId::of(1);
    fs::create_dir_all(outbox.mail(id).join("in the way")).expect("made");
    let refused = outbox.keep(id, &entry("ada@example.org"));
    assert!(matches!(refused, Err(KeepError::Disk(_))), "{refused:?}");
    fs::remove_dir_all(outbox.mail(id)).expect("removed");
    let left = fs::read_dir(place.path()).expect("read").count();
    assert_eq!(left, 2, "lock and aside");
    outbox.keep(id, &entry("ada@example.org")).expect("kept");
}
